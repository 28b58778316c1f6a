//! What a tool's own schema calls secret, wherever it says so: at a place of the value all the schemas are gathered
//! that may hold there, through references and alternatives. Must never leave in clear what it cannot follow: where
//! a reference leads nowhere, or there is too much to look at, the rest of the value goes as a whole.
//!
//! Keywords of JSON Schema draft 4 to 2020-12. Whether an alternative is the one that holds is not asked.

use std::collections::HashMap;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::MARK;

/// Steps through a schema and a value together that are taken before the rest of the value goes as a whole.
const MAX_STEPS: usize = 1_000_000;
/// Schemas that may hold at one place of the value; where there are more, it goes as a whole.
const MAX_HERE: usize = 1_000;

/// Keywords that refer to a schema which holds at the same place.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose values are lists of such schemas.
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords whose value is such a schema.
const BRANCHES: [&str; 3] = ["if", "then", "else"];
/// Keywords that name such a schema for each field that is there.
const DEPENDENT: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Other keywords by which more than one schema may hold at one place.
const SHARED: [&str; 4] = ["patternProperties", "contains", "unevaluatedItems", "unevaluatedProperties"];
/// Other keywords that lead on to what may be marked, and the marks.
const LEADING: [&str; 8] = [
    "properties",
    "additionalProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "writeOnly",
    "format",
    "x-sensitivity",
];

/// Schemas of schemas, which mark nothing and are known without their text.
const KNOWN: [&str; 2] = ["https://json-schema.org/", "http://json-schema.org/"];

/// Takes out what a schema marks.
pub(crate) struct Marks<'a> {
    root: &'a Value,
    steps: usize,
    /// Where references lead; `None`: nowhere.
    referred: HashMap<&'a str, Option<Vec<&'a Value>>>,
    /// Patterns for names, ready for use; `None`: one that cannot be used.
    patterns: HashMap<&'a str, Option<Validator>>,
}

impl<'a> Marks<'a> {
    pub(crate) fn new(root: &'a Value) -> Self {
        Self { root, steps: 0, referred: HashMap::new(), patterns: HashMap::new() }
    }

    /// Takes out of a value what the schema marks.
    pub(crate) fn apply(&mut self, value: &mut Value) {
        self.at(value, vec![self.root]);
    }

    fn at(&mut self, value: &mut Value, schemas: Vec<&'a Value>) {
        match (self.here(value, schemas), value) {
            (None, value) => *value = Value::from(MARK),
            (Some(here), Value::Object(fields)) => {
                for (name, field) in fields {
                    let schemas = here.iter().flat_map(|schema| self.of_field(schema, name)).collect();
                    self.within(field, schemas);
                }
            }
            (Some(here), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let schemas = here.iter().flat_map(|schema| of_item(schema, index)).collect();
                    self.within(item, schemas);
                }
            }
            (Some(_), Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {}
        }
    }

    fn within(&mut self, value: &mut Value, schemas: Vec<&'a Value>) {
        if !schemas.is_empty() {
            self.at(value, schemas);
        }
    }

