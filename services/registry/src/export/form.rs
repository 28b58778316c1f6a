//! One tool in the form of a model API. No I/O.
//!
//! Sources: the `OpenAI` API reference (chat completions, `tools`) and the error that it answers, "schema must have type
//! 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'const'/'not' at the top level"; the Anthropic API reference
//! (messages, `tools`) and its errors, "`input_schema` does not support oneOf, allOf, or anyOf at the top level" and
//! "Property keys should match pattern"; Model Context Protocol 2025-11-25, server features, tools.

use serde_json::{Value, json};
use types::{Category, Effect};

use super::{flatten::flatten, name::exported};
use crate::definition::{Binding, Definition};

/// The form of a model API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    OpenAi,
    Anthropic,
    Mcp,
}

/// Most characters of a description that `OpenAI` takes.
const OPENAI_DESCRIPTION: usize = 1_024;
const OPENAI_NAME: usize = 64;
const OPENAI_REFUSED: [&str; 6] = ["allOf", "anyOf", "oneOf", "enum", "const", "not"];
const ANTHROPIC_NAME: usize = 128;
const ANTHROPIC_PROPERTY: usize = 64;
const ANTHROPIC_REFUSED: [&str; 3] = ["allOf", "anyOf", "oneOf"];

impl Form {
    /// The tool's name in this form.
    pub(crate) fn name(self, name: &str) -> String {
        match self {
            Self::OpenAi => exported(name, OPENAI_NAME),
            Self::Anthropic => exported(name, ANTHROPIC_NAME),
            // MCP takes every name that a tool can have here.
            Self::Mcp => name.to_owned(),
        }
    }

    /// The tool; or why it cannot be told in this form.
    pub(crate) fn tool(self, definition: &Definition) -> Result<Value, String> {
        let name = self.name(&definition.name);
        let schema: Value = serde_json::from_str(&definition.input_schema).unwrap_or_default();
        match self {
            Self::OpenAi => Ok(json!({"type": "function", "function": {
                "name": name,
                "description": cut(&definition.description, OPENAI_DESCRIPTION),
                "parameters": flatten(schema, &OPENAI_REFUSED),
            }})),
            Self::Anthropic => {
                let schema = flatten(schema, &ANTHROPIC_REFUSED);
                if let Some(property) = unfit_property(&schema) {
                    return Err(format!(
                        "its parameter {property:?} has a name that this form does not take: 1 to {ANTHROPIC_PROPERTY} \
                         characters of A-Z, a-z, 0-9, _, . and -"
                    ));
                }
                Ok(json!({"name": name, "description": definition.description, "input_schema": schema}))
            }
            Self::Mcp => Ok(mcp(&name, definition, &schema)),
        }
    }
}

fn mcp(name: &str, definition: &Definition, schema: &Value) -> Value {
    let mut tool = json!({
        "name": name,
        "description": definition.description,
        "inputSchema": schema,
        "annotations": annotations(definition),
    });
    if !definition.title.is_empty() {
        tool["title"] = json!(definition.title);
    }
    let output: Option<Value> = serde_json::from_str(&definition.output_schema).ok();
    // MCP's structured results are objects.
    if let Some(output) = output.filter(|output| output.get("type") == Some(&json!("object"))) {
        tool["outputSchema"] = output;
    }
    tool
}

fn annotations(definition: &Definition) -> Value {
    let is_open = match definition.binding {
        Binding::Builtin(_) => matches!(
            definition.category,
            Category::WebSearch
                | Category::ApiIntegration
                | Category::DataRetrieval
                | Category::Communication
        ),
        Binding::Http(_) | Binding::Grpc(_) | Binding::Mcp(_) => true,
    };
    let reads = definition.effect == Effect::ReadOnly;
    json!({
        "readOnlyHint": reads,
        // What may be done twice may destroy all the same.
        "destructiveHint": !reads,
        "idempotentHint": definition.effect != Effect::SideEffect,
        "openWorldHint": is_open,
    })
}

