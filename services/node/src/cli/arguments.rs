//! A tool's arguments from the command line: `key=value` typed by the tool's schema, `key:=json`,
//! `key=@file`, `@file` and `@-`, made into the JSON text of one object.
//!
//! Numbers are copied as text, so that no digit is lost. Nothing is validated here: the executor does that.

use serde_json::{Map, Value, value::RawValue};

/// One argument as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A whole object: `@file` or `@-`.
    Whole(String),
    /// `key=value` or `key=@file`: typed by the schema, a file always as a string.
    Text {
        /// Name of the argument.
        key: String,
        /// Its value.
        value: String,
        /// Whether the value is the content of a file.
        is_file: bool,
    },
    /// `key:=json`.
    Json {
        /// Name of the argument.
        key: String,
        /// JSON text.
        json: String,
    },
}

/// Reads one argument; `read` gives the content of a file, or of standard input for "-".
pub fn piece(text: &str, read: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<Piece, String> {
    if let Some(file) = text.strip_prefix('@') {
        return Ok(Piece::Whole(read(file)?));
    }
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("{text:?} is none of key=value, key:=json, key=@file, @file"));
    };
    if let Some(key) = key.strip_suffix(':') {
        serde_json::from_str::<&RawValue>(value).map_err(|error| format!("{key}: not JSON: {error}"))?;
        return Ok(Piece::Json { key: named(key)?, json: value.to_owned() });
    }
    let key = named(key)?;
    match value.strip_prefix('@') {
        Some(file) => Ok(Piece::Text { key, value: read(file)?, is_file: true }),
        None => Ok(Piece::Text { key, value: value.to_owned(), is_file: false }),
    }
}

fn named(key: &str) -> Result<String, String> {
    if key.is_empty() { Err("an argument has no name before '='".into()) } else { Ok(key.to_owned()) }
}

/// Whether the tool's schema is needed to read them.
pub fn need_schema(pieces: &[Piece]) -> bool {
    pieces.iter().any(|piece| matches!(piece, Piece::Text { .. }))
}

/// The arguments as JSON text of one object. Later pieces win over earlier ones, except that a key given
/// several times fills an array where the schema wants one.
pub fn object(pieces: &[Piece], schema: &Value) -> Result<String, String> {
    if let [Piece::Whole(text)] = pieces {
        members(text)?;
        return Ok(text.trim().to_owned());
    }
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut set = |key: String, json: String| {
        fields.retain(|(known, _)| *known != key);
        fields.push((key, json));
    };
    for (nth, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Whole(text) => members(text)?.into_iter().for_each(|(key, json)| set(key, json)),
            Piece::Json { key, json } => set(key.clone(), json.clone()),
            Piece::Text { key, value, is_file: true } => set(key.clone(), quoted(value)),
            Piece::Text { key, .. } => {
                let is_repeated = pieces[..nth].iter().any(|earlier| is_text_of(earlier, key).is_some());
                if !is_repeated {
                    let values: Vec<_> = pieces.iter().filter_map(|piece| is_text_of(piece, key)).collect();
                    let json = typed_values(&values, property(schema, key), schema);
                    set(key.clone(), json.map_err(|wrong| format!("{key}: {wrong}"))?);
                }
            }
        }
    }
    let fields: Vec<_> = fields.iter().map(|(key, json)| format!("{}:{json}", quoted(key))).collect();
    Ok(format!("{{{}}}", fields.join(",")))
}

fn is_text_of<'a>(piece: &'a Piece, wanted: &str) -> Option<&'a str> {
    match piece {
        Piece::Text { key, value, is_file: false } if key == wanted => Some(value),
        _ => None,
    }
}

/// The members of a JSON object, each value as it was written.
fn members(text: &str) -> Result<Vec<(String, String)>, String> {
    let members: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| format!("the arguments are no JSON object: {error}"))?;
    Ok(members.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect())
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn property<'a>(schema: &'a Value, key: &str) -> &'a Value {
    &resolved(schema, schema)["properties"][key]
}

