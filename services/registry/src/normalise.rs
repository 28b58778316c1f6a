//! Makes definitions of what an MCP server lists. What a server says of its tools is a claim: it is
//! believed only where the operator trusts it. No I/O.

use std::collections::BTreeMap;

use types::{Category, Effect};

use crate::{
    Error,
    check::{self, Origin},
    definition::{Binding, CredentialUse, Definition, Digests, Mcp, Proposal},
    store::Defaults,
};

/// Capability of tools whose server has none configured.
const CAPABILITY: &str = "integrate";
/// Longest reason that is told, in characters.
const MAX_REASON: usize = 240;

/// What a server offers, as far as it can be taken.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    /// Definitions, their versions not decided, in order of name.
    pub tools: Vec<(Definition, Digests)>,
    /// The others, each with the reason.
    pub rejected: Vec<String>,
}

impl Offer {
    /// Notes that a tool cannot be taken.
    pub(crate) fn reject(&mut self, name: &str, reason: &str) {
        self.rejected.push(clean(&format!("{}: {reason}", clean(name, 80)), MAX_REASON));
    }
}

/// Checks every tool on its own, so that one that is wrong costs no other.
pub(crate) fn normalise(
    server: &str,
    transport: &mcp::Transport,
    credentials: &[CredentialUse],
    defaults: &Defaults,
    tools: Vec<mcp::Tool>,
) -> Result<Offer, Error> {
    let mut offer = Offer::default();
    let mut groups: BTreeMap<String, Vec<mcp::Tool>> = BTreeMap::new();
    for tool in tools {
        if tool.name.is_empty() {
            offer.reject("(no name)", "a tool without a name cannot be called");
            continue;
        }
        groups.entry(tool_name(server, &tool.name)).or_default().push(tool);
    }
    for (name, group) in groups {
        let Some(tool) = unambiguous(&name, server, group, &mut offer) else { continue };
        let own_name = tool.name.clone();
        match check::check(proposal(name, server, transport, credentials, defaults, tool), Origin::Discovery)
        {
            Ok(definition) => {
                let digests = definition.digests()?;
                offer.tools.push((definition, digests));
            }
            Err(found) => {
                let strip = |field: &str| field.trim_start_matches("definition.").to_owned();
                let reasons: Vec<String> =
                    found.0.iter().map(|v| format!("{} {}", strip(&v.field), v.description)).collect();
                offer.reject(&own_name, &reasons.join("; "));
            }
        }
    }
    Ok(offer)
}

/// `server.tool`, in lower case, every other character an underscore.
fn tool_name(server: &str, tool: &str) -> String {
    let valid = |c: char| {
        let lower = c.to_ascii_lowercase();
        if u8::try_from(lower).is_ok_and(check::is_name_byte) { lower } else { '_' }
    };
    format!("{server}.{}", tool.chars().map(valid).collect::<String>())
}

/// The one tool of a name: the only one, or the only one that is spelled so. Two that cannot be told
/// apart are both rejected, lest the order of a list decides which one runs.
fn unambiguous(name: &str, server: &str, mut group: Vec<mcp::Tool>, offer: &mut Offer) -> Option<mcp::Tool> {
    if group.len() == 1 {
        return group.pop();
    }
    let is_exact = |tool: &mcp::Tool| name == format!("{server}.{}", tool.name);
    let has_one_exact = group.iter().filter(|tool| is_exact(tool)).count() == 1;
    let mut taken = None;
    for tool in group {
        if has_one_exact && is_exact(&tool) {
            taken = Some(tool);
        } else {
            offer.reject(&tool.name, &format!("another tool of the server is called {name} as well"));
        }
    }
    taken
}

fn proposal(
    name: String,
    server: &str,
    transport: &mcp::Transport,
    credentials: &[CredentialUse],
    defaults: &Defaults,
    tool: mcp::Tool,
) -> Proposal {
    let title = tool.title.or(tool.annotations.title).unwrap_or_default();
    let described = [tool.description, title.clone()].into_iter().find(|text| !text.trim().is_empty());
    let capabilities = match defaults.capabilities.as_slice() {
        [] => vec![CAPABILITY.to_owned()],
        given => given.to_vec(),
    };
    let (read_only, idempotent) = (tool.annotations.read_only, tool.annotations.idempotent);
    Proposal {
        name,
        title,
        description: described.unwrap_or_else(|| format!("Tool {} of MCP server {server}.", tool.name)),
        category: Some(defaults.category.unwrap_or(Category::Custom)),
        capabilities,
        effect: Some(effect(defaults.trust_annotations, read_only, idempotent)),
        sensitivity: defaults.sensitivity,
        input_schema: tool.input_schema.to_string(),
        output_schema: tool.output_schema.map(|schema| schema.to_string()).unwrap_or_default(),
        binding: Some(Binding::Mcp(Mcp {
            server: server.to_owned(),
            tool: tool.name,
            transport: transport.clone(),
            credentials: credentials.to_vec(),
        })),
        provider: server.to_owned(),
        timeout_ms: defaults.timeout_ms,
        ..Proposal::default()
    }
}

