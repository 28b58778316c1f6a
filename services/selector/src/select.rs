//! Selects the tool for a task: read it, screen, permit, fit, rank, explain. Everything it reads is in memory,
//! but for the question to the permissions service. Permission is asked for before anything is ranked, so that what
//! a caller may not use moves nothing; of many tools it is asked for those that fit best by a glance.

use std::{collections::BTreeMap, sync::Arc};

use ::rpc::Call;
use chrono::Utc;
use types::Category;
use uuid::Uuid;

use crate::{
    Error,
    admit::{Admitted, admit, admit_next},
    answer::{Choice, MissedTool, choose, nearest_misses},
    contest::{Contest, contest},
    embedding::Embedding,
    fuse::{Mode, least},
    imply::imply,
    index::{Among, Index, Indexes},
    learn::Learned,
    model::{Aid, Help, Helped, Offered, Requirements},
    patterns::Sequences,
    permit::Permissions,
    pins::Pins,
    policy::Policies,
    predict::{self, NextTool},
    rank::{Ranked, rank_again},
    reading::Reading,
    scene::Scene,
    screen::{Exclusion, Miss, count, unsuitable},
    selections::Selections,
    store::SelectionRow,
    vectors::Vectors,
    wanted::{CANONICAL, Wanted},
    words::words,
};

/// Most capabilities, beside the canonical ones, that the model may name.
const MAX_COMMON: usize = 50;

/// What a task asks for beside its words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    pub capabilities: Vec<String>,
    /// Whether the caller asked for them; otherwise the task implies them.
    pub asked: bool,
    /// By the model, where it helped.
    pub category: Option<Category>,
}

impl Needs {
    /// Forgets of what a task implies what none of these tools has: capabilities that are not canonical must not tell of
    /// tools that the caller may not call.
    fn keep_had(&mut self, index: &Index, slots: &[usize]) {
        let is_had = |capability: &str| {
            slots.iter().filter_map(|slot| index.entry(*slot)).any(|entry| entry.has(capability))
        };
        if !self.asked {
            self.capabilities.retain(|word| CANONICAL.contains(&word.as_str()) || is_had(word));
        }
    }
}

/// The answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub id: Uuid,
    /// Best first; none where no tool is suitable.
    pub choices: Vec<Choice>,
    pub candidate_count: usize,
    pub excluded: BTreeMap<String, i32>,
    pub confidence: f64,
    /// Empty where a tool is suitable.
    pub unsuitable_reason: String,
    pub nearest_misses: Vec<MissedTool>,
    pub pinned: Vec<Choice>,
    pub mode: Mode,
    pub mode_reason: String,
    pub vectors_pending: usize,
    pub task_category: Option<Category>,
    pub implied_capabilities: Vec<String>,
    pub next_tools: Vec<NextTool>,
    pub policy_version: i32,
    pub helped: Helped,
    /// How likely the first was to come first, where it explored; 1 otherwise.
    pub propensity: f64,
    /// The task's vector as it is kept, and what it was made by.
    pub task_vector: Option<(String, Vec<u8>)>,
}

/// Selects tools.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub indexes: Indexes,
    pub vectors: Vectors,
    pub learned: Learned,
    pub sequences: Sequences,
    pub permissions: Permissions,
    pub pins: Pins,
    pub selections: Selections,
    pub policies: Policies,
    pub help: Help,
    /// Least semantic score of a single candidate, so that it is offered.
    pub min_semantic_score: f64,
}

impl Selector {
    /// Ranks the tools that the caller may call for this task.
    pub(crate) async fn select(&self, call: &Call, wanted: &Wanted) -> Result<Selection, Error> {
        wanted.check()?;
        let team = call.caller.team.as_str();
        let index = self.indexes.of(call).await?;
        wanted.check_capabilities(&index)?;
        let mut aid = self.help.begin(team, wanted.model_help, call.time_left());
        let (reading, needs) = tokio::join!(
            Reading::of(&wanted.task, self.embedding(), call.time_left()),
            needs(wanted, &index, &mut aid),
        );
        let mut scene = self.scene(call, wanted, index, reading, needs);
        let mut admitted = admit(&scene, &self.permissions).await?;
        scene.needs.keep_had(&scene.index, &admitted.slots);
        let mut contest = contest(&scene, &admitted);
        let missed = self.leave_out_unfit(&scene, &mut contest, &mut admitted);
        if !missed {
            self.ask_for_fit(&scene, &admitted.among, &mut contest.ranked, &mut aid).await;
        }
        let next_tools = self.next_tools(&scene, &contest.ranked, &mut admitted).await;
        let mut selection = Selection { next_tools, ..answer(&scene, &contest, &admitted) };
        self.ask_for_reason(&scene, &contest.ranked, &mut selection, &mut aid).await;
        selection.helped = aid.report();
        self.selections.keep(SelectionRow::new(&call.caller, wanted, &selection, Utc::now()));
        Ok(selection)
    }

    pub(crate) fn embedding(&self) -> &Embedding {
        &self.vectors.embedding
    }

