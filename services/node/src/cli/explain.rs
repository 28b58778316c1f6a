//! `toolcrib explain`: what would be decided on a call, by what, and what would allow it. Nothing is called.

use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::Cell;
use proto::{
    permissions::v1::{
        ExplainRequest, ExplainResponse, Grant, GrantExplanation, Period, Quota, Role, grant::Grantee,
    },
    types::v1::{Effect, Sensitivity},
};

use super::{
    client::Client,
    error::Error,
    human,
    invocation::arguments_json,
    output::{Output, Tone, View},
    table::{Table, cell, details, toned},
    words::word,
};

/// What to explain.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib explain python_sandbox
  toolcrib explain file_operations --agent researcher operation=write path=/reports/q3.csv
  toolcrib explain file_operations --agent researcher @arguments.json --user kim --at 2026-12-24T20:00:00Z

Nothing is called and nothing is reserved. Of another agent: for auditors and above.")]
pub struct ExplainArgs {
    /// Name of the tool
    tool: String,
    /// key=value typed by the tool's schema, key:=json, key=@file, or a whole object from @file or @-
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// The arguments as one JSON object; key=value adds to it
    #[arg(long, value_name = "OBJECT")]
    json: Option<String>,
    /// Who would call [default: you]
    #[arg(long)]
    agent: Option<String>,
    /// The end user that the agent would act for
    #[arg(long)]
    user: Option<String>,
    /// When: how long from now (2h), or an RFC 3339 time [default: now]
    #[arg(long, value_name = "WHEN", value_parser = future)]
    at: Option<DateTime<Utc>>,
}

fn future(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_future(text, Utc::now())
}

/// Runs the command.
pub async fn run(args: ExplainArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    // Without arguments it is asked about none, and not about an empty object.
    let arguments_json = if args.arguments.is_empty() && args.json.is_none() {
        String::new()
    } else {
        arguments_json(&args.tool, args.json.as_ref(), &args.arguments, client).await?
    };
    let request = ExplainRequest {
        agent_id: args.agent.unwrap_or_default(),
        tool_name: args.tool,
        arguments_json,
        user: args.user.unwrap_or_default(),
        time: args.at.map(human::to_wire),
    };
    let answer: ExplainResponse = client.permissions().explain(request).await?.into_inner();
    output.show(&answer, |view| page(&answer, view))
}

/// The verdict, what it was made of, and a table of the grants.
fn page(answer: &ExplainResponse, view: View) -> String {
    let mut parts = vec![verdict(answer, view), facts(answer, view), grants(&answer.grants, view)];
    for explanation in answer.grants.iter().filter(|explanation| !explanation.unmet_conditions.is_empty()) {
        let id = explanation.grant.as_ref().map(|grant| grant.id.as_str()).unwrap_or_default();
        let lines = explanation.unmet_conditions.iter().map(|line| format!("\n  {}", human::visible(line)));
        parts.push(format!(
            "{}{}",
            human::visible(&format!("what the arguments do not meet under {id}:")),
            lines.collect::<String>()
        ));
    }
    parts.join("\n\n")
}

fn verdict(answer: &ExplainResponse, view: View) -> String {
    let agent = answer.agent.as_ref().map(|agent| agent.id.as_str()).unwrap_or_default();
    let tool = answer.tool.as_ref().map(|tool| tool.tool_name.as_str()).unwrap_or_default();
    let (mark, tone) =
        if answer.allowed { ("\u{2713} allowed", Tone::Good) } else { ("\u{2717} denied", Tone::Bad) };
    let reason = if answer.reason.is_empty() { String::new() } else { format!(" {}", answer.reason) };
    let told = human::visible(&format!("{agent} calling {tool}: {}", answer.message));
    format!("{}{reason}  {told}", view.style.paint(mark, tone))
}

fn facts(answer: &ExplainResponse, view: View) -> String {
    let agent = answer.agent.clone().unwrap_or_default();
    let tool = answer.tool.clone().unwrap_or_default();
    let mut who = vec![agent.id.clone(), agent.specialization.clone(), word::<Role>(agent.role)];
    who.retain(|part| !part.is_empty());
    if agent.disabled {
        who.push("disabled".to_owned());
    }
    let what =
        [word::<Effect>(tool.effect), word::<Sensitivity>(tool.sensitivity), answer.tool_digest.clone()];
    let rows = [
        ("agent", who.join(", ")),
        ("tool", format!("{}, {}", tool.tool_name, what.join(", "))),
        ("decided by", answer.policy_ids.join(", ")),
        ("grant", answer.grant_id.clone()),
        ("budget", answer.budget.as_ref().map(|budget| money(budget, view)).unwrap_or_default()),
        ("revision", answer.revision.to_string()),
    ];
    details(&rows, view)
}

fn money(budget: &Quota, view: View) -> String {
    let anew = human::moment(budget.reset_time.as_ref(), view.now);
    format!("{} of {}, anew {anew}", human::cost(budget.used), human::cost(budget.limit))
}

