//! The idempotency key of a call, put where its tool takes it. A key that cannot be put there fails the call:
//! the call would otherwise be repeated in the belief that the tool can tell.

use std::borrow::Cow;

use proto::registry::v1::idempotency_key::Place;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::Job;
use crate::outcome::{ToolError, ToolErrorCode};

/// The arguments, with the key among them where the tool takes it there and the caller gave none. Only a text that
/// is not empty is one: by `null` no server tells two calls apart.
pub(super) fn arguments<'a>(job: &Job<'a>) -> Cow<'a, Value> {
    let (Some((Place::Argument(name), key)), Some(given)) = (job.idempotency, job.arguments.as_object())
    else {
        return Cow::Borrowed(job.arguments);
    };
    if given.get(name).and_then(Value::as_str).is_some_and(|own| !own.trim().is_empty()) {
        return Cow::Borrowed(job.arguments);
    }
    let mut arguments = given.clone();
    arguments.insert(name.clone(), key.into());
    Cow::Owned(Value::Object(arguments))
}

/// Fails where an argument that takes the key is not sent.
pub(super) fn is_carried(job: &Job<'_>, is_sent: impl Fn(&str) -> bool) -> Result<(), ToolError> {
    match job.idempotency {
        Some((Place::Argument(name), _)) if !is_sent(name) => {
            Err(unusable("its argument is no part of the request"))
        }
        _ => Ok(()),
    }
}

/// Sets the request header that takes the key ("Idempotency-Key" of the IETF draft, or another name). A caller
/// that gave the header keeps its own, unless it is empty.
pub(crate) fn set_header(job: &Job<'_>, headers: &mut HeaderMap) -> Result<(), ToolError> {
    match job.idempotency {
        Some((Place::Header(name), key)) => {
            let name = HeaderName::try_from(name).map_err(|_| unusable("its header is not a header name"))?;
            let key = HeaderValue::try_from(key).map_err(|_| unusable("it does not fit into a header"))?;
            if headers.get(&name).is_none_or(|own| own.as_bytes().trim_ascii().is_empty()) {
                headers.insert(name, key);
            }
            Ok(())
        }
        Some((Place::Meta(_), _)) => Err(unusable("only tools of MCP servers take one in _meta")),
        Some((Place::Argument(_), _)) | None => Ok(()),
    }
}

/// The entries of `_meta` that take the key.
pub(super) fn meta(job: &Job<'_>) -> Result<Map<String, Value>, ToolError> {
    match job.idempotency {
        Some((Place::Meta(name), key)) => Ok(Map::from_iter([(name.clone(), key.into())])),
        Some((Place::Header(_), _)) => Err(unusable("tools of MCP servers take none in a header")),
        Some((Place::Argument(_), _)) | None => Ok(Map::new()),
    }
}

/// Fails where the tool has neither headers nor `_meta`.
pub(super) fn only_argument(job: &Job<'_>) -> Result<(), ToolError> {
    match job.idempotency {
        Some((Place::Header(_) | Place::Meta(_), _)) => {
            Err(unusable("this tool takes one as an argument only"))
        }
        Some((Place::Argument(_), _)) | None => Ok(()),
    }
}

fn unusable(why: &str) -> ToolError {
    let message = format!("the tool's setting for its idempotency key cannot be kept: {why}");
    ToolError::new(ToolErrorCode::NotConfigured, message)
}
