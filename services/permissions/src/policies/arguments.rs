//! The arguments of a call as entities that policies can ask by JSON pointer, each value under what it is. Pure; what
//! is too much to be told whole is not told at all.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityUid, RestrictedExpression as Expression};
use serde_json::Value;

use super::{context::record, text, uid_of};
use crate::condition::canonical;

/// Most values, the inner ones included.
const MAX_VALUES: usize = 20_000;
/// Most folders and files.
const MAX_PATHS: usize = 1_000;
/// Deepest folder that is told of a path, in steps; policies name none below. What Cedar makes of a chain of folders
/// grows with the third power of its length.
pub(super) const MAX_STEPS: usize = 32;
/// Most bytes of all pointers together: each repeats the names above it.
const MAX_POINTER_BYTES: usize = 4 * 1024 * 1024;
/// Largest whole number that a double tells from its neighbours: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// The kinds under which values are told, as the schema names their entities.
const KINDS: [(&str, &str); 6] = [
    ("texts", "Texts"),
    ("numbers", "Numbers"),
    ("decimals", "Decimals"),
    ("flags", "Flags"),
    ("textLists", "TextLists"),
    ("paths", "Paths"),
];

/// What is told of the arguments.
#[derive(Default)]
pub(super) struct Arguments {
    /// Tags of each of `KINDS`.
    tags: [Vec<(String, Expression)>; 6],
    pointers: Vec<String>,
    /// Of all pointers.
    bytes: usize,
    /// Every path with the folder that it lies in.
    paths: HashMap<String, Option<String>>,
}

impl Arguments {
    /// Of these arguments, or of none. `None` when they are too many to be told.
    pub(super) fn of(arguments: Option<&Value>) -> Option<Self> {
        let mut told = Self::default();
        if let Some(Value::Object(members)) = arguments {
            for (name, value) in members {
                told.take(&step("", name), value)?;
            }
        }
        Some(told)
    }

    fn take(&mut self, pointer: &str, value: &Value) -> Option<()> {
        self.bytes += pointer.len();
        if self.pointers.len() >= MAX_VALUES || self.bytes > MAX_POINTER_BYTES {
            return None;
        }
        self.pointers.push(pointer.to_owned());
        match value {
            Value::Null => {}
            Value::Bool(flag) => self.tag(3, pointer, Expression::new_bool(*flag)),
            Value::Number(number) => self.number(pointer, number),
            Value::String(value) => {
                self.tag(0, pointer, text(value));
                self.path(pointer, value)?;
            }
            Value::Array(items) => {
                let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(text)).collect();
                if let Some(texts) = texts {
                    self.tag(4, pointer, Expression::new_set(texts));
                }
                for (at, item) in items.iter().enumerate() {
                    self.take(&format!("{pointer}/{at}"), item)?;
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    self.take(&step(pointer, name), value)?;
                }
            }
        }
        Some(())
    }

    fn tag(&mut self, kind: usize, pointer: &str, value: Expression) {
        self.tags[kind].push((pointer.to_owned(), value));
    }

    fn number(&mut self, pointer: &str, number: &serde_json::Number) {
        if let Some(whole) = whole(number) {
            self.tag(1, pointer, Expression::new_long(whole));
        }
        if let Some(decimal) = decimal(number) {
            self.tag(2, pointer, Expression::new_decimal(decimal));
        }
    }

    fn path(&mut self, pointer: &str, value: &str) -> Option<()> {
        let Some(steps) = canonical(value) else { return Some(()) };
        let mut path = "/".to_owned();
        self.paths.entry(path.clone()).or_default();
        let mut folder = path.clone();
        let last = steps.len().saturating_sub(1);
        for (depth, next) in steps.into_iter().enumerate() {
            path = if path == "/" { format!("/{next}") } else { format!("{path}/{next}") };
            // Below the deepest folder that is told, the whole path alone.
            if depth < MAX_STEPS || depth == last {
                self.paths.entry(path.clone()).or_insert_with(|| Some(folder.clone()));
            }
            if depth < MAX_STEPS {
                folder.clone_from(&path);
            }
        }
        if self.paths.len() > MAX_PATHS {
            return None;
        }
        let path = Expression::new_entity_uid(uid_of("Path", &path)?);
        self.tag(5, pointer, path);
        Some(())
    }

    /// The record that the context holds.
    pub(super) fn facts(&self) -> Result<Expression, Box<dyn std::error::Error>> {
        let mut fields = Vec::new();
        for (name, kind) in KINDS {
            let uid = uid_of(kind, "").ok_or("a kind of arguments is not known")?;
            fields.push((name, Expression::new_entity_uid(uid)));
        }
        fields.push(("pointers", Expression::new_set(self.pointers.iter().map(|pointer| text(pointer)))));
        record(fields)
    }

    /// The entities that it refers to.
    pub(super) fn entities(&self) -> Result<Vec<Entity>, Box<dyn std::error::Error>> {
        let known = |kind, id: &str| uid_of(kind, id).ok_or("a kind of arguments is not known");
        let mut entities = Vec::new();
        for ((_, kind), tags) in KINDS.into_iter().zip(&self.tags) {
            entities.push(Entity::new_with_tags(known(kind, "")?, [], [], tags.iter().cloned())?);
        }
        for (path, folder) in &self.paths {
            let folder: HashSet<EntityUid> =
                folder.iter().map(|folder| known("Path", folder)).collect::<Result<_, _>>()?;
            entities.push(Entity::new_no_attrs(known("Path", path)?, folder));
        }
        Ok(entities)
    }
}

/// The pointer of a member (RFC 6901, section 3).
fn step(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[allow(clippy::cast_possible_truncation, reason = "within the numbers that a double tells apart")]
fn whole(number: &serde_json::Number) -> Option<i64> {
    let exact = |number: &f64| number.fract() == 0.0 && number.abs() < MAX_EXACT;
    number
        .as_i64()
        .or_else(|| number.as_f64().filter(|_| number.is_f64()).filter(exact).map(|whole| whole as i64))
}

/// With one to four digits after the point, as Cedar writes decimals, and in their range.
fn decimal(number: &serde_json::Number) -> Option<String> {
    const MOST: i64 = 922_337_203_685_476;
    if let Some(whole) = whole(number) {
        return (-MOST..=MOST).contains(&whole).then(|| format!("{whole}.0"));
    }
    // The shortest text that is the same number, never with an exponent.
    let told = number.as_f64().filter(|number| number.abs() < MOST as f64)?.to_string();
    let (_, fraction) = told.split_once('.')?;
    (fraction.len() <= 4).then_some(told)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deep_path_stays_in_its_upper_folders_and_costs_no_more() {
        let deep = format!("/secret/{}end", "a/".repeat(4_000));
        let told = Arguments::of(Some(&json!({ "path": deep }))).unwrap();
        assert_eq!(told.paths.len(), MAX_STEPS + 2, "the root, the upper folders and the path itself");
        let mut at = deep;
        let mut above = Vec::new();
        while let Some(Some(folder)) = told.paths.get(&at) {
            above.push(folder.clone());
            at.clone_from(folder);
        }
        assert!(above.contains(&"/secret".to_owned()) && above.ends_with(&["/".to_owned()]), "{above:?}");
    }

    #[test]
    fn pointers_that_repeat_long_names_are_too_much_to_be_told() {
        let short = json!({ "list": vec![0; 10_000] });
        assert!(Arguments::of(Some(&short)).is_some());
        let long = json!({ "x".repeat(100_000): vec![0; 10_000] });
        assert!(Arguments::of(Some(&long)).is_none());
    }
}
