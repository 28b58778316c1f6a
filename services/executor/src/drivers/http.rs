//! Tools that are one HTTP request, made from a template and the arguments.

use std::collections::BTreeSet;

use proto::registry::v1::HttpBinding;
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Fetch, Fetched, HttpClient, Job};
use crate::outcome::{Ended, ToolError, ToolErrorCode};

/// Runs tools with an HTTP binding.
pub(crate) struct HttpDriver {
    client: HttpClient,
}

impl HttpDriver {
    pub(crate) fn new(client: HttpClient) -> Self {
        Self { client }
    }

    pub(crate) async fn run(&self, binding: &HttpBinding, job: &Job<'_>) -> Ended {
        let fetch = request(binding, job.arguments)?;
        result(self.client.fetch(fetch).await?)
    }
}

fn request(binding: &HttpBinding, arguments: &Value) -> Result<Fetch, ToolError> {
    let empty = Map::new();
    let arguments = arguments.as_object().unwrap_or(&empty);
    let (mut url, mut used) = fill(&binding.url, arguments)?;
    for name in &binding.query_arguments {
        if let Some(value) = arguments.get(name) {
            url.query_pairs_mut().append_pair(name, &plain(value));
            used.insert(name.clone());
        }
    }
    let mut headers = headers(&binding.headers)?;
    let body = binding.body_json.then(|| {
        let rest: Map<String, Value> = arguments
            .iter()
            .filter(|(name, _)| !used.contains(*name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        Value::Object(rest).to_string().into_bytes()
    });
    let method = Method::from_bytes(binding.method.as_bytes()).map_err(|_| faulty("method"))?;
    let allow_private_network = binding.allow_private_network;
    Ok(Fetch { method, url, headers, body, max_bytes: usize::MAX, allow_private_network })
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

/// A JSON body is the result, untouched; any other becomes `{"text": …}`.
fn result(fetched: Fetched) -> Ended {
    let status = fetched.status;
    if !status.is_success() {
        return Err(refused(&fetched));
    }
    if fetched.truncated {
        let message = format!("the response is larger than {} bytes", fetched.body.len());
        return Err(ToolError::new(ToolErrorCode::ResultTooLarge, message));
    }
    let text = String::from_utf8(fetched.body)
        .map_err(|_| ToolError::new(ToolErrorCode::InvalidResult, "the response is not UTF-8 text"))?;
    let is_json =
        fetched.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json);
    if text.is_empty() {
        return Ok(json!({ "status": status.as_u16() }).to_string());
    }
    Ok(if is_json { text } else { json!({ "text": text }).to_string() })
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media.ends_with("+json")
}

fn refused(fetched: &Fetched) -> ToolError {
    let code = match fetched.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ToolErrorCode::UpstreamAuth,
        StatusCode::TOO_MANY_REQUESTS => ToolErrorCode::UpstreamRateLimited,
        _ => ToolErrorCode::ToolFailed,
    };
    let excerpt: String = String::from_utf8_lossy(&fetched.body).chars().take(500).collect();
    let retryable = matches!(fetched.status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504);
    let message = format!("the server answered {}: {excerpt}", fetched.status);
    ToolError { retryable, retry_after_ms: fetched.retry_after_ms(), ..ToolError::new(code, message) }
}

fn wrong(argument: &str, what: &str) -> ToolError {
    ToolError::new(ToolErrorCode::ToolFailed, format!("argument {argument} {what}"))
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
    fn the_body_holds_what_the_address_does_not() {
        let binding = HttpBinding {
            method: "POST".into(),
            url: "https://example.com/{a}".into(),
            query_arguments: vec!["b".into()],
            body_json: true,
            ..HttpBinding::default()
        };
        let fetch = request(&binding, &json!({"a": 1, "b": "two words", "c": [3]})).unwrap();
        assert_eq!(fetch.url.as_str(), "https://example.com/1?b=two+words");
        assert_eq!(fetch.body.unwrap(), br#"{"c":[3]}"#);
        assert_eq!(fetch.headers[CONTENT_TYPE], "application/json");
    }
}
