//! How well a tool stands with an agent for a kind of task: success, latency, cost and quality, each backed off from the
//! agent's own calls for that kind to its other calls, to the team's, to the neutral 0.5. Pure.
//!
//! Of success the neutral value is what the candidates together came to, where that is more: tools that are called
//! nearly always work, and one that nobody has called yet must not stand behind each of them for that. Without any
//! history every part is exactly 0.5. One more success, as fast and as dear as those before, lowers no standing
//! of the tool with anyone: at each level it adds weight and no failure, and what the added weight can take from the
//! latency and the cost is less than it adds to the success, since success counts more than twice as much as both, in the
//! built-in weights and in those that `policy/fit.rs` makes, and what is slow or dear counts less where nearly all succeed.

use chrono::{DateTime, Utc};
use types::Category;

use super::{counts::Counts, memory::ToolLearned, pool::BACK_OFF, trend::Trend};
use crate::policy::Weights;

/// What a part is without history.
pub(crate) const NEUTRAL: f64 = 0.5;
/// Differences below these say nothing: 10 ms, and a hundredth of a cent.
const SMALL_MS: f64 = 10.0;
const SMALL_MICRO_USD: f64 = 100.0;

/// The parts, each 0 to 1; without history 0.5, and the success at least that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Parts {
    pub success: f64,
    /// 0.5 when as long as the typical candidate takes, towards 1 when shorter.
    pub latency: f64,
    pub cost: f64,
    pub quality: f64,
}

/// What is told of a tool's history: of all agents of the team.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub executions: i64,
    pub success_rate: f64,
    pub average_ms: f64,
    pub average_cost_micro_usd: f64,
}

/// How a tool stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub parts: Parts,
    /// Executions that `parts.success` rests on, faded: how certain it is.
    pub weight: f64,
    /// `None` without an execution.
    pub figures: Option<Figures>,
    /// Average quality by feedback; `None` without any.
    pub quality: Option<f64>,
    pub trend: Trend,
}

impl Default for Standing {
    fn default() -> Self {
        let parts = Parts { success: NEUTRAL, latency: NEUTRAL, cost: NEUTRAL, quality: NEUTRAL };
        Self { parts, weight: 0.0, figures: None, quality: None, trend: Trend::default() }
    }
}

impl Standing {
    /// The parts weighed: 0 to 1.
    pub(crate) fn suitability(&self, weights: &Weights) -> f64 {
        let parts = &self.parts;
        weights.success * parts.success
            + weights.latency * parts.latency
            + weights.cost * parts.cost
            + weights.quality * parts.quality
    }
}

/// For whom, for what kind of task, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub agent: &'a str,
    pub category: Option<Category>,
    pub now: DateTime<Utc>,
}

/// One candidate's history as an agent sees it.
struct Seen<'a> {
    learned: &'a ToolLearned,
    /// The agent's own calls of this kind; its other calls; the team's.
    levels: [Counts; 3],
}

/// What some candidates typically take and cost, by the team's calls: their medians; and how often they succeed together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Typical {
    ms: f64,
    micro_usd: f64,
    /// What a tool without history is expected to do: 0.5 to 1.
    success: f64,
    /// How much of what a tool is slower or dearer than the typical one counts against it, 0 to 1: where nearly all
    /// succeed, one more success adds little, and must not be outweighed by how long it took.
    strictness: f64,
}

/// The highest neutral success beside which slow and dear tools bear the whole of it: one success adds at least
/// `(1 - success) * s`, where slow and dear take at most `0.5 * s / 2`, `s` being the weight of success.
const STRICT: f64 = 0.75;

