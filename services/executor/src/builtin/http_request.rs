//! `http_request`: any one HTTP request to a public address. The answer is a result whatever its status.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use url::Url;

use super::text;
use crate::{
    drivers::{Fetch, Fetched, HttpClient, Job, set_header},
    outcome::{Ended, Reached, ToolError, ToolErrorCode},
};

/// Bytes of the body when the caller does not say.
const DEFAULT_MAX_BYTES: usize = 1_048_576;
/// Headers that would change how the request is framed or routed; the client sets them itself.
const OWN_HEADERS: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];

/// Sends the request.
pub(crate) async fn run(http: &HttpClient, allow_private_network: bool, job: &Job<'_>) -> Ended {
    let fetch = fetch(job, allow_private_network)?;
    Ok(result(http.fetch(fetch).await?).to_string())
}

fn fetch(job: &Job<'_>, allow_private_network: bool) -> Result<Fetch, ToolError> {
    let arguments = job.arguments;
    let mut url = address(text(arguments, "url").unwrap_or_default())?;
    if let Some(query) = arguments.get("query").and_then(Value::as_object).filter(|query| !query.is_empty()) {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (name, plain(value))));
    }
    let mut headers = headers(arguments)?;
    let body = match (arguments.get("json"), text(arguments, "body")) {
        (Some(_), Some(_)) => return Err(wrong("give body or json, not both")),
        (Some(value), None) => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            Some(Bytes::from(value.to_string()))
        }
        (None, body) => body.map(|body| Bytes::from(body.to_owned())),
    };
    let method = text(arguments, "method").unwrap_or("GET").to_ascii_uppercase();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong("method is not one of HTTP"))?;
    set_header(job, &mut headers)?;
    let max_bytes = arguments.get("max_bytes").and_then(Value::as_u64).map(usize::try_from);
    let max_bytes = max_bytes.and_then(Result::ok).unwrap_or(DEFAULT_MAX_BYTES);
    // What is done twice like once may follow a redirect to another server (RFC 9110, section 9.2.2).
    let may_move = method.is_idempotent();
    let timeout = job.timeout;
    Ok(Fetch { method, url, headers, body, max_bytes, allow_private_network, may_move, timeout })
}

/// The address, which says at first sight where it leads: no user before the host, nothing that parsers read
/// in different ways.
pub(super) fn address(text: &str) -> Result<Url, ToolError> {
    if text.contains(|c: char| c.is_control() || c == '\\') {
        return Err(wrong("url must not hold control characters or a backslash"));
    }
    let url = Url::parse(text).map_err(|error| wrong(&format!("url is not an address: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("url must not hold a user or a password; send an authorization header"));
    }
    Ok(url)
}

fn headers(arguments: &Value) -> Result<HeaderMap, ToolError> {
    let Some(fields) = arguments.get("headers").and_then(Value::as_object) else {
        return Ok(HeaderMap::new());
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(wrong(&format!("header {name} is set by the client itself")));
        }
        let value = value.as_str().unwrap_or_default();
        let parsed = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::try_from(value).ok());
        let (name, value) =
            parsed.ok_or_else(|| wrong(&format!("header {name:?} has a character that headers have not")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn result(fetched: Fetched) -> Value {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &fetched.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = headers.entry(name.as_str().to_owned()).or_default();
        *joined = if joined.is_empty() { value.into_owned() } else { format!("{joined}, {value}") };
    }
    let (body, encoding) = match String::from_utf8(fetched.body) {
        Ok(text) => (text, "utf-8"),
        Err(bytes) => (STANDARD.encode(bytes.as_bytes()), "base64"),
    };
    json!({
        "status": fetched.status.as_u16(),
        "headers": headers,
        "body": body,
        "body_encoding": encoding,
        "truncated": fetched.truncated,
        "url": fetched.url.as_str(),
    })
}

fn wrong(message: &str) -> ToolError {
    ToolError::new(ToolErrorCode::ToolFailed, message).having(Reached::No)
}
