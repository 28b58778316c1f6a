//! What a tool gave, before anyone sees it: it must be JSON, of a size, and keep to the output schema in the tool's
//! mode. What is too large to travel becomes an artifact.

use std::sync::Arc;

use proto::registry::v1::OutputMode;
use serde_json::Value;

use crate::{
    Executor, artifact,
    attempt::Candidate,
    outcome::{ToolError, ToolErrorCode},
    run::Run,
    validate::Violation,
};

/// Most tokens of a kind that one result may report.
const MAX_TOKENS: i64 = 1_000_000_000_000;

/// A result that may be answered.
#[derive(Debug)]
pub(crate) struct Checked {
    pub text: String,
    /// What the text says, unless the result became an artifact.
    pub value: Option<Arc<Value>>,
    /// Where it breaks the schema, when the tool's mode lets that pass.
    pub warnings: Vec<Violation>,
    /// Input and output tokens that it reports.
    pub tokens: (i64, i64),
}

/// A failure, and what the tool gave nevertheless.
type Refused = (ToolError, Option<String>);

/// Checks a result.
pub(crate) async fn check(
    executor: &Executor,
    run: &Run,
    candidate: &Candidate<'_>,
    text: String,
) -> Result<Checked, Refused> {
    if text.len() > executor.max_artifact_bytes {
        let (has, most) = (text.len(), executor.max_artifact_bytes);
        let message = format!("the result has {has} bytes, at most {most} are taken");
        return Err((ToolError::new(ToolErrorCode::ResultTooLarge, message), None));
    }
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        (ToolError::new(ToolErrorCode::InvalidResult, format!("the result is not JSON: {error}")), None)
    })?;
    let tokens = tokens(&value);
    let fits = text.len() <= executor.max_result_bytes;
    let violations = violations(executor, candidate, &value);
    let mode = candidate.settings.output_mode;
    if !violations.is_empty() && mode != OutputMode::Warn {
        let places = violations.len();
        let message = format!("the result breaks the tool's output schema in {places} places");
        let error = ToolError { violations, ..ToolError::new(ToolErrorCode::InvalidResult, message) };
        return Err((error, fits.then_some(text)));
    }
    let (text, value) = if fits {
        (text, Some(Arc::new(value)))
    } else {
        drop(value);
        (artifact::keep(executor, run, text).await.map_err(|e| (e, None))?, None)
    };
    Ok(Checked { text, value, warnings: violations, tokens })
}

fn violations(executor: &Executor, candidate: &Candidate<'_>, value: &Value) -> Vec<Violation> {
    let definition = candidate.tool.definition.as_ref();
    let schema = definition.map_or("", |definition| definition.output_schema_json.as_str());
    if schema.is_empty() || candidate.settings.output_mode == OutputMode::Off {
        return Vec::new();
    }
    executor.schemas.check(schema, value)
}

/// The tokens that a result reports under `usage`, in the words of either kind of model API; never more than
/// `MAX_TOKENS` of a kind, whatever the tool says: its figures are sums of them.
fn tokens(value: &Value) -> (i64, i64) {
    let usage = value.get("usage").or_else(|| value.pointer("/_meta/usage"));
    let count = |names: [&str; 2]| {
        let number = names.iter().find_map(|name| usage?.get(name)?.as_i64());
        number.unwrap_or(0).clamp(0, MAX_TOKENS)
    };
    (count(["input_tokens", "prompt_tokens"]), count(["output_tokens", "completion_tokens"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_are_read_in_the_words_of_either_api() {
        assert_eq!(tokens(&json!({"usage": {"input_tokens": 12, "output_tokens": 3}})), (12, 3));
        assert_eq!(tokens(&json!({"usage": {"prompt_tokens": 7, "completion_tokens": 2}})), (7, 2));
        assert_eq!(tokens(&json!({"_meta": {"usage": {"input_tokens": 1}}})), (1, 0));
        assert_eq!(tokens(&json!({"usage": {"input_tokens": -4, "output_tokens": "many"}})), (0, 0));
        assert_eq!(tokens(&json!([1, 2])), (0, 0));
        let most = json!({"usage": {"input_tokens": i64::MAX, "output_tokens": MAX_TOKENS}});
        assert_eq!(tokens(&most), (MAX_TOKENS, MAX_TOKENS));
    }
}
