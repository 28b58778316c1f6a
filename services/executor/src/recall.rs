//! Answers that are already there, or on their way: the result cache, and identical calls under way. Only for tools
//! whose settings ask for it, and never for one with side effects.

use std::{sync::Arc, time::Duration};

use cache::{Cache, Cached, Flight, Followed, Found, Key, Lead, Life, Look, Question, Semantic, Ticket};
use proto::registry::v1::{SemanticMatch, binding::Kind};
use types::{Effect, Sensitivity};

use crate::{
    Executor, artifact, fallback,
    invoke::{Options, effect, sensitivity},
    outcome::{Finished, Reached, Source, ToolError, ToolErrorCode},
    run::Run,
    settings::{self, Caching},
};

/// What is known before a tool is asked.
#[allow(clippy::large_enum_variant, reason = "one a call, never stored")]
pub(crate) enum Recall {
    /// The answer.
    Answered(Box<Finished>),
    /// None: ask, and keep what comes.
    Ask(Place),
}

/// Where an answer goes once it is there.
#[derive(Default)]
pub(crate) struct Place {
    keep: Option<(Key, Ticket, Caching)>,
    lead: Option<Lead<Arc<Finished>>>,
    /// The question under which others may find the answer by nearly the same text.
    question: Option<Question>,
    /// What the cache would have answered to nearly the same text: to be compared with what the tool says.
    shadow: Option<Cached>,
    /// Whether the cache was asked, and had no answer that would do.
    pub is_miss: bool,
}

/// A fresh answer of the cache, or that of an identical call under way.
pub(crate) async fn recall(executor: &Executor, run: &Run) -> Recall {
    let Some((key, caching)) = key(run) else { return Recall::Ask(Place::default()) };
    let may_answer = !run.options.skip_cache && is_current(executor);
    let young = |found: &Found| run.options.max_age_s == 0 || found.age.as_secs() < run.options.max_age_s;
    let looked = executor.cache.get_if(&key, |found| may_answer && young(found)).await;
    if let Some(found) = looked.found {
        return Recall::Answered(Box::new(from_cache(&found, Source::Cache)));
    }
    let question = caching.semantic.as_ref().and_then(|s| Question::of(&key, &run.arguments, &semantic(s)));
    let mut shadow = None;
    if let Some(question) = question.as_ref().filter(|_| may_answer) {
        match executor.matcher.look(&executor.cache, question).await {
            Look::Serve(matched) if young(&matched.found) => {
                return Recall::Answered(Box::new(from_cache(&matched.found, Source::SemanticCache)));
            }
            Look::Shadow(matched) => shadow = Some(matched.found.value),
            Look::Serve(_) | Look::None => {}
        }
    }
    if !may_share(run) {
        return Recall::Ask(Place {
            keep: Some((key, looked.ticket, caching)),
            lead: None,
            question,
            shadow,
            is_miss: may_answer,
        });
    }
    let lead = match executor.flights.join(&key, looked.ticket) {
        Flight::Lead(lead) => lead,
        Flight::Follow(follow) => match follow.wait().await {
            Followed::Outcome(finished) if is_for_all(run, &finished) => {
                return Recall::Answered(Box::new(shared(&finished)));
            }
            Followed::Outcome(_) => {
                let keep = Some((key, looked.ticket, caching));
                return Recall::Ask(Place { keep, lead: None, question, shadow, is_miss: may_answer });
            }
            Followed::Lead(lead) => lead,
        },
    };
    // Whoever led before may have put its answer there, and gone, since this call looked.
    if may_answer && let Some(found) = executor.cache.look_again(&key, young).await {
        return Recall::Answered(Box::new(from_cache(&found, Source::Cache)));
    }
    let keep = Some((key, looked.ticket, caching));
    Recall::Ask(Place { keep, lead: Some(lead), question, shadow, is_miss: may_answer })
}

/// Whether this call and others may have one run: not where it is run in another way than its tool's settings
/// say, or for a shorter time. Its failure would not be theirs.
fn may_share(run: &Run) -> bool {
    let as_set = Options { max_age_s: run.options.max_age_s, ..Options::default() };
    run.options == as_set && run.timeout >= settings::timeout(&run.tool, 0)
}

/// Whether what came of one call is the answer of every other one like it: not what a fallback gave, which not
/// everyone may call; not a file in the workspace of one task; not a failure for which a fallback stands in.
fn is_for_all(run: &Run, finished: &Finished) -> bool {
    finished.source == Source::Tool
        && match &finished.ended {
            Ok(text) => !artifact::is_reference(text),
            Err(error) => fallback::in_order(&run.settings, error).is_empty(),
        }
}

/// Whether those who wait for a call hear how it ended: an answer, a failure that the same arguments will always
/// get, or what holds back every call of the tool. Any other failure may be the leader's own: of its deadline, say.
fn is_told(finished: &Finished) -> bool {
    finished.ended.as_ref().err().is_none_or(|error| error.is_deterministic) || finished.held_back().is_some()
}

