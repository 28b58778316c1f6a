//! Input schemas as model APIs take them: an object whose top has no `anyOf` and the like. What such a keyword said of
//! properties is said by the properties; the rest is told in words, and still checked when the tool is called. No I/O.

use serde_json::{Map, Value, json};

/// Longest part of a schema that is told in words, in bytes.
const MAX_TOLD: usize = 1_000;
/// How deep alternatives within alternatives are looked into.
const MAX_DEPTH: usize = 8;
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
    let mut found = Found::default();
    found.take(&Value::Object(dropped.clone()), &root, 0);
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (name, property) in found.properties {
            properties.entry(name).or_insert(property);
        }
    }
    let mut required: Vec<Value> =
        members.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    required.extend(
        found
            .required
            .into_iter()
            .map(Value::String)
            .filter(|name| !required.contains(name))
            .collect::<Vec<_>>(),
    );
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

/// What combined schemas say of properties.
#[derive(Debug, Default)]
struct Found {
    properties: Vec<(String, Value)>,
    required: Vec<String>,
}

impl Found {
    fn take(&mut self, schema: &Value, root: &Value, depth: usize) {
        let schema = resolved(schema, root);
        let Some(members) = schema.as_object().filter(|_| depth <= MAX_DEPTH) else { return };
        for (name, property) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.add(name, property);
        }
        let required = members.get("required").and_then(Value::as_array).into_iter().flatten();
        self.required.extend(required.filter_map(Value::as_str).map(str::to_owned));
        for keyword in COMBINATORS {
            let branches = members.get(keyword).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let each: Vec<Self> = branches
                .iter()
                .map(|branch| {
                    let mut found = Self::default();
                    found.take(branch, root, depth + 1);
                    found
                })
                .collect();
            self.join(&each, keyword == "allOf");
        }
    }

    /// Of alternatives only what all of them require is required.
    fn join(&mut self, branches: &[Self], all_hold: bool) {
        let required: Vec<Vec<String>> = branches.iter().map(|branch| branch.required.clone()).collect();
        for (name, property) in branches.iter().flat_map(|branch| &branch.properties) {
            self.add(name, property);
        }
        for name in required.iter().flatten() {
            if (all_hold || required.iter().all(|names| names.contains(name)))
                && !self.required.contains(name)
            {
                self.required.push(name.clone());
            }
        }
    }

    /// A property that alternatives describe in different ways may be any of them.
    fn add(&mut self, name: &str, property: &Value) {
        let Some((_, known)) = self.properties.iter_mut().find(|(known, _)| known == name) else {
            self.properties.push((name.to_owned(), property.clone()));
            return;
        };
        if known == property {
            return;
        }
        match known.get_mut("anyOf").and_then(Value::as_array_mut) {
            Some(ways) if !ways.contains(property) => ways.push(property.clone()),
            Some(_) => {}
            None => *known = json!({"anyOf": [known.clone(), property.clone()]}),
        }
    }
}

/// What a schema refers to within the document, or itself.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let pointer = reference.and_then(|reference| reference.strip_prefix('#'));
    pointer.filter(|pointer| !pointer.is_empty()).and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
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
}
