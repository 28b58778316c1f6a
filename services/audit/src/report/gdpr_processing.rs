//! GDPR, Regulation (EU) 2016/679, Art. 30: a record of processing activities, as paragraph 1 lists. What an agent does
//! with a tool is the activity; each tool and category of data is a row, over the records of the period.
//!
//! | Art. 30(1) | here |
//! |---|---|
//! | (a) controller | not known to the suite: the team, in the header, and its operator |
//! | (b) purposes | `purposes`: the tasks |
//! | (c) categories of subjects and data | `data_subjects`: how many end users; `classification` |
//! | (d) recipients | `recipients`: the tool with its versions; `agents` |
//! | (e) transfers to third countries | not known to the suite: the operator's, by tool |
//! | (f) time limits for erasure | `retention_days` |
//! | (g) security measures (Art. 32) | `security_measures` |

use super::form::{Cell, Column, Columns, Form, Group, days_of, moment};

/// What protects every record, as Art. 32(1) lists: encryption and pseudonyms (a), integrity and access (b).
const MEASURES: &str = "payloads sealed with XChaCha20-Poly1305 under a key for each data subject; pseudonyms in place of \
    names; roles and scopes on every access; append-only Merkle tree with signed checkpoints; secrets redacted before \
    anything is stored";

pub(super) const FORM: Form = Form {
    title: "Records of processing activities",
    citation: "Regulation (EU) 2016/679 (GDPR), Art. 30",
    has_payload: false,
    columns: Columns::Groups(&[
        Column {
            name: "tool_name",
            meaning: "the activity: use of this tool",
            value: |group| Cell::Text(group.row.tool_name.clone()),
        },
        Column {
            name: "classification",
            meaning: "category of data, Art. 30(1)(c)",
            value: |group| Cell::Text(group.row.classification.clone()),
        },
        Column {
            name: "records",
            meaning: "records of it in the period",
            value: |group| Cell::Number(group.row.records),
        },
        Column {
            name: "purposes",
            meaning: "the tasks, at most 20 of them, Art. 30(1)(b)",
            value: |group| Cell::Text(group.row.tasks.join("; ")),
        },
        Column {
            name: "purpose_count",
            meaning: "how many tasks there are",
            value: |group| Cell::Number(group.row.task_count),
        },
        Column {
            name: "data_subjects",
            meaning: "end users concerned, Art. 30(1)(c)",
            value: |group| Cell::Number(group.row.subject_count),
        },
        Column {
            name: "recipients",
            meaning: "the tool with its versions, at most 20, Art. 30(1)(d)",
            value: recipients,
        },
        Column {
            name: "agents",
            meaning: "who used it, at most 20",
            value: |group| Cell::Text(group.row.agents.join("; ")),
        },
        Column { name: "retention_days", meaning: "kept for, Art. 30(1)(f)", value: retention },
        Column {
            name: "security_measures",
            meaning: "in general, Art. 30(1)(g)",
            value: |_| Cell::Text(MEASURES.into()),
        },
        Column {
            name: "first_time",
            meaning: "first record of the period",
            value: |group| Cell::Text(moment(group.row.first_time)),
        },
        Column {
            name: "last_time",
            meaning: "last record of the period",
            value: |group| Cell::Text(moment(group.row.last_time)),
        },
    ]),
    notes: &[
        "Name and contact of the controller (Art. 30(1)(a)) and transfers to third countries (Art. 30(1)(e)) are the \
              operator's to add.",
    ],
};

fn recipients(group: &Group) -> Cell {
    let tool = &group.row.tool_name;
    let versions = group.row.tool_versions.iter().map(|version| match version.as_str() {
        "" => tool.clone(),
        version => format!("{tool} {version}"),
    });
    Cell::Text(versions.collect::<Vec<_>>().join("; "))
}

fn retention(group: &Group) -> Cell {
    let days = days_of(group.retention, &group.row.classification);
    Cell::Text(days.map_or_else(|| "without limit".to_owned(), |days| days.to_string()))
}
