//! SOC 2, Trust Services Criteria, CC7 (system operations). The evidence is what deviates or changes, each as a row:
//!
//! | criterion | here |
//! |---|---|
//! | CC7.1: changes of configuration are detected | changes of definitions, permissions, identities, policies, credentials |
//! | CC7.2: anomalies are monitored | failures, denials, failed authentication, findings of the reconciliation |
//! | CC7.3: events are evaluated | reviews, with what they concluded |
//! | CC7.4, CC7.5: incidents are answered, and recovered from | reviews that ask for a follow-up; revocations and rotations |

use super::form::{self, Cell, Columns, EVENT_ID, Entry, Form, LEAF_HASH, LEAF_INDEX, column};

pub(super) const FORM: Form = Form {
    title: "System operations",
    citation: "SOC 2, AICPA Trust Services Criteria (2017, revised 2022), CC7.1 to CC7.5",
    has_payload: true,
    columns: Columns::Records(&[
        LEAF_INDEX,
        LEAF_HASH,
        EVENT_ID,
        column("time", "when", form::time),
        column("criterion", "the criterion it is evidence for", criterion),
        column("action", "what happened", form::action),
        column("result", "how it ended", form::result),
        column("reason", "why it was refused or failed", form::reason),
        column("agent_id", "who", form::agent),
        column("tool_name", "with which tool", form::tool),
        column("tool_version", "its version", form::tool_version),
        column("execution_id", "the execution", form::execution),
        column("trace_id", "the trace", form::trace),
        column("message", "for people: of a change what changed, of a review its conclusion", form::message),
        column("details", "of a review: what was looked at, as JSON", form::arguments),
    ]),
    notes: &[],
};

fn criterion(entry: &Entry) -> Cell {
    let of = match entry.record.action.as_str() {
        "definition_changed" | "permission_changed" | "identity_changed" | "policy_changed"
        | "hold_changed" | "retention_applied" | "credential_rotated" | "subject_erased" => "CC7.1",
        "reviewed" if entry.record.reason == crate::review::FOLLOW_UP => "CC7.4",
        "reviewed" | "report_generated" => "CC7.3",
        _ => "CC7.2",
    };
    Cell::Text(of.to_owned())
}
