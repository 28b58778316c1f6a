//! The header of a record: what the tree covers for ever. Its canonical JSON is the leaf. Holds nothing by which
//! a person could be found again once their payload is gone: of it there is a commitment only.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::canonical::{self, integer, is_empty, is_zero};

/// The version of the leaf's form.
const VERSION: u8 = 1;

/// What is said of an event in the clear. Empty texts and zeros are left out of the leaf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Team whose trail it is.
    pub team_id: String,
    /// Index of the leaf, from 0: the event's sequence less one.
    pub index: i64,
    /// Id of the event, a UUID.
    pub id: String,
    /// When it happened; the leaf has microseconds.
    pub event_time: DateTime<Utc>,
    /// What happened, such as `tool_invoked`.
    pub action: String,
    /// How it ended, such as `success`.
    pub result: String,
    /// Agent that asked.
    pub agent_id: String,
    /// Tool asked for.
    pub tool_name: String,
    /// Its version.
    pub tool_version: String,
    /// Digest of its definition.
    pub tool_digest: String,
    /// Execution; empty: none.
    pub execution_id: String,
    /// Task; empty: none.
    pub task_id: String,
    /// Trace id.
    pub trace_id: String,
    /// Why it was refused or failed: a code.
    pub reason: String,
    /// Duration in microseconds.
    pub duration_us: i64,
    /// Cost in millionths of a US dollar.
    pub cost_micro_usd: i64,
    /// The most sensitive data the tool handles, such as `internal`.
    pub classification: String,
    /// The decision of the permissions service; empty: none.
    pub decision_id: String,
    /// When the intent of the execution was recorded.
    pub intent_time: Option<DateTime<Utc>>,
    /// Pseudonym of the end user, a UUID; empty: none.
    pub subject_id: String,
    /// [`crate::commitment`] of the payload, in hex.
    pub payload_hmac: String,
}

/// Why bytes are no leaf or no payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not JSON, or with a field that is missing, unknown or of another type.
    #[error("{0}")]
    Malformed(String),
    /// Of a form that this program does not know.
    #[error("its form has version {0}, and this program knows {VERSION} only")]
    Version(u8),
    /// The same could be written in another way (RFC 8785): hashes would not be unique.
    #[error("it is not written in the canonical form of RFC 8785")]
    NotCanonical,
}

impl Header {
    /// The canonical bytes, whose [`crate::leaf_hash`] stands in the tree.
    pub fn leaf(&self) -> Vec<u8> {
        canonical::bytes(&Leaf::from(self))
    }

    /// Reads a leaf; its bytes must be the canonical ones.
    pub fn parse(leaf: &[u8]) -> Result<Self, LeafError> {
        let header = Self::try_from(Leaf::parse(leaf)?)?;
        if header.leaf() == leaf { Ok(header) } else { Err(LeafError::NotCanonical) }
    }
}

/// A leaf as it is written: the fields in the order of their names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leaf<'a> {
    #[serde(borrow)]
    pub(crate) action: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    agent_id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    classification: Cow<'a, str>,
    #[serde(with = "integer", default, skip_serializing_if = "is_zero")]
    cost_micro_usd: i64,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    decision_id: Cow<'a, str>,
    #[serde(with = "integer", default, skip_serializing_if = "is_zero")]
    duration_us: i64,
    #[serde(borrow)]
    pub(crate) event_time: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    execution_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    pub(crate) index: i64,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    intent_time: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) payload_hmac: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    result: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub(crate) subject_id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    task_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) team_id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    tool_digest: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    tool_name: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    tool_version: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    trace_id: Cow<'a, str>,
    v: u8,
}

impl<'a> Leaf<'a> {
    /// Reads a leaf without asking whether it is canonical.
    pub(crate) fn parse(leaf: &'a [u8]) -> Result<Self, LeafError> {
        let parsed: Self =
            serde_json::from_slice(leaf).map_err(|error| LeafError::Malformed(error.to_string()))?;
        if parsed.v == VERSION { Ok(parsed) } else { Err(LeafError::Version(parsed.v)) }
    }
}

