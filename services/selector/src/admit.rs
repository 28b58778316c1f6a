//! Which tools may be offered: those that nothing asked for excludes, and that the caller may call now. The permissions
//! service is asked on the caller's behalf, reserves nothing, and is asked for the tools that fit best first: where
//! enough of them may be called, the others need no answer.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    Error,
    index::Among,
    permit::{MAX_TOOLS, Permissions},
    scene::Scene,
    screen::{Exclusion, Miss, screen, unavailable},
    shortlist::Shortlist,
};

/// Tools that are asked for at first, and then, while too few of them may be called.
const ROUNDS: [usize; 3] = [256, 2_048, MAX_TOOLS];
/// Candidates that are enough: more than are shown, or that make the answer more or less sure.
const ENOUGH: usize = 64;
/// Longest wait for what may come next, and the part of the caller's time that may pass in it: a quarter.
const PATIENCE: Duration = Duration::from_millis(200);
const SHARE_OF_TIME: u32 = 4;
/// Most candidates.
const MOST: usize = 256;

/// Who is in and who is out.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// Slots of the candidates.
    pub slots: Vec<usize>,
    /// Slots of tools that may be called too, but are no candidates: pinned ones, and those that may come next.
    pub beside: HashSet<usize>,
    pub misses: Vec<Miss>,
    /// Tools that nothing speaks against, but that fit less than the candidates: most of them permission was not asked
    /// for.
    pub surplus: usize,
    /// Those that how rare a word is counts among: what was asked for and refused moves no score.
    pub among: Among,
}

impl Admitted {
    /// Whether the caller may call the tool of this slot, as far as it was asked for.
    pub(crate) fn may_call(&self, slot: usize) -> bool {
        self.beside.contains(&slot) || self.slots.contains(&slot)
    }

    /// How many tools the caller may call, about: of those that were not asked for the same share as of those that were.
    pub(crate) fn rivals(&self) -> usize {
        let refused = self.misses.iter().filter(|miss| miss.is_refusal()).count();
        let asked = (self.slots.len() + refused).max(1);
        self.slots.len() + self.surplus * self.slots.len() / asked
    }

    /// Takes what was answered for a candidate; a pinned one is never one too many.
    fn take(&mut self, slot: usize, refusal: Option<String>, is_pinned: bool) {
        match refusal {
            None if is_pinned || self.slots.len() < MOST => self.slots.push(slot),
            None => self.surplus += 1,
            Some(reason) => {
                self.among.remove(slot);
                self.misses.push(Miss { slot, exclusion: Exclusion::Permission(reason) });
            }
        }
    }

    /// Takes what was answered for a tool that is no candidate.
    fn take_beside(&mut self, slot: usize, refusal: Option<&str>) {
        if refusal.is_none() {
            self.beside.insert(slot);
        }
    }
}

/// Screens a team's tools, and asks for permission for those that are left: the best first, until there are enough.
/// Pinned tools are asked for at once, since they are told whatever their place is.
pub(crate) async fn admit(scene: &Scene<'_>, permissions: &Permissions) -> Result<Admitted, Error> {
    let (kept, misses) = screen(&scene.index, scene.wanted, &scene.learned, scene.now);
    let among = scene.index.among(&kept);
    let mut admitted = Admitted { misses, among: among.clone(), ..Admitted::default() };
    let pinned = pinned(scene);
    let mut shortlist = Shortlist::of(scene, kept, &among, ROUNDS[0]);
    for (round, most) in ROUNDS.into_iter().enumerate() {
        let best = shortlist.take(scene, most, if round == 0 { &pinned } else { &[] });
        let beside: Vec<usize> =
            pinned.iter().copied().filter(|slot| round == 0 && !among.has(*slot)).collect();
        if best.is_empty() && beside.is_empty() {
            break;
        }
        let asked = best.iter().chain(&beside).filter_map(|slot| scene.index.entry(*slot));
        let mut refusals = permissions.permit(scene.call, asked).await?.into_iter();
        for (slot, refusal) in best.into_iter().zip(refusals.by_ref()) {
            admitted.take(slot, refusal, pinned.contains(&slot));
        }
        for (slot, refusal) in beside.into_iter().zip(refusals) {
            admitted.take_beside(slot, refusal.as_deref());
        }
        if admitted.slots.iter().filter(|slot| !pinned.contains(slot)).count() >= ENOUGH {
            break;
        }
    }
    admitted.surplus += shortlist.len();
    Ok(admitted)
}

/// Asks, after the ranking, for those that are likely to come next, of which it was not asked yet. Where that cannot be
/// known none of them is told: the selection does not depend on it.
pub(crate) async fn admit_next(
    scene: &Scene<'_>,
    permissions: &Permissions,
    admitted: &mut Admitted,
    likely: impl Iterator<Item = &str>,
) {
    let refused: HashSet<usize> =
        admitted.misses.iter().filter(|miss| miss.is_refusal()).map(|miss| miss.slot).collect();
    let slots = likely.filter_map(|name| scene.index.find(name));
    let open = slots.filter(|slot| !refused.contains(slot) && !admitted.may_call(*slot));
    let slots: Vec<usize> = open.filter(|slot| is_there(scene, *slot)).collect();
    if slots.is_empty() {
        return;
    }
    let asked = slots.iter().filter_map(|slot| scene.index.entry(*slot));
    let patience = PATIENCE.min(scene.call.time_left() / SHARE_OF_TIME);
    if let Ok(Ok(refusals)) = timeout(patience, permissions.permit(scene.call, asked)).await {
        for (slot, refusal) in slots.into_iter().zip(refusals) {
            admitted.take_beside(slot, refusal.as_deref());
        }
    }
}

/// The slots of the tools that are pinned for the caller and can be called at all.
fn pinned(scene: &Scene) -> Vec<usize> {
    let agent = scene.agent();
    let pinned = scene.pins.iter().filter(|pin| pin.agent_id.is_empty() || pin.agent_id == agent);
    let slots: BTreeSet<usize> = pinned.filter_map(|pin| scene.index.find(&pin.tool_name)).collect();
    slots.into_iter().filter(|slot| is_there(scene, *slot)).collect()
}

fn is_there(scene: &Scene, slot: usize) -> bool {
    scene.index.entry(slot).is_some_and(|entry| unavailable(entry).is_none())
}
