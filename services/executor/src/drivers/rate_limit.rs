//! Whether a server refused a request for its rate, and how long it asks to wait: `Retry-After`, and the many headers
//! that say the same. Pure.

use chrono::{DateTime, Utc};
use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};

/// Longest wait that is believed, in milliseconds: a day, as for `Retry-After`.
const LONGEST_MS: f64 = 86_400_000.0;
/// What is left of the limit, in the names that servers give it.
const REMAINING: [&str; 3] = ["x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining"];
/// When it is whole again.
const RESET: [&str; 4] =
    ["x-ratelimit-reset-after", "x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset"];
/// Numbers from here on are seconds since 1970, not from now: the 9th of September 2001.
const EPOCH_S: f64 = 1e9;
/// And from here on milliseconds since 1970.
const EPOCH_MS: f64 = 1e12;

/// Whether an answer says that there were too many requests: 429 always, and 403 where it says when to come back or
/// that nothing is left, as some servers do.
pub(super) fn is_limited(status: StatusCode, headers: &HeaderMap) -> bool {
    match status.as_u16() {
        429 => true,
        403 => headers.contains_key(RETRY_AFTER) || remaining(headers).is_some_and(|left| left <= 0.0),
        _ => false,
    }
}

/// How long a limited request has to wait, in milliseconds, where no `Retry-After` says it; 0 where nothing does.
pub(super) fn reset_ms(headers: &HeaderMap) -> i64 {
    let spent = of_fields(headers).into_iter().filter(|limit| limit.is_spent());
    if let Some(seconds) = spent.map(|limit| limit.reset).reduce(f64::max) {
        return ms(seconds * 1_000.0);
    }
    // Where something is left, another limit was hit than the one that these headers tell of.
    if remaining(headers).is_some_and(|left| left > 0.0) {
        return 0;
    }
    let Some(reset) = RESET.iter().find_map(|name| number(headers, name)) else { return 0 };
    if reset < EPOCH_S {
        return ms(reset * 1_000.0);
    }
    let at = if reset < EPOCH_MS { reset * 1_000.0 } else { reset };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
    let now = now(headers).timestamp_millis() as f64;
    ms(at - now)
}

#[expect(clippy::cast_possible_truncation, reason = "it was brought between 0 and a day")]
fn ms(wait: f64) -> i64 {
    wait.clamp(0.0, LONGEST_MS).ceil() as i64
}

/// What the server's clock shows, or ours where it does not say.
fn now(headers: &HeaderMap) -> DateTime<Utc> {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map_or_else(Utc::now, |date| date.to_utc())
}

/// What is left of the limit that is spent most.
fn remaining(headers: &HeaderMap) -> Option<f64> {
    let named = REMAINING.iter().filter_map(|name| number(headers, name));
    named.chain(of_fields(headers).into_iter().map(|limit| limit.remaining)).reduce(f64::min)
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    let text = headers.get(name)?.to_str().ok()?;
    text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// A limit as a `RateLimit` field tells of it.
#[derive(Debug, Clone, Copy)]
struct Limit {
    remaining: f64,
    /// Seconds from now; 0 where it does not say.
    reset: f64,
}

impl Limit {
    fn is_spent(self) -> bool {
        self.remaining <= 0.0 && self.reset > 0.0
    }
}

/// The `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers: since its version 8 a list such as
/// `"burst";r=0;t=30, "day";r=100;t=3600`, before that one limit such as `limit=10, remaining=0, reset=30`.
fn of_fields(headers: &HeaderMap) -> Vec<Limit> {
    let mut limits = Vec::new();
    for field in headers.get_all("ratelimit").iter().filter_map(|field| field.to_str().ok()) {
        let mut whole = (None, None);
        for item in split(field, ',') {
            let mut own = (None, None);
            for part in split(item, ';') {
                let Some((name, value)) = part.split_once('=') else { continue };
                let value: Option<f64> = value.trim().parse().ok();
                match name.trim() {
                    "r" => own.0 = value,
                    "t" => own.1 = value,
                    "remaining" => whole.0 = value,
                    "reset" => whole.1 = value,
                    _ => {}
                }
            }
            limits.extend(limit(own));
        }
        limits.extend(limit(whole));
    }
    limits
}

fn limit((remaining, reset): (Option<f64>, Option<f64>)) -> Option<Limit> {
    Some(Limit { remaining: remaining?, reset: reset.unwrap_or(0.0) })
}

/// The parts of a text between separators that stand in no quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn a_refusal_is_for_the_rate_where_it_says_so() {
        for (status, lines, expected) in [
            (429, &[][..], true),
            (403, &[], false),
            (403, &[("retry-after", "60")], true),
            (403, &[("x-ratelimit-remaining", "0")], true),
            (403, &[("x-ratelimit-remaining", "4999")], false),
            (403, &[("x-ratelimit-remaining", "none")], false),
            (403, &[("ratelimit", "\"default\";r=0;t=5")], true),
            (403, &[("ratelimit", "\"a\";r=7;t=5, \"b\";r=0;t=5")], true),
            (403, &[("ratelimit", "limit=10, remaining=3, reset=5")], false),
            (404, &[("x-ratelimit-remaining", "0")], false),
            (503, &[("retry-after", "60")], false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_limited(status, &headers(lines)), expected, "{status} {lines:?}");
        }
    }

    #[test]
    fn each_header_says_how_long_to_wait() {
        let date = ("date", "Sun, 09 Sep 2001 01:46:40 GMT");
        for (lines, expected) in [
            (&[][..], 0),
            (&[("x-ratelimit-reset", "30")], 30_000),
            (&[("ratelimit-reset", "30")], 30_000),
            (&[("x-ratelimit-reset-after", "1.5"), ("x-ratelimit-reset", "1000000900")], 1_500),
            (&[date, ("x-ratelimit-reset", "1000000060")], 60_000),
            (&[date, ("x-rate-limit-reset", "1000000060000")], 60_000),
            (&[date, ("x-ratelimit-reset", "1000000000")], 0),
            (&[date, ("x-ratelimit-reset", "9000000000")], 86_400_000),
            (&[("x-ratelimit-reset", "999999")], 86_400_000),
            (&[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "30")], 0),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")], 30_000),
            (&[("ratelimit", "\"default\";r=0;t=45")], 45_000),
            (&[("ratelimit", "\"a;r=9, b\";r=0;t=5 , \"day\";r=0;t=90, \"year\";r=5;t=9999")], 90_000),
            (&[("ratelimit", "limit=100, remaining=0, reset=50")], 50_000),
            (&[("x-ratelimit-reset", "-5")], 0),
            (&[("x-ratelimit-reset", "NaN")], 0),
            (&[("x-ratelimit-reset", "soon")], 0),
        ] {
            assert_eq!(reset_ms(&headers(lines)), expected, "{lines:?}");
        }
        let at = (Utc::now() + chrono::Duration::seconds(600)).timestamp().to_string();
        let wait = reset_ms(&headers(&[("x-ratelimit-reset", &at)]));
        assert!((500_000..=600_000).contains(&wait), "{wait}");
    }
}
