//! A model that may help to choose: an OpenAI-compatible server says what a task asks for, how well the best tools fit,
//! and why the first one does. Off unless an endpoint is configured. Everything is in one time box a selection, kept
//! for equal questions of the same team, counted a team and day, and left alone while it fails. Must never fail a
//! selection, decide what a caller may call, or have a weight beyond [`MAX_SHARE`]: its words are a stranger's.
//!
//! `config.rs` has the settings, `prompt.rs` what is asked, `chat.rs` the protocol, `answer.rs` what is believed of what
//! comes back, `budget.rs` how often, `key.rs` the key.

mod answer;
mod ask;
mod budget;
mod chat;
mod config;
mod key;
mod prompt;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, metrics::Counter};
use reach::Authorities;
use tokio::time::Instant;
use types::Category;

use ask::Desk;
use prompt::Prompt;

pub use config::{Config, Use};

/// Most tools that the model is asked about.
pub(crate) const MAX_TOOLS: usize = 10;
/// Most that its judgement weighs in the semantic score.
pub(crate) const MAX_SHARE: f64 = 0.3;
/// Longest reason, in characters.
pub(crate) const MAX_REASON: usize = 300;
/// The model may have at most this part of the time that the caller still waits: one half.
const SHARE_OF_TIME: u32 = 2;

/// One tool as the model is told of it. Only such as the caller may call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offered<'a> {
    pub name: &'a str,
    pub description: &'a str,
}

/// What a task asks for, by the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// Each one of those that were known, in lower case.
    pub capabilities: Vec<String>,
    pub category: Option<Category>,
}

/// Why the model did not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Skip {
    /// There is none, or it was not wanted.
    Off,
    /// The team has no more questions today.
    Budget,
    /// There was no answer in the time there is.
    Timeout,
    /// It cannot be reached, refuses, or failed too often lately.
    Unavailable,
    /// Its answer is none to what was asked.
    InvalidAnswer,
}

impl Skip {
    /// The word for it in answers and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Budget => "budget",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::InvalidAnswer => "invalid_answer",
        }
    }
}

/// What a model did for one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Helped {
    /// What it was of use for.
    pub uses: Vec<&'static str>,
    /// Why not, or why not for all; empty where it was of use for all that it was asked.
    pub skipped: &'static str,
}

/// The semantic score with the model's judgement in it, where there is one.
pub(crate) fn blend(semantic: f64, fit: Option<f64>) -> f64 {
    fit.map_or(semantic, |fit| (1.0 - MAX_SHARE) * semantic + MAX_SHARE * fit.clamp(0.0, 1.0))
}

/// The model of this process, or none. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Help {
    desk: Option<Arc<Desk>>,
    by_default: bool,
    uses: Arc<[Use]>,
    answers: Counter<u64>,
}

impl Help {
    /// The model of these settings. One that cannot be asked at all is told to the log, and is none.
    pub(crate) fn new(config: &Config, authorities: &Authorities) -> Self {
        let desk = config.is_on().then(|| Desk::new(config, authorities));
        let desk = desk.and_then(|desk| {
            desk.inspect_err(|fault| tracing::error!(fault, "the model that may help cannot be asked")).ok()
        });
        let answers = opentelemetry::global::meter("toolcrib")
            .u64_counter("toolcrib.selector.model_answers")
            .with_description("Questions to the model that may help, by use and what became of them.")
            .build();
        let (by_default, uses) = (config.by_default, config.uses.clone().into());
        Self { desk: desk.map(Arc::new), by_default, uses, answers }
    }

    /// Opens the time box of one selection. `is_wanted` is what the request says, `time_left` how long its caller still
    /// waits.
    pub(crate) fn begin(&self, team: &str, is_wanted: Option<bool>, time_left: Duration) -> Aid {
        let desk = self.desk.clone().filter(|_| is_wanted.unwrap_or(self.by_default));
        let timeout = desk.as_ref().map_or(Duration::ZERO, |desk| desk.timeout());
        Aid {
            help: self.clone(),
            desk,
            team: team.to_owned(),
            until: Instant::now() + timeout.min(time_left / SHARE_OF_TIME),
            helped: Helped::default(),
        }
    }

    /// How the model is for a team: off, ready, open (left alone for a while), or budget.
    pub(crate) fn state(&self, team: &str) -> &'static str {
        self.desk.as_ref().map_or("off", |desk| desk.state(team))
    }
}

/// The model's help with one selection. What it is asked is asked in turn, and nothing of it can fail.
#[derive(Debug)]
pub(crate) struct Aid {
    help: Help,
    desk: Option<Arc<Desk>>,
    team: String,
    until: Instant,
    helped: Helped,
}

impl Aid {
    /// Whether there is a model to be asked.
    pub(crate) fn is_on(&self) -> bool {
        self.desk.is_some()
    }

    /// What a task asks for, in words among these.
    pub(crate) async fn requirements(&mut self, task: &str, known: &[&str]) -> Option<Requirements> {
        let prompt = || prompt::requirements(task, known);
        self.ask(Use::Requirements, task, prompt, |words| answer::requirements(words, known)).await
    }

    /// How well the first [`MAX_TOOLS`] of these tools fit a task, 0 to 1, in their order; `None` of one that the model
    /// left out.
    pub(crate) async fn fit(&mut self, task: &str, tools: &[Offered<'_>]) -> Option<Vec<Option<f64>>> {
        let tools = &tools[..tools.len().min(MAX_TOOLS)];
        if tools.is_empty() {
            return None;
        }
        self.ask(Use::Fit, task, || prompt::fit(task, tools), |words| answer::fits(words, tools.len())).await
    }

    /// Why a tool is the one for a task: one line of at most [`MAX_REASON`] characters.
    pub(crate) async fn reason(
        &mut self,
        task: &str,
        chosen: Offered<'_>,
        others: &[Offered<'_>],
    ) -> Option<String> {
        let others = &others[..others.len().min(MAX_TOOLS)];
        self.ask(Use::Reasoning, task, || prompt::reason(task, &chosen, others), answer::reason).await
    }

    /// What it did.
    pub(crate) fn report(self) -> Helped {
        let is_idle = self.helped.uses.is_empty() && self.helped.skipped.is_empty();
        Helped { skipped: if is_idle { Skip::Off.as_str() } else { self.helped.skipped }, ..self.helped }
    }

    async fn ask<T: Send>(
        &mut self,
        what: Use,
        task: &str,
        prompt: impl FnOnce() -> Prompt,
        check: impl Fn(&str) -> Result<T, answer::Invalid> + Sync,
    ) -> Option<T> {
        let desk = self.desk.clone().filter(|_| self.help.uses.contains(&what) && !task.trim().is_empty())?;
        let answered = desk.ask(&self.team, &prompt(), self.until, &check).await;
        let result = answered.as_ref().map_or_else(|skip| skip.as_str(), |_| "used");
        let labels = [KeyValue::new("use", what.as_str()), KeyValue::new("result", result)];
        self.help.answers.add(1, &labels);
        match &answered {
            Ok(_) => self.helped.uses.push(what.as_str()),
            Err(skip) if self.helped.skipped.is_empty() => self.helped.skipped = skip.as_str(),
            Err(_) => {}
        }
        answered.ok()
    }
}
