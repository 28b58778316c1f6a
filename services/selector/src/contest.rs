//! The candidates against each other: fit, the kind of the task, history, rank. Pure but for the draw of an exploration.

use types::Category;

use crate::{
    admit::Admitted,
    entry::Entry,
    explore::{Explored, explore},
    fuse::Fused,
    index::Among,
    learn::{Standing, standings},
    model,
    rank::{Basis, Candidate, Ranked, contends, rank},
    scene::Scene,
};

/// Candidates that say by their own category what kind of work a task is.
const VOTES: usize = 5;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Contest<'a> {
    /// The best, best first: more than are shown, so that the last of them can be compared with the next.
    pub ranked: Vec<Ranked<'a>>,
    /// Semantic score of every candidate, in their order.
    pub semantic: Vec<f64>,
    /// The highest of them; 0 without candidates.
    pub best_fit: f64,
    /// Whether any candidate has a word of the task.
    pub has_words: bool,
    /// The kind of work that the task was taken for.
    pub category: Option<Category>,
    pub propensity: f64,
}

/// Ranks the candidates.
pub(crate) fn contest<'a>(scene: &'a Scene, admitted: &Admitted) -> Contest<'a> {
    let slots = admitted.slots.as_slice();
    let fused = scene.fit(slots, &admitted.among);
    let entries: Vec<&Entry> = slots.iter().filter_map(|slot| scene.index.entry(*slot)).collect();
    // All fit a task that says nothing alike: their categories tell nothing of it.
    let voted = || if scene.reading.is_empty { None } else { vote(&entries, &fused) };
    let category = scene.wanted.category.or(scene.needs.category).or_else(voted);
    let semantic: Vec<f64> = fused.iter().map(|fused| fused.semantic).collect();
    let best_fit = best_fit(&fused);
    let has_words = fused.iter().any(|fused| fused.parts[..2].iter().any(|part| *part > 0.0));
    let candidates = candidates(scene, slots, fused, category);
    let (basis, mut propensity, mut drawn) = (scene.basis(&admitted.among), 1.0, None);
    if scene.wanted.explore {
        let explored = draw(&basis, &candidates);
        (propensity, drawn) = (explored.propensity, Some(explored.success));
    }
    let most = (scene.wanted.alternatives + 2).max(model::MAX_TOOLS);
    Contest {
        ranked: rank(&basis, candidates, drawn.as_deref(), most),
        semantic,
        best_fit,
        has_words,
        category,
        propensity,
    }
}

/// All of these slots' tools in the order that they would have among each other, nothing drawn.
pub(crate) fn ranked_all<'a>(
    scene: &'a Scene,
    slots: &[usize],
    among: &Among,
    category: Option<Category>,
) -> Vec<Ranked<'a>> {
    let candidates = candidates(scene, slots, scene.fit(slots, among), category);
    rank(&scene.basis(among), candidates, None, usize::MAX)
}

fn candidates<'a>(
    scene: &'a Scene,
    slots: &[usize],
    fused: Vec<Fused>,
    category: Option<Category>,
) -> Vec<Candidate<'a>> {
    let entries: Vec<(usize, &Entry)> =
        slots.iter().filter_map(|slot| Some((*slot, scene.index.entry(*slot)?))).collect();
    let learned: Vec<_> =
        entries.iter().map(|(_, entry)| scene.learned.get(&entry.name).map(AsRef::as_ref)).collect();
    let standings = standings(&learned, scene.view(category));
    let best = best_fit(&fused);
    let parts = entries.into_iter().zip(fused).zip(standings);
    let candidate = |(((slot, entry), fused), standing): (((usize, &'a Entry), Fused), Standing)| {
        let contends = contends(fused.semantic, best);
        Candidate { slot, entry, fused, fit: None, standing, contends }
    };
    parts.map(candidate).collect()
}

fn best_fit(fused: &[Fused]) -> f64 {
    fused.iter().map(|fused| fused.semantic).fold(0.0, f64::max)
}

/// Draws success rates for the candidates that contend; of the others what is expected stays.
fn draw(basis: &Basis, candidates: &[Candidate]) -> Explored {
    let contending = candidates.iter().filter(|candidate| candidate.contends);
    let arms: Vec<_> = contending.map(|candidate| basis.arm(candidate)).collect();
    let Explored { success, propensity } = explore(&arms, &mut rand::rng());
    let mut drawn = success.into_iter();
    let success = candidates.iter().map(|candidate| {
        let drawn = if candidate.contends { drawn.next() } else { None };
        drawn.unwrap_or(candidate.standing.parts.success)
    });
    Explored { success: success.collect(), propensity }
}

/// The category that the best fitting candidates have, each counting by how well it fits.
fn vote(entries: &[&Entry], fused: &[Fused]) -> Option<Category> {
    let mut best: Vec<(f64, &Entry)> =
        fused.iter().map(|fused| fused.semantic).zip(entries.iter().copied()).collect();
    let order = |left: &(f64, &Entry), right: &(f64, &Entry)| {
        right.0.total_cmp(&left.0).then_with(|| left.1.name.cmp(&right.1.name))
    };
    if best.len() > VOTES {
        best.select_nth_unstable_by(VOTES, order);
        best.truncate(VOTES);
    }
    best.sort_unstable_by(order);
    let mut votes: Vec<(Category, f64)> = Vec::new();
    for (semantic, entry) in best {
        let category = entry.category.unwrap_or(Category::Custom);
        match votes.iter_mut().find(|(of, _)| *of == category) {
            Some((_, sum)) => *sum += semantic,
            None => votes.push((category, semantic)),
        }
    }
    // Of equal sums, the category of the best fitting tool has it.
    votes
        .into_iter()
        .reduce(|first, next| if next.1 > first.1 { next } else { first })
        .map(|(category, _)| category)
}
