//! `google.protobuf.Any` of a type that the descriptors do not hold: JSON has no form for it, and it must not cost the
//! rest of the answer. It becomes its type and its bytes in base64. Pure.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value as Field};
use prost_types::{
    Any, DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use serde_json::Value;

const ANY: &str = "google.protobuf.Any";
/// The message that stands in for one of an unknown type, until it is JSON.
const STAND_IN: &str = "toolcrib.any.StandIn";

/// Most of them in one another: each is decoded anew, beyond the limit on recursion of the one around it.
const MAX_DEPTH: usize = 16;

/// That message, encoded like `google.protobuf.Any`: `string type_url = 1; bytes value = 2;`.
pub(crate) fn file() -> FileDescriptorProto {
    let field = |name: &str, number: i32, kind: Type| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        ..FieldDescriptorProto::default()
    };
    FileDescriptorProto {
        name: Some("toolcrib/any/stand_in.proto".to_owned()),
        package: Some("toolcrib.any".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![DescriptorProto {
            name: Some("StandIn".to_owned()),
            field: vec![field("type_url", 1, Type::String), field("value", 2, Type::Bytes)],
            ..DescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    }
}

/// Wraps every one of an unknown type; says whether there was any.
pub(crate) fn wrap(message: &mut DynamicMessage) -> bool {
    wrap_within(message, 0)
}

/// `depth` is how many of them this one stands in.
fn wrap_within(message: &mut DynamicMessage, depth: usize) -> bool {
    let descriptor = message.descriptor();
    if descriptor.full_name() == ANY {
        return wrap_one(message, descriptor.parent_pool(), depth);
    }
    let mut wrapped = false;
    for (_, value) in message.fields_mut() {
        match value {
            Field::Message(inner) => wrapped |= wrap_within(inner, depth),
            Field::List(items) => {
                for inner in items.iter_mut().filter_map(Field::as_message_mut) {
                    wrapped |= wrap_within(inner, depth);
                }
            }
            Field::Map(entries) => {
                for inner in entries.values_mut().filter_map(Field::as_message_mut) {
                    wrapped |= wrap_within(inner, depth);
                }
            }
            _ => {}
        }
    }
    wrapped
}

fn wrap_one(message: &mut DynamicMessage, pool: &DescriptorPool, depth: usize) -> bool {
    let Ok(any) = message.transcode_to::<Any>() else { return false };
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let is_known = depth < MAX_DEPTH
        && any.type_url.contains('/')
        && pool.get_message_by_name(name).is_some_and(|known| {
            DynamicMessage::decode(known, any.value.as_slice()).is_ok_and(|mut inner| {
                // One of an unknown type inside would need another look: it is given as bytes as a whole.
                !wrap_within(&mut inner, depth + 1)
            })
        });
    if is_known {
        return false;
    }
    let wrapper = Any { type_url: format!("toolcrib/{STAND_IN}"), value: any.encode_to_vec() };
    message.transcode_from(&wrapper).is_ok()
}

/// Writes what was wrapped as `{"@type": type, "value": base64}`.
pub(crate) fn unwrap(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let type_of = members.get("@type").and_then(Value::as_str).unwrap_or_default();
            if type_of.strip_prefix("toolcrib/") == Some(STAND_IN) {
                members.remove("@type");
                let own = members.remove("typeUrl").unwrap_or_default();
                members.insert("@type".to_owned(), own);
            } else {
                members.values_mut().for_each(unwrap);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::SerializeOptions;
    use prost_types::{FileDescriptorSet, Struct};

    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: format!("type.googleapis.com/{type_url}"), value }
    }

    /// The JSON of an `Any`, in a pool that holds the well-known types.
    fn json(any: &Any) -> Value {
        let files = DescriptorPool::global().file_descriptor_protos().cloned().collect();
        let mut pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: files }).unwrap();
        pool.add_file_descriptor_proto(file()).unwrap();
        let mut message = DynamicMessage::new(pool.get_message_by_name(ANY).unwrap());
        message.transcode_from(any).unwrap();
        wrap(&mut message);
        let options = SerializeOptions::new().skip_default_fields(false);
        let mut value = message.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
        unwrap(&mut value);
        value
    }

    #[test]
    fn known_types_are_json_and_unknown_ones_bytes() {
        let known = json(&any("google.protobuf.Struct", Struct::default().encode_to_vec()));
        assert_eq!(
            known,
            serde_json::json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}})
        );
        let unknown = json(&any("a.B", vec![1, 2]));
        assert_eq!(unknown, serde_json::json!({"@type": "type.googleapis.com/a.B", "value": "AQI="}));
        let none = json(&Any::default());
        assert_eq!(none, serde_json::json!({"@type": "", "value": ""}));
    }

    #[test]
    fn however_many_stand_in_one_another_the_answer_is_read() {
        let mut nested = any("a.B", vec![1]);
        for _ in 0..20_000 {
            nested = any("google.protobuf.Any", nested.encode_to_vec());
        }
        assert_eq!(json(&nested)["@type"], "type.googleapis.com/google.protobuf.Any");
    }
}
