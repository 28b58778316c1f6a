//! What the trail is told of changes of tools, servers and credentials: events are written in the transaction of what
//! they tell of, all of one in one statement, and sent to the audit service afterwards, at least once. The one way
//! there. Must never carry a secret, nor the text of a schema.

use ::rpc::{EVENTS_AT_ONCE, Link, Outgoing, append_events, event};
use ::store::{Database, Error, Outbox, outbox_insert};
use prost::Message;
use proto::audit::v1::{Action, Result as Outcome};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use types::Caller;

use crate::{
    change::{self, Change, Kind},
    normalise::clean,
    settings::Settings,
    store,
};

pub(crate) use proto::audit::v1::Event;

/// The outbox, and the destination in it.
const SCHEMA: &str = "registry";
const AUDIT: &str = "audit";
/// Why a credential failed, in an event.
const UNAVAILABLE: &str = "CREDENTIAL_UNAVAILABLE";
/// Most changes of a definition that are told, and most characters of each.
const MAX_CHANGES: usize = 3;
const MAX_CHANGE: usize = 150;
/// Most characters of what else others wrote: names of fallbacks, notes, errors.
const MAX_WORDS: usize = 300;

/// A tool in one version, as an event names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// The published digest of its definition.
    pub digest: &'a str,
}

/// The suite itself, where nobody asked: a server changed, or a time has come.
pub(crate) fn own(team: &str) -> Caller {
    Caller { team: team.to_owned(), ..Caller::service("registry") }
}

/// A tool, or a server of tools, is another one now.
pub(crate) fn changed(caller: &Caller, message: impl Into<String>) -> Event {
    event(Action::DefinitionChanged, caller, message)
}

/// This version of a tool was changed so.
pub(crate) fn tool(caller: &Caller, version: Named<'_>, message: impl Into<String>) -> Event {
    Event {
        tool_name: version.name.to_owned(),
        tool_version: version.version.to_owned(),
        tool_digest: version.digest.to_owned(),
        ..changed(caller, message)
    }
}

/// Something was done with a credential.
pub(crate) fn credential(caller: &Caller, name: &str, message: &str) -> Event {
    event(Action::CredentialRotated, caller, format!("credential {name}: {}", clean(message, MAX_WORDS)))
}

/// A credential could not be rotated, or a version of it does not work.
pub(crate) fn credential_failed(caller: &Caller, name: &str, why: &str) -> Event {
    let (result, reason) = (Outcome::Failure.into(), UNAVAILABLE.to_owned());
    Event { result, reason, ..credential(caller, name, why) }
}

/// How a definition differs from the one before, to be put behind what became of it: the kind, and the greatest
/// changes. Says what and where, and never what stands there.
pub(crate) fn difference(changes: &[Change]) -> String {
    let Some(kind) = change::greatest(changes) else { return String::new() };
    let word = match kind {
        Kind::Breaking => "major",
        Kind::Addition => "minor",
        Kind::Patch => "patch",
    };
    let greatest = || changes.iter().filter(|change| change.kind == kind);
    let told = greatest()
        .take(MAX_CHANGES)
        .map(|change| clean(&format!("{} ({})", change.description, change.path), MAX_CHANGE));
    let told = told.collect::<Vec<_>>().join("; ");
    match changes.len().saturating_sub(greatest().take(MAX_CHANGES).count()) {
        0 => format!(", a {word} change: {told}"),
        more => format!(", a {word} change: {told}; and {more} more"),
    }
}

/// Which settings of a tool are others now, by name; of fallbacks, which tools they are.
pub(crate) fn settings(before: &Settings, after: &Settings) -> String {
    let fields = |settings| match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (fields(before), fields(after));
    let differs = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    let told = differs.map(|(name, _)| match name.as_str() {
        "fallbacks" if after.fallbacks.is_empty() => "fallbacks (none)".to_owned(),
        "fallbacks" => {
            let tools: Vec<&str> = after.fallbacks.iter().map(|fallback| fallback.tool.as_str()).collect();
            format!("fallbacks ({})", tools.join(", "))
        }
        other => other.to_owned(),
    });
    clean(&told.collect::<Vec<_>>().join(", "), MAX_WORDS)
}

/// Why somebody decided so, to be put behind it.
pub(crate) fn note(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(": {}", clean(note, MAX_WORDS)) }
}

/// Writes events in the transaction of what they tell of: they are in the trail a second or two after the commit, and
/// nowhere without it.
pub(crate) async fn record(connection: &mut store::Connection, events: &[Event]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let payloads: Vec<Vec<u8>> = events.iter().map(Message::encode_to_vec).collect();
    outbox_insert(connection, SCHEMA, AUDIT, &payloads).await
}

/// Sends what is written until told to stop. Any process finds what any other wrote.
pub(crate) async fn relay(database: Database, audit: Link, outgoing: Outgoing, stop: CancellationToken) {
    // Nothing is handed over here: changes are few, and so they are looked for at once.
    let outbox = Outbox::new(database, SCHEMA, AUDIT, EVENTS_AT_ONCE).searching_at_once();
    outbox.run(stop, |payloads| append_events(audit.clone(), outgoing.clone(), payloads)).await;
}
