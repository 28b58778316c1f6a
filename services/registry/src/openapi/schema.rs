//! Makes JSON Schemas (2020-12) of the schemas of `OpenAPI` 3.0 and 3.1: what they share becomes `$defs`, so that
//! circles stay circles, and only what is reached comes along. No I/O.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    rc::Rc,
};

use ::schema::MAX_BYTES;
use serde_json::{Map, Value, json};

use super::{
    dialect,
    document::{Document, Node, below},
};

/// Most schemas, combined into one, that are looked through for what goes the other way only.
const MAX_LOOK: usize = 32;

/// Which way what a schema describes is sent: some properties go one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Request,
    Response,
}

impl Direction {
    /// The mark of properties that go the other way only.
    fn other_way(self) -> &'static str {
        match self {
            Self::Request => "readOnly",
            Self::Response => "writeOnly",
        }
    }
}

/// A converted schema and what it refers to, as pointers into the document.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub schema: Value,
    pub refers: BTreeSet<String>,
}

impl Part {
    /// A schema that refers to nothing.
    pub(super) fn plain(schema: Value) -> Self {
        Self { schema, refers: BTreeSet::new() }
    }
}

/// A schema that others refer to, converted once.
#[derive(Debug)]
struct Shared {
    part: Part,
    bytes: usize,
}

/// A shared schema, or why it cannot be converted.
type Conversion = Result<Rc<Shared>, String>;

/// Converts the schemas of one document.
pub(super) struct Schemas<'a> {
    document: &'a Document,
    shared: RefCell<HashMap<(String, Direction), Conversion>>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self { document, shared: RefCell::default() }
    }

    /// Converts a schema; what it refers to is not looked at yet.
    pub(super) fn convert(&self, node: &Node<'_>, direction: Direction) -> Result<Part, String> {
        let mut refers = BTreeSet::new();
        let schema = Converter { document: self.document, direction, refers: &mut refers }.convert(node)?;
        Ok(Part { schema, refers })
    }

    /// Adds to a schema, which is an object, the `$defs` that it needs, and refuses what is too large.
    pub(super) fn assemble(&self, part: Part, direction: Direction) -> Result<Value, String> {
        let mut schema = part.schema;
        let mut defs = BTreeMap::new();
        let mut bytes = schema.to_string().len();
        let mut waiting: VecDeque<String> = part.refers.into_iter().collect();
        while let Some(pointer) = waiting.pop_front() {
            let name = def_name(&pointer);
            if defs.contains_key(&name) {
                continue;
            }
            let shared = self.shared(&pointer, direction)?;
            bytes += shared.bytes + name.len();
            if bytes > MAX_BYTES {
                return Err(format!("with all that it refers to, it has more than {MAX_BYTES} bytes"));
            }
            waiting.extend(shared.part.refers.iter().cloned());
            defs.insert(name, shared);
        }
        if let (Some(members), false) = (schema.as_object_mut(), defs.is_empty()) {
            let defs = defs.into_iter().map(|(name, shared)| (name, shared.part.schema.clone()));
            members.insert("$defs".into(), Value::Object(defs.collect()));
        }
        Ok(schema)
    }

    fn shared(&self, pointer: &str, direction: Direction) -> Conversion {
        let key = (pointer.to_owned(), direction);
        if let Some(known) = self.shared.borrow().get(&key) {
            return known.clone();
        }
        // The pointer was resolved when it was met.
        let value = self.document.root.pointer(pointer).unwrap_or(&Value::Null);
        let converted = self.convert(&Node { value, at: pointer.to_owned() }, direction).map(|part| {
            let bytes = part.schema.to_string().len();
            Rc::new(Shared { part, bytes })
        });
        self.shared.borrow_mut().insert(key, converted.clone());
        converted
    }
}

/// The name of a shared schema: that of the component, or one that no other pointer has.
fn def_name(pointer: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(name) = pointer.strip_prefix("/components/schemas/")
        && name.chars().all(is_plain)
    {
        return name.to_owned();
    }
    let last: String =
        pointer.rsplit('/').next().unwrap_or_default().chars().filter(|c| is_plain(*c)).collect();
    // Not a name that a component can have by chance.
    format!("{last}-{:.12}", types::digest_bytes(pointer.as_bytes()))
}

/// Converts one schema with all that stands in it.
struct Converter<'a, 'r> {
    document: &'a Document,
    direction: Direction,
    refers: &'r mut BTreeSet<String>,
}

