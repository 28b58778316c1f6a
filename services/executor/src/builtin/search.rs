//! `brave_web_search` and `google_web_search`: two providers, one result shape.

use std::time::Duration;

use reqwest::{
    Method,
    header::{ACCEPT, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::text;
use crate::{
    config::WebSearchConfig,
    drivers::{Fetch, HttpClient, Job, refused},
    outcome::{Ended, ToolError, ToolErrorCode},
};

/// Largest answer of a provider, in bytes.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Most results that Google gives at once (Custom Search JSON API, `num`).
const GOOGLE_MAX_COUNT: u64 = 10;

/// Searches with Brave (Web Search API, `GET /res/v1/web/search`).
pub(crate) async fn brave(http: &HttpClient, config: &WebSearchConfig, job: &Job<'_>) -> Ended {
    let arguments = job.arguments;
    let key = configured(config.brave_api_key.as_ref(), "TOOLCRIB__EXECUTOR__WEB_SEARCH__BRAVE_API_KEY")?;
    let mut url = address(&config.brave_url)?;
    let names = [
        ("query", "q"),
        ("count", "count"),
        ("offset", "offset"),
        ("country", "country"),
        ("language", "search_lang"),
        ("safe_search", "safesearch"),
    ];
    append(&mut url, arguments, &names);
    if let Some((word, _)) = freshness(arguments) {
        url.query_pairs_mut().append_pair("freshness", word);
    }
    let mut value = HeaderValue::try_from(key.expose_secret()).map_err(|_| bad_key())?;
    value.set_sensitive(true);
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-subscription-token"), value)]);
    let answer = ask(http, url, headers, job.timeout).await?;
    let results = answer.pointer("/web/results").and_then(Value::as_array).cloned().unwrap_or_default();
    let fields = [("title", "title"), ("url", "url"), ("description", "description"), ("age", "age")];
    Ok(json!({ "results": pick(&results, &fields) }).to_string())
}

/// Searches with Google (Custom Search JSON API, `cse.list`).
pub(crate) async fn google(http: &HttpClient, config: &WebSearchConfig, job: &Job<'_>) -> Ended {
    let arguments = job.arguments;
    let key = configured(config.google_api_key.as_ref(), "TOOLCRIB__EXECUTOR__WEB_SEARCH__GOOGLE_API_KEY")?;
    let engine = config
        .google_engine_id
        .as_deref()
        .ok_or_else(|| missing("TOOLCRIB__EXECUTOR__WEB_SEARCH__GOOGLE_ENGINE_ID"))?;
    let mut url = address(&config.google_url)?;
    append(&mut url, arguments, &[("query", "q"), ("country", "gl"), ("language", "hl")]);
    let number = |name: &str, default: u64| arguments.get(name).and_then(Value::as_u64).unwrap_or(default);
    let count = number("count", GOOGLE_MAX_COUNT).min(GOOGLE_MAX_COUNT);
    let start = number("offset", 0) * count + 1;
    if let Some((_, word)) = freshness(arguments) {
        url.query_pairs_mut().append_pair("dateRestrict", word);
    }
    let safe = if text(arguments, "safe_search") == Some("off") { "off" } else { "active" };
    url.query_pairs_mut()
        .append_pair("num", &count.to_string())
        .append_pair("start", &start.to_string())
        .append_pair("safe", safe)
        .append_pair("cx", engine)
        .append_pair("key", key.expose_secret());
    let answer = ask(http, url, HeaderMap::new(), job.timeout).await?;
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut result = json!({
        "results": pick(&items, &[("title", "title"), ("link", "url"), ("snippet", "description")]),
    });
    let total = answer.pointer("/searchInformation/totalResults").and_then(Value::as_str);
    if let Some(total) = total.and_then(|total| total.parse::<u64>().ok()) {
        result["total"] = total.into();
    }
    Ok(result.to_string())
}

/// Brave's and Google's words for how old a result may be.
fn freshness(arguments: &Value) -> Option<(&'static str, &'static str)> {
    match text(arguments, "freshness")? {
        "day" => Some(("pd", "d1")),
        "week" => Some(("pw", "w1")),
        "month" => Some(("pm", "m1")),
        "year" => Some(("py", "y1")),
        _ => None,
    }
}

async fn ask(
    http: &HttpClient,
    url: Url,
    mut headers: HeaderMap,
    timeout: Duration,
) -> Result<Value, ToolError> {
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // The address is the operator's own setting, so it may be a private one.
    let allow_private_network = true;
    let fetch = Fetch {
        method: Method::GET,
        url,
        headers,
        body: None,
        max_bytes: MAX_BYTES,
        allow_private_network,
        may_move: true,
        timeout,
    };
    let fetched = http.fetch(fetch).await?;
    if !fetched.status.is_success() {
        // The provider's words may repeat the key.
        return Err(refused(&fetched, "the search provider", false));
    }
    serde_json::from_slice(&fetched.body).map_err(|_| {
        let message = "the search provider's answer is not JSON";
        ToolError::new(ToolErrorCode::Protocol, message).having(fetched.reached)
    })
}

fn append(url: &mut Url, arguments: &Value, names: &[(&str, &str)]) {
    for (ours, theirs) in names {
        if let Some(value) = arguments.get(ours) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            url.query_pairs_mut().append_pair(theirs, &value);
        }
    }
}

/// The known fields of each result, where it has them.
fn pick(results: &[Value], fields: &[(&str, &str)]) -> Vec<Value> {
    let one = |result: &Value| {
        let mut picked = json!({ "title": "", "url": "", "description": "" });
        for (theirs, ours) in fields {
            if let Some(value) = result.get(theirs).and_then(Value::as_str) {
                picked[*ours] = value.into();
            }
        }
        picked
    };
    results.iter().map(one).collect()
}

fn configured<'a>(key: Option<&'a SecretString>, setting: &str) -> Result<&'a SecretString, ToolError> {
    key.filter(|key| !key.expose_secret().is_empty()).ok_or_else(|| missing(setting))
}

fn missing(setting: &str) -> ToolError {
    ToolError::new(
        ToolErrorCode::NotConfigured,
        format!("the search provider is not configured: set {setting}"),
    )
}

fn bad_key() -> ToolError {
    ToolError::new(
        ToolErrorCode::NotConfigured,
        "the search provider's key has a character that headers have not",
    )
}

fn address(url: &str) -> Result<Url, ToolError> {
    Url::parse(url)
        .map_err(|_| ToolError::new(ToolErrorCode::NotConfigured, "the provider's address is faulty"))
}
