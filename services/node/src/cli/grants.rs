//! `toolcrib grants`: who may call which tool.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use proto::{
    permissions::v1::{
        ArgumentCondition, Grant, GrantPermissionRequest, GrantPermissionResponse, ListGrantsRequest,
        ListGrantsResponse, RevokePermissionRequest, RevokePermissionResponse, Role, grant::Grantee,
    },
    types::v1::Sensitivity,
};

use super::{
    client::{Client, pages},
    conditions,
    error::Error,
    hours, human,
    output::{Output, Tone, View},
    report,
    table::{Table, cell, toned},
    words::{parser, word},
};

/// What to do with grants.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List grants, newest first
    List(ListArgs),
    /// Let an agent, or every agent of a specialization, call a tool
    #[command(after_help = format!("Examples:
  toolcrib grants add file_operations --agent researcher --read-only
  toolcrib grants add web_search --specialization Researcher --per-hour 100 --expires 7d
  toolcrib grants add 'files.*' --agent researcher --where '/path within /reports'
  toolcrib grants add send_mail --agent ops --per-day 20 --hours 'Mon-Fri 09:00-17:00 Europe/Berlin'
  toolcrib grants add delete_files --agent ops --approver operator --note 'until the clean-up is done'

{}

{}", conditions::HELP, hours::HELP))]
    Add(AddArgs),
    /// Tell which grants were not used, and the least that would have done
    Report(report::ReportArgs),
    /// Revoke a grant, at once
    Revoke {
        /// Its id
        id: String,
    },
}

/// What to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only for this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only for this specialization
    #[arg(long)]
    specialization: Option<String>,
    /// Only of this tool
    #[arg(long)]
    tool: Option<String>,
    /// Revoked ones too
    #[arg(long)]
    revoked: bool,
}

/// A grant to make.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("grantee").required(true))]
pub struct AddArgs {
    /// Name of the tool; or PREFIX.* for all below it, those that come later too; or * for all
    tool: String,
    /// For this agent
    #[arg(long, group = "grantee")]
    agent: Option<String>,
    /// For every agent with this specialization
    #[arg(long, group = "grantee")]
    specialization: Option<String>,
    /// Most calls an agent may make in a clock hour
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    per_hour: Option<i64>,
    /// Most calls an agent may make on a day (UTC)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    per_day: Option<i64>,
    /// Most calls an agent may make in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    total: Option<i64>,
    /// When calls are allowed, such as "Mon-Fri 09:00-17:00 Europe/Berlin"; may be given more than once
    #[arg(long, value_name = "WINDOW", value_parser = hours::parse)]
    hours: Vec<hours::Window>,
    /// What the arguments must be, such as "/path within /reports"; all of them, if given more than once
    #[arg(long = "where", value_name = "CONDITION", value_parser = conditions::parse)]
    conditions: Vec<ArgumentCondition>,
    /// Whose approval each call needs: this role's, or a higher one's
    #[arg(long, value_name = "ROLE", value_parser = parser::<Role>())]
    approver: Option<Role>,
    /// Why it is given
    #[arg(long)]
    note: Option<String>,
    /// Only while the tool changes nothing
    #[arg(long)]
    read_only: bool,
    /// The most sensitive tool that may be called under it
    #[arg(long, value_parser = parser::<Sensitivity>())]
    max_sensitivity: Option<Sensitivity>,
    /// When it ends: how long from now (7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = future)]
    expires: Option<DateTime<Utc>>,
}

fn future(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_future(text, Utc::now())
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List(args) => list(args, client, output).await,
        Command::Add(args) => add(args, client, output).await,
        Command::Report(args) => report::run(args, client, output).await,
        Command::Revoke { id } => revoke(id, client, output).await,
    }
}

