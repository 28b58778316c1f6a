//! Which tools may be offered: those that nothing asked for excludes, and that the caller may call now. One question to
//! the permissions service, which reserves nothing.

use std::collections::HashSet;

use crate::{
    Error,
    permit::{MAX_TOOLS, Permissions},
    scene::Scene,
    screen::{Exclusion, Miss, screen, unavailable},
};

/// Who is in and who is out.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// Slots of the candidates.
    pub slots: Vec<usize>,
    /// Slots of tools that may be called too, but are no candidates: pinned ones, and those that may come next.
    pub beside: HashSet<usize>,
    pub misses: Vec<Miss>,
}

impl Admitted {
    /// Whether the caller may call the tool of this slot, as far as it was asked for.
    pub(crate) fn may_call(&self, slot: usize) -> bool {
        self.beside.contains(&slot) || self.slots.contains(&slot)
    }
}

/// Screens a team's tools, and asks for permission for those that are left.
pub(crate) async fn admit(scene: &Scene<'_>, permissions: &Permissions) -> Result<Admitted, Error> {
    let (mut kept, mut misses) = screen(&scene.index, scene.wanted, &scene.learned);
    let beside = beside(scene, &kept);
    limit(scene, &mut kept, &mut misses, MAX_TOOLS - beside.len());
    let mut admitted = Admitted { misses, ..Admitted::default() };
    let asked: Vec<usize> = kept.iter().chain(&beside).copied().collect();
    if asked.is_empty() {
        return Ok(admitted);
    }
    let tools = asked.iter().filter_map(|slot| scene.index.entry(*slot));
    let refusals = permissions.permit(scene.call, tools).await?;
    for (place, (slot, refusal)) in asked.into_iter().zip(refusals).enumerate() {
        match (refusal, place < kept.len()) {
            (None, true) => admitted.slots.push(slot),
            (None, false) => drop(admitted.beside.insert(slot)),
            (Some(reason), true) => {
                admitted.misses.push(Miss { slot, exclusion: Exclusion::Permission(reason) });
            }
            (Some(_), false) => {}
        }
    }
    Ok(admitted)
}

/// Tools that are not candidates but may have to be named: the caller's pins, and what has followed a candidate.
fn beside(scene: &Scene, kept: &[usize]) -> Vec<usize> {
    if scene.pins.is_empty() && scene.sequences.is_empty() {
        return Vec::new();
    }
    let candidates: HashSet<usize> = kept.iter().copied().collect();
    let agent = scene.agent();
    let pinned = scene.pins.iter().filter(|pin| pin.agent_id.is_empty() || pin.agent_id == agent);
    let pinned = pinned.map(|pin| pin.tool_name.as_str());
    let is_candidate = |name: &str| scene.index.find(name).is_some_and(|slot| candidates.contains(&slot));
    let followers = scene
        .sequences
        .iter()
        .filter(|(name, _)| is_candidate(name))
        .flat_map(|(_, agents)| agents.values().flat_map(|steps| steps.keys().map(String::as_str)));
    let mut seen = HashSet::new();
    let mut slots = Vec::new();
    for slot in pinned.chain(followers).filter_map(|name| scene.index.find(name)) {
        let entry = scene.index.entry(slot);
        let is_there = entry.is_some_and(|entry| unavailable(entry).is_none());
        if is_there && !candidates.contains(&slot) && seen.insert(slot) {
            slots.push(slot);
        }
    }
    slots.truncate(MAX_TOOLS / 2);
    slots
}

/// Leaves no more tools than permission can be asked for: those whose words fit best.
fn limit(scene: &Scene, slots: &mut Vec<usize>, misses: &mut Vec<Miss>, most: usize) {
    if slots.len() <= most {
        return;
    }
    let lexical = scene.index.score(&scene.reading.query, &scene.index.among(slots));
    let name = |slot: &usize| scene.index.entry(*slot).map(|entry| entry.name.as_str());
    slots.sort_by(|left, right| {
        lexical[*right].total_cmp(&lexical[*left]).then_with(|| name(left).cmp(&name(right)))
    });
    misses.extend(slots.drain(most..).map(|slot| Miss { slot, exclusion: Exclusion::Limit }));
}
