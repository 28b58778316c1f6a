//! Asks one question, or finds its answer kept. Equal questions at the same moment are asked once. Must never ask
//! beyond the time box, the team's budget, or while the model's server is to be left alone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use moka::future::Cache;
use reach::Authorities;
use reqwest::StatusCode;
use resilience::{Breaker, BreakerSettings, Permit, ShieldSettings, Shields, State};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::{
    Config, Skip,
    answer::Invalid,
    budget::Budget,
    chat::{Chat, Fault},
    prompt::Prompt,
};

/// Most questions under way at once in this process.
const MAX_UNDER_WAY: usize = 32;
/// Most bytes of kept answers.
const MAX_KEPT: u64 = 8 * 1024 * 1024;
/// How much longer whoever asks waits than the question may take, so that the question's own end is known first.
const SLACK: Duration = Duration::from_millis(10);
/// Half of at least 5 questions in 30 s failed: none for 30 s, doubled up to 5 minutes; then one at a time.
const BREAKER: BreakerSettings = BreakerSettings {
    failure_ratio: 0.5,
    min_calls: 5,
    window: Duration::from_secs(30),
    open_for: Duration::from_secs(30),
    open_multiplier: 2.0,
    max_open_for: Duration::from_mins(5),
    probes: 1,
    slow_call: None,
};

/// Where questions are asked.
#[derive(Debug)]
pub(super) struct Desk {
    chat: Chat,
    model: String,
    timeout: Duration,
    /// Words that passed their check, by the digest of team, model and question.
    kept: Cache<String, Arc<str>>,
    budget: Budget,
    /// Of the server.
    breaker: Breaker,
    /// Each team's own: what one team asks, and gets no answer to, shuts no other out.
    teams: Shields<String>,
    /// Until when the server asked to be left alone.
    pause: Mutex<Option<Instant>>,
    under_way: Semaphore,
}

impl Desk {
    /// Fails when the endpoint may not be asked.
    pub(super) fn new(config: &Config, authorities: &Authorities) -> Result<Self, String> {
        let kept = Cache::builder()
            .max_capacity(MAX_KEPT)
            .weigher(|key: &String, words: &Arc<str>| {
                u32::try_from(key.len() + words.len()).unwrap_or(u32::MAX)
            })
            .time_to_live(Duration::from_secs(config.cache_ttl_s))
            .build();
        Ok(Self {
            chat: Chat::new(config, authorities)?,
            model: config.model.clone(),
            timeout: config.timeout(),
            kept,
            budget: Budget::new(config.daily_calls_per_team),
            breaker: Breaker::new(BREAKER, Instant::now()),
            teams: Shields::new(Instant::now()),
            pause: Mutex::default(),
            under_way: Semaphore::new(MAX_UNDER_WAY),
        })
    }

