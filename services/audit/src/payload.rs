//! From an event to a sealed record, and from a record to what is shown. The one mapping of both. Nothing that may hold
//! personal data stays outside the payload, and no payload leaves here unsealed but into an answer.

use std::collections::HashMap;

use chrono::{DateTime, SubsecRound, Utc};
use keyring::{Key, bound};
use proto::{
    audit::v1::{Action, Event, PayloadState, Result as Outcome},
    types::v1::Sensitivity,
};
use trail::{Header, Payload, SALT_BYTES, commitment, is_committed};
use uuid::Uuid;

use crate::{Error, store::RecordRow};

/// Opens the authenticated data of a payload; another layout takes another label.
const LABEL: &[u8] = b"toolcrib trail 1";

/// An event that is not sealed yet. No `Debug`, so that no log line ever has it.
#[derive(Clone, PartialEq)]
pub(crate) struct Draft {
    /// The header; subject, commitment and sealed payload are set by sealing, the position by adding.
    pub record: RecordRow,
    pub payload: Payload,
}

/// Salt and payload bytes.
pub(crate) type Salted = ([u8; SALT_BYTES], Vec<u8>);

/// The keys that some records can be opened with.
#[derive(Clone, Default)]
pub(crate) struct Opener {
    teams: HashMap<String, Key>,
    subjects: HashMap<Uuid, Key>,
}

impl Draft {
    /// An event of the audit service itself: what happened, by whom, for people. Without an end user.
    pub(crate) fn own(team: &str, agent: &str, action: Action, result: Outcome, message: String) -> Self {
        let record = RecordRow {
            team_id: team.to_owned(),
            id: types::new_id(),
            classification: types::Sensitivity::Internal.to_string(),
            event_time: micros(Utc::now()),
            action: word(action.as_str_name(), "ACTION_").unwrap_or_default(),
            result: word(result.as_str_name(), "RESULT_").unwrap_or_default(),
            agent_id: agent.to_owned(),
            ..RecordRow::default()
        };
        Self { record, payload: Payload { message, ..Payload::default() } }
    }

    /// When what it tells of may have been said first.
    pub(crate) fn heard(&self) -> DateTime<Utc> {
        let time = self.record.event_time;
        self.record.intent_time.map_or(time, |intent| intent.min(time))
    }

    /// The record: sealed under this key, of this pseudonym.
    pub(crate) fn sealed(&self, subject: Option<Uuid>, key: &Key) -> Result<RecordRow, Error> {
        let (salt, plain, payload_hmac) = self.committed();
        let binding = binding(&self.record.team_id, self.record.id);
        let payload =
            key.seal(&binding, &[&salt[..], &plain].concat()).ok_or(Error::Sealing(self.record.id))?;
        let record = self.record.clone();
        Ok(RecordRow { subject_id: subject, payload_hmac, payload: Some(payload), ..record })
    }

    /// The record without its payload, as if it had been erased with its subject: nobody has the salt.
    pub(crate) fn erased(&self, subject: Option<Uuid>) -> RecordRow {
        let (_, _, payload_hmac) = self.committed();
        RecordRow { subject_id: subject, payload_hmac, payload: None, ..self.record.clone() }
    }

    fn committed(&self) -> ([u8; SALT_BYTES], Vec<u8>, Vec<u8>) {
        let (salt, plain) = (rand::random::<[u8; SALT_BYTES]>(), self.payload.bytes());
        let hmac = commitment(&salt, &plain).to_vec();
        (salt, plain, hmac)
    }
}

impl Opener {
    pub(crate) fn add_team(&mut self, team: &str, key: Key) {
        self.teams.insert(team.to_owned(), key);
    }

    pub(crate) fn add_subject(&mut self, id: Uuid, key: Key) {
        self.subjects.insert(id, key);
    }

    /// What was committed to in a record; `None`: erased.
    pub(crate) fn open(&self, record: &RecordRow) -> Result<Option<Salted>, Error> {
        let Some(sealed) = &record.payload else { return Ok(None) };
        let key = match record.subject_id {
            None => self.teams.get(&record.team_id),
            Some(id) => self.subjects.get(&id),
        };
        // The subject was erased after its records were read.
        let Some(key) = key else { return Ok(None) };
        let damaged = || Error::Sealing(record.id);
        let plain = key.open(&binding(&record.team_id, record.id), sealed).ok_or_else(damaged)?;
        let (salt, payload) = plain.split_first_chunk::<SALT_BYTES>().ok_or_else(damaged)?;
        if is_committed(salt, payload, &record.payload_hmac) {
            Ok(Some((*salt, payload.to_vec())))
        } else {
            Err(damaged())
        }
    }

    /// The payload of a record; `None`: erased.
    pub(crate) fn payload(&self, record: &RecordRow) -> Result<Option<Payload>, Error> {
        let Some((_, bytes)) = self.open(record)? else { return Ok(None) };
        Payload::parse(&bytes).map(Some).map_err(|_| Error::Sealing(record.id))
    }
}