    /// All schemas that may hold at the place of these; `None` when one of them is marked or cannot be followed.
    fn here(&mut self, value: &Value, mut schemas: Vec<&'a Value>) -> Option<Vec<&'a Value>> {
        let mut next = 0;
        while let Some(schema) = schemas.get(next).copied() {
            next += 1;
            self.steps += 1;
            if self.steps > MAX_STEPS || is_marked(schema) {
                return None;
            }
            for other in self.beside(schema, value)? {
                let is_known = || schemas.iter().any(|known| std::ptr::eq(*known, other));
                if may_matter(other) && !is_known() {
                    schemas.push(other);
                }
            }
            if schemas.len() > MAX_HERE {
                return None;
            }
        }
        Some(schemas)
    }

    /// The schemas that a schema names for the same place; `None` when one of them is nowhere.
    fn beside(&mut self, schema: &'a Value, value: &Value) -> Option<Vec<&'a Value>> {
        let Value::Object(words) = schema else { return Some(Vec::new()) };
        let mut others = Vec::new();
        for (word, said) in words {
            let word = word.as_str();
            if REFERENCES.contains(&word) {
                others.extend(self.referred(said.as_str()?)?);
            } else if LISTS.contains(&word) {
                others.extend(said.as_array().into_iter().flatten());
            } else if BRANCHES.contains(&word) {
                others.push(said);
            } else if DEPENDENT.contains(&word) {
                let fields = said.as_object().into_iter().flatten();
                others.extend(fields.filter(|(name, _)| value.get(name).is_some()).map(|(_, schema)| schema));
            }
        }
        Some(others)
    }

    fn referred(&mut self, reference: &'a str) -> Option<Vec<&'a Value>> {
        let root = self.root;
        self.referred.entry(reference).or_insert_with(|| resolved(root, reference)).clone()
    }

    /// The schemas that a schema names for a field.
    fn of_field(&mut self, schema: &'a Value, name: &str) -> Vec<&'a Value> {
        let mut found: Vec<&Value> =
            schema.get("properties").and_then(|all| all.get(name)).into_iter().collect();
        for (pattern, named) in
            schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten()
        {
            if self.matches(pattern, name) {
                found.push(named);
            }
        }
        if found.is_empty() {
            let rest = schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties"));
            found.extend(rest.filter(|schema| schema.is_object()));
        }
        found
    }

    /// Whether a name is one of a pattern, as the schema's own validation sees it; a pattern that cannot be used
    /// takes every name.
    fn matches(&mut self, pattern: &'a str, name: &str) -> bool {
        let validator = self
            .patterns
            .entry(pattern)
            .or_insert_with(|| ::schema::compile(&json!({"pattern": pattern})).ok());
        validator.as_ref().is_none_or(|validator| validator.is_valid(&Value::from(name)))
    }
}

/// The schemas that a schema names for an item of a list.
fn of_item(schema: &Value, index: usize) -> Vec<&Value> {
    let items = schema.get("items");
    let (tuple, rest) = match items {
        // Up to draft 2019-09.
        Some(Value::Array(tuple)) => (Some(tuple), schema.get("additionalItems")),
        _ => (schema.get("prefixItems").and_then(Value::as_array), items),
    };
    let placed = tuple.and_then(|tuple| tuple.get(index));
    let own = placed.or(rest).or_else(|| schema.get("unevaluatedItems"));
    // Which of the items it speaks of is not asked.
    own.into_iter().chain(schema.get("contains")).collect()
}

/// Every schema that a reference may mean, for the schemas within a schema may have names and addresses of their
/// own; `None`: nothing has it.
fn resolved<'a>(root: &'a Value, reference: &str) -> Option<Vec<&'a Value>> {
    if KNOWN.iter().any(|known| reference.starts_with(known)) {
        return Some(Vec::new());
    }
    let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let id = |schema: &'a Value| schema.get("$id").or_else(|| schema.get("id")).and_then(Value::as_str);
    let mut resources = if address.is_empty() { vec![root] } else { Vec::new() };
    each(root, &mut |schema| {
        let has_address = |id: &str| match id.trim_end_matches('#') {
            "" => false,
            _ if id.starts_with('#') => false,
            own => address.is_empty() || last_part(own) == last_part(address),
        };
        if id(schema).is_some_and(has_address) {
            resources.push(schema);
        }
    });
    let mut found = Vec::new();
    if fragment.is_empty() {
        found = resources;
    } else if fragment.starts_with('/') {
        let plain = decoded(fragment);
        let at = |resource: &'a Value| resource.pointer(fragment).or_else(|| resource.pointer(&plain));
        found.extend(resources.into_iter().filter_map(at));
    } else {
        each(root, &mut |schema| {
            let named = |word: &str| schema.get(word).and_then(Value::as_str) == Some(fragment);
            let by_id = id(schema).and_then(|id| id.strip_prefix('#')) == Some(fragment);
            if by_id || named("$anchor") || named("$dynamicAnchor") {
                found.push(schema);
            }
        });
    }
    (!found.is_empty()).then_some(found)
}

/// The end of an address: a reference may leave out what comes before it.
fn last_part(address: &str) -> &str {
    address.rsplit(['/', ':']).next().unwrap_or(address)
}

/// Everything within a schema that may be one.
fn each<'a>(value: &'a Value, see: &mut impl FnMut(&'a Value)) {
    match value {
        Value::Object(words) => {
            see(value);
            words.values().for_each(|word| each(word, see));
        }
        Value::Array(items) => items.iter().for_each(|item| each(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A fragment without its percent signs (RFC 3986, section 2.1).
fn decoded(fragment: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), fragment.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        if let Some(decoded) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(decoded);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `writeOnly`, `format: password`, `x-sensitivity`.
fn is_marked(schema: &Value) -> bool {
    let word = |name: &str| schema.get(name).and_then(Value::as_str);
    schema.get("writeOnly") == Some(&Value::Bool(true))
        || word("format") == Some("password")
        || matches!(word("x-sensitivity"), Some("confidential" | "restricted" | "secret"))
}

/// Whether a schema has a word that leads to a mark: most alternatives have none.
fn may_matter(schema: &Value) -> bool {
    let leads = |word: &String| LEADING.contains(&word.as_str()) || is_shared(word);
    schema.as_object().is_some_and(|words| words.keys().any(leads))
}

/// Whether by this word more than one schema may hold at one place.
fn is_shared(word: &str) -> bool {
    [&REFERENCES[..], &LISTS, &BRANCHES, &DEPENDENT, &SHARED].iter().any(|words| words.contains(&word))
}

/// Whether going through this schema may take something out of a value that is not huge: something in it is marked,
/// or more than one schema may hold at one place of the value.
pub fn may_mark(schema: &Value) -> bool {
    match schema {
        Value::Object(words) => {
            is_marked(schema) || words.keys().any(|word| is_shared(word)) || words.values().any(may_mark)
        }
        Value::Array(items) => items.iter().any(may_mark),
        _ => false,
    }
}

/// Whether a value has so many places that one visit of each is too much.
pub fn is_huge(value: &Value) -> bool {
    fn places(value: &Value) -> usize {
        1 + match value {
            Value::Object(fields) => fields.values().map(places).sum(),
            Value::Array(items) => items.iter().map(places).sum(),
            _ => 0,
        }
    }
    places(value) > MAX_STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(schema: &Value, mut value: Value) -> String {
        assert!(may_mark(schema));
        Marks::new(schema).apply(&mut value);
        value.to_string()
    }

    #[test]
    fn every_keyword_that_leads_to_a_mark_is_followed() {
        let secret = json!({"writeOnly": true});
        let (id, old_id) = ("https://example.com/key.json", "#old");
        for schema in [
            json!({"patternProperties": {"^x-": secret}}),
            json!({"patternProperties": {"^(?!open)": secret}}),
            json!({"patternProperties": {"(": secret}, "properties": {"x-1": {}}}),
            json!({"properties": {"x-1": {}}, "patternProperties": {"1$": secret}, "additionalProperties": {}}),
            json!({"unevaluatedProperties": secret, "properties": {"open": {}}}),
            json!({"dependentSchemas": {"open": {"properties": {"x-1": secret}}}}),
            json!({"dependencies": {"open": {"properties": {"x-1": secret}}, "x": ["y"]}}),
            json!({"if": {"properties": {"x-1": secret}}}),
            json!({"properties": {"x-1": {"$ref": "#key"}}, "$defs": {"a": {"$anchor": "key", "format": "password"}}}),
            json!({"properties": {"x-1": {"$dynamicRef": "#key"}},
                   "$defs": {"a": {"$dynamicAnchor": "key", "writeOnly": true}}}),
            json!({"properties": {"x-1": {"$ref": "#old"}}, "definitions": {"a": {"$id": old_id, "writeOnly": true}}}),
            json!({"properties": {"x-1": {"$ref": "key.json"}}, "$defs": {"a": {"$id": id, "writeOnly": true}}}),
            json!({"properties": {"x-1": {"$ref": "key.json#/$defs/b"}},
                   "$defs": {"a": {"$id": id, "$defs": {"b": secret}}}}),
            json!({"properties": {"x-1": {"$ref": "#/$defs/a%20b"}}, "$defs": {"a b": secret}}),
            json!({"properties": {"x-1": {"$ref": "#/nowhere"}}}),
            json!({"properties": {"x-1": {"$ref": "elsewhere.json"}}}),
        ] {
            let told = marked(&schema, json!({"open": "stays", "x-1": "hunter2"}));
            assert!(!told.contains("hunter2"), "{schema}: {told}");
        }
        for schema in [
            json!({"prefixItems": [{}, secret]}),
            json!({"items": [{}, secret]}),
            json!({"items": [{}], "additionalItems": secret}),
            json!({"prefixItems": [{}], "items": secret}),
            json!({"prefixItems": [{}], "unevaluatedItems": secret}),
            json!({"contains": secret}),
        ] {
            let told = marked(&schema, json!(["open", "hunter2"]));
            assert!(!told.contains("hunter2"), "{schema}: {told}");
        }
    }

    #[test]
    fn what_is_not_meant_stays() {
        let secret = json!({"writeOnly": true});
        for schema in [
            json!({"patternProperties": {"^x-": secret}}),
            json!({"patternProperties": {"^o": {}}, "additionalProperties": secret}),
            json!({"dependentSchemas": {"gone": {"properties": {"open": secret}}}}),
            json!({"properties": {"open": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}, "not": secret}),
            json!({"properties": {"open": {"$ref": "#/$defs/b"}}, "$defs": {"a": secret, "b": {}}}),
        ] {
            assert_eq!(marked(&schema, json!({"open": "stays"})), r#"{"open":"stays"}"#, "{schema}");
        }
        let tuple = marked(&json!({"items": [{}, secret, {}]}), json!([1, 2, 3]));
        assert_eq!(tuple, r#"[1,"[redacted]",3]"#);
    }

    #[test]
    fn chains_are_followed_to_their_end_circles_end_and_a_crowd_goes_as_a_whole() {
        let mut definitions = serde_json::Map::new();
        for n in 0..100 {
            let next = format!("#/$defs/d{}", n + 1);
            definitions.insert(format!("d{n}"), json!({"anyOf": [{"type": "null"}, {"$ref": next}]}));
        }
        definitions.insert("d100".into(), json!({"properties": {"pin": {"writeOnly": true}}}));
        let chain = json!({"$ref": "#/$defs/d0", "$defs": definitions});
        assert_eq!(marked(&chain, json!({"pin": 1})), r#"{"pin":"[redacted]"}"#);
        let circle = json!({"$ref": "#", "anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]});
        assert_eq!(marked(&circle, json!({"a": 1})), r#"{"a":1}"#);
        let crowd = |n: usize| json!({"oneOf": vec![json!({"properties": {"a": {}}}); n]});
        assert_eq!(marked(&crowd(900), json!({"a": 1})), r#"{"a":1}"#);
        assert_eq!(marked(&crowd(1_100), json!({"a": 1})), r#""[redacted]""#);
        // What an alternative says of single values is no crowd.
        let constants: Vec<_> = (0..5_000).map(|n| json!({"const": n, "title": "x"})).collect();
        assert_eq!(marked(&json!({ "oneOf": constants }), json!(7)), "7");
    }

    #[test]
    fn a_value_is_huge_when_its_places_are_more_than_the_steps() {
        assert!(!is_huge(&json!(vec![json!({"a": []}); 100])));
        assert!(!is_huge(&json!(vec![0; MAX_STEPS - 1])) && is_huge(&json!(vec![0; MAX_STEPS])));
    }
}
