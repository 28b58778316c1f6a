//! `toolcrib policies`: rules of the team, in Cedar, that every call must pass beside the grants.

mod complaints;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use proto::permissions::v1::{
    ChangedDecision, DryRunPolicyRequest, DryRunPolicyResponse, ListPoliciesRequest, ListPoliciesResponse,
    Policy, PutPolicyRequest, PutPolicyResponse, RemovePolicyRequest, RemovePolicyResponse,
};

use super::{
    client::Client,
    error::Error,
    files, human,
    output::{Output, Tone, View},
    table::{Table, cell, details, number, toned},
};
use complaints::pointed;

/// Characters of a policy that a list shows.
const BRIEF: usize = 60;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the policies in force, by name
    List {
        /// Those out of force too
        #[arg(long)]
        removed: bool,
    },
    /// Show a policy and its versions
    Show {
        /// Its name
        name: String,
        /// This version [default: the newest]
        #[arg(long, value_name = "N")]
        version: Option<i64>,
    },
    /// Put a policy in force, in the place of the one of its name
    #[command(after_help = HELP)]
    Put(PutArgs),
    /// Take a policy out of force; its versions stay readable
    Remove {
        /// Its name
        name: String,
    },
    /// Tell which past calls would have been decided otherwise; changes nothing
    #[command(after_help = "Examples:
  toolcrib policies dry-run no-mail-outside no-mail-outside.cedar --since 30d
  toolcrib policies dry-run no-mail-outside --removed")]
    DryRun(DryRunArgs),
    /// Print the Cedar schema that policies are checked against
    Schema,
}

const HELP: &str = r#"A forbid denies whatever the grants say; a permit allows what no grant does, within all other limits.
@message is what a denied caller is told. Arguments are asked for by JSON pointer, and only where they are there.

Examples:
  toolcrib policies put no-mail-outside no-mail-outside.cedar
  toolcrib policies put no-mail-outside no-mail-outside.cedar --check
  toolcrib policies put no-mail-outside - <<'END'
  @message("Mail goes to example.com only.")
  forbid (principal, action == Action::"call", resource)
  when { resource.groups.contains("mail.*") }
  unless {
    context.arguments.texts.hasTag("/to") &&
    context.arguments.texts.getTag("/to") like "*@example.com"
  };
  END

Put an older version in force again:
  toolcrib policies show no-mail-outside --version 2 -o json | jq -r '.policies[0].text' |
    toolcrib policies put no-mail-outside -"#;

/// A policy to put.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Its name
    name: String,
    /// File with its text; "-" reads standard input
    file: String,
    /// Only check it
    #[arg(long)]
    check: bool,
    /// Only in the place of this version
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(1..))]
    expect: Option<i64>,
}

/// A policy to try.
#[derive(Debug, Args)]
pub struct DryRunArgs {
    /// Its name
    name: String,
    /// File with its text; "-" reads standard input
    #[arg(required_unless_present = "removed")]
    file: Option<String>,
    /// Instead of another text, as if it were removed
    #[arg(long, conflicts_with = "file")]
    removed: bool,
    /// Calls since then: how long ago (7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", default_value = "7d", value_parser = past)]
    since: DateTime<Utc>,
    /// Most calls to look at, newest first
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    max: i32,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List { removed } => list(removed, client, output).await,
        Command::Show { name, version } => show(name, version, client, output).await,
        Command::Put(args) => put(args, client, output).await,
        Command::Remove { name } => remove(name, client, output).await,
        Command::DryRun(args) => dry_run(args, client, output).await,
        Command::Schema => schema(client, output).await,
    }
}

async fn list(include_removed: bool, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = ListPoliciesRequest { name: String::new(), include_removed };
    let mut answer = client.permissions().list_policies(request).await?.into_inner();
    // It is the same for all, and `schema` prints it.
    answer.schema.clear();
    output.show(&answer, |view| table(&answer.policies, view))?;
    for policy in answer.policies.iter().filter(|policy| !policy.fault.is_empty()) {
        output.note(&format!(
            "every call of the team is denied: {}\nwrite it anew, or remove it with: toolcrib policies remove {}",
            policy.fault, policy.name
        ))?;
    }
    Ok(())
}

async fn show(name: String, version: Option<i64>, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = ListPoliciesRequest { name: name.clone(), include_removed: true };
    let answer = client.permissions().list_policies(request).await?.into_inner();
    let all = answer.policies;
    let chosen = all.iter().find(|policy| version.is_none_or(|version| policy.version == version));
    let Some(chosen) = chosen.cloned() else {
        let versions: Vec<_> = all.iter().map(|policy| policy.version.to_string()).collect();
        return Err(Error::usage(format!("policy {name} has the versions {}", versions.join(", "))));
    };
    let answer = ListPoliciesResponse { policies: vec![chosen.clone()], schema: String::new() };
    output.show(&answer, |view| page(&chosen, &all, view))
}

