//! The table, the cost of each guarantee and the targets, as Markdown and as JSON.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::json;

use crate::{
    catalog::Catalog,
    decisions::Decisions,
    load::Measured,
    machine::Machine,
    run::{Sample, Samples, Stage},
    table::{Kind, Place, Row, Step},
    targets::{self, Target},
};

/// Callers at which the cost of each guarantee is told.
const LADDER_CALLERS: usize = 8;
/// Width of the longest bar.
const BAR: f64 = 40.0;

/// One line of the table: medians over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Line {
    #[serde(skip)]
    pub row: Row,
    pub callers: usize,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// CPU time of a call, in microseconds.
    pub cpu_us: f64,
    pub postgres_cpu_us: f64,
    pub generator_cpu_us: f64,
    pub resident_mib: f64,
    /// Audit events a second that left a full outbox.
    pub audit_events_per_second: Option<f64>,
}

/// Everything that was found.
pub struct Report {
    machine: Machine,
    lines: Vec<Line>,
    targets: Vec<Target>,
    catalog: Option<Catalog>,
}

impl Report {
    /// From the samples.
    pub fn new(
        machine: Machine,
        samples: &Samples,
        stage: &Stage,
        besides: (Option<Decisions>, Option<Catalog>),
    ) -> Self {
        let mut lines: Vec<Line> =
            samples.iter().map(|((row, callers), samples)| line(*row, *callers, samples)).collect();
        let order = crate::table::rows();
        lines.sort_by_key(|line| (order.iter().position(|row| *row == line.row), line.callers));
        let targets = targets::targets(&lines, stage.all.started_in, (besides.0, besides.1.as_ref()));
        Self { machine, lines, targets, catalog: besides.1 }
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = self.header();
        text.push_str(
            "| where | tool | call | callers | calls/s | p50 ms | p99 ms | CPU µs | of PostgreSQL | of the load | MiB |\n\
             |---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for line in &self.lines {
            let Row { place, kind, step } = line.row;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {:.0} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} |",
                place.as_str(),
                kind.as_str(),
                step.as_str(),
                line.callers,
                line.per_second,
                line.p50_ms,
                line.p99_ms,
                line.cpu_us,
                line.postgres_cpu_us,
                line.generator_cpu_us,
                line.resident_mib,
            );
        }
        for kind in [Kind::Reads, Kind::Effects] {
            for place in [Place::AllInOne, Place::Split] {
                text.push_str(&self.ladder(place, kind));
            }
        }
        text.push_str(&self.catalog());
        text.push_str(&targets::markdown(&self.targets));
        text
    }

    fn header(&self) -> String {
        let Machine { cores, cpu, kernel, postgres, flush_ms, load, commit, date } = &self.machine;
        format!(
            "# What a call costs\n\n{date}, commit {commit}. {cores} cores, {cpu}, Linux {kernel}, load {load:.1} before \
             the start; PostgreSQL {postgres} on the same machine, fsync on, one flush {flush_ms:.2} ms. \
             Medians of interleaved rounds.\n\n",
        )
    }

    /// Requests among ten thousand tools.
    fn catalog(&self) -> String {
        let Some(Catalog { rows, start_s, empty_mib, full_mib, snapshot_ms }) = &self.catalog else {
            return String::new();
        };
        let mut text = format!(
            "\n## A catalog of {} tools, all in one\n\nFrom start to the last tool being offered {start_s:.2} s; {full_mib:.0} \
             MiB resident, {empty_mib:.0} with hardly any tool; the snapshot of WatchTools in {snapshot_ms:.0} ms.\n\n\
             | request | callers | calls/s | p50 ms | p99 ms |\n|---|--:|--:|--:|--:|\n",
            crate::catalog::TOOLS,
        );
        for crate::catalog::Row { what, callers, measured } in rows {
            let Measured { per_second, p50_ms, p99_ms, .. } = measured;
            let _ = writeln!(text, "| {what} | {callers} | {per_second:.0} | {p50_ms:.2} | {p99_ms:.2} |");
        }
        text
    }

    /// What each guarantee adds, as bars.
    fn ladder(&self, place: Place, kind: Kind) -> String {
        let steps = [
            (Place::Tonic, Kind::Any, Step::Driver),
            (place, Kind::Any, Step::Authenticate),
            (place, Kind::Any, Step::Authorize),
            (place, Kind::Any, Step::ValidateInput),
            (place, Kind::Any, Step::ValidateOutput),
            (place, Kind::Any, Step::Limit),
            (place, kind, Step::Intent),
            (place, kind, Step::Outcome),
            (place, kind, Step::Audit),
        ];
        let found: Vec<&Line> = steps
            .iter()
            .filter_map(|(place, kind, step)| find(&self.lines, (*place, *kind, *step), LADDER_CALLERS))
            .collect();
        if found.len() < steps.len() {
            return String::new();
        }
        let cpu = |line: &Line| line.cpu_us + line.postgres_cpu_us;
        let added: Vec<(f64, f64)> = found
            .iter()
            .enumerate()
            .map(|(index, line)| match index.checked_sub(1).map(|before| found[before]) {
                None => (cpu(line), line.p50_ms),
                Some(before) => (cpu(line) - cpu(before), line.p50_ms - before.p50_ms),
            })
            .collect();
        let most = added.iter().fold(1.0_f64, |most, (cpu, _)| most.max(*cpu));
        let mut text = format!(
            "\n## Added by each guarantee: {}, {}, {LADDER_CALLERS} callers\n\nCPU µs a call, PostgreSQL included; p50 in ms.\n\n```\n",
            place.as_str(),
            kind.as_str()
        );
        for (line, (cpu, p50)) in found.iter().zip(&added) {
            let bar = "#".repeat(length(*cpu / most * BAR));
            let _ = writeln!(text, "{:20} {cpu:7.0} µs {p50:+8.3} ms  {bar}", line.row.step.as_str());
        }
        text + "```\n"
    }

    /// Writes both forms into the folder `bench` beside the build, and gives it.
    pub fn write(&self) -> PathBuf {
        let program = std::env::current_exe().unwrap();
        let folder = program.ancestors().nth(2).unwrap_or(Path::new("target")).join("bench");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("report.md"), self.markdown()).unwrap();
        let json = serde_json::to_string_pretty(&self.json()).unwrap();
        fs::write(folder.join("report.json"), json).unwrap();
        folder
    }

    fn json(&self) -> serde_json::Value {
        let lines = self.lines.iter().map(|line| {
            let mut value = json!(line);
            let Row { place, kind, step } = line.row;
            value["where"] = json!(place);
            value["tool"] = json!(kind);
            value["call"] = json!(step.as_str());
            value
        });
        json!({
            "machine": self.machine,
            "lines": lines.collect::<Vec<_>>(),
            "targets": self.targets,
            "catalog": self.catalog,
        })
    }
}

/// The line of a row with so many callers.
pub fn find(lines: &[Line], (place, kind, step): (Place, Kind, Step), callers: usize) -> Option<&Line> {
    let row = Row { place, kind, step };
    lines.iter().find(|line| line.row == row && line.callers == callers)
}

fn line(row: Row, callers: usize, samples: &[Sample]) -> Line {
    let of = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
    let drained: Vec<f64> = samples.iter().filter_map(|sample| sample.drained_per_second).collect();
    Line {
        row,
        callers,
        per_second: of(|sample| sample.measured.per_second),
        p50_ms: of(|sample| sample.measured.p50_ms),
        p99_ms: of(|sample| sample.measured.p99_ms),
        cpu_us: of(|sample| sample.cpu.ours),
        postgres_cpu_us: of(|sample| sample.cpu.postgres),
        generator_cpu_us: of(|sample| sample.cpu.generator),
        resident_mib: of(|sample| sample.resident_mib),
        // Each call leaves two events: one for the audit, one for the selector.
        audit_events_per_second: (!drained.is_empty()).then(|| median(drained) / 2.0),
    }
}

/// The middle one, or the lower of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few dozen, never negative")]
fn length(width: f64) -> usize {
    width.max(0.0).round() as usize
}
