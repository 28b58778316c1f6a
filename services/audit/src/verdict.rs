//! What an execution and the trail say of each other. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::Traces;

/// What may be wrong; the names are those of `toolcrib.audit.v1.Finding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    OutcomeMissing,
    OutcomeTwice,
    IntentMissing,
    NotEnded,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OutcomeMissing => "OUTCOME_MISSING",
            Self::OutcomeTwice => "OUTCOME_TWICE",
            Self::IntentMissing => "INTENT_MISSING",
            Self::NotEnded => "NOT_ENDED",
        }
    }
}

/// What the executor knows of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub ended: bool,
    pub end_time: Option<DateTime<Utc>>,
    /// Until when it may run; `None`: it has ended, or waits.
    pub latest_end_time: Option<DateTime<Utc>>,
}

/// What that comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One intent, one outcome.
    Sound,
    /// It goes on, or its outcome is on its way.
    Wait,
    /// Something is wrong; for people.
    Found(Kind, String),
}

/// Compares. What is younger than `grace` may still be on its way from the executor.
pub(crate) fn verdict(known: Option<Known>, traces: Traces, now: DateTime<Utc>, grace: TimeDelta) -> Verdict {
    let Some(known) = known else {
        let told =
            format!("the trail has {} events of it, and the executor has no record of it", traces.events);
        return Verdict::Found(Kind::IntentMissing, told);
    };
    let is_past = |at: Option<DateTime<Utc>>| at.filter(|at| *at < now - grace);
    match (known.ended, traces.outcomes) {
        (true, 1) => Verdict::Sound,
        (true, 0) => match is_past(known.end_time) {
            Some(at) => {
                let told = format!("it ended at {}, and the trail has no event of its outcome", text(at));
                Verdict::Found(Kind::OutcomeMissing, told)
            }
            None => Verdict::Wait,
        },
        (true, many) => {
            let told = format!("the trail has {many} outcomes of it, where an execution has one");
            Verdict::Found(Kind::OutcomeTwice, told)
        }
        (false, _) => match is_past(known.latest_end_time) {
            Some(at) => {
                let told = format!("it could run until {} at most, and no end of it is on record", text(at));
                Verdict::Found(Kind::NotEnded, told)
            }
            None => Verdict::Wait,
        },
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_intent_has_one_outcome_or_is_explained() {
        let (now, grace) = (Utc::now(), TimeDelta::seconds(120));
        let (past, young) = (now - TimeDelta::seconds(121), now - TimeDelta::seconds(119));
        let ended = |at| Some(Known { ended: true, end_time: Some(at), latest_end_time: None });
        let open = |latest_end_time| Some(Known { ended: false, end_time: None, latest_end_time });
        let of = |known, outcomes| match verdict(known, Traces { outcomes, events: outcomes + 2 }, now, grace)
        {
            Verdict::Found(kind, _) => kind.as_str(),
            Verdict::Sound => "sound",
            Verdict::Wait => "wait",
        };
        assert_eq!((of(ended(past), 1), of(ended(young), 1)), ("sound", "sound"));
        assert_eq!((of(ended(past), 0), of(ended(young), 0)), ("OUTCOME_MISSING", "wait"));
        assert_eq!((of(ended(past), 2), of(ended(young), 3)), ("OUTCOME_TWICE", "OUTCOME_TWICE"));
        assert_eq!((of(open(Some(past)), 0), of(open(Some(young)), 0)), ("NOT_ENDED", "wait"));
        assert_eq!(
            (of(open(None), 0), of(open(None), 1)),
            ("wait", "wait"),
            "one that waits may wait for long"
        );
        assert_eq!((of(None, 0), of(None, 1)), ("INTENT_MISSING", "INTENT_MISSING"));
    }
}
