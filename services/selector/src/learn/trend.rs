//! Whether a tool does better or worse than before, and how long its slow calls take: from its outcomes by the hour.
//! Pure. A value is never compared with itself: the earlier half of the calls stands against the later.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    blame,
    statistics::{Sample, Tally, means_p_value, rates_p_value},
};

/// Days of outcomes that trends and percentiles rest on.
pub(crate) const WINDOW_DAYS: i64 = 14;
/// Buckets of the histogram of durations: bucket i has those below 2^(i/2) ms, the last all the others, from about an
/// hour up.
pub(crate) const BUCKETS: usize = 45;
/// Least outcomes of each half that say anything.
const LEAST: u64 = 8;
/// Below this chance, a difference is taken for one.
const SIGNIFICANT: f64 = 0.05;
/// Differences below these matter to no one, however certain they are: shares of successes, and a tenth of the duration.
const LEAST_RATE: f64 = 0.02;
const LEAST_LOG_MS: f64 = 0.1;

/// Outcomes of a tool in one hour that ended alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the names of the columns")]
pub(crate) struct Hour {
    pub hour: DateTime<Utc>,
    /// Empty: succeeded.
    pub failure_reason: String,
    pub calls: i64,
    pub cached: i64,
    pub fell_back: i64,
    /// Sums over calls that ran: ln(1 + ms), and its square.
    pub log_ms: f64,
    pub log_ms_square: f64,
    pub cost_micro_usd: f64,
    /// Calls that ran, by duration; empty where they are read by agent instead.
    pub durations: Vec<i64>,
    pub first_time: DateTime<Utc>,
    pub last_time: DateTime<Utc>,
}

/// Which way a tool goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Direction {
    /// Too few outcomes to say.
    #[default]
    Unknown,
    Improving,
    Stable,
    Degrading,
}

impl Direction {
    /// The word it is printed as; empty: not known.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Improving => "improving",
            Self::Stable => "stable",
            Self::Degrading => "degrading",
        }
    }
}

/// Which way, and how certain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trend {
    pub direction: Direction,
    /// Of the test behind it; 1 without one.
    pub p_value: f64,
    /// "success" or "latency"; empty when stable or not known.
    pub of: &'static str,
}

impl Default for Trend {
    fn default() -> Self {
        Self { direction: Direction::Unknown, p_value: 1.0, of: "" }
    }
}

/// The bucket of a duration.
pub(crate) fn bucket(duration_ms: f64) -> usize {
    let place = (2.0 * duration_ms.max(0.0).log2()).floor() + 1.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the buckets")]
    let bucket = place.clamp(0.0, (BUCKETS - 1) as f64) as usize;
    bucket
}

/// The duration in milliseconds below which this share of the calls of a histogram ended: within its bucket as if spread
/// evenly over the logarithm. `None` without a call.
pub(crate) fn percentile(calls: &[f64; BUCKETS], share: f64) -> Option<f64> {
    let wanted = share * calls.iter().sum::<f64>();
    let mut before = 0.0;
    for (bucket, within) in calls.iter().enumerate().filter(|(_, calls)| **calls > 0.0) {
        if before + within >= wanted {
            let part = ((wanted - before) / within).clamp(0.0, 1.0);
            return Some(if bucket == 0 { part } else { (0.5 * (bucket as f64 - 1.0 + part)).exp2() });
        }
        before += within;
    }
    None
}

/// The trend of these hours. Success speaks before latency.
pub(crate) fn trend(hours: &[Hour]) -> Trend {
    let mut counted: Vec<&Hour> = hours.iter().filter(|hour| runs(hour) > 0).collect();
    counted.sort_by_key(|hour| hour.hour);
    let Some((earlier, later)) = halves(&counted) else { return Trend::default() };
    let ([before, after], [slow_before, slow_after]) =
        ([tally(earlier), tally(later)], [sample(earlier), sample(later)]);
    if before.total() < LEAST || after.total() < LEAST {
        return Trend::default();
    }
    let p_value = rates_p_value(before, after);
    let gain = after.rate() - before.rate();
    if p_value < SIGNIFICANT && gain.abs() >= LEAST_RATE {
        return turned(gain > 0.0, p_value, "success");
    }
    let slower = slow_after.mean() - slow_before.mean();
    let of_latency = if slow_before.count.min(slow_after.count) < LEAST as f64 {
        1.0
    } else {
        means_p_value(slow_before, slow_after)
    };
    if of_latency < SIGNIFICANT && slower.abs() >= LEAST_LOG_MS {
        return turned(slower < 0.0, of_latency, "latency");
    }
    Trend { direction: Direction::Stable, p_value: p_value.min(of_latency), of: "" }
}

fn turned(better: bool, p_value: f64, of: &'static str) -> Trend {
    let direction = if better { Direction::Improving } else { Direction::Degrading };
    Trend { direction, p_value, of }
}

/// The hours up to the one in which half of the calls were made, and the others; an hour is not parted. `None` when all
/// were made in one hour.
fn halves<'a, 'b>(hours: &'a [&'b Hour]) -> Option<(&'a [&'b Hour], &'a [&'b Hour])> {
    let all: i64 = hours.iter().map(|hour| runs(hour)).sum();
    let mut sum = 0;
    let mut best: Option<(i64, usize)> = None;
    for place in 1..hours.len() {
        sum += runs(hours[place - 1]);
        if hours[place].hour != hours[place - 1].hour {
            let off = (2 * sum - all).abs();
            best = best.filter(|(nearest, _)| *nearest <= off).or(Some((off, place)));
        }
    }
    best.map(|(_, place)| hours.split_at(place))
}

