//! What the answer of an MCP server means: the result as JSON, or the failure, whether trying again may help, and
//! whether the tool may have acted. Pure.

use ::mcp::{Error as McpError, ToolResult};
use serde_json::{Value, json};

use super::classify;
use crate::outcome::{Ended, Reached, ToolError, ToolErrorCode};

/// Longest text of a tool in its failure, in characters.
const MAX_TEXT: usize = 2_000;

/// Structured content is the result. Without it, a single text that is a JSON object or array is, where the
/// tool promises structure; else the content blocks are, as they came.
pub(super) fn result(result: ToolResult, output_schema: &str) -> Ended {
    if result.is_error {
        let message = texts(&result.content);
        let message = if message.is_empty() { "the tool reported an error".to_owned() } else { message };
        return Err(ToolError::new(ToolErrorCode::ToolFailed, message).having(Reached::Yes));
    }
    if let Some(structured) = result.structured {
        return Ok(structured.to_string());
    }
    if let Some(text) = json_text(&result.content).filter(|_| !output_schema.is_empty()) {
        return Ok(text.to_owned());
    }
    let mut plain = json!({ "content": result.content });
    // What the model behind the tool has used is counted.
    if let Some(usage) = result.meta.as_ref().and_then(|meta| meta.get("usage")) {
        plain["_meta"] = json!({ "usage": usage });
    }
    Ok(plain.to_string())
}

fn json_text(content: &[Value]) -> Option<&str> {
    let [block] = content else { return None };
    let text = block.get("text").filter(|_| block["type"] == "text")?.as_str()?.trim();
    let value: Value = serde_json::from_str(text).ok()?;
    (value.is_object() || value.is_array()).then_some(text)
}

fn texts(content: &[Value]) -> String {
    let texts: Vec<&str> = content.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    texts.join("\n").chars().take(MAX_TEXT).collect()
}

/// A call that brought no result of the tool.
pub(super) fn failure(error: &McpError) -> ToolError {
    let code = match error {
        McpError::Timeout { .. } => ToolErrorCode::Timeout,
        McpError::Protocol { .. } | McpError::Handshake { .. } | McpError::Unusable { .. } => {
            ToolErrorCode::Protocol
        }
        McpError::Http { status, .. } => classify::code_of(*status),
        McpError::TooLarge { .. } => ToolErrorCode::ResultTooLarge,
        McpError::Certificate(fault) => return classify::certificate(fault).having(Reached::No),
        _ => ToolErrorCode::Unreachable,
    };
    let (retryable, retry_after) = match error {
        McpError::Http { status, retry_after } => (classify::is_passing(*status), *retry_after),
        McpError::Timeout { .. } | McpError::Closed { .. } => (true, None),
        error => (error.is_unsent(), None),
    };
    ToolError {
        retryable,
        retry_after_ms: retry_after.and_then(|wait| i64::try_from(wait.as_millis()).ok()).unwrap_or(0),
        reached: reached(error),
        is_unauthenticated: matches!(error, McpError::Http { status: 401, .. }),
        ..ToolError::new(code, error.to_string())
    }
}

fn reached(error: &McpError) -> Reached {
    if error.is_unsent() || error.is_refused() {
        return Reached::No;
    }
    match error {
        // It answered, only not in a way that can be used; any other status is an answer as well.
        McpError::TooLarge { .. } | McpError::Http { status: 400..=407 | 409..=499, .. } => Reached::Yes,
        _ => Reached::Maybe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content: &Value, structured: Option<Value>, meta: Option<Value>) -> ToolResult {
        let content = content.as_array().unwrap().clone();
        ToolResult { structured, content, meta, is_error: false }
    }

    #[test]
    fn structured_content_is_the_result_and_plain_content_is_kept_whole() {
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        let schema = r#"{"type":"object"}"#;
        let given = answer(&text("{\"a\":2}"), Some(json!({"a": 1})), None);
        assert_eq!(result(given, schema).unwrap(), r#"{"a":1}"#);
        // Big numbers stay as they were written.
        let big = text(r#" {"a":9007199254740993.10} "#);
        assert_eq!(result(answer(&big, None, None), schema).unwrap(), r#"{"a":9007199254740993.10}"#);
        for (content, schema) in [
            (big, ""),
            (text("7"), schema),
            (text("{broken"), schema),
            (json!([{"type": "text", "text": "{}"}, {"type": "text", "text": "{}"}]), schema),
            (json!([{"type": "image", "data": "aGk=", "mimeType": "image/png"}]), schema),
            (json!([{"type": "resource", "resource": {"uri": "file:///a", "text": "{}"}}]), schema),
            (json!([]), schema),
        ] {
            let kept: Value =
                serde_json::from_str(&result(answer(&content, None, None), schema).unwrap()).unwrap();
            assert_eq!(kept, json!({ "content": content }));
        }
        let meta = Some(json!({"usage": {"input_tokens": 3}, "other": 1}));
        let kept: Value = serde_json::from_str(&result(answer(&json!([]), None, meta), "").unwrap()).unwrap();
        assert_eq!(kept, json!({"content": [], "_meta": {"usage": {"input_tokens": 3}}}));
    }

    #[test]
    fn an_error_of_the_tool_has_been_its_work() {
        let content = vec![json!({"type": "text", "text": "out of paper"})];
        let error =
            result(ToolResult { structured: None, content, meta: None, is_error: true }, "").unwrap_err();
        assert_eq!(
            (error.code, error.reached, error.retryable),
            (ToolErrorCode::ToolFailed, Reached::Yes, false)
        );
        assert_eq!(error.message, "out of paper");
    }
}
