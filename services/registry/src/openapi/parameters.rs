//! The parameters of an operation: which argument each becomes, and how it is written in the request. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    document::{Document, Node},
    media,
    names::short,
    schema::{Direction, Part, Schemas, schema_of},
};
use crate::definition::{HttpLocation, HttpParameter, HttpStyle};

/// Headers that `OpenAPI` says are no parameters (3.1, section 4.8.12), and those that the connection itself sets.
const IGNORED_HEADERS: [&str; 9] = [
    "accept",
    "content-type",
    "authorization",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
];
/// Longest name of an argument, in characters: what model APIs take.
const MAX_ARGUMENT: usize = 64;

/// A parameter that becomes an argument.
#[derive(Debug)]
pub(super) struct Parameter {
    pub http: HttpParameter,
    pub schema: Part,
    pub required: bool,
    /// Whether it is a plain value, which every style writes the same.
    pub is_plain: bool,
}

/// Name and place of a parameter, which credentials may take: no argument then.
pub(super) type Hidden = BTreeSet<(HttpLocation, String)>;

/// Where the parameters are looked for.
pub(super) struct Source<'a, 's> {
    pub document: &'a Document,
    pub schemas: &'s Schemas<'a>,
    pub operation: &'s Node<'a>,
    pub path_item: &'s Node<'a>,
    pub path: &'s str,
    /// Whether there is an argument `body`.
    pub has_body: bool,
    pub hidden: &'s Hidden,
}

impl Source<'_, '_> {
    /// Every parameter, those of the path first.
    pub(super) fn parameters(&self, notes: &mut Vec<String>) -> Result<Vec<Parameter>, String> {
        let mut found = Vec::new();
        for node in self.merged()? {
            found.extend(self.parameter(&node, notes)?);
        }
        let known: BTreeSet<String> = in_path(&found).map(|parameter| parameter.http.name.clone()).collect();
        for name in placeholders(self.path).filter(|name| !known.contains(*name)) {
            notes.push(format!("the path has {{{name}}}, which no parameter describes: taken as text"));
            found.push(undescribed(name));
        }
        found.sort_by_key(|parameter| rank(parameter.http.location));
        name_arguments(&mut found, self.has_body);
        Ok(found)
    }

    /// Those of the operation, and those of its path that it does not override.
    fn merged(&self) -> Result<Vec<Node<'_>>, String> {
        let mut order = Vec::new();
        let mut nodes: BTreeMap<(String, String), Node<'_>> = BTreeMap::new();
        for holder in [self.path_item, self.operation] {
            for node in holder.get("parameters").iter().flat_map(Node::items) {
                let node = self.document.resolve(node)?;
                let key = (node.text("in").to_owned(), node.text("name").to_owned());
                if nodes.insert(key.clone(), node).is_none() {
                    order.push(key);
                }
            }
        }
        Ok(order.into_iter().filter_map(|key| nodes.remove(&key)).collect())
    }

    fn parameter(&self, node: &Node<'_>, notes: &mut Vec<String>) -> Result<Option<Parameter>, String> {
        let name = node.text("name");
        if name.is_empty() {
            return Err(format!("the parameter at {} has no name", node.at));
        }
        let location = match node.text("in") {
            "path" => HttpLocation::Path,
            "query" => HttpLocation::Query,
            "header" => HttpLocation::Header,
            "cookie" => HttpLocation::Cookie,
            other => {
                return Err(format!(
                    "the parameter at {} is in {other:?}, which OpenAPI does not know",
                    node.at
                ));
            }
        };
        let hidden_name =
            if location == HttpLocation::Header { name.to_lowercase() } else { name.to_owned() };
        if self.hidden.contains(&(location, hidden_name)) {
            return Ok(None);
        }
        if location == HttpLocation::Header && IGNORED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(None);
        }
        if location == HttpLocation::Path && !placeholders(self.path).any(|known| known == name) {
            notes.push(format!("parameter {name:?} has no place in the path: left out"));
            return Ok(None);
        }
        let (holder, json) = match node.get("content").and_then(|content| content.members().next()) {
            Some((media_type, media)) => (media, media::is_json(media_type)),
            None => (node.clone(), false),
        };
        let schema_node = schema_of(&holder);
        let schema = self.schemas.convert(&schema_node, Direction::Request)?;
        let (style, explode) = style(node, location, notes);
        Ok(Some(Parameter {
            http: HttpParameter {
                argument: argument(name),
                name: name.to_owned(),
                location,
                style,
                explode,
                json,
            },
            schema: described(schema, node),
            required: location == HttpLocation::Path || node.is("required"),
            is_plain: !json && self.is_plain(schema_node),
        }))
    }

    fn is_plain(&self, schema: Node<'_>) -> bool {
        let Ok(schema) = self.document.resolve(schema) else { return false };
        matches!(schema.text("type"), "string" | "integer" | "number" | "boolean")
    }
}