fn unfit_property(schema: &Value) -> Option<&str> {
    let is_fit = |name: &str| {
        (1..=ANTHROPIC_PROPERTY).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.and_then(|properties| properties.keys().find(|name| !is_fit(name))).map(String::as_str)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most - 1) {
        Some((end, _)) if text.chars().count() > most => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{self, Origin},
        definition::Proposal,
    };

    fn definition(proposal: Proposal) -> Definition {
        check::check(proposal, Origin::Person).unwrap()
    }

    fn searching() -> Definition {
        definition(Proposal {
            name: "shop.find-orders".into(),
            title: "Find orders".into(),
            description: "é".repeat(2_000),
            effect: Some(Effect::Idempotent),
            input_schema: r#"{"type":"object","anyOf":[{"required":["a"]},{"required":["b"]}],
                "properties":{"a":{"type":"string"},"b":{}}}"#
                .into(),
            output_schema: r#"{"type":"object"}"#.into(),
            ..check::tests::proposal()
        })
    }

    #[test]
    fn openai_gets_functions_whose_parameters_are_plain_objects() {
        let tool = Form::OpenAi.tool(&searching()).unwrap();
        let function = &tool["function"];
        assert_eq!((&tool["type"], &function["name"]), (&json!("function"), &json!("shop__find-orders")));
        let description = function["description"].as_str().unwrap();
        assert!(description.chars().count() == 1_024 && description.ends_with("é…"));
        assert_eq!(function["parameters"]["type"], "object");
        assert!(OPENAI_REFUSED.iter().all(|key| function["parameters"].get(key).is_none()));
        assert!(function["parameters"].get("required").is_none());
        assert_eq!(cut(&"x".repeat(1_024), 1_024), "x".repeat(1_024));
    }

    #[test]
    fn anthropic_gets_its_fields_and_no_property_it_would_refuse() {
        let tool = Form::Anthropic.tool(&searching()).unwrap();
        let mut names: Vec<&String> = tool.as_object().unwrap().keys().collect();
        names.sort_unstable();
        assert_eq!(names, ["description", "input_schema", "name"]);
        assert_eq!(tool["description"].as_str().unwrap().chars().count(), 2_000);
        assert!(tool["input_schema"].get("anyOf").is_none());
        for (property, fits) in
            [("a.b-c_D", true), ("filter[name]", false), ("", false), (&"x".repeat(65), false)]
        {
            let input_schema = json!({"type": "object", "properties": {property: {}}}).to_string();
            let tool =
                Form::Anthropic.tool(&definition(Proposal { input_schema, ..check::tests::proposal() }));
            assert_eq!(tool.is_ok(), fits, "{property}");
        }
    }

    #[test]
    fn mcp_gets_name_schemas_and_hints_as_they_are() {
        let tool = Form::Mcp.tool(&searching()).unwrap();
        assert_eq!((&tool["name"], &tool["title"]), (&json!("shop.find-orders"), &json!("Find orders")));
        assert!(
            tool["inputSchema"].get("anyOf").is_some() && tool["outputSchema"] == json!({"type": "object"})
        );
        let hints = |effect| {
            let definition = definition(Proposal { effect: Some(effect), ..check::tests::proposal() });
            let tool = Form::Mcp.tool(&definition).unwrap();
            assert!(tool.get("title").is_none() && tool.get("outputSchema").is_none());
            let hint = |name: &str| tool["annotations"][name].as_bool().unwrap();
            [hint("readOnlyHint"), hint("destructiveHint"), hint("idempotentHint"), hint("openWorldHint")]
        };
        assert_eq!(hints(Effect::ReadOnly), [true, false, true, true]);
        assert_eq!(hints(Effect::Idempotent), [false, true, true, true]);
        assert_eq!(hints(Effect::SideEffect), [false, true, false, true]);
    }
}
