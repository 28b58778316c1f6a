//! What came out of checking a file, for people and as JSON.

use std::{fmt::Write as _, ops::Range};

use serde_json::{Value, json};
use trail::{
    Checkpoint,
    export::{Fault, KnownCheckpoint, Report},
    note::VerifierKey,
    report::Checked,
    statement::{Proven, Statement},
};

use crate::cli::{
    error::Error,
    output::{Output, Style, Tone, View},
};

/// Ranges of records that are told one by one.
const RANGES: usize = 8;
/// Faults that are told to people one by one.
const FAULTS: usize = 10;

/// Tells what an export proves.
pub fn report(report: &Report, output: &mut Output) -> Result<(), Error> {
    if output.is_json() { output.json(&as_json(report)) } else { output.view(|view| as_text(report, view)) }
}

fn as_text(report: &Report, view: View) -> String {
    let mut lines = vec![verdict(report, view.style)];
    let mut row = |label: &str, text: String| lines.push(format!("  {label:<12}{text}"));
    for fault in report.faults.iter().skip(1).take(FAULTS) {
        row("also", fault.to_string());
    }
    if report.fault_count > 1 + FAULTS as u64 {
        row("also", format!("{} more", grouped(report.fault_count - 1 - FAULTS as u64)));
    }
    if let Some(manifest) = &report.manifest {
        let trail =
            format!("team {} ({}), exported {}", manifest.team_id, manifest.origin, manifest.export_time);
        row("trail", trail);
        row("range", range_told(report));
        row("proven", proven(report));
        if manifest.headers_only {
            row("payloads", "left out".into());
        } else {
            row("payloads", payloads(report));
        }
        if report.ended > 0 {
            row("ended", ended(report));
        }
    }
    if !report.signed_by.is_empty() {
        row("signed by", signer(&report.signed_by, report.key_known));
    }
    for name in &report.checkpoints {
        row("checkpoint", format!("{name}: the trail holds what it was signed for"));
    }
    for name in &report.unchecked {
        row("checkpoint", format!("{name}: NOT compared, the file has no record there"));
    }
    lines.join("\n")
}

fn verdict(report: &Report, style: Style) -> String {
    match report.first() {
        None if !report.is_shown() => format!(
            "{}: nothing in it was changed, added or moved, but not all of it shows why it is left out",
            style.paint("NOT SHOWN WHOLE", Tone::Bad)
        ),
        None => format!(
            "{}: nothing of it was changed, left out, added or moved",
            style.paint("whole", Tone::Good)
        ),
        Some(fault) => format!("{}: {fault}", style.paint("NOT WHOLE", Tone::Bad)),
    }
}

fn range_told(report: &Report) -> String {
    let Some(manifest) = &report.manifest else { return String::new() };
    let asked = match (manifest.start_time.as_str(), manifest.end_time.as_str()) {
        ("", "") => String::new(),
        (start, "") => format!(", for events from {start}"),
        ("", end) => format!(", for events before {end}"),
        (start, end) => format!(", for events from {start} to before {end}"),
    };
    let tree = grouped(manifest.size);
    if manifest.begin == manifest.end {
        return format!("no record of the {tree} in the tree{asked}");
    }
    format!("{} of the {tree} in the tree{asked}", records(&(manifest.begin..manifest.end)))
}

fn proven(report: &Report) -> String {
    if report.proven == 0 {
        return "nothing".into();
    }
    let mut ranges: Vec<String> = report.ranges.iter().take(RANGES).map(records).collect();
    if report.ranges.len() > RANGES {
        ranges.push("more".into());
    }
    format!("{} records: {}", grouped(report.proven), ranges.join(", "))
}

fn payloads(report: &Report) -> String {
    let mut text = format!("{} proven", grouped(report.payloads));
    if report.erased > 0 {
        let _ = write!(text, ", {} erased with their data subjects", grouped(report.erased));
    }
    if report.erased_unshown > 0 {
        let unshown = grouped(report.erased_unshown);
        let _ = write!(text, "; of {unshown} the erasure does not stand in this file");
    }
    text
}

