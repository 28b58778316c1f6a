//! `toolcrib audit export`: the trail as a file that proves itself.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use proto::audit::v1::{ExportTrailRequest, ExportTrailResponse};
use serde_json::json;
use tonic::Streaming;

use super::file::NewFile;
use crate::cli::{client::Client, error::Error, human, output::Output};

/// What to export.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib audit export --out trail.jsonl
  toolcrib audit export --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --out november.jsonl
  toolcrib audit export --headers-only | gzip > trail.jsonl.gz

Check it anywhere, without a connection, with: toolcrib audit verify trail.jsonl --key VERIFIER_KEY")]
pub struct ExportArgs {
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// From the first event after: how long ago (1h, 7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    since: Option<DateTime<Utc>>,
    /// To the last event before: how long ago, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    until: Option<DateTime<Utc>>,
    /// Leave out payloads: who asked what with which arguments; headers alone prove the same
    #[arg(long)]
    headers_only: bool,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Runs the command.
pub async fn run(args: ExportArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = ExportTrailRequest {
        start_time: args.since.map(human::to_wire),
        end_time: args.until.map(human::to_wire),
        headers_only: args.headers_only,
    };
    let stream = client.audit().export_trail(request).await?.into_inner();
    let Some(path) = &args.out else {
        return copy(stream, |lines| output.bytes(lines)).await.map(|_| ());
    };
    let mut file = NewFile::begin(path)?;
    let records = copy(stream, |lines| file.write(lines)).await?;
    file.finish()?;
    if output.is_json() {
        return output.json(&json!({ "file": path, "records": records }));
    }
    let path = path.display();
    output.text(&format!("{records} records in {path}"))?;
    output.note(&format!("check it with: toolcrib audit verify {path} --key VERIFIER_KEY"))
}

/// Hands the lines on as they come; gives how many records they are. Without its last line the file is not whole.
async fn copy(
    mut stream: Streaming<ExportTrailResponse>,
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<i64, Error> {
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} records")
        .map_err(anyhow::Error::from)?;
    let progress = ProgressBar::no_length().with_style(style);
    let (mut records, mut last) = (0, Vec::new());
    while let Some(part) = stream.message().await? {
        write(&part.lines)?;
        records = part.total_records;
        progress.set_length(u64::try_from(records).unwrap_or(0));
        progress.set_position(u64::try_from(part.records).unwrap_or(0));
        last = part.lines;
    }
    progress.finish_and_clear();
    let end = last.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
    if end.is_some_and(|line| line.starts_with(b"{\"end\":true")) {
        Ok(records)
    } else {
        Err(Error::incomplete("end"))
    }
}
