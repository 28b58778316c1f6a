//! Tools and their results as a server describes them, free of `rmcp`'s types. A server's claims are passed
//! on as they are; this file must never believe one.

use rmcp::model::{CallToolResult, Tool as RmcpTool, ToolAnnotations};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// A tool a server offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name, unique within the server if the server keeps to the protocol.
    pub name: String,
    /// A name for people.
    pub title: Option<String>,
    /// What it does; empty where the server says nothing.
    pub description: String,
    /// JSON Schema of the arguments, always an object.
    pub input_schema: Value,
    /// JSON Schema of [`ToolResult::structured`], where the server promises one.
    pub output_schema: Option<Value>,
    /// The server's claims about the tool's effects.
    pub annotations: Annotations,
}

/// What a server claims about a tool. Claims only: they may make a policy stricter, never laxer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    /// A name for people.
    pub title: Option<String>,
    /// The tool changes nothing.
    pub read_only: Option<bool>,
    /// The tool may destroy something.
    pub destructive: Option<bool>,
    /// Calling again with the same arguments changes nothing more.
    pub idempotent: Option<bool>,
    /// The tool reaches beyond a closed set of things.
    pub open_world: Option<bool>,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The structured result, where the tool gives one.
    pub structured: Option<Value>,
    /// Content blocks as MCP defines them (`{"type":"text","text":…}`).
    pub content: Vec<Value>,
    /// What the server says besides (`_meta`), an object.
    pub meta: Option<Value>,
    /// The tool itself failed; the content says why.
    pub is_error: bool,
}

impl From<RmcpTool> for Tool {
    fn from(tool: RmcpTool) -> Self {
        Self {
            name: tool.name.into_owned(),
            title: tool.title,
            description: tool.description.unwrap_or_default().into_owned(),
            input_schema: Value::Object(std::sync::Arc::unwrap_or_clone(tool.input_schema)),
            output_schema: tool
                .output_schema
                .map(|schema| Value::Object(std::sync::Arc::unwrap_or_clone(schema))),
            annotations: tool.annotations.map(Annotations::from).unwrap_or_default(),
        }
    }
}

impl From<ToolAnnotations> for Annotations {
    fn from(claims: ToolAnnotations) -> Self {
        Self {
            title: claims.title,
            read_only: claims.read_only_hint,
            destructive: claims.destructive_hint,
            idempotent: claims.idempotent_hint,
            open_world: claims.open_world_hint,
        }
    }
}

impl TryFrom<CallToolResult> for ToolResult {
    type Error = Error;

    fn try_from(result: CallToolResult) -> Result<Self, Error> {
        let unusable = |error: serde_json::Error| Error::unusable(&error.to_string());
        let content = result.content.iter().map(serde_json::to_value).collect::<Result<_, _>>();
        let meta = result.meta.map(|meta| serde_json::to_value(meta).map_err(unusable)).transpose()?;
        Ok(Self {
            structured: result.structured_content,
            content: content.map_err(unusable)?,
            meta,
            is_error: result.is_error.unwrap_or(false),
        })
    }
}

impl Tool {
    /// Size as JSON text, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let mut count = Count(0);
        match serde_json::to_writer(&mut count, self) {
            Ok(()) => count.0,
            Err(_) => usize::MAX,
        }
    }
}

/// Counts what is written to it and keeps nothing.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tool_keeps_its_schemas_and_claims() {
        let tool: RmcpTool = serde_json::from_value(json!({
            "name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "x": 1},
            "annotations": {"readOnlyHint": true, "destructiveHint": false},
        }))
        .unwrap();
        let tool = Tool::from(tool);
        assert_eq!(tool.description, "");
        assert_eq!(tool.output_schema, Some(json!({"type": "object", "x": 1})));
        assert_eq!(tool.annotations.read_only, Some(true));
        assert_eq!((tool.annotations.destructive, tool.annotations.open_world), (Some(false), None));
        assert_eq!(tool.bytes(), serde_json::to_vec(&tool).unwrap().len());
    }
}
