//! `toolcrib approvals`: what agents ask to be allowed, for those who decide. What somebody approves is what they can
//! see: the arguments as they were sanitised, the digest of the real ones, and the definition of the tool.

use clap::{Args, Subcommand};
use proto::permissions::v1::{
    AccessRequest, AccessRequestState, ApprovalScope, ArgumentCondition, DecideAccessRequestRequest,
    DecideAccessRequestResponse, GetAccessRequestRequest, ListAccessRequestsRequest,
    ListAccessRequestsResponse, RevokeAccessRequest, RevokeAccessResponse, Role,
};

use super::{
    client::{Client, pages},
    conditions,
    error::Error,
    human, json,
    output::{Output, Tone, View},
    table::{Table, cell, details, toned},
    words::{parser, word},
};

/// Characters of a justification in a list.
const BRIEF: usize = 60;

/// What to do with access requests.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List access requests, newest first; agents see their own
    List(ListArgs),
    /// Show one: who asks for what and why, and what an approval of it is bound to
    Show {
        /// Its id
        id: String,
    },
    /// Approve one: for one call with these arguments, unless told otherwise
    #[command(after_help = format!("Examples:
  toolcrib approvals approve 019e… --reason 'agreed with finance'
  toolcrib approvals approve 019e… --where '/to one_of ops@example.com' --for 8h
  toolcrib approvals approve 019e… --tool --for 7d

{}

It ends when the tool's definition changes, and serves the agent that asked alone, acting for the user it asked for.", conditions::HELP))]
    Approve(ApproveArgs),
    /// Deny one
    Deny {
        /// Its id
        id: String,
        /// Why, for who asked
        #[arg(long)]
        reason: String,
    },
    /// Take an approval back, at once: calls that run already go on
    #[command(after_help = "Example:
  toolcrib approvals revoke 019e… --reason 'approved by mistake'")]
    Revoke {
        /// Id of the access request that was approved
        id: String,
        /// Why, for who asked
        #[arg(long)]
        reason: String,
    },
}

/// What to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those in this state
    #[arg(long, value_parser = parser::<AccessRequestState>())]
    state: Option<AccessRequestState>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only for this tool
    #[arg(long)]
    tool: Option<String>,
    /// Most to list
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// An approval.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Its id
    id: String,
    /// For one call with exactly these arguments, which is also what it is unless told otherwise
    #[arg(long, conflicts_with_all = ["tool", "conditions"])]
    once: bool,
    /// For all calls of the tool, with any arguments
    #[arg(long, conflicts_with = "conditions")]
    tool: bool,
    /// For calls whose arguments meet this; may be given more than once
    #[arg(long = "where", value_name = "CONDITION", value_parser = conditions::parse)]
    conditions: Vec<ArgumentCondition>,
    /// How long it serves, such as 8h or 7d [default: 1h]
    #[arg(long = "for", value_name = "LENGTH", value_parser = human::parse_seconds)]
    seconds: Option<i64>,
    /// Why, for the trail
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List(args) => list(args, client, output).await,
        Command::Show { id } => {
            let request = GetAccessRequestRequest { id };
            let answer = client.permissions().get_access_request(request).await?.into_inner();
            let Some(shown) = &answer.access_request else { return Err(Error::incomplete("access request")) };
            output.show(&answer, |view| page(shown, view))
        }
        Command::Approve(args) => {
            let request = args.decision();
            decide(request, client, output).await
        }
        Command::Deny { id, reason } => {
            let request = DecideAccessRequestRequest { id, reason, ..DecideAccessRequestRequest::default() };
            decide(request, client, output).await
        }
        Command::Revoke { id, reason } => {
            let request = RevokeAccessRequest { id, reason };
            let answer: RevokeAccessResponse =
                client.permissions().revoke_access(request).await?.into_inner();
            let Some(revoked) = &answer.access_request else {
                return Err(Error::incomplete("access request"));
            };
            output.show(&answer, |view| page(revoked, view))
        }
    }
}

