//! `toolcrib keys`: the API keys that agents present.
//!
//! A new key goes to standard output alone and is written nowhere else.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use proto::permissions::v1::{
    ApiKey, IssueApiKeyRequest, IssueApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse,
    RevokeApiKeyRequest, Role, RotateApiKeyRequest, RotateApiKeyResponse, Scope,
};

use super::{
    agents,
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, toned},
    words::{parser, word},
};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List keys: what they are for, when they end and were last used
    List(ListArgs),
    /// Issue a key for an agent; the only time that it is shown
    #[command(after_help = "Examples:
  toolcrib keys issue researcher > researcher.key
  toolcrib keys issue dashboard --specialization Reader --scope tools_read --scope executions_read --ttl 30d
  toolcrib keys issue researcher --note 'nightly job' | kubectl create secret generic …")]
    Issue(IssueArgs),
    /// Issue a key in place of another, which stays valid for a while
    #[command(after_help = "Example:
  toolcrib keys rotate m3KxV0bqT9aZ7fRw --overlap 2h > researcher.key")]
    Rotate(RotateArgs),
    /// Revoke a key
    Revoke {
        /// Its id
        key_id: String,
    },
}

/// Which keys to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Those too that have ended or were revoked
    #[arg(long)]
    ended: bool,
}

/// The key to issue.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// Name of the agent
    agent: String,
    /// Create the agent first, with this specialization
    #[arg(long)]
    specialization: Option<String>,
    /// Create it with this role [default: agent]
    #[arg(long, value_parser = parser::<Role>(), requires = "specialization")]
    role: Option<Role>,
    /// How long the key is valid, such as 30d; until it is revoked when not said
    #[arg(long, value_name = "LENGTH", value_parser = human::parse_seconds)]
    ttl: Option<i64>,
    /// What the key may be used for, once for each; without it, all that the agent may
    #[arg(long = "scope", value_name = "SCOPE", value_parser = parser::<Scope>())]
    scopes: Vec<Scope>,
    /// What it is for, to tell it from others
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// The key to rotate.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Its id
    key_id: String,
    /// How long the old key stays valid, such as 2h; at most 30d [default: 1d]
    #[arg(long, value_name = "LENGTH", value_parser = human::parse_seconds)]
    overlap: Option<i64>,
    /// How long the new key is valid [default: as long as the old one was]
    #[arg(long, value_name = "LENGTH", value_parser = human::parse_seconds)]
    ttl: Option<i64>,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List(args) => list(args, client, output).await,
        Command::Issue(args) => issue(args, client, output).await,
        Command::Rotate(args) => rotate(args, client, output).await,
        Command::Revoke { key_id } => revoke(key_id, client, output).await,
    }
}

async fn list(args: ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = ListApiKeysRequest {
        agent_id: args.agent.unwrap_or_default(),
        include_ended: args.ended,
        ..ListApiKeysRequest::default()
    };
    let (api_keys, next_page_token) = pages(usize::MAX, async |page_size, page_token| {
        let request = ListApiKeysRequest { page_size, page_token, ..filter.clone() };
        let page = client.permissions().list_api_keys(request).await?.into_inner();
        Ok((page.api_keys, page.next_page_token))
    })
    .await?;
    let answer = ListApiKeysResponse { api_keys, next_page_token };
    output.show(&answer, |view| table(&answer.api_keys, client.key_id(), view))
}

async fn issue(args: IssueArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    if let Some(specialization) = args.specialization {
        let role = args.role.unwrap_or(Role::Agent);
        agents::create(args.agent.clone(), specialization, role, client).await?;
    }
    let request = IssueApiKeyRequest {
        agent_id: args.agent.clone(),
        ttl_s: args.ttl.unwrap_or_default(),
        scopes: args.scopes.iter().map(|scope| *scope as i32).collect(),
        note: args.note.unwrap_or_default(),
    };
    let answer: IssueApiKeyResponse = client.permissions().issue_api_key(request).await?.into_inner();
    output.show(&answer, |_| answer.api_key.clone())?;
    output.flush()?;
    if output.is_json() {
        return Ok(());
    }
    let ends = ends(answer.expire_time.as_ref());
    output.note(&format!("key {} of {}, {ends}; it is shown only now", answer.key_id, args.agent))?;
    output.note(&format!("revoke it with: toolcrib keys revoke {}", answer.key_id))
}

async fn rotate(args: RotateArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = RotateApiKeyRequest {
        key_id: args.key_id.clone(),
        overlap_s: args.overlap.unwrap_or_default(),
        ttl_s: args.ttl.unwrap_or_default(),
    };
    let answer: RotateApiKeyResponse = client.permissions().rotate_api_key(request).await?.into_inner();
    output.show(&answer, |_| answer.api_key.clone())?;
    output.flush()?;
    if output.is_json() {
        return Ok(());
    }
    let new_ends = ends(answer.expire_time.as_ref());
    output.note(&format!("key {}, {new_ends}; it is shown only now", answer.key_id))?;
    let old_ends = ends(answer.old_expire_time.as_ref());
    output.note(&format!("it takes the place of key {}, which stays {old_ends}", args.key_id))
}