    /// How long the questions of one selection may take together.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How it is for a team.
    pub(super) fn state(&self, team: &str) -> &'static str {
        let now = Instant::now();
        let is_open = [&self.breaker, &self.breaker_of(team, now)].map(|breaker| breaker.state(now));
        if self.is_paused(now) || is_open.contains(&State::Open) {
            "open"
        } else if self.budget.is_spent(team, Utc::now()) {
            "budget"
        } else {
            "ready"
        }
    }

    /// The checked answer to a question of a team, by `until`.
    pub(super) async fn ask<T>(
        &self,
        team: &str,
        prompt: &Prompt,
        until: Instant,
        check: &(impl Fn(&str) -> Result<T, Invalid> + Sync),
    ) -> Result<T, Skip> {
        // Of another team's question nothing may be known, not even that it was asked.
        let id = types::digest_json(&(team, &self.model, &prompt.system, &prompt.data));
        let id = id.map_err(|_| Skip::InvalidAnswer)?;
        let is_good = |words: &str| check(words).is_ok();
        let words = self.kept.try_get_with(id, async {
            self.asked(team, prompt, until, &is_good).await.map(Arc::<str>::from)
        });
        let words = timeout_at(until + SLACK, words).await.map_err(|_| Skip::Timeout)?;
        check(&words.map_err(|skip| *skip)?).map_err(|Invalid| Skip::InvalidAnswer)
    }

    async fn asked(
        &self,
        team: &str,
        prompt: &Prompt,
        until: Instant,
        is_good: &(impl Fn(&str) -> bool + Sync),
    ) -> Result<String, Skip> {
        let begun = Instant::now();
        if begun >= until {
            return Err(Skip::Timeout);
        }
        let (leave, _place) = self.admit(team, begun)?;
        let Ok(answered) = timeout_at(until, self.complete(team, prompt)).await else {
            // A caller in a hurry says nothing of the server.
            if until.duration_since(begun) >= self.timeout / 2 {
                leave.failed(&Fault::Late);
            }
            return Err(Skip::Timeout);
        };
        let fault = match answered {
            Ok(words) if is_good(&words) => {
                leave.succeeded();
                return Ok(words);
            }
            Ok(_) => Fault::Malformed("answered with something else than was asked".to_owned()),
            Err(fault) => fault,
        };
        let skip = self.skip_after(&fault);
        leave.failed(&fault);
        Err(skip)
    }

    /// Leave to ask, or why not. What is refused costs nothing.
    fn admit(&self, team: &str, now: Instant) -> Result<(Leave, SemaphorePermit<'_>), Skip> {
        if self.is_paused(now) {
            return Err(Skip::Unavailable);
        }
        let server = self.breaker.admit(now).map_err(|_| Skip::Unavailable)?;
        let team_own = self.breaker_of(team, now).admit(now).map_err(|_| Skip::Unavailable)?;
        let place = self.under_way.try_acquire().map_err(|_| Skip::Unavailable)?;
        if !self.budget.take(team, Utc::now()) {
            return Err(Skip::Budget);
        }
        Ok((Leave { server, team: team_own }, place))
    }

    /// Asks, and once more without a schema where the server takes none.
    async fn complete(&self, team: &str, prompt: &Prompt) -> Result<String, Fault> {
        let is_plain = self.chat.is_plain(Instant::now());
        let answered = self.chat.complete(prompt, is_plain).await;
        match answered {
            Err(Fault::Status { status, .. })
                if !is_plain && is_refusal(status) && self.budget.take(team, Utc::now()) =>
            {
                let words = self.chat.complete(prompt, true).await?;
                self.chat.make_plain(Instant::now());
                Ok(words)
            }
            answered => answered,
        }
    }

    fn skip_after(&self, fault: &Fault) -> Skip {
        match fault {
            Fault::Malformed(_) => Skip::InvalidAnswer,
            Fault::Late => Skip::Timeout,
            Fault::Unanswered(_) => Skip::Unavailable,
            Fault::Status { retry_after, .. } => {
                if let Some(pause) = retry_after {
                    let until = Some(Instant::now() + *pause);
                    *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = until;
                }
                Skip::Unavailable
            }
        }
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }

    fn breaker_of(&self, team: &str, now: Instant) -> Breaker {
        let settings = ShieldSettings { breaker: BREAKER, ..ShieldSettings::default() };
        self.teams.get(&team.to_owned(), &settings, now).breaker.clone()
    }
}

/// Leave of both breakers to ask.
struct Leave {
    server: Permit,
    team: Permit,
}

impl Leave {
    fn succeeded(self) {
        let now = Instant::now();
        self.server.succeeded(now);
        self.team.succeeded(now);
    }

    /// Counts a fault against the server or, where the question may be what it could not answer, against the team alone.
    fn failed(self, fault: &Fault) {
        let (permit, whose) =
            if is_of_question(fault) { (self.team, "team") } else { (self.server, "server") };
        let fault = fault.to_string();
        tracing::debug!(fault, "the model that may help did not");
        if permit.failed(Instant::now()) == Some(State::Open) {
            tracing::warn!(
                fault,
                whose,
                "the model that may help failed too often and is left alone for a while"
            );
        }
    }
}

/// Whether a fault may lie in what was asked.
fn is_of_question(fault: &Fault) -> bool {
    match fault {
        Fault::Malformed(_) => true,
        Fault::Status { status, .. } => is_refusal(*status),
        Fault::Late | Fault::Unanswered(_) => false,
    }
}

/// Statuses with which servers refuse a `response_format` that they do not know.
fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 415 | 422 | 501)
}
