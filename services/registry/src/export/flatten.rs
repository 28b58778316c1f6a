//! Input schemas as model APIs take them: an object whose top has no `anyOf` and the like. What such a keyword said of
//! properties is said by the properties; the rest is told in words, and still checked when the tool is called. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use serde_json::{Map, Value, json};

/// Longest part of a schema that is told in words, in bytes.
const MAX_TOLD: usize = 1_000;
/// How deep alternatives within alternatives are looked into.
const MAX_DEPTH: usize = 64;
/// Most schemas, properties and names of required ones that are looked at; beyond, what they say is told in words only.
const MAX_WORK: usize = 10_000;
/// Keywords that combine schemas. The lists of branches first.
const COMBINATORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The schema without these keywords at its top.
pub(super) fn flatten(mut schema: Value, refused: &[&str]) -> Value {
    let Some(members) = schema.as_object_mut() else { return json!({"type": "object", "properties": {}}) };
    let dropped: Map<String, Value> =
        refused.iter().filter_map(|key| Some(((*key).to_owned(), members.remove(*key)?))).collect();
    members.entry("properties").or_insert_with(|| json!({}));
    if dropped.is_empty() {
        return schema;
    }
    let root = Value::Object(members.clone());
    let combined = Value::Object(dropped.clone());
    let mut walk = Walk { root: &root, found: BTreeMap::new(), known: HashMap::new(), left: MAX_WORK };
    let names = walk.take(&combined, 0);
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (name, ways) in walk.found {
            properties.entry(name).or_insert_with(|| any_of(&ways));
        }
    }
    let mut required: Vec<Value> =
        members.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let missing = names.iter().map(|name| json!(name)).filter(|name| !required.contains(name));
    let missing: Vec<Value> = missing.collect();
    required.extend(missing);
    if !required.is_empty() {
        members.insert("required".to_owned(), Value::Array(required));
    }
    let rule = Value::Object(dropped).to_string();
    if rule.len() <= MAX_TOLD {
        let told = format!("The arguments must also be valid against {rule}.");
        let before = members.get("description").and_then(Value::as_str).unwrap_or_default();
        let description = if before.is_empty() { told } else { format!("{before}\n{told}") };
        members.insert("description".to_owned(), Value::String(description));
    }
    schema
}

/// Names of the properties that a schema requires.
type Required<'a> = Rc<BTreeSet<&'a str>>;

/// Goes through combined schemas, and gathers what they say of properties.
struct Walk<'a> {
    root: &'a Value,
    /// Every way in which each property is described.
    found: BTreeMap<&'a str, Vec<&'a Value>>,
    /// What each reference that was followed requires: it is followed once. In a circle, it adds nothing.
    known: HashMap<&'a str, Required<'a>>,
    /// Of `MAX_WORK`.
    left: usize,
}

