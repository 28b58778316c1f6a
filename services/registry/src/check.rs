//! Checks a proposed definition completely and names everything that is wrong with it at once. No I/O.

use ::rpc::FieldViolation;
use semver::{BuildMetadata, Version};
use serde_json::Value;
use types::{Effect, Sensitivity};

use crate::{
    check_binding, check_examples, check_letters,
    definition::{Binding, Definition, OWN_PROVIDER, Proposal},
};

/// Longest name of a tool, in characters.
pub(crate) const MAX_NAME: usize = 128;
const MAX_TITLE: usize = 200;
const MAX_DESCRIPTION: usize = 8_192;
/// Most capabilities of one tool.
pub(crate) const MAX_WORDS: usize = 32;
const MAX_WORD: usize = 64;
/// Greatest major, minor or patch version: there is always a next one.
const MAX_VERSION: u64 = 1_000_000_000;
const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 256;
const TIMEOUT_MS: std::ops::RangeInclusive<i64> = 1_000..=300_000;
/// Timeout where none is given, in milliseconds.
const DEFAULT_TIMEOUT_MS: i64 = 30_000;
/// Calls a minute where no limit is given.
const DEFAULT_RATE_LIMIT: i32 = 60;

/// Who proposes a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A person: may not bind to an MCP server, which its discovery does.
    Person,
    /// The discovery of an MCP server.
    Discovery,
    /// An import of a server's own description.
    Import,
}

/// What is wrong, gathered.
#[derive(Debug, Default)]
pub(crate) struct Violations(pub Vec<FieldViolation>);

impl Violations {
    /// Notes what is wrong with a field of the definition.
    pub(crate) fn add(&mut self, field: &str, description: impl Into<String>) {
        let field = format!("definition.{field}");
        self.0.push(FieldViolation { field, description: description.into() });
    }

    /// Notes that a text is too long, or holds control characters or such as nobody sees.
    pub(crate) fn text(&mut self, field: &str, text: &str, most: usize) {
        let length = text.chars().count();
        if length > most {
            self.add(field, format!("has {length} characters; at most {most} are taken"));
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.add(field, "holds control characters");
        }
        if let Some(hidden) = text.chars().find(|c| types::is_hidden(*c)) {
            let code = u32::from(hidden);
            self.add(
                field,
                format!("holds characters that are not seen, such as U+{code:04X}: leave them out"),
            );
        }
    }

    /// Keeps a value, or notes why there is none.
    fn keep<T>(&mut self, field: &str, read: Result<T, impl ToString>) -> Option<T> {
        read.map_err(|fault| self.add(field, fault.to_string())).ok()
    }
}

/// The definition, with every default filled in, or everything that is wrong with it. The version stays
/// empty where none is given.
pub(crate) fn check(mut proposal: Proposal, origin: Origin) -> Result<Definition, Violations> {
    let mut found = Violations::default();
    let is_strangers = origin != Origin::Person;
    if is_strangers {
        check_letters::strip(&mut proposal);
    }
    found_in_texts(&proposal, &mut found);
    let version = found.keep("version", read_version(&proposal.version));
    if proposal.category.is_none() {
        found.add("category", "is not given; CATEGORY_CUSTOM fits anything");
    }
    let capabilities = capabilities(proposal.capabilities, &mut found);
    let mut input = found.keep("input_schema_json", schema::read_object(&proposal.input_schema));
    let mut output = match proposal.output_schema.as_str() {
        "" => Some(None),
        text => found.keep("output_schema_json", schema::read(text)).map(Some),
    };
    check_letters::in_schema("input_schema_json", input.as_mut(), is_strangers, &mut found);
    let described = output.as_mut().and_then(Option::as_mut);
    check_letters::in_schema("output_schema_json", described, is_strangers, &mut found);
    let examples = check_examples::check(proposal.examples, input.as_ref(), &mut found);
    match &proposal.binding {
        Some(binding) => check_binding::check(binding, origin, input.as_ref(), &mut found),
        None => found.add("binding", "is not given: say how the tool is run (builtin or http)"),
    }
    let timeout_ms = limit("timeout_ms", proposal.timeout_ms, DEFAULT_TIMEOUT_MS, TIMEOUT_MS, &mut found);
    if proposal.rate_limit_per_minute < 0 {
        found.add("rate_limit_per_minute", "is negative; at least 1 a minute, or 0 for 60");
    }
    if proposal.cost_micro_usd < 0 {
        found.add("cost_micro_usd", "is negative");
    }
    let (Some(version), Some(category), Some(input), Some(output), Some(binding), true) =
        (version, proposal.category, input, output, proposal.binding, found.0.is_empty())
    else {
        return Err(found);
    };
    Ok(Definition {
        name: proposal.name,
        version,
        title: proposal.title,
        description: proposal.description,
        category,
        capabilities,
        effect: proposal.effect.unwrap_or(Effect::SideEffect),
        sensitivity: proposal.sensitivity.unwrap_or(Sensitivity::Internal),
        input_schema: input.to_string(),
        output_schema: output.as_ref().map(Value::to_string).unwrap_or_default(),
        provider: provider(proposal.provider, &binding),
        binding,
        timeout_ms,
        rate_limit_per_minute: match proposal.rate_limit_per_minute {
            0 => DEFAULT_RATE_LIMIT,
            given => given,
        },
        cost_micro_usd: proposal.cost_micro_usd,
        labels: proposal.labels,
        examples,
    })
}

