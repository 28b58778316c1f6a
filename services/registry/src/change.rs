//! Tells how two definitions of a tool differ, and what that means for those who call it. Where it does not
//! understand a difference, it takes it for a breaking one; no difference is left out. No I/O.

mod alternatives;
mod bounds;
mod members;
mod reference;
mod schema;
pub(crate) mod words;

use semver::{Prerelease, Version};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Error,
    definition::{Binding, Definition},
    normalise::clean,
};
use schema::Side;

/// Most changes of the schemas that are told; the rest is counted.
const MAX_CHANGES: usize = 1_000;
/// Most bytes of one value that is told, other than what steers.
const MAX_VALUE: usize = 20_000;
/// Most bytes of all values that are told in full; later ones are cut to `SHORT_VALUE`.
const MAX_VALUES: usize = 1024 * 1024;
const SHORT_VALUE: usize = 200;

/// What a change means for callers, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Words and limits.
    Patch,
    /// More is possible, and what was right still is.
    Addition,
    /// A call or an answer that was right may be wrong now.
    Breaking,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub kind: Kind,
    /// JSON pointer (RFC 6901) into the definition; empty: of all changes that are not told.
    pub path: String,
    pub description: String,
    /// JSON text; empty: nothing stood there. One that is cut ends with "…", which no JSON text does.
    pub before: String,
    /// The same of what stands there now.
    pub after: String,
}

impl Change {
    fn new(
        kind: Kind,
        path: impl Into<String>,
        description: impl AsRef<str>,
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> Self {
        let text = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default();
        Self {
            kind,
            path: path.into(),
            description: clean(description.as_ref(), 300),
            before: text(before),
            after: text(after),
        }
    }

    /// Whether it is of what tells models to call the tool, and how; never left out, and never cut.
    fn steers(&self) -> bool {
        matches!(self.path.as_str(), "/title" | "/description" | "/effect")
            || self.path.starts_with("/examples/")
    }

    fn is_of_schema(&self) -> bool {
        ["/input_schema", "/output_schema"].iter().any(|schema| self.path.starts_with(schema))
    }
}

/// Every difference but that of the versions: first what steers those who call the tool, then the greatest kind
/// first. None where the contents are the same.
pub(crate) fn compare(before: &Definition, after: &Definition) -> Result<Vec<Change>, Error> {
    let mut found = Vec::new();
    texts(before, after, &mut found);
    guards(before, after, &mut found);
    for (side, old, new) in [
        (Side::Input, &before.input_schema, &after.input_schema),
        (Side::Output, &before.output_schema, &after.output_schema),
    ] {
        found.extend(schema::compare(side, read(old)?.as_ref(), read(new)?.as_ref()));
    }
    binding(&before.binding, &after.binding, &mut found)?;
    found.sort_by_key(|change| (!change.steers(), std::cmp::Reverse(change.kind)));
    Ok(bounded(found))
}

/// The greatest kind there is; `None` without a change.
pub(crate) fn greatest(changes: &[Change]) -> Option<Kind> {
    changes.iter().map(|change| change.kind).max()
}

/// The version of a definition that differs so from that of version `newest`; greater than `highest`, the
/// greatest that the tool has. Below 1.0.0, the minor version rises where the major would (Semantic
/// Versioning 2.0.0, item 4). Versions are parsed before they are stored, so that these always can be.
pub(crate) fn next_version(newest: &str, highest: &str, kind: Kind) -> String {
    let highest = parsed(highest);
    let mut next = least(&parsed(newest), kind);
    if next <= highest {
        next = highest;
        next.pre = Prerelease::EMPTY;
        next.patch = next.patch.saturating_add(1);
    }
    next.to_string()
}

/// Whether a version says enough of a change: of pre-releases, what they lead to counts. Anything may change
/// below 1.0.0.
pub(crate) fn says_enough(asked: &str, newest: &str, kind: Kind) -> bool {
    let (mut asked, newest) = (parsed(asked), parsed(newest));
    asked.pre = Prerelease::EMPTY;
    asked.major == 0 || !newest.pre.is_empty() || asked >= least(&newest, kind)
}

fn parsed(version: &str) -> Version {
    Version::parse(version).unwrap_or(Version::new(1, 0, 0))
}

/// The least version that says enough of a change.
fn least(newest: &Version, kind: Kind) -> Version {
    let Version { major, minor, patch, .. } = *newest;
    match (kind, major) {
        (Kind::Breaking, 1..) => Version::new(major.saturating_add(1), 0, 0),
        (Kind::Breaking | Kind::Addition, _) => Version::new(major, minor.saturating_add(1), 0),
        (Kind::Patch, _) => Version::new(major, minor, patch.saturating_add(1)),
    }
}

fn read(schema: &str) -> Result<Option<Value>, Error> {
    if schema.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(schema)?)) }
}

