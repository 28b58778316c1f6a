//! What a tool is: its definition as it was proposed, and as it stands once it was checked. No I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::{Category, Digest, Effect, Sensitivity};

use crate::Error;
pub(crate) use crate::binding::{
    Binding, Builtin, CredentialPlace, CredentialUse, Grpc, Http, HttpBody, HttpBodyFormat, HttpLocation,
    HttpParameter, HttpStyle, Mcp, NextPage, Pagination,
};

/// The tools that toolcrib itself implements: every name that a built-in binding may have. The executor
/// has one driver for each.
pub const BUILTINS: [&str; 12] = [
    "python_sandbox",
    "pandas_analyzer",
    "file_operations",
    "http_request",
    "brave_web_search",
    "google_web_search",
    "echo",
    "ping_server",
    "read_file",
    "list_files",
    "system_status",
    "code_analysis",
];

/// Provider of the built-in tools.
pub(crate) const OWN_PROVIDER: &str = "toolcrib";

/// A definition that nobody has checked yet. `None`, 0 and empty texts mean "not said".
#[derive(Debug, Clone, Default)]
pub(crate) struct Proposal {
    pub name: String,
    pub version: String,
    pub title: String,
    pub description: String,
    pub category: Option<Category>,
    pub capabilities: Vec<String>,
    pub effect: Option<Effect>,
    pub sensitivity: Option<Sensitivity>,
    /// JSON text.
    pub input_schema: String,
    /// JSON text; empty: any result.
    pub output_schema: String,
    pub binding: Option<Binding>,
    pub provider: String,
    pub timeout_ms: i64,
    pub rate_limit_per_minute: i32,
    pub cost_micro_usd: i64,
    pub labels: BTreeMap<String, String>,
    pub examples: Vec<Example>,
}

/// A definition that was checked. Never changes within one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub name: String,
    /// Empty until the version is decided.
    pub version: String,
    pub title: String,
    pub description: String,
    pub category: Category,
    pub capabilities: Vec<String>,
    pub effect: Effect,
    pub sensitivity: Sensitivity,
    /// JSON text, written anew from what was read, so that it holds nothing that the digest does not.
    pub input_schema: String,
    /// The same; empty: any result.
    pub output_schema: String,
    pub binding: Binding,
    pub provider: String,
    pub timeout_ms: i64,
    pub rate_limit_per_minute: i32,
    pub cost_micro_usd: i64,
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

/// A call that shows how a tool is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    pub description: String,
    /// JSON text.
    pub arguments: String,
    /// JSON text; empty: not told.
    pub result: String,
}

/// Both digests of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digests {
    /// Over everything that may steer a model or a decision; published.
    pub published: Digest,
    /// Over all of it but the version.
    pub content: Digest,
}

impl Definition {
    /// Computes both digests.
    pub(crate) fn digests(&self) -> Result<Digests, Error> {
        let mut steering = json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "input_schema": schema_value(&self.input_schema)?,
            "output_schema": schema_value(&self.output_schema)?,
            "annotations": {
                "category": self.category,
                "capabilities": self.capabilities,
                "effect": self.effect,
                "sensitivity": self.sensitivity,
            },
            "binding": self.binding,
        });
        if !self.examples.is_empty() {
            steering["examples"] = json!(self.examples);
        }
        let published = types::digest_json(&steering)?;
        let content = json!({
            "digest": published,
            "provider": self.provider,
            "timeout_ms": self.timeout_ms,
            "rate_limit_per_minute": self.rate_limit_per_minute,
            "cost_micro_usd": exact(json!(self.cost_micro_usd)),
            "labels": self.labels,
        });
        Ok(Digests { content: types::digest_json(&content)?, published })
    }
}

fn schema_value(text: &str) -> Result<Value, Error> {
    if text.is_empty() { Ok(Value::Null) } else { Ok(exact(serde_json::from_str(text)?)) }
}

