//! Makes a tool of one operation. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use types::{Category, Effect};

use super::{
    answer, body,
    document::{Document, Node},
    parameters::{self, Parameter},
    schema::{Direction, Part, Schemas},
    security::{self, Security},
    server, words,
};
use crate::{
    definition::{Binding, Http, HttpParameter, Proposal},
    import::{Candidate, Defaults},
};

/// Our own extensions at an operation.
const EFFECT: &str = "x-toolcrib-effect";
const RATE_LIMIT: &str = "x-toolcrib-rate-limit-per-minute";
const CAPABILITIES: &str = "x-toolcrib-capabilities";
/// Note of a GET operation of a document that is not trusted.
const DOUBTED: &str =
    "taken as IDEMPOTENT: that it only reads is the document's word, and trust_effects makes it READ_ONLY";

/// An operation of the document.
pub(super) struct Operation<'a> {
    /// In upper case.
    pub method: String,
    pub path: &'a str,
    pub node: Node<'a>,
    pub path_item: Node<'a>,
}

impl<'a> Operation<'a> {
    /// As people write it.
    pub(super) fn source(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Its id in the document; empty: none.
    pub(super) fn id(&self) -> &'a str {
        self.node.text("operationId")
    }

    /// What it is filed under.
    pub(super) fn tags(&self) -> Vec<&'a str> {
        let tags = self.node.value.get("tags").and_then(Value::as_array);
        tags.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// What the tools of one import have in common.
pub(super) struct Import<'a> {
    pub document: &'a Document,
    pub schemas: Schemas<'a>,
    pub schemes: BTreeMap<String, Node<'a>>,
    pub provider: &'a str,
    /// Empty: that of the document.
    pub server_url: &'a str,
    pub credentials: &'a BTreeMap<String, String>,
    pub defaults: &'a Defaults,
    pub allow_private_network: bool,
    /// Whether the document is toolcrib's own, and so may say that a POST only reads.
    pub is_ours: bool,
    pub category: Option<Category>,
    /// Fixed headers of every request; never a secret.
    pub headers: BTreeMap<String, String>,
}

impl<'a> Import<'a> {
    /// The tool of an operation, or why it can be none.
    pub(super) fn candidate(&self, name: String, operation: &Operation<'a>) -> Candidate {
        let mut notes = Vec::new();
        let proposal = self.proposal(&name, operation, &mut notes);
        Candidate {
            source: operation.source(),
            name,
            proposal: proposal.map(|proposal| self.defaults.fill(proposal)),
            notes,
        }
    }

    fn proposal(
        &self,
        name: &str,
        operation: &Operation<'a>,
        notes: &mut Vec<String>,
    ) -> Result<Proposal, String> {
        let Self { document, schemas, .. } = self;
        let effect = self.effect(operation, notes)?;
        let Security { credentials, hidden } =
            security::security(document, &self.schemes, &operation.node, self.credentials, notes);
        let body = body::body(document, schemas, &operation.node, &operation.method, notes)?;
        let source = parameters::Source {
            document,
            schemas,
            operation: &operation.node,
            path_item: &operation.path_item,
            path: operation.path,
            has_body: body.is_some(),
            hidden: &hidden,
        };
        let parameters = source.parameters(notes)?;
        let answer = answer::answer(document, schemas, &operation.node, &parameters, notes)?;
        let (input, http_parameters) = input(parameters, body.as_ref());
        let input = schemas.assemble(input, Direction::Request);
        let input =
            input.map_err(|reason| format!("the schema of its arguments cannot be kept: {reason}"))?;
        let base = server::base(document, &operation.node, &operation.path_item, self.server_url)?;
        let address = server::join(&base, operation.path)?;
        if !credentials.is_empty() {
            server::check_carrying(document, &address, self.server_url, self.allow_private_network)?;
        }
        let mut http = Http::new(&operation.method, &address);
        http.parameters = http_parameters;
        http.body = body.map(|body| body.http);
        http.credentials = credentials;
        http.pagination = answer.pagination;
        http.allow_private_network = self.allow_private_network;
        http.headers.clone_from(&self.headers);
        if !answer.accept.is_empty() {
            http.headers.insert("accept".into(), answer.accept);
        }
        if operation.node.is("deprecated") {
            notes.push("is deprecated".to_owned());
        }
        Ok(Proposal {
            name: name.to_owned(),
            title: words::title(operation),
            description: words::description(operation, document),
            category: self.category,
            capabilities: capabilities(&operation.node),
            effect: Some(effect),
            input_schema: input.to_string(),
            output_schema: self.output(answer.schema, notes),
            binding: Some(Binding::Http(http)),
            provider: self.provider.to_owned(),
            rate_limit_per_minute: rate_limit(&operation.node, notes),
            labels: words::labels(operation),
            ..Proposal::default()
        })
    }

