//! Gives tools in the form of a model API: those that the caller may call, and no others. Without a decision of the
//! permissions service nothing is given.

mod flatten;
mod form;
mod name;
mod permit;

use std::collections::{BTreeSet, HashMap};

use ::rpc::{Call, PageKey};
use ::store::Database;

use crate::{
    Error,
    definition::Definition,
    store::{self, Filter, Narrow, ToolRow, ToolStatus},
};
pub(crate) use form::Form;
pub(crate) use permit::Permissions;

/// Most names of one request.
pub(crate) const MAX_NAMES: usize = 1_000;
/// Tools that are looked at in one go.
const AT_ONCE: i64 = 500;
/// Most goes for one page: who may call few of many tools gets a short page, and the token of the next.
const MAX_GOES: usize = 20;
/// Most bytes of one page: a client takes 4 MiB in all.
const MAX_BYTES: usize = 3 * 1024 * 1024;

/// What is to be exported.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    pub form: Form,
    /// None: every tool that fits the filter.
    pub names: BTreeSet<String>,
    pub filter: Filter,
}

/// One exported tool.
#[derive(Debug)]
#[allow(clippy::struct_field_names, reason = "the names of the contract")]
pub(crate) struct Exported {
    /// In its form, as JSON text.
    pub json: String,
    /// Its name in the form.
    pub exported_name: String,
    pub name: String,
    pub version: String,
    pub digest: String,
}

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub tools: Vec<Exported>,
    /// Names, each with the reason why it is not there.
    pub skipped: Vec<(String, String)>,
    /// Token of the next page; empty at the end.
    pub next: String,
}

/// One page of tools, in order of name.
pub(crate) async fn export(
    database: &Database,
    pages: &PageKey,
    permissions: &Permissions,
    call: &Call,
    export: Export,
    page: (i32, &str),
) -> Result<Page, Error> {
    let team = &call.caller.team;
    let mut asked = pages.page(page.0, page.1, format!("export|{team}|{export:?}"))?;
    let most = usize::try_from(asked.size).unwrap_or(usize::MAX);
    let mut filling = Filling { export, page: Page::default(), bytes: 0, most };
    let mut after = asked.cursor.clone().unwrap_or_default();
    for _ in 0..MAX_GOES {
        let (rows, is_end) = candidates(database, team, &filling.export, &after).await?;
        let refusals = permissions.permit(call, &rows).await?;
        let before = after.clone();
        // Bringing hundreds of large schemas into their form takes a while.
        let (filled, rows, last) =
            tokio::task::spawn_blocking(move || filling.fill(rows, refusals)).await??;
        filling = filled;
        let is_whole = last == rows.last().map(|row| row.name.clone());
        let is_done = is_end && is_whole;
        after = last.unwrap_or(after);
        filling.miss(&before, (!is_done).then_some(after.as_str()), &rows);
        if is_done {
            return Ok(filling.page);
        }
        if !is_whole || filling.page.tools.len() == most {
            break;
        }
    }
    // One row too many, and the token of the one before.
    asked.size = 1;
    filling.page.next = pages.next(&asked, &mut vec![(), ()], |()| after.clone());
    Ok(filling.page)
}

/// The next tools in order of name, and whether they are the last. Named tools are looked at whatever their status is.
async fn candidates(
    database: &Database,
    team: &str,
    export: &Export,
    after: &str,
) -> Result<(Vec<ToolRow>, bool), Error> {
    let pool = database.pool()?;
    let names: Vec<String> = export.names.iter().cloned().collect();
    let names = (!names.is_empty()).then_some(names.as_slice());
    let narrow = Narrow { filter: &export.filter, part: None, names, callable: names.is_none() };
    let found = store::tool_names_page(pool, team, narrow, after, AT_ONCE).await?;
    let fitting = found.iter().take_while(|found| found.fits).count().max(1).min(found.len());
    let is_end = fitting == found.len() && i64::try_from(found.len()).is_ok_and(|count| count < AT_ONCE);
    let names: Vec<String> = found.into_iter().take(fitting).map(|found| found.name).collect();
    let rows = store::tool_rows(pool, team, &names).await?;
    let mut rows: HashMap<String, ToolRow> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
    Ok((names.iter().filter_map(|name| rows.remove(name)).collect(), is_end))
}

/// A page that is being filled.
struct Filling {
    export: Export,
    page: Page,
    bytes: usize,
    most: usize,
}

impl Filling {
    /// Takes tools as long as there is room; the last name is that of the last one taken.
    fn fill(
        mut self,
        rows: Vec<ToolRow>,
        refusals: Vec<Option<String>>,
    ) -> Result<(Self, Vec<ToolRow>, Option<String>), Error> {
        let mut last = None;
        for (row, refusal) in rows.iter().zip(refusals) {
            if !self.take(row, refusal)? {
                break;
            }
            last = Some(row.name.clone());
        }
        Ok((self, rows, last))
    }

    /// Takes a tool, or notes why not; false where the page is full and the tool one of the next.
    fn take(&mut self, row: &ToolRow, refusal: Option<String>) -> Result<bool, Error> {
        if self.page.tools.len() == self.most {
            return Ok(false);
        }
        let unusable = match row.status.parse() {
            Ok(ToolStatus::Active | ToolStatus::Deprecated) => None,
            Ok(ToolStatus::Quarantined) => Some("nobody has approved its definition yet".to_owned()),
            Ok(ToolStatus::Disabled) | Err(_) => Some("it is disabled".to_owned()),
        };
        let refusal = refusal.map(|reason| format!("you may not call it: {reason}"));
        // Whoever did not ask for it by name is not told of tools that are not theirs.
        if let Some(reason) = unusable.or(refusal) {
            if !self.export.names.is_empty() {
                self.page.skipped.push((row.name.clone(), reason));
            }
            return Ok(true);
        }
        let definition = row.definition()?;
        match self.export.form.tool(&definition) {
            Ok(json) => Ok(self.add(row, definition, json.to_string())),
            Err(reason) => {
                self.page.skipped.push((row.name.clone(), reason));
                Ok(true)
            }
        }
    }

    fn add(&mut self, row: &ToolRow, definition: Definition, json: String) -> bool {
        let bytes = json.len() + 512;
        if self.bytes + bytes > MAX_BYTES && !self.page.tools.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.page.tools.push(Exported {
            json,
            exported_name: self.export.form.name(&row.name),
            name: row.name.clone(),
            version: definition.version,
            digest: row.digest.clone(),
        });
        true
    }

    /// Notes the names of no tool, behind one place and up to another.
    fn miss(&mut self, after: &str, last: Option<&str>, rows: &[ToolRow]) {
        let known: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let names = self.export.names.iter().map(String::as_str);
        let missing = names
            .filter(|name| *name > after && last.is_none_or(|last| *name <= last))
            .filter(|name| !known.contains(name));
        self.page.skipped.extend(missing.map(|name| (name.to_owned(), "there is no such tool".to_owned())));
    }
}
