//! How well a tool has done, from its history: success above all, then latency and cost against the
//! other candidates'. Pure; 0.5 is neutral and what a tool without history has.

use chrono::{DateTime, Utc};

use crate::history::{Counts, ToolHistory};

/// Shares of the three parts; they sum to 1.
const SUCCESS: f64 = 0.7;
const LATENCY: f64 = 0.2;
const COST: f64 = 0.1;
/// Executions' worth of doubt: the prior of the team's success rate is Beta(1, 1).
const PRIOR: f64 = 2.0;
/// Executions of one agent that weigh as much as what the whole team saw.
const BACK_OFF: f64 = 4.0;
/// A deprecated tool keeps this share of its suitability.
pub(crate) const DEPRECATED: f64 = 0.5;
/// Differences below these say nothing: 10 ms, and a hundredth of a cent.
const SMALL_MS: f64 = 10.0;
const SMALL_MICRO_USD: f64 = 100.0;

/// One tool's history as an agent sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// The agent's own calls.
    pub own: Counts,
    /// The calls of the whole team.
    pub team: Counts,
}

impl Record {
    pub(crate) fn new(history: &ToolHistory, agent: &str, now: DateTime<Utc>) -> Self {
        let own = history.agents.get(agent).map(|counts| counts.as_of(now)).unwrap_or_default();
        Self { own, team: history.team.as_of(now) }
    }

    /// Beta-smoothed success rate: the agent's own, backed off to the team's, backed off to one half.
    fn success(&self) -> f64 {
        let team = (self.team.success_weight + PRIOR / 2.0) / (self.team.weight + PRIOR);
        (self.own.success_weight + BACK_OFF * team) / (self.own.weight + BACK_OFF)
    }
}

/// Suitability of each candidate, 0 to 1, in their order.
pub(crate) fn suitabilities(records: &[Option<Record>]) -> Vec<f64> {
    let typical =
        |value: fn(&Counts) -> f64| median(records.iter().flatten().map(|it| value(&it.team)).collect());
    let typical_ms = typical(Counts::average_ms);
    let typical_cost = typical(Counts::average_cost);
    let score = |record: &Record| {
        let trust = record.team.weight / (record.team.weight + BACK_OFF);
        let latency = against(record.team.average_ms(), typical_ms, SMALL_MS);
        let cost = against(record.team.average_cost(), typical_cost, SMALL_MICRO_USD);
        let soften = |part: f64| 0.5 + trust * (part - 0.5);
        SUCCESS * record.success() + LATENCY * soften(latency) + COST * soften(cost)
    };
    records.iter().map(|record| record.as_ref().map_or(0.5, score)).collect()
}

/// 0.5 when as typical, towards 1 when less, towards 0 when more; a third at twice the typical.
fn against(value: f64, typical: f64, small: f64) -> f64 {
    (typical + small) / (typical + value + 2.0 * small)
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(executions: f64, successes: f64, average_ms: f64) -> Counts {
        Counts {
            weight: executions,
            success_weight: successes,
            duration_ms: average_ms * executions,
            ..Counts::default()
        }
    }

    fn team(executions: f64, successes: f64, average_ms: f64) -> Record {
        Record { team: counts(executions, successes, average_ms), own: Counts::default() }
    }

    fn suit(records: &[Record]) -> Vec<f64> {
        suitabilities(&records.iter().cloned().map(Some).collect::<Vec<_>>())
    }

    #[test]
    fn no_history_is_neutral_and_success_decides() {
        let scores = suitabilities(&[None, Some(team(20.0, 20.0, 50.0)), Some(team(20.0, 2.0, 50.0))]);
        assert!((scores[0] - 0.5).abs() < f64::EPSILON);
        assert!(scores[1] > 0.75 && scores[2] < 0.35, "{scores:?}");
    }

    #[test]
    fn one_success_says_less_than_twenty() {
        let scores = suit(&[team(1.0, 1.0, 50.0), team(20.0, 20.0, 50.0)]);
        assert!(scores[0] > 0.5 && scores[0] < scores[1], "{scores:?}");
    }

    #[test]
    fn the_agents_own_failures_outweigh_the_teams_successes() {
        let teams = team(20.0, 15.0, 50.0);
        let own = Record { own: counts(5.0, 0.0, 50.0), ..teams.clone() };
        let scores = suit(&[teams, own]);
        assert!(scores[1] < 0.5 && scores[1] < scores[0] - 0.15, "{scores:?}");
    }

    #[test]
    fn the_faster_of_two_is_better_and_noise_is_none() {
        let scores = suit(&[team(20.0, 20.0, 2_000.0), team(20.0, 20.0, 200.0)]);
        assert!(scores[1] > scores[0] + 0.05, "{scores:?}");
        let scores = suit(&[team(20.0, 20.0, 1.0), team(20.0, 20.0, 2.0)]);
        assert!((scores[0] - scores[1]).abs() < 0.01, "{scores:?}");
    }

    #[test]
    fn every_score_is_within_bounds() {
        let records = [team(1e9, 1e9, 0.0), team(1e9, 0.0, 1e12), team(1e-60, 0.0, 5.0)];
        for score in suit(&records) {
            assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }
}
