//! `toolcrib tools diff` and `tools approve`: definitions that wait for somebody who looks at them.

use clap::Args;
use proto::registry::v1::{
    ApproveDefinitionRequest, ApproveDefinitionResponse, ChangeKind, DefinitionChange, Tool,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Style, Tone, View},
    tools,
    words::word,
};

/// What follows the help of `approve`.
pub const HELP: &str = "Examples:
  toolcrib tools diff time.convert_time
  toolcrib tools approve time.convert_time --digest 3f1c…
  toolcrib tools approve time.convert_time --digest 3f1c… --reject --note 'asks for a password'";

/// A decision.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Name of the tool
    name: String,
    /// Digest of the definition, as `tools diff` shows it: what changed since then is not decided on
    #[arg(long)]
    digest: String,
    /// Reject it: the definition that serves goes on
    #[arg(long)]
    reject: bool,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
}

/// Shows how the definition that waits differs from the one that serves.
pub async fn diff(name: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = ApproveDefinitionRequest { name, ..ApproveDefinitionRequest::default() };
    let answer: ApproveDefinitionResponse = client.registry().approve_definition(request).await?.into_inner();
    output.show(&answer, |view| shown(&answer, view))
}

/// Decides on the definition.
pub async fn approve(args: ApproveArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let ApproveArgs { name, digest, reject, note } = args;
    let request = ApproveDefinitionRequest { name, digest, reject, note };
    let answer: ApproveDefinitionResponse = client.registry().approve_definition(request).await?.into_inner();
    output.show(&answer, |_| {
        let version = |tool: &Option<Tool>| {
            let definition = tool.as_ref().and_then(|tool| tool.definition.clone()).unwrap_or_default();
            (definition.name, definition.version)
        };
        let ((name, serves), (_, decided)) = (version(&answer.tool), version(&answer.pending));
        let status = answer.tool.as_ref().map(Tool::status).unwrap_or_default();
        human::visible(&match (reject, status) {
            (false, _) => format!("{name} {decided} is approved"),
            (true, proto::registry::v1::ToolStatus::Quarantined) => {
                format!("{name} {decided} is rejected; the tool stays in quarantine")
            }
            (true, _) => format!("{name} {decided} is rejected; {serves} serves on"),
        })
    })
}

fn shown(answer: &ApproveDefinitionResponse, view: View) -> String {
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
    let commands = format!(
        "approve it: toolcrib tools approve {name} --digest {}\nreject it:  the same with --reject",
        pending.digest
    );
    parts.push(view.style.paint(&human::visible(&commands), Tone::Dim));
    parts.join("\n\n")
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
