//! Checks the file of a report: its signature, its digest and its rows, and, given an export of the same records, that it
//! has every row that it must have.

use serde_json::json;
use trail::{
    export::{self, KnownCheckpoint},
    note::VerifierKey,
    report::{Checked, Completeness, Verifier},
};

use super::{Lines, tell};
use crate::cli::{error::Error, output::Output};

/// Checks a report of which the first line was read.
pub fn run(
    lines: &mut Lines,
    keys: Vec<VerifierKey>,
    known: Vec<KnownCheckpoint>,
    export: Option<&str>,
    output: &mut Output,
) -> Result<(), Error> {
    let mut verifier = Verifier::new(keys.clone());
    let mut is_there = true;
    while is_there {
        verifier.read(&lines.line);
        is_there = lines.next()?.is_some();
    }
    let checked = match verifier.finish() {
        Ok(checked) => checked,
        Err(wrong) => return refused(&wrong, output),
    };
    let compared = match export {
        Some(export) => compare(&checked, keys, known, export)?,
        None => tell::compare(&checked.checkpoint, &keys, &known),
    };
    if let Err(wrong) = compared {
        return refused(&wrong, output);
    }
    told(&checked, export, output)
}

/// Compares a report with an export; the inner error says what is wrong with one of them.
fn compare(
    checked: &Checked,
    keys: Vec<VerifierKey>,
    known: Vec<KnownCheckpoint>,
    file: &str,
) -> Result<Result<(), String>, Error> {
    let mut completeness = match Completeness::new(checked) {
        Ok(completeness) => completeness,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let mut verifier = export::Verifier::new(keys, known);
    let mut lines = Lines::open(file)?;
    while lines.next()?.is_some() {
        if !verifier.read(&lines.line) {
            break;
        }
        completeness.read(&lines.line, &verifier);
    }
    let export = verifier.finish();
    let complete = completeness.finish(&export);
    if complete.is_ok() {
        super::compared(&export)?;
    }
    Ok(complete)
}

fn refused(wrong: &str, output: &mut Output) -> Result<(), Error> {
    tell::tell_unsound(wrong, output)?;
    Err(Error::Failed)
}

fn told(checked: &Checked, export: Option<&str>, output: &mut Output) -> Result<(), Error> {
    let Checked { summary, signed_by, key_known, .. } = checked;
    if output.is_json() {
        return output.json(&json!({
            "whole": true, "complete": export.map(|_| true), "framework": summary.framework,
            "team_id": summary.team_id, "origin": summary.origin, "rows": summary.rows, "digest": summary.digest,
            "start_time": summary.start_time, "end_time": summary.end_time, "begin": summary.begin,
            "end": summary.end, "tree_size": summary.size, "root": summary.root,
            "available_start_time": summary.available_start_time, "generate_time": summary.generate_time,
            "signed_by": signed_by, "key_known": key_known,
        }));
    }
    output.view(|view| tell::sound(checked, export, view.style))
}
