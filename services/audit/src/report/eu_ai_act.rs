//! EU AI Act, Regulation (EU) 2024/1689, Art. 12: high-risk systems record events automatically over their lifetime, so that
//! risks are found, the system is monitored after it is sold (Art. 72) and in use (Art. 26(5)). Each use is a row, and so
//! is each act of human oversight (Art. 14): decisions on access requests and reviews.
//!
//! | Art. 12(3), as a yardstick for every use | here |
//! |---|---|
//! | (a) the period of each use | `begin_time`, `end_time` |
//! | (b) what input was checked against | `checked_against`: the tool with version and digest; `decision_id` |
//! | (c) the input | `input_digest`, its SHA-256; the input itself is in the trail |
//! | (d) the persons who verified results | `human_oversight`, `agent_id` |

use super::form::{self, Cell, Columns, EVENT_ID, Entry, Form, LEAF_HASH, LEAF_INDEX, column};

pub(super) const FORM: Form = Form {
    title: "Record-keeping of an AI system",
    citation: "Regulation (EU) 2024/1689 (EU AI Act), Art. 12",
    has_payload: true,
    columns: Columns::Records(&[
        LEAF_INDEX,
        LEAF_HASH,
        EVENT_ID,
        column("begin_time", "begin of the use, Art. 12(3)(a); empty: it came to none", form::begin_time),
        column("end_time", "end of the use, Art. 12(3)(a)", form::time),
        column("action", "what was done", form::action),
        column(
            "input_digest",
            "SHA-256 of the input, Art. 12(3)(c); empty: none, or erased",
            form::arguments_digest,
        ),
        column(
            "checked_against",
            "tool, version and digest the input went to, Art. 12(3)(b)",
            checked_against,
        ),
        column("decision_id", "the decision that allowed or refused it", form::decision),
        column("agent_id", "agent that acted", form::agent),
        column("subject_id", "pseudonym of the person concerned", form::subject),
        column("result", "how it ended", form::result),
        column("reason", "why it was refused or failed", form::reason),
        column("result_digest", "SHA-256 of the output", form::result_digest),
        column("duration_us", "duration in microseconds", form::duration),
        column("human_oversight", "what a person decided or found, Art. 12(3)(d) and 14", oversight),
        column("execution_id", "the execution", form::execution),
        column("task_id", "the task", form::task),
        column("trace_id", "the trace", form::trace),
    ]),
    notes: &["Art. 19(1) and 26(6) ask for at least six months of retention."],
};

fn checked_against(entry: &Entry) -> Cell {
    let record = &entry.record;
    let parts = [record.tool_name.as_str(), &record.tool_version, &record.tool_digest];
    Cell::Text(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
}

fn oversight(entry: &Entry) -> Cell {
    match entry.record.action.as_str() {
        "access_decided" | "reviewed" => form::message(entry),
        _ => Cell::Text(String::new()),
    }
}
