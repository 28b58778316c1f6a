//! The trail against a real PostgreSQL.

mod adopt;
mod append;
mod erase;
mod export;
mod holds;
mod peers;
mod places;
mod proofs;
mod query;
mod reconcile;
mod reports;
mod retention;
mod sequencer;
mod subjects;
mod trees;
mod usage;
mod watch;

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use ::store::Database;
use chrono::{DateTime, Utc};
use proto::audit::v1::Event;
use tempfile::TempPath;
use trail::Payload;
use uuid::Uuid;

use crate::{
    append::Journal,
    payload::Draft,
    store::{Filter, RecordRow, record_list},
    subjects::Subjects,
};

/// An event of a team's agent, without an end user.
pub(crate) fn event(team: &str, agent: &str) -> Draft {
    let record = RecordRow {
        id: types::new_id(),
        team_id: team.into(),
        classification: "internal".into(),
        event_time: DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap(),
        action: "tool_invoked".into(),
        result: "success".into(),
        agent_id: agent.into(),
        tool_name: "http_request".into(),
        tool_version: "1.0.0".into(),
        tool_digest: "d".into(),
        execution_id: Some(Uuid::now_v7()),
        duration_us: 1_500,
        cost_micro_usd: 7,
        intent_time: DateTime::<Utc>::from_timestamp(1_799_999_999, 0),
        ..RecordRow::default()
    };
    let payload = Payload { arguments_json: r#"{"n":9007199254740993}"#.into(), ..Payload::default() };
    Draft { record, payload }
}

/// The same for an end user.
pub(crate) fn event_of(team: &str, user: &str) -> Draft {
    let mut draft = event(team, "a");
    draft.payload.user = user.into();
    draft
}

/// A file with these wrapping keys: each id gives another one.
pub(crate) fn key_file(ids: &[&str]) -> TempPath {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    write_keys(&path, ids);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Puts these keys into it.
pub(crate) fn write_keys(path: &std::path::Path, ids: &[&str]) {
    let line = |id: &&str| format!("{id} {}\n", types::digest_bytes(id.as_bytes()));
    std::fs::write(path, ids.iter().map(line).collect::<String>()).unwrap();
}

/// A way into the trail, as a process of its own has it, under the key `k1`.
pub(crate) fn journal(database: &Database) -> Journal {
    let keys = key_file(&["k1"]);
    let subjects = Subjects::new(database.clone(), &keys);
    // Read while the file is there.
    subjects.read_keys().unwrap();
    Journal::start(database, subjects)
}

/// A team's records, oldest first; their positions must have no gap.
pub(crate) async fn records(database: &Database, team: &str) -> Vec<RecordRow> {
    let mut rows =
        record_list(database.pool().unwrap(), team, &Filter::default(), None, 100_000).await.unwrap();
    rows.reverse();
    let positions = rows.iter().map(|row| row.sequence);
    assert!(positions.eq(1..=i64::try_from(rows.len()).unwrap()), "the trail of {team} has a gap");
    rows
}

/// A team's events as they are shown, oldest first.
pub(crate) async fn trail(database: &Database, journal: &Journal, team: &str) -> Vec<Event> {
    journal.subjects.events(records(database, team).await).await.unwrap()
}
