//! Whether an answer's confidence is the chance that it is right, and whether nothing is offered where nothing fits: for
//! tasks that no tool can do, and for tasks whose right tools may not be called.

use serde::Serialize;
use tests::retrieval::{
    Answer, Stand,
    data::{Collection, Query},
    score::{BINS, Bin, calibration, percentile, separation},
};

use crate::{
    progress::Progress,
    quality::{AGENT, ask},
};

/// What is said of confidence.
#[derive(Debug, Clone, Serialize)]
pub struct Calibration {
    /// Over the answers of all sets.
    pub bins: [Bin; BINS],
    pub error: f64,
    /// Each set by itself: its name, its answers, its error.
    pub sets: Vec<(&'static str, usize, f64)>,
    pub unsuitable: Vec<Unsuitable>,
}

/// How tasks without a right tool are told from the others.
#[derive(Debug, Clone, Serialize)]
pub struct Unsuitable {
    pub set: &'static str,
    /// Why no tool is right.
    pub why: &'static str,
    /// Tasks without a right tool, and the share of them for which none was offered: the more the better.
    pub without: usize,
    pub without_refused: f64,
    /// Tasks with one, and the share of them for which none was offered: the fewer the better.
    pub with: usize,
    pub with_refused: f64,
    /// Area under the ROC curve of the best semantic score, and of the confidence: 1 tells them all apart, 0.5 none.
    pub by_score: f64,
    pub by_confidence: f64,
    /// Least semantic score at which two tasks with a right tool in a hundred would be refused, and the share of those
    /// without one that would be.
    pub least_score: f64,
    pub least_refused: f64,
}

/// Share of the tasks with a right tool whose refusal is thought bearable.
const BEARABLE: f64 = 0.02;

/// Measures both over each set of each catalog.
pub async fn measure(stand: &Stand, collections: &[&Collection], progress: &Progress) -> Calibration {
    let (mut all, mut sets, mut unsuitable) = (Vec::new(), Vec::new(), Vec::new());
    for collection in collections {
        for set in &collection.sets {
            progress.begin(format!("{}: confidence", set.name), set.queries.len());
            let queries: Vec<&Query> = set.queries.iter().collect();
            let answers = ask(stand, collection.name, &queries, |_| AGENT.to_owned(), progress).await;
            let judged: Vec<(f64, bool)> = queries.iter().zip(&answers).filter_map(judge).collect();
            sets.push((set.name, judged.len(), calibration(&judged).1));
            all.extend(judged);
            let (with, without): (Vec<_>, Vec<_>) =
                queries.iter().zip(answers).partition(|(query, _)| !query.relevant.is_empty());
            let with: Vec<Answer> = with.into_iter().map(|(_, answer)| answer).collect();
            if !without.is_empty() {
                let without: Vec<Answer> = without.into_iter().map(|(_, answer)| answer).collect();
                unsuitable.push(Unsuitable::new(set.name, "no tool does it", &with, &without));
            }
            progress.begin(format!("{}: right tools not permitted", set.name), with.len());
            let queries: Vec<&Query> =
                queries.into_iter().filter(|query| !query.relevant.is_empty()).collect();
            let agent = |query: &Query| Stand::agent_without(&query.relevant);
            let without = ask(stand, collection.name, &queries, agent, progress).await;
            unsuitable.push(Unsuitable::new(set.name, "the right tool is not permitted", &with, &without));
        }
    }
    let (bins, error) = calibration(&all);
    Calibration { bins, error, sets, unsuitable }
}

/// The confidence of an answer that offered a tool, and whether that was right.
fn judge((query, answer): (&&Query, &Answer)) -> Option<(f64, bool)> {
    let first = answer.ranked.first()?;
    Some((answer.response.confidence, query.relevant.contains(first)))
}

impl Unsuitable {
    fn new(set: &'static str, why: &'static str, with: &[Answer], without: &[Answer]) -> Self {
        let refused = |answers: &[Answer]| {
            let none = answers.iter().filter(|answer| answer.ranked.is_empty()).count();
            none as f64 / answers.len().max(1) as f64
        };
        let apart = |score: fn(&Answer) -> f64| {
            let scores = |answers: &[Answer]| answers.iter().map(score).collect::<Vec<_>>();
            separation(&scores(with), &scores(without))
        };
        let mut scores: Vec<f64> = with.iter().map(Answer::best_score).collect();
        let least_score = percentile(&mut scores, BEARABLE);
        let under = without.iter().filter(|answer| answer.best_score() < least_score).count();
        Self {
            set,
            why,
            without: without.len(),
            without_refused: refused(without),
            with: with.len(),
            with_refused: refused(with),
            by_score: apart(Answer::best_score),
            by_confidence: apart(|answer| answer.response.confidence),
            least_score,
            least_refused: under as f64 / without.len().max(1) as f64,
        }
    }
}
