//! What the answer of a tool's server is as a result. Pure, but for decoding; never takes what is not text for one.

use proto::registry::v1::Pagination;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::{
    page::{self, Beside},
    schema,
};
use crate::{
    drivers::{classify, fetch::Fetched},
    outcome::{Ended, ToolError, ToolErrorCode},
};

/// What a tool promises of its result, and what it needs for the next page of it.
pub(super) struct Promise<'a> {
    /// JSON text, or empty.
    pub output_schema: &'a str,
    /// JSON text.
    pub input_schema: &'a str,
    pub pagination: Option<&'a Pagination>,
}

/// A JSON body is the result, untouched; any other text becomes `{"text": …}`. With pagination, it stands in
/// `{"result": …, "next_arguments": …}`.
pub(super) async fn result(fetched: Fetched, promise: &Promise<'_>) -> Ended {
    if !fetched.status.is_success() {
        return Err(classify::refused(&fetched, "the server", true));
    }
    let (status, reached) = (fetched.status, fetched.reached);
    let failed = |code, message: String| Err(ToolError::new(code, message).having(reached));
    if fetched.truncated {
        let message = format!("the response is larger than {} bytes", fetched.body.len());
        return failed(ToolErrorCode::ResultTooLarge, message);
    }
    let content_type = fetched.headers.get(CONTENT_TYPE).cloned();
    let described = content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(text) = text(fetched.body, content_type.as_ref()).await else {
        return failed(ToolErrorCode::InvalidResult, "the response is not text of its charset".into());
    };
    let is_json = is_json(described);
    let answer = if text.is_empty() {
        json!({ "status": status.as_u16() }).to_string()
    } else if is_json {
        text
    } else if !wants_other_than_text(promise) {
        json!({ "text": text }).to_string()
    } else {
        let kind: String = described.chars().take(100).collect();
        let message = format!("the server answered {kind:?} where the output schema asks for JSON");
        return failed(ToolErrorCode::InvalidResult, message);
    };
    let Some(pagination) = promise.pagination else { return Ok(answer) };
    let beside = Beside { headers: &fetched.headers, url: &fetched.url, input_schema: promise.input_schema };
    match page::wrapped(pagination, &answer, &beside) {
        Some(page) => Ok(page),
        None => failed(ToolErrorCode::InvalidResult, "the server says it is JSON, and it is not".into()),
    }
}

/// The body as text; `None` where it is not. JSON is UTF-8 (RFC 8259, section 8.1), but some servers say
/// otherwise and mean it.
async fn text(body: Vec<u8>, content_type: Option<&HeaderValue>) -> Option<String> {
    let text = if is_utf8(content_type) {
        String::from_utf8(body).ok()?
    } else {
        // The HTTP client decodes every charset of the Encoding standard, byte by byte, without failure.
        let mut buffered = http::Response::new(body);
        buffered.headers_mut().insert(CONTENT_TYPE, content_type?.clone());
        reqwest::Response::from(buffered).text().await.ok()?
    };
    Some(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

fn is_utf8(content_type: Option<&HeaderValue>) -> bool {
    let Some(text) = content_type.and_then(|value| value.to_str().ok()) else { return true };
    let text = text.to_ascii_lowercase();
    let charset = text.split(';').skip(1).find_map(|part| part.trim().strip_prefix("charset="));
    charset.is_none_or(|name| matches!(name.trim_matches('"'), "utf-8" | "utf8" | "us-ascii" | "ascii"))
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media.ends_with("+json")
}

/// Whether a tool promises something that `{"text": …}` cannot be.
fn wants_other_than_text(promise: &Promise<'_>) -> bool {
    let Ok(root) = serde_json::from_str::<Value>(promise.output_schema) else { return false };
    let answer =
        if promise.pagination.is_some() { schema::member(&root, &root, "result") } else { Some(&root) };
    let required = answer.and_then(|schema| schema.get("required")?.as_array());
    required.is_some_and(|names| names.iter().any(|name| name != "text"))
}

#[cfg(test)]
mod tests {
    use proto::registry::v1::pagination::Next;

    use super::*;

    #[test]
    fn the_charset_is_read_from_the_content_type() {
        let is_utf8 = |text: &'static str| is_utf8(Some(&HeaderValue::from_static(text)));
        assert!(is_utf8("application/json") && is_utf8("text/plain; Charset=\"UTF-8\""));
        assert!(!is_utf8("application/json; charset=iso-8859-1"));
    }

    #[test]
    fn a_schema_says_whether_plain_text_can_be_the_result() {
        let paged = Pagination { next: Some(Next::LinkParameter("page".into())), argument: "page".into() };
        let wants = |output_schema: &str, pagination| {
            wants_other_than_text(&Promise { output_schema, input_schema: "", pagination })
        };
        let (text, total) = (r#"{"required":["text"]}"#, r#"{"type":"object","required":["total"]}"#);
        assert!(!wants("", None) && !wants(text, None) && wants(total, None));
        let inner = |schema: &str| {
            format!(r#"{{"required":["result","next_arguments"],"properties":{{"result":{schema}}}}}"#)
        };
        assert!(!wants(&inner(text), Some(&paged)) && wants(&inner(total), Some(&paged)));
    }
}