/// The schema, or what its local `$ref` points to.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|link| root.pointer(link.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// The JSON types that a schema names, through `$ref`, `anyOf` and `oneOf`.
fn types<'a>(schema: &'a Value, root: &'a Value, depth: u8) -> Vec<&'a str> {
    let schema = resolved(schema, root);
    let mut found: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for choice in ["anyOf", "oneOf"].iter().filter_map(|key| schema[key].as_array()).flatten() {
        if depth > 0 {
            found.extend(types(choice, root, depth - 1));
        }
    }
    if found.is_empty() {
        for word in schema["enum"].as_array().into_iter().flatten() {
            found.push(type_of(word));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn typed_values(values: &[&str], schema: &Value, root: &Value) -> Result<String, String> {
    if let [value] = values {
        return typed(value, schema, root);
    }
    if !types(schema, root, 4).contains(&"array") {
        return Err("given several times, but it is no array".into());
    }
    items(values, schema, root)
}

fn items(values: &[&str], schema: &Value, root: &Value) -> Result<String, String> {
    let each = &resolved(schema, root)["items"];
    let values: Result<Vec<_>, _> = values.iter().map(|value| typed(value, each, root)).collect();
    Ok(format!("[{}]", values?.join(",")))
}

/// One value as JSON text.
fn typed(value: &str, schema: &Value, root: &Value) -> Result<String, String> {
    let types = types(schema, root, 4);
    if types.contains(&"string") {
        return Ok(quoted(value));
    }
    let parsed: Option<Value> = serde_json::from_str(value).ok();
    let is_string = parsed.as_ref().is_none_or(Value::is_string);
    if types.is_empty() {
        return Ok(if is_string { quoted(value) } else { value.trim().to_owned() });
    }
    if parsed.as_ref().is_some_and(|parsed| types.iter().any(|wanted| fits(parsed, wanted))) {
        return Ok(value.trim().to_owned());
    }
    if types.contains(&"array") {
        return items(&[value], schema, root);
    }
    Err(format!("{} wanted, {value:?} given", types.join(" or ")))
}

fn fits(value: &Value, wanted: &str) -> bool {
    match (value, wanted) {
        (Value::Number(number), "integer") => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
        }
        (value, wanted) => type_of(value) == wanted,
    }
}

/// A tool's parameters as its schema tells them: name, type, whether it is required, description.
pub fn parameters(schema: &Value) -> Vec<(String, String, bool, String)> {
    let top = resolved(schema, schema);
    let required: Vec<&str> =
        top["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let none = Map::new();
    let properties = top["properties"].as_object().unwrap_or(&none);
    let mut found: Vec<_> = properties
        .iter()
        .map(|(name, property)| {
            let is_required = required.contains(&name.as_str());
            (name.clone(), kind(property, schema), is_required, told(resolved(property, schema)))
        })
        .collect();
    found.sort_by_key(|(_, _, is_required, _)| !is_required);
    found
}

fn kind(property: &Value, root: &Value) -> String {
    let types = types(property, root, 4);
    if types == ["array"] {
        let of = self::types(&resolved(property, root)["items"], root, 4).join("|");
        return if of.is_empty() { "array".into() } else { format!("array of {of}") };
    }
    if types.is_empty() { "any".into() } else { types.join("|") }
}

fn told(property: &Value) -> String {
    let mut told: Vec<String> = property["description"].as_str().map(str::to_owned).into_iter().collect();
    if let Some(words) = property["enum"].as_array() {
        let words: Vec<_> =
            words.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect();
        told.push(format!("[{}]", words.join(", ")));
    }
    if !property["default"].is_null() {
        told.push(format!("(default {})", property["default"]));
    }
    told.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["path"],
            "properties": {
                "path": { "type": "string", "description": "Where." },
                "id": { "type": "integer" },
                "ratio": { "type": "number" },
                "deep": { "type": "boolean", "default": false },
                "tags": { "type": "array", "items": { "type": "string" } },
                "sizes": { "type": "array", "items": { "type": "integer" } },
                "options": { "type": "object" },
                "limit": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
                "mode": { "$ref": "#/$defs/Mode" },
                "free": {}
            },
            "$defs": { "Mode": { "enum": ["read", "write"] } }
        })
    }

    fn read(file: &str) -> Result<String, String> {
        match file {
            "-" => Ok("{\"id\": 9007199254740993123, \"path\": \"in\"}".into()),
            "code.py" => Ok("print(1)\n".into()),
            other => Err(format!("no file {other}")),
        }
    }

    fn given(words: &[&str]) -> Result<String, String> {
        let pieces: Result<Vec<_>, _> = words.iter().map(|word| piece(word, &mut read)).collect();
        object(&pieces?, &schema())
    }

    #[test]
    fn values_take_the_type_of_their_schema() {
        let cases = [
            ("path=007", r#"{"path":"007"}"#),
            ("path=a=b", r#"{"path":"a=b"}"#),
            ("id=9007199254740993", r#"{"id":9007199254740993}"#),
            ("id=123456789012345678901234", r#"{"id":123456789012345678901234}"#),
            ("ratio=1.50", r#"{"ratio":1.50}"#),
            ("ratio=2", r#"{"ratio":2}"#),
            ("deep=true", r#"{"deep":true}"#),
            ("tags=one", r#"{"tags":["one"]}"#),
            (r#"tags=["a","b"]"#, r#"{"tags":["a","b"]}"#),
            (r#"options={"a":1}"#, r#"{"options":{"a":1}}"#),
            ("limit=null", r#"{"limit":null}"#),
            ("mode=read", r#"{"mode":"read"}"#),
            ("free=12", r#"{"free":12}"#),
            ("free=word", r#"{"free":"word"}"#),
            ("unknown=true", r#"{"unknown":true}"#),
            ("path:=[1, 2]", r#"{"path":[1, 2]}"#),
            ("path=@code.py", r#"{"path":"print(1)\n"}"#),
            ("id=@code.py", r#"{"id":"print(1)\n"}"#),
        ];
        for (word, expected) in cases {
            assert_eq!(given(&[word]).as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (word, part) in [
            ("id=abc", "id: integer wanted"),
            ("id=1.5", "integer wanted"),
            ("deep=yes", "boolean wanted"),
            ("sizes=x", "sizes: integer wanted"),
            ("limit=x", "integer or null wanted"),
            ("path:={", "path: not JSON"),
            ("path", "none of key=value"),
            ("=x", "no name"),
            ("path=@missing", "no file missing"),
        ] {
            let wrong = given(&[word]).unwrap_err();
            assert!(wrong.contains(part), "{word}: {wrong}");
        }
    }

    #[test]
    fn a_repeated_key_fills_an_array_and_nothing_else() {
        assert_eq!(given(&["sizes=1", "path=p", "sizes=2"]).unwrap(), r#"{"sizes":[1,2],"path":"p"}"#);
        assert!(given(&["path=a", "path=b"]).unwrap_err().contains("several times"));
    }

    #[test]
    fn a_whole_object_goes_as_it_is_and_keys_win_over_it() {
        assert_eq!(given(&["@-"]).unwrap(), r#"{"id": 9007199254740993123, "path": "in"}"#);
        assert_eq!(given(&["@-", "path=out"]).unwrap(), r#"{"id":9007199254740993123,"path":"out"}"#);
        assert_eq!(given(&[]).unwrap(), "{}");
        let array = [Piece::Whole("[1]".into())];
        assert!(object(&array, &Value::Null).unwrap_err().contains("no JSON object"));
    }

    #[test]
    fn parameters_are_told_with_the_required_ones_first() {
        let parameters = parameters(&schema());
        assert_eq!(parameters[0], ("path".into(), "string".into(), true, "Where.".into()));
        let find = |name: &str| parameters.iter().find(|each| each.0 == name).unwrap();
        assert_eq!(find("tags").1, "array of string");
        assert_eq!((find("mode").1.as_str(), find("mode").3.as_str()), ("string", "[read, write]"));
        assert_eq!(find("deep").3, "(default false)");
        assert_eq!(find("limit").1, "integer|null");
    }
}
