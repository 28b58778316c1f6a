//! Looks after one MCP server: discovers and probes it when it is time, hears what it says, and keeps its state.
//! Every write is bound to the lease. Must never wait for another server, nor let one that flaps or lies cause
//! more than a little work.

use std::{sync::Arc, time::Duration};

use ::rpc::ServiceError;
use tokio::{sync::watch, time::Instant};

use crate::{
    Error,
    discover::{News, Session},
    equip::{self, Equipped},
    health::Answers,
    keep::Shared,
    normalise::clean,
    store::{self, Outcome, ServerKey, ServerRow, ServerState, Sign},
    take,
};

/// Pause when the database does not answer.
const DATABASE_PAUSE: Duration = Duration::from_secs(5);
/// Pause after the first failed attempt, and after the first failed discovery; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// Least time between a server's word that its tools changed and the next discovery; doubled each time when it
/// says so more often than this within a minute.
const SETTLE: Duration = Duration::from_secs(1);
const PATIENT_WITH: u32 = 3;
/// A connection that lasted so long ended for a reason of its own; a server that was silent for so long announces
/// a change of its own.
const STEADY: Duration = Duration::from_mins(1);
/// How long a sign of life may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest text of an error that is kept, in characters.
const MAX_ERROR: usize = 500;

/// Why a discovery did not work.
enum Failure {
    /// The server's fault.
    Server(String),
    /// The operator does not allow it; another attempt changes nothing.
    Refused(String),
    /// Our own.
    Own(Error),
}