    fn scene<'a>(
        &self,
        call: &'a Call,
        wanted: &'a Wanted,
        index: Arc<Index>,
        reading: Reading,
        needs: Needs,
    ) -> Scene<'a> {
        let team = call.caller.team.as_str();
        let (policy_version, weights) = self.policies.of(team);
        Scene {
            call,
            wanted,
            table: self.vectors.table(team, &index),
            index,
            learned: self.learned.team(team),
            sequences: self.sequences.team(team),
            pins: self.pins.team(team),
            reading,
            needs,
            weights,
            policy_version,
            model_id: self.embedding().model_id().to_owned(),
            now: Utc::now(),
        }
    }

    /// Where even the best fits less than it must, nothing is suitable: every candidate becomes a miss.
    fn leave_out_unfit(&self, scene: &Scene, contest: &mut Contest, admitted: &mut Admitted) -> bool {
        let mode = scene.reading.mode;
        // A tool that has no vector yet is matched by words alone.
        let by = if scene.table.pending > 0 { Mode::Lexical } else { mode };
        let least = least(self.min_semantic_score, admitted.rivals(), by);
        let asked = scene.needs.asked || scene.wanted.category.is_some();
        let says_something =
            asked || contest.has_words || mode != Mode::Lexical || mode != self.embedding().configured();
        if scene.reading.is_empty || (contest.best_fit >= least && says_something) {
            return contest.ranked.is_empty();
        }
        let fit = |(slot, semantic): (&usize, &f64)| Miss {
            slot: *slot,
            exclusion: Exclusion::Fit(*semantic, says_something.then_some(least)),
        };
        admitted.misses.extend(admitted.slots.iter().zip(&contest.semantic).map(fit));
        contest.ranked.clear();
        true
    }

    /// Has the model judge how well the best fit, and orders them again. Not where it explored: how likely the first was
    /// to come first is told of the draw alone.
    async fn ask_for_fit(&self, scene: &Scene<'_>, among: &Among, ranked: &mut [Ranked<'_>], aid: &mut Aid) {
        if scene.wanted.explore {
            return;
        }
        let tools: Vec<Offered> = ranked.iter().map(offered).collect();
        if let Some(fits) = aid.fit(&scene.wanted.task, &tools).await {
            rank_again(&scene.basis(among), ranked, &fits);
        }
    }

    /// What is likely to follow the first, of what the caller may call.
    async fn next_tools(
        &self,
        scene: &Scene<'_>,
        ranked: &[Ranked<'_>],
        admitted: &mut Admitted,
    ) -> Vec<NextTool> {
        let Some(first) = ranked.first() else { return Vec::new() };
        let after = (first.entry().name.as_str(), scene.agent());
        let likely = predict::likely(&scene.sequences, after, scene.now);
        let names = likely.iter().map(|next| next.name.as_str());
        admit_next(scene, &self.permissions, admitted, names).await;
        let may_call = |name: &str| scene.index.find(name).is_some_and(|slot| admitted.may_call(slot));
        predict::next(likely, may_call)
    }

    async fn ask_for_reason(
        &self,
        scene: &Scene<'_>,
        ranked: &[Ranked<'_>],
        selection: &mut Selection,
        aid: &mut Aid,
    ) {
        let (Some((first, others)), Some(choice)) = (ranked.split_first(), selection.choices.first_mut())
        else {
            return;
        };
        let others: Vec<Offered> = others.iter().map(offered).collect();
        if let Some(reason) = aid.reason(&scene.wanted.task, offered(first), &others).await {
            choice.reason = format!("{}; the model: {reason}", choice.reason);
        }
    }
}

fn answer(scene: &Scene, contest: &Contest, admitted: &Admitted) -> Selection {
    let excluded = count(&admitted.misses, admitted.surplus);
    let is_unsuitable = contest.ranked.is_empty();
    let vector = scene.reading.vectors.as_ref();
    let mut selection = Selection {
        id: types::new_id(),
        candidate_count: admitted.slots.len(),
        mode: scene.reading.mode,
        mode_reason: scene.reading.mode_reason.clone(),
        vectors_pending: scene.table.pending,
        task_category: contest.category,
        policy_version: scene.policy_version,
        propensity: contest.propensity,
        task_vector: vector.map(|vectors| (scene.model_id.clone(), vectors.whole.to_bytes())),
        implied_capabilities: if scene.needs.asked { Vec::new() } else { scene.needs.capabilities.clone() },
        ..Selection::default()
    };
    choose(&mut selection, scene, contest, admitted);
    if is_unsuitable {
        selection.unsuitable_reason = unsuitable(&excluded);
        selection.nearest_misses = nearest_misses(scene, &admitted.misses);
    }
    selection.excluded = excluded;
    selection
}

/// The capabilities that were asked for, those that the model reads out of the task, or those that its words imply.
async fn needs(wanted: &Wanted, index: &Index, aid: &mut Aid) -> Needs {
    if !wanted.capabilities.is_empty() {
        return Needs { capabilities: wanted.capabilities.clone(), asked: true, category: None };
    }
    if let Some(needs) = read_needs(wanted, index, aid).await {
        return Needs { capabilities: needs.capabilities, asked: false, category: needs.category };
    }
    Needs { capabilities: imply(&words(&wanted.task).collect::<Vec<_>>()), ..Needs::default() }
}

async fn read_needs(wanted: &Wanted, index: &Index, aid: &mut Aid) -> Option<Requirements> {
    if !aid.is_on() {
        return None;
    }
    aid.requirements(&wanted.task, &known(index)).await
}

/// The capabilities that the model may name: the canonical ones, and those that most tools have.
fn known(index: &Index) -> Vec<&str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, entry) in index.entries() {
        for word in entry.capabilities.iter().map(String::as_str).filter(|word| !CANONICAL.contains(word)) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut common: Vec<(&str, usize)> = counts.into_iter().collect();
    common.sort_by_key(|(_, tools)| std::cmp::Reverse(*tools));
    CANONICAL.into_iter().chain(common.into_iter().take(MAX_COMMON).map(|(word, _)| word)).collect()
}

fn offered<'a>(ranked: &Ranked<'a>) -> Offered<'a> {
    let entry = ranked.entry();
    Offered { name: &entry.name, description: entry.description() }
}
