//! The certificate of an erasure: what went, when, and where in the tree the leaf stands that tells of it, as lines of text
//! that are signed as a note (C2SP signed-note) with the key of the checkpoints. Its first line is no origin of a tree and
//! its second no number, so that it can never pass for a checkpoint.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use crate::store::{ErasureRow, Part};

/// First line; another layout has another number.
const TITLE: &str = "toolcrib erasure certificate 1";

/// Where the leaf stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    /// From 0.
    pub index: i64,
    /// Leaves of the signed tree that it is proven for.
    pub tree_size: i64,
}

/// The text to be signed. What people wrote goes as a JSON string: it has no line of its own.
pub(super) fn text(
    team: &str,
    erasure: &ErasureRow,
    parts: &[Part],
    leaf: Leaf,
    done: DateTime<Utc>,
) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let at = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let subject = erasure.subject_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let mut lines = vec![
        TITLE.to_owned(),
        format!("team: {}", quoted(team)),
        format!("erasure: {}", erasure.id),
        format!("subject: {subject}"),
        format!("reason: {}", quoted(&erasure.reason)),
        format!("requested by: {}", quoted(&erasure.agent_id)),
        format!("requested at: {}", at(erasure.request_time)),
        format!("done at: {}", at(done)),
    ];
    lines.extend(parts.iter().map(|part| format!("erased in {}: {}", part.part, part.records)));
    lines.push(format!("leaf index: {}", leaf.index));
    lines.push(format!("tree size: {}", leaf.tree_size));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn no_reason_can_add_a_line() {
        let erasure = ErasureRow {
            id: Uuid::nil(),
            subject_id: None,
            sealed_user: None,
            user_digest: None,
            reason: "why\n\n\u{2014} key+0 sig".into(),
            agent_id: "root".into(),
            request_id: String::new(),
            request_time: DateTime::UNIX_EPOCH,
            parts: crate::store::Parts::default(),
            done_time: None,
            certificate: String::new(),
        };
        let parts = [Part { part: "trail".into(), records: 3, done: true, failure: String::new() }];
        let text = text("t", &erasure, &parts, Leaf { index: 4, tree_size: 9 }, DateTime::UNIX_EPOCH);
        assert_eq!(text.lines().count(), 11);
        assert!(text.starts_with("toolcrib erasure certificate 1\nteam: \"t\"\n") && !text.contains("\n\n"));
        assert!(text.contains("\nsubject: none\n") && text.contains("\nerased in trail: 3\n"));
        assert!(text.ends_with("\nleaf index: 4\ntree size: 9\n"));
    }
}
