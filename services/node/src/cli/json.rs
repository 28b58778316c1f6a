//! Messages as canonical proto JSON and back, by the descriptors of the contracts; JSON text made readable.
//!
//! JSON text that a tool gave or takes is never parsed into doubles here.

use std::sync::LazyLock;

use anyhow::Context;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("our own descriptors are sound"));

/// What the contract says of a message.
pub fn descriptor<M: Name>() -> anyhow::Result<MessageDescriptor> {
    POOL.get_message_by_name(&M::full_name()).with_context(|| format!("no descriptor of {}", M::full_name()))
}

/// A message as canonical proto JSON with the contract's field names; empty fields are there too.
pub fn of<M: Message + Name>(message: &M) -> anyhow::Result<Value> {
    let dynamic = DynamicMessage::decode(descriptor::<M>()?, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Reads a message from proto JSON; unknown fields are errors.
pub fn read<M: Message + Name + Default>(value: Value) -> anyhow::Result<M> {
    let dynamic = DynamicMessage::deserialize(descriptor::<M>()?, value)?;
    Ok(dynamic.transcode_to()?)
}

/// Full names of every service of the contracts.
pub fn services() -> Vec<String> {
    POOL.services().map(|service| service.full_name().to_owned()).collect()
}

/// JSON text with line feeds and indentation; its numbers, order and escapes stay as they are.
/// Text that is not JSON comes back unchanged.
pub fn pretty(text: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                while rest.peek().is_some_and(char::is_ascii_whitespace) {
                    rest.next();
                }
                out.push(c);
                if let Some(close) = rest.next_if(|&next| next == '}' || next == ']') {
                    out.push(close);
                } else {
                    depth += 1;
                    break_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use proto::registry::v1::{ListToolsResponse, Tool, ToolDefinition};

    use super::*;

    #[test]
    fn a_message_becomes_canonical_json_with_the_contracts_names() {
        let definition = ToolDefinition {
            name: "t".into(),
            effect: 1,
            timeout_ms: 30_000,
            input_schema_json: "{\"type\":\"object\"}".into(),
            ..ToolDefinition::default()
        };
        let tool = Tool { definition: Some(definition.clone()), revision: i64::MAX, ..Tool::default() };
        let value = of(&ListToolsResponse { tools: vec![tool], ..Default::default() }).unwrap();
        let tool = &value["tools"][0];
        assert_eq!(tool["revision"], "9223372036854775807");
        assert_eq!(tool["definition"]["effect"], "EFFECT_READ_ONLY");
        assert_eq!(tool["definition"]["input_schema_json"], "{\"type\":\"object\"}");
        assert_eq!(value["next_page_token"], "");
        assert_eq!(read::<ToolDefinition>(tool["definition"].clone()).unwrap(), definition);
        assert!(read::<ToolDefinition>(serde_json::json!({ "nam": "t" })).is_err());
    }

    #[test]
    fn an_empty_list_is_still_a_list() {
        assert_eq!(of(&ListToolsResponse::default()).unwrap()["tools"], serde_json::json!([]));
    }

    #[test]
    fn every_service_is_known() {
        let services = services();
        assert!(services.contains(&"toolcrib.executor.v1.ExecutorService".to_owned()), "{services:?}");
        assert_eq!(services.len(), 5);
    }

    #[test]
    fn pretty_keeps_numbers_order_and_strings() {
        let text = r#"{"z":9007199254740993123,"a":[ ],"s":"x\"{,}\\","o":{"n":[1.0,null]}}"#;
        let expected = "{\n  \"z\": 9007199254740993123,\n  \"a\": [],\n  \"s\": \"x\\\"{,}\\\\\",\n  \
                        \"o\": {\n    \"n\": [\n      1.0,\n      null\n    ]\n  }\n}";
        assert_eq!(pretty(text), expected);
        assert_eq!(pretty("not json {"), "not json {");
        assert_eq!(pretty(" {} "), "{}");
    }
}