async fn revoke(key_id: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = RevokeApiKeyRequest { key_id: key_id.clone() };
    let answer = client.permissions().revoke_api_key(request).await?.into_inner();
    output.show(&answer, |_| human::visible(&format!("key {key_id} is revoked")))?;
    if client.key_id() == Some(key_id.as_str()) {
        output.note("warning: that is the key you present yourself; it is not taken any more")?;
    }
    Ok(())
}

/// Scopes as words; empty when there are none, which means all.
pub fn scopes(scopes: &[i32]) -> String {
    scopes.iter().map(|scope| word::<Scope>(*scope)).collect::<Vec<_>>().join(", ")
}

fn ends(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(human::from_wire);
    time.map_or("valid until it is revoked".into(), |time| format!("valid until {}", time.to_rfc3339()))
}

/// `own` is the key that is presented.
fn table(keys: &[ApiKey], own: Option<&str>, view: View) -> String {
    let headings = ["KEY", "AGENT", "HELD TO", "NOTE", "MADE", "BY", "LAST USED", "ENDS"];
    let mut table = Table::new(&headings).whole(&[0, 1]);
    for key in keys {
        let id = if own == Some(key.key_id.as_str()) {
            format!("{} (yours)", key.key_id)
        } else {
            key.key_id.clone()
        };
        let last_use = key.last_use_time.as_ref();
        table.row(vec![
            cell(id),
            cell(&key.agent_id),
            cell(if key.scopes.is_empty() { "all it may".into() } else { scopes(&key.scopes) }),
            cell(&key.note),
            cell(human::moment(key.create_time.as_ref(), view.now)),
            cell(&key.created_by),
            cell(last_use.map_or("never".into(), |time| human::moment(Some(time), view.now))),
            end(key, view),
        ]);
    }
    table.render(view, "no keys; issue one with: toolcrib keys issue AGENT")
}

fn end(key: &ApiKey, view: View) -> Cell {
    let moment = |time: &prost_types::Timestamp| human::moment(Some(time), view.now);
    let by = if key.replaced_by.is_empty() { String::new() } else { format!(", for {}", key.replaced_by) };
    match (&key.revoke_time, &key.expire_time) {
        (Some(revoked), _) => toned(format!("revoked {}", moment(revoked)), Tone::Bad),
        (None, Some(end)) if human::from_wire(end).is_some_and(|end| end <= view.now) => {
            toned(format!("ended {}{by}", moment(end)), Tone::Bad)
        }
        (None, Some(end)) => cell(format!("{}{by}", moment(end))),
        (None, None) => cell("never"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use clap::Parser;

    use super::*;
    use crate::cli::output::Style;

    #[derive(Parser)]
    struct Probe {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn scopes_are_words_given_once_each() {
        let words = ["keys", "issue", "a", "--scope", "tools_read", "--scope", "audit_read", "--note", "x y"];
        let Ok(Probe { command: Command::Issue(args) }) = Probe::try_parse_from(words) else { panic!() };
        assert_eq!(args.scopes, [Scope::ToolsRead, Scope::AuditRead]);
        assert_eq!(scopes(&[1, 5]), "tools_read, audit_read");
        assert!(Probe::try_parse_from(["keys", "issue", "a", "--scope", "everything"]).is_err());
    }

    #[test]
    fn the_table_tells_what_became_of_each_and_which_is_ones_own() {
        let now = Utc::now();
        let view = View { style: Style { colour: false }, width: None, now };
        let at = |hours| Some(human::to_wire(now + TimeDelta::hours(hours)));
        let key = |id: &str| ApiKey { key_id: id.into(), ..ApiKey::default() };
        let keys = [
            ApiKey { scopes: vec![2], note: "nightly".into(), last_use_time: at(-2), ..key("one") },
            ApiKey { expire_time: at(2), replaced_by: "one".into(), ..key("two") },
            ApiKey { expire_time: at(-1), ..key("three") },
            ApiKey { revoke_time: at(-1), expire_time: at(2), ..key("four") },
        ];
        let text = table(&keys, Some("one"), view);
        let line = |id: &str| text.lines().find(|line| line.starts_with(id)).unwrap().to_owned();
        assert!(line("one").contains("one (yours)") && line("one").contains("tools_call"), "{text}");
        assert!(line("two").contains(", for one") && line("two").contains("all it may"), "{text}");
        assert!(line("two").contains("never") && !line("one").contains("LAST"), "{text}");
        assert!(line("three").contains("ended") && line("four").contains("revoked"), "{text}");
    }
}
