//! Tools to register, and what they gave.

use proto::{
    executor::v1::Execution,
    registry::v1::{Binding, HttpBinding, ToolDefinition, binding::Kind},
    types::v1::{Category, Effect},
};
use serde_json::{Value, json};

/// A tool that is one HTTP request.
#[derive(Debug, Clone)]
pub struct HttpTool {
    /// All but the binding.
    pub definition: ToolDefinition,
    /// The binding.
    pub http: HttpBinding,
}

impl HttpTool {
    /// A tool that GETs an address of this machine and takes any arguments; each call counts as a side effect.
    pub fn new(name: &str, url: String) -> Self {
        let definition = ToolDefinition {
            name: name.to_owned(),
            description: format!("The tool {name} of a test."),
            category: Category::ApiIntegration.into(),
            capabilities: vec!["integrate".to_owned()],
            effect: Effect::SideEffect.into(),
            input_schema_json: json!({"type": "object"}).to_string(),
            timeout_ms: 30_000,
            ..ToolDefinition::default()
        };
        let http = HttpBinding {
            method: "GET".to_owned(),
            url,
            allow_private_network: true,
            ..HttpBinding::default()
        };
        Self { definition, http }
    }

    /// The same, with a result that must keep to this schema.
    #[must_use]
    pub fn giving(mut self, output_schema: &Value) -> Self {
        self.definition.output_schema_json = output_schema.to_string();
        self
    }

    /// The same, with arguments that must keep to this schema.
    #[must_use]
    pub fn taking(mut self, input_schema: &Value) -> Self {
        self.definition.input_schema_json = input_schema.to_string();
        self
    }

    /// The same, changing nothing where it is sent.
    #[must_use]
    pub fn reading(mut self) -> Self {
        self.definition.effect = Effect::ReadOnly.into();
        self
    }

    /// The same, at this price of a call, in millionths of a US dollar.
    #[must_use]
    pub fn costing(mut self, micro_usd: i64) -> Self {
        self.definition.cost_micro_usd = micro_usd;
        self
    }

    /// The same, sending its arguments as a JSON body.
    #[must_use]
    pub fn posting(self) -> Self {
        let http = HttpBinding { method: "POST".to_owned(), body_json: true, ..self.http };
        Self { http, ..self }
    }
}

impl From<HttpTool> for ToolDefinition {
    fn from(tool: HttpTool) -> Self {
        Self { binding: Some(Binding { kind: Some(Kind::Http(tool.http)) }), ..tool.definition }
    }
}

/// The result of an execution, whatever its status.
pub fn result(execution: &Execution) -> Value {
    serde_json::from_str(&execution.result_json).unwrap_or_else(|error| panic!("{error}: {execution:?}"))
}
