//! Takes what an agent or a person thinks of a selected tool. One giver has one say on a tool of a selection: a later one
//! takes the place of the earlier, which leaves nothing behind. No selection of another team is ever told to be there.

use std::collections::{HashMap, HashSet};

use ::store::Database;
use catalog::Catalog;
use chrono::{DateTime, Utc};
use types::{Caller, Category, Role};
use uuid::Uuid;

use super::{
    counts::Counts,
    kind::kind,
    memory::{Changes, Learned},
    write::RecordKey,
};
use crate::{
    Error,
    store::{self, Connection, FeedbackRow, SelectionBrief, SentRow},
};

/// Longest comment, in bytes.
const MAX_COMMENT: usize = 4_096;

/// What is said.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Said {
    pub selection_id: Uuid,
    /// Empty: the tool that was called, or the primary one.
    pub tool_name: String,
    pub quality: Option<f64>,
    pub comment: String,
    pub followed: Option<bool>,
    /// Empty: each request is feedback of its own.
    pub request_id: String,
}

impl Said {
    /// Refuses what says nothing, or what nobody could have meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.quality.is_some_and(|quality| !(0.0..=1.0).contains(&quality)) {
            return Err(Error::invalid("quality", "must be 0 (of no use) to 1 (just right)"));
        }
        if self.comment.len() > MAX_COMMENT {
            let description = format!("has {} bytes; at most {MAX_COMMENT}", self.comment.len());
            return Err(Error::invalid("comment", description));
        }
        if self.quality.is_none() && self.comment.trim().is_empty() && self.followed.is_none() {
            let description = "is not set, and neither is comment nor followed; say at least one of them";
            return Err(Error::invalid("quality", description));
        }
        Ok(())
    }
}

/// Keeps the feedback, and gives its id and whether it took the place of an earlier one.
pub(crate) async fn give(
    (database, learned, catalog): (&Database, &Learned, &Catalog),
    caller: &Caller,
    said: Said,
) -> Result<(Uuid, bool), Error> {
    said.check()?;
    let mut transaction = database.pool()?.begin().await.map_err(store_error)?;
    let now = store::teams_lock(&mut transaction, std::slice::from_ref(&caller.team)).await?;
    let selection = visible(&mut transaction, caller, said.selection_id).await?;
    let row = row(caller, &said, tool(&said, &selection)?, now);
    let sent = sent(&said);
    if let Some(known) = repeated(&mut transaction, &row, &sent).await? {
        return Ok((known, false));
    }
    let earlier = store::feedback_earlier(&mut transaction, &row).await?;
    let category = kind(Some(&selection.category), catalog, &row.team_id, &row.tool_name);
    let id = earlier.as_ref().map_or(row.id, |earlier| earlier.id);
    let row = FeedbackRow { id, category: category.as_str().to_owned(), ..row };
    store::feedback_put(&mut transaction, &row, &sent).await?;
    if row.followed == Some(true) {
        store::selection_follow(&mut transaction, &row.team_id, row.selection_id, &row.tool_name).await?;
    }
    let changes = rate(&mut transaction, &row, earlier.as_ref(), category).await?;
    transaction.commit().await.map_err(store_error)?;
    learned.put(changes);
    Ok((row.id, earlier.is_some()))
}

fn store_error(error: impl Into<::store::Error>) -> Error {
    Error::Store(error.into())
}

/// The selection, if the caller may speak of it: its own, or as an operator any of the team.
async fn visible(connection: &mut Connection, caller: &Caller, id: Uuid) -> Result<SelectionBrief, Error> {
    let found = store::selection_brief(connection, &caller.team, id).await?;
    let may =
        |selection: &SelectionBrief| caller.role >= Role::Operator || selection.agent_id == caller.agent;
    found.filter(may).ok_or(Error::NoSuchSelection(id))
}