async fn list(args: ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = ListAccessRequestsRequest {
        state: args.state.map_or(0, |state| state as i32),
        agent_id: args.agent.unwrap_or_default(),
        tool_name: args.tool.unwrap_or_default(),
        ..ListAccessRequestsRequest::default()
    };
    let (access_requests, next_page_token) = pages(args.limit, async |page_size, page_token| {
        let request = ListAccessRequestsRequest { page_size, page_token, ..filter.clone() };
        let page = client.permissions().list_access_requests(request).await?.into_inner();
        Ok((page.access_requests, page.next_page_token))
    })
    .await?;
    let answer = ListAccessRequestsResponse { access_requests, next_page_token };
    output.show(&answer, |view| table(&answer.access_requests, view))?;
    output.more(&answer.next_page_token)
}

/// Decides on what stands there now: it is read first, and what it is bound to goes with the decision.
async fn decide(
    decision: DecideAccessRequestRequest,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let request = GetAccessRequestRequest { id: decision.id.clone() };
    let shown = client.permissions().get_access_request(request).await?.into_inner().access_request;
    let arguments_digest = shown.unwrap_or_default().arguments_digest;
    let request = DecideAccessRequestRequest { arguments_digest, ..decision };
    let answer: DecideAccessRequestResponse =
        client.permissions().decide_access_request(request).await?.into_inner();
    let Some(decided) = &answer.access_request else { return Err(Error::incomplete("access request")) };
    output.show(&answer, |view| page(decided, view))
}

impl ApproveArgs {
    fn decision(self) -> DecideAccessRequestRequest {
        let scope = match (self.tool, self.conditions.is_empty()) {
            (true, _) => ApprovalScope::Tool,
            (false, false) => ApprovalScope::Arguments,
            (false, true) => ApprovalScope::Once,
        };
        DecideAccessRequestRequest {
            id: self.id,
            approve: true,
            scope: scope.into(),
            conditions: self.conditions,
            ttl_s: self.seconds.unwrap_or_default(),
            reason: self.reason,
            arguments_digest: String::new(),
        }
    }
}

fn tone(state: i32) -> Tone {
    match AccessRequestState::try_from(state) {
        Ok(AccessRequestState::Pending) => Tone::Warn,
        Ok(AccessRequestState::Approved | AccessRequestState::Used) => Tone::Good,
        Ok(AccessRequestState::Denied | AccessRequestState::Revoked) => Tone::Bad,
        _ => Tone::Dim,
    }
}

fn table(requests: &[AccessRequest], view: View) -> String {
    let headings = ["ID", "STATE", "AGENT", "USER", "TOOL", "WHY", "FOR", "MADE", "ENDS"];
    let mut table = Table::new(&headings).whole(&[0, 1]);
    for request in requests {
        table.row(vec![
            cell(&request.id),
            toned(word::<AccessRequestState>(request.state), tone(request.state)),
            cell(&request.agent_id),
            cell(&request.user),
            cell(&request.tool_name),
            cell(human::brief(&request.justification, BRIEF)),
            cell(word::<Role>(request.approver_role)),
            cell(human::moment(request.create_time.as_ref(), view.now)),
            cell(human::moment(request.expire_time.as_ref(), view.now)),
        ]);
    }
    table.render(view, "no access requests")
}

/// Everything that is known of it.
pub fn page(request: &AccessRequest, view: View) -> String {
    let role = match word::<Role>(request.approver_role).as_str() {
        "admin" => "an admin".to_owned(),
        role => format!("{role} or higher"),
    };
    let mut rows = vec![
        ("id", request.id.clone()),
        ("state", word::<AccessRequestState>(request.state)),
        ("agent", request.agent_id.clone()),
        ("user", request.user.clone()),
        ("tool", request.tool_name.clone()),
        ("why", request.justification.clone()),
        ("decided by", format!("{role}, and not by who asks")),
        ("made", human::moment_in_full(request.create_time.as_ref(), view.now)),
        ("ends", human::moment_in_full(request.expire_time.as_ref(), view.now)),
        ("execution", request.execution_id.clone()),
        ("bound to", bound(request)),
        ("tool digest", request.tool_digest.clone()),
        ("arguments digest", request.arguments_digest.clone()),
    ];
    if !request.decided_by.is_empty() {
        rows.retain(|(name, _)| *name != "decided by");
        rows.push(("decided by", request.decided_by.clone()));
        rows.push(("decided", human::moment_in_full(request.decide_time.as_ref(), view.now)));
        rows.push(("reason", request.decision_reason.clone()));
    }
    if !request.revoked_by.is_empty() {
        rows.push(("revoked by", request.revoked_by.clone()));
        rows.push(("revoked", human::moment_in_full(request.revoke_time.as_ref(), view.now)));
        rows.push(("why revoked", request.revoke_reason.clone()));
    }
    rows.push(("arguments", json::pretty(&request.arguments_json)));
    details(&rows, view)
}

