//! `toolcrib audit erase`: erases what is kept of an end user, and keeps the certificate.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use proto::audit::v1::{EraseSubjectRequest, EraseSubjectResponse};
use tokio::time::Instant;

use crate::cli::{
    client::Client,
    error::Error,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
};

/// Between two looks at one that goes on.
const LOOK: Duration = Duration::from_secs(1);

/// Whom to erase, and why.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The end user, as agents name them
    user: String,
    /// Why: the request or the law; stays in the trail for good, so without personal data
    #[arg(long)]
    reason: String,
    /// The same id is the same erasure, however often it is asked for
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// How many seconds to wait until it is done everywhere; it goes on by itself in any case
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Write the certificate to this file
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: EraseArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let EraseArgs { user, reason, request_id, wait, certificate } = args;
    let request_id = request_id.unwrap_or_else(|| types::new_id().to_string());
    let request = EraseSubjectRequest { user, reason, request_id };
    let until = Instant::now() + Duration::from_secs(wait);
    let answer = loop {
        let answer = client.audit().erase_subject(request.clone()).await?.into_inner();
        if answer.done || Instant::now() >= until {
            break answer;
        }
        tokio::time::sleep(LOOK).await;
    };
    if let Some(file) = certificate.filter(|_| answer.done) {
        write(&file, &answer.certificate)?;
    }
    output.show(&answer, |view| page(&answer, view))?;
    if answer.done {
        return Ok(());
    }
    output.note(&format!(
        "it goes on by itself; ask again with: --request-id {}, and the same user and reason",
        request.request_id
    ))
}

fn write(file: &Path, certificate: &str) -> Result<(), Error> {
    std::fs::write(file, certificate).map_err(|error| {
        Error::usage(format!("the certificate cannot be written to {}: {error}", file.display()))
    })
}

fn page(answer: &EraseSubjectResponse, view: View) -> String {
    let mut table = Table::new(&["ERASED IN", "RECORDS", "STATE", "WHY"]).whole(&[0]);
    for part in &answer.parts {
        let state = if part.done { toned("done", Tone::Good) } else { toned("goes on", Tone::Warn) };
        let records = number(part.records.to_string());
        table.row(vec![cell(&part.part), records, state, cell(&part.failure)]);
    }
    let table = table.render(view, "nothing yet");
    if answer.certificate.is_empty() {
        return format!("erasure {} is not done yet\n\n{table}", answer.erasure_id);
    }
    format!("{table}\n\n{}", answer.certificate)
}

#[cfg(test)]
mod tests {
    use proto::audit::v1::ErasedPart;

    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn what_goes_on_is_told_with_its_reason_and_what_is_done_with_its_certificate() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let part = |done: bool, failure: &str| ErasedPart {
            part: "executions".into(),
            records: 7,
            done,
            failure: failure.into(),
        };
        let open = EraseSubjectResponse {
            erasure_id: "e1".into(),
            parts: vec![part(false, "the executor did not answer")],
            ..EraseSubjectResponse::default()
        };
        let told = page(&open, view);
        assert!(told.contains("e1") && told.contains("goes on") && told.contains("did not answer"), "{told}");
        let done = EraseSubjectResponse {
            done: true,
            parts: vec![part(true, "")],
            certificate: "toolcrib erasure certificate 1\n".into(),
            ..open
        };
        let told = page(&done, view);
        assert!(
            told.contains('7') && told.ends_with("certificate 1\n") && !told.contains("goes on"),
            "{told}"
        );
    }
}
