//! Decides what becomes of each imported tool, beside what the catalog holds. Writes nothing.

use std::collections::{BTreeSet, HashMap};

use super::{Checked, Imported, Outcome, note};
use crate::{
    Error,
    change::{self, Kind},
    check_settings::Found,
    definition::{Definition, Digests},
    fit, register,
    store::{self, KnownTool, NewVersion, PastVersion, SettingsRow, Write},
};

/// What is to be written, and what is told.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub versions: Vec<NewVersion>,
    pub imported: Vec<Imported>,
}

/// What the catalog holds of the tools to import.
#[derive(PartialEq)]
pub(super) struct Catalog {
    known: HashMap<String, KnownTool>,
    /// Of those that this import would change, with the definition that stands.
    settings: HashMap<String, SettingsRow>,
    /// Every version of those.
    past: Vec<PastVersion>,
    /// Servers that are registered.
    servers: BTreeSet<String>,
}

/// Reads what the decision needs.
pub(super) async fn read(write: &mut Write, team: &str, checked: &[Checked]) -> Result<Catalog, Error> {
    let contents: HashMap<&str, &str> = checked
        .iter()
        .filter_map(|each| Some((each.name.as_str(), each.tool.as_ref().ok()?.1.content.as_str())))
        .collect();
    let names: Vec<String> = contents.keys().map(ToString::to_string).collect();
    // No server has an empty name: only the tools with these names are asked for.
    let known = store::tools_known(write, team, &names, "").await?;
    let mut servers = BTreeSet::new();
    for server in known.iter().filter_map(|tool| tool.server_name.as_ref()).collect::<BTreeSet<_>>() {
        if store::server_exists(write, team, server).await? {
            servers.insert(server.clone());
        }
    }
    let changed: Vec<String> = known
        .iter()
        .filter(|tool| contents.get(tool.name.as_str()) != Some(&tool.content_digest.as_str()))
        .map(|tool| tool.name.clone())
        .collect();
    let settings = store::settings_list(write, team, &changed).await?;
    let past = store::versions_past(write, team, &changed).await?;
    Ok(Catalog {
        known: known.into_iter().map(|tool| (tool.name.clone(), tool)).collect(),
        settings: settings.into_iter().map(|row| (row.name.clone(), row)).collect(),
        past,
        servers,
    })
}

/// Decides on every candidate.
pub(super) fn decide(catalog: &Catalog, checked: &[Checked]) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    for Checked { name, source, notes, tool } in checked {
        let mut imported = Imported {
            name: name.clone(),
            source: source.clone(),
            outcome: Outcome::Refused,
            version: String::new(),
            note: note(notes),
            changes: vec![],
        };
        let decided = match tool {
            Ok(tool) => decide_one(catalog, tool)?,
            Err(reason) => Decided::Refused(reason.clone()),
        };
        match decided {
            Decided::Refused(reason) => imported.note = note(&[reason]),
            Decided::Unchanged(version) => {
                imported.outcome = Outcome::Unchanged;
                imported.version = version;
            }
            Decided::New { definition, digests, changes } => {
                plan.versions.push(NewVersion::new(&definition, digests)?);
                imported.outcome = if changes.is_some() { Outcome::Updated } else { Outcome::Created };
                imported.version = definition.version;
                imported.changes = changes.unwrap_or_default();
            }
        }
        plan.imported.push(imported);
    }
    Ok(plan)
}

/// What is done with a tool that is right in itself.
enum Decided {
    Refused(String),
    /// The version that is there.
    Unchanged(String),
    New {
        definition: Box<Definition>,
        digests: Digests,
        /// `None`: there was none of this name.
        changes: Option<Vec<change::Change>>,
    },
}

fn decide_one(catalog: &Catalog, (definition, digests): &(Definition, Digests)) -> Result<Decided, Error> {
    let new = |version: String, changes| Decided::New {
        definition: Box::new(Definition { version, ..definition.clone() }),
        digests: digests.clone(),
        changes,
    };
    let Some(known) = catalog.known.get(&definition.name) else {
        return Ok(new(register::first(), None));
    };
    if let Some(owner) = owner(catalog, known, definition) {
        return Ok(Decided::Refused(owner));
    }
    if known.content_digest == digests.content {
        return Ok(Decided::Unchanged(known.version.clone()));
    }
    let current = catalog.settings.get(&definition.name);
    if let Some(misfits) = misfits(current, definition)? {
        return Ok(Decided::Refused(misfits));
    }
    let changes = match current {
        Some(current) => change::compare(&serde_json::from_str(&current.definition)?, definition)?,
        None => vec![],
    };
    let past = catalog.past.iter().filter(|past| past.name == definition.name);
    let highest = register::highest(&known.version, past.map(|past| past.version.as_str()));
    let kind = change::greatest(&changes).unwrap_or(Kind::Patch);
    Ok(new(change::next_version(&known.version, &highest, kind), Some(changes)))
}

/// Why a tool of this name cannot be changed by this import: it belongs to somebody else.
fn owner(catalog: &Catalog, known: &KnownTool, definition: &Definition) -> Option<String> {
    let (name, own) = (&definition.name, &definition.provider);
    let remedy = format!("and this import provides it as {own}: import under another provider");
    if let Some(server) = known.server_name.as_ref().filter(|server| catalog.servers.contains(*server)) {
        return Some(format!("tool {name} is kept by MCP server {server}, {remedy}"));
    }
    (known.provider != *own).then(|| format!("tool {name} is provided by {}, {remedy}", known.provider))
}

/// Which settings that operators gave the tool do not go with its new definition.
fn misfits(current: Option<&SettingsRow>, definition: &Definition) -> Result<Option<String>, Error> {
    let Some(current) = current else { return Ok(None) };
    let mut found = Found::default();
    fit::check(&current.settings(), definition, &mut found)?;
    let told: Vec<String> =
        found.below("settings.").into_iter().map(|v| format!("{} {}", v.field, v.description)).collect();
    let remedy = "the tool has these settings: change them first";
    Ok((!told.is_empty()).then(|| format!("{}; {remedy}", told.join("; "))))
}