/// Calls that say something of the tool's success.
fn runs(hour: &Hour) -> i64 {
    let says = hour.failure_reason.is_empty() || blame::counts(&hour.failure_reason);
    if says { hour.calls - hour.cached } else { 0 }
}

fn tally(hours: &[&Hour]) -> Tally {
    let sum = |of_success: bool| {
        let some = hours.iter().filter(|hour| hour.failure_reason.is_empty() == of_success);
        u64::try_from(some.map(|hour| runs(hour)).sum::<i64>()).unwrap_or(0)
    };
    Tally { successes: sum(true), failures: sum(false) }
}

/// Durations of the calls that succeeded: one that fails at once is not fast.
fn sample(hours: &[&Hour]) -> Sample {
    let some = hours.iter().filter(|hour| hour.failure_reason.is_empty());
    some.fold(Sample::default(), |sample, hour| Sample {
        count: sample.count + runs(hour) as f64,
        sum: sample.sum + hour.log_ms,
        squares: sample.squares + hour.log_ms_square,
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    /// An hour of calls of the same duration, give or take a hundredth.
    fn hour(number: i64, failure_reason: &str, calls: i64, duration_ms: f64) -> Hour {
        let hour = DateTime::UNIX_EPOCH + TimeDelta::hours(number);
        let mut durations = vec![0; BUCKETS];
        durations[bucket(duration_ms)] = calls;
        let logs = (0..calls).map(|call| (1.0 + duration_ms).ln() + 0.01 * (call % 3 - 1) as f64);
        Hour {
            hour,
            failure_reason: failure_reason.into(),
            calls,
            cached: 0,
            fell_back: 0,
            log_ms: logs.clone().sum(),
            log_ms_square: logs.map(|log| log * log).sum(),
            cost_micro_usd: 0.0,
            durations,
            first_time: hour,
            last_time: hour,
        }
    }

    #[test]
    fn a_tool_that_fails_more_is_degrading_and_one_that_fails_less_improving() {
        let (good, bad) = ([(19, 1), (20, 0)], [(8, 12), (6, 14)]);
        let told = |parts: [[(i64, i64); 2]; 2]| {
            let hours: Vec<Hour> = parts
                .iter()
                .flatten()
                .zip(0..)
                .flat_map(|((succeeded, failed), at)| {
                    [hour(at, "", *succeeded, 50.0), hour(at, "TIMEOUT", *failed, 50.0)]
                })
                .collect();
            trend(&hours)
        };
        let worse = told([good, bad]);
        assert_eq!((worse.direction, worse.of), (Direction::Degrading, "success"));
        assert!(worse.p_value < 1e-6, "{worse:?}");
        assert_eq!(told([bad, good]).direction, Direction::Improving);
        let same = told([good, good]);
        assert_eq!((same.direction, same.of), (Direction::Stable, ""));
    }

    #[test]
    fn a_slower_tool_is_degrading_by_latency() {
        let worse = trend(&[hour(0, "", 20, 50.0), hour(1, "", 20, 75.0)]);
        assert_eq!((worse.direction, worse.of), (Direction::Degrading, "latency"));
        let better = trend(&[hour(0, "", 20, 75.0), hour(1, "", 20, 50.0)]);
        assert_eq!((better.direction, better.of), (Direction::Improving, "latency"));
        let hardly = trend(&[hour(0, "", 20, 50.0), hour(1, "", 20, 51.5)]);
        assert_eq!(hardly.direction, Direction::Stable, "certain, and of no matter: {hardly:?}");
    }

    #[test]
    fn what_says_nothing_of_the_tool_makes_no_trend() {
        let few = trend(&[hour(0, "", 7, 50.0), hour(1, "TIMEOUT", 7, 50.0)]);
        assert_eq!(few, Trend::default());
        assert_eq!(trend(&[hour(0, "", 500, 50.0)]), Trend::default(), "one hour has no halves");
        assert_eq!(trend(&[]), Trend::default());
        let refused = [hour(0, "", 20, 50.0), hour(1, "", 20, 50.0), hour(1, "RATE_LIMITED", 40, 0.0)];
        assert_eq!(trend(&refused).direction, Direction::Stable, "the platform refused, not the tool");
        let cached = Hour { calls: 40, cached: 40, ..hour(1, "", 0, 1.0) };
        assert_eq!(trend(&[hour(0, "", 20, 50.0), cached]), Trend::default());
        let kept_failures = Hour { cached: 40, ..hour(1, "TOOL_FAILED", 40, 1.0) };
        let stable = [hour(0, "", 20, 50.0), hour(1, "", 20, 50.0), kept_failures];
        assert_eq!(trend(&stable).direction, Direction::Stable, "a failure that was kept is not the tool's");
    }

    #[test]
    fn the_percentile_is_within_its_bucket() {
        assert_eq!(
            [bucket(0.0), bucket(0.9), bucket(1.0), bucket(1.5), bucket(1e12)],
            [0, 0, 1, 2, BUCKETS - 1]
        );
        let mut calls = [0.0; BUCKETS];
        assert_eq!(percentile(&calls, 0.95), None);
        (calls[bucket(10.0)], calls[bucket(1_000.0)]) = (90.0, 10.0);
        let slow = percentile(&calls, 0.95).unwrap();
        assert!((724.0..=1_024.1).contains(&slow), "{slow}");
        let middle = percentile(&calls, 0.5).unwrap();
        assert!((8.0..=11.4).contains(&middle), "{middle}");
    }
}