impl Converter<'_, '_> {
    fn convert(&mut self, node: &Node<'_>) -> Result<Value, String> {
        let members = match node.value {
            Value::Bool(all) => return Ok(json!(all)),
            Value::Object(members) => members,
            _ => return Err(format!("what stands at {} is not a schema", node.at)),
        };
        for unknown in ["$dynamicRef", "$recursiveRef"] {
            if members.contains_key(unknown) {
                return Err(format!("{unknown} at {} is not taken", node.at));
            }
        }
        let reference = members.get("$ref").map(|reference| self.refer(reference, node)).transpose()?;
        if let (Some(reference), true) = (&reference, dialect::ignores_siblings(self.document.version)) {
            return Ok(dialect::with_siblings(reference, members));
        }
        let mut schema = Map::new();
        if let Some(reference) = reference {
            schema.insert("$ref".into(), reference);
        }
        for (key, inner) in node.members() {
            if let Some(converted) = self.keyword(key, &inner)? {
                schema.insert(key.clone(), converted);
            }
        }
        self.drop_other_way(node, &mut schema);
        Ok(dialect::modern(self.document.version, self.direction, members, schema))
    }

    /// What becomes of a keyword; `None`: it is dropped.
    fn keyword(&mut self, key: &str, node: &Node<'_>) -> Result<Option<Value>, String> {
        Ok(match key {
            "properties" | "patternProperties" | "dependentSchemas" => {
                let converted = node.members().map(|(name, inner)| Ok((name.clone(), self.convert(&inner)?)));
                Some(Value::Object(converted.collect::<Result<_, String>>()?))
            }
            "items" if node.value.is_array() => None,
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                let converted: Vec<Value> =
                    node.items().map(|inner| self.convert(&inner)).collect::<Result<_, _>>()?;
                // None of them says nothing, and is not allowed.
                (!converted.is_empty()).then_some(Value::Array(converted))
            }
            "items"
            | "additionalProperties"
            | "not"
            | "if"
            | "then"
            | "else"
            | "contains"
            | "propertyNames"
            | "unevaluatedProperties"
            | "unevaluatedItems" => Some(self.convert(node)?),
            _ if dialect::is_kept(key, self.direction) => Some(node.value.clone()),
            _ => None,
        })
    }

    /// The reference within the tool's own schema.
    fn refer(&mut self, reference: &Value, node: &Node<'_>) -> Result<Value, String> {
        let target = self.document.target(reference, &node.at)?;
        if target.value.get("$ref").is_some() {
            // A circle of nothing but references describes nothing.
            self.document.resolve(target.clone())?;
        }
        let name = def_name(&target.at);
        self.refers.insert(target.at);
        Ok(format!("#/$defs/{name}").into())
    }

    /// Takes out the properties that go the other way only, and no longer asks for them.
    fn drop_other_way(&self, node: &Node<'_>, schema: &mut Map<String, Value>) {
        let (mut gone, mut seen) = (BTreeSet::new(), BTreeSet::new());
        self.other_way(node, &mut seen, &mut gone);
        if gone.is_empty() {
            return;
        }
        drop_names(schema, &gone);
        if let Some(Value::Array(branches)) = schema.get_mut("allOf") {
            branches.iter_mut().filter_map(Value::as_object_mut).for_each(|branch| drop_names(branch, &gone));
        }
    }

    /// Names of properties that go the other way only, of a schema and of those it is combined of.
    fn other_way(&self, node: &Node<'_>, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
        if seen.len() > MAX_LOOK || !seen.insert(node.at.clone()) {
            return;
        }
        if let Some(properties) = node.get("properties") {
            let marked = properties.members().filter(|(_, property)| {
                let resolved = self.document.resolve(property.clone());
                let mark = self.direction.other_way();
                property.is(mark) || resolved.is_ok_and(|property| property.is(mark))
            });
            found.extend(marked.map(|(name, _)| name.clone()));
        }
        for branch in node.get("allOf").iter().flat_map(Node::items) {
            if let Ok(branch) = self.document.resolve(branch) {
                self.other_way(&branch, seen, found);
            }
        }
    }
}

fn drop_names(schema: &mut Map<String, Value>, gone: &BTreeSet<String>) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|name, _| !gone.contains(name));
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| !gone.contains(name)));
    }
}

/// The pointer to a schema of a media type or a parameter.
pub(super) fn schema_of<'a>(node: &Node<'a>) -> Node<'a> {
    const ANY: &Value = &Value::Bool(true);
    node.get("schema").unwrap_or_else(|| Node { value: ANY, at: below(&node.at, "schema") })
}
