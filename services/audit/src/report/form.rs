//! What a report looks like, whatever it is written as: its title, the law it answers, and its columns. Pure.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use trail::{Hash, Payload};

use crate::{
    config::RetentionDays,
    store::{ErasureRow, GroupRow, RecordRow},
};

/// The form of a framework's report.
pub(crate) struct Form {
    pub title: &'static str,
    /// Where the law or the criteria say so.
    pub citation: &'static str,
    pub columns: Columns,
    /// Whether a column shows what may be erased.
    pub has_payload: bool,
    /// What a reader has to know besides.
    pub notes: &'static [&'static str],
}

/// What its rows are made of.
pub(crate) enum Columns {
    /// One record each.
    Records(&'static [Column<Entry>]),
    /// All records of a tool and a classification.
    Groups(&'static [Column<Group>]),
}

/// A column.
pub(crate) struct Column<T> {
    pub name: &'static str,
    /// What it says and, where the law asks for it, by which words.
    pub meaning: &'static str,
    pub value: fn(&T) -> Cell,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Text(String),
    Number(i64),
}

/// A record, with what is known besides.
pub(crate) struct Entry {
    pub record: RecordRow,
    /// `None`: erased.
    pub payload: Option<Payload>,
    pub hash: Hash,
    pub retention: RetentionDays,
    pub erasure: Option<ErasureRow>,
}

/// Records of a tool and a classification.
pub(crate) struct Group {
    pub row: GroupRow,
    pub retention: RetentionDays,
}

impl Columns {
    /// Names and meanings.
    pub(crate) fn list(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Records(columns) => columns.iter().map(|column| (column.name, column.meaning)).collect(),
            Self::Groups(columns) => columns.iter().map(|column| (column.name, column.meaning)).collect(),
        }
    }
}

/// The values of a row.
pub(crate) fn cells<T>(columns: &[Column<T>], of: &T) -> Vec<Cell> {
    columns.iter().map(|column| (column.value)(of)).collect()
}

/// A column of records.
pub(crate) const fn column(
    name: &'static str,
    meaning: &'static str,
    value: fn(&Entry) -> Cell,
) -> Column<Entry> {
    Column { name, meaning, value }
}

/// A time as files have it.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

fn of_payload(entry: &Entry, value: fn(&Payload) -> &str) -> Cell {
    entry.payload.as_ref().map_or_else(|| text(""), |payload| text(value(payload)))
}

/// Of these columns every row begins with the first two: by them it is found in the tree.
pub(crate) const LEAF_INDEX: Column<Entry> =
    column("leaf_index", "index of the record in the team's tree, from 0", |entry| {
        Cell::Number(entry.record.sequence - 1)
    });
pub(crate) const LEAF_HASH: Column<Entry> =
    column("leaf_hash", "hash of the record in the tree (RFC 6962), in hex", |entry| {
        Cell::Text(entry.hash.to_string())
    });
pub(crate) const EVENT_ID: Column<Entry> =
    column("event_id", "id of the event", |entry| Cell::Text(entry.record.id.to_string()));

pub(crate) fn time(entry: &Entry) -> Cell {
    Cell::Text(moment(entry.record.event_time))
}
/// When the intent was recorded, before the tool was asked.
pub(crate) fn begin_time(entry: &Entry) -> Cell {
    Cell::Text(entry.record.intent_time.map(moment).unwrap_or_default())
}
pub(crate) fn action(entry: &Entry) -> Cell {
    text(&entry.record.action)
}
pub(crate) fn result(entry: &Entry) -> Cell {
    text(&entry.record.result)
}
pub(crate) fn reason(entry: &Entry) -> Cell {
    text(&entry.record.reason)
}
pub(crate) fn agent(entry: &Entry) -> Cell {
    text(&entry.record.agent_id)
}
pub(crate) fn subject(entry: &Entry) -> Cell {
    Cell::Text(entry.record.subject_id.map(|id| id.to_string()).unwrap_or_default())
}
pub(crate) fn tool(entry: &Entry) -> Cell {
    text(&entry.record.tool_name)
}
pub(crate) fn tool_version(entry: &Entry) -> Cell {
    text(&entry.record.tool_version)
}
pub(crate) fn tool_digest(entry: &Entry) -> Cell {
    text(&entry.record.tool_digest)
}
pub(crate) fn task(entry: &Entry) -> Cell {
    text(&entry.record.task_id)
}
pub(crate) fn execution(entry: &Entry) -> Cell {
    Cell::Text(entry.record.execution_id.map(|id| id.to_string()).unwrap_or_default())
}
pub(crate) fn decision(entry: &Entry) -> Cell {
    Cell::Text(entry.record.decision_id.map(|id| id.to_string()).unwrap_or_default())
}
pub(crate) fn trace(entry: &Entry) -> Cell {
    text(&entry.record.trace_id)
}
pub(crate) fn classification(entry: &Entry) -> Cell {
    text(&entry.record.classification)
}
/// In microseconds.
pub(crate) fn duration(entry: &Entry) -> Cell {
    Cell::Number(entry.record.duration_us)
}
pub(crate) fn message(entry: &Entry) -> Cell {
    of_payload(entry, |payload| &payload.message)
}
pub(crate) fn arguments(entry: &Entry) -> Cell {
    of_payload(entry, |payload| &payload.arguments_json)
}
pub(crate) fn arguments_digest(entry: &Entry) -> Cell {
    of_payload(entry, |payload| &payload.arguments_digest)
}
pub(crate) fn result_digest(entry: &Entry) -> Cell {
    of_payload(entry, |payload| &payload.result_digest)
}
pub(crate) fn result_summary(entry: &Entry) -> Cell {
    of_payload(entry, |payload| &payload.result_summary_json)
}
pub(crate) fn payload_state(entry: &Entry) -> Cell {
    text(if entry.payload.is_some() { "kept" } else { "erased" })
}
/// Until when the record is kept at least.
pub(crate) fn kept_until(entry: &Entry) -> Cell {
    let days = days_of(entry.retention, &entry.record.classification);
    Cell::Text(
        match days.and_then(|days| entry.record.event_time.checked_add_signed(TimeDelta::days(days.into()))) {
            Some(until) => moment(until),
            None => "without limit".to_owned(),
        },
    )
}

/// Days for which records of a classification are kept; `None`: for ever.
pub(crate) fn days_of(retention: RetentionDays, classification: &str) -> Option<u32> {
    let of = retention.by_classification().into_iter().find(|(name, _)| *name == classification);
    of.map(|(_, days)| days).filter(|days| *days > 0)
}

/// Of an erasure: what of it is not in its record.
pub(crate) fn of_erasure(entry: &Entry, value: fn(&ErasureRow) -> String) -> Cell {
    Cell::Text(entry.erasure.as_ref().map(value).unwrap_or_default())
}

/// What was erased, by part of the suite.
pub(crate) fn parts(erasure: &ErasureRow) -> String {
    let mut told = String::new();
    for part in &erasure.parts.0 {
        let separator = if told.is_empty() { "" } else { "; " };
        let state = if part.done { "" } else { " (goes on)" };
        let _ = write!(told, "{separator}{} {}{state}", part.part, part.records);
    }
    told
}
