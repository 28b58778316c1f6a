//! `toolcrib tools diff` and `tools approve`: definitions that wait for somebody who looks at them.

use clap::Args;
use proto::registry::v1::{
    ApproveDefinitionRequest, ApproveDefinitionResponse, ChangeKind, DefinitionChange, ListServersRequest,
    ListToolsRequest, Tool, ToolStatus,
};
use serde_json::Value;

use super::{
    client::{Client, pages},
    error::Error,
    human, json,
    output::{Output, Style, Tone, View},
    tools,
    words::word,
};

/// What follows the help of `approve`.
pub const HELP: &str = "Examples:
  toolcrib tools diff time.convert_time
  toolcrib tools approve time.convert_time --digest 3f1c…
  toolcrib tools approve time.convert_time --digest 3f1c… --reject --note 'asks for a password'
  toolcrib tools approve --server time --note 'release 2.1 of the server'";

/// A decision.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Name of the tool
    #[arg(required_unless_present = "server")]
    name: Option<String>,
    /// Digest of the definition, as `tools diff` shows it: what changed since then is not decided on
    #[arg(long, required_unless_present = "server")]
    digest: Option<String>,
    /// Instead of one tool, all that waits of this MCP server: each is shown first, and what is decided on is what was
    /// shown
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "digest"])]
    server: Option<String>,
    /// Reject it: the definition that serves goes on
    #[arg(long)]
    reject: bool,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
}

/// Shows how the definition that waits differs from the one that serves.
pub async fn diff(name: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer = look(name, client).await?;
    output.show(&answer, |view| shown(&answer, view))
}

async fn look(name: String, client: &Client) -> Result<ApproveDefinitionResponse, Error> {
    let request = ApproveDefinitionRequest { name, ..ApproveDefinitionRequest::default() };
    Ok(client.registry().approve_definition(request).await?.into_inner())
}

/// Decides on the definition, or on all that wait of a server.
pub async fn approve(args: ApproveArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let ApproveArgs { name, digest, server, reject, note } = args;
    if let Some(server) = server {
        return approve_all(&server, (reject, note), client, output).await;
    }
    let (name, digest) = (name.unwrap_or_default(), digest.unwrap_or_default());
    let request = ApproveDefinitionRequest { name, digest, reject, note };
    let answer: ApproveDefinitionResponse = client.registry().approve_definition(request).await?.into_inner();
    output.show(&answer, |_| decided(&answer, reject))
}

/// Shows all that wait of a server, then decides on each by the digest that was shown; ends with the first that
/// changed meanwhile.
async fn approve_all(
    server: &str,
    (reject, note): (bool, String),
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let mut waiting = Vec::new();
    for name in waiting_names(server, client).await? {
        waiting.push(look(name, client).await?);
    }
    if waiting.is_empty() && !output.is_json() {
        return output.text(&human::visible(&format!("nothing of {server} waits for approval")));
    }
    if !output.is_json() {
        for answer in &waiting {
            output.view(|view| format!("{}\n", difference(answer, view).join("\n\n")))?;
        }
    }
    refuse_cut(&waiting, reject)?;
    let (mut done, mut answers) = (Vec::new(), Vec::new());
    let mut outcome = Ok(());
    for shown in &waiting {
        let (name, digest) = (name_of(shown), digest_of(shown));
        let request = ApproveDefinitionRequest { name: name.clone(), digest, reject, note: note.clone() };
        match client.registry().approve_definition(request).await {
            Ok(answer) if output.is_json() => answers.push(json::of(&answer.into_inner())?),
            Ok(answer) => output.text(&decided(&answer.into_inner(), reject))?,
            Err(status) => {
                outcome = Err(status.into());
                break;
            }
        }
        done.push(name);
    }
    if output.is_json() {
        output.json(&Value::Array(answers))?;
    }
    if outcome.is_err() {
        let what = if reject { "rejected" } else { "approved" };
        let names = if done.is_empty() { "none".to_owned() } else { done.join(", ") };
        output.note(&format!("{} of {} {what}: {names}; the others wait", done.len(), waiting.len()))?;
    }
    outcome
}

