//! Compares two JSON Schemas: whether what the first accepts, the second does too. Arguments that were right
//! must stay right (they may be accepted more widely), and so must what is expected of results (they may be
//! promised more narrowly). Follows references within the schema, and never any other.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::{
    Change, Kind, alternatives, bounds,
    reference::{self, Pair},
    words,
};

/// Deepest nesting that is compared, over all references.
const MAX_DEPTH: usize = 200;
/// Most pairs of schemas that are compared.
const MAX_PAIRS: usize = 50_000;

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
    exact: bool,
    depth: usize,
}

impl At {
    /// The place of a keyword, of the same subject.
    pub(super) fn keyword(&self, keyword: &str) -> Self {
        Self { path: format!("{}/{}", self.path, escaped(keyword)), ..self.deeper() }
    }

    /// The place of a part of the subject.
    fn part(&self, keyword: &str, name: &str) -> Self {
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
    let mut comparer = Comparer { side, roots, seen: HashSet::new(), pairs: 0, found: Vec::new() };
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
    side: Side,
    pub roots: Pair<'a>,
    /// References that were followed, before and after: each two once.
    seen: HashSet<(String, String)>,
    pairs: usize,
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
        if !are_members(old, new) && old != new {
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
            if before != after && !self.seen.contains(&(reference.clone(), reference)) {
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

    fn note(&mut self, at: &At, kind: Kind, told: &str, old: Option<&Value>, new: Option<&Value>) {
        let (top, subject) = match (self.side, at.subject.as_str()) {
            (Side::Input, "") => ("/input_schema", "the arguments".to_owned()),
            (Side::Input, name) => ("/input_schema", format!("argument {name}")),
            (Side::Output, "") => ("/output_schema", "the result".to_owned()),
            (Side::Output, name) => ("/output_schema", format!("{name} of the result")),
        };
        let path = format!("{top}{}", at.path);
        self.found.push(Change::new(kind, path, format!("{subject}: {told}"), old, new));
    }

    /// Compares two schemas.
    pub(super) fn schemas(&mut self, at: &At, old: &Value, new: &Value) {
        if old == new && !reference::has_any(old) {
            return;
        }
        self.pairs += 1;
        if at.depth > MAX_DEPTH || self.pairs > MAX_PAIRS {
            // Once is enough, and it breaks.
            if self.pairs <= MAX_PAIRS + 1 {
                self.add(at, Became::Other, "is too large or too deep to be compared", Some(old), Some(new));
            }
            return;
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
                if self.seen.insert((before.to_owned(), after.to_owned())) {
                    let targets = (self.roots.old_one(before), self.roots.new_one(after));
                    if let (Some(old), Some(new)) = targets {
                        self.schemas(&at.deeper(), old, new);
                    } else {
                        // The parts of that name were not compared.
                        self.seen.remove(&(before.to_owned(), after.to_owned()));
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
                "properties" | "patternProperties" if !are_members(before, after) => {
                    self.add(&at.keyword(keyword), Became::Other, "is no list of schemas", before, after);
                }
                "properties" => self.properties(at, before, after, new.get("additionalProperties")),
                "patternProperties" => self.patterns(at, before, after),
                "additionalProperties"
                | "unevaluatedProperties"
                | "items"
                | "additionalItems"
                | "unevaluatedItems"
                | "prefixItems" => self.inner(at, keyword, before, after),
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
        if value.is_some_and(|value| !words::are(keyword) && !self.roots.refer_to_the_same(value)) {
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

    fn properties(&mut self, at: &At, old: Option<&Value>, new: Option<&Value>, others: Option<&Value>) {
        let none = Map::new();
        let (old, new) = (members(old).unwrap_or(&none), members(new).unwrap_or(&none));
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let at = at.part("properties", name);
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => self.schemas(&at, old, new),
                (Some(old), None) => {
                    let told = match (self.side, others) {
                        (Side::Output, _) => "is gone",
                        (Side::Input, Some(Value::Bool(false))) => "is not taken any more",
                        (Side::Input, _) => "is not described any more, and may be ignored",
                    };
                    self.note(&at, Kind::Breaking, told, Some(old), None);
                }
                (None, Some(new @ Value::Bool(false))) => {
                    self.note(&at, Kind::Breaking, "is forbidden now", None, Some(new));
                }
                (None, new) => self.note(&at, Kind::Addition, "is new", None, new),
            }
        }
    }

    fn patterns(&mut self, at: &At, old: Option<&Value>, new: Option<&Value>) {
        let none = Map::new();
        let (old, new) = (members(old).unwrap_or(&none), members(new).unwrap_or(&none));
        for pattern in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let at = at.part("patternProperties", pattern);
            match (old.get(pattern), new.get(pattern)) {
                (Some(old), Some(new)) => self.schemas(&at, old, new),
                (Some(old), None) => self.add(&at, Became::Other, "is gone", Some(old), None),
                (None, new) => self.add(&at, Became::Other, "is new", None, new),
            }
        }
    }

    /// Schemas of what an array or object may hold besides.
    fn inner(&mut self, at: &At, keyword: &str, old: Option<&Value>, new: Option<&Value>) {
        let part = at.part(keyword, "");
        match (old, new) {
            (Some(Value::Array(before)), Some(Value::Array(after))) if before.len() == after.len() => {
                for (index, (old, new)) in before.iter().zip(after).enumerate() {
                    self.schemas(&at.part("prefixItems", &index.to_string()), old, new);
                }
            }
            (Some(Value::Array(_)), _) | (_, Some(Value::Array(_))) => {
                self.add(&at.keyword(keyword), Became::Other, "has other places", old, new);
            }
            // What a result may hold besides is what is new to come.
            (Some(Value::Bool(false)), _)
                if self.side == Side::Output && keyword.ends_with("Properties") && is_anything(new) =>
            {
                self.note(&part, Kind::Addition, "is possible now", old, new);
            }
            (Some(before), Some(after)) => self.schemas(&part, before, after),
            _ if is_anything(old) && is_anything(new) => {
                self.add(&part, Became::Same, &format!("{keyword} is written otherwise"), old, new);
            }
            (None, _) => self.add(&part, Became::Narrower, "is restricted now", old, new),
            (_, None) => self.add(&part, Became::Wider, "is not restricted any more", old, new),
        }
    }
}

fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// Whether both are objects, where they are given.
fn are_members(old: Option<&Value>, new: Option<&Value>) -> bool {
    [old, new].into_iter().flatten().all(Value::is_object)
}

fn is_anything(schema: Option<&Value>) -> bool {
    match schema {
        None | Some(Value::Bool(true)) => true,
        Some(Value::Object(keywords)) => keywords.is_empty(),
        Some(_) => false,
    }
}