/// Integers beyond 2^53 share their canonical form with their neighbours (RFC 8785 section 3.2.2.3): they
/// stand as an object that holds their digits, so that no two schemas share a digest.
fn exact(value: Value) -> Value {
    const LARGEST: u64 = 1 << 53;
    match value {
        Value::Number(number) if !number.is_f64() => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude <= LARGEST) {
                Value::Number(number)
            } else {
                json!({ "$integer": number.to_string() })
            }
        }
        Value::Array(items) => items.into_iter().map(exact).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, exact(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn definition() -> Definition {
        Definition {
            name: "weather".into(),
            version: String::new(),
            title: "Weather".into(),
            description: "Tells the weather.".into(),
            category: Category::DataRetrieval,
            capabilities: vec!["retrieve".into()],
            effect: Effect::ReadOnly,
            sensitivity: Sensitivity::Public,
            input_schema:
                r#"{"type":"object","properties":{"city":{"type":"string","maximum":9007199254740993}}}"#
                    .into(),
            output_schema: String::new(),
            binding: Binding::Builtin(Builtin { name: "http_request".into() }),
            provider: "toolcrib".into(),
            timeout_ms: 30_000,
            rate_limit_per_minute: 60,
            cost_micro_usd: 0,
            labels: BTreeMap::new(),
            examples: vec![],
        }
    }

    fn http() -> Http {
        Http::new("GET", "https://example.com/")
    }

    type Edit = fn(&mut Definition);

    #[test]
    fn the_digest_changes_with_whatever_steers() {
        let edits: [Edit; 15] = [
            |d| d.name.push('x'),
            |d| d.title.push('.'),
            |d| d.description.push(' '),
            |d| d.category = Category::Custom,
            |d| d.capabilities.push("search".into()),
            |d| d.effect = Effect::SideEffect,
            |d| d.sensitivity = Sensitivity::Internal,
            |d| d.input_schema = d.input_schema.replace("city", "town"),
            |d| d.input_schema = d.input_schema.replace("0993", "0992"),
            |d| d.output_schema = "true".into(),
            |d| {
                d.examples =
                    vec![Example { description: "x".into(), arguments: "{}".into(), result: String::new() }];
            },
            |d| d.binding = Binding::Builtin(Builtin { name: "file_operations".into() }),
            |d| d.binding = Binding::Http(http()),
            |d| d.binding = Binding::Http(Http { allow_private_network: true, ..http() }),
            |d| d.binding = Binding::Http(Http { headers: [("a".into(), "b".into())].into(), ..http() }),
        ];
        let mut seen = vec![definition().digests().unwrap()];
        for edit in edits {
            let mut edited = definition();
            edit(&mut edited);
            let digests = edited.digests().unwrap();
            assert!(seen.iter().all(|known| known.published != digests.published), "{edited:?}");
            seen.push(digests);
        }
    }

    #[test]
    fn limits_and_labels_change_the_content_and_not_the_published_digest() {
        let edits: [Edit; 5] = [
            |d| d.timeout_ms = 1_000,
            |d| d.rate_limit_per_minute = 1,
            |d| d.cost_micro_usd = 9_007_199_254_740_993,
            |d| d.cost_micro_usd = 9_007_199_254_740_992,
            |d| drop(d.labels.insert("a".into(), "b".into())),
        ];
        let mut seen = vec![definition().digests().unwrap()];
        for edit in edits {
            let mut edited = definition();
            edit(&mut edited);
            let digests = edited.digests().unwrap();
            assert_eq!(digests.published, seen[0].published);
            assert!(seen.iter().all(|known| known.content != digests.content), "{edited:?}");
            seen.push(digests);
        }
        let versioned = Definition { version: "2.0.0".into(), ..definition() };
        assert_eq!(versioned.digests().unwrap(), seen[0]);
    }

    #[test]
    fn the_digest_ignores_how_a_schema_is_spelled() {
        let mut spelled = definition();
        spelled.input_schema =
            r#"{ "properties": {"city": {"maximum": 9007199254740993, "type": "string"}}, "type": "object" }"#
                .into();
        assert_eq!(spelled.digests().unwrap(), definition().digests().unwrap());
    }
}
