//! Fuses the signals of the permitted candidates into one semantic score each, 0 to 1. Pure: it reads no clock and no
//! tool, and the score of a candidate never falls when one of its own signals rises.
//!
//! The signals are added on their own scales, as log-odds: not as z-scores over the candidates, which mean little for
//! three tools and let words decide everything in a large catalog, where most tools have no word of the task. Weights
//! were fitted by a softmax over each task's tools, non-negative, on half the tasks of two public sets alone and merged
//! into one catalog; `make bench-retrieval` prints what they reach.

use serde::Deserialize;

/// Which signals there are: what the configured model, and the state of its files, allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Words, and vectors of the sentence model.
    Full,
    /// Words, and vectors of the static table.
    Static,
    /// Words alone.
    #[default]
    Lexical,
}

impl Mode {
    /// As the settings and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Static => "static",
            Self::Lexical => "lexical",
        }
    }
}

/// How many signals are fused.
pub(crate) const SIGNALS: usize = 6;

/// Names of the signals, in the order of [`Fused::parts`] and [`FusionWeights`].
pub(crate) const NAMES: [&str; SIGNALS] =
    ["lexical", "name_coverage", "embedding", "description", "segment", "history"];

/// What a breadth of one costs: a tool of many parameters meets more of any task's words by chance, and would crowd out
/// those with a short description where catalogs are merged.
const BREADTH: f32 = 0.2;
/// Words count this much more where they speak alone.
const WORDS_ALONE: f32 = 1.7;
/// What the vectors of a tool that is no answer come to, for tools that have none yet.
const PENDING: f32 = 1.2;
/// Cosine that tasks of one tool have to each other even when they differ.
const FAMILIAR: f32 = 0.20;
/// Most log-odds that history takes from a tool: a few successes with other tasks are no proof against this one.
const UNLIKE: f32 = 3.0;
/// Successes at which history has half its weight.
const HALF_TRUST: f32 = 4.0;
/// Log-odds that a tool is right, alone: slope and intercept of a logistic fit (Platt) to right tools and the best wrong
/// ones of each task. Held-out: the best of a task whose right tools were taken away scores 0.39, else 0.48 (medians).
const SLOPE: f64 = 0.165;
const INTERCEPT: f64 = -1.36;
/// What the best score of many candidates must be above that of one, per logarithm of their number: the best of many is
/// high by chance. Fitted with the least score to refuse one task in fifty at most that a tool is right for.
const CROWD: f64 = 0.35;
/// Log-odds by which the least score is lower where words speak alone.
const DOUBT: f64 = 2.0;
/// How fast a score falls with its distance to the best: the scores of one task must differ by more than histories do.
const FALL: f64 = 0.25;
/// Candidates that share the chance of being the one: the best. Thousands that hardly fit would else come to more than
/// one that does, and how sure an answer is would depend on how many were looked at.
const RIVALS: usize = 64;
/// Log-odds that none of the tools is right, in the same units as a tool's.
const NONE: f64 = 3.0;
/// BM25F at which the bar of the words is half full.
const HALF_LEXICAL: f32 = 4.0;

/// The raw signals of one candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Signals {
    /// BM25F of the whole task.
    pub lexical: f32,
    /// Share of the tool's name that the task has, rare words counting more: 0 to 1.
    pub name_coverage: f32,
    /// Cosine of the whole task to all that is said of the tool.
    pub embedding: f32,
    /// Cosine of the whole task to the tool's description.
    pub description: f32,
    /// The best cosine of the task or one of its clauses to all that is said of the tool.
    pub segment: f32,
    /// Cosine of the task to the mean of those that the tool succeeded with.
    pub history: f32,
    /// How many those are; 0: no history, which neither helps nor harms.
    pub successes: f32,
    /// ln(1 + words said of its parameters).
    pub breadth: f32,
    /// The tool has no vector yet: only its words speak.
    pub pending: bool,
}

/// What one of each signal counts in log-odds, none negative; in the order of [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FusionWeights(pub [f32; SIGNALS]);

impl Default for FusionWeights {
    fn default() -> Self {
        Self([0.1875, 1.2, 2.16, 3.76, 6.08, 17.6])
    }
}

/// One candidate's fused score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fused {
    /// 0 to 1, comparable between tasks.
    pub semantic: f64,
    /// The chance that it is the one, against the other candidates and none at all: 0 to 1.
    pub share: f64,
    /// Each signal from 0 to 1, in the order of [`NAMES`]: what the bars show.
    pub parts: [f32; SIGNALS],
}

/// The fused scores, in the candidates' order.
pub(crate) fn fuse(signals: &[Signals], mode: Mode, weights: &FusionWeights) -> Vec<Fused> {
    let odds: Vec<f64> = signals.iter().map(|signals| f64::from(log_odds(signals, mode, weights))).collect();
    let best = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut rivals = odds.clone();
    if rivals.len() > RIVALS {
        rivals.select_nth_unstable_by(RIVALS, |left, right| right.total_cmp(left));
        rivals.truncate(RIVALS);
    }
    let least = rivals.iter().copied().fold(f64::INFINITY, f64::min);
    let all: f64 = rivals.iter().map(|odds| (odds - best).exp()).sum::<f64>() + (NONE - best).exp();
    let score = |(signals, odds): (&Signals, &f64)| Fused {
        semantic: logistic(SLOPE * odds + INTERCEPT) * (FALL * (odds - best)).exp(),
        share: if *odds < least { 0.0 } else { (odds - best).exp() / all },
        parts: parts(signals, mode),
    };
    signals.iter().zip(&odds).map(score).collect()
}