fn effect(is_trusted: bool, read_only: Option<bool>, idempotent: Option<bool>) -> Effect {
    match (is_trusted, read_only, idempotent) {
        (true, Some(true), _) => Effect::ReadOnly,
        (true, _, Some(true)) => Effect::Idempotent,
        _ => Effect::SideEffect,
    }
}

/// On one line, without control characters, and not longer than this.
pub(crate) fn clean(text: &str, characters: usize) -> String {
    let mut short: String =
        text.chars().take(characters).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(characters).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(name: &str) -> mcp::Tool {
        mcp::Tool {
            name: name.into(),
            title: None,
            description: "Does it.".into(),
            input_schema: json!({"type": "object"}),
            output_schema: None,
            annotations: mcp::Annotations::default(),
        }
    }

    fn defaults() -> Defaults {
        Defaults {
            category: None,
            capabilities: vec![],
            sensitivity: None,
            timeout_ms: 0,
            trust_annotations: false,
        }
    }

    fn offer(defaults: &Defaults, tools: Vec<mcp::Tool>) -> Offer {
        let transport = mcp::Transport::Http { url: "http://127.0.0.1:1/".into(), headers: [].into() };
        normalise("srv", &transport, &[], defaults, tools).unwrap()
    }

    fn names(offer: &Offer) -> Vec<&str> {
        offer.tools.iter().map(|(definition, _)| definition.name.as_str()).collect()
    }

    #[test]
    fn names_are_made_valid_and_keep_the_servers_own() {
        let offer = offer(&defaults(), vec![tool("Get Time/UTC"), tool("größe")]);
        assert_eq!(names(&offer), ["srv.get_time_utc", "srv.gr__e"]);
        let Binding::Mcp(binding) = &offer.tools[0].0.binding else { panic!("not mcp") };
        assert_eq!((binding.server.as_str(), binding.tool.as_str()), ("srv", "Get Time/UTC"));
        assert_eq!(offer.tools[0].0.provider, "srv");
        assert_eq!(offer.tools[0].0.capabilities, ["integrate"]);
    }

    #[test]
    fn tools_that_cannot_be_told_apart_are_rejected_in_any_order() {
        for tools in [vec!["a", "A"], vec!["A", "a"]] {
            let offer = offer(&defaults(), tools.into_iter().map(tool).collect());
            assert_eq!(names(&offer), ["srv.a"]);
            let Binding::Mcp(binding) = &offer.tools[0].0.binding else { panic!("not mcp") };
            assert_eq!(binding.tool, "a");
            assert!(offer.rejected[0].starts_with("A: another tool"), "{:?}", offer.rejected);
        }
        let twice = offer(&defaults(), vec![tool("A b"), tool("A_b"), tool("x"), tool("x"), tool("fine")]);
        assert_eq!((names(&twice), twice.rejected.len()), (vec!["srv.fine"], 4));
    }

    #[test]
    fn a_bad_tool_costs_no_other() {
        let mut bad = tool("bad");
        bad.input_schema = json!({"type": "object", "properties": {"a": {"type": "nonsense"}}});
        let mut wordy = tool("wordy");
        wordy.description = "x".repeat(8_193);
        let offer = offer(&defaults(), vec![bad, wordy, tool(&"n".repeat(125)), tool(""), tool("good")]);
        assert_eq!(names(&offer), ["srv.good"]);
        let reasons = offer.rejected.join("\n");
        for says in ["bad: input_schema_json", "wordy: description", "nnn…: name", "(no name)"] {
            assert!(reasons.contains(says), "{says} in {reasons}");
        }
    }

    #[test]
    fn annotations_are_believed_only_where_trusted() {
        let mut reads = tool("reads");
        reads.annotations.read_only = Some(true);
        let mut repeats = tool("repeats");
        repeats.annotations.idempotent = Some(true);
        let effects = |trust_annotations| {
            let defaults = Defaults { trust_annotations, ..defaults() };
            let offer = offer(&defaults, vec![reads.clone(), repeats.clone(), tool("says_nothing")]);
            offer.tools.into_iter().map(|(definition, _)| definition.effect).collect::<Vec<_>>()
        };
        assert_eq!(effects(true), [Effect::ReadOnly, Effect::Idempotent, Effect::SideEffect]);
        assert_eq!(effects(false), [Effect::SideEffect; 3]);
    }

    #[test]
    fn a_tool_without_a_description_gets_its_title_or_name() {
        let mut titled = tool("a");
        titled.description = String::new();
        titled.annotations.title = Some("Adds".into());
        let mut bare = tool("b");
        bare.description = " ".into();
        let offer = offer(&defaults(), vec![titled, bare]);
        assert_eq!(offer.tools[0].0.description, "Adds");
        assert_eq!(offer.tools[1].0.description, "Tool b of MCP server srv.");
    }
}
