//! `toolcrib audit verify`: whether a file of the trail, or a proof of it, is whole and signed. Asks no server and no
//! database; a file of any length is read in little memory.

mod report;
mod tell;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use trail::{
    export::{KnownCheckpoint, Report, Verifier},
    note::VerifierKey,
    report as reports, statement,
};

use super::keys;
use crate::cli::{error::Error, files, output::Output};

pub use tell::{tell, tell_wrong};

/// Longest line that is read, in bytes.
const LONGEST: u64 = 64 * 1024 * 1024;
/// Lines after which progress is told.
const OFTEN: u64 = 8_192;

/// What to check.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib audit verify trail.jsonl --key toolcrib+1a2b3c4d+AYEK...
  toolcrib audit verify trail.jsonl --key keys.txt --checkpoint kept/latest
  toolcrib audit verify proof.json --key keys.txt
  toolcrib audit verify soc2.jsonl --key keys.txt --export trail.jsonl

Exit code: 0 whole; 1 not; 2 the file or an option cannot be read, a checkpoint cannot be compared by this file, or the
file alone does not show why records or payloads are gone: one with payloads from the first record to the last does.")]
pub struct VerifyArgs {
    /// File of `audit export`, `audit prove` or `audit report`; - reads standard input
    file: String,
    /// Verifier key name+hash+base64, or a file of some, known from elsewhere than the file; may be repeated
    #[arg(long = "key", value_name = "KEY|FILE")]
    keys: Vec<String>,
    /// Checkpoint that was kept elsewhere: the trail must be the one that it was signed for; may be repeated
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<String>,
    /// Export of the records that a report was made from: shows that the report has every row
    #[arg(long, value_name = "FILE")]
    export: Option<String>,
}

/// Runs the command.
pub fn run(args: &VerifyArgs, output: &mut Output) -> Result<(), Error> {
    let keys = keys::read(&args.keys)?;
    let known = args.checkpoints.iter().map(|file| checkpoint(file)).collect::<Result<Vec<_>, _>>()?;
    let mut lines = Lines::open(&args.file)?;
    let first = lines.next()?;
    if first.is_some_and(reports::is_report) {
        return report::run(&mut lines, keys, known, args.export.as_deref(), output);
    }
    if args.export.is_some() {
        return Err(Error::usage("--export goes with a report: a file of `toolcrib audit report`"));
    }
    let first = Some(lines.line.as_slice()).filter(|line| !line.is_empty());
    if first.is_some_and(statement::is_statement) {
        let statement = lines.line.clone();
        return proof(&statement, &keys, &known, output);
    }
    let report = export(&mut lines, keys, known)?;
    tell::report(&report, output)?;
    if !report.is_whole() {
        return Err(Error::Failed);
    }
    if !report.is_shown() {
        return Err(Error::usage(format!(
            "the file is not shown whole: {} payloads are said to be erased and {} records to have ended their retention, \
             and it does not show why; export the trail with payloads from its first record to its last",
            report.erased_unshown, report.ended_unshown
        )));
    }
    compared(&report)
}

/// Fails where known checkpoints could not be compared.
fn compared(report: &Report) -> Result<(), Error> {
    if report.unchecked.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the file cannot be compared with {}: it has no record there; ask the server with: toolcrib audit prove --from FILE",
        report.unchecked.join(", ")
    )))
}

fn checkpoint(file: &str) -> Result<KnownCheckpoint, Error> {
    let note = files::read(file).map_err(Error::usage)?;
    Ok(KnownCheckpoint { name: file.to_owned(), note })
}

fn proof(
    file: &[u8],
    keys: &[VerifierKey],
    known: &[KnownCheckpoint],
    output: &mut Output,
) -> Result<(), Error> {
    let checked = statement::verify(file, keys).and_then(|statement| {
        tell::compare(&statement.checkpoint, keys, known)?;
        Ok(statement)
    });
    match checked {
        Ok(statement) => tell(&statement, output),
        Err(wrong) => {
            tell_wrong(&wrong, output)?;
            Err(Error::Failed)
        }
    }
}

/// Reads an export of which the first line was read.
fn export(lines: &mut Lines, keys: Vec<VerifierKey>, known: Vec<KnownCheckpoint>) -> Result<Report, Error> {
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} records")
        .map_err(anyhow::Error::from)?;
    let progress = ProgressBar::no_length().with_style(style);
    let mut verifier = Verifier::new(keys, known);
    let mut is_there = !lines.line.is_empty();
    while is_there && verifier.read(&lines.line) {
        if let Some((records, total)) = verifier.progress().filter(|_| verifier.lines() % OFTEN == 1) {
            progress.set_length(total);
            progress.set_position(records);
        }
        is_there = lines.next()?.is_some();
    }
    progress.finish_and_clear();
    Ok(verifier.finish())
}

/// The lines of a file, one at a time.
struct Lines {
    from: BufReader<Box<dyn std::io::Read>>,
    name: String,
    line: Vec<u8>,
}

impl Lines {
    fn open(file: &str) -> Result<Self, Error> {
        let from: Box<dyn std::io::Read> = if file == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(file).map_err(|error| Error::usage(format!("cannot read {file}: {error}")))?)
        };
        Ok(Self { from: BufReader::with_capacity(1 << 20, from), name: file.to_owned(), line: Vec::new() })
    }

    /// The next line with its newline; of one that is too long, its beginning. `None`: the file has ended.
    fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        self.line.clear();
        let failed = |error: std::io::Error| Error::usage(format!("cannot read {}: {error}", self.name));
        let read = (&mut self.from).take(LONGEST).read_until(b'\n', &mut self.line).map_err(failed)?;
        if read as u64 == LONGEST && !self.line.ends_with(b"\n") {
            self.from.skip_until(b'\n').map_err(failed)?;
        }
        Ok((read > 0).then_some(&self.line))
    }
}
