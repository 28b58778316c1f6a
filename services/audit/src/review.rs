//! Reviews as evidence: that somebody looked at events, and what they found, is an event of the trail itself. The same
//! request id is the same review. Never about events that are not there.

use ::store::{Database, Error as StoreError};
use chrono::{DateTime, Utc};
use proto::audit::v1::{Action, Result as Outcome};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use types::Caller;
use uuid::Uuid;

use crate::{
    Error,
    append::Journal,
    payload::{Draft, micros},
    store::{self, ReviewRow},
};

/// The reason of a review after which something needs to be done.
pub(crate) const FOLLOW_UP: &str = "FOLLOW_UP";
/// Most events that are named.
const MAX_EVENTS: usize = 1_000;
/// Longest conclusion, in characters.
const MAX_CONCLUSION: usize = 4_000;
/// Unknown events that are named.
const TOLD: usize = 10;

/// A review.
#[derive(Debug, Clone, Default)]
pub(crate) struct Review {
    pub event_ids: Vec<Uuid>,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
    pub conclusion: String,
    pub follow_up: bool,
    pub request_id: String,
}

/// What was looked at, as the payload has it.
#[derive(Debug, Serialize)]
struct Reviewed {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    event_ids: Vec<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<DateTime<Utc>>,
    follow_up: bool,
}

/// Puts a review on record; gives the id and the time of its event.
pub(crate) async fn record(
    database: &Database,
    journal: &Journal,
    caller: &Caller,
    review: Review,
    now: DateTime<Utc>,
) -> Result<(Uuid, DateTime<Utc>), Error> {
    check(&review, now)?;
    let (team, digest) = (caller.team.as_str(), digest(&review));
    let pool = database.pool()?;
    if let Some(known) = store::review_find(pool, team, &review.request_id).await? {
        return same(&review, &known, &digest);
    }
    let missing = store::records_missing(pool, team, &review.event_ids).await?;
    if !missing.is_empty() {
        let mut name = missing.iter().take(TOLD).map(Uuid::to_string).collect::<Vec<_>>().join(", ");
        if missing.len() > TOLD {
            name += " and others";
        }
        return Err(Error::NotThere { what: "event", name, hint: "find ids with: toolcrib audit trail" });
    }
    let draft = told(caller, &review, now);
    let (event_id, time) = (draft.record.id, draft.record.event_time);
    if review.request_id.is_empty() {
        journal.append(vec![draft]).await?;
        return Ok((event_id, time));
    }
    let mut transaction = pool.begin().await.map_err(StoreError::from)?;
    let row = ReviewRow { event_id, time, digest: digest.clone() };
    if store::review_insert(&mut transaction, team, &review.request_id, &row).await? {
        journal.append_in_txn(&mut transaction, &[draft]).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        return Ok((event_id, time));
    }
    // Another request of this id was faster.
    drop(transaction);
    let known = store::review_find(pool, team, &review.request_id).await?;
    same(&review, &known.ok_or(Error::Overtaken)?, &digest)
}

fn same(review: &Review, known: &ReviewRow, digest: &[u8]) -> Result<(Uuid, DateTime<Utc>), Error> {
    if known.digest == digest {
        Ok((known.event_id, known.time))
    } else {
        Err(Error::ReviewIdReused(review.request_id.clone()))
    }
}

fn told(caller: &Caller, review: &Review, now: DateTime<Utc>) -> Draft {
    let message = review.conclusion.clone();
    let mut draft = Draft::own(&caller.team, &caller.agent, Action::Reviewed, Outcome::Success, message);
    draft.record.event_time = micros(now);
    if review.follow_up {
        FOLLOW_UP.clone_into(&mut draft.record.reason);
    }
    draft.payload.arguments_json = body(review);
    draft
}

fn body(review: &Review) -> String {
    let Review { event_ids, start_time, end_time, follow_up, .. } = review.clone();
    serde_json::to_string(&Reviewed { event_ids, start_time, end_time, follow_up })
        .expect("ids and times are serializable")
}

/// Of all that a review says, to know it again.
fn digest(review: &Review) -> Vec<u8> {
    let body = body(review);
    Sha256::new().chain_update(&review.conclusion).chain_update([0]).chain_update(body).finalize().to_vec()
}

fn check(review: &Review, now: DateTime<Utc>) -> Result<(), Error> {
    let Review { event_ids, start_time, end_time, conclusion, request_id, .. } = review;
    if event_ids.len() > MAX_EVENTS {
        let told =
            format!("names {} events; at most {MAX_EVENTS} fit: give a range of time", event_ids.len());
        return Err(Error::invalid("event_ids", told));
    }
    match (event_ids.is_empty(), start_time, end_time) {
        (false, None, None) => {}
        (false, ..) => return Err(Error::invalid("event_ids", "goes without start_time and end_time")),
        (true, Some(start), Some(end)) if start >= end => {
            return Err(Error::invalid("end_time", "must be after start_time"));
        }
        (true, Some(_), Some(end)) if *end > now + chrono::TimeDelta::seconds(5) => {
            return Err(Error::invalid("end_time", "lies in the future; nobody has looked at that"));
        }
        (true, Some(_), Some(_)) => {}
        (true, None, Some(_)) => return Err(Error::invalid("start_time", "goes with end_time")),
        (true, Some(_), None) => return Err(Error::invalid("end_time", "goes with start_time")),
        (true, None, None) => {
            let told = "say what was looked at: event_ids, or start_time and end_time";
            return Err(Error::invalid("event_ids", told));
        }
    }
    if conclusion.trim().is_empty()
        || conclusion.chars().count() > MAX_CONCLUSION
        || conclusion.contains('\0')
    {
        let told = format!("say what was found, in 1 to {MAX_CONCLUSION} characters");
        return Err(Error::invalid("conclusion", told));
    }
    if request_id.chars().count() > 128 || request_id.contains('\0') {
        return Err(Error::invalid("request_id", "must have at most 128 characters, and no zero byte"));
    }
    Ok(())
}
