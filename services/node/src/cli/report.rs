//! `toolcrib grants report`: which grants were not used, and the least that would have done.

use clap::Args;
use proto::{
    permissions::v1::{
        GetUsageReportRequest, GetUsageReportResponse, Grant, GrantUsage, Role, grant::Grantee,
    },
    types::v1::Sensitivity,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::word,
};

/// What to report on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib grants report
  toolcrib grants report --days 90 --agent researcher

The least grants are a proposal: add them, watch for denials, and revoke what they replace. Hours are not proposed,
and conditions on arguments only where one grant alone was used.")]
pub struct ReportArgs {
    /// Days to look back, today included
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(i32).range(1..=90))]
    days: i32,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
}

/// Runs the command.
pub async fn run(args: ReportArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = GetUsageReportRequest { days: args.days, agent_id: args.agent.unwrap_or_default() };
    let answer: GetUsageReportResponse = client.permissions().get_usage_report(request).await?.into_inner();
    output.show(&answer, |view| page(&answer, view))
}

fn page(answer: &GetUsageReportResponse, view: View) -> String {
    let (from, since) = (answer.start_time.as_ref(), answer.counted_since.as_ref());
    let from = match (from.and_then(human::from_wire), since.and_then(human::from_wire)) {
        (Some(from), Some(since)) if since > from => answer.counted_since.as_ref(),
        _ => from,
    };
    let heading = format!("Use since {}", human::moment_in_full(from, view.now));
    let mut parts = vec![view.style.paint(&heading, Tone::Bold), used(&answer.grants, view)];
    let commands: Vec<_> = answer.least_grants.iter().map(|grant| proposal(grant, view)).collect();
    if !commands.is_empty() {
        parts.push(view.style.paint("The least that would have done", Tone::Bold));
        parts.push(commands.join("\n"));
    }
    parts.join("\n\n")
}

fn used(grants: &[GrantUsage], view: View) -> String {
    let mut table = Table::new(&["GRANT", "TOOL", "FOR", "CALLS", "LAST USE", "TOOLS CALLED"]).whole(&[0, 1]);
    for usage in grants {
        let Some(grant) = &usage.grant else { continue };
        let last = match usage.calls {
            0 => toned("unused", Tone::Warn),
            _ => cell(human::moment(usage.last_use_time.as_ref(), view.now)),
        };
        table.row(vec![
            cell(&grant.id),
            cell(&grant.tool_name),
            cell(match &grant.grantee {
                Some(Grantee::AgentId(agent)) => format!("agent {agent}"),
                Some(Grantee::Specialization(specialization)) => format!("every {specialization}"),
                None => String::new(),
            }),
            number(usage.calls.to_string()),
            last,
            cell(usage.tools.join(", ")),
        ]);
    }
    table.render(view, "no grants are in force")
}

/// The command that would make a grant, and why.
fn proposal(grant: &Grant, view: View) -> String {
    let mut words = vec!["toolcrib grants add".to_owned(), grant.tool_name.clone()];
    if let Some(Grantee::AgentId(agent)) = &grant.grantee {
        words.push(format!("--agent {agent}"));
    }
    if grant.read_only {
        words.push("--read-only".to_owned());
    }
    if grant.max_sensitivity != 0 {
        words.push(format!("--max-sensitivity {}", word::<Sensitivity>(grant.max_sensitivity)));
    }
    if grant.approver_role != 0 {
        words.push(format!("--approver {}", word::<Role>(grant.approver_role)));
    }
    for (option, limit) in [("--per-hour", grant.max_per_hour), ("--per-day", grant.max_per_day)] {
        if limit > 0 {
            words.push(format!("{option} {limit}"));
        }
    }
    let mut note = grant.note.clone();
    if !grant.conditions.is_empty() {
        note.push_str("; keep the conditions on its arguments (--where)");
    }
    let line = human::visible(&words.join(" "));
    format!("{line}\n{}", view.style.paint(&human::visible(&format!("  # {note}")), Tone::Dim))
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn what_is_unused_is_seen_and_a_proposal_can_be_pasted() {
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let grant = Grant {
            id: "g-1".into(),
            grantee: Some(Grantee::AgentId("scout".into())),
            tool_name: "files.read".into(),
            read_only: true,
            max_sensitivity: Sensitivity::Internal.into(),
            max_per_hour: 20,
            note: "17 calls".into(),
            ..Grant::default()
        };
        let usage = GrantUsage { grant: Some(grant.clone()), ..GrantUsage::default() };
        let answer = GetUsageReportResponse {
            grants: vec![usage],
            least_grants: vec![grant],
            ..GetUsageReportResponse::default()
        };
        let text = page(&answer, view);
        let command = "toolcrib grants add files.read --agent scout --read-only --max-sensitivity internal --per-hour 20";
        assert!(text.contains("unused") && text.contains(command) && text.contains("# 17 calls"), "{text}");
    }
}