impl<'a> From<&'a Header> for Leaf<'a> {
    fn from(header: &'a Header) -> Self {
        Self {
            action: Cow::Borrowed(&header.action),
            agent_id: Cow::Borrowed(&header.agent_id),
            classification: Cow::Borrowed(&header.classification),
            cost_micro_usd: header.cost_micro_usd,
            decision_id: Cow::Borrowed(&header.decision_id),
            duration_us: header.duration_us,
            event_time: Cow::Owned(time(header.event_time)),
            execution_id: Cow::Borrowed(&header.execution_id),
            id: Cow::Borrowed(&header.id),
            index: header.index,
            intent_time: Cow::Owned(header.intent_time.map(time).unwrap_or_default()),
            payload_hmac: Cow::Borrowed(&header.payload_hmac),
            reason: Cow::Borrowed(&header.reason),
            result: Cow::Borrowed(&header.result),
            subject_id: Cow::Borrowed(&header.subject_id),
            task_id: Cow::Borrowed(&header.task_id),
            team_id: Cow::Borrowed(&header.team_id),
            tool_digest: Cow::Borrowed(&header.tool_digest),
            tool_name: Cow::Borrowed(&header.tool_name),
            tool_version: Cow::Borrowed(&header.tool_version),
            trace_id: Cow::Borrowed(&header.trace_id),
            v: VERSION,
        }
    }
}

impl TryFrom<Leaf<'_>> for Header {
    type Error = LeafError;

    fn try_from(leaf: Leaf<'_>) -> Result<Self, LeafError> {
        let intent = (!leaf.intent_time.is_empty()).then(|| parse_time("intent_time", &leaf.intent_time));
        Ok(Self {
            event_time: parse_time("event_time", &leaf.event_time)?,
            intent_time: intent.transpose()?,
            team_id: leaf.team_id.into_owned(),
            index: leaf.index,
            id: leaf.id.into_owned(),
            action: leaf.action.into_owned(),
            result: leaf.result.into_owned(),
            agent_id: leaf.agent_id.into_owned(),
            tool_name: leaf.tool_name.into_owned(),
            tool_version: leaf.tool_version.into_owned(),
            tool_digest: leaf.tool_digest.into_owned(),
            execution_id: leaf.execution_id.into_owned(),
            task_id: leaf.task_id.into_owned(),
            trace_id: leaf.trace_id.into_owned(),
            reason: leaf.reason.into_owned(),
            duration_us: leaf.duration_us,
            cost_micro_usd: leaf.cost_micro_usd,
            classification: leaf.classification.into_owned(),
            decision_id: leaf.decision_id.into_owned(),
            subject_id: leaf.subject_id.into_owned(),
            payload_hmac: leaf.payload_hmac.into_owned(),
        })
    }
}

/// A time as leaves have it.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn parse_time(field: &str, text: &str) -> Result<DateTime<Utc>, LeafError> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|_| LeafError::Malformed(format!("{field} is no time of RFC 3339")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            team_id: "dev".into(),
            index: 41,
            id: "019a9e1c-8f3e-7cc0-8000-000000000001".into(),
            event_time: "2026-11-23T07:00:00.000001Z".parse().unwrap(),
            action: "tool_invoked".into(),
            result: "success".into(),
            reason: "a \"quoted\" \u{7} line\nÄ€\u{1f600}\u{2028}".into(),
            cost_micro_usd: 1 << 60,
            duration_us: -5,
            payload_hmac: "00".repeat(32),
            ..Header::default()
        }
    }

    #[test]
    fn a_leaf_is_canonical_and_comes_back() {
        let leaf = header().leaf();
        let value: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
        assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), leaf);
        assert_eq!(Header::parse(&leaf).unwrap(), header());
        let text = String::from_utf8(leaf).unwrap();
        assert!(
            text.starts_with(r#"{"action":"tool_invoked","cost_micro_usd":"1152921504606846976","#),
            "{text}"
        );
        assert!(text.contains(r#""event_time":"2026-11-23T07:00:00.000001Z""#), "{text}");
    }

    #[test]
    fn what_is_not_canonical_is_no_leaf() {
        let leaf = String::from_utf8(header().leaf()).unwrap();
        let faults = [
            leaf.replacen(',', ", ", 1),
            leaf.replace("\"v\":1", "\"trace_id\":\"\",\"v\":1"),
            leaf.replace(".000001Z", ".0000010Z"),
            leaf.replace(".000001Z", ".000001+00:00"),
            leaf.replace("-5", "\"-5\""),
            leaf.replace("success", "s\\u0075ccess"),
            format!("{leaf} "),
        ];
        for fault in faults {
            assert_ne!(fault, leaf);
            assert_eq!(Header::parse(fault.as_bytes()), Err(LeafError::NotCanonical), "{fault}");
        }
        let newer = leaf.replace("\"v\":1", "\"v\":2");
        assert_eq!(Header::parse(newer.as_bytes()), Err(LeafError::Version(2)));
        for fault in
            [leaf.replace("\"v\":1", "\"u\":1,\"v\":1"), leaf.replace("\"v\":1", "\"index\":41,\"v\":1")]
        {
            assert!(matches!(Header::parse(fault.as_bytes()), Err(LeafError::Malformed(_))), "{fault}");
        }
    }
}