/// What a record is shown as.
pub(crate) fn open_event(opener: &Opener, record: RecordRow) -> Result<Event, Error> {
    let payload = opener.payload(&record)?;
    let state = if payload.is_some() { PayloadState::Kept } else { PayloadState::Erased };
    let payload = payload.unwrap_or_default();
    let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Event {
        id: record.id.to_string(),
        team_id: record.team_id,
        time: Some(timestamp(record.event_time)),
        action: action(&record.action).into(),
        result: outcome(&record.result).into(),
        agent_id: record.agent_id,
        tool_name: record.tool_name,
        tool_version: record.tool_version,
        tool_digest: record.tool_digest,
        execution_id: text(record.execution_id),
        task_id: record.task_id,
        trace_id: record.trace_id,
        reason: record.reason,
        message: payload.message,
        arguments_json: payload.arguments_json,
        arguments_digest: payload.arguments_digest,
        result_digest: payload.result_digest,
        duration_ms: record.duration_us as f64 / 1_000.0,
        cost_micro_usd: record.cost_micro_usd,
        sensitivity: sensitivity(&record.classification).into(),
        decision_id: text(record.decision_id),
        sequence: record.sequence,
        user: payload.user,
        subject_id: text(record.subject_id),
        intent_time: record.intent_time.map(timestamp),
        result_summary_json: payload.result_summary_json,
        payload_state: state.into(),
    })
}

/// The header of a record: what its leaf says.
pub(crate) fn header(record: &RecordRow) -> Header {
    let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    Header {
        team_id: record.team_id.clone(),
        index: record.sequence - 1,
        id: record.id.to_string(),
        event_time: record.event_time,
        action: record.action.clone(),
        result: record.result.clone(),
        agent_id: record.agent_id.clone(),
        tool_name: record.tool_name.clone(),
        tool_version: record.tool_version.clone(),
        tool_digest: record.tool_digest.clone(),
        execution_id: text(record.execution_id),
        task_id: record.task_id.clone(),
        trace_id: record.trace_id.clone(),
        reason: record.reason.clone(),
        duration_us: record.duration_us,
        cost_micro_usd: record.cost_micro_usd,
        classification: record.classification.clone(),
        decision_id: text(record.decision_id),
        intent_time: record.intent_time,
        subject_id: text(record.subject_id),
        payload_hmac: hex::encode(&record.payload_hmac),
    }
}

/// What a sealed payload belongs to.
fn binding(team: &str, id: Uuid) -> Vec<u8> {
    bound(&[LABEL, team.as_bytes(), id.as_bytes()])
}

/// `ACTION_TOOL_INVOKED` is stored as `tool_invoked`; the unspecified value is `None`.
pub(crate) fn word(name: &str, prefix: &str) -> Option<String> {
    let word = name.trim_start_matches(prefix).to_lowercase();
    (word != "unspecified").then_some(word)
}

/// The action of a stored word.
pub(crate) fn action(word: &str) -> Action {
    Action::from_str_name(&format!("ACTION_{}", word.to_uppercase())).unwrap_or_default()
}

/// The result of a stored word.
pub(crate) fn outcome(word: &str) -> Outcome {
    Outcome::from_str_name(&format!("RESULT_{}", word.to_uppercase())).unwrap_or_default()
}

/// The classification of a stored word.
pub(crate) fn sensitivity(word: &str) -> Sensitivity {
    word.parse::<types::Sensitivity>().map(Sensitivity::from).unwrap_or_default()
}

/// A time as it goes over the wire.
pub(crate) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}

/// A time as the database and the leaf have it.
pub(crate) fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        let mut draft = Draft::own("team", "a", Action::ToolInvoked, Outcome::Success, "hunter2".into());
        draft.payload.user = "ada".into();
        draft
    }

    #[test]
    fn a_record_opens_for_its_team_and_event_with_its_key_only() {
        let key = Key::random();
        let record = draft().sealed(None, &key).unwrap();
        let mut opener = Opener::default();
        opener.add_team("team", key.clone());
        opener.add_team("other", key.clone());
        let event = open_event(&opener, record.clone()).unwrap();
        assert_eq!((event.message.as_str(), event.user.as_str()), ("hunter2", "ada"));
        assert_eq!(event.payload_state(), PayloadState::Kept);
        for (what, changed) in [
            ("event", RecordRow { id: types::new_id(), ..record.clone() }),
            ("team", RecordRow { team_id: "other".into(), ..record.clone() }),
            ("commitment", RecordRow { payload_hmac: vec![0; 32], ..record.clone() }),
        ] {
            assert!(open_event(&opener, changed).is_err(), "another {what}");
        }
        let mut wrong = Opener::default();
        wrong.add_team("team", Key::random());
        assert!(wrong.open(&record).is_err(), "another key");
    }

    #[test]
    fn two_records_of_one_event_differ_and_an_erased_one_is_committed_to_nothing_known() {
        let (draft, key) = (draft(), Key::random());
        let (one, other) = (draft.sealed(None, &key).unwrap(), draft.sealed(None, &key).unwrap());
        assert_ne!((one.payload_hmac, one.payload), (other.payload_hmac, other.payload));
        let erased = draft.erased(None);
        assert_eq!((erased.payload.as_ref(), erased.payload_hmac.len()), (None, 32));
        let event = open_event(&Opener::default(), erased).unwrap();
        assert_eq!((event.payload_state(), event.message.as_str()), (PayloadState::Erased, ""));
    }
}
