//! GDPR, Regulation (EU) 2016/679, Art. 15: a person may ask whether data about them are processed, and if so get them, in
//! a copy (paragraph 3), together with what paragraph 1 lists. Each record of the person is a row with its whole payload.
//!
//! | Art. 15(1) | here |
//! |---|---|
//! | (a) purposes | `purpose`: the task for which the agent acted |
//! | (b) categories of data | `category`: the classification |
//! | (c) recipients | `recipient`: the tool that was given the data, and its version |
//! | (d) for how long | `kept_until`, by the retention of the category |
//! | (g) the source, where it is not the person | `source`: the agent that asked for them |
//! | (h) automated decisions | `decision_id` and `reason`: what decided whether the call was allowed |

use super::form::{self, Columns, EVENT_ID, Form, LEAF_HASH, LEAF_INDEX, column};

pub(super) const FORM: Form = Form {
    title: "Access by the data subject",
    citation: "Regulation (EU) 2016/679 (GDPR), Art. 15",
    has_payload: true,
    columns: Columns::Records(&[
        LEAF_INDEX,
        LEAF_HASH,
        EVENT_ID,
        column("time", "when it happened", form::time),
        column("action", "what happened", form::action),
        column("result", "how it ended", form::result),
        column("purpose", "the task it was done for, Art. 15(1)(a)", form::task),
        column("category", "classification of the data, Art. 15(1)(b)", form::classification),
        column("recipient", "the tool that was given the data, Art. 15(1)(c)", form::tool),
        column("recipient_version", "version of the tool", form::tool_version),
        column("kept_until", "kept at least until, Art. 15(1)(d)", form::kept_until),
        column("source", "the agent that asked, Art. 15(1)(g)", form::agent),
        column("decision_id", "the decision on the call, Art. 15(1)(h)", form::decision),
        column("reason", "why it was refused or failed", form::reason),
        column("execution_id", "the execution", form::execution),
        column("subject_id", "pseudonym of the data subject", form::subject),
        column("payload", "whether the data below are kept or erased", form::payload_state),
        column("message", "for people", form::message),
        column("arguments", "what the tool was given, as JSON", form::arguments),
        column("arguments_digest", "SHA-256 of it as it was sent", form::arguments_digest),
        column("result_summary", "what the tool gave back, cut, as JSON", form::result_summary),
        column("result_digest", "SHA-256 of it as it came", form::result_digest),
    ]),
    notes: &[
        "Rights to rectification, erasure, restriction and objection, and to complain to an authority (Art. 15(1)(e) and \
         (f)), are told by the controller. Data in the executions and caches of the suite follow the same retention or a \
         shorter one.",
    ],
};