/// Whether a timeout may stand as the default of a server's tools; 0 stands for 30,000.
pub(crate) fn is_timeout(timeout_ms: i64) -> bool {
    timeout_ms == 0 || TIMEOUT_MS.contains(&timeout_ms)
}

fn found_in_texts(proposal: &Proposal, found: &mut Violations) {
    if !is_tool_name(&proposal.name) {
        found.add("name", "must be 1 to 128 characters of a-z, 0-9, _, - and .");
    }
    found.text("title", &proposal.title, MAX_TITLE);
    if proposal.description.trim().is_empty() {
        found.add("description", "is empty: say what the tool does and when to use it");
    }
    found.text("description", &proposal.description, MAX_DESCRIPTION);
    if !proposal.provider.is_empty() && !is_word(&proposal.provider) {
        found.add("provider", "must be 1 to 64 characters of a-z, 0-9, _ and -");
    }
    if proposal.labels.len() > MAX_LABELS {
        found.add("labels", format!("has {}; at most {MAX_LABELS} are taken", proposal.labels.len()));
    }
    for (key, value) in proposal.labels.iter().take(MAX_LABELS) {
        found.text("labels", key, MAX_WORD);
        found.text("labels", value, MAX_LABEL);
    }
}

/// Whether a tool can have this name.
pub(crate) fn is_tool_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_name_byte)
}

/// Whether a tool's name may hold this.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.')
}

/// Whether this can be a capability, a provider or the name of a server.
pub(crate) fn is_word(word: &str) -> bool {
    (1..=MAX_WORD).contains(&word.len()) && word.bytes().all(|byte| byte != b'.' && is_name_byte(byte))
}

fn read_version(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let version = Version::parse(text).map_err(|error| {
        format!("{text:?} is not a semantic version such as 1.0.0 ({error}); leave it empty for the next one")
    })?;
    if version.build != BuildMetadata::EMPTY || text.len() > MAX_WORD {
        return Err("must be at most 64 characters without build metadata, which orders no versions".into());
    }
    if [version.major, version.minor, version.patch].iter().any(|part| *part > MAX_VERSION) {
        return Err(format!("must have no number above {MAX_VERSION}"));
    }
    Ok(version.to_string())
}

/// As a sorted set: their order says nothing.
fn capabilities(mut words: Vec<String>, found: &mut Violations) -> Vec<String> {
    if words.len() > MAX_WORDS {
        found.add("capabilities", format!("has {}; at most {MAX_WORDS} are taken", words.len()));
    }
    for (index, word) in words.iter().enumerate().filter(|(_, word)| !is_word(word)) {
        let field = format!("capabilities[{index}]");
        found.add(&field, format!("{word:?} must be 1 to 64 characters of a-z, 0-9, _ and -"));
    }
    words.sort_unstable();
    words.dedup();
    words
}

fn limit(
    field: &str,
    given: i64,
    default: i64,
    range: std::ops::RangeInclusive<i64>,
    found: &mut Violations,
) -> i64 {
    if given == 0 {
        return default;
    }
    if !range.contains(&given) {
        let (least, most) = (range.start(), range.end());
        found.add(field, format!("is {given}; it must be {least} to {most}, or 0 for {default}"));
    }
    given
}

