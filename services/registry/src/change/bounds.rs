//! Compares the keywords of JSON Schema that restrict a value by itself: its type, its members, its bounds.

use std::{cmp::Ordering, collections::HashSet};

use serde_json::{Map, Number, Value};

use super::schema::{At, Became, Comparer};

/// Compares one keyword that differs. One that is not known is taken for a restriction that nobody knows.
pub(super) fn compare(
    comparer: &mut Comparer,
    at: &At,
    keyword: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) {
    let place = at.keyword(keyword);
    let became = match keyword {
        "type" => return types(comparer, &place, old, new),
        "required" => return required(comparer, &place, old, new),
        "minimum" | "exclusiveMinimum" => bound(old, new, None, Became::Narrower),
        "minLength" | "minItems" | "minProperties" => bound(old, new, Some(0), Became::Narrower),
        "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties" => {
            bound(old, new, None, Became::Wider)
        }
        "uniqueItems" => match (is_set(old), is_set(new)) {
            (false, true) => Became::Narrower,
            (true, false) => Became::Wider,
            _ => Became::Same,
        },
        "pattern" | "format" | "multipleOf" => match (old, new) {
            (None, _) => Became::Narrower,
            (_, None) => Became::Wider,
            _ => Became::Other,
        },
        // The dialect that holds where none is named.
        "$schema" if [old, new].into_iter().flatten().all(is_default_dialect) => Became::Same,
        _ => Became::Other,
    };
    let told = match (old, new) {
        (None, _) => format!("{keyword} is new"),
        (_, None) => format!("{keyword} is gone"),
        _ => format!("{keyword} is another"),
    };
    comparer.add(&place, became, &told, old, new);
}

fn is_set(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool).unwrap_or(false)
}

fn is_default_dialect(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|uri| uri.trim_end_matches('#') == "https://json-schema.org/draft/2020-12/schema")
}

/// What becomes of the values when a bound changes; `raised` is what a greater one makes of them.
fn bound(old: Option<&Value>, new: Option<&Value>, absent: Option<u64>, raised: Became) -> Became {
    let number = |value: Option<&Value>| match value {
        Some(Value::Number(number)) => Ok(Some(number.clone())),
        Some(_) => Err(()),
        None => Ok(absent.map(Number::from)),
    };
    let (Ok(old), Ok(new)) = (number(old), number(new)) else { return Became::Other };
    let lowered = if raised == Became::Narrower { Became::Wider } else { Became::Narrower };
    match (old, new) {
        (None, _) => Became::Narrower,
        (_, None) => Became::Wider,
        (Some(old), Some(new)) => match order(&old, &new) {
            Some(Ordering::Less) => raised,
            Some(Ordering::Greater) => lowered,
            Some(Ordering::Equal) => Became::Same,
            None => Became::Other,
        },
    }
}

fn order(old: &Number, new: &Number) -> Option<Ordering> {
    match (old.as_i128(), new.as_i128()) {
        (Some(old), Some(new)) => Some(old.cmp(&new)),
        _ => old.as_f64()?.partial_cmp(&new.as_f64()?),
    }
}

/// Compares `enum` and `const`, of which the second is the first with one member.
pub(super) fn values(comparer: &mut Comparer, at: &At, old: &Map<String, Value>, new: &Map<String, Value>) {
    let told = |schema: &Map<String, Value>| (schema.get("enum").cloned(), schema.get("const").cloned());
    let (before, after) = (told(old), told(new));
    if before == after {
        return;
    }
    let has_list = before.0.is_some() || after.0.is_some();
    let place = at.keyword(if has_list { "enum" } else { "const" });
    let stands = |(list, one): &(Option<Value>, Option<Value>)| list.clone().or_else(|| one.clone());
    let (was, is) = (stands(&before), stands(&after));
    let (Ok(old), Ok(new)) = (members(&before), members(&after)) else {
        return comparer.add(&place, Became::Other, "its values are others", was.as_ref(), is.as_ref());
    };
    let (old, new) = match (old, new) {
        (None, _) => {
            return comparer.add(&place, Became::Narrower, "its values are listed now", None, is.as_ref());
        }
        (_, None) => {
            return comparer.add(
                &place,
                Became::Wider,
                "its values are not listed any more",
                was.as_ref(),
                None,
            );
        }
        (Some(old), Some(new)) => (old, new),
    };
    let (before, after): (HashSet<&Value>, HashSet<&Value>) = (old.iter().collect(), new.iter().collect());
    let (is_less, is_more) = (!before.is_subset(&after), !after.is_subset(&before));
    let (became, told) = match (is_less, is_more) {
        (true, true) => (Became::Other, "some of its values are gone, and some are new"),
        (true, false) => (Became::Narrower, "some of its values are gone"),
        (false, true) => (Became::Wider, "some of its values are new"),
        (false, false) => (Became::Same, "its values are written otherwise"),
    };
    comparer.add(&place, became, told, was.as_ref(), is.as_ref());
}

/// The values that are listed; `None`: any. An error where both lists stand, or one is none.
fn members(told: &(Option<Value>, Option<Value>)) -> Result<Option<Vec<Value>>, ()> {
    match told {
        (None, None) => Ok(None),
        (Some(Value::Array(list)), None) => Ok(Some(list.clone())),
        (None, Some(one)) => Ok(Some(vec![one.clone()])),
        _ => Err(()),
    }
}

fn types(comparer: &mut Comparer, place: &At, old: Option<&Value>, new: Option<&Value>) {
    let lost = match (names(old), names(new)) {
        (Some(before), Some(after)) => {
            let covers = |among: &[&str], name: &str| {
                among.contains(&name) || name == "integer" && among.contains(&"number")
            };
            let less = before.iter().any(|name| !covers(&after, name));
            let more = after.iter().any(|name| !covers(&before, name));
            (less, more)
        }
        (None, Some(_)) if old.is_none() => (true, false),
        (Some(_), None) if new.is_none() => (false, true),
        _ => (true, true),
    };
    let (became, told) = match lost {
        (true, true) => (Became::Other, "the type is another"),
        (true, false) => (Became::Narrower, "the type is narrower"),
        (false, true) => (Became::Wider, "the type is wider"),
        (false, false) => (Became::Same, "the type is written otherwise"),
    };
    comparer.add(place, became, told, old, new);
}

/// The names of the types; `None` where there is none, or something else.
fn names(value: Option<&Value>) -> Option<Vec<&str>> {
    match value? {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn required(comparer: &mut Comparer, place: &At, old: Option<&Value>, new: Option<&Value>) {
    let list = |value: Option<&Value>| match value {
        None => Some(Vec::new()),
        Some(value) => value.as_array().cloned(),
    };
    let (Some(before), Some(after)) = (list(old), list(new)) else {
        return comparer.add(place, Became::Other, "what is required is another", old, new);
    };
    let (was, is): (HashSet<&Value>, HashSet<&Value>) = (before.iter().collect(), after.iter().collect());
    let mut has_moved = true;
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for value in after.iter().filter(|value| !was.contains(value)) {
        has_moved = false;
        comparer.add(place, Became::Narrower, &format!("{} is required now", name(value)), None, Some(value));
    }
    for value in before.iter().filter(|value| !is.contains(value)) {
        has_moved = false;
        let told = format!("{} is not required any more", name(value));
        comparer.add(place, Became::Wider, &told, Some(value), None);
    }
    if has_moved {
        comparer.add(place, Became::Same, "what is required is written otherwise", old, new);
    }
}
