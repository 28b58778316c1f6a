//! How MCP servers are, by what became of the last questions to each, and how the registry is by them. The
//! decisions are pure; only `survey` reads.

use std::time::Duration;

use ::store::Database;

use crate::{
    Error,
    store::{self, ServerRow, ServerState, ToolCounts},
};

/// Questions that are remembered of each server.
const WINDOW: usize = 20;
/// Stands for a question without an answer.
const NONE: i32 = -1;

/// What became of the last questions to a server, oldest first: milliseconds until the answer, or -1 without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answers(Vec<i32>);

impl Answers {
    /// Those that are stored.
    pub(crate) fn of(row: &ServerRow) -> Self {
        Self(row.answers.clone())
    }

    /// With one more; the oldest is forgotten.
    pub(crate) fn with(mut self, answer: Option<Duration>) -> Self {
        self.0.push(answer.map_or(NONE, |time| i32::try_from(time.as_millis()).unwrap_or(i32::MAX)));
        self.0.drain(..self.0.len().saturating_sub(WINDOW));
        self
    }

    /// What is stored.
    pub(crate) fn into_inner(self) -> Vec<i32> {
        self.0
    }

    /// Share of questions that were answered, 0 to 1; 1 before the first.
    pub(crate) fn health(&self) -> f64 {
        if self.0.is_empty() { 1.0 } else { share(self.answered().count(), self.0.len()) }
    }

    /// Median time until the answers, in milliseconds; 0 without any.
    pub(crate) fn latency_ms(&self) -> f64 {
        let mut times: Vec<i32> = self.answered().collect();
        times.sort_unstable();
        let middle = times.len() / 2;
        match (times.get(middle), times.get(middle.wrapping_sub(1))) {
            (Some(&upper), Some(&lower)) if times.len().is_multiple_of(2) => {
                f64::midpoint(upper.into(), lower.into())
            }
            (Some(&median), _) => median.into(),
            (None, _) => 0.0,
        }
    }

    /// The state of a server that answers, by the share of answers from which it is healthy.
    pub(crate) fn state(&self, threshold: f64) -> ServerState {
        if self.health() >= threshold { ServerState::Healthy } else { ServerState::Degraded }
    }

    fn answered(&self) -> impl Iterator<Item = i32> {
        self.0.iter().copied().filter(|time| *time != NONE)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    let number = |count| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(part) / number(whole)
}

/// How the registry is for one team.
#[derive(Debug)]
pub(crate) struct Survey {
    pub state: ServerState,
    /// Share of servers that are healthy; 1 without any.
    pub healthy_ratio: f64,
    pub servers: Vec<ServerRow>,
    pub tools: ToolCounts,
    pub revision: i64,
}

/// Looks at every server of a team and counts its tools.
pub(crate) async fn survey(database: &Database, team: &str, threshold: f64) -> Result<Survey, Error> {
    let pool = database.pool()?;
    let servers = store::server_list(pool, team).await?;
    let states: Vec<ServerState> = servers.iter().map(|server| server.state).collect();
    let (state, healthy_ratio) = overall(&states, threshold);
    let tools = store::tool_counts(pool, team).await?;
    Ok(Survey { state, healthy_ratio, servers, tools, revision: store::revision(pool).await? })
}

/// The state of all servers together, and the share of healthy ones.
fn overall(states: &[ServerState], threshold: f64) -> (ServerState, f64) {
    if states.is_empty() {
        return (ServerState::Healthy, 1.0);
    }
    let count = |wanted: &[ServerState]| states.iter().filter(|state| wanted.contains(state)).count();
    let ratio = share(count(&[ServerState::Healthy]), states.len());
    let state = if ratio >= threshold {
        ServerState::Healthy
    } else if count(&[ServerState::Healthy, ServerState::Degraded]) > 0 {
        ServerState::Degraded
    } else {
        ServerState::Unavailable
    };
    (state, ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(times: &[i32]) -> Answers {
        times.iter().fold(Answers::default(), |answers, time| {
            answers.with(u64::try_from(*time).ok().map(Duration::from_millis))
        })
    }

    #[allow(clippy::float_cmp, reason = "the quotients and medians are exact")]
    #[test]
    fn health_is_the_share_of_the_last_twenty_and_latency_the_median_of_the_answers() {
        assert_eq!((answers(&[]).health(), answers(&[]).latency_ms()), (1.0, 0.0));
        assert_eq!((answers(&[-1]).health(), answers(&[-1]).latency_ms()), (0.0, 0.0));
        let mixed = answers(&[30, -1, 10, 1_000]);
        assert_eq!((mixed.health(), mixed.latency_ms()), (0.75, 30.0));
        assert_eq!(answers(&[10, 20, 31, 40]).latency_ms(), 25.5);
        let mut long = vec![-1; 20];
        long.extend([5; 16]);
        let long = answers(&long);
        assert_eq!((long.health(), long.latency_ms()), (0.8, 5.0));
        assert_eq!(long.into_inner().len(), WINDOW);
    }

    #[test]
    fn the_threshold_itself_is_healthy() {
        assert_eq!(answers(&[1, 1, 1, 1, -1]).state(0.8), ServerState::Healthy);
        assert_eq!(answers(&[1, 1, 1, -1]).state(0.8), ServerState::Degraded);
        assert_eq!(answers(&[]).state(0.8), ServerState::Healthy);
    }

    #[test]
    fn the_registry_is_as_its_servers_are() {
        use ServerState::{Degraded, Healthy, Pending, Unavailable};
        let state = |states: &[ServerState]| overall(states, 0.8).0;
        assert_eq!(state(&[]), Healthy);
        assert_eq!(state(&[Healthy, Healthy, Healthy, Healthy, Unavailable]), Healthy);
        assert_eq!(state(&[Healthy, Healthy, Healthy, Unavailable]), Degraded);
        assert_eq!(state(&[Degraded, Unavailable]), Degraded);
        assert_eq!(state(&[Unavailable, Pending]), Unavailable);
    }
}
