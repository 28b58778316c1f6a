//! References within a schema: to its own parts, by JSON pointer. Never follows any other, and never without a
//! bound.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{schema::steps, words};

/// Most references that lead to each other, one after the other.
const MAX_HOPS: usize = 32;

/// Two schemas whole, in which references lead somewhere.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub before: &'a Value,
    pub after: &'a Value,
}

impl<'a> Pair<'a> {
    /// What a reference of the first leads to.
    pub(super) fn old_one(self, reference: &str) -> Option<&'a Value> {
        target(self.before, reference)
    }

    /// What a reference of the second leads to.
    pub(super) fn new_one(self, reference: &str) -> Option<&'a Value> {
        target(self.after, reference)
    }

    /// The references of which what they lead to, at any distance, is not written the same in both.
    pub(super) fn changed(self, steps_left: &mut usize) -> Changed {
        let mut all = Vec::new();
        // One that is not by pointer changes with whatever else does.
        let mut is_known = true;
        collect(self.before, &mut all, &mut is_known);
        collect(self.after, &mut all, &mut is_known);
        let mut users: HashMap<String, Vec<String>> = HashMap::new();
        let mut left = Vec::new();
        for reference in all.into_iter().collect::<HashSet<_>>() {
            let (old, new) = (self.old_one(&reference), self.new_one(&reference));
            *steps_left = steps_left.saturating_sub([old, new].into_iter().flatten().map(steps).sum());
            if *steps_left == 0 {
                // The last step is the comparer's, which tells of it.
                *steps_left = 1;
                return Changed(None);
            }
            let (mut inner, mut is_known) = (Vec::new(), true);
            match (old, new) {
                (Some(old), Some(new)) if old == new => collect(old, &mut inner, &mut is_known),
                _ => is_known = false,
            }
            for used in inner {
                users.entry(used).or_default().push(reference.clone());
            }
            if !is_known {
                left.push(reference);
            }
        }
        let mut changed = HashSet::new();
        while let Some(reference) = left.pop() {
            if changed.insert(reference.clone()) {
                left.extend(users.remove(&reference).unwrap_or_default());
            }
        }
        Changed(Some(changed))
    }
}

/// References that lead to what changed; none: nobody knows, and each may.
pub(super) struct Changed(Option<HashSet<String>>);

impl Changed {
    /// Whether a value refers to what changed.
    pub(super) fn has_any_of(&self, value: &Value) -> bool {
        let (mut references, mut is_known) = (Vec::new(), true);
        collect(value, &mut references, &mut is_known);
        let has_changed = |reference| self.0.as_ref().is_none_or(|changed| changed.contains(reference));
        !is_known || references.iter().any(has_changed)
    }
}

fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let mut reference = reference.to_owned();
    for _ in 0..MAX_HOPS {
        let pointer = reference.strip_prefix('#')?;
        let target = root.pointer(&decoded(pointer)?)?;
        // A schema that is a reference and nothing else stands for what it refers to.
        match target.as_object().filter(|keywords| keywords.len() == 1).and_then(of) {
            Some(next) => next.clone_into(&mut reference),
            None => return Some(target),
        }
    }
    None
}

/// A pointer in a fragment is percent-encoded (RFC 6901, section 6).
fn decoded(pointer: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, tail @ ..]) = (first, tail) {
            let digits = [*high, *low];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The reference that a schema is.
pub(super) fn of(schema: &Map<String, Value>) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// What stands beside the reference.
pub(super) fn without(schema: &Map<String, Value>) -> Map<String, Value> {
    schema.iter().filter(|(keyword, _)| *keyword != "$ref").map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// What a reference leads to and what stands beside it as one schema; `None` where they say different things of
/// the same.
pub(super) fn merged(schema: &Map<String, Value>, target: &Value) -> Option<Value> {
    let beside = without(schema);
    let Some(target) = target.as_object() else {
        return beside.keys().all(|keyword| words::are(keyword)).then(|| target.clone());
    };
    let mut merged = target.clone();
    for (keyword, value) in beside {
        if !words::are(&keyword) && merged.contains_key(&keyword) {
            return None;
        }
        merged.insert(keyword, value);
    }
    Some(Value::Object(merged))
}

/// Whether anything within refers to something.
pub(super) fn has_any(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_any),
        Value::Object(members) => members.iter().any(|(name, member)| is_reference(name) || has_any(member)),
        _ => false,
    }
}

fn is_reference(keyword: &str) -> bool {
    matches!(keyword, "$ref" | "$dynamicRef" | "$recursiveRef")
}

/// Every reference within; `is_known` becomes false where one is not by pointer.
fn collect(value: &Value, found: &mut Vec<String>, is_known: &mut bool) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found, is_known)),
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("$ref", Value::String(reference)) => found.push(reference.clone()),
                    (name, Value::String(_)) if is_reference(name) => *is_known = false,
                    _ => collect(member, found, is_known),
                }
            }
        }
        _ => {}
    }
}