/// Which parameter keeps its name where two have the same: that of the path first.
fn rank(location: HttpLocation) -> u8 {
    match location {
        HttpLocation::Path => 0,
        HttpLocation::Query => 1,
        HttpLocation::Header => 2,
        HttpLocation::Cookie => 3,
    }
}

/// The path's parameters.
pub(super) fn in_path(parameters: &[Parameter]) -> impl Iterator<Item = &Parameter> {
    parameters.iter().filter(|parameter| parameter.http.location == HttpLocation::Path)
}

/// Names between braces in a path.
pub(super) fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

fn undescribed(name: &str) -> Parameter {
    let http = HttpParameter {
        argument: argument(name),
        name: name.to_owned(),
        location: HttpLocation::Path,
        style: HttpStyle::Simple,
        explode: false,
        json: false,
    };
    Parameter { http, schema: Part::plain(json!({"type": "string"})), required: true, is_plain: true }
}

/// The style and whether it is exploded: `OpenAPI` 3.1, section 4.8.12.2 (Fixed Fields).
fn style(node: &Node<'_>, location: HttpLocation, notes: &mut Vec<String>) -> (HttpStyle, bool) {
    let usual = match location {
        HttpLocation::Query | HttpLocation::Cookie => HttpStyle::Form,
        HttpLocation::Path | HttpLocation::Header => HttpStyle::Simple,
    };
    let style = match (node.text("style"), location) {
        ("", _) => usual,
        ("form", HttpLocation::Query | HttpLocation::Cookie) => HttpStyle::Form,
        ("simple", HttpLocation::Path | HttpLocation::Header) => HttpStyle::Simple,
        ("label", HttpLocation::Path) => HttpStyle::Label,
        ("matrix", HttpLocation::Path) => HttpStyle::Matrix,
        ("spaceDelimited", HttpLocation::Query) => HttpStyle::SpaceDelimited,
        ("pipeDelimited", HttpLocation::Query) => HttpStyle::PipeDelimited,
        ("deepObject", HttpLocation::Query) => HttpStyle::DeepObject,
        (other, _) => {
            let name = node.text("name");
            notes
                .push(format!("parameter {name:?} cannot have the style {other:.40}: the usual one is used"));
            usual
        }
    };
    let explode = node.value.get("explode").and_then(Value::as_bool);
    let usual = matches!(style, HttpStyle::Form | HttpStyle::DeepObject);
    (style, explode.unwrap_or(usual))
}

/// A schema with what its parameter says of it.
fn described(mut part: Part, node: &Node<'_>) -> Part {
    if part.schema == Value::Bool(true) {
        part.schema = json!({});
    }
    let Some(schema) = part.schema.as_object_mut() else { return part };
    let description = node.text("description").trim();
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
    if node.is("deprecated") {
        schema.insert("deprecated".into(), true.into());
    }
    if let Some(example) = node.value.get("example")
        && !schema.contains_key("examples")
    {
        schema.insert("examples".into(), json!([example]));
    }
    part
}

/// A name that model APIs take for an argument.
fn argument(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let words: Vec<&str> = name.split(|c| !is_plain(c)).filter(|word| !word.is_empty()).collect();
    let plain = words.join("_");
    if plain.is_empty() { "parameter".to_owned() } else { short(&plain, MAX_ARGUMENT) }
}

/// Gives each its own argument: where names collide, the later one says where it stands.
fn name_arguments(parameters: &mut [Parameter], has_body: bool) {
    let mut taken = BTreeSet::new();
    if has_body {
        taken.insert("body".to_owned());
    }
    for Parameter { http, .. } in parameters {
        let place = match http.location {
            HttpLocation::Path => "path",
            HttpLocation::Query => "query",
            HttpLocation::Header => "header",
            HttpLocation::Cookie => "cookie",
        };
        let wanted = http.argument.clone();
        let placed = (1..).map(|n| match n {
            1 => short(&format!("{wanted}_{place}"), MAX_ARGUMENT),
            n => short(&format!("{wanted}_{place}_{n}"), MAX_ARGUMENT),
        });
        let free = std::iter::once(wanted.clone()).chain(placed).find(|name| !taken.contains(name));
        http.argument = free.unwrap_or_default();
        taken.insert(http.argument.clone());
    }
}