/// What an approval holds for, or would.
fn bound(request: &AccessRequest) -> String {
    let agent = match request.user.as_str() {
        "" => format!("{} for no user", request.agent_id),
        user => format!("{} for user {user}", request.agent_id),
    };
    match ApprovalScope::try_from(request.scope) {
        Ok(ApprovalScope::Tool) => format!("{agent}, this definition of the tool, any arguments"),
        Ok(ApprovalScope::Arguments) => {
            let conditions: Vec<String> = request.conditions.iter().map(conditions::told).collect();
            format!("{agent}, this definition of the tool, arguments where {}", conditions.join(" and "))
        }
        _ => format!("{agent}, this definition of the tool, these arguments"),
    }
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

    fn decision(words: &[&str]) -> Result<DecideAccessRequestRequest, clap::Error> {
        match Probe::try_parse_from(["approvals", "approve", "r"].iter().chain(words))?.command {
            Command::Approve(args) => Ok(args.decision()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_approval_is_for_one_call_unless_told_otherwise_and_for_one_thing_alone() {
        let once = decision(&[]).unwrap();
        assert!(once.approve && once.scope() == ApprovalScope::Once && once.ttl_s == 0);
        assert_eq!(decision(&["--once", "--for", "2h"]).unwrap().ttl_s, 7_200);
        assert_eq!(decision(&["--tool"]).unwrap().scope(), ApprovalScope::Tool);
        let narrowed = decision(&["--where", "/path within /reports", "--where", "/n <= 5"]);
        let narrowed = narrowed.unwrap();
        assert_eq!((narrowed.scope(), narrowed.conditions.len()), (ApprovalScope::Arguments, 2));
        assert!(decision(&["--once", "--tool"]).is_err());
        assert!(decision(&["--tool", "--where", "/path within /reports"]).is_err());
        assert!(decision(&["--for", "soon"]).is_err());
        for word in ["deny", "revoke"] {
            assert!(Probe::try_parse_from(["approvals", word, "r"]).is_err(), "{word} says why");
        }
    }

    #[test]
    fn the_page_shows_what_is_decided_on_and_no_escape_of_who_asks() {
        let request = AccessRequest {
            id: "r-1".into(),
            agent_id: "scout".into(),
            user: "ann".into(),
            tool_name: "mail".into(),
            tool_digest: "d-1".into(),
            arguments_digest: "a-1".into(),
            arguments_json: r#"{"to":"ops"}"#.into(),
            justification: "for the \u{1b}[2Jreport".into(),
            approver_role: Role::Operator.into(),
            state: AccessRequestState::Pending.into(),
            ..AccessRequest::default()
        };
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let page = self::page(&request, view);
        for shown in [
            "r-1",
            "pending",
            "scout for user ann",
            "mail",
            "d-1",
            "a-1",
            "ops",
            "report",
            "operator or higher",
        ] {
            assert!(page.contains(shown), "{shown:?} is missing in\n{page}");
        }
        assert!(!page.contains('\u{1b}'), "{page}");
        let revoked = AccessRequest {
            user: String::new(),
            state: AccessRequestState::Revoked.into(),
            revoked_by: "root".into(),
            revoke_reason: "a mistake".into(),
            ..request
        };
        let page = self::page(&revoked, view);
        for shown in ["revoked", "root", "a mistake", "scout for no user"] {
            assert!(page.contains(shown), "{shown:?} is missing in\n{page}");
        }
    }
}