/// What people and models read, and limits. Taken apart, so that a new field cannot be forgotten.
fn texts(before: &Definition, after: &Definition, found: &mut Vec<Change>) {
    let Definition {
        name,
        version: _,
        title,
        description,
        category: _,
        capabilities: _,
        effect: _,
        sensitivity: _,
        input_schema: _,
        output_schema: _,
        binding: _,
        provider,
        timeout_ms,
        rate_limit_per_minute,
        cost_micro_usd,
        labels,
        examples,
    } = before;
    let mut field = |kind, path: &str, told: &str, (old, new): (Value, Value)| {
        if old != new {
            found.push(Change::new(kind, path, told, Some(&old), Some(&new)));
        }
    };
    field(Kind::Breaking, "/name", "the name is another", both(name, &after.name));
    field(Kind::Patch, "/title", "the title is another", both(title, &after.title));
    field(Kind::Patch, "/description", "the description is another", both(description, &after.description));
    field(Kind::Patch, "/provider", "the provider is another", both(provider, &after.provider));
    field(Kind::Patch, "/timeout_ms", "the timeout is another", both(timeout_ms, &after.timeout_ms));
    let rates = both(rate_limit_per_minute, &after.rate_limit_per_minute);
    field(Kind::Patch, "/rate_limit_per_minute", "the rate limit is another", rates);
    let costs = both(cost_micro_usd, &after.cost_micro_usd);
    field(Kind::Patch, "/cost_micro_usd", "the cost is another", costs);
    field(Kind::Patch, "/labels", "the labels are others", both(labels, &after.labels));
    // One by one, so that each can be told whole.
    for index in 0..examples.len().max(after.examples.len()) {
        let (old, new) = (examples.get(index), after.examples.get(index));
        if old != new {
            let (old, new) = (old.map(json), new.map(json));
            let path = format!("/examples/{index}");
            found.push(Change::new(Kind::Patch, path, "the example is another", old.as_ref(), new.as_ref()));
        }
    }
}

/// What decides who may call the tool, who finds it, and how it may be called.
fn guards(before: &Definition, after: &Definition, found: &mut Vec<Change>) {
    if before.category != after.category {
        let (old, new) = both(&before.category, &after.category);
        let told = "the category is another: whoever asks for the old one does not find the tool";
        found.push(Change::new(Kind::Breaking, "/category", told, Some(&old), Some(&new)));
    }
    for gone in before.capabilities.iter().filter(|word| !after.capabilities.contains(word)) {
        let told = format!("capability {gone} is gone");
        found.push(Change::new(Kind::Breaking, "/capabilities", told, Some(&json(gone)), None));
    }
    for new in after.capabilities.iter().filter(|word| !before.capabilities.contains(word)) {
        let told = format!("capability {new} is new");
        found.push(Change::new(Kind::Addition, "/capabilities", told, None, Some(&json(new))));
    }
    if before.effect != after.effect {
        let (old, new) = both(&before.effect, &after.effect);
        let (kind, told) = if after.effect > before.effect {
            (Kind::Breaking, "the tool does more to the world than it did")
        } else {
            (Kind::Addition, "the tool does less to the world than it did")
        };
        found.push(Change::new(kind, "/effect", told, Some(&old), Some(&new)));
    }
    if before.sensitivity != after.sensitivity {
        let (old, new) = both(&before.sensitivity, &after.sensitivity);
        let (kind, told) = if after.sensitivity > before.sensitivity {
            (Kind::Breaking, "the tool handles more sensitive data than it did")
        } else {
            (Kind::Addition, "the tool handles less sensitive data than it did")
        };
        found.push(Change::new(kind, "/sensitivity", told, Some(&old), Some(&new)));
    }
}

