//! Failures of one cause that come near each other in time: one fault, seen many times. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

/// Longest time without such a failure inside a cluster.
const LONGEST_GAP: TimeDelta = TimeDelta::hours(1);
/// Fewest failures that are a cluster.
const FEWEST: i64 = 5;
/// Least share of the tool's calls in that time that failed so.
const LEAST_SHARE: f64 = 0.2;

/// What failed of one tool in one hour for one reason.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failures {
    pub tool_name: String,
    pub failure_reason: String,
    pub hour: DateTime<Utc>,
    pub calls: i64,
    pub agents: Vec<String>,
    pub first_time: DateTime<Utc>,
    pub last_time: DateTime<Utc>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cluster {
    pub tool_name: String,
    pub failure_reason: String,
    pub start_time: DateTime<Utc>,
    pub end_time: DateTime<Utc>,
    pub count: i64,
    /// Agents concerned.
    pub agents: usize,
    /// Share of the tool's calls in these hours that failed so.
    pub share: f64,
}

/// Calls that ran, by tool and hour.
pub(crate) type CallsByHour = HashMap<String, BTreeMap<DateTime<Utc>, i64>>;

/// The clusters, the largest first.
pub(crate) fn clusters(mut failures: Vec<Failures>, calls: &CallsByHour) -> Vec<Cluster> {
    failures.sort_by(|left, right| {
        let by_cause = left.tool_name.cmp(&right.tool_name);
        let by_cause = by_cause.then_with(|| left.failure_reason.cmp(&right.failure_reason));
        by_cause.then(left.first_time.cmp(&right.first_time))
    });
    let joins = |left: &Failures, right: &Failures| {
        left.tool_name == right.tool_name
            && left.failure_reason == right.failure_reason
            && right.first_time - left.last_time <= LONGEST_GAP
    };
    let mut found: Vec<Cluster> =
        failures.chunk_by(joins).filter_map(|members| cluster(members, calls)).collect();
    found.sort_by(|left, right| {
        let by_size = right.count.cmp(&left.count).then(right.end_time.cmp(&left.end_time));
        by_size.then_with(|| {
            (&left.tool_name, &left.failure_reason).cmp(&(&right.tool_name, &right.failure_reason))
        })
    });
    found
}

/// The cluster that these failures are; `None`: they are too few.
fn cluster(members: &[Failures], calls: &CallsByHour) -> Option<Cluster> {
    let first = members.first()?;
    let count: i64 = members.iter().map(|member| member.calls).sum();
    if count < FEWEST {
        return None;
    }
    let hours: BTreeSet<DateTime<Utc>> = members.iter().map(|member| member.hour).collect();
    let (begin, end) = (hours.first()?, hours.last()?);
    let of_tool = calls.get(&first.tool_name);
    let all: i64 = of_tool.map_or(0, |hours| hours.range(begin..=end).map(|(_, calls)| calls).sum());
    let share = count as f64 / all.max(count).max(1) as f64;
    let agents: BTreeSet<&String> = members.iter().flat_map(|member| &member.agents).collect();
    (share >= LEAST_SHARE).then(|| Cluster {
        tool_name: first.tool_name.clone(),
        failure_reason: first.failure_reason.clone(),
        start_time: first.first_time,
        end_time: members.iter().map(|member| member.last_time).max().unwrap_or(first.last_time),
        count,
        agents: agents.len(),
        share,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn failures(reason: &str, (first, last): (i64, i64), calls: i64, agents: &[&str]) -> Failures {
        Failures {
            tool_name: "tool".into(),
            failure_reason: reason.into(),
            hour: at(first / 60 * 60),
            calls,
            agents: agents.iter().map(|&agent| agent.into()).collect(),
            first_time: at(first),
            last_time: at(last),
        }
    }

    fn calls(by_hour: &[(i64, i64)]) -> CallsByHour {
        let of_tool = by_hour.iter().map(|(hour, calls)| (at(hour * 60), *calls)).collect();
        CallsByHour::from([("tool".to_owned(), of_tool)])
    }

    #[test]
    fn failures_of_one_reason_join_over_the_hour_and_a_longer_gap_parts_them() {
        let rows = vec![
            failures("TIMEOUT", (50, 58), 3, &["a"]),
            failures("TIMEOUT", (61, 70), 4, &["a", "b"]),
            failures("TIMEOUT", (200, 210), 6, &["c"]),
            failures("UPSTREAM_AUTH", (65, 66), 5, &["a"]),
        ];
        let found = clusters(rows, &calls(&[(0, 10), (1, 10), (3, 12)]));
        let told: Vec<_> = found.iter().map(|it| (it.failure_reason.as_str(), it.count, it.agents)).collect();
        assert_eq!(told, [("TIMEOUT", 7, 2), ("TIMEOUT", 6, 1), ("UPSTREAM_AUTH", 5, 1)]);
        assert_eq!((found[0].start_time, found[0].end_time), (at(50), at(70)));
        assert!((found[0].share - 0.35).abs() < 1e-9 && (found[1].share - 0.5).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn four_failures_or_one_of_ten_calls_are_no_cluster() {
        let few = vec![failures("TIMEOUT", (0, 5), 4, &["a"])];
        assert!(clusters(few, &calls(&[(0, 4)])).is_empty());
        let rare = || vec![failures("TIMEOUT", (0, 5), 5, &["a"])];
        assert!(clusters(rare(), &calls(&[(0, 50)])).is_empty());
        assert_eq!(clusters(rare(), &calls(&[(0, 25)])).len(), 1, "a fifth is enough");
    }
}
