//! What a redirect makes of a request (RFC 9110, section 15.4). Pure. Must never carry a secret, or a request that
//! may not move, to another origin.

use reqwest::{
    Method, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE,
        HeaderName, LOCATION, USER_AGENT,
    },
};
use url::Url;

use super::fetch::Fetch;
use crate::outcome::{ToolError, ToolErrorCode};

/// Headers that follow a redirect to another origin; any other may be a key by whatever name.
const HARMLESS: [HeaderName; 5] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE, USER_AGENT];
/// Headers of a body, which go with it.
const OF_THE_BODY: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

/// Where a redirect leads, if the response is one.
pub(super) fn target(fetch: &Fetch, response: &Response) -> Result<Option<Url>, ToolError> {
    let follows = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| follows) else { return Ok(None) };
    let bad =
        || ToolError::new(ToolErrorCode::Protocol, "the server redirects to something that is no address");
    fetch.url.join(location.to_str().map_err(|_| bad())?).map(Some).map_err(|_| bad())
}

/// Whether the same request is to be made again, so that the server did not act on it.
pub(super) fn is_unchanged(status: StatusCode) -> bool {
    matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

/// Turns the request into the one that is made next.
pub(super) fn apply(fetch: &mut Fetch, status: StatusCode, url: Url) -> Result<(), ToolError> {
    let to_get = status == StatusCode::SEE_OTHER && fetch.method != Method::HEAD
        || matches!(status.as_u16(), 301 | 302) && fetch.method == Method::POST;
    if to_get {
        fetch.method = Method::GET;
        fetch.body = None;
        for name in OF_THE_BODY {
            fetch.headers.remove(name);
        }
    }
    if url.origin() != fetch.url.origin() {
        let in_the_clear = fetch.url.scheme() == "https" && url.scheme() == "http";
        let may_act = fetch.body.is_some() || !fetch.method.is_safe();
        if fetch.body.is_some() && in_the_clear || may_act && !fetch.may_move {
            let message = "the server redirects the request to another origin, where it may not go";
            return Err(ToolError::new(ToolErrorCode::ToolFailed, message));
        }
        let harmless = |name: &HeaderName| HARMLESS.contains(name);
        let secret: Vec<HeaderName> = fetch.headers.keys().filter(|name| !harmless(name)).cloned().collect();
        for name in secret {
            fetch.headers.remove(name);
        }
    }
    fetch.url = url;
    Ok(())
}
