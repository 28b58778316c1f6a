//! Ids and times, as messages have them. The one mapping of both.

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use crate::Error;

pub(super) fn id(field: &str, text: &str) -> Result<Uuid, Error> {
    text.parse().map_err(|_| Error::invalid(field, "is not set or not a UUID"))
}

pub(super) fn time(field: &str, at: prost_types::Timestamp) -> Result<DateTime<Utc>, Error> {
    u32::try_from(at.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
        .map(|at| at.trunc_subsecs(6))
        .ok_or_else(|| Error::invalid(field, "is not a time"))
}

/// Now, as exact as the database keeps it: what is answered first is what is read later.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

pub(super) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}