/// The tool that is spoken of.
fn tool(said: &Said, selection: &SelectionBrief) -> Result<String, Error> {
    let known = || selection.followed_tool.iter().chain(&selection.offered);
    if said.tool_name.is_empty() {
        let none = || {
            Error::invalid("tool_name", "is not set, and the selection offered no tool; name the one used")
        };
        return known().next().cloned().ok_or_else(none);
    }
    if known().any(|name| *name == said.tool_name) {
        return Ok(said.tool_name.clone());
    }
    let offered = selection.offered.join(", ");
    let description = format!("{:?} is no tool of this selection; it offered: {offered}", said.tool_name);
    Err(Error::invalid("tool_name", description))
}

fn row(caller: &Caller, said: &Said, tool_name: String, now: DateTime<Utc>) -> FeedbackRow {
    FeedbackRow {
        team_id: caller.team.clone(),
        id: types::new_id(),
        selection_id: said.selection_id,
        tool_name,
        agent_id: caller.agent.clone(),
        by_person: !caller.user.is_empty() || caller.role >= Role::Operator,
        request_id: said.request_id.clone(),
        quality: said.quality,
        followed: said.followed,
        comment: redact::text(&said.comment),
        user_id: caller.user.clone(),
        update_time: now,
        category: String::new(),
    }
}

fn sent(said: &Said) -> SentRow {
    SentRow {
        id: said.request_id.clone(),
        tool_name: said.tool_name.clone(),
        quality: said.quality,
        followed: said.followed,
    }
}

/// The feedback that this request gave before; other feedback under its id is refused. What was sent counts: a tool that
/// was left to be found may be another by now, and of the words only those that came last are kept.
async fn repeated(
    connection: &mut Connection,
    row: &FeedbackRow,
    sent: &SentRow,
) -> Result<Option<Uuid>, Error> {
    let found = store::feedback_of_request(connection, &row.team_id, &row.agent_id, &sent.id).await?;
    let Some((known, before)) = found else { return Ok(None) };
    let names_it = sent.tool_name == before.tool_name || sent.tool_name == known.tool_name;
    let says_it = (sent.quality, sent.followed) == (before.quality, before.followed);
    let words = |row: &FeedbackRow| (row.comment.clone(), row.user_id.clone());
    let is_last = known.request_id == sent.id;
    let is_same = (row.selection_id, row.by_person) == (known.selection_id, known.by_person)
        && names_it
        && says_it
        && (!is_last || words(row) == words(&known));
    if is_same { Ok(Some(known.id)) } else { Err(Error::RequestIdReused(sent.id.clone())) }
}

/// Puts the quality into the giver's record of the tool, and takes out what it said before: where it is, though the tool
/// may count as another kind of work by now.
async fn rate(
    connection: &mut Connection,
    row: &FeedbackRow,
    earlier: Option<&FeedbackRow>,
    category: Category,
) -> Result<Changes, Error> {
    let key = |category| (row.team_id.clone(), row.tool_name.clone(), row.agent_id.clone(), category);
    let was_in = earlier.filter(|earlier| !earlier.category.is_empty());
    let was_in = was_in.map_or(category, |earlier| store::category(&earlier.category));
    let before = earlier.map(|earlier| (earlier.quality, earlier.update_time));
    let mut records: HashMap<RecordKey, Counts> = HashMap::new();
    let keys = [key(category), key(was_in)];
    for found in store::records_get(connection, HashSet::from(keys).iter()).await? {
        records.insert(key(found.category), found.counts);
    }
    if was_in == category {
        records.entry(key(category)).or_default().rate(row.quality, before, row.update_time);
    } else {
        let old = records.entry(key(was_in)).or_default();
        old.rate(None, before, row.update_time);
        old.feedbacks = (old.feedbacks - 1).max(0);
        records.entry(key(category)).or_default().rate(row.quality, None, row.update_time);
    }
    let records = store::records_put(connection, &Vec::from_iter(records)).await?;
    Ok(Changes { records, ..Changes::default() })
}