/// Whether the cache holds nothing that another process has invalidated a second ago or longer.
fn is_current(executor: &Executor) -> bool {
    !matches!(executor.cache, Cache::Memory(_)) || executor.signals.is_live()
}

fn semantic(set: &SemanticMatch) -> Semantic {
    Semantic {
        field: set.field.clone(),
        min_similarity: set.min_similarity,
        max_error: set.max_error,
        shadow_rate: set.shadow_rate,
    }
}

/// The last answer to the same arguments, however old within what the tool's settings allow. Not one that another
/// process may have invalidated.
pub(crate) async fn stale(executor: &Executor, run: &Run) -> Option<(String, i64)> {
    let (key, _) = key(run).filter(|_| is_current(executor))?;
    let found = executor.cache.get_stale(&key).await?;
    match &found.value {
        Cached::Success(text) => Some((text.to_string(), millis(found.age))),
        Cached::Refusal(_) => None,
    }
}

impl Place {
    /// Keeps an answer of the tool itself, and a refusal that the same arguments will always get; tells those who
    /// wait for it what holds for them too. Otherwise the next of them leads: one at a time asks a tool that fails.
    pub(crate) async fn keep(self, executor: &Executor, finished: &Finished) {
        let kept =
            self.keep.and_then(|(key, ticket, caching)| Some((key, ticket, kept(finished, &caching)?)));
        if let Some((key, ticket, (value, life))) = kept {
            let is_success = matches!(value, Cached::Success(_));
            let was_kept = executor.cache.put(&key, value.clone(), life, ticket).await;
            if let Some(question) = self.question.filter(|_| is_success) {
                if let Some(shadow) = self.shadow {
                    executor.matcher.observe(&question, agree(&shadow, &value));
                }
                if was_kept {
                    executor.matcher.remember(&question);
                }
            }
        }
        if let Some(lead) = self.lead.filter(|_| is_told(finished)) {
            lead.finish(Arc::new(finished.clone()));
        }
    }
}

/// Whether two answers say the same, however they are written.
fn agree(one: &Cached, other: &Cached) -> bool {
    let value = |cached: &Cached| serde_json::from_str::<serde_json::Value>(cached.json()).ok();
    value(one).is_some_and(|one| Some(one) == value(other))
}

/// What is kept of an answer, and for how long.
fn kept(finished: &Finished, caching: &Caching) -> Option<(Cached, Life)> {
    if finished.source != Source::Tool || !finished.warnings.is_empty() {
        return None;
    }
    match &finished.ended {
        Ok(text) if !artifact::is_reference(text) => {
            let life = Life { ttl: caching.ttl, stale_for: caching.stale_for };
            Some((Cached::success(text.as_str()), life))
        }
        Err(error) if error.is_deterministic && error.code == ToolErrorCode::ToolFailed => {
            let life = Life { ttl: caching.negative_ttl, stale_for: Duration::ZERO };
            Some((Cached::refusal(serde_json::to_string(error).ok()?), life))
        }
        Ok(_) | Err(_) => None,
    }
}

/// What an answer of this run is kept under; `None`: it is not kept.
fn key(run: &Run) -> Option<(Key, Caching)> {
    let mut caching = run.settings.cache.clone()?;
    if !run.settings.fallbacks.is_empty() {
        // A refusal that is remembered would keep the fallbacks from those who may call them.
        caching.negative_ttl = Duration::ZERO;
    }
    let definition = run.tool.definition.as_ref()?;
    let kept = effect(definition) != Effect::SideEffect && sensitivity(definition) != Sensitivity::Restricted;
    if !kept {
        return None;
    }
    // A built-in tool may read the files of its task.
    let binding = definition.binding.as_ref().and_then(|binding| binding.kind.as_ref());
    let scope = match binding {
        Some(Kind::Builtin(_)) => format!("task:{}", run.execution.task_id),
        _ => String::new(),
    };
    let key = Key::of(&run.caller.team, &definition.name, &run.tool.digest, &scope, &run.arguments)?;
    Some((key, caching))
}

fn from_cache(found: &Found, source: Source) -> Finished {
    let ended = match &found.value {
        Cached::Success(text) => Ok(text.to_string()),
        Cached::Refusal(error) => Err(serde_json::from_str(error).unwrap_or_else(|_| unreadable())),
    };
    let cache_age_ms = millis(found.age);
    Finished { source, cache_age_ms, ..Finished::without_attempt(ended) }
}

/// The answer of another call, for one that waited for it.
fn shared(finished: &Finished) -> Finished {
    let source = match finished.source {
        Source::Tool => Source::Coalesced,
        other => other,
    };
    let Finished { ended, partial, warnings, cache_age_ms, .. } = finished.clone();
    Finished { partial, source, cache_age_ms, warnings, ..Finished::without_attempt(ended) }
}

fn unreadable() -> ToolError {
    ToolError::new(ToolErrorCode::ToolFailed, "the tool refused these arguments before").having(Reached::Yes)
}

fn millis(age: Duration) -> i64 {
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}
