//! JSON Schemas of messages, by the protobuf JSON mapping ("`ProtoJSON` Format"). Fields stand under their JSON names
//! only, the one spelling that a model is shown; 64-bit integers are texts (taken as numbers too), bytes are base64,
//! enums are names (numbers are taken, and come back for values that the descriptors do not know). Messages stand once,
//! under `$defs`, so that they may hold themselves. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ::schema::MAX_BYTES;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{comments::Comments, prune::MAX_TYPES};

/// Longest comment of a field or message, in characters.
const MAX_COMMENT: usize = 500;
/// Names that an enum may have to stand where it is used.
const MAX_INLINE: usize = 8;
/// Members of a oneof for which the schema says that only one may be given; the driver refuses two of any.
const MAX_ONEOF: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Input,
    Output,
}

/// The schema of a request, which must be an object in JSON.
pub(super) fn input(message: &MessageDescriptor, comments: &mut Comments) -> Result<Value, String> {
    let schema = Schemas::new(Direction::Input, comments).whole(message)?;
    if schema.get("type").and_then(Value::as_str) == Some("object") {
        return Ok(schema);
    }
    Err(format!(
        "its request is a {}, which is no object in JSON, so that arguments have no names",
        message.full_name()
    ))
}

/// The schema of an answer.
pub(super) fn output(message: &MessageDescriptor, comments: &mut Comments) -> Result<Value, String> {
    Schemas::new(Direction::Output, comments).whole(message)
}

struct Schemas<'a> {
    direction: Direction,
    comments: &'a mut Comments,
    definitions: BTreeMap<String, Value>,
    seen: BTreeSet<String>,
    pending: Vec<MessageDescriptor>,
    /// Bytes of the properties and enums so far: a schema that nobody could keep is not built to its end.
    bytes: usize,
}

impl<'a> Schemas<'a> {
    fn new(direction: Direction, comments: &'a mut Comments) -> Self {
        let (definitions, seen, pending) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Self { direction, comments, definitions, seen, pending, bytes: 0 }
    }

    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            let told = "its request or answer has a schema of more than";
            return Err(format!("{told} {MAX_BYTES} bytes"));
        }
        Ok(())
    }

    fn whole(mut self, message: &MessageDescriptor) -> Result<Value, String> {
        let mut schema = match well_known(message.full_name(), self.direction) {
            Some(schema) => schema,
            None => self.object(message)?,
        };
        while let Some(next) = self.pending.pop() {
            if self.seen.len() > MAX_TYPES {
                return Err(format!("its request or answer consists of more than {MAX_TYPES} messages"));
            }
            let object = self.object(&next)?;
            self.definitions.insert(next.full_name().to_owned(), object);
        }
        if !self.definitions.is_empty() {
            schema["$defs"] = json!(self.definitions);
        }
        Ok(schema)
    }

    fn object(&mut self, message: &MessageDescriptor) -> Result<Value, String> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in message.fields() {
            let property = self.described(&field)?;
            self.charge(field.json_name().len() + property.to_string().len())?;
            properties.insert(field.json_name().to_owned(), property);
            if field.is_required() {
                required.push(field.json_name().to_owned());
            }
        }
        let mut object = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        if self.direction == Direction::Input {
            object["additionalProperties"] = json!(false);
            let choices = choices(message);
            if !choices.is_empty() {
                object["dependentSchemas"] = json!(choices);
            }
        }
        let comment = self.comments.at(&message.parent_file(), message.path(), MAX_COMMENT);
        if !comment.is_empty() {
            object["description"] = json!(comment);
        }
        Ok(object)
    }

    fn described(&mut self, field: &FieldDescriptor) -> Result<Value, String> {
        let mut schema = self.field(field)?;
        let file = field.parent_message().parent_file();
        let mut told = vec![self.comments.at(&file, field.path(), MAX_COMMENT)];
        let choice = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        if let Some(oneof) = choice.filter(|_| self.direction == Direction::Input) {
            let names: Vec<String> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
            if names.len() > 1 {
                told.push(format!("At most one of {} may be given.", names.join(", ")));
            }
        }
        told.retain(|text| !text.is_empty());
        if !told.is_empty() {
            schema["description"] = json!(told.join(" "));
        }
        if field.field_descriptor_proto().options.as_ref().is_some_and(prost_types::FieldOptions::deprecated)
        {
            schema["deprecated"] = json!(true);
        }
        Ok(schema)
    }

    fn field(&mut self, field: &FieldDescriptor) -> Result<Value, String> {
        if let Kind::Message(entry) = field.kind()
            && field.is_map()
        {
            let values = self.value(&entry.map_entry_value_field().kind())?;
            let mut map = json!({"type": "object", "additionalProperties": values});
            match entry.map_entry_key_field().kind() {
                Kind::String => {}
                Kind::Bool => map["propertyNames"] = json!({"enum": ["true", "false"]}),
                _ => map["propertyNames"] = json!({"pattern": "^-?[0-9]{1,20}$"}),
            }
            return Ok(map);
        }
        let value = self.value(&field.kind())?;
        Ok(if field.is_list() { json!({"type": "array", "items": value}) } else { value })
    }

    fn value(&mut self, kind: &Kind) -> Result<Value, String> {
        match kind {
            Kind::Message(message) => Ok(self.message(message)),
            Kind::Enum(values) => self.enumeration(values),
            scalar => Ok(self::scalar(scalar, self.direction)),
        }
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.full_name();
        if let Some(schema) = well_known(name, self.direction) {
            return schema;
        }
        if self.seen.insert(name.to_owned()) {
            self.pending.push(message.clone());
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }

    fn enumeration(&mut self, values: &EnumDescriptor) -> Result<Value, String> {
        let name = values.full_name();
        if name == "google.protobuf.NullValue" {
            return Ok(json!({"type": "null"}));
        }
        let reference = json!({"$ref": format!("#/$defs/{name}")});
        if self.definitions.contains_key(name) {
            return Ok(reference);
        }
        let mut names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
        names.dedup();
        let few = names.len() <= MAX_INLINE;
        let schema = json!({"anyOf": [{"type": "string", "enum": names}, {"type": "integer"}]});
        if few {
            return Ok(schema);
        }
        self.charge(schema.to_string().len())?;
        self.definitions.insert(name.to_owned(), schema);
        Ok(reference)
    }
}