/// Names of the tools of a server of which a definition waits.
async fn waiting_names(server: &str, client: &Client) -> Result<Vec<String>, Error> {
    let filter =
        ListToolsRequest { pending: true, provider: server.to_owned(), ..ListToolsRequest::default() };
    let (tools, _) = pages(usize::MAX, async |page_size, page_token| {
        let request = ListToolsRequest { page_size, page_token, ..filter.clone() };
        let page = client.registry().list_tools(request).await?.into_inner();
        Ok((page.tools, page.next_page_token))
    })
    .await?;
    let own = tools.into_iter().filter(|tool| tool.server == server);
    let names: Vec<String> =
        own.map(|tool| tool.definition.map(|definition| definition.name).unwrap_or_default()).collect();
    if names.is_empty() {
        let known = client.registry().list_servers(ListServersRequest {}).await?.into_inner().servers;
        if !known.iter().any(|known| known.name == server) {
            let told = format!("there is no MCP server {server}; see them with: toolcrib servers list");
            return Err(Error::Usage(told));
        }
    }
    Ok(names)
}

/// What cannot be shown whole is not approved together with others: somebody has to read it first.
fn refuse_cut(waiting: &[ApproveDefinitionResponse], reject: bool) -> Result<(), Error> {
    let cut: Vec<String> = waiting.iter().filter(|answer| !is_whole(&answer.changes)).map(name_of).collect();
    match cut.first() {
        Some(first) if !reject => Err(Error::Usage(format!(
            "nothing is approved: what changed of {} is left out or cut; read it whole and decide on it first, with: \
             toolcrib tools diff {first}",
            cut.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn name_of(answer: &ApproveDefinitionResponse) -> String {
    let pending = answer.pending.as_ref().and_then(|pending| pending.definition.as_ref());
    pending.map(|definition| definition.name.clone()).unwrap_or_default()
}

fn digest_of(answer: &ApproveDefinitionResponse) -> String {
    answer.pending.as_ref().map(|pending| pending.digest.clone()).unwrap_or_default()
}

/// What was decided, in one line.
fn decided(answer: &ApproveDefinitionResponse, reject: bool) -> String {
    let version = |tool: &Option<Tool>| {
        let definition = tool.as_ref().and_then(|tool| tool.definition.clone()).unwrap_or_default();
        (definition.name, definition.version)
    };
    let ((name, serves), (_, decided)) = (version(&answer.tool), version(&answer.pending));
    let status = answer.tool.as_ref().map(Tool::status).unwrap_or_default();
    human::visible(&match (reject, status) {
        (false, _) if serves != decided => {
            format!("{name} {decided} is approved; it serves as {serves}, for its server was moved since")
        }
        (false, _) => format!("{name} {decided} is approved"),
        (true, ToolStatus::Quarantined) => {
            format!("{name} {decided} is rejected; the tool stays in quarantine")
        }
        (true, _) => format!("{name} {decided} is rejected; {serves} serves on"),
    })
}

/// The difference, and how to decide on it.
fn shown(answer: &ApproveDefinitionResponse, view: View) -> String {
    let mut parts = difference(answer, view);
    let commands = format!(
        "approve it: toolcrib tools approve {} --digest {}\nreject it:  the same with --reject",
        human::visible(&name_of(answer)),
        digest_of(answer)
    );
    if let Some(last) = parts.last_mut() {
        *last = view.style.paint(&commands, Tone::Dim);
    }
    parts.join("\n\n")
}

/// What waits and how it differs from what serves; the last part is its digest.
fn difference(answer: &ApproveDefinitionResponse, view: View) -> Vec<String> {
    let (tool, pending) =
        (answer.tool.clone().unwrap_or_default(), answer.pending.clone().unwrap_or_default());
    let (serves, waits) =
        (tool.definition.unwrap_or_default(), pending.definition.clone().unwrap_or_default());
    let name = human::visible(&waits.name);
    let mut parts = Vec::new();
    if tool.id == pending.id {
        parts.push(tools::page(&pending, view));
        let note = format!("{name} {} is new, and may not be called before it is approved", waits.version);
        parts.push(view.style.paint(&human::visible(&note), Tone::Warn));
    } else {
        let title = format!("{name} {} serves, and {} waits", serves.version, waits.version);
        parts.push(view.style.paint(&human::visible(&title), Tone::Bold));
        parts.extend(answer.changes.iter().map(|change| one(change, view.style)));
        if !is_whole(&answer.changes) {
            let note = format!(
                "THIS IS NOT ALL THAT CHANGED: changes are left out or cut. Read the whole definition before you \
                 approve it:\n  toolcrib tools show {name} --version {} --output json",
                waits.version
            );
            parts.push(view.style.paint(&human::visible(&note), Tone::Bad));
        }
    }
    parts.push(view.style.paint(&format!("digest {}", pending.digest), Tone::Dim));
    parts
}

/// Whether every change is told, and every value in full: no JSON text ends with an ellipsis.
fn is_whole(changes: &[DefinitionChange]) -> bool {
    changes.iter().all(|change| {
        let is_cut = [&change.before_json, &change.after_json].iter().any(|text| text.ends_with('…'));
        !change.path.is_empty() && !is_cut
    })
}

fn one(change: &DefinitionChange, style: Style) -> String {
    let tone = match change.kind() {
        ChangeKind::Breaking => Tone::Bad,
        ChangeKind::Addition => Tone::Good,
        ChangeKind::Patch | ChangeKind::Unspecified => Tone::Plain,
    };
    let kind = style.paint(&word::<ChangeKind>(change.kind), tone);
    let mut lines = vec![format!("{kind}: {}", human::visible(&change.description))];
    lines.push(format!("  at {}", human::visible(&change.path)));
    for (sign, text, tone) in [("-", &change.before_json, Tone::Bad), ("+", &change.after_json, Tone::Good)] {
        if !text.is_empty() {
            lines.push(style.paint(&format!("  {sign} {}", human::visible(text)), tone));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proto::registry::v1::ToolDefinition;

    use super::*;

    fn tool(id: &str, version: &str) -> Tool {
        let definition =
            ToolDefinition { name: "srv.a".into(), version: version.into(), ..ToolDefinition::default() };
        Tool { id: id.into(), digest: "d1".into(), definition: Some(definition), ..Tool::default() }
    }

    #[test]
    fn a_difference_shows_both_and_steers_no_terminal() {
        let change = DefinitionChange {
            kind: ChangeKind::Breaking.into(),
            path: "/input_schema/required".into(),
            description: "the arguments: city is required now".into(),
            before_json: String::new(),
            after_json: "\"ci\u{1b}[2Jty\"".into(),
        };
        let answer = ApproveDefinitionResponse {
            tool: Some(tool("1", "1.0.0")),
            pending: Some(tool("2", "2.0.0")),
            changes: vec![change],
            decided: false,
        };
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let text = shown(&answer, view);
        for says in [
            "srv.a 1.0.0 serves, and 2.0.0 waits",
            "breaking: the arguments: city is required now\n  at /input_schema/required\n  + \"ci",
            "toolcrib tools approve srv.a --digest d1",
        ] {
            assert!(text.contains(says), "{says} in {text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("NOT ALL"));
        for (path, after_json) in [("", ""), ("/input_schema", "{\"type…")] {
            let mut answer = answer.clone();
            answer.changes.push(DefinitionChange {
                path: path.into(),
                after_json: after_json.into(),
                ..DefinitionChange::default()
            });
            let text = shown(&answer, view);
            assert!(text.contains("NOT ALL") && text.contains("tools show srv.a --version 2.0.0"), "{text}");
        }
        let new = ApproveDefinitionResponse { pending: Some(tool("1", "1.0.0")), changes: vec![], ..answer };
        assert!(shown(&new, view).contains("may not be called before it is approved"));
    }
}
