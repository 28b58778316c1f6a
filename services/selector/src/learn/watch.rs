//! Watches each tool for a sudden fall of its success rate, over all agents of a team: raises an alarm, and ends it when
//! the tool has recovered. An agent that fails with it while as many others succeed is not heard: that it calls the tool
//! wrongly is no fault of the tool. Pure; alarms tell people, and rank nothing.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// What an outcome leaves of those before it in the rate that is usual.
const FORGET_USUAL: f64 = 0.98;
/// The same in the rate since an alarm: about the last seven outcomes.
const FORGET_RECENT: f64 = 0.85;
/// How far below the usual rate an outcome may be and yet say nothing.
const TOLERANCE: f64 = 0.2;
/// The Page-Hinkley sum that is an alarm: about six failures of a tool that hardly ever failed.
const THRESHOLD: f64 = 4.0;
/// Outcomes before which nothing is usual.
const SETTLED: i64 = 10;
/// Days after which what an alarm tells of is what is usual.
const ALARM_DAYS: i64 = 30;
/// How near to the usual rate the recent one must come to end an alarm.
const RECOVERED: f64 = 0.1;
/// What an outcome leaves of those before it in how an agent does: four failures in a row are failing.
const FORGET_VOICE: f64 = 0.8;
/// Below this an agent fails.
const FAILS: f64 = 0.5;
/// Most agents whose last outcomes are remembered, and how long they say something.
const VOICES: usize = 12;
const VOICE_HOURS: i64 = 1;

/// What is known of a tool's outcomes, in their order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Outcomes that counted.
    pub outcomes: i64,
    /// Faded outcomes and successes: the usual rate; they stand still while an alarm is on.
    pub usual_weight: f64,
    pub usual_success: f64,
    /// The Page-Hinkley sum, and since when it is above 0.
    pub fall: f64,
    pub fall_time: Option<DateTime<Utc>>,
    /// The alarm that is on.
    pub alarm_time: Option<DateTime<Utc>>,
    /// Since it began: the recent rate, and all outcomes and successes.
    pub recent: f64,
    pub since: i64,
    pub since_successes: i64,
    /// The agents that called it last.
    #[serde(default)]
    pub voices: Vec<Voice>,
}

/// How one agent has done with it lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Voice {
    agent: String,
    time: DateTime<Utc>,
    /// Its faded success rate.
    recent: f64,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// An alarm is on, since this time.
    Raised(DateTime<Utc>),
    /// The alarm of this time is over.
    Ended(DateTime<Utc>),
}

impl Watch {
    /// The usual success rate.
    pub(crate) fn usual(&self) -> f64 {
        (self.usual_success + 1.0) / (self.usual_weight + 2.0)
    }

    /// The success rate since the alarm began; the usual one without an alarm.
    pub(crate) fn rate_since(&self) -> f64 {
        if self.since == 0 { self.usual() } else { self.since_successes as f64 / self.since as f64 }
    }

    /// Takes the next outcome, if its agent is heard.
    pub(crate) fn step(&mut self, agent: &str, succeeded: bool, time: DateTime<Utc>) -> Option<Change> {
        if !self.hears(agent, succeeded, time) {
            return None;
        }
        self.outcomes += 1;
        let seen = f64::from(u8::from(succeeded));
        if let Some(start) = self.alarm_time {
            return self.recover(seen, start, time);
        }
        let off = self.usual() - seen - TOLERANCE;
        if self.outcomes > SETTLED {
            if self.fall <= 0.0 {
                (self.fall_time, self.since, self.since_successes) = (Some(time), 0, 0);
            }
            self.fall = (self.fall + off).max(0.0);
            self.since += 1;
            self.since_successes += i64::from(succeeded);
        }
        if self.fall > THRESHOLD {
            let start = self.fall_time.unwrap_or(time);
            (self.alarm_time, self.recent, self.fall) = (Some(start), 0.0, 0.0);
            return Some(Change::Raised(start));
        }
        self.usual_weight = self.usual_weight * FORGET_USUAL + 1.0;
        self.usual_success = self.usual_success * FORGET_USUAL + seen;
        None
    }