impl<'a> Walk<'a> {
    /// What a schema requires. Where it is not looked at, that is nothing: less is required, and nothing right refused.
    fn take(&mut self, schema: &'a Value, depth: usize) -> Required<'a> {
        if depth > MAX_DEPTH {
            return Required::default();
        }
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        let target = pointer.filter(|pointer| !pointer.is_empty());
        let target = target.and_then(|pointer| Some((pointer, self.root.pointer(pointer)?)));
        let Some((pointer, target)) = target else { return Rc::new(self.members(schema, depth)) };
        if let Some(known) = self.known.get(pointer).cloned() {
            return if self.spend(1 + known.len()) { known } else { Required::default() };
        }
        self.known.insert(pointer, Required::default());
        let required = Rc::new(self.members(target, depth));
        self.known.insert(pointer, Rc::clone(&required));
        required
    }

    fn members(&mut self, schema: &'a Value, depth: usize) -> BTreeSet<&'a str> {
        let Some(members) = schema.as_object() else { return BTreeSet::new() };
        let properties = members.get("properties").and_then(Value::as_object);
        let required = members.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !self.spend(1 + properties.map_or(0, Map::len) + required.len()) {
            return BTreeSet::new();
        }
        for (name, property) in properties.into_iter().flatten() {
            let ways = self.found.entry(name).or_default();
            if !ways.iter().any(|way| std::ptr::eq(*way, property) || *way == property) {
                ways.push(property);
            }
        }
        let mut required: BTreeSet<&str> = required.iter().filter_map(Value::as_str).collect();
        for keyword in COMBINATORS {
            let branches = members.get(keyword).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let mut common: Option<BTreeSet<&str>> = None;
            for branch in branches {
                let names = self.take(branch, depth + 1);
                match &mut common {
                    // Of alternatives only what all of them require is required.
                    Some(common) if keyword != "allOf" => common.retain(|name| names.contains(name)),
                    Some(common) => common.extend(names.iter()),
                    None => common = Some((*names).clone()),
                }
            }
            required.extend(common.unwrap_or_default());
        }
        required
    }

    /// Whether so much may still be looked at.
    fn spend(&mut self, work: usize) -> bool {
        let left = self.left.checked_sub(work);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// A property that alternatives describe in different ways may be any of them.
fn any_of(ways: &[&Value]) -> Value {
    match ways {
        [only] => (*only).clone(),
        ways => json!({ "anyOf": ways }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: [&str; 3] = ["allOf", "anyOf", "oneOf"];

    #[test]
    fn a_schema_without_them_stays_as_it_is() {
        let schema = json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {}]}}});
        assert_eq!(flatten(schema.clone(), &REFUSED), schema);
        let flat = flatten(json!({"type": "object"}), &REFUSED);
        assert_eq!(flat, json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn alternatives_become_properties_and_only_what_all_require_is_required() {
        let schema = json!({
            "type": "object", "description": "Where.", "required": ["z"], "properties": {"z": {"type": "string"}},
            "oneOf": [
                {"properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind", "x"]},
                {"$ref": "#/$defs/other"},
            ],
            "$defs": {"other": {"properties": {"kind": {"const": "b"}, "z": {}}, "required": ["kind"]}},
        });
        let flat = flatten(schema.clone(), &REFUSED);
        assert_eq!(flat["properties"]["kind"], json!({"anyOf": [{"const": "a"}, {"const": "b"}]}));
        assert_eq!(flat["properties"]["z"], json!({"type": "string"}));
        assert_eq!(flat["properties"]["x"], json!({"type": "integer"}));
        assert_eq!(flat["required"], json!(["z", "kind"]));
        assert!(flat.get("oneOf").is_none());
        let told = flat["description"].as_str().unwrap();
        assert!(told.starts_with("Where.\n") && told.contains(r#""const":"a""#), "{told}");
        // What the whole schema takes, the flat one takes too.
        let (whole, flat) = (::schema::compile(&schema).unwrap(), ::schema::compile(&flat).unwrap());
        for arguments in [json!({"z": "", "kind": "a", "x": 1}), json!({"z": "", "kind": "b"})] {
            assert!(whole.is_valid(&arguments) && flat.is_valid(&arguments), "{arguments}");
        }
    }

    #[test]
    fn what_holds_together_is_required_together_and_circles_end() {
        let schema = json!({"type": "object", "allOf": [
            {"properties": {"a": {}}, "required": ["a"]}, {"required": ["b"], "anyOf": [{"$ref": "#/$defs/c"}]}],
            "$defs": {"c": {"properties": {"c": {}}, "allOf": [{"$ref": "#/$defs/c"}]}}});
        let flat = flatten(schema, &REFUSED);
        assert_eq!(flat["required"], json!(["a", "b"]));
        assert!(flat["properties"].get("a").is_some() && flat["properties"].get("c").is_some());
    }

    #[test]
    fn references_are_followed_once_however_often_they_stand() {
        let all: Vec<Value> = (0..40).map(|n| json!({"$ref": format!("#/$defs/d{n}")})).collect();
        let definition =
            |n: usize| json!({"properties": {format!("p{n}"): {}}, "required": ["all"], "anyOf": all});
        let definitions: Map<String, Value> = (0..40).map(|n| (format!("d{n}"), definition(n))).collect();
        let schema = json!({"type": "object", "anyOf": all, "$defs": definitions});
        let flat = flatten(schema, &REFUSED);
        assert!((0..40).all(|n| flat["properties"].get(format!("p{n}")).is_some()));
        assert_eq!(flat["required"], json!(["all"]));
    }

    #[test]
    fn what_is_too_much_to_look_at_is_required_of_nobody() {
        let branch = json!({"properties": {"a": {}}, "required": ["a"]});
        let few = flatten(json!({"type": "object", "anyOf": vec![branch.clone(); 100]}), &REFUSED);
        assert_eq!(few["required"], json!(["a"]));
        let many = flatten(json!({"type": "object", "anyOf": vec![branch; MAX_WORK]}), &REFUSED);
        assert!(many.get("required").is_none() && many["properties"].get("a").is_some());
    }
}
