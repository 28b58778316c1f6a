//! What an answer, or the lack of one, means: the code and words of the failure, whether trying again may help,
//! and whether the tool's server may have acted. Pure. Must never repeat an address or a header: either may
//! hold a secret.

use std::error::Error as StdError;

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use reach::{CertificateFault, Refused};

use super::{fetch::Fetched, rate_limit};
use crate::outcome::{Reached, ToolError, ToolErrorCode};

/// Characters of the server's own words in an error.
const EXCERPT: usize = 500;

/// Whether a server that answered so may have acted. It says itself that it did not where it refused the caller
/// (401, 403), the rate (429), the moment (425), or sends it away until later (503 with `Retry-After`).
pub(super) fn reached(status: StatusCode, headers: &HeaderMap) -> Reached {
    match status.as_u16() {
        401 | 403 | 425 | 429 => Reached::No,
        503 if headers.contains_key(RETRY_AFTER) => Reached::No,
        408 | 500..=599 => Reached::Maybe,
        _ => Reached::Yes,
    }
}

/// Whether the same request may be answered better a little later.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504)
}

/// Whether the same request will be refused again for a while: the statuses that RFC 9110 (section 15.1) lets a
/// cache keep, and those that judge the request itself.
fn stays(status: u16) -> bool {
    matches!(status, 400 | 404 | 405 | 410 | 413..=415 | 422 | 501)
}

/// How long the server asks to wait, in milliseconds; 0 where it does not say.
pub(super) fn retry_after_ms(headers: &HeaderMap) -> i64 {
    let asked = headers.get(RETRY_AFTER).and_then(|value| ::mcp::retry_after(value.to_str().ok()?));
    asked.and_then(|wait| i64::try_from(wait.as_millis()).ok()).unwrap_or(0)
}

/// The failure that an answer without success is. `who` is the server, as in "the server".
pub(crate) fn refused(fetched: &Fetched, who: &str, with_excerpt: bool) -> ToolError {
    let status = fetched.status.as_u16();
    let is_limited = rate_limit::is_limited(fetched.status, &fetched.headers);
    let code = if is_limited { ToolErrorCode::UpstreamRateLimited } else { code_of(status) };
    let excerpt = if with_excerpt { excerpt(&fetched.body) } else { String::new() };
    let message = format!("{who} answered {}{excerpt}", fetched.status);
    // Servers tell of their limits with every answer: what says when it ends means nothing in any other failure.
    let retry_after_ms = match retry_after_ms(&fetched.headers) {
        0 if is_limited => rate_limit::reset_ms(&fetched.headers),
        asked => asked,
    };
    ToolError {
        retryable: is_limited || is_passing(status),
        retry_after_ms,
        reached: fetched.reached,
        is_deterministic: stays(status),
        is_unauthenticated: status == 401,
        ..ToolError::new(code, message)
    }
}

pub(super) fn code_of(status: u16) -> ToolErrorCode {
    match status {
        401 | 403 => ToolErrorCode::UpstreamAuth,
        429 => ToolErrorCode::UpstreamRateLimited,
        _ => ToolErrorCode::ToolFailed,
    }
}

fn excerpt(body: &[u8]) -> String {
    if body.is_empty() {
        return String::new();
    }
    // Longest form of a character, so that no long page is decoded whole.
    let start = &body[..body.len().min(EXCERPT * 4)];
    format!(": {}", String::from_utf8_lossy(start).chars().take(EXCERPT).collect::<String>())
}

/// Whether a request failed before any of it went out, or before the server took any.
pub(super) fn is_unsent(error: &reqwest::Error) -> bool {
    error.is_connect() || error.is_builder() || CertificateFault::of(error).is_some()
}

/// A certificate that was refused: the server's is what makes it one that cannot be reached, ours a credential like any
/// other. Nothing changes by itself a moment later.
pub(super) fn certificate(fault: &CertificateFault) -> ToolError {
    let code = if fault.is_ours() { ToolErrorCode::UpstreamAuth } else { ToolErrorCode::Unreachable };
    let error = ToolError::new(code, format!("there is no secure connection to the server: {fault}"));
    ToolError { retryable: false, is_unauthenticated: fault.is_ours(), ..error }
}

/// A failed request. Whether it may have taken effect is for the caller to say: it knows how far it came.
pub(super) fn failure(error: reqwest::Error) -> ToolError {
    let error = error.without_url();
    if let Some(fault) = CertificateFault::of(&error) {
        return certificate(&fault);
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let (mut innermost, mut is_nonsense) = (error.to_string(), false);
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<Refused>() {
            return ToolError::new(ToolErrorCode::AddressRefused, refused.to_string());
        }
        is_nonsense |= current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        innermost = current.to_string();
        cause = current.source();
    }
    let broke_off = error.is_body() || error.is_decode();
    let (code, what) = if is_nonsense {
        (ToolErrorCode::Protocol, "the server's answer is not HTTP")
    } else if error.is_decode() {
        (ToolErrorCode::Protocol, "the server's answer cannot be decoded, or broke off")
    } else if broke_off {
        (ToolErrorCode::Protocol, "the server's answer broke off")
    } else if is_unsent(&error) {
        (ToolErrorCode::Unreachable, "the server cannot be reached")
    } else {
        (ToolErrorCode::Unreachable, "the connection was lost before an answer came")
    };
    let retryable = broke_off || code == ToolErrorCode::Unreachable;
    ToolError { retryable, ..ToolError::new(code, format!("{what}: {innermost}")) }
}