fn ended(report: &Report) -> String {
    let mut text = format!("{} records, whose retention has ended", grouped(report.ended));
    if report.ended_unshown > 0 {
        let unshown = grouped(report.ended_unshown);
        let _ = write!(
            text,
            "; of {unshown} this file alone does not show it: their event, or others of it, lie elsewhere"
        );
    }
    text
}

fn signer(key: &str, is_known: bool) -> String {
    if is_known {
        return format!("{key}, a key that you gave");
    }
    format!(
        "{key}, which was NOT checked against a known key: anybody can sign with a key of their own; give --key"
    )
}

fn records(range: &Range<u64>) -> String {
    if range.end - range.start == 1 {
        return grouped(range.start);
    }
    format!("{} to {}", grouped(range.start), grouped(range.end - 1))
}

/// With commas at the thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn as_json(report: &Report) -> Value {
    let manifest = report.manifest.as_ref();
    json!({
        "whole": report.is_whole() && report.is_shown(),
        "faults": report.faults.iter().map(fault_json).collect::<Vec<_>>(),
        "fault_count": report.fault_count,
        "team_id": manifest.map(|manifest| &manifest.team_id),
        "origin": manifest.map(|manifest| &manifest.origin),
        "begin": manifest.map(|manifest| manifest.begin),
        "end": manifest.map(|manifest| manifest.end),
        "tree_size": manifest.map(|manifest| manifest.size),
        "root": manifest.map(|manifest| &manifest.root),
        "headers_only": manifest.map(|manifest| manifest.headers_only),
        "start_time": manifest.map(|manifest| &manifest.start_time),
        "end_time": manifest.map(|manifest| &manifest.end_time),
        "export_time": manifest.map(|manifest| &manifest.export_time),
        "lines": report.lines,
        "proven": report.proven,
        "proven_ranges": report.ranges.iter().map(|range| [range.start, range.end]).collect::<Vec<_>>(),
        "payloads": report.payloads,
        "erased": report.erased,
        "erased_unshown": report.erased_unshown,
        "ended": report.ended,
        "ended_unshown": report.ended_unshown,
        "signed_by": report.signed_by,
        "key_known": report.key_known,
        "checkpoints": report.checkpoints,
        "checkpoints_not_compared": report.unchecked,
    })
}

fn fault_json(fault: &Fault) -> Value {
    let Fault { line, index, id, kind } = fault;
    json!({ "kind": kind.name(), "line": line, "index": index, "id": id, "message": fault.to_string() })
}

/// Tells what a proof proves.
pub fn tell(statement: &Statement, output: &mut Output) -> Result<(), Error> {
    if output.is_json() {
        return output.json(&statement_json(statement));
    }
    output.view(|view| statement_text(statement, view.style))
}

/// Tells what is wrong with a proof.
pub fn tell_wrong(wrong: &str, output: &mut Output) -> Result<(), Error> {
    if output.is_json() {
        return output.json(&json!({ "proven": false, "message": wrong }));
    }
    output.view(|view| format!("{}: {wrong}", view.style.paint("NOT PROVEN", Tone::Bad)))
}

/// Tells what is wrong with a report.
pub fn tell_unsound(wrong: &str, output: &mut Output) -> Result<(), Error> {
    if output.is_json() {
        return output.json(&json!({ "whole": false, "message": wrong }));
    }
    output.view(|view| format!("{}: {wrong}", view.style.paint("NOT WHOLE", Tone::Bad)))
}

