//! The targets of the design that this run can tell of, and whether they were held.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    catalog::Catalog,
    decisions::Decisions,
    report::{Line, find},
    table::{Kind, Place, Step},
};

/// One target.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    what: &'static str,
    aim: f64,
    unit: &'static str,
    /// Whether more is better.
    at_least: bool,
    /// `None`: the rows that it needs were not measured.
    measured: Option<f64>,
}

impl Target {
    fn held(&self) -> Option<bool> {
        self.measured.map(|found| if self.at_least { found >= self.aim } else { found <= self.aim })
    }
}

/// Every target, with what these lines say of it.
pub fn targets(
    lines: &[Line],
    started_in: Duration,
    (decisions, catalog): (Option<Decisions>, Option<&Catalog>),
) -> Vec<Target> {
    let line = |place, kind, step, callers| find(lines, (place, kind, step), callers);
    let driver = line(Place::Tonic, Kind::Any, Step::Driver, 8);
    let inner_driver = line(Place::InProcess, Kind::Any, Step::Driver, 8);
    let whole = |kind| line(Place::AllInOne, kind, Step::Audit, 8);
    let inner = |kind| line(Place::InProcess, kind, Step::Audit, 8);
    let added = |whole: Option<&Line>, driver: Option<&Line>, value: fn(&Line) -> f64| {
        Some(value(whole?) - value(driver?))
    };
    let ratio = |kind, step| {
        let whole = line(Place::AllInOne, kind, Step::Audit, 64)?;
        share(whole, line(Place::Tonic, Kind::Any, step, 64)?)
    };
    let through = || {
        let through = line(Place::AllInOne, Kind::Effects, Step::Mcp, 32)?;
        share(through, line(Place::Mcp, Kind::Any, Step::Mcp, 32)?)
    };
    let events = lines.iter().filter(|line| line.row.place == Place::AllInOne);
    let events = events.filter_map(|line| line.audit_events_per_second).reduce(f64::max);
    let p50 = |line: &Line| line.p50_ms;
    let p99 = |line: &Line| line.p99_ms;
    let most = |what, aim, unit, measured| Target { what, aim, unit, at_least: false, measured };
    let least = |what, aim, unit, measured| Target { what, aim, unit, at_least: true, measured };
    let (reads, effects) = (Kind::Reads, Kind::Effects);
    vec![
        most("READ_ONLY, 8 callers: p50 added to the driver", 0.6, "ms", added(whole(reads), driver, p50)),
        most("READ_ONLY, 8 callers: p99 added to the driver", 3.0, "ms", added(whole(reads), driver, p99)),
        most("the same without a socket: p50", 0.6, "ms", added(inner(reads), inner_driver, p50)),
        most(
            "SIDE_EFFECT, 8 callers: p50 added to the driver",
            1.8,
            "ms",
            added(whole(effects), driver, p50),
        ),
        most(
            "SIDE_EFFECT, 8 callers: p99 added to the driver",
            6.0,
            "ms",
            added(whole(effects), driver, p99),
        ),
        most("the same without a socket: p50", 1.8, "ms", added(inner(effects), inner_driver, p50)),
        least("READ_ONLY, 64 callers: calls/s against a bare tonic echo", 0.25, "", ratio(reads, Step::Echo)),
        least(
            "SIDE_EFFECT, 64 callers: calls/s against an echo with two group commits",
            0.5,
            "",
            ratio(effects, Step::EchoTwoCommits),
        ),
        least("MCP echo, 32 callers: calls/s against the server called directly", 1.0, "", through()),
        most(
            "resident memory, all in one, 1,000 tools",
            250.0,
            "MiB",
            whole(reads).map(|line| line.resident_mib),
        ),
        most(
            "Authorize in process, 100,000 grants, 1 caller: p99",
            1.0,
            "ms",
            decisions.map(|decisions| decisions.one.p99_ms),
        ),
        most(
            "Authorize in process, 100,000 grants, 8 callers: p99",
            1.0,
            "ms",
            decisions.map(|decisions| decisions.eight.p99_ms),
        ),
        most("start to first answered call, all in one", 3.0, "s", Some(started_in.as_secs_f64())),
        most("the slowest request among 10,000 tools: p99", 20.0, "ms", catalog.map(Catalog::slowest_p99_ms)),
        least("audit events a second out of a full outbox", 3_000.0, "/s", events),
    ]
}

/// Calls a second of one against another; `None` where the other made none.
fn share(one: &Line, other: &Line) -> Option<f64> {
    Some(one.per_second / other.per_second).filter(|share| share.is_finite())
}

/// As a table.
pub fn markdown(targets: &[Target]) -> String {
    let mut text = "\n## Targets\n\n| what | target | measured | |\n|---|--:|--:|---|\n".to_owned();
    for target in targets {
        let Target { what, aim, unit, at_least, measured } = target;
        let sign = if *at_least { "≥" } else { "≤" };
        let measured = measured.map_or("not measured".to_owned(), |found| format!("{found:.2} {unit}"));
        let held = match target.held() {
            Some(true) => "held",
            Some(false) => "missed",
            None => "",
        };
        let _ = writeln!(text, "| {what} | {sign} {aim} {unit} | {measured} | {held} |");
    }
    text
}
