//! Compares two JSON Schemas: whether what the first accepts, the second does too. Arguments that were right
//! must stay right (they may be accepted more widely), and so must what is expected of results (they may be
//! promised more narrowly). Follows references within the schema, and never any other.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::{
    Change, Kind, MAX_VALUE, alternatives, bounds, cut, members,
    reference::{self, Changed, Pair},
    words,
};

/// Deepest nesting that is compared, over all references.
const MAX_DEPTH: usize = 200;
/// Most steps of a comparison: values that are looked at, as often as they are, long texts counted by their length.
const MAX_STEPS: usize = 2_000_000;
/// Bytes of text that are one step.
const STEP_BYTES: usize = 32;

/// What the schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

/// What became of the values that a schema accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// Some that were accepted are not any more.
    Narrower,
    /// Some are accepted that were not.
    Wider,
    /// Both, or nobody knows.
    Other,
    /// The same ones: words alone differ.
    Same,
}

/// A place in the schema.
#[derive(Debug, Clone, Default)]
pub(super) struct At {
    /// JSON pointer from the top of the schema.
    path: String,
    /// The argument or part of the result, as people write it: "filters[].name"; empty at the top.
    subject: String,
    /// Whether a wider schema here may be a narrower one above.
    pub exact: bool,
    depth: usize,
}

impl At {
    /// The place of a keyword, of the same subject.
    pub(super) fn keyword(&self, keyword: &str) -> Self {
        Self { path: format!("{}/{}", self.path, escaped(keyword)), ..self.deeper() }
    }

    /// The place of a part of the subject.
    pub(super) fn part(&self, keyword: &str, name: &str) -> Self {
        let at = self.keyword(keyword);
        match keyword {
            "properties" | "patternProperties" => {
                let dot = if self.subject.is_empty() { "" } else { "." };
                let subject = format!("{}{dot}{name}", self.subject);
                Self { path: format!("{}/{}", at.path, escaped(name)), subject, ..at }
            }
            "prefixItems" => {
                let subject = format!("{}[{name}]", self.subject);
                Self { path: format!("{}/{name}", at.path), subject, ..at }
            }
            "items" | "additionalItems" | "unevaluatedItems" => {
                Self { subject: format!("{}[]", self.subject), ..at }
            }
            _ => Self { subject: format!("{}.*", self.subject), ..at },
        }
    }

    /// The same place where only one of several may fit.
    pub(super) fn among(self, exact: bool) -> Self {
        Self { exact: self.exact || exact, ..self }
    }

    fn deeper(&self) -> Self {
        Self { depth: self.depth + 1, ..self.clone() }
    }
}

/// RFC 6901, section 3.
fn escaped(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// Every difference of two schemas; `None`: none is given, and anything is right.
pub(super) fn compare(side: Side, before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let empty = Value::Object(Map::new());
    let roots = Pair { before: before.unwrap_or(&empty), after: after.unwrap_or(&empty) };
    let mut comparer =
        Comparer { side, roots, changed: None, seen: HashSet::new(), steps: MAX_STEPS, found: Vec::new() };
    match (before, after) {
        (Some(old), Some(new)) if old != new => comparer.whole(old, new),
        (None, Some(new)) => {
            comparer.add(&At::default(), Became::Narrower, "is described now", None, Some(new));
        }
        (Some(old), None) => {
            comparer.add(&At::default(), Became::Wider, "is not described any more", Some(old), None);
        }
        _ => {}
    }
    comparer.found
}

/// A comparison under way.
pub(super) struct Comparer<'a> {
    pub side: Side,
    roots: Pair<'a>,
    /// References that lead to what changed; not looked for before one is met.
    changed: Option<Changed>,
    /// References that were followed, before and after, and whether only one of several may fit there: each once.
    seen: HashSet<(String, String, bool)>,
    /// That are left.
    steps: usize,
    found: Vec<Change>,
}