async fn put(args: PutArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let text = files::read(&args.file).map_err(Error::Usage)?;
    let request = PutPolicyRequest {
        name: args.name,
        text: text.clone(),
        validate_only: args.check,
        expected_version: args.expect.unwrap_or_default(),
    };
    let answer = client.permissions().put_policy(request).await;
    let answer: PutPolicyResponse = taken(answer, &args.file, &text, output)?;
    let Some(policy) = answer.policy.clone() else { return Err(Error::incomplete("policy")) };
    output.show(&answer, |_| {
        if args.check {
            format!("{} is valid; nothing was changed", policy.name)
        } else {
            format!("{} is in force as version {}", policy.name, policy.version)
        }
    })
}

/// The answer, or the refusal with what it speaks of.
fn taken<T>(
    answer: Result<tonic::Response<T>, tonic::Status>,
    file: &str,
    text: &str,
    output: &Output,
) -> Result<T, Error> {
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if output.is_json() => Err(status.into()),
        Err(status) => Err(pointed(status, if file == "-" { "stdin" } else { file }, text).into()),
    }
}

async fn remove(name: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = RemovePolicyRequest { name };
    let answer: RemovePolicyResponse = client.permissions().remove_policy(request).await?.into_inner();
    let Some(policy) = answer.policy.clone() else { return Err(Error::incomplete("policy")) };
    output.show(&answer, |_| {
        format!("{} is out of force; its last version was {}", policy.name, policy.version)
    })
}

async fn dry_run(args: DryRunArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let text = match &args.file {
        Some(file) => files::read(file).map_err(Error::Usage)?,
        None => String::new(),
    };
    if text.is_empty() && !args.removed {
        return Err(Error::usage("the file is empty; to try it without the policy, say --removed"));
    }
    let request = DryRunPolicyRequest {
        name: args.name,
        text: text.clone(),
        start_time: Some(human::to_wire(args.since)),
        max_calls: args.max,
    };
    let answer = client.permissions().dry_run_policy(request).await;
    let answer = taken(answer, args.file.as_deref().unwrap_or_default(), &text, output)?;
    output.show(&answer, |view| outcome(&answer, view))
}

async fn schema(client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer = client.permissions().list_policies(ListPoliciesRequest::default()).await?.into_inner();
    let answer = ListPoliciesResponse { policies: Vec::new(), schema: answer.schema };
    output.show(&answer, |_| human::visible(&answer.schema))
}

fn table(policies: &[Policy], view: View) -> String {
    let mut table = Table::new(&["NAME", "VERSION", "POLICY", "MADE", "BY", "STATE"]).whole(&[0]);
    for policy in policies {
        let state = state(policy, view);
        table.row(vec![
            cell(&policy.name),
            number(policy.version.to_string()),
            cell(human::clip(&without_comments(&policy.text), BRIEF)),
            cell(human::moment(policy.create_time.as_ref(), view.now)),
            cell(&policy.created_by),
            toned(state.0, state.1),
        ]);
    }
    table.render(view, "no policies; write one with: toolcrib policies put NAME FILE")
}

fn state(policy: &Policy, view: View) -> (String, Tone) {
    match &policy.remove_time {
        Some(time) => (format!("removed {}", human::moment(Some(time), view.now)), Tone::Dim),
        None if policy.fault.is_empty() => ("in force".into(), Tone::Good),
        None => ("broken: denies every call".into(), Tone::Bad),
    }
}

/// What a policy says, as far as whole lines of comments do not.
fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ")
}

fn page(policy: &Policy, all: &[Policy], view: View) -> String {
    let made = |policy: &Policy| {
        format!("{} by {}", human::moment_in_full(policy.create_time.as_ref(), view.now), policy.created_by)
    };
    let others = all.iter().filter(|other| other.version != policy.version);
    let others: Vec<_> = others.map(|other| format!("{}: {}", other.version, made(other))).collect();
    let rows = [
        ("name", policy.name.clone()),
        ("version", policy.version.to_string()),
        ("state", state(policy, view).0),
        ("made", made(policy)),
        ("fault", policy.fault.clone()),
        ("others", others.join("\n")),
    ];
    format!("{}\n\n{}", details(&rows, view), human::visible(policy.text.trim_end()))
}

