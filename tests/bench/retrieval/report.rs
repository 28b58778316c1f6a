//! The tables for people, with what was aimed at and how far from it, and the same as JSON.

use std::fmt::Write as _;

use proto::selector::v1::GetSelectorHealthResponse;
use serde::Serialize;
use tests::retrieval::score::Quality;

use crate::{calibration::Calibration, history, latency, machine::Machine, quality, start_up::StartUp};

/// Width of the longest bar.
const BAR: f64 = 30.0;
/// NDCG@1 and NDCG@5 that are aimed at, in percent, in full mode and cold.
const AIMS: [(&str, f64, f64); 3] =
    [("metatool", 70.0, 80.0), ("two-tool", 74.0, 76.0), ("bfcl", 76.0, 84.0)];
/// The same after 20 successes a tool.
const AIM_TAUGHT: (f64, f64) = (81.0, 88.0);
/// Among 10,000 tools on two idle cores, in milliseconds: what is timed, 50th and 99th percentile.
const AIMS_LATENCY: [(&str, Option<f64>, f64); 2] =
    [("full, task unseen", Some(6.0), 20.0), ("full, task's vector kept", None, 1.0)];
/// Of 10,000 tools, in seconds: cold, and with vectors persisted.
const AIM_START_UP: (f64, f64) = (60.0, 3.0);

/// Everything that was found; a part that was not asked for is empty.
#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    /// Modes that were not what was wanted, and why.
    notes: Vec<String>,
    pub seconds: f64,
    pub quality: Vec<quality::Row>,
    pub history: Vec<history::Row>,
    pub calibration: Option<Calibration>,
    pub latency: Vec<latency::Row>,
    pub start_up: Option<StartUp>,
}