fn provider(given: String, binding: &Binding) -> String {
    match (given.is_empty(), binding) {
        (false, _) => given,
        (true, Binding::Builtin(_)) => OWN_PROVIDER.to_owned(),
        (true, Binding::Mcp(mcp)) => mcp.server.clone(),
        (true, Binding::Http(_) | Binding::Grpc(_)) => "custom".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use types::Category;

    use super::*;
    use crate::definition::{Builtin, Http};

    pub(crate) fn proposal() -> Proposal {
        Proposal {
            name: "weather".into(),
            description: "Tells the weather.".into(),
            category: Some(Category::DataRetrieval),
            input_schema: r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#
                .into(),
            binding: Some(Binding::Builtin(Builtin { name: "http_request".into() })),
            ..Proposal::default()
        }
    }

    fn fields(proposal: Proposal) -> Vec<String> {
        let found = check(proposal, Origin::Person).expect_err("something is wrong");
        found.0.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn what_is_not_said_gets_its_default() {
        let definition = check(proposal(), Origin::Person).unwrap();
        assert_eq!(definition.effect, Effect::SideEffect);
        assert_eq!(definition.sensitivity, Sensitivity::Internal);
        assert_eq!((definition.timeout_ms, definition.rate_limit_per_minute), (30_000, 60));
        assert_eq!((definition.provider.as_str(), definition.version.as_str()), ("toolcrib", ""));
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let wrong = Proposal {
            name: "Bad Name".into(),
            version: "1.0".into(),
            title: "x".repeat(201),
            description: " ".into(),
            category: None,
            capabilities: vec!["fine".into(), "Not Fine".into()],
            input_schema: r#"{"type":"array"}"#.into(),
            output_schema: "{".into(),
            binding: Some(Binding::Builtin(Builtin { name: "rm_rf".into() })),
            provider: "a b".into(),
            timeout_ms: 999,
            rate_limit_per_minute: -1,
            cost_micro_usd: -1,
            labels: [("a".into(), "\0".into())].into(),
            ..Proposal::default()
        };
        let expected = [
            "name",
            "title",
            "description",
            "provider",
            "labels",
            "version",
            "category",
            "capabilities[1]",
            "input_schema_json",
            "output_schema_json",
            "binding.builtin.name",
            "timeout_ms",
            "rate_limit_per_minute",
            "cost_micro_usd",
        ];
        assert_eq!(fields(wrong), expected.map(|field| format!("definition.{field}")));
    }

    #[test]
    fn limits_are_taken_to_the_edge_and_not_beyond() {
        for (timeout, good) in [(1_000, true), (300_000, true), (999, false), (300_001, false), (-1, false)] {
            let checked = check(Proposal { timeout_ms: timeout, ..proposal() }, Origin::Person);
            assert_eq!(checked.is_ok(), good, "{timeout}");
        }
        let name = |length| Proposal { name: "n".repeat(length), ..proposal() };
        assert!(check(name(128), Origin::Person).is_ok());
        assert_eq!(fields(name(129)), ["definition.name"]);
        let described = |length| Proposal { description: "é".repeat(length), ..proposal() };
        assert!(check(described(8_192), Origin::Person).is_ok());
        assert_eq!(fields(described(8_193)), ["definition.description"]);
    }

    #[test]
    fn versions_are_semantic_and_without_build_metadata() {
        for good in ["1.0.0", "0.0.1", "2.1.0-rc.1", "1000000000.0.0"] {
            assert!(check(Proposal { version: good.into(), ..proposal() }, Origin::Person).is_ok(), "{good}");
        }
        for bad in
            ["1", "v1.0.0", "1.0.0+a", "01.0.0", "latest", "1000000001.0.0", "1.0.18446744073709551615"]
        {
            assert_eq!(
                fields(Proposal { version: bad.into(), ..proposal() }),
                ["definition.version"],
                "{bad}"
            );
        }
    }

    #[test]
    fn capabilities_are_a_set() {
        let words = ["search", "analyze", "search"].map(str::to_owned).to_vec();
        let definition = check(Proposal { capabilities: words, ..proposal() }, Origin::Person).unwrap();
        assert_eq!(definition.capabilities, ["analyze", "search"]);
    }

    #[test]
    fn a_schema_keeps_nothing_that_its_digest_does_not_cover() {
        let doubled = r#"{"type":"object","description":"harmless","description":"last"}"#;
        let definition =
            check(Proposal { input_schema: doubled.into(), ..proposal() }, Origin::Person).unwrap();
        assert!(!definition.input_schema.contains("harmless"));
    }

    #[test]
    fn a_tool_of_the_teams_own_is_not_said_to_be_toolcribs() {
        let http = Http::new("GET", "https://example.com/{city}");
        let definition = check(Proposal { binding: Some(Binding::Http(http)), ..proposal() }, Origin::Person);
        assert_eq!(definition.unwrap().provider, "custom");
    }
}
