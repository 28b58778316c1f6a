//! The table, and the report in `target/soak`. Must never leave a breach out.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use tests::chaos::Report;

/// Most breaches of one kind of scenario that the terminal shows; the report has all.
const SHOWN: usize = 5;

/// Whether every rule held.
pub fn is_sound(report: &Report) -> bool {
    report.breaches.is_empty() && report.lost == 0 && report.twice == 0
}

fn verdict(report: &Report) -> &'static str {
    if is_sound(report) { "pass" } else { "FAIL" }
}

/// One scenario, as soon as it has ended.
pub fn line(report: &Report, took: Duration) -> String {
    let mut text = format!("{}  {} ({:.0} s)", verdict(report), report.scenario, took.as_secs_f64());
    for breach in report.breaches.iter().take(SHOWN) {
        let _ = write!(text, "\n      {breach}");
    }
    if report.breaches.len() > SHOWN {
        let _ = write!(text, "\n      and {} more", report.breaches.len() - SHOWN);
    }
    text
}

const COLUMNS: [&str; 8] =
    ["scenario", "calls", "kills", "lost", "twice", "slowest terminal", "took", "verdict"];

fn cells(report: &Report, took: Duration) -> [String; 8] {
    [
        report.scenario.to_owned(),
        report.calls.to_string(),
        report.kills.to_string(),
        report.lost.to_string(),
        report.twice.to_string(),
        if report.slowest.is_zero() {
            "-".to_owned()
        } else {
            format!("{:.1} s", report.slowest.as_secs_f64())
        },
        format!("{:.0} s", took.as_secs_f64()),
        verdict(report).to_owned(),
    ]
}

/// All scenarios.
pub fn table(reports: &[(Report, Duration)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(COLUMNS);
    for (report, took) in reports {
        table.add_row(cells(report, *took));
    }
    table.to_string()
}

/// Where the report is: beside the folders of the build profiles.
pub fn folder() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).unwrap_or(Path::new(".")).join("soak"))
}

/// Writes `report.md` and `report.json`.
pub fn write(reports: &[(Report, Duration)]) -> io::Result<()> {
    let folder = folder()?;
    fs::create_dir_all(&folder)?;
    let rows: Vec<Value> = reports.iter().map(|(report, took)| as_json(report, *took)).collect();
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(&rows)?)?;
    fs::write(folder.join("report.md"), markdown(reports))
}

fn as_json(report: &Report, took: Duration) -> Value {
    json!({
        "scenario": report.scenario,
        "calls": report.calls,
        "kills": report.kills,
        "lost": report.lost,
        "twice": report.twice,
        "slowest_terminal_s": report.slowest.as_secs_f64(),
        "took_s": took.as_secs_f64(),
        "passed": is_sound(report),
        "breaches": report.breaches,
        "notes": report.notes,
    })
}

fn markdown(reports: &[(Report, Duration)]) -> String {
    let row = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("# Soak\n\n{}{}", row(&COLUMNS), row(&["---"; 8]));
    for (report, took) in reports {
        text += &row(&cells(report, *took).each_ref().map(String::as_str));
    }
    for (report, _) in reports {
        let _ = write!(text, "\n## {}\n\n", report.scenario);
        for breach in &report.breaches {
            let _ = writeln!(text, "- **broken**: {breach}");
        }
        for note in &report.notes {
            let _ = writeln!(text, "- {note}");
        }
    }
    text
}