/// For each member of a oneof, that the others may not be given with it.
fn choices(message: &MessageDescriptor) -> Map<String, Value> {
    let mut choices = Map::new();
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let names: Vec<String> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
        if !(2..=MAX_ONEOF).contains(&names.len()) {
            continue;
        }
        for name in &names {
            let others: Map<String, Value> = names
                .iter()
                .filter(|other| *other != name)
                .map(|other| (other.clone(), json!(false)))
                .collect();
            choices.insert(name.clone(), json!({"properties": others}));
        }
    }
    choices
}

fn scalar(kind: &Kind, direction: Direction) -> Value {
    let integer =
        |minimum: i64, maximum: i64| json!({"type": "integer", "minimum": minimum, "maximum": maximum});
    match kind {
        Kind::Double | Kind::Float => {
            json!({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]})
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(i32::MIN.into(), i32::MAX.into()),
        Kind::Uint32 | Kind::Fixed32 => integer(0, u32::MAX.into()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => long("int64", "^-?[0-9]{1,20}$", direction),
        Kind::Uint64 | Kind::Fixed64 => long("uint64", "^[0-9]{1,20}$", direction),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::String | Kind::Message(_) | Kind::Enum(_) => json!({"type": "string"}),
    }
}

/// A number in JSON is exact up to 2^53 only.
fn long(format: &str, pattern: &str, direction: Direction) -> Value {
    match direction {
        Direction::Input => json!({"type": ["string", "integer"], "format": format, "pattern": pattern}),
        Direction::Output => json!({"type": "string", "format": format}),
    }
}

/// The types that have a JSON form of their own.
fn well_known(full_name: &str, direction: Direction) -> Option<Value> {
    let plain = |kind: Kind| scalar(&kind, direction);
    Some(match full_name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$"}),
        "FieldMask" => json!({"type": "string"}),
        "Struct" => json!({"type": "object"}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array"}),
        "Any" => {
            json!({"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}})
        }
        "Empty" => json!({"type": "object", "additionalProperties": false}),
        "DoubleValue" | "FloatValue" => plain(Kind::Double),
        "Int32Value" => plain(Kind::Int32),
        "UInt32Value" => plain(Kind::Uint32),
        "Int64Value" => plain(Kind::Int64),
        "UInt64Value" => plain(Kind::Uint64),
        "BoolValue" => plain(Kind::Bool),
        "StringValue" => plain(Kind::String),
        "BytesValue" => plain(Kind::Bytes),
        _ => return None,
    })
}
