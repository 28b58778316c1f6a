//! Finds the answer to nearly the same text, and learns whether it would have been right. State of this
//! process; must never serve what the guard has not admitted, or what the cache itself would not find.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Question,
    guard::{Guard, Mode, Standing},
    index::{Index, Point},
};
use crate::{Cache, Cached, Found, Key, statistics::Event};

/// Nearest texts that are tried; an answer may have expired in the meantime.
const TRIES: usize = 3;
/// Tools whose guards are known. Beyond them all are forgotten and learn anew.
const MAX_GUARDS: usize = 10_000;

/// What is to be done with a question.
#[derive(Clone, Debug)]
pub enum Look {
    /// Nothing alike: call the tool.
    None,
    /// Answer with this.
    Serve(Matched),
    /// Call the tool, answer with its result, and tell [`Matcher::observe`] whether this agrees.
    Shadow(Matched),
}

/// An answer to nearly the same text.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The answer, always a fresh success.
    pub found: Found,
    /// Cosine similarity of the texts.
    pub similarity: f64,
    /// What the answer is kept under.
    pub key: Key,
}

/// Texts and guards of all tools. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    index: Arc<Mutex<Index>>,
    /// By team, tool and the tool's digest.
    guards: Arc<Mutex<HashMap<(String, String), Guard>>>,
}

impl Matcher {
    /// No texts yet, and every tool learning.
    pub fn new() -> Self {
        Self::default()
    }

    /// To be told after a success was put under the question's key.
    pub fn remember(&self, question: &Question) {
        self.lock_index().add(question);
    }

    /// Forgets every text of a team.
    pub fn forget(&self, team: &str) {
        self.lock_index().remove_team(team);
    }

    /// The nearest answer, and whether to serve it.
    pub async fn look(&self, cache: &Cache, question: &Question) -> Look {
        let mode = self.mode(question);
        if mode == Mode::Off {
            return Look::None;
        }
        let Some(matched) = self.nearest(cache, question).await else { return Look::None };
        if mode == Mode::Learning || rand::random::<f64>() < question.settings.shadow_rate {
            return Look::Shadow(matched);
        }
        cache.statistics().count(&question.key, Event::SemanticHit);
        Look::Serve(matched)
    }

    /// Takes in whether the tool's real answer agreed with the one of a [`Look::Shadow`].
    pub fn observe(&self, question: &Question, agrees: bool) -> Mode {
        let mut guards = self.lock_guards();
        let guard = guards.get_mut(&guard_id(&question.key));
        // Settings that changed meanwhile have begun to learn anew, from their own comparisons.
        let Some(guard) = guard.filter(|guard| guard.settings_digest == question.settings_digest) else {
            return Mode::Learning;
        };
        let before = guard.standing().mode;
        let mode = guard.observe(agrees);
        let Standing { comparisons, disagreements, .. } = guard.standing();
        drop(guards);
        let Key { team, tool, .. } = &question.key;
        match (before, mode) {
            (Mode::Learning, Mode::Serving) => {
                tracing::info!(%team, %tool, comparisons, disagreements, "semantic cache starts to serve");
            }
            (Mode::Serving, Mode::Off) => tracing::warn!(
                %team, %tool, comparisons, disagreements,
                "semantic cache switched off: its answers disagree with the tool's too often"
            ),
            _ => {}
        }
        mode
    }

    /// What is known about the matches of a tool's version; `None` before its first question.
    pub fn standing(&self, team: &str, tool: &str, tool_digest: &str) -> Option<Standing> {
        let id = (crate::key::tool_id(team, tool), tool_digest.to_owned());
        self.lock_guards().get(&id).map(Guard::standing)
    }

    fn mode(&self, question: &Question) -> Mode {
        let mut guards = self.lock_guards();
        let id = guard_id(&question.key);
        if guards.len() >= MAX_GUARDS && !guards.contains_key(&id) {
            guards.clear();
        }
        let new = || Guard::new(&question.settings_digest, question.settings.max_error);
        let guard = guards.entry(id).or_insert_with(new);
        if guard.settings_digest != question.settings_digest {
            *guard = new();
        }
        guard.standing().mode
    }

    async fn nearest(&self, cache: &Cache, question: &Question) -> Option<Matched> {
        let points = self.lock_index().group(&question.group);
        for (similarity, point) in candidates(&points, question) {
            match cache.peek(&point.key).await {
                Some(found) if matches!(found.value, Cached::Success(_)) => {
                    return Some(Matched { found, similarity, key: point.key.clone() });
                }
                _ => self.lock_index().remove(&question.group, &point.key),
            }
        }
        None
    }

    fn lock_index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_guards(&self) -> MutexGuard<'_, HashMap<(String, String), Guard>> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn guard_id(key: &Key) -> (String, String) {
    (key.tool_id(), key.tool_digest.clone())
}

/// The few nearest texts that may ask the same, nearest first.
fn candidates<'a>(points: &'a [Arc<Point>], question: &Question) -> Vec<(f64, &'a Point)> {
    let mut near: Vec<(f64, &Point)> = points
        .iter()
        .map(|point| (point.text.vector.similarity(&question.text.vector), &**point))
        .filter(|(similarity, _)| *similarity >= question.settings.min_similarity)
        .filter(|(_, point)| point.key != question.key && point.text.marks.allow(&question.text.marks))
        .collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    near.truncate(TRIES);
    near
}
