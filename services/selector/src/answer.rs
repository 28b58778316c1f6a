//! Makes the answer of what the contest came to: choices with their reasons, pins, what comes next, and where nothing is
//! suitable, what came nearest.

use std::collections::{BTreeMap, HashSet};

use crate::{
    admit::Admitted,
    confidence::confidence,
    contest::{Contest, ranked_all},
    explain::{explain, explain_pinned},
    fuse::{Fused, NAMES},
    learn::Standing,
    rank::{Ranked, Scores},
    scene::Scene,
    screen::Miss,
    select::Selection,
};

/// Most misses that are told of.
const MISSES: usize = 5;

/// One tool of the answer.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub name: String,
    pub tool_id: String,
    pub description: String,
    pub scores: Scores,
    pub fused: Fused,
    /// By the model; `None` where it did not judge.
    pub fit: Option<f64>,
    pub standing: Standing,
    pub reason: String,
    pub is_pinned: bool,
}

impl Choice {
    /// The signals by the names they have in the contract: of those that tell of the same, the strongest.
    pub(crate) fn signals(&self) -> BTreeMap<String, f64> {
        let mut signals = BTreeMap::new();
        for (name, part) in NAMES.iter().zip(self.fused.parts) {
            let name = match *name {
                "name_coverage" => "name",
                "description" => "embedding",
                "segment" => "clauses",
                name => name,
            };
            let strongest = signals.entry(name.to_owned()).or_insert(0.0);
            *strongest = f64::from(part).max(*strongest);
        }
        signals.extend(self.fit.map(|fit| ("model".to_owned(), fit)));
        signals
    }
}

/// A tool that was left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MissedTool {
    pub name: String,
    pub reason: String,
    pub explanation: String,
    pub semantic: f64,
}

/// Fills in what is offered, and how sure it is.
pub(crate) fn choose(selection: &mut Selection, scene: &Scene, contest: &Contest, admitted: &Admitted) {
    let (basis, ranked) = (scene.basis(&admitted.among), &contest.ranked);
    let pinned: HashSet<usize> = pinned(scene, contest, admitted).into_iter().collect();
    let shown = ranked.len().min(scene.wanted.alternatives + 1);
    let offer = |place: usize| {
        let is_pinned = pinned.contains(&ranked[place].candidate.slot);
        choice(&ranked[place], explain(&basis, ranked, place), is_pinned)
    };
    selection.choices = (0..shown).map(offer).collect();
    if !pinned.is_empty() {
        let slots: Vec<usize> = admitted.slots.iter().copied().chain(outside(&pinned, admitted)).collect();
        let all = ranked_all(scene, &slots, &admitted.among, contest.category);
        let of_pins = all.iter().filter(|ranked| pinned.contains(&ranked.candidate.slot));
        selection.pinned = of_pins.map(|tool| choice(tool, explain_pinned(&basis, tool), true)).collect();
    }
    let Some(first) = ranked.first() else { return };
    selection.confidence = confidence(first.candidate.fused.share, scene.reading.mode);
}

/// The slots of the tools that are pinned for this caller and this kind of task, and that it may call.
fn pinned(scene: &Scene, contest: &Contest, admitted: &Admitted) -> Vec<usize> {
    let for_this = scene.pins.iter().filter(|pin| pin.is_for(scene.agent(), contest.category));
    let slots = for_this.filter_map(|pin| scene.index.find(&pin.tool_name));
    slots.filter(|slot| admitted.may_call(*slot)).collect()
}

/// In order, so that the same question has the same answer.
fn outside(pinned: &HashSet<usize>, admitted: &Admitted) -> Vec<usize> {
    let mut outside: Vec<usize> =
        pinned.iter().filter(|slot| admitted.beside.contains(slot)).copied().collect();
    outside.sort_unstable();
    outside
}

fn choice(ranked: &Ranked, reason: String, is_pinned: bool) -> Choice {
    let (entry, candidate) = (ranked.entry(), &ranked.candidate);
    Choice {
        name: entry.name.clone(),
        tool_id: entry.tool.id.clone(),
        description: entry.description().to_owned(),
        scores: ranked.scores,
        fused: candidate.fused,
        fit: candidate.fit,
        standing: candidate.standing.clone(),
        reason,
        is_pinned,
    }
}

/// What was left out though the task fits it best, and what would change that.
pub(crate) fn nearest_misses(scene: &Scene, misses: &[Miss]) -> Vec<MissedTool> {
    let slots: Vec<usize> = misses.iter().map(|miss| miss.slot).collect();
    let fused = scene.fit(&slots, &scene.index.among(&slots));
    let mut near: Vec<_> = misses
        .iter()
        .zip(fused)
        .filter_map(|(miss, fused)| Some((scene.index.entry(miss.slot)?, miss, fused.semantic)))
        .collect();
    near.sort_by(|left, right| right.2.total_cmp(&left.2).then_with(|| left.0.name.cmp(&right.0.name)));
    near.truncate(MISSES);
    near.into_iter()
        .map(|(entry, miss, semantic)| MissedTool {
            name: entry.name.clone(),
            reason: miss.exclusion.reason().to_owned(),
            explanation: miss.exclusion.explain(scene.wanted),
            semantic,
        })
        .collect()
}
