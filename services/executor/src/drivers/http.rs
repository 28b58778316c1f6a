//! Tools that are one HTTP request, made from a template and the arguments. An argument must never change where
//! the request goes, nor become more than a value in it.

mod address;
mod answer;
mod body;
mod link;
mod multipart;
mod page;
mod parameters;
mod schema;
mod styles;

use std::collections::HashMap;

use proto::{
    registry::v1::{HttpBinding, ToolDefinition},
    types::v1::Effect,
};
use reqwest::{
    Method,
    header::{COOKIE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Map, Value};

use self::{
    answer::{Promise, result},
    body::Given,
    parameters::Parameters,
};
use super::{
    Job,
    fetch::{Fetch, HttpClient},
    idempotency,
    identities::Identities,
};
use crate::credentials::Carried;
use crate::outcome::{Ended, Reached, ToolError, ToolErrorCode};

/// Runs tools with an HTTP binding.
pub(crate) struct HttpDriver {
    client: HttpClient,
    identities: Identities,
}

impl HttpDriver {
    pub(crate) fn new(client: HttpClient) -> Self {
        Self { client, identities: Identities::default() }
    }

    pub(crate) async fn run(&self, binding: &HttpBinding, job: &Job<'_>, carried: &Carried) -> Ended {
        let text = |of: fn(&ToolDefinition) -> &str| job.tool.definition.as_ref().map_or("", of);
        let promise = Promise {
            output_schema: text(|tool| &tool.output_schema_json),
            input_schema: text(|tool| &tool.input_schema_json),
            pagination: page::of(binding)?,
        };
        let mut fetch = request(binding, job)?;
        carried.apply(&mut fetch.url, &mut fetch.headers, binding.allow_private_network)?;
        let fetched = match carried.identity() {
            Some(credential) => {
                self.identities.client(&self.client, job.team, credential)?.fetch(fetch).await?
            }
            None => self.client.fetch(fetch).await?,
        };
        result(fetched, &promise).await
    }
}

/// The request, as the definition and the arguments make it.
fn request(binding: &HttpBinding, job: &Job<'_>) -> Result<Fetch, ToolError> {
    let (empty, given) = (Map::new(), idempotency::arguments(job));
    let arguments = given.as_object().unwrap_or(&empty);
    let parameters = Parameters::of(binding)?;
    let (mut url, mut placed) = address::fill(&binding.url, &parameters, arguments)?;
    parameters.add_query(&mut url, arguments)?;
    address::fits(&url)?;
    placed.extend(parameters.arguments());
    let (mut headers, mut own) = (headers(&binding.headers)?, HeaderMap::new());
    parameters.set_headers(&mut own, headers.get(COOKIE), arguments)?;
    idempotency::set_header(job, &mut own)?;
    headers.extend(own);
    let input_schema = job.tool.definition.as_ref().map_or("", |tool| tool.input_schema_json.as_str());
    let body = body::write(binding, &Given { arguments, placed: &placed, input_schema }, &mut headers)?;
    let is_sent = |name: &str| placed.contains(name) || body::takes(binding, name);
    idempotency::is_carried(job, is_sent)?;
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

fn headers(fixed: &HashMap<String, String>) -> Result<HeaderMap, ToolError> {
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

fn wrong(argument: &str, what: &str) -> ToolError {
    unfit(format!("argument {argument} {what}"))
}

/// A failure that is the arguments' alone: they get it again.
fn unfit(message: String) -> ToolError {
    let error = ToolError::new(ToolErrorCode::ToolFailed, message).having(Reached::No);
    ToolError { is_deterministic: true, ..error }
}

fn faulty(part: &str) -> ToolError {
    ToolError::new(ToolErrorCode::NotConfigured, format!("the tool's binding is faulty: {part}"))
}