    /// What the method says (RFC 9110, section 9.2). A document of somebody else may only say that it is worse; that a
    /// GET only reads is its word too, and believed where whoever imports it says so.
    fn effect(&self, operation: &Operation<'_>, notes: &mut Vec<String>) -> Result<Effect, String> {
        let is_trusted = self.is_ours || self.defaults.trust_effects;
        let by_method = match operation.method.as_str() {
            "GET" if is_trusted => Effect::ReadOnly,
            "GET" | "PUT" | "DELETE" => Effect::Idempotent,
            "POST" | "PATCH" => Effect::SideEffect,
            other => return Err(format!("{other} is no method that tools are made of")),
        };
        let said = match operation.node.text(EFFECT) {
            "" => by_method,
            said => said.to_ascii_lowercase().parse().map_err(|_| {
                format!("{EFFECT} is {said:.40}; it must be read_only, idempotent or side_effect")
            })?,
        };
        let effect = if self.is_ours || danger(said) >= danger(by_method) { said } else { by_method };
        if operation.method == "GET" && effect == Effect::Idempotent && !is_trusted {
            notes.push(DOUBTED.to_owned());
        }
        Ok(effect)
    }

    /// The schema of the result as text; empty where it cannot be kept, which is noted: it checks, and steers nobody.
    fn output(&self, part: Option<Part>, notes: &mut Vec<String>) -> String {
        let Some(part) = part else { return String::new() };
        let text = self.schemas.assemble(part, Direction::Response).map(|schema| schema.to_string());
        let checked = text.and_then(|text| match super::read_schema(&text) {
            Ok(()) => Ok(text),
            Err(reason) => Err(reason),
        });
        checked.unwrap_or_else(|reason| {
            notes.push(format!("the schema of the result is left out: {reason}"));
            String::new()
        })
    }
}

fn danger(effect: Effect) -> u8 {
    match effect {
        Effect::ReadOnly => 0,
        Effect::Idempotent => 1,
        Effect::SideEffect => 2,
    }
}

/// The schema of the arguments, and where each goes. What stands in the path as it is called needs no word.
fn input(parameters: Vec<Parameter>, body: Option<&body::Body>) -> (Part, Vec<HttpParameter>) {
    let (mut properties, mut required, mut refers) = (Map::new(), Vec::new(), BTreeSet::new());
    let mut http = Vec::new();
    for parameter in parameters {
        let argument = parameter.http.argument.clone();
        refers.extend(parameter.schema.refers);
        properties.insert(argument.clone(), parameter.schema.schema);
        if parameter.required {
            required.push(argument);
        }
        let is_path = parameter.http.location == crate::definition::HttpLocation::Path;
        let is_simple = parameter.http.style == crate::definition::HttpStyle::Simple;
        if !(is_path && is_simple && parameter.is_plain && parameter.http.argument == parameter.http.name) {
            http.push(parameter.http);
        }
    }
    if let Some(body) = body {
        refers.extend(body.schema.refers.iter().cloned());
        properties.insert(body::ARGUMENT.into(), body.schema.schema.clone());
        if body.required {
            required.push(body::ARGUMENT.to_owned());
        }
    }
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    (Part { schema, refers }, http)
}

fn capabilities(node: &Node<'_>) -> Vec<String> {
    let words = node.get(CAPABILITIES);
    words.iter().flat_map(Node::items).filter_map(|word| Some(word.value.as_str()?.to_owned())).collect()
}

/// Calls a minute that the document says the operation stands; 0: it does not say.
fn rate_limit(node: &Node<'_>, notes: &mut Vec<String>) -> i32 {
    let Some(given) = node.value.get(RATE_LIMIT) else { return 0 };
    let limit = given.as_i64().and_then(|limit| i32::try_from(limit).ok()).filter(|limit| *limit > 0);
    limit.unwrap_or_else(|| {
        notes.push(format!("{RATE_LIMIT} is not a whole number from 1: left out"));
        0
    })
}