async fn list(args: ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = ListGrantsRequest {
        agent_id: args.agent.unwrap_or_default(),
        specialization: args.specialization.unwrap_or_default(),
        tool_name: args.tool.unwrap_or_default(),
        include_revoked: args.revoked,
        ..ListGrantsRequest::default()
    };
    let (grants, next_page_token) = pages(usize::MAX, async |page_size, page_token| {
        let request = ListGrantsRequest { page_size, page_token, ..filter.clone() };
        let page = client.permissions().list_grants(request).await?.into_inner();
        Ok((page.grants, page.next_page_token))
    })
    .await?;
    let answer = ListGrantsResponse { grants, next_page_token };
    output.show(&answer, |view| table(&answer.grants, view))
}

async fn add(args: AddArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = GrantPermissionRequest { grant: Some(args.grant().map_err(Error::usage)?) };
    let answer: GrantPermissionResponse = client.permissions().grant_permission(request).await?.into_inner();
    let Some(grant) = answer.grant.clone() else { return Err(Error::incomplete("grant")) };
    output.show(&answer, |view| table(&[grant], view))
}

async fn revoke(id: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = RevokePermissionRequest { grant_id: id };
    let answer: RevokePermissionResponse =
        client.permissions().revoke_permission(request).await?.into_inner();
    let Some(grant) = answer.grant.clone() else { return Err(Error::incomplete("grant")) };
    output.show(&answer, |view| table(&[grant], view))
}

impl AddArgs {
    fn grant(self) -> Result<Grant, String> {
        let grantee = match (self.agent, self.specialization) {
            (Some(agent), _) => Some(Grantee::AgentId(agent)),
            (None, specialization) => specialization.map(Grantee::Specialization),
        };
        Ok(Grant {
            grantee,
            tool_name: self.tool,
            max_per_hour: self.per_hour.unwrap_or_default(),
            max_per_day: self.per_day.unwrap_or_default(),
            max_total: self.total.unwrap_or_default(),
            hours: hours::of(self.hours)?,
            conditions: self.conditions,
            approver_role: self.approver.map_or(0, |role| role as i32),
            note: self.note.unwrap_or_default(),
            read_only: self.read_only,
            max_sensitivity: self.max_sensitivity.map_or(0, |sensitivity| sensitivity as i32),
            expire_time: self.expires.map(human::to_wire),
            ..Grant::default()
        })
    }
}

fn table(grants: &[Grant], view: View) -> String {
    let mut table =
        Table::new(&["ID", "TOOL", "FOR", "LIMITS", "USED", "ENDS", "MADE", "BY", "NOTE"]).whole(&[0, 1]);
    for grant in grants {
        let for_whom = match &grant.grantee {
            Some(Grantee::AgentId(agent)) => format!("agent {agent}"),
            Some(Grantee::Specialization(specialization)) => format!("every {specialization}"),
            None => String::new(),
        };
        table.row(vec![
            cell(&grant.id),
            cell(&grant.tool_name),
            cell(for_whom),
            cell(limits(grant)),
            cell(used(grant)),
            match &grant.revoke_time {
                Some(time) => toned(format!("revoked {}", human::moment(Some(time), view.now)), Tone::Bad),
                None if grant.expire_time.is_none() => cell("never"),
                None => cell(human::moment(grant.expire_time.as_ref(), view.now)),
            },
            cell(human::moment(grant.create_time.as_ref(), view.now)),
            cell(&grant.created_by),
            cell(&grant.note),
        ]);
    }
    table.render(view, "no grants; make one with: toolcrib grants add TOOL --agent AGENT")
}

fn limits(grant: &Grant) -> String {
    let mut limits = Vec::new();
    if grant.read_only {
        limits.push("read-only".to_owned());
    }
    if grant.max_sensitivity != 0 {
        limits.push(format!("up to {}", word::<Sensitivity>(grant.max_sensitivity)));
    }
    for (limit, period) in periods(grant) {
        limits.push(format!("{limit} {period}"));
    }
    limits.extend(grant.hours.as_ref().map(hours::told));
    limits.extend(grant.conditions.iter().map(conditions::told));
    if grant.approver_role != 0 {
        limits.push(format!("approved by {}", word::<Role>(grant.approver_role)));
    }
    if limits.is_empty() { "none".into() } else { human::visible(&limits.join("; ")) }
}

