//! Of many tools, which permission is asked for first: those that a glance says fit best. The glance costs a fraction of
//! the question, which must name each tool. Decides nothing but the order; pure.

use std::cmp::Ordering;

use crate::{
    fuse::{FusionWeights, log_odds},
    index::Among,
    learn::{Standing, standings},
    scene::Scene,
    signals::glance,
};

/// The slots that are left, in parts: the best of them first.
#[derive(Debug)]
pub(crate) struct Shortlist {
    /// What the glance says of each slot that is left.
    left: Vec<(f32, usize)>,
}

impl Shortlist {
    /// Of these slots; no glance is taken where all are asked for at once anyway.
    pub(crate) fn of(scene: &Scene, slots: Vec<usize>, among: &Among, at_once: usize) -> Self {
        if slots.len() <= at_once {
            return Self { left: slots.into_iter().map(|slot| (0.0, slot)).collect() };
        }
        let scores = if scene.reading.is_empty { records(scene, &slots) } else { fits(scene, &slots, among) };
        Self { left: scores.into_iter().zip(slots).collect() }
    }

    /// Takes out the best, best first, so many at most; and these, whatever is said of them.
    pub(crate) fn take(&mut self, scene: &Scene, most: usize, also: &[usize]) -> Vec<usize> {
        let name = |slot: usize| scene.index.entry(slot).map(|entry| entry.name.as_str());
        let best_first = |a: &(f32, usize), b: &(f32, usize)| -> Ordering {
            b.0.total_cmp(&a.0).then_with(|| name(a.1).cmp(&name(b.1)))
        };
        if most < self.left.len() {
            self.left.select_nth_unstable_by(most, best_first);
        }
        let rest = self.left.split_off(most.min(self.left.len()));
        let mut best = std::mem::replace(&mut self.left, rest);
        best.extend(self.left.extract_if(.., |(_, slot)| also.contains(slot)));
        best.sort_unstable_by(best_first);
        best.into_iter().map(|(_, slot)| slot).collect()
    }

    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.left.len()
    }
}

/// Log-odds that each is right, about.
fn fits(scene: &Scene, slots: &[usize], among: &Among) -> Vec<f32> {
    let (mode, weights) = (scene.reading.mode, FusionWeights::default());
    glance(&scene.source(), slots, among).iter().map(|signals| log_odds(signals, mode, &weights)).collect()
}

/// How each did so far: all there is to go by where the task says nothing.
fn records(scene: &Scene, slots: &[usize]) -> Vec<f32> {
    let learned = |slot: &usize| {
        let entry = scene.index.entry(*slot)?;
        scene.learned.get(&entry.name).map(AsRef::as_ref)
    };
    let learned: Vec<_> = slots.iter().map(learned).collect();
    #[allow(clippy::cast_possible_truncation, reason = "0 to 1; an order is made by it")]
    let suitability = |standing: &Standing| standing.suitability(&scene.weights) as f32;
    standings(&learned, scene.view(scene.wanted.category)).iter().map(suitability).collect()
}