/// What a report proves, for people.
pub fn sound(checked: &Checked, export: Option<&str>, style: Style) -> String {
    let summary = &checked.summary;
    let good = style.paint("whole", Tone::Good);
    let mut lines = vec![format!("{good}: no byte of the report was changed since it was signed")];
    let mut row = |label: &str, text: String| lines.push(format!("  {label:<12}{text}"));
    row("report", format!("{} of team {} ({})", summary.framework, summary.team_id, summary.origin));
    row("period", format!("from {} to before {}", summary.start_time, summary.end_time));
    if !summary.available_start_time.is_empty() {
        row("kept", format!("every record from {} on; older ones in part", summary.available_start_time));
    }
    row("rows", grouped(summary.rows));
    let leaves =
        if summary.begin == summary.end { "none".into() } else { records(&(summary.begin..summary.end)) };
    row("records", format!("{leaves} of the {} of the tree were looked through", grouped(summary.size)));
    row(
        "complete",
        match export {
            Some(file) => format!("it has every row that it must have by {file}, and no other"),
            None => "NOT compared; give an export of these records with --export".into(),
        },
    );
    row("signed by", signer(&checked.signed_by, checked.key_known));
    lines.join("\n")
}

/// Compares the tree of a proof, or of a report, with known checkpoints: one of the same size must have the same root.
pub fn compare(ours: &Checkpoint, keys: &[VerifierKey], known: &[KnownCheckpoint]) -> Result<(), String> {
    for KnownCheckpoint { name, note } in known {
        let believed = if keys.is_empty() {
            return Err("--checkpoint needs --key with a proof or a report".into());
        } else {
            keys
        };
        let theirs =
            Checkpoint::open(note, believed).map_err(|error| format!("checkpoint {name}: {error}"))?;
        if theirs.origin != ours.origin {
            return Err(format!(
                "checkpoint {name} is of the trail {}, not of {}",
                theirs.origin, ours.origin
            ));
        }
        if theirs.size != ours.size {
            return Err(format!(
                "checkpoint {name} is of {} records and the file of {}: it has one tree; compare them with: \
                 toolcrib audit prove --from {name}",
                theirs.size, ours.size
            ));
        }
        if theirs.root != ours.root {
            return Err(format!("checkpoint {name} was signed for another tree: the trail was rewritten"));
        }
    }
    Ok(())
}

fn statement_text(statement: &Statement, style: Style) -> String {
    let good = style.paint("proven", Tone::Good);
    let (size, origin) = (grouped(statement.checkpoint.size), &statement.checkpoint.origin);
    let what = match &statement.proven {
        Proven::Record { index, header: Some(header), .. } => format!(
            "{good}: record {} stands in the trail {origin} of {size} records\n  event       {} {} ({}) at {}",
            grouped(*index),
            header.id,
            header.action,
            header.result,
            header.event_time.to_rfc3339(),
        ),
        Proven::Record { index, leaf_hash, header: None } => format!(
            "{good}: a record with the hash {leaf_hash} stands at {} in the trail {origin} of {size} records; its \
             retention has ended, so that nothing but the hash is left",
            grouped(*index)
        ),
        Proven::Growth { first } => format!(
            "{good}: the trail {origin} of {size} records begins with the {} of the earlier checkpoint, unchanged",
            grouped(first.size)
        ),
    };
    format!("{what}\n  signed by   {}", signer(&statement.signed_by, statement.key_known))
}

fn statement_json(statement: &Statement) -> Value {
    let Statement { proven, checkpoint, signed_by, key_known } = statement;
    let mut value = json!({
        "proven": true, "origin": checkpoint.origin, "tree_size": checkpoint.size,
        "root": checkpoint.root.to_string(), "signed_by": signed_by, "key_known": key_known,
    });
    match proven {
        Proven::Record { index, leaf_hash, header } => {
            value["index"] = json!(index);
            value["leaf_hash"] = json!(leaf_hash.to_string());
            value["event_id"] = json!(header.as_ref().map(|header| &header.id));
        }
        Proven::Growth { first } => value["first_size"] = json!(first.size),
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_told_for_people() {
        assert_eq!(
            [0, 999, 1_000, 41_336, 1_234_567].map(grouped),
            ["0", "999", "1,000", "41,336", "1,234,567"]
        );
        assert_eq!((records(&(0..41_337)), records(&(7..8))), ("0 to 41,336".into(), "7".into()));
    }

    #[test]
    fn a_key_that_was_not_given_is_said_not_to_be_known() {
        assert!(signer("toolcrib+01020304", false).contains("NOT checked"));
        assert!(!signer("toolcrib+01020304", true).contains("NOT"));
    }
}
