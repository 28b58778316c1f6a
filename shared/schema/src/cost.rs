//! Bounds how often one value may be looked at under a schema. References that branch double with each
//! level (60 lines of schema, 2^60 looks): such a schema would hold up whoever validates by it. No I/O.

use std::collections::HashMap;

use serde_json::Value;

use crate::fault::step;

/// Most subschemas that may apply to one and the same value.
const MAX_LOOKS: u64 = 10_000;
/// Longest chain of subschemas that apply to the same value.
const MAX_CHAIN: usize = 500;

/// Keywords whose subschemas apply to the same value (JSON Schema 2020-12 core, section 10.2).
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const SINGLES: [&str; 4] = ["not", "if", "then", "else"];
const MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// JSON pointer of the first place by which validating takes too many steps a value.
pub(crate) fn unbearable(schema: &Value) -> Option<String> {
    let mut cost = Cost { root: schema, anchors: HashMap::new(), known: HashMap::new() };
    cost.collect_anchors(schema);
    cost.unbearable(schema)
}

struct Cost<'a> {
    root: &'a Value,
    /// Subschemas that have a name of their own, by the reference to it.
    anchors: HashMap<String, &'a Value>,
    /// Looks by subschema; `None` while it is being counted: a circle ends there, as it does in validation.
    known: HashMap<*const Value, Option<u64>>,
}

impl<'a> Cost<'a> {
    fn collect_anchors(&mut self, schema: &'a Value) {
        for (key, prefix) in [("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", ""), ("id", "")] {
            if let Some(name) = schema.get(key).and_then(Value::as_str) {
                self.anchors.insert(format!("{prefix}{name}"), schema);
            }
        }
        for inner in children(schema) {
            self.collect_anchors(inner);
        }
    }

    /// Every object may be a schema: those that are not cost nothing to count.
    fn unbearable(&mut self, schema: &'a Value) -> Option<String> {
        if self.looks(schema, 0) > MAX_LOOKS {
            return Some(String::new());
        }
        match schema {
            Value::Array(items) => {
                items.iter().enumerate().find_map(|(n, item)| Some(format!("/{n}{}", self.unbearable(item)?)))
            }
            Value::Object(members) => members
                .iter()
                .find_map(|(name, member)| Some(format!("{}{}", step(name), self.unbearable(member)?))),
            _ => None,
        }
    }

    fn looks(&mut self, schema: &'a Value, chain: usize) -> u64 {
        let Some(members) = schema.as_object() else { return 1 };
        match self.known.get(&std::ptr::from_ref(schema)) {
            Some(Some(looks)) => return *looks,
            Some(None) => return 0,
            None if chain > MAX_CHAIN => return u64::MAX,
            None => self.known.insert(schema, None),
        };
        let mut inner: Vec<&'a Value> = Vec::new();
        inner.extend(LISTS.iter().filter_map(|key| members.get(*key)?.as_array()).flatten());
        inner.extend(SINGLES.iter().filter_map(|key| members.get(*key)));
        inner.extend(
            MAPS.iter().filter_map(|key| members.get(*key)?.as_object()).flat_map(|map| map.values()),
        );
        inner.extend(REFERENCES.iter().filter_map(|key| self.target(members.get(*key)?.as_str()?)));
        let looks =
            inner.into_iter().fold(1_u64, |sum, schema| sum.saturating_add(self.looks(schema, chain + 1)));
        self.known.insert(schema, Some(looks));
        looks
    }

    fn target(&self, reference: &str) -> Option<&'a Value> {
        let named = self.anchors.get(reference).copied();
        // An encoded pointer or one below another $id is matched by its end alone: at worst too much is counted.
        let pointer = reference.split_once('#').map_or("", |(_, pointer)| pointer);
        named.or_else(|| self.root.pointer(&decoded(pointer)))
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// Undoes the percent-encoding of a fragment (RFC 6901, section 6).
pub(crate) fn decoded(pointer: &str) -> String {
    let mut text = Vec::new();
    let mut rest = pointer.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%');
        rest = if byte.is_some() { &after[2..] } else { after };
        text.push(byte.unwrap_or(*first));
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// Levels that each refer to the next one twice, in the way `reference` spells it.
    fn branching(levels: usize, reference: impl Fn(usize) -> String) -> Value {
        let mut defs = Map::new();
        for n in 0..levels {
            let next = json!({"$ref": reference(n + 1)});
            let level = json!({"$anchor": format!("a{n}"), "anyOf": [next.clone(), {"not": next}]});
            defs.insert(format!("l{n}"), level);
        }
        defs.insert(format!("l{levels}"), json!({"$anchor": format!("a{levels}")}));
        json!({"type": "object", "properties": {"x": {"$ref": reference(0)}}, "$defs": defs})
    }

    #[test]
    fn branching_references_are_found_however_they_are_spelled() {
        let spellings: [fn(usize) -> String; 3] =
            [|n| format!("#/$defs/l{n}"), |n| format!("#/%24defs/l{n}"), |n| format!("#a{n}")];
        for spelling in spellings {
            assert!(unbearable(&branching(60, spelling)).is_some(), "{}", spelling(0));
            assert_eq!(unbearable(&branching(8, spelling)), None, "{}", spelling(0));
        }
    }

    #[test]
    fn what_people_write_is_bearable() {
        let properties: Map<String, Value> =
            (0..2_000).map(|n| (format!("p{n}"), json!({"$ref": "#/$defs/text"}))).collect();
        let wide = json!({"properties": properties, "$defs": {"text": {"anyOf": [{}, {"type": "string"}]}}});
        let tree = json!({"properties": {"child": {"$ref": "#"}}, "allOf": [{"$ref": "#"}, true]});
        for schema in [wide, tree, json!(true), json!({"enum": [{"allOf": "not a schema"}]})] {
            assert_eq!(unbearable(&schema), None);
        }
    }
}
