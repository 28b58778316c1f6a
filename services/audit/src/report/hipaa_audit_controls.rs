//! HIPAA Security Rule, 45 CFR 164.312(b): mechanisms that record and examine activity in systems with electronic
//! protected health information. Every access through a tool is a row, and so are refusals, failed logins, decisions on
//! access, reports of these records and reviews of them (the "examine" of the rule; also 164.308(a)(1)(ii)(D)): who, what,
//! when, and how it ended.

use super::form::{self, Columns, EVENT_ID, Form, LEAF_HASH, LEAF_INDEX, column};

pub(super) const FORM: Form = Form {
    title: "Audit controls",
    citation: "HIPAA Security Rule, 45 CFR 164.312(b)",
    has_payload: true,
    columns: Columns::Records(&[
        LEAF_INDEX,
        LEAF_HASH,
        EVENT_ID,
        column("time", "when", form::time),
        column("who", "the agent", form::agent),
        column("on_behalf_of", "pseudonym of the end user", form::subject),
        column("action", "what was done", form::action),
        column("tool_name", "with what", form::tool),
        column("tool_version", "its version", form::tool_version),
        column("classification", "the most sensitive data the tool handles", form::classification),
        column("result", "how it ended", form::result),
        column("reason", "why it was refused or failed", form::reason),
        column("arguments_digest", "SHA-256 of what was asked; empty: erased", form::arguments_digest),
        column("execution_id", "the execution", form::execution),
        column("decision_id", "the decision that allowed or refused it", form::decision),
        column("task_id", "the task", form::task),
        column("trace_id", "the trace", form::trace),
        column("message", "for people; empty: erased", form::message),
    ]),
    notes: &["45 CFR 164.316(b)(2)(i) asks for six years of retention."],
};