/// Looks after one server.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    key: ServerKey,
    /// The last discovery asked for; its end means that the server is gone, or another process has it.
    wanted: watch::Receiver<i64>,
    session: Option<Session>,
    /// What the session was opened with.
    equipped: Option<Equipped>,
    /// Whether the session ended by itself since the last look.
    has_closed: bool,
    /// Connections in a row that ended early.
    closed_early: u32,
    /// Changes announced in a row, and when the last was.
    announced: (u32, Option<Instant>),
    /// When to list again because of what the session said.
    again: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, key: ServerKey, wanted: watch::Receiver<i64>) -> Self {
        Self {
            shared,
            key,
            wanted,
            session: None,
            equipped: None,
            has_closed: false,
            closed_early: 0,
            announced: (0, None),
            again: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut is_new = true;
        loop {
            let pause = match self.kept().await {
                Ok(Some(mut server)) => {
                    if std::mem::take(&mut is_new) && answers(&server) {
                        // What it announced before was heard by another process, or by none.
                        self.again = Some(Instant::now());
                    }
                    self.tend(&mut server).await
                }
                // Another process has it, or it is gone.
                Ok(None) => break,
                Err(_) => DATABASE_PAUSE,
            };
            if !self.rest(pause).await {
                break;
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        if let Ok(pool) = self.shared.database.pool() {
            let released = store::lease_release(pool, &self.key, self.shared.owner).await;
            tracing::debug!(released = released.is_ok(), "mcp server let go");
        }
    }

    async fn kept(&self) -> Result<Option<ServerRow>, Error> {
        Ok(store::server_kept(self.shared.database.pool()?, &self.key, self.shared.owner).await?)
    }

    /// Discovers or probes if it is time, and gives how long to rest then.
    async fn tend(&mut self, server: &mut ServerRow) -> Duration {
        if std::mem::take(&mut self.has_closed) {
            self.note_end(server).await;
        }
        let heard = self.again.is_some_and(|at| at <= Instant::now());
        let lists = server.is_due() || heard;
        // One that does not answer is discovered again soon; that is its probe.
        let probes = !lists && answers(server) && server.probe_in_ms <= 0 && self.again.is_none();
        if !lists && !probes {
            return self.until_next(server);
        }
        let (shared, mut wanted) = (Arc::clone(&self.shared), self.wanted.clone());
        let retries =
            if answers(server) || server.state == ServerState::Pending { shared.retries } else { 0 };
        let work = async {
            if probes { self.probe(server).await } else { self.discover(server, retries, true).await }
        };
        tokio::select! {
            pause = work => pause,
            () = shared.stop.cancelled() => Duration::ZERO,
            () = async { while wanted.changed().await.is_ok() {} } => Duration::ZERO,
        }
    }

    fn until_next(&self, server: &ServerRow) -> Duration {
        let wait = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let mut pause = wait(server.due_in_ms);
        if let Some(again) = self.again {
            pause = pause.min(again.saturating_duration_since(Instant::now()));
        } else if answers(server) {
            pause = pause.min(wait(server.probe_in_ms));
        }
        // A clock that jumps, or a row that another process writes, is noticed in time.
        pause.min(self.shared.check_interval)
    }

    /// Rests; `false` when the server is gone or it is time to stop.
    async fn rest(&mut self, pause: Duration) -> bool {
        let Self { shared, session, wanted, again, .. } = self;
        let news = async {
            match session {
                // A change is known already.
                Some(session) if again.is_some() => session.closed().await,
                Some(session) => session.news().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return false,
            changed = wanted.changed() => return changed.is_ok(),
            news = news => self.hear(news),
            () = tokio::time::sleep(pause) => {}
        }
        true
    }

    fn hear(&mut self, news: News) {
        let longest = self.shared.check_interval;
        let pause = match news {
            News::Changed => {
                let (count, last) = self.announced;
                let count = if last.is_some_and(|at| at.elapsed() < STEADY) { count + 1 } else { 0 };
                self.announced = (count, Some(Instant::now()));
                doubled(SETTLE, count.saturating_sub(PATIENT_WITH), longest)
            }
            News::Closed => {
                let was_steady = self.session.take().is_some_and(|session| session.age() >= STEADY);
                self.closed_early = if was_steady { 0 } else { self.closed_early + 1 };
                self.has_closed = true;
                doubled(SETTLE, self.closed_early, longest)
            }
        };
        self.again = Some(Instant::now() + pause);
    }

    /// A session that ends by itself is a question without an answer: a server that comes and goes is seen.
    async fn note_end(&mut self, server: &mut ServerRow) {
        if !answers(server) {
            return;
        }
        let answers = Answers::of(server).with(None);
        let state = answers.state(self.shared.threshold);
        self.show(server, answers, state, "its connection ended", false).await;
    }

    /// Asks for a sign of life over the session; without one, the server is connected and listed anew.
    async fn probe(&mut self, server: &mut ServerRow) -> Duration {
        let is_current = self.is_current(server).await;
        let Some(session) = self.session.as_ref().filter(|session| is_current && session.is_open()) else {
            return self.discover(server, 0, true).await;
        };
        let (started, limit) = (Instant::now(), self.shared.timeout.min(PROBE_TIMEOUT));
        let error = match session.ping(limit).await {
            Ok(()) => {
                self.answered(server, started.elapsed()).await;
                return Duration::ZERO;
            }
            Err(error) => clean(&self.scrub(&error.to_string()), MAX_ERROR),
        };
        tracing::warn!(error, team = server.team_id, server.name, "mcp server gives no sign of life");
        self.session = None;
        let answers = Answers::of(server).with(None);
        self.show(server, answers, server.state, &error, false).await;
        self.discover(server, 0, false).await
    }

    /// Whether the session was opened with the credentials of now: one that was rotated or revoked ends it.
    async fn is_current(&self, server: &ServerRow) -> bool {
        let (transport, uses) = (&server.transport.0, &server.credentials.0);
        if uses.is_empty() {
            return true;
        }
        let now = equip::equip(&self.shared.credentials, &server.team_id, transport, uses).await;
        let versions = now.map(|equipped| equipped.versions).ok();
        versions.as_ref() == self.equipped.as_ref().map(|equipped| &equipped.versions)
    }

    /// One discovery with its retries; gives how long to rest. When it fails for good that is a question without
    /// an answer, unless that was counted already.
    async fn discover(&mut self, server: &mut ServerRow, retries: u32, counts: bool) -> Duration {
        self.again = None;
        let mut attempt = 0;
        loop {
            let (error, is_last) = match self.attempt(server).await {
                Ok(()) => return Duration::ZERO,
                Err(Failure::Server(error)) => (clean(&self.scrub(&error), MAX_ERROR), attempt >= retries),
                Err(Failure::Refused(error)) => (clean(&error, MAX_ERROR), true),
                Err(Failure::Own(error)) => {
                    tracing::error!(%error, team = server.team_id, server.name, "discovery cannot be kept");
                    return DATABASE_PAUSE;
                }
            };
            self.session = None;
            tracing::warn!(error, attempt, team = server.team_id, server.name, "mcp server cannot be listed");
            if is_last {
                return self.fail(server, &error, counts).await;
            }
            // One that never answered is unavailable from its first attempt on.
            let is_first = server.state == ServerState::Pending;
            let state = if is_first { ServerState::Unavailable } else { server.state };
            self.show(server, Answers::of(server), state, &error, false).await;
            tokio::time::sleep(doubled(FIRST_PAUSE, attempt, self.shared.interval)).await;
            attempt += 1;
        }
    }

    async fn attempt(&mut self, server: &mut ServerRow) -> Result<(), Failure> {
        let Shared { credentials, commands, .. } = &*self.shared;
        let (transport, uses) = (&server.transport.0, &server.credentials.0);
        commands
            .check(&equip::outline(transport, uses))
            .map_err(|refusal| Failure::Refused(refusal.to_string()))?;
        let equipped = equip::equip(credentials, &server.team_id, transport, uses).await;
        // Without its credentials, a server is not asked; whatever it still was reached with ends.
        let equipped = equipped.map_err(|error| Failure::Server(error.public_message()))?;
        let is_same = self.equipped.as_ref().is_some_and(|before| before.versions == equipped.versions);
        let before = self.session.take().filter(|session| is_same && session.is_open());
        self.equipped = Some(equipped);
        let session = match before {
            Some(session) => session,
            None => self.open(server).await?,
        };
        self.list(server, session).await
    }

    async fn open(&self, server: &ServerRow) -> Result<Session, Failure> {
        let Shared { starts, timeout, credentials, .. } = &*self.shared;
        let transport = self.equipped.as_ref().map_or(&server.transport.0, |equipped| &equipped.transport);
        let open = Session::open(transport, credentials.authorities(), *timeout);
        let opened = match transport {
            mcp::Transport::Stdio { .. } => {
                let was_broken = server.state == ServerState::Unavailable;
                starts.in_turn(was_broken, open).await
            }
            mcp::Transport::Http { .. } => open.await,
        };
        opened.map_err(|error| Failure::Server(error.to_string()))
    }

    async fn list(&mut self, server: &mut ServerRow, mut session: Session) -> Result<(), Failure> {
        let listed = session.list(self.shared.timeout).await;
        let (tools, took) = listed.map_err(|error| Failure::Server(error.to_string()))?;
        if let Some(equipped) = self.equipped.as_ref().filter(|equipped| equipped.has_secrets())
            && equipped.is_in(&format!("{tools:?} {:?}", session.versions()))
        {
            return Err(Failure::Server("it tells a credential that it was given".to_owned()));
        }
        let (server_version, protocol_version) = session.versions();
        self.session = Some(session);
        // First, so that tools that are taken now have the state of now.
        self.answered(server, took).await;
        let Shared { database, owner, interval, trust, .. } = &*self.shared;
        let taken = take::take(database, *owner, *trust, server, tools).await.map_err(Failure::Own)?;
        let Some(rejected_tools) = taken else { return Ok(()) };
        let outcome = Outcome {
            discovery_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            server_version: clean(&server_version, 200),
            protocol_version: clean(&protocol_version, 40),
            rejected_tools,
        };
        let pool = database.pool().map_err(|error| Failure::Own(error.into()))?;
        let next_in = self.spread(*interval);
        store::server_succeed(pool, &self.key, *owner, server.refresh_wanted, next_in, &outcome)
            .await
            .map_err(|error| Failure::Own(error.into()))
    }

    fn scrub(&self, text: &str) -> String {
        self.equipped.as_ref().map_or_else(|| text.to_owned(), |equipped| equipped.scrub(text))
    }

    /// Keeps that the server answered.
    async fn answered(&self, server: &mut ServerRow, took: Duration) {
        let answers = Answers::of(server).with(Some(took));
        let state = answers.state(self.shared.threshold);
        let error = if state == ServerState::Healthy {
            String::new()
        } else {
            std::mem::take(&mut server.last_error)
        };
        self.show(server, answers, state, &error, true).await;
    }

    /// Keeps that a discovery failed for good; gives how long to rest.
    async fn fail(&self, server: &mut ServerRow, error: &str, counts: bool) -> Duration {
        let answers = if counts { Answers::of(server).with(None) } else { Answers::of(server) };
        self.show(server, answers, ServerState::Unavailable, error, false).await;
        let Shared { database, owner, interval, check_interval, .. } = &*self.shared;
        let failures = u32::try_from(server.failures).unwrap_or(0);
        let next_in = doubled(FIRST_DELAY, failures, (*interval).min(*check_interval));
        let Ok(pool) = database.pool() else { return DATABASE_PAUSE };
        match store::server_fail(pool, &self.key, *owner, server.refresh_wanted, next_in).await {
            Ok(()) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, "the state of an mcp server cannot be kept");
                DATABASE_PAUSE
            }
        }
    }

    /// Keeps what a question showed of the server, and tells every watcher where its state is another one now.
    async fn show(
        &self,
        server: &mut ServerRow,
        answers: Answers,
        state: ServerState,
        error: &str,
        is_seen: bool,
    ) {
        let sign = Sign { answers: answers.into_inner(), state, last_error: error.to_owned(), is_seen };
        let Shared { database, owner, check_interval, .. } = &*self.shared;
        let next_in = self.spread(*check_interval);
        let moved = state != server.state;
        let kept = match database.pool() {
            Ok(pool) if moved => store::server_move(pool, &self.key, *owner, next_in, &sign).await,
            Ok(pool) => store::server_show(pool, &self.key, *owner, next_in, &sign).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the state of an mcp server cannot be kept");
            return;
        }
        if moved {
            tracing::info!(team = server.team_id, server.name, from = ?server.state, to = ?state, "mcp server moved");
        }
        (server.answers, server.state, server.last_error) = (sign.answers, state, sign.last_error);
    }

    /// Up to a tenth less, by server: those that were registered together are not all asked at the same moment.
    fn spread(&self, interval: Duration) -> Duration {
        let part = u32::from(self.key.id.as_bytes()[15]);
        interval.saturating_sub(interval / 10 * part / u32::from(u8::MAX))
    }
}

/// Whether the server answered the last time.
fn answers(server: &ServerRow) -> bool {
    matches!(server.state, ServerState::Healthy | ServerState::Degraded)
}

/// `first`, doubled this often, and at most `most`.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(20))).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_interval() {
        let most = Duration::from_mins(5);
        let pauses: Vec<u64> = [0, 1, 5, 6, 7, 4_000].map(|n| doubled(FIRST_DELAY, n, most).as_secs()).into();
        assert_eq!(pauses, [5, 10, 160, 300, 300, 300]);
    }
}
