//! Compares `anyOf`, `oneOf` and `allOf`.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    schema::{At, Became, Comparer},
    words,
};

/// Compares two lists of alternatives, in whatever order they stand.
pub(super) fn compare(
    comparer: &mut Comparer,
    at: &At,
    keyword: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) {
    let place = at.keyword(keyword);
    let (Some(Value::Array(before)), Some(Value::Array(after))) = (old, new) else {
        let (became, told) = if old.is_none() {
            (Became::Narrower, "is restricted now")
        } else {
            (Became::Wider, "is not restricted any more")
        };
        comparer.add(&place, became, &format!("{keyword} {told}"), old, new);
        return;
    };
    // More of one alternative may be less of the whole where only one of them may fit.
    let exact = keyword == "oneOf" && !(are_disjoint(before) && are_disjoint(after));
    let each = |index: usize| place.keyword(&index.to_string()).among(exact);
    let (was, is): (HashSet<&Value>, HashSet<&Value>) = (before.iter().collect(), after.iter().collect());
    let gone: Vec<&Value> = before.iter().filter(|one| !is.contains(one)).collect();
    let come: Vec<(usize, &Value)> = after.iter().enumerate().filter(|(_, one)| !was.contains(one)).collect();
    for (index, one) in after.iter().enumerate().filter(|(_, one)| was.contains(one)) {
        comparer.schemas(&each(index), one, one);
    }
    let (more, less) = if keyword == "allOf" {
        (Became::Narrower, Became::Wider)
    } else {
        (Became::Wider, Became::Narrower)
    };
    match (gone.as_slice(), come.as_slice()) {
        ([], []) if old != new => comparer.add(&place, Became::Same, "stands in another order", old, new),
        (gone, come) if gone.len() == come.len() => {
            for (old, (index, new)) in gone.iter().zip(come) {
                comparer.schemas(&each(*index), old, new);
            }
        }
        ([], come) => {
            for (index, new) in come {
                comparer.add(&each(*index), more, &format!("{keyword} has one more"), None, Some(new));
            }
        }
        (gone, []) => {
            for old in gone {
                comparer.add(
                    &place.clone().among(exact),
                    less,
                    &format!("{keyword} has one less"),
                    Some(old),
                    None,
                );
            }
        }
        _ => comparer.add(&place, Became::Other, &format!("{keyword} has others"), old, new),
    }
}

/// Compares a schema with a list of alternatives of which it is one, such as a text with a text or null; gives
/// whether they are such.
pub(super) fn wrapped(
    comparer: &mut Comparer,
    at: &At,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> bool {
    let (became, told, simple, among) = match (list(old), list(new)) {
        (None, Some(among)) => (Became::Wider, "has alternatives now", old, among),
        (Some(among), None) => (Became::Narrower, "has no alternatives any more", new, among),
        _ => return false,
    };
    let Some(same) = among.iter().find(|one| one.as_object().is_some_and(|one| bare(one) == bare(simple)))
    else {
        return false;
    };
    let whole = (Value::Object(old.clone()), Value::Object(new.clone()));
    comparer.add(at, became, told, Some(&whole.0), Some(&whole.1));
    // The same words may refer to what changed.
    let simple = Value::Object(bare(simple));
    let same = Value::Object(same.as_object().map(bare).unwrap_or_default());
    comparer.schemas(at, &simple, &same);
    true
}

/// The alternatives of a schema that has nothing else. Of `oneOf`, only where they exclude each other.
fn list(schema: &Map<String, Value>) -> Option<&Vec<Value>> {
    let bare: Vec<(&String, &Value)> = schema.iter().filter(|(keyword, _)| !words::are(keyword)).collect();
    match bare.as_slice() {
        [(keyword, Value::Array(list))] if *keyword == "anyOf" => Some(list),
        [(keyword, Value::Array(list))] if *keyword == "oneOf" && are_disjoint(list) => Some(list),
        _ => None,
    }
}

fn bare(schema: &Map<String, Value>) -> Map<String, Value> {
    schema.iter().filter(|(keyword, _)| !words::are(keyword)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Whether no value fits two of these, by their types alone.
fn are_disjoint(list: &[Value]) -> bool {
    let mut types: Vec<&str> = Vec::new();
    for schema in list {
        let Some(name) = schema.get("type").and_then(Value::as_str) else { return false };
        types.push(if name == "integer" { "number" } else { name });
    }
    types.sort_unstable();
    types.windows(2).all(|two| two[0] != two[1])
}
