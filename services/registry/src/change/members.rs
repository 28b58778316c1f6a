//! Compares what objects and arrays hold: the schemas of properties, of places, and of whatever else may be there.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    Kind,
    schema::{At, Became, Comparer, Side},
};

/// Compares `properties`.
pub(super) fn properties(
    comparer: &mut Comparer,
    at: &At,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) {
    let none = Map::new();
    let list = |schema: &'_ Map<String, Value>| schema.get("properties").and_then(Value::as_object).cloned();
    let (before, after) = (list(old).unwrap_or(none.clone()), list(new).unwrap_or(none));
    let others = Others::of(old);
    for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let at = at.part("properties", name);
        match (before.get(name), after.get(name)) {
            (Some(old), Some(new)) => comparer.schemas(&at, old, new),
            (Some(old), None) => {
                let told = match (comparer.side, new.get("additionalProperties")) {
                    (Side::Output, _) => "is gone",
                    (Side::Input, Some(Value::Bool(false))) => "is not taken any more",
                    (Side::Input, _) => "is not described any more, and may be ignored",
                };
                comparer.note(&at, Kind::Breaking, told, Some(old), None);
            }
            (None, Some(new)) => added(comparer, &at, others.schema(name), new),
            (None, None) => {}
        }
    }
}

/// Notes a property that is new: what was right of one of that name must still be.
fn added(comparer: &mut Comparer, at: &At, before: Before<'_>, new: &Value) {
    match before {
        _ if *new == false => comparer.note(at, Kind::Breaking, "is forbidden now", None, Some(new)),
        Before::Nothing | Before::Anything if !at.exact => {
            comparer.note(at, Kind::Addition, "is new", None, Some(new));
        }
        Before::Schema(old) if !at.exact => {
            comparer.note(at, Kind::Addition, "is new", None, Some(new));
            comparer.schemas(at, old, new);
        }
        Before::Unknown => {
            let told = "is new, and was described by a pattern";
            comparer.note(at, Kind::Breaking, told, None, Some(new));
        }
        Before::Nothing | Before::Anything | Before::Schema(_) => {
            comparer.note(at, Kind::Breaking, "is new where only one of several may fit", None, Some(new));
        }
    }
}

/// What a schema said of a property that it did not name.
#[derive(Clone, Copy)]
enum Before<'a> {
    Nothing,
    Anything,
    Schema(&'a Value),
    /// What a pattern says, or nobody knows.
    Unknown,
}

/// What a schema says of properties that it does not name.
struct Others<'a> {
    schema: Option<&'a Value>,
    /// Refuses what a pattern describes; none: there are no patterns.
    patterns: Option<Result<jsonschema::Validator, ()>>,
}

impl<'a> Others<'a> {
    fn of(schema: &'a Map<String, Value>) -> Self {
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let refused = |patterns: &Map<String, Value>| {
            let refused: Map<_, _> = patterns.keys().map(|pattern| (pattern.clone(), false.into())).collect();
            schema::compile(&json!({"patternProperties": refused})).map_err(|_| ())
        };
        Self {
            schema: schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties")),
            patterns: patterns.filter(|patterns| !patterns.is_empty()).map(refused),
        }
    }

    fn schema(&self, name: &str) -> Before<'a> {
        if let Some(patterns) = &self.patterns {
            let is_free = |by: &jsonschema::Validator| by.is_valid(&json!({name: null}));
            if !patterns.as_ref().is_ok_and(is_free) {
                return Before::Unknown;
            }
        }
        match self.schema {
            Some(Value::Bool(false)) => Before::Nothing,
            others if is_anything(others) => Before::Anything,
            Some(others) => Before::Schema(others),
            None => Before::Anything,
        }
    }
}

/// Compares `patternProperties`.
pub(super) fn patterns(comparer: &mut Comparer, at: &At, old: Option<&Value>, new: Option<&Value>) {
    let none = Map::new();
    let members = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let (old, new) = (members(old).unwrap_or(none.clone()), members(new).unwrap_or(none));
    for pattern in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let at = at.part("patternProperties", pattern);
        match (old.get(pattern), new.get(pattern)) {
            (Some(old), Some(new)) => comparer.schemas(&at, old, new),
            (Some(old), None) => comparer.add(&at, Became::Other, "is gone", Some(old), None),
            (None, new) => comparer.add(&at, Became::Other, "is new", None, new),
        }
    }
}

/// Compares schemas of what an array or object may hold besides.
pub(super) fn inner(
    comparer: &mut Comparer,
    at: &At,
    keyword: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) {
    let part = at.part(keyword, "");
    match (old, new) {
        (Some(Value::Array(before)), Some(Value::Array(after))) if before.len() == after.len() => {
            for (index, (old, new)) in before.iter().zip(after).enumerate() {
                comparer.schemas(&at.part("prefixItems", &index.to_string()), old, new);
            }
        }
        (Some(Value::Array(_)), _) | (_, Some(Value::Array(_))) => {
            comparer.add(&at.keyword(keyword), Became::Other, "has other places", old, new);
        }
        // What a result may hold besides is what is new to come.
        (Some(Value::Bool(false)), _)
            if comparer.side == Side::Output && keyword.ends_with("Properties") && is_anything(new) =>
        {
            comparer.note(&part, Kind::Addition, "is possible now", old, new);
        }
        (Some(before), Some(after)) => comparer.schemas(&part, before, after),
        _ if is_anything(old) && is_anything(new) => {
            comparer.add(&part, Became::Same, &format!("{keyword} is written otherwise"), old, new);
        }
        (None, _) => comparer.add(&part, Became::Narrower, "is restricted now", old, new),
        (_, None) => comparer.add(&part, Became::Wider, "is not restricted any more", old, new),
    }
}

/// Whether both are objects, where they are given.
pub(super) fn are(old: Option<&Value>, new: Option<&Value>) -> bool {
    [old, new].into_iter().flatten().all(Value::is_object)
}

fn is_anything(schema: Option<&Value>) -> bool {
    match schema {
        None | Some(Value::Bool(true)) => true,
        Some(Value::Object(keywords)) => keywords.is_empty(),
        Some(_) => false,
    }
}
