//! `toolcrib audit report`: a report for a framework, as a file that is signed and complete.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use proto::audit::v1::{
    Framework as Wire, GenerateReportRequest, GenerateReportResponse, ReportFormat as WireFormat,
};
use serde_json::json;
use tonic::Streaming;
use trail::report::End;

use super::file::NewFile;
use crate::cli::{client::Client, error::Error, human, output::Output};

/// For whom a report is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Framework {
    /// GDPR Art. 15: all that is kept of an end user
    GdprAccess,
    /// GDPR Art. 17: erasures
    GdprErasure,
    /// GDPR Art. 30: records of processing
    GdprProcessing,
    /// HIPAA 164.312(b): every access
    HipaaAuditControls,
    /// HIPAA 164.528: disclosures of an end user's information
    HipaaDisclosures,
    /// SOC 2 CC7: changes, failures, denials, findings, reviews
    Soc2Cc7,
    /// EU AI Act Art. 12: every use, with human oversight
    EuAiAct,
}

/// How it is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// A JSON object a line
    Jsonl,
    /// For spreadsheets
    Csv,
    /// A page with charts, to read or to print
    Html,
}

/// Which report.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib audit report soc2-cc7 --from 30d --out soc2.jsonl
  toolcrib audit report gdpr-access --from 2026-01-01T00:00:00Z --user ada@example.com --format csv --out ada.csv
  toolcrib audit report eu-ai-act --from 7d --format html --out ai-act.html

Check it anywhere, without a connection, with: toolcrib audit verify soc2.jsonl --key VERIFIER_KEY")]
pub struct ReportArgs {
    /// For whom
    framework: Framework,
    /// Begin of the period: how long ago (1h, 7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    from: DateTime<Utc>,
    /// End of the period: how long ago, or an RFC 3339 time [default: now]
    #[arg(long, value_name = "WHEN", value_parser = past)]
    to: Option<DateTime<Utc>>,
    /// End user; gdpr-access and hipaa-disclosures need one
    #[arg(long)]
    user: Option<String>,
    /// How it is written
    #[arg(long, default_value = "jsonl")]
    format: Format,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

impl From<Framework> for Wire {
    fn from(framework: Framework) -> Self {
        match framework {
            Framework::GdprAccess => Self::GdprAccess,
            Framework::GdprErasure => Self::GdprErasure,
            Framework::GdprProcessing => Self::GdprProcessing,
            Framework::HipaaAuditControls => Self::HipaaAuditControls,
            Framework::HipaaDisclosures => Self::HipaaDisclosures,
            Framework::Soc2Cc7 => Self::Soc2Cc7,
            Framework::EuAiAct => Self::EuAiActRecords,
        }
    }
}

impl From<Format> for WireFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Jsonl => Self::Jsonl,
            Format::Csv => Self::Csv,
            Format::Html => Self::Html,
        }
    }
}

/// Runs the command.
pub async fn run(args: ReportArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = GenerateReportRequest {
        framework: Wire::from(args.framework).into(),
        start_time: Some(human::to_wire(args.from)),
        end_time: Some(human::to_wire(args.to.unwrap_or_else(Utc::now))),
        user: args.user.unwrap_or_default(),
        format: WireFormat::from(args.format).into(),
    };
    let stream = client.audit().generate_report(request).await?.into_inner();
    let Some(path) = &args.out else {
        return copy(stream, |content| output.bytes(content)).await.map(|_| ());
    };
    let mut file = NewFile::begin(path)?;
    let rows = copy(stream, |content| file.write(content)).await?;
    file.finish()?;
    if output.is_json() {
        return output.json(&json!({ "file": path, "rows": rows }));
    }
    let path = path.display();
    output.text(&format!("{rows} rows in {path}"))?;
    output.note(&format!("check it with: toolcrib audit verify {path} --key VERIFIER_KEY"))
}

/// Hands the file on as it comes; gives how many rows it has. Without its signed end it is not whole.
async fn copy(
    mut stream: Streaming<GenerateReportResponse>,
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<i64, Error> {
    let style = ProgressStyle::with_template("{spinner} {human_pos} rows").map_err(anyhow::Error::from)?;
    let progress = ProgressBar::no_length().with_style(style);
    let (mut rows, mut last) = (0, Vec::new());
    while let Some(part) = stream.message().await? {
        write(&part.content)?;
        rows = part.rows;
        progress.set_position(u64::try_from(rows).unwrap_or(0));
        last = part.content;
    }
    progress.finish_and_clear();
    let line = last.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
    if line.is_some_and(End::is_one) { Ok(rows) } else { Err(Error::incomplete("end")) }
}
