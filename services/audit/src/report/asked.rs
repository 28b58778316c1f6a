//! What is asked for, and what of it cannot be. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use trail::report::{Format, Framework};

use crate::{Error, payload::micros};

/// How far the clock of whoever asks may be ahead.
const SKEW: TimeDelta = TimeDelta::seconds(5);
/// Longest name of an end user, in bytes: no caller has a longer one.
const MAX_USER: usize = 1_000;

/// A report that is asked for. No `Debug`, so that no log line ever has its user.
#[derive(Clone)]
pub(crate) struct Asked {
    pub framework: Framework,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    /// Empty: of whomever.
    pub user: String,
    pub format: Format,
}

impl Asked {
    /// Checks it; the period's end is now at the latest.
    pub(crate) fn check(mut self, now: DateTime<Utc>) -> Result<Self, Error> {
        let Self { framework, start, end, user, .. } = &mut self;
        if *end > now + SKEW {
            return Err(Error::invalid("end_time", "lies in the future; a report covers what has happened"));
        }
        // As the trail has times, and never up to what still happens.
        (*start, *end) = (micros(*start), micros((*end).min(now)));
        if *start >= *end {
            return Err(Error::invalid("end_time", "must be after start_time"));
        }
        if *start < DateTime::UNIX_EPOCH {
            return Err(Error::invalid("start_time", "must be 1970 or later"));
        }
        if framework.needs_subject() && user.is_empty() {
            let told = format!("is required: {} is about one data subject", framework.name());
            return Err(Error::invalid("user", told));
        }
        if user.len() > MAX_USER || user.contains('\0') {
            return Err(Error::invalid(
                "user",
                format!("must have at most {MAX_USER} bytes, and no zero byte"),
            ));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_a_begin_and_an_end_that_is_not_to_come() {
        let now = Utc::now();
        let of = |start, end, framework, user: &str| {
            let asked = Asked { framework, start, end, user: user.into(), format: Format::Jsonl };
            match asked.check(now) {
                Ok(_) => String::new(),
                Err(Error::Invalid { field, .. }) => field,
                Err(_) => "other".into(),
            }
        };
        let (soc2, day) = (Framework::Soc2Cc7, TimeDelta::days(1));
        assert_eq!(of(now - day, now, soc2, ""), "");
        assert_eq!(of(now - day, now + day, soc2, ""), "end_time");
        assert_eq!(of(now, now, soc2, ""), "end_time");
        assert_eq!(of(now, now - day, soc2, ""), "end_time");
        assert_eq!(of(DateTime::UNIX_EPOCH - day, now, soc2, ""), "start_time");
        assert_eq!(of(now - day, now, Framework::GdprAccess, ""), "user");
        assert_eq!(of(now - day, now, Framework::HipaaDisclosures, ""), "user");
        assert_eq!(of(now - day, now, Framework::HipaaDisclosures, "ada"), "");
        assert_eq!(of(now - day, now, soc2, &"x".repeat(1_001)), "user");
    }
}
