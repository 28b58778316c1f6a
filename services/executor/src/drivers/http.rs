//! Tools that are one HTTP request, made from a template and the arguments. An argument must never change where
//! the request goes, nor become more than a value in it.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::{
    registry::v1::{HttpBinding, ToolDefinition},
    types::v1::Effect,
};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    Job, classify,
    fetch::{Fetch, Fetched, HttpClient},
    idempotency,
};
use crate::outcome::{Ended, Reached, ToolError, ToolErrorCode};

/// Runs tools with an HTTP binding.
pub(crate) struct HttpDriver {
    client: HttpClient,
}

impl HttpDriver {
    pub(crate) fn new(client: HttpClient) -> Self {
        Self { client }
    }

    pub(crate) async fn run(&self, binding: &HttpBinding, job: &Job<'_>) -> Ended {
        let schema = job.tool.definition.as_ref().map_or("", |tool| tool.output_schema_json.as_str());
        result(self.client.fetch(request(binding, job)?).await?, schema).await
    }
}

fn request(binding: &HttpBinding, job: &Job<'_>) -> Result<Fetch, ToolError> {
    let (empty, given) = (Map::new(), idempotency::arguments(job));
    let arguments = given.as_object().unwrap_or(&empty);
    let (mut url, mut used) = fill(&binding.url, arguments)?;
    for name in &binding.query_arguments {
        if let Some(value) = arguments.get(name) {
            url.query_pairs_mut().append_pair(name, &plain(value));
            used.insert(name.clone());
        }
    }
    let (mut headers, mut key) = (headers(&binding.headers)?, HeaderMap::new());
    idempotency::set_header(job, &mut key)?;
    headers.extend(key);
    let body = binding.body_json.then(|| {
        let rest: Map<String, Value> = arguments
            .iter()
            .filter(|(name, _)| !used.contains(*name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        Bytes::from(Value::Object(rest).to_string())
    });
    idempotency::is_carried(job, |name| binding.body_json || used.contains(name))?;
    let method = Method::from_bytes(binding.method.as_bytes()).map_err(|_| faulty("method"))?;
    Ok(Fetch {
        may_move: may_move(job),
        method,
        url,
        headers,
        body,
        max_bytes: usize::MAX,
        allow_private_network: binding.allow_private_network,
        timeout: job.timeout,
    })
}

/// What changes the world must not do so at a server that nobody registered.
fn may_move(job: &Job<'_>) -> bool {
    let effect = job.tool.definition.as_ref().map(ToolDefinition::effect);
    matches!(effect, Some(Effect::ReadOnly | Effect::Idempotent))
}

/// The address with its placeholders filled and percent-encoded, and the arguments that it used. An argument
/// may not move the request to another host or up the path.
fn fill(template: &str, arguments: &Map<String, Value>) -> Result<(Url, BTreeSet<String>), ToolError> {
    let (mut address, mut plain_address, mut used) = (String::new(), String::new(), BTreeSet::new());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| faulty("url"))?;
        let value = arguments.get(name).map(plain).ok_or_else(|| wrong(name, "is needed for the address"))?;
        if matches!(value.as_str(), "" | "." | "..") {
            return Err(wrong(name, "may not be empty, '.' or '..'"));
        }
        address.push_str(before);
        address.extend(
            url::form_urlencoded::byte_serialize(value.as_bytes()).map(|part| part.replace('+', "%20")),
        );
        plain_address.push_str(before);
        plain_address.push('x');
        used.insert(name.to_owned());
        rest = after;
    }
    address.push_str(rest);
    plain_address.push_str(rest);
    let parse = |text: &str| Url::parse(text).map_err(|_| faulty("url"));
    let (url, expected) = (parse(&address)?, parse(&plain_address)?);
    if url.origin() != expected.origin() {
        return Err(faulty("url: a placeholder stands in its host"));
    }
    let segments = |url: &Url| url.path_segments().map_or(0, Iterator::count);
    if segments(&url) != segments(&expected) {
        return Err(wrong(&template_names(&used), "may not lead up the path"));
    }
    Ok((url, used))
}

fn template_names(used: &BTreeSet<String>) -> String {
    used.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn headers(fixed: &std::collections::HashMap<String, String>) -> Result<HeaderMap, ToolError> {
    let pair = |(name, value): (&String, &String)| {
        let name = HeaderName::try_from(name).map_err(|_| faulty("header name"))?;
        Ok((name, HeaderValue::try_from(value).map_err(|_| faulty("header value"))?))
    };
    fixed.iter().map(pair).collect()
}

/// Texts as they are, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A JSON body is the result, untouched; any other text becomes `{"text": …}`.
async fn result(fetched: Fetched, output_schema: &str) -> Ended {
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
    if text.is_empty() {
        return Ok(json!({ "status": status.as_u16() }).to_string());
    }
    if !is_json && wants_other_than_text(output_schema) {
        let kind: String = described.chars().take(100).collect();
        let message = format!("the server answered {kind:?} where the output schema asks for JSON");
        return failed(ToolErrorCode::InvalidResult, message);
    }
    Ok(if is_json { text } else { json!({ "text": text }).to_string() })
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
fn wants_other_than_text(output_schema: &str) -> bool {
    let schema: Option<Value> = serde_json::from_str(output_schema).ok();
    let required = schema.as_ref().and_then(|schema| schema.get("required")?.as_array());
    required.is_some_and(|names| names.iter().any(|name| name != "text"))
}

fn wrong(argument: &str, what: &str) -> ToolError {
    ToolError::new(ToolErrorCode::ToolFailed, format!("argument {argument} {what}")).having(Reached::No)
}

fn faulty(part: &str) -> ToolError {
    ToolError::new(ToolErrorCode::NotConfigured, format!("the tool's binding is faulty: {part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, arguments: &Value) -> Result<String, ToolError> {
        fill(template, arguments.as_object().unwrap()).map(|(url, _)| url.to_string())
    }

    #[test]
    fn arguments_fill_the_address_and_cannot_leave_it() {
        let template = "https://api.example.com/users/{id}/x?q={q}";
        let url = filled(template, &json!({"id": "a/b ?#", "q": "1&admin=1"})).unwrap();
        assert_eq!(url, "https://api.example.com/users/a%2Fb%20%3F%23/x?q=1%26admin%3D1");
        assert_eq!(
            filled(template, &json!({"id": 7, "q": true})).unwrap(),
            "https://api.example.com/users/7/x?q=true"
        );
        for id in ["..", ".", ""] {
            assert!(filled(template, &json!({"id": id, "q": ""})).is_err(), "{id}");
        }
        assert!(filled(template, &json!({"q": "x"})).is_err());
        assert!(filled("https://e.com/a/{x}{y}/b", &json!({"x": ".", "y": "."})).is_err());
        assert!(filled("https://e.com/a/{x}{y}/b", &json!({"x": "1.", "y": ".x"})).is_ok());
        assert!(filled("https://{host}.example.com/", &json!({"host": "evil.org/"})).is_err());
    }

    #[test]
    fn the_charset_is_read_from_the_content_type() {
        let is_utf8 = |text: &'static str| is_utf8(Some(&HeaderValue::from_static(text)));
        assert!(is_utf8("application/json") && is_utf8("text/plain; Charset=\"UTF-8\""));
        assert!(!is_utf8("application/json; charset=iso-8859-1"));
    }

    #[test]
    fn a_schema_says_whether_plain_text_can_be_the_result() {
        assert!(!wants_other_than_text("") && !wants_other_than_text(r#"{"required":["text"]}"#));
        assert!(wants_other_than_text(r#"{"type":"object","required":["total"]}"#));
    }
}