/// Log-odds that one candidate is right: differences between two tools' are what the softmax was fitted to.
pub(crate) fn log_odds(signals: &Signals, mode: Mode, FusionWeights(weights): &FusionWeights) -> f32 {
    let [lexical, name, embedding, description, segment, history] = *weights;
    let words = finite(signals.lexical) * lexical + finite(signals.name_coverage) * name;
    let breadth = BREADTH * signals.breadth;
    if mode == Mode::Lexical {
        return WORDS_ALONE * words - breadth;
    }
    if signals.pending {
        return WORDS_ALONE * words - breadth + PENDING;
    }
    let vectors = finite(signals.embedding) * embedding
        + finite(signals.description) * description
        + finite(signals.segment) * segment;
    let trust = signals.successes / (signals.successes + HALF_TRUST);
    // As far as it is trusted, nearness to past tasks takes the place of nearness to what is said of the tool.
    let learned = trust * (history * (finite(signals.history) - FAMILIAR) - vectors).max(-UNLIKE);
    words + vectors + learned - breadth
}

fn parts(signals: &Signals, mode: Mode) -> [f32; SIGNALS] {
    let lexical = finite(signals.lexical).max(0.0);
    let words = [lexical / (lexical + HALF_LEXICAL), signals.name_coverage];
    let vectors = [signals.embedding, signals.description, signals.segment, signals.history];
    let heard = mode != Mode::Lexical && !signals.pending;
    let mut parts = [0.0; SIGNALS];
    let all = words.into_iter().chain(vectors.into_iter().map(|cosine| if heard { cosine } else { 0.0 }));
    parts.iter_mut().zip(all).for_each(|(part, signal)| *part = finite(signal).clamp(0.0, 1.0));
    parts
}

/// A damaged vector must not make a score that nothing can be compared with.
fn finite(signal: f32) -> f32 {
    if signal.is_finite() { signal } else { 0.0 }
}

/// The least score of the best of so many candidates, so that it is offered; `alone` is that of a single one, 0 to 1. Words
/// alone tell what is right so badly that they must not rule much out.
pub(crate) fn least(alone: f64, candidates: usize, mode: Mode) -> f64 {
    let odds = (alone / (1.0 - alone)).ln();
    let more = if mode == Mode::Lexical { -DOUBT } else { CROWD * (candidates.max(1) as f64).ln() };
    logistic(odds + SLOPE * more)
}