impl Report {
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            notes: Vec::new(),
            seconds: 0.0,
            quality: Vec::new(),
            history: Vec::new(),
            calibration: None,
            latency: Vec::new(),
            start_up: None,
        }
    }

    /// Says where a selector does not work in the wanted mode.
    pub fn note(&mut self, wanted: &str, health: &GetSelectorHealthResponse) {
        if health.mode != health.configured_mode {
            let mode = health.mode().as_str_name();
            self.notes.push(format!("**{wanted} works as {mode}**: {}", health.mode_reason));
        }
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap()
    }

    pub fn markdown(&self) -> String {
        let Machine { cores, cpu, kernel, postgres, load, commit, date, .. } = &self.machine;
        let mut text = format!(
            "# How well tools are found\n\n{date}, commit {commit}. {cores} cores, {cpu}, Linux {kernel}, load {load:.1} \
             before the start; PostgreSQL {postgres} on the same machine. {:.0} s in all.\n",
            self.seconds,
        );
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        for part in
            [self.quality(), self.splits(), self.merged(), self.history(), self.calibration(), self.latency()]
        {
            text.push_str(&part);
        }
        text.push_str(&self.start_up());
        text
    }

    /// Each set by itself.
    fn quality(&self) -> String {
        if self.quality.is_empty() {
            return String::new();
        }
        let mut text = "\n## Cold, in percent\n\n\
             | set | tools | queries | ranked by | NDCG@1 | NDCG@5 | Recall@5 | aim @1 | @5 | distance @1 | @5 | none offered |\n\
             |---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
        for row in self.quality.iter().filter(|row| row.catalog != "merged") {
            let aim = AIMS.iter().find(|(set, ..)| *set == row.set && row.method == "full");
            let aim = aim.map(|(_, first, five)| (*first, *five));
            let _ = writeln!(text, "{} {} |", line(row, aim), row.refused);
        }
        text
    }

    /// The project's own set by kind of query.
    fn splits(&self) -> String {
        let rows: Vec<_> =
            self.quality.iter().filter(|row| row.catalog == "own" && !row.splits.is_empty()).collect();
        if rows.is_empty() {
            return String::new();
        }
        let mut text = "\n### The project's own set by kind of query\n\n\
             | split | queries | ranked by | NDCG@1 | NDCG@5 | Recall@5 |\n|---|--:|---|--:|--:|--:|\n"
            .to_owned();
        for row in rows {
            for (split, quality) in &row.splits {
                let (queries, method) = (quality.queries, row.method);
                let _ = writeln!(text, "| {split} | {queries} | {method} | {} |", measures(quality));
            }
        }
        text
    }

    /// All catalogs in one: each set against its best single signal there.
    fn merged(&self) -> String {
        let rows: Vec<_> = self.quality.iter().filter(|row| row.catalog == "merged").collect();
        let Some(first) = rows.first() else { return String::new() };
        let mut text = format!(
            "\n## Cold, all catalogs merged into one of {} tools, in percent\n\n\
             The aim of each set is its best single signal: words alone, or the sentence model alone.\n\n\
             | set | tools | queries | ranked by | NDCG@1 | NDCG@5 | Recall@5 | aim @1 | @5 | distance @1 | @5 |\n\
             |---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|\n",
            first.tools,
        );
        for row in &rows {
            let single = rows
                .iter()
                .filter(|other| other.set == row.set && !["full", "static"].contains(&other.method));
            let best = single.fold((0.0_f64, 0.0_f64), |(first, five), other| {
                (first.max(100.0 * other.quality.ndcg_1), five.max(100.0 * other.quality.ndcg_5))
            });
            let _ = writeln!(text, "{}", line(row, (row.method == "full").then_some(best)));
        }
        text
    }

    fn history(&self) -> String {
        if self.history.is_empty() {
            return String::new();
        }
        let mut text = "\n## With history, full mode, in percent\n\n\
             Four agents succeed by turns; a fifth asks.\n\n\
             | set | successes a tool | wrong credits | queries | NDCG@1 | NDCG@5 | Recall@5 | aim @1 | @5 | distance @1 | @5 |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
        for row in &self.history {
            let aim = (row.successes == 20 && row.wrong == 0.0).then_some(AIM_TAUGHT);
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} % | {} | {}",
                row.set,
                row.successes,
                100.0 * row.wrong,
                row.quality.queries,
                figures(&row.quality, aim),
            );
        }
        text
    }

    fn calibration(&self) -> String {
        let Some(found) = &self.calibration else { return String::new() };
        let mut text = format!(
            "\n## Confidence\n\nExpected calibration error over all sets: {:.3}. By set:",
            found.error
        );
        for (set, answers, error) in &found.sets {
            let _ = write!(text, " {set} {error:.3} ({answers} answers);");
        }
        text.push_str("\n\n```text\nconfidence  answers  said  was right\n");
        for (index, bin) in found.bins.iter().enumerate() {
            let (low, high) = (index as f64 / 10.0, (index + 1) as f64 / 10.0);
            let _ = writeln!(
                text,
                "{low:.1} - {high:.1}  {:>8}  {:>4.2}  {:>4.2} {}",
                bin.answers,
                bin.confidence,
                bin.right,
                plot(bin.confidence, bin.right),
            );
        }
        text.push_str("```\n\nA bar is what was right, `|` what was said.\n\n## No suitable tool\n\n");
        text.push_str(
            "| set | why none is right | without a right tool | none offered | with one | none offered | told apart by score | by confidence | least score | would refuse |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for row in &found.unsuitable {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} % | {} | {:.1} % | {:.3} | {:.3} | {:.3} | {:.1} % |",
                row.set,
                row.why,
                row.without,
                100.0 * row.without_refused,
                row.with,
                100.0 * row.with_refused,
                row.by_score,
                row.by_confidence,
                row.least_score,
                100.0 * row.least_refused,
            );
        }
        text.push_str(
            "\nTold apart: 1 all, 0.5 none (area under the ROC curve). Least score: what `selector.min_semantic_score` would \
             have to be to refuse two in a hundred of those with a right tool, and what it would refuse of the others.\n",
        );
        text
    }

    fn latency(&self) -> String {
        if self.latency.is_empty() {
            return String::new();
        }
        let mut text = "\n## Latency of SelectTools, one caller, in process\n\n\
             | tools | mode | selections | p50 ms | p99 ms | of that permissions' stand-in, mean | aim p50 | p99 |\n\
             |--:|---|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
        for row in &self.latency {
            let aim = AIMS_LATENCY.iter().find(|(what, ..)| row.tools == 10_000 && *what == row.what);
            let told = |aim: Option<f64>| aim.map_or(String::new(), |aim| format!("{aim:.0}"));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.3} | {:.3} | {:.3} | {} | {} |",
                row.tools,
                row.what,
                row.selections,
                row.p50_ms,
                row.p99_ms,
                row.permissions_ms,
                told(aim.and_then(|aim| aim.1)),
                told(aim.map(|aim| aim.2)),
            );
        }
        text
    }

    fn start_up(&self) -> String {
        let Some(StartUp { tools, cold_s, persisted_s, first_answer_s, index_mib, before_mib, after_mib }) =
            &self.start_up
        else {
            return String::new();
        };
        let (cold, persisted) = AIM_START_UP;
        format!(
            "\n## Start with {tools} tools\n\n\
             | | found | aim |\n|---|--:|--:|\n\
             | until every vector is made, cold, s | {cold_s:.2} | {cold:.0} |\n\
             | until every vector is read, persisted, s | {persisted_s:.2} | {persisted:.0} |\n\
             | until the first answer, persisted, s | {first_answer_s:.2} | |\n\
             | index and vectors, as the service says, MiB | {index_mib:.1} | |\n\
             | resident memory before, MiB | {before_mib:.0} | |\n\
             | resident memory with model and tools, MiB | {after_mib:.0} | |\n",
        )
    }
}

fn line(row: &quality::Row, aim: Option<(f64, f64)>) -> String {
    let quality::Row { set, tools, method, quality, .. } = row;
    format!("| {set} | {tools} | {} | {method} | {}", quality.queries, figures(quality, aim))
}

fn measures(quality: &Quality) -> String {
    let Quality { ndcg_1, ndcg_5, recall_5, .. } = quality;
    format!("{:.1} | {:.1} | {:.1}", 100.0 * ndcg_1, 100.0 * ndcg_5, 100.0 * recall_5)
}

/// Three measures, the aims and the distances from them.
fn figures(quality: &Quality, aim: Option<(f64, f64)>) -> String {
    let (first, five) = (100.0 * quality.ndcg_1, 100.0 * quality.ndcg_5);
    let measured = measures(quality);
    match aim {
        None => format!("{measured} | | | | |"),
        Some((aim_1, aim_5)) => {
            let (from_1, from_5) = (first - aim_1, five - aim_5);
            format!("{measured} | {aim_1:.1} | {aim_5:.1} | {from_1:+.1} | {from_5:+.1} |")
        }
    }
}

/// A bar for one share and a mark for another.
fn plot(mark: f64, share: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 30")]
    let [mark, length] = [mark, share].map(|share| (share * BAR).round() as usize);
    let cell = |place: usize| match place {
        _ if place == mark => '|',
        _ if place < length => '█',
        _ => ' ',
    };
    (0..=mark.max(length)).map(cell).collect::<String>().trim_end().to_owned()
}
