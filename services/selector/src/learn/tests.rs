//! What learning as a whole must hold to: properties over random histories, and how the ranking turns.

mod properties;
mod simulation;

use chrono::{DateTime, TimeDelta, Utc};
use types::Category;
use uuid::Uuid;

use super::{
    memory::{Changes, Learned, RecordRow},
    standing::{Standing, View, standings},
    write::{Fresh, Known},
};
use crate::{policy::Weights, store::OutcomeRow};

/// The built-in weights.
pub(super) const WEIGHTS: Weights =
    Weights { matching: 0.6, capability: 0.5, success: 0.6, latency: 0.15, cost: 0.1, quality: 0.15 };

/// One call: agent, tool, category, whether it succeeded, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ran {
    pub agent: &'static str,
    pub tool: &'static str,
    pub category: Category,
    pub succeeded: bool,
    pub duration_ms: f64,
}

/// A team that learns as the service does, without its database.
#[derive(Debug, Default)]
pub(super) struct Team {
    known: Known,
    learned: Learned,
    calls: u128,
    /// Transactions so far.
    written: i64,
}

impl Team {
    /// Takes these calls in one batch, each a second after the one before.
    pub(super) fn record(&mut self, calls: &[Ran]) {
        let rows: Vec<(OutcomeRow, Category)> = calls
            .iter()
            .map(|ran| {
                self.calls += 1;
                (row(*ran, self.calls), ran.category)
            })
            .collect();
        self.take(&rows);
    }

    fn take(&mut self, rows: &[(OutcomeRow, Category)]) {
        let fresh: Vec<Fresh> =
            rows.iter().map(|(row, category)| Fresh { row, category: *category, task: None }).collect();
        self.known.learn(&fresh, now());
        self.publish();
    }

    pub(super) fn rate(&mut self, agent: &'static str, tool: &'static str, quality: f64) {
        let key = ("t".to_owned(), tool.to_owned(), agent.to_owned(), Category::Custom);
        self.known.records.entry(key).or_default().rate(Some(quality), None, now());
        self.publish();
    }

    fn publish(&mut self) {
        self.written += 1;
        let records = self.known.records.iter().map(|((team, tool, agent, category), counts)| RecordRow {
            team_id: team.clone(),
            tool_name: tool.clone(),
            agent_id: agent.clone(),
            category: *category,
            counts: counts.clone(),
            changed_in: self.written,
        });
        self.learned.put(Changes { records: records.collect(), ..Changes::default() });
    }

    /// How these tools stand with an agent.
    pub(super) fn standings(&self, agent: &str, category: Category, tools: &[&str]) -> Vec<Standing> {
        let team = self.learned.team("t");
        let candidates: Vec<_> = tools.iter().map(|tool| team.get(*tool).map(AsRef::as_ref)).collect();
        standings(&candidates, View { agent, category: Some(category), now: now() })
    }

    /// The suitability of one tool among these.
    pub(super) fn suitability(&self, agent: &str, tools: &[&str]) -> Vec<f64> {
        let standings = self.standings(agent, Category::Custom, tools);
        standings.iter().map(|standing| standing.suitability(&WEIGHTS)).collect()
    }
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(1)
}

fn row(ran: Ran, number: u128) -> OutcomeRow {
    OutcomeRow {
        event_id: Uuid::from_u128(number),
        team_id: "t".into(),
        agent_id: ran.agent.into(),
        tool_name: ran.tool.into(),
        execution_id: None,
        selection_id: None,
        succeeded: ran.succeeded,
        duration_ms: ran.duration_ms,
        cost_micro_usd: 100,
        event_time: DateTime::UNIX_EPOCH + TimeDelta::seconds(i64::try_from(number).unwrap()),
        task_id: String::new(),
        failure_reason: if ran.succeeded { String::new() } else { "TOOL_FAILED".into() },
        cached: false,
        arguments_hash: String::new(),
        timeout_ms: 0,
        fell_back: false,
        effect: String::new(),
    }
}

/// Random numbers that are the same in every run: xorshift (G. Marsaglia, 2003).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the end")]
        let number = (self.next() * end as f64) as usize;
        number.min(end - 1)
    }
}