fn logistic(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Mode; 3] = [Mode::Full, Mode::Static, Mode::Lexical];

    /// Signals of every size, the same each time (Knuth's multiplicative generator).
    fn many(count: usize) -> Vec<Signals> {
        let mut state = 1_u32;
        let mut next = |most: f32| {
            state = state.wrapping_mul(2_654_435_761).wrapping_add(12_345);
            most * f32::from(u16::try_from(state >> 16).unwrap()) / f32::from(u16::MAX)
        };
        let one = |_| Signals {
            lexical: next(30.0),
            name_coverage: next(1.0),
            embedding: next(2.0) - 1.0,
            description: next(2.0) - 1.0,
            segment: next(2.0) - 1.0,
            history: next(2.0) - 1.0,
            successes: next(20.0).floor(),
            breadth: next(6.0),
            pending: next(1.0) < 0.2,
        };
        (0..count).map(one).collect()
    }

    fn semantic(signals: &[Signals], mode: Mode) -> Vec<f64> {
        fuse(signals, mode, &FusionWeights::default()).iter().map(|fused| fused.semantic).collect()
    }

    #[test]
    fn every_score_is_within_bounds_even_of_one_candidate_or_a_damaged_vector() {
        let damaged = Signals { embedding: f32::NAN, lexical: f32::INFINITY, ..Signals::default() };
        let tables = [many(500), many(1), many(3), vec![damaged], vec![Signals::default(); 4], Vec::new()];
        for (signals, mode) in tables.iter().flat_map(|table| MODES.map(|mode| (table, mode))) {
            let fused = fuse(signals, mode, &FusionWeights::default());
            assert_eq!(fused.len(), signals.len());
            for one in &fused {
                assert!((0.0..=1.0).contains(&one.semantic) && (0.0..=1.0).contains(&one.share), "{one:?}");
                assert!(one.parts.iter().all(|part| (0.0..=1.0).contains(part)), "{one:?}");
            }
            assert!(fused.iter().map(|one| one.share).sum::<f64>() < 1.0 + 1e-9, "one at most is the one");
        }
    }

    #[test]
    fn more_of_a_signal_never_lowers_a_score() {
        let raise: [fn(&mut Signals); SIGNALS] = [
            |signals| signals.lexical += 1.0,
            |signals| signals.name_coverage += 0.1,
            |signals| signals.embedding += 0.1,
            |signals| signals.description += 0.1,
            |signals| signals.segment += 0.1,
            |signals| signals.history += 0.1,
        ];
        let before = many(60);
        let learned_most = FusionWeights([0.2, 1.0, 0.0, 0.0, 5.0, 60.0]);
        for (mode, weights) in
            MODES.into_iter().flat_map(|mode| [(mode, FusionWeights::default()), (mode, learned_most)])
        {
            let scores = fuse(&before, mode, &weights);
            for (at, raise) in (0..before.len()).flat_map(|at| raise.iter().map(move |raise| (at, raise))) {
                let mut more = before.clone();
                raise(&mut more[at]);
                let after = fuse(&more, mode, &weights)[at];
                assert!(
                    after.semantic >= scores[at].semantic - 1e-6,
                    "{:?} became {:?}",
                    before[at],
                    more[at]
                );
                assert!(after.share >= scores[at].share - 1e-6, "{:?} became {:?}", before[at], more[at]);
            }
        }
    }

    #[test]
    fn the_best_of_more_must_be_better() {
        let steps: Vec<f64> =
            [1, 10, 100, 10_000].map(|candidates| least(0.22, candidates, Mode::Full)).into();
        assert!((steps[0] - 0.22).abs() < 1e-12 && steps.is_sorted_by(|less, more| less < more), "{steps:?}");
        assert!((steps[2] - 0.269).abs() < 0.002 && steps[3] < 0.33, "{steps:?}");
        assert!(
            least(0.0, 1_000, Mode::Full) < f64::EPSILON && least(1.0, 2, Mode::Full) > 0.999,
            "the ends stay"
        );
        assert!(least(0.22, 10_000, Mode::Lexical) < 0.19, "words alone rule out less");
    }

    #[test]
    fn equal_signals_score_equally_wherever_they_stand() {
        let mut signals = many(40);
        signals.push(signals[3]);
        let scores = semantic(&signals, Mode::Full);
        assert!((scores[3] - scores[40]).abs() < f64::EPSILON);
        signals.reverse();
        let turned = semantic(&signals, Mode::Full);
        for (score, same) in scores.iter().zip(turned.iter().rev()) {
            assert!((score - same).abs() < 1e-12, "{score} against {same}");
        }
    }

    #[test]
    fn other_candidates_do_not_change_what_the_best_scores() {
        let best =
            Signals { lexical: 12.0, embedding: 0.6, description: 0.6, segment: 0.6, ..Signals::default() };
        let alone = semantic(&[best], Mode::Full)[0];
        let poor = vec![Signals { embedding: 0.1, ..Signals::default() }; 300];
        let among = semantic(&[vec![best], poor].concat(), Mode::Full)[0];
        assert!((alone - among).abs() < 1e-12 && alone > 0.4, "{alone} against {among}");
        let nothing = semantic(&[Signals::default()], Mode::Full)[0];
        assert!(nothing < 0.25, "a tool alone is not right for that: {nothing}");
    }

    #[test]
    fn past_successes_lift_a_tool_for_tasks_like_them_and_none_change_nothing() {
        let cold =
            Signals { lexical: 4.0, embedding: 0.4, description: 0.4, segment: 0.4, ..Signals::default() };
        let known = |successes: f32, history: f32| Signals { history, successes, ..cold };
        let scores = semantic(
            &[cold, known(0.0, 0.9), known(1.0, 0.8), known(20.0, 0.8), known(20.0, 0.1)],
            Mode::Full,
        );
        assert!((scores[0] - scores[1]).abs() < f64::EPSILON, "{scores:?}");
        assert!(scores[2] > scores[0] && scores[3] > scores[2] && scores[4] < scores[0], "{scores:?}");
    }

    #[test]
    fn many_parameters_do_not_outweigh_a_short_description() {
        let short =
            Signals { lexical: 5.0, embedding: 0.3, segment: 0.3, description: 0.3, ..Signals::default() };
        let broad = Signals { breadth: 4.0, ..short };
        let scores = semantic(&[broad, short], Mode::Full);
        assert!(scores[1] > scores[0], "{scores:?}");
    }

    #[test]
    fn a_tool_without_vectors_yet_is_ranked_by_its_words() {
        let named = Signals { lexical: 12.0, name_coverage: 1.0, pending: true, ..Signals::default() };
        let other = Signals { embedding: 0.1, segment: 0.1, description: 0.1, ..Signals::default() };
        let scores =
            semantic(&[named, other, Signals { lexical: 0.0, name_coverage: 0.0, ..named }], Mode::Full);
        assert!(scores[0] > scores[1] && scores[0] > scores[2], "{scores:?}");
        let none = Signals { pending: true, ..Signals::default() };
        let far = Signals { embedding: 0.02, segment: 0.02, description: 0.02, ..Signals::default() };
        let scores = semantic(&[none, far], Mode::Full);
        assert!(scores[0] > scores[1], "what is not known is no sign against it: {scores:?}");
    }
}