impl Typical {
    pub(crate) fn of<'a>(
        candidates: impl Iterator<Item = &'a ToolLearned>,
        category: Option<Category>,
    ) -> Self {
        let ran = candidates.map(|learned| learned.pool(category)).filter(|team| team.weight > 0.0);
        let (mut ms, mut micro_usd, mut succeeded, mut all) = (Vec::new(), Vec::new(), 0.0, 0.0);
        for team in ran {
            ms.push(team.average_ms());
            micro_usd.push(team.average_cost());
            succeeded += team.weight * team.success_rate();
            all += team.weight;
        }
        let success = ((succeeded + BACK_OFF * NEUTRAL) / (all + BACK_OFF)).clamp(NEUTRAL, 1.0);
        let strictness = ((1.0 - success) / (1.0 - STRICT)).min(1.0);
        Self { ms: median(ms), micro_usd: median(micro_usd), success, strictness }
    }

    /// What a part below neutral comes to.
    fn bear(self, part: f64) -> f64 {
        if part < NEUTRAL { NEUTRAL - self.strictness * (NEUTRAL - part) } else { part }
    }
}

/// How each of these candidates stands, in their order; latency and cost are held against those of the others.
pub(crate) fn standings(candidates: &[Option<&ToolLearned>], view: View) -> Vec<Standing> {
    let typical = Typical::of(candidates.iter().flatten().copied(), view.category);
    candidates
        .iter()
        .map(|learned| learned.map_or_else(|| unknown(typical), |it| stand(it, view, typical)))
        .collect()
}

/// How a tool stands that nobody has called.
fn unknown(typical: Typical) -> Standing {
    let mut standing = Standing::default();
    standing.parts.success = typical.success;
    standing
}

/// How one tool stands against what is typical.
pub(crate) fn stand(learned: &ToolLearned, view: View, typical: Typical) -> Standing {
    standing(&look(learned, view), typical)
}

fn look<'a>(learned: &'a ToolLearned, view: View) -> Seen<'a> {
    let own = learned.agent(view.agent);
    let of_kind = view.category.and_then(|category| own?.categories.get(&category));
    let as_of = |counts: Option<&Counts>| counts.map(|counts| counts.as_of(view.now)).unwrap_or_default();
    let of_kind = as_of(of_kind);
    let others = as_of(own.map(|own| &own.all)).without(&of_kind);
    let levels = [of_kind, others, learned.pool(view.category).as_of(view.now)];
    Seen { learned, levels }
}

fn standing(seen: &Seen, typical: Typical) -> Standing {
    let parts = Parts {
        success: back_off(seen, typical.success, |counts| (counts.weight, counts.success_rate())),
        latency: back_off(seen, NEUTRAL, |counts| {
            (counts.weight, typical.bear(against(counts.average_ms(), typical.ms, SMALL_MS)))
        }),
        cost: back_off(seen, NEUTRAL, |counts| {
            (counts.weight, typical.bear(against(counts.average_cost(), typical.micro_usd, SMALL_MICRO_USD)))
        }),
        quality: back_off(seen, NEUTRAL, |counts| {
            (counts.quality_weight, counts.average_quality().unwrap_or(NEUTRAL))
        }),
    };
    let team = &seen.learned.team;
    let figures = (team.executions > 0).then(|| Figures {
        executions: team.executions,
        success_rate: team.success_rate(),
        average_ms: team.average_ms(),
        average_cost_micro_usd: team.average_cost(),
    });
    let quality = team.average_quality();
    Standing { parts, weight: evidence(&seen.levels), figures, quality, trend: seen.learned.lately.trend }
}

/// From neutral through the team and the agent's other calls to those of this kind: what a level says, by its weight,
/// against what the level before it says, worth `BACK_OFF`.
fn back_off(seen: &Seen, neutral: f64, level: impl Fn(&Counts) -> (f64, f64)) -> f64 {
    seen.levels
        .iter()
        .rev()
        .map(level)
        .fold(neutral, |before, (weight, value)| (weight * value + BACK_OFF * before) / (weight + BACK_OFF))
}

/// Executions behind a rate: a level's own, and of those before it what its weight leaves of them.
fn evidence(levels: &[Counts; 3]) -> f64 {
    let weights = levels.iter().rev().map(|counts| counts.weight);
    weights.fold(0.0, |before, weight| weight + before * BACK_OFF / (weight + BACK_OFF))
}

/// 0.5 when as typical, towards 1 when less, towards 0 when more; a third at twice the typical.
fn against(value: f64, typical: f64, small: f64) -> f64 {
    (typical + small) / (typical + value + 2.0 * small)
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