fn grants(explanations: &[GrantExplanation], view: View) -> String {
    let headings = [
        "",
        "GRANT",
        "FOR",
        "TOOL",
        "EFFECT",
        "SENSITIVITY",
        "HOURS",
        "ARGUMENTS",
        "APPROVAL",
        "LIMITS",
        "ENDS",
    ];
    let mut table = Table::new(&headings).whole(&[0, 1, 3]);
    for explanation in explanations {
        let Some(grant) = &explanation.grant else { continue };
        let denies = |reason: &str| explanation.reasons.iter().any(|known| known == reason);
        let tick = |is_set: bool, reason: &str, what: &str| -> Cell {
            match (is_set, denies(reason)) {
                (_, true) => toned(format!("\u{2717} {what}"), Tone::Bad),
                (true, false) => toned(format!("\u{2713} {what}"), Tone::Good),
                (false, false) => cell(""),
            }
        };
        let (mark, tone) =
            if explanation.allowed { ("\u{2713}", Tone::Good) } else { ("\u{2717}", Tone::Bad) };
        let conditions = match grant.conditions.len() {
            1 => "1 condition".to_owned(),
            many => format!("{many} conditions"),
        };
        let ends = human::moment(grant.expire_time.as_ref(), view.now);
        table.row(vec![
            toned(mark, tone),
            cell(&grant.id),
            cell(holder(grant)),
            cell(&grant.tool_name),
            tick(grant.read_only, "READ_ONLY_GRANT", "read-only"),
            tick(
                grant.max_sensitivity != 0,
                "SENSITIVITY_EXCEEDED",
                &word::<Sensitivity>(grant.max_sensitivity),
            ),
            tick(grant.hours.is_some(), "OUTSIDE_HOURS", &hours(grant)),
            tick(!grant.conditions.is_empty(), "ARGUMENT_CONDITION", &conditions),
            tick(
                grant.approver_role != 0,
                "APPROVAL_REQUIRED",
                &approval(grant, &explanation.access_request_id),
            ),
            tick(!explanation.quotas.is_empty(), "QUOTA_EXHAUSTED", &quotas(&explanation.quotas)),
            tick(grant.expire_time.is_some(), "GRANT_EXPIRED", &ends),
        ]);
    }
    table.render(
        view,
        "no grant of this tool; an admin makes one with: toolcrib grants add TOOL --agent AGENT",
    )
}

fn holder(grant: &Grant) -> String {
    match &grant.grantee {
        Some(Grantee::AgentId(agent)) => format!("agent {agent}"),
        Some(Grantee::Specialization(specialization)) => format!("every {specialization}"),
        None => String::new(),
    }
}

fn hours(grant: &Grant) -> String {
    let Some(hours) = &grant.hours else { return String::new() };
    let windows = hours.windows.iter().map(|window| format!("{}-{}", window.start, window.end));
    format!("{} {}", windows.collect::<Vec<_>>().join(", "), hours.time_zone)
}

fn approval(grant: &Grant, served_by: &str) -> String {
    if served_by.is_empty() { word::<Role>(grant.approver_role) } else { served_by.to_owned() }
}

fn quotas(quotas: &[Quota]) -> String {
    let told = quotas.iter().map(|quota| {
        let over = match quota.period() {
            Period::Hour => " an hour",
            Period::Day => " a day",
            Period::Total => " in all",
            Period::Unspecified => "",
        };
        format!("{} of {}{over}", quota.used, quota.limit)
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proto::permissions::v1::{Agent, ToolFacts};

    use super::*;
    use crate::cli::output::Style;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: Utc::now() }
    }

    fn explained() -> ExplainResponse {
        let grant = Grant {
            id: "g-1".into(),
            grantee: Some(Grantee::AgentId("scout".into())),
            tool_name: "files.*".into(),
            read_only: true,
            max_per_hour: 5,
            approver_role: Role::Admin.into(),
            conditions: vec![proto::permissions::v1::ArgumentCondition::default()],
            ..Grant::default()
        };
        let quota = Quota { limit: 5, used: 3, period: Period::Hour.into(), ..Quota::default() };
        ExplainResponse {
            reason: "ARGUMENT_CONDITION".into(),
            message: "the arguments\u{1b} do not do".into(),
            agent: Some(Agent { id: "scout".into(), role: Role::Agent.into(), ..Agent::default() }),
            tool: Some(ToolFacts {
                tool_name: "files.read".into(),
                effect: Effect::ReadOnly.into(),
                ..ToolFacts::default()
            }),
            grants: vec![GrantExplanation {
                grant: Some(grant),
                reasons: vec!["ARGUMENT_CONDITION".into(), "APPROVAL_REQUIRED".into()],
                quotas: vec![quota],
                unmet_conditions: vec!["/path must be within /reports".into()],
                ..GrantExplanation::default()
            }],
            ..ExplainResponse::default()
        }
    }

    #[test]
    fn the_verdict_comes_first_and_each_limit_has_its_tick() {
        let text = page(&explained(), view());
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("\u{2717} denied ARGUMENT_CONDITION  scout calling files.read: "),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        for told in [
            "\u{2713} read-only",
            "\u{2717} 1 condition",
            "\u{2717} admin",
            "\u{2713} 3 of 5 an hour",
            "/path must be within /reports",
        ] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        let allowed = ExplainResponse { allowed: true, grants: Vec::new(), ..explained() };
        let text = page(&allowed, view());
        assert!(text.starts_with("\u{2713} allowed") && text.contains("toolcrib grants add"), "{text}");
    }
}