/// The limits that count calls.
fn periods(grant: &Grant) -> impl Iterator<Item = (i64, &'static str)> {
    let all = [(grant.max_per_hour, "an hour"), (grant.max_per_day, "a day"), (grant.max_total, "in all")];
    all.into_iter().filter(|(limit, _)| *limit > 0)
}

/// Of each limit; of a grant without any, the calls of the hour are not counted.
fn used(grant: &Grant) -> String {
    let used = [grant.used_this_hour, grant.used_today, grant.used_total];
    let limits = [(grant.max_per_hour, "hour"), (grant.max_per_day, "day"), (grant.max_total, "total")];
    let of = used.into_iter().zip(limits).filter(|(_, (limit, _))| *limit > 0);
    let told: Vec<String> =
        of.map(|(used, (limit, period))| format!("{used} of {limit} ({period})")).collect();
    if told.is_empty() { "not counted".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::output::Style;

    #[derive(Parser)]
    struct Probe {
        #[command(subcommand)]
        command: Command,
    }

    fn added(words: &[&str]) -> Result<Grant, clap::Error> {
        match Probe::try_parse_from(["grants", "add"].iter().chain(words))?.command {
            Command::Add(args) => Ok(args.grant().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_grant_is_for_an_agent_or_a_specialization_and_never_both() {
        let words = ["t", "--agent", "a", "--per-hour", "5", "--read-only", "--max-sensitivity", "internal"];
        let grant = added(&words).unwrap();
        assert_eq!(grant.grantee, Some(Grantee::AgentId("a".into())));
        assert_eq!((grant.max_per_hour, grant.read_only, grant.max_sensitivity), (5, true, 2));
        let expiring = added(&["t", "--specialization", "S", "--expires", "7d"]).unwrap();
        let days = (human::from_wire(&expiring.expire_time.unwrap()).unwrap() - Utc::now()).num_hours();
        assert!((167..=168).contains(&days), "{days}");
        assert!(added(&["t"]).is_err());
        assert!(added(&["t", "--agent", "a", "--specialization", "S"]).is_err());
        assert!(added(&["t", "--agent", "a", "--expires", "soon"]).is_err());
    }

    #[test]
    fn every_kind_of_limit_is_taken_and_shown_as_it_is_written() {
        let words = [
            "files.*",
            "--agent",
            "a",
            "--per-day",
            "7",
            "--total",
            "9",
            "--hours",
            "Mon-Fri 09:00-17:00 Europe/Berlin",
            "--hours",
            "Sat 10:00-12:00 Europe/Berlin",
            "--where",
            "/path within /reports",
            "--where",
            "/n <= 5",
            "--approver",
            "operator",
            "--note",
            "for the audit",
        ];
        let grant = Grant { used_today: 2, used_total: 8, ..added(&words).unwrap() };
        assert_eq!(
            (grant.tool_name.as_str(), grant.conditions.len(), grant.approver_role()),
            ("files.*", 2, Role::Operator)
        );
        assert_eq!(
            limits(&grant),
            "7 a day; 9 in all; Mon-Fri 09:00-17:00, Sat 10:00-12:00 Europe/Berlin; /path within /reports; /n <= 5; \
             approved by operator"
        );
        assert_eq!(used(&grant), "2 of 7 (day), 8 of 9 (total)");
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        assert!(table(&[grant], view).contains("for the audit"));
        for wrong in [["--hours", "Mon 9"], ["--where", "path"], ["--per-day", "0"], ["--approver", "king"]] {
            let words = [&["t", "--agent", "a"], &wrong[..]].concat();
            assert!(added(&words).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_table_tells_limits_and_what_was_used() {
        let grant = Grant { used_this_hour: 3, ..added(&["t", "--agent", "a", "--per-hour", "5"]).unwrap() };
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let text = table(&[grant], view);
        assert!(text.contains("agent a") && text.contains("5 an hour") && text.contains("3 of 5"), "{text}");
        assert!(table(&[], view).contains("toolcrib grants add"));
    }
}