impl Comparer<'_> {
    fn whole(&mut self, old: &Value, new: &Value) {
        self.schemas(&At::default(), old, new);
        for part in ["$defs", "definitions"] {
            self.parts(part, old.get(part), new.get(part));
        }
        if self.found.is_empty() {
            let told = "changed in a way that is not understood";
            self.add(&At::default(), Became::Other, told, Some(old), Some(new));
        }
    }

    /// Tells of the parts that no reference led to in both, as they are written: nothing stays unseen.
    fn parts(&mut self, keyword: &str, old: Option<&Value>, new: Option<&Value>) {
        if !members::are(old, new) && old != new {
            return self.add(
                &At::default().keyword(keyword),
                Became::Other,
                "is no list of schemas",
                old,
                new,
            );
        }
        let none = Map::new();
        let members = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
        let (old, new) = (members(old).unwrap_or(none.clone()), members(new).unwrap_or(none));
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let reference = format!("#/{keyword}/{}", escaped(name));
            let (before, after) = (old.get(name), new.get(name));
            let is_seen = |exact| self.seen.contains(&(reference.clone(), reference.clone(), exact));
            if before != after && !is_seen(false) && !is_seen(true) {
                let at = At { path: format!("/{keyword}/{}", escaped(name)), ..At::default() };
                let told = format!("part {name} is written otherwise");
                self.add(&at, Became::Same, &told, before, after);
            }
        }
    }

    /// Notes a difference.
    pub(super) fn add(
        &mut self,
        at: &At,
        became: Became,
        told: &str,
        old: Option<&Value>,
        new: Option<&Value>,
    ) {
        let kind = match (became, self.side) {
            (Became::Same, _) => Kind::Patch,
            (Became::Wider | Became::Narrower, _) if at.exact => Kind::Breaking,
            (Became::Wider, Side::Input) | (Became::Narrower, Side::Output) => Kind::Addition,
            (Became::Other | Became::Narrower | Became::Wider, _) => Kind::Breaking,
        };
        self.note(at, kind, told, old, new);
    }

    /// Notes a difference of which it is known what it means.
    pub(super) fn note(&mut self, at: &At, kind: Kind, told: &str, old: Option<&Value>, new: Option<&Value>) {
        if !self.spend(at, (at.path.len() + at.subject.len()) / STEP_BYTES) {
            return;
        }
        let (top, subject) = match (self.side, at.subject.as_str()) {
            (Side::Input, "") => ("/input_schema", "the arguments".to_owned()),
            (Side::Input, name) => ("/input_schema", format!("argument {name}")),
            (Side::Output, "") => ("/output_schema", "the result".to_owned()),
            (Side::Output, name) => ("/output_schema", format!("{name} of the result")),
        };
        let path = format!("{top}{}", at.path);
        let mut change = Change::new(kind, path, format!("{subject}: {told}"), old, new);
        cut(&mut change.before, MAX_VALUE);
        cut(&mut change.after, MAX_VALUE);
        self.found.push(change);
    }

    /// Takes steps from those that are left; gives whether there were enough. That there were not is told once, and
    /// breaks: nobody knows what else changed.
    fn spend(&mut self, at: &At, steps: usize) -> bool {
        let had_some = self.steps > 0;
        self.steps = self.steps.saturating_sub(steps + 1);
        if had_some && self.steps == 0 {
            let told = "the schemas are too large to be compared further than here";
            let top = if self.side == Side::Input { "/input_schema" } else { "/output_schema" };
            let path = format!("{top}{}", at.path);
            // The first one, for it must not be left out.
            self.found.insert(0, Change::new(Kind::Breaking, path, told, None, None));
        }
        self.steps > 0
    }

    /// Compares two schemas.
    pub(super) fn schemas(&mut self, at: &At, old: &Value, new: &Value) {
        let steps = steps(old) + steps(new) + at.path.len() / STEP_BYTES;
        if !self.spend(at, steps) || old == new && !reference::has_any(old) {
            return;
        }
        if at.depth > MAX_DEPTH {
            return self.add(at, Became::Other, "is too deep to be compared", Some(old), Some(new));
        }
        let everything = Value::Object(Map::new());
        let (old, new) =
            (if *old == true { &everything } else { old }, if *new == true { &everything } else { new });
        match (old, new) {
            (Value::Object(before), Value::Object(after)) => self.objects(at, before, after),
            (Value::Bool(_), Value::Bool(_)) => {}
            (Value::Bool(_), _) => self.add(at, Became::Wider, "is possible now", Some(old), Some(new)),
            (_, Value::Bool(_)) => {
                self.add(at, Became::Narrower, "is not possible any more", Some(old), Some(new));
            }
            _ => self.add(at, Became::Other, "is no schema", Some(old), Some(new)),
        }
    }

    fn objects(&mut self, at: &At, old: &Map<String, Value>, new: &Map<String, Value>) {
        let whole = (Value::Object(old.clone()), Value::Object(new.clone()));
        match (reference::of(old), reference::of(new)) {
            (None, None) => {
                if !alternatives::wrapped(self, at, old, new) {
                    self.keywords(at, old, new);
                }
            }
            (Some(before), Some(after)) => {
                self.keywords(at, &reference::without(old), &reference::without(new));
                let key = (before.to_owned(), after.to_owned(), at.exact);
                if self.seen.insert(key.clone()) {
                    let targets = (self.roots.old_one(before), self.roots.new_one(after));
                    if let (Some(old), Some(new)) = targets {
                        self.schemas(&at.deeper(), old, new);
                    } else {
                        // The parts of that name were not compared.
                        self.seen.remove(&key);
                        self.lost(at, &whole);
                    }
                }
            }
            (Some(before), None) => {
                match self.roots.old_one(before).and_then(|target| reference::merged(old, target)) {
                    Some(old) => self.schemas(&at.deeper(), &old, &whole.1),
                    None => self.lost(at, &whole),
                }
            }
            (None, Some(after)) => {
                match self.roots.new_one(after).and_then(|target| reference::merged(new, target)) {
                    Some(new) => self.schemas(&at.deeper(), &whole.0, &new),
                    None => self.lost(at, &whole),
                }
            }
        }
    }

    fn lost(&mut self, at: &At, whole: &(Value, Value)) {
        let told = "refers to what cannot be compared";
        self.add(at, Became::Other, told, Some(&whole.0), Some(&whole.1));
    }

    fn keywords(&mut self, at: &At, old: &Map<String, Value>, new: &Map<String, Value>) {
        bounds::values(self, at, old, new);
        for keyword in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (old.get(keyword), new.get(keyword));
            match keyword.as_str() {
                // Told by `values` and by `parts`.
                "enum" | "const" => {}
                "$defs" | "definitions" if at.depth == 0 => {}
                "properties" | "patternProperties" if !members::are(before, after) => {
                    self.add(&at.keyword(keyword), Became::Other, "is no list of schemas", before, after);
                }
                "properties" => members::properties(self, at, old, new),
                "patternProperties" => members::patterns(self, at, before, after),
                "additionalProperties"
                | "unevaluatedProperties"
                | "items"
                | "additionalItems"
                | "unevaluatedItems"
                | "prefixItems" => members::inner(self, at, keyword, before, after),
                "anyOf" | "oneOf" | "allOf" => alternatives::compare(self, at, keyword, before, after),
                _ if before == after => self.unchanged(at, keyword, before),
                "default" => self.default(at, before, after),
                _ if words::are(keyword) => {
                    let told = format!("{keyword} is another");
                    self.add(&at.keyword(keyword), Became::Same, &told, before, after);
                }
                _ => bounds::compare(self, at, keyword, before, after),
            }
        }
    }

    /// A keyword that stands unchanged may refer to what changed.
    fn unchanged(&mut self, at: &At, keyword: &str, value: Option<&Value>) {
        let Some(referring) = value.filter(|value| !words::are(keyword) && reference::has_any(value)) else {
            return;
        };
        let changed = self.changed.get_or_insert_with(|| self.roots.changed(&mut self.steps));
        if changed.has_any_of(referring) {
            let told = format!("{keyword} refers to what changed");
            self.add(&at.keyword(keyword), Became::Other, &told, value, value);
        }
    }

    /// A call that leaves an argument out means its default.
    fn default(&mut self, at: &At, old: Option<&Value>, new: Option<&Value>) {
        let kind = match (self.side, old) {
            (Side::Input, Some(_)) => Kind::Breaking,
            _ => Kind::Patch,
        };
        self.note(&at.keyword("default"), kind, "the default is another", old, new);
    }
}

/// What it takes to look at a value.
pub(super) fn steps(value: &Value) -> usize {
    let of_text = |text: &str| text.len() / STEP_BYTES;
    1 + match value {
        Value::String(text) => of_text(text),
        Value::Array(items) => items.iter().map(steps).sum(),
        Value::Object(members) => members.iter().map(|(name, member)| of_text(name) + steps(member)).sum(),
        _ => 0,
    }
}