    /// Whether an agent's outcome says something of the tool: not where it fails, and no fewer others than fail with it
    /// have succeeded lately.
    fn hears(&mut self, agent: &str, succeeded: bool, time: DateTime<Utc>) -> bool {
        let own = self.voices.iter().position(|voice| voice.agent == agent);
        let before = own.map_or(1.0, |place| self.voices.remove(place).recent);
        let recent = FORGET_VOICE * before + (1.0 - FORGET_VOICE) * f64::from(u8::from(succeeded));
        if self.voices.len() >= VOICES {
            self.voices.remove(0);
        }
        self.voices.push(Voice { agent: agent.to_owned(), time, recent });
        let lately = |voice: &&Voice| time - voice.time < TimeDelta::hours(VOICE_HOURS);
        let (failing, succeeding): (Vec<&Voice>, Vec<&Voice>) =
            self.voices.iter().filter(lately).partition(|voice| voice.recent < FAILS);
        recent >= FAILS || failing.len() > succeeding.len()
    }

    fn recover(&mut self, seen: f64, start: DateTime<Utc>, time: DateTime<Utc>) -> Option<Change> {
        self.recent = self.recent * FORGET_RECENT + (1.0 - FORGET_RECENT) * seen;
        self.since += 1;
        self.since_successes += i64::from(seen > 0.5);
        let is_usual = time - start > TimeDelta::days(ALARM_DAYS);
        if self.recent < self.usual() - RECOVERED && !is_usual {
            return None;
        }
        if is_usual {
            *self = Self { voices: std::mem::take(&mut self.voices), ..Self::default() };
        }
        (self.alarm_time, self.fall_time, self.since, self.since_successes) = (None, None, 0, 0);
        Some(Change::Ended(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    #[test]
    fn an_alarm_begins_with_the_fall_and_ends_with_the_recovery() {
        let mut watch = Watch::default();
        let good = |second: i64| second % 20 != 0;
        assert!((0..200).all(|second| watch.step("a", good(second), at(second)).is_none()));
        let raised: Vec<_> =
            (200..220).filter_map(|second| watch.step("a", second % 5 == 4, at(second))).collect();
        let [Change::Raised(start)] = raised[..] else { panic!("{raised:?}") };
        assert_eq!(start, at(200), "it began with the first failure of the run");
        assert!(watch.usual() > 0.8 && watch.rate_since() < 0.3, "{watch:?}");
        assert!(
            (220..400).all(|second| watch.step("a", second % 5 == 4, at(second)).is_none()),
            "one alarm is enough"
        );
        let ended: Vec<_> = (401..420).filter_map(|second| watch.step("a", true, at(second))).collect();
        assert_eq!(ended, [Change::Ended(start)]);
    }

    #[test]
    fn neither_a_few_failures_nor_a_tool_that_always_failed_is_an_alarm() {
        let mut watch = Watch::default();
        assert!((0..9).all(|second| watch.step("a", false, at(second)).is_none()));
        assert!((9..500).all(|second| watch.step("a", second % 3 == 0, at(second)).is_none()), "{watch:?}");
        let mut watch = Watch::default();
        assert!((0..50).all(|second| watch.step("a", true, at(second)).is_none()));
        assert!((50..54).all(|second| watch.step("a", false, at(second)).is_none()), "{watch:?}");
    }

    #[test]
    fn an_agent_that_fails_alone_is_no_alarm_while_another_succeeds_and_one_once_nobody_else_calls() {
        let mut watch = Watch::default();
        let mut second = 0;
        let mut call = |agent: &str, succeeded: bool| {
            second += 1;
            watch.step(agent, succeeded, at(second))
        };
        for _ in 0..50 {
            assert_eq!((call("a", true), call("b", true)), (None, None));
        }
        assert_eq!(watch.outcomes, 100, "of two that call by turns both are always heard");
        let mut call = |agent: &str, succeeded: bool| {
            second += 1;
            watch.step(agent, succeeded, at(second))
        };
        for _ in 0..20 {
            assert!((0..50).all(|_| call("a", false).is_none()));
            assert_eq!(call("b", true), None);
        }
        let hours_later: Vec<_> =
            (0..20).filter_map(|second| watch.step("a", false, at(9_000 + second))).collect();
        assert!(matches!(hours_later[..], [Change::Raised(_)]), "{hours_later:?} {watch:?}");
        let mut watch = Watch::default();
        let agents = ["a", "a", "b"];
        assert!((0..150).all(|second| watch.step(agents[second % 3], true, at(100)).is_none()));
        let both: Vec<_> = (0..40).filter_map(|n| watch.step(agents[n % 3], false, at(100))).collect();
        assert!(matches!(both[..], [Change::Raised(_)]), "the tool fails for both: {both:?}");
    }
}