fn outcome(answer: &DryRunPolicyResponse, view: View) -> String {
    let counts = [
        ("looked at", answer.calls.to_string()),
        ("newly denied", answer.newly_denied.to_string()),
        ("newly allowed", answer.newly_allowed.to_string()),
        (
            "undecided",
            match answer.undecided {
                0 => "0".into(),
                some => format!("{some}: it depends on what the trail does not keep"),
            },
        ),
    ];
    let counts = details(&counts, view);
    let counts = if answer.complete || answer.incomplete_reason.is_empty() {
        counts
    } else {
        let since = human::moment(answer.oldest_time.as_ref(), view.now);
        format!(
            "{counts}\n\n{}",
            human::visible(&format!(
                "incomplete: only calls back to {since} were looked at: {}",
                answer.incomplete_reason
            ))
        )
    };
    if answer.changed.is_empty() {
        return format!("{counts}\n\nno call would have been decided otherwise");
    }
    let mut table =
        Table::new(&["WHEN", "AGENT", "TOOL", "WAS -> WOULD BE", "BY", "EXECUTION"]).whole(&[2, 5]);
    for changed in &answer.changed {
        let (turn, tone) = turn(changed);
        table.row(vec![
            cell(human::moment(changed.time.as_ref(), view.now)),
            cell(&changed.agent_id),
            cell(&changed.tool_name),
            toned(turn, tone),
            cell(changed.policy_ids.join(", ")),
            cell(&changed.execution_id),
        ]);
    }
    let shown = i64::try_from(answer.changed.len()).unwrap_or(i64::MAX);
    let left = answer.newly_denied + answer.newly_allowed - shown;
    let more = if left > 0 { format!("\nand {left} more, older ones") } else { String::new() };
    format!("{counts}\n\n{}{more}", table.render(view, ""))
}

fn turn(changed: &ChangedDecision) -> (String, Tone) {
    let word = |allowed| if allowed { "allowed" } else { "denied" };
    let tone = if changed.would_be_allowed { Tone::Good } else { Tone::Bad };
    (format!("{} -> {}", word(changed.was_allowed), word(changed.would_be_allowed)), tone)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::output::Style;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(subcommand)]
        command: Command,
    }

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: Utc::now() }
    }

    fn policy() -> Policy {
        Policy {
            name: "no-mail".into(),
            text: "// why\nforbid (principal, action, resource);\n".into(),
            version: 3,
            created_by: "root".into(),
            ..Policy::default()
        }
    }

    #[test]
    fn a_dry_run_is_of_a_text_or_of_none() {
        let parse = |words: &[&str]| Probe::try_parse_from(["policies"].iter().chain(words)).map(drop);
        parse(&["dry-run", "p", "p.cedar", "--since", "30d", "--max", "100000"]).unwrap();
        parse(&["dry-run", "p", "--removed"]).unwrap();
        for wrong in [
            &["dry-run", "p"][..],
            &["dry-run", "p", "p.cedar", "--removed"],
            &["dry-run", "p", "-", "--max", "100001"],
            &["put", "p"],
            &["put", "p", "-", "--expect", "0"],
        ] {
            parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn the_list_tells_what_is_in_force_and_what_denies_everything() {
        let removed = Policy { remove_time: Some(human::to_wire(Utc::now())), ..policy() };
        let broken = Policy { fault: "policy \"no-mail\"; line 1, column 1: x".into(), ..policy() };
        let text = table(&[policy(), removed, broken], view());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("forbid (principal") && lines[1].ends_with("in force"), "{text}");
        assert!(lines[2].contains("removed") && lines[3].contains("denies every call"), "{text}");
        assert!(table(&[], view()).contains("toolcrib policies put"));
    }

    #[test]
    fn a_page_has_the_text_and_the_other_versions() {
        let older = Policy { version: 2, created_by: "ann".into(), ..policy() };
        let text = page(&policy(), &[policy(), older], view());
        assert!(text.contains("2: ") && text.contains("by ann") && text.ends_with("resource);"), "{text}");
    }

    #[test]
    fn a_dry_run_shows_what_turns_and_how_many_there_are() {
        let changed = ChangedDecision {
            agent_id: "scout".into(),
            tool_name: "mail.send".into(),
            was_allowed: true,
            policy_ids: vec!["team/no-mail".into()],
            execution_id: "e-1".into(),
            ..ChangedDecision::default()
        };
        let answer = DryRunPolicyResponse {
            calls: 10,
            newly_denied: 3,
            undecided: 2,
            changed: vec![changed],
            ..DryRunPolicyResponse::default()
        };
        let text = outcome(&answer, view());
        for part in ["allowed -> denied", "team/no-mail", "and 2 more", "2: it depends"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let half = DryRunPolicyResponse {
            incomplete_reason: "the audit service cannot be reached".into(),
            ..answer.clone()
        };
        let text = outcome(&half, view());
        assert!(
            text.contains("incomplete: ") && text.contains("the audit service cannot be reached"),
            "{text}"
        );
        let text = outcome(&DryRunPolicyResponse { calls: 10, ..DryRunPolicyResponse::default() }, view());
        assert!(text.contains("no call would have been decided otherwise"), "{text}");
    }
}