/// Compares by what is stored, so that no part of a binding can be forgotten.
fn binding(before: &Binding, after: &Binding, found: &mut Vec<Change>) -> Result<(), Error> {
    let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    let (Some((kind, old)), Some((new_kind, new))) = (only(&before), only(&after)) else { return Ok(()) };
    if kind != new_kind {
        let told = format!("the tool is run as {new_kind}, and was run as {kind}");
        found.push(Change::new(Kind::Breaking, "/binding", told, Some(&before), Some(&after)));
        return Ok(());
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Ok(()) };
    let mut fields: Vec<&String> = old.keys().chain(new.keys()).collect();
    fields.sort_unstable();
    fields.dedup();
    for field in fields {
        if old.get(field) != new.get(field) {
            let (kind_of_change, told) = part(field);
            let path = format!("/binding/{kind}/{field}");
            found.push(Change::new(kind_of_change, path, told, old.get(field), new.get(field)));
        }
    }
    Ok(())
}

/// What a change of one part of a binding means. The schemas tell what became of arguments and results.
fn part(field: &str) -> (Kind, &'static str) {
    match field {
        "credentials" => (Kind::Patch, "the tool is reached with other credentials"),
        "descriptor_set" => (Kind::Patch, "request and answer are written otherwise on the wire"),
        "allow_private_network" => (Kind::Breaking, "which networks the tool reaches is another"),
        _ => (Kind::Breaking, "what the tool asks, and where, is another"),
    }
}

fn only(value: &Value) -> Option<(&String, &Value)> {
    value.as_object()?.iter().next()
}

fn both<T: Serialize + ?Sized>(before: &T, after: &T) -> (Value, Value) {
    (json(before), json(after))
}

/// Nothing that a definition consists of fails to be written: no map has keys other than texts.
fn json<T: Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Not more than an answer takes: of the schemas' changes the first ones, which are the greatest, and how many more
/// there are. Whatever else changed is told, and what steers is told whole: a definition has little of it.
fn bounded(changes: Vec<Change>) -> Vec<Change> {
    let is_more = changes.iter().filter(|change| change.is_of_schema()).count() > MAX_CHANGES;
    let most = if is_more { MAX_CHANGES - 1 } else { MAX_CHANGES };
    let (mut told, mut of_schemas, mut left_out) = (Vec::new(), 0, Vec::new());
    for change in changes {
        of_schemas += usize::from(change.is_of_schema());
        if change.is_of_schema() && of_schemas > most {
            left_out.push(change.kind);
        } else {
            told.push(change);
        }
    }
    if let Some(kind) = left_out.iter().max() {
        let more = format!("and {} more changes", left_out.len());
        told.push(Change::new(*kind, "", more, None, None));
    }
    let mut left = MAX_VALUES;
    for change in &mut told {
        let (steers, is_of_schema) = (change.steers(), change.is_of_schema());
        for value in [&mut change.before, &mut change.after] {
            match (steers, is_of_schema && left == 0) {
                (true, _) => {}
                (false, false) => cut(value, MAX_VALUE),
                (false, true) => cut(value, SHORT_VALUE),
            }
            left = left.saturating_sub(value.len());
        }
    }
    told
}

/// Cuts a text that is longer, so that it is seen.
fn cut(text: &mut String, most: usize) {
    if text.len() > most + '…'.len_utf8() {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
}

#[cfg(test)]
mod tests;
