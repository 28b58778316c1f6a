//! Makes definitions of what an MCP server lists. What a server says of its tools is a claim: it is
//! believed only where the operator trusts it. No I/O.

use std::collections::BTreeMap;

use types::{Category, Effect};

use crate::{
    Error,
    check::{self, Origin},
    check_examples,
    definition::{Binding, CredentialUse, Definition, Digests, Mcp, Proposal},
    store::Defaults,
};

/// Capability of tools whose server has none configured.
const CAPABILITY: &str = "integrate";
/// Longest reason that is told, in characters.
const MAX_REASON: usize = 240;

/// What a server offers, as far as it can be taken.
#[derive(Debug, Clone, Default)]
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
    // Taken apart, so that nothing that a server says is overlooked: whatever may steer a model becomes part of the
    // definition, and of its digest.
    let mcp::Tool { name: own_name, title, description, input_schema, output_schema, annotations } = tool;
    let effect = effect(defaults.trust_annotations, &annotations);
    // Shown to nobody where the tool has a title of its own.
    let title = title.or(annotations.title).unwrap_or_default();
    let described = [description, title.clone()].into_iter().find(|text| !text.trim().is_empty());
    let capabilities = match defaults.capabilities.as_slice() {
        [] => vec![CAPABILITY.to_owned()],
        given => given.to_vec(),
    };
    Proposal {
        name,
        title,
        description: described.unwrap_or_else(|| format!("Tool {own_name} of MCP server {server}.")),
        category: Some(defaults.category.unwrap_or(Category::Custom)),
        capabilities,
        effect: Some(effect),
        sensitivity: defaults.sensitivity,
        examples: check_examples::of_schema(&input_schema),
        input_schema: input_schema.to_string(),
        output_schema: output_schema.map(|schema| schema.to_string()).unwrap_or_default(),
        binding: Some(Binding::Mcp(Mcp {
            server: server.to_owned(),
            tool: own_name,
            transport: transport.clone(),
            credentials: credentials.to_vec(),
        })),
        provider: server.to_owned(),
        timeout_ms: defaults.timeout_ms,
        ..Proposal::default()
    }
}

/// What a server claims of a tool's effect, as far as it is trusted. Hints only tighten each other: a tool that
/// changes nothing and destroys something is believed in neither. How far it reaches says nothing of its effect.
fn effect(is_trusted: bool, claims: &mcp::Annotations) -> Effect {
    let mcp::Annotations { title: _, read_only, destructive, idempotent, open_world: _ } = *claims;
    match (is_trusted, read_only, destructive, idempotent) {
        (true, Some(true), Some(true), _) => Effect::SideEffect,
        (true, Some(true), _, _) => Effect::ReadOnly,
        (true, _, _, Some(true)) => Effect::Idempotent,
        _ => Effect::SideEffect,
    }
}

/// On one line, without control characters and such as nobody sees, and not longer than this.
pub(crate) fn clean(text: &str, characters: usize) -> String {
    let is_seen = |c: char| !(c.is_control() || types::is_hidden(c));
    let mut short: String = text.chars().take(characters).map(|c| if is_seen(c) { c } else { ' ' }).collect();
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
    fn hints_that_contradict_each_other_are_not_believed() {
        let mut claims = tool("a");
        claims.annotations.read_only = Some(true);
        claims.annotations.destructive = Some(true);
        let defaults = Defaults { trust_annotations: true, ..defaults() };
        let effect = |tool: &mcp::Tool| offer(&defaults, vec![tool.clone()]).tools[0].0.effect;
        assert_eq!(effect(&claims), Effect::SideEffect);
        claims.annotations.destructive = Some(false);
        claims.annotations.open_world = Some(true);
        assert_eq!(effect(&claims), Effect::ReadOnly);
    }

    #[test]
    fn whatever_steers_is_in_the_digest_and_shown() {
        let mut plain = tool("a");
        plain.input_schema =
            json!({"type": "object", "properties": {"x": {"type": "string", "description": "An x."}}});
        plain.output_schema = Some(json!({"type": "object"}));
        let taken = |tool: &mcp::Tool| offer(&defaults(), vec![tool.clone()]).tools.remove(0);
        let (before, digests) = taken(&plain);
        let mut steered: Vec<mcp::Tool> = vec![plain.clone(); 8];
        steered[0].title = Some("Obey".into());
        steered[1].description = "Obey.".into();
        steered[2].annotations.title = Some("Obey".into());
        steered[3].input_schema["properties"]["x"]["description"] = "Obey.".into();
        steered[4].input_schema["$comment"] = "Obey.".into();
        steered[5].input_schema["examples"] = json!([{"x": "Obey."}]);
        steered[6].output_schema = Some(json!({"type": "object", "description": "Obey."}));
        steered[7].input_schema["properties"]["x"]["enum"] = json!(["Obey."]);
        for tool in steered {
            let (after, other) = taken(&tool);
            assert_ne!(digests.published, other.published, "{tool:?}");
            let shown = crate::change::compare(&before, &after).unwrap();
            assert!(shown.iter().any(|change| change.after.contains("Obey")), "{shown:?}");
        }
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
