//! `toolcrib audit health` and `reconcile`: whether the trail is as it should be, and whether executions and trail agree.

use chrono::{DateTime, Utc};
use clap::Args;
use proto::audit::v1::{
    Finding, GetTrailHealthRequest, GetTrailHealthResponse, ReconcileTrailRequest, ReconcileTrailResponse,
};

use crate::cli::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, details, number, toned},
};

/// Which executions to compare.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Executions made not before: how long ago (1h, 7d), or an RFC 3339 time; all that are kept
    #[arg(long, value_name = "WHEN", value_parser = past)]
    since: Option<DateTime<Utc>>,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Shows how the trail is; fails where something needs somebody.
pub async fn health(client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer = client.audit().get_trail_health(GetTrailHealthRequest {}).await?.into_inner();
    output.show(&answer, |view| standing(&answer, view))?;
    if answer.healthy { Ok(()) } else { Err(Error::Failed) }
}

/// Compares now; fails where executions and trail do not agree.
pub async fn reconcile(args: ReconcileArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = ReconcileTrailRequest { start_time: args.since.map(human::to_wire) };
    let answer = client.audit().reconcile_trail(request).await?.into_inner();
    output.show(&answer, |view| compared(&answer, view))?;
    if answer.findings.is_empty() { Ok(()) } else { Err(Error::Failed) }
}

fn standing(answer: &GetTrailHealthResponse, view: View) -> String {
    let moment = |time: &Option<prost_types::Timestamp>| match time {
        None => "never".to_owned(),
        Some(time) => human::moment_in_full(Some(time), view.now),
    };
    let rows = [
        ("state", if answer.healthy { "healthy".to_owned() } else { "needs somebody".to_owned() }),
        ("signed events", answer.tree_size.to_string()),
        ("not signed yet", answer.unsigned_events.to_string()),
        ("signed", moment(&answer.sign_time)),
        ("compared until", moment(&answer.reconcile_time)),
        ("executions compared", answer.reconciled_executions.to_string()),
        ("open findings", answer.open_findings.to_string()),
    ];
    let mut parts = vec![details(&rows, view)];
    if !answer.faults.is_empty() {
        let faults: Vec<String> =
            answer.faults.iter().map(|fault| format!("- {}", human::visible(fault))).collect();
        parts.push(faults.join("\n"));
    }
    if !answer.places.is_empty() {
        parts.push(places(answer, view));
    }
    if !answer.findings.is_empty() {
        parts.push(findings(&answer.findings, view));
    }
    parts.join("\n\n")
}

fn places(answer: &GetTrailHealthResponse, view: View) -> String {
    let mut table = Table::new(&["CHECKPOINTS GO TO", "EVENTS", "WHEN", "FAILURE"]).whole(&[0]);
    for place in &answer.places {
        table.row(vec![
            cell(&place.place),
            number(place.copied_size.to_string()),
            cell(human::moment(place.copy_time.as_ref(), view.now)),
            toned(&place.failure, Tone::Bad),
        ]);
    }
    table.render(view, "")
}

fn compared(answer: &ReconcileTrailResponse, view: View) -> String {
    let ReconcileTrailResponse { executions, events, findings: found } = answer;
    let told = format!("{executions} executions compared with their {events} events");
    if found.is_empty() {
        return format!("{told}: they agree");
    }
    format!("{told}: {} do not agree\n\n{}", found.len(), findings(found, view))
}

fn findings(found: &[Finding], view: View) -> String {
    let mut table = Table::new(&["FOUND", "KIND", "EXECUTION", "WHAT"]).whole(&[1, 2]);
    for finding in found {
        table.row(vec![
            cell(human::moment(finding.find_time.as_ref(), view.now)),
            toned(&finding.kind, Tone::Bad),
            cell(&finding.execution_id),
            cell(&finding.message),
        ]);
    }
    table.render(view, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn what_needs_somebody_is_told_and_what_agrees_is_one_line() {
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let agrees = ReconcileTrailResponse { executions: 3, events: 4, findings: Vec::new() };
        assert_eq!(compared(&agrees, view), "3 executions compared with their 4 events: they agree");
        let finding =
            Finding { kind: "OUTCOME_MISSING".into(), message: "no outcome".into(), ..Finding::default() };
        let found = ReconcileTrailResponse { findings: vec![finding.clone()], ..agrees };
        assert!(compared(&found, view).contains("1 do not agree"), "{}", compared(&found, view));
        let health = GetTrailHealthResponse {
            faults: vec!["the executor did not answer".into()],
            findings: vec![finding],
            open_findings: 1,
            ..GetTrailHealthResponse::default()
        };
        let told = standing(&health, view);
        for part in ["needs somebody", "- the executor did not answer", "OUTCOME_MISSING", "never"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
