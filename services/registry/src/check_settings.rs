//! Checks the numbers and names within the settings of a tool, and names everything that is wrong at once.
//! What the tool itself decides is for `fit.rs`. No I/O.

use std::{fmt::Display, ops::RangeInclusive};

use ::rpc::FieldViolation;

use crate::settings::{Breaker, Cache, IdempotencyKey, Retry, Semantic, Settings};

const TIMEOUT_MS: RangeInclusive<i64> = 1_000..=300_000;
const RATE: RangeInclusive<i32> = 1..=1_000_000;
const CONCURRENT: RangeInclusive<i32> = 1..=10_000;
const BACKOFF_MS: RangeInclusive<i64> = 1..=300_000;
/// 30 days, in seconds.
const MAX_TTL_S: i64 = 2_592_000;
/// Longest name of a header, an argument or an entry of `_meta`, in bytes.
const MAX_NAME: usize = 128;
/// Headers that carry who asks or how the message is framed: an idempotency key must not replace them.
const RESERVED_HEADERS: [&str; 16] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What is wrong with settings; the fields are paths below them.
#[derive(Debug, Default)]
pub(crate) struct Found(pub Vec<FieldViolation>);

impl Found {
    /// Notes what is wrong with one of the settings.
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation { field: field.into(), description: description.into() });
    }

    /// The violations, with the path of the settings in the request before each field.
    pub(crate) fn below(self, prefix: &str) -> Vec<FieldViolation> {
        let placed = |v: FieldViolation| FieldViolation { field: format!("{prefix}{}", v.field), ..v };
        self.0.into_iter().map(placed).collect()
    }

    fn range<T: PartialOrd + Display + Copy>(&mut self, field: &str, given: T, range: &RangeInclusive<T>) {
        if !range.contains(&given) {
            self.add(field, format!("is {given}; it must be {} to {}", range.start(), range.end()));
        }
    }

    /// A limit that 0 leaves to others.
    fn limit<T: PartialOrd + Display + Default + Copy>(
        &mut self,
        field: &str,
        given: T,
        range: &RangeInclusive<T>,
    ) {
        if given != T::default() && !range.contains(&given) {
            let (least, most) = (range.start(), range.end());
            self.add(field, format!("is {given}; it must be {least} to {most}, or 0 for the default"));
        }
    }
}

/// Notes what is wrong with settings, but for the fallbacks.
pub(crate) fn check(settings: &Settings, found: &mut Found) {
    found.limit("timeout_ms", settings.timeout_ms, &TIMEOUT_MS);
    found.limit("rate_limit_per_minute", settings.rate_limit_per_minute, &RATE);
    found.limit("max_concurrent", settings.max_concurrent, &CONCURRENT);
    check_retry(&settings.retry, found);
    check_breaker(&settings.circuit_breaker, found);
    check_cache(&settings.cache, found);
    if let Some(key) = &settings.idempotency_key {
        check_place(key, found);
    }
    for fault in settings.redaction.faults() {
        found.add(format!("redaction.{}", fault.field), fault.message);
    }
}

fn check_retry(retry: &Retry, found: &mut Found) {
    found.range("retry.max_retries", retry.max_retries, &(0..=10));
    found.range("retry.initial_backoff_ms", retry.initial_backoff_ms, &BACKOFF_MS);
    found.range("retry.max_backoff_ms", retry.max_backoff_ms, &BACKOFF_MS);
    found.range("retry.multiplier", retry.multiplier, &(1.0..=10.0));
    if retry.initial_backoff_ms > retry.max_backoff_ms {
        let (initial, most) = (retry.initial_backoff_ms, retry.max_backoff_ms);
        found.add(
            "retry.initial_backoff_ms",
            format!("is {initial}, more than max_backoff_ms, which is {most}"),
        );
    }
}

fn check_breaker(breaker: &Breaker, found: &mut Found) {
    // Not a range: 0 is excluded.
    if !(breaker.failure_ratio > 0.0 && breaker.failure_ratio <= 1.0) {
        let given = breaker.failure_ratio;
        found.add("circuit_breaker.failure_ratio", format!("is {given}; it must be above 0, to 1"));
    }
    found.range("circuit_breaker.min_calls", breaker.min_calls, &(1..=100_000));
    found.range("circuit_breaker.window_ms", breaker.window_ms, &(1_000..=3_600_000));
    found.range("circuit_breaker.open_ms", breaker.open_ms, &(100..=3_600_000));
    found.range("circuit_breaker.probes", breaker.probes, &(1..=100));
}

fn check_cache(cache: &Cache, found: &mut Found) {
    found.range("cache.ttl_s", cache.ttl_s, &(1..=MAX_TTL_S));
    found.range("cache.stale_s", cache.stale_s, &(-1..=MAX_TTL_S));
    found.range("cache.negative_ttl_s", cache.negative_ttl_s, &(0..=MAX_TTL_S));
    let Some(Semantic { field, min_similarity, max_error, shadow_rate }) = &cache.semantic else { return };
    if field.is_empty() {
        found.add("cache.semantic.field", "is empty: name the text argument that may differ");
    }
    found.range("cache.semantic.min_similarity", *min_similarity, &(0.5..=1.0));
    found.range("cache.semantic.max_error", *max_error, &(0.0001..=0.5));
    found.range("cache.semantic.shadow_rate", *shadow_rate, &(0.01..=1.0));
}

fn check_place(key: &IdempotencyKey, found: &mut Found) {
    match key {
        IdempotencyKey::Header(name) => {
            if name.len() > MAX_NAME || !is_token(name) {
                found.add("idempotency_key.header", format!("{name:?} is not the name of a header"));
            } else if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                found.add("idempotency_key.header", format!("{name:?} has a meaning of its own"));
            }
        }
        IdempotencyKey::Argument(name) => {
            if name.is_empty() {
                found.add("idempotency_key.argument", "is empty: name the argument that takes the key");
            }
        }
        IdempotencyKey::Meta(name) => {
            if !is_meta_key(name) {
                let wanted =
                    "is not a key of _meta, such as \"example.com/idempotencyKey\", that is free for use";
                found.add("idempotency_key.meta", format!("{name:?} {wanted}"));
            }
        }
    }
}

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Model Context Protocol, "General fields: _meta": a name, or labels joined by dots, a slash and a name;
/// prefixes with `mcp` or `modelcontextprotocol` as a label and `progressToken` are the protocol's own.
fn is_meta_key(key: &str) -> bool {
    let (labels, name) = key.rsplit_once('/').map_or((None, key), |(labels, name)| (Some(labels), name));
    let ends = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let is_name = ends(name) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let is_label = |label: &str| {
        ends(label)
            && label.starts_with(|c: char| c.is_ascii_alphabetic())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !matches!(label, "mcp" | "modelcontextprotocol")
    };
    key.len() <= MAX_NAME
        && is_name
        && key != "progressToken"
        && labels.is_none_or(|labels| labels.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(edit: impl Fn(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::default();
        edit(&mut settings);
        let mut found = Found::default();
        check(&settings, &mut found);
        found.below("").into_iter().map(|violation| violation.field).collect()
    }

    fn semantic() -> Semantic {
        Semantic { field: "q".into(), min_similarity: 0.9, max_error: 0.01, shadow_rate: 0.05 }
    }

    type Edit = fn(&mut Settings, f64);

    #[test]
    #[allow(clippy::cast_possible_truncation, reason = "whole numbers in a table of tests")]
    fn limits_are_taken_to_the_edge_and_not_beyond() {
        let cases: [(&str, Edit, &[f64], &[f64]); 17] = [
            ("timeout_ms", |s, x| s.timeout_ms = x as i64, &[0., 1e3, 3e5], &[-1., 999., 300_001.]),
            (
                "rate_limit_per_minute",
                |s, x| s.rate_limit_per_minute = x as i32,
                &[0., 1., 1e6],
                &[-1., 1_000_001.],
            ),
            ("max_concurrent", |s, x| s.max_concurrent = x as i32, &[0., 1., 1e4], &[-1., 10_001.]),
            ("retry.max_retries", |s, x| s.retry.max_retries = x as i32, &[0., 10.], &[-1., 11.]),
            (
                "retry.initial_backoff_ms",
                |s, x| s.retry.initial_backoff_ms = x as i64,
                &[1., 3e4],
                &[-1., 30_001.],
            ),
            ("retry.max_backoff_ms", |s, x| s.retry.max_backoff_ms = x as i64, &[1e3, 3e5], &[300_001.]),
            ("retry.multiplier", |s, x| s.retry.multiplier = x, &[1., 10.], &[0.9, 10.1, f64::NAN]),
            (
                "circuit_breaker.failure_ratio",
                |s, x| s.circuit_breaker.failure_ratio = x,
                &[0.01, 1.],
                &[-0.1, 0., 1.1, f64::NAN],
            ),
            (
                "circuit_breaker.min_calls",
                |s, x| s.circuit_breaker.min_calls = x as i32,
                &[1., 1e5],
                &[-1., 100_001.],
            ),
            (
                "circuit_breaker.window_ms",
                |s, x| s.circuit_breaker.window_ms = x as i64,
                &[1e3, 3.6e6],
                &[999., 3_600_001.],
            ),
            (
                "circuit_breaker.open_ms",
                |s, x| s.circuit_breaker.open_ms = x as i64,
                &[100., 3.6e6],
                &[99., 3_600_001.],
            ),
            ("circuit_breaker.probes", |s, x| s.circuit_breaker.probes = x as i32, &[1., 100.], &[-1., 101.]),
            ("cache.ttl_s", |s, x| s.cache.ttl_s = x as i64, &[1., 2_592_000.], &[-1., 2_592_001.]),
            ("cache.stale_s", |s, x| s.cache.stale_s = x as i64, &[-1., 0., 2_592_000.], &[-2., 2_592_001.]),
            (
                "cache.negative_ttl_s",
                |s, x| s.cache.negative_ttl_s = x as i64,
                &[0., 2_592_000.],
                &[-1., 2_592_001.],
            ),
            (
                "cache.semantic.min_similarity",
                |s, x| s.cache.semantic = Some(Semantic { min_similarity: x, ..semantic() }),
                &[0.5, 1.],
                &[0., 0.49, 1.01],
            ),
            (
                "cache.semantic.max_error",
                |s, x| s.cache.semantic = Some(Semantic { max_error: x, ..semantic() }),
                &[0.0001, 0.5],
                &[0., 0.000_09, 0.51],
            ),
        ];
        for (field, edit, good, bad) in cases {
            for &number in good {
                assert_eq!(
                    fields(|settings| edit(settings, number)),
                    Vec::<String>::new(),
                    "{field} {number}"
                );
            }
            for &number in bad {
                assert_eq!(fields(|settings| edit(settings, number)), [field], "{field} {number}");
            }
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_path_in_the_request() {
        let mut settings = Settings { timeout_ms: 1, max_concurrent: -1, ..Settings::default() };
        settings.retry.max_retries = 11;
        settings.cache.semantic = Some(Semantic::default());
        let mut found = Found::default();
        check(&settings, &mut found);
        let found: Vec<_> = found.below("settings.").into_iter().map(|violation| violation.field).collect();
        let expected = [
            "timeout_ms",
            "max_concurrent",
            "retry.max_retries",
            "cache.semantic.field",
            "cache.semantic.min_similarity",
            "cache.semantic.max_error",
        ];
        assert_eq!(found, expected.map(|field| format!("settings.{field}")));
    }

    #[test]
    fn what_redaction_cannot_use_is_told_with_its_place() {
        let pattern = |pattern: &str| redact::Pattern { name: "case".into(), pattern: pattern.into() };
        let wrong = |keys: &[&str], patterns: &[&str]| {
            let keys = keys.iter().map(ToString::to_string).collect::<Vec<_>>();
            let patterns = patterns.iter().map(|text| pattern(text)).collect::<Vec<_>>();
            fields(|settings| {
                settings.redaction = redact::Added { keys: keys.clone(), patterns: patterns.clone() };
            })
        };
        assert_eq!(wrong(&["badge", "*_pin"], &[r"CASE-\d{6}"]), [""; 0]);
        assert_eq!(wrong(&["badge", "a*"], &[]), ["redaction.keys[1]"]);
        for bad in ["(", "x*", "x+", "(?=a)b", r"(a)\1", r"(\w{100}){100}", ""] {
            assert_eq!(wrong(&[], &[bad]), ["redaction.patterns[0].pattern"], "{bad}");
        }
        assert_eq!(wrong(&[], &["a", "b"]), ["redaction.patterns[1].name"]);
    }

    #[test]
    fn an_idempotency_key_goes_where_it_does_no_harm() {
        let place = |key: IdempotencyKey| fields(|settings| settings.idempotency_key = Some(key.clone()));
        for good in ["Idempotency-Key", "X-Request-Id", "k"] {
            assert!(place(IdempotencyKey::Header(good.into())).is_empty(), "{good}");
        }
        for bad in ["", "a b", "Größe", "AUTHORIZATION", "host", "Content-Length", "cookie", "a:b"] {
            assert_eq!(place(IdempotencyKey::Header(bad.into())), ["idempotency_key.header"], "{bad}");
        }
        for good in ["idempotencyKey", "example.com/key", "a.b-c/d_e.f"] {
            assert!(place(IdempotencyKey::Meta(good.into())).is_empty(), "{good}");
        }
        for bad in
            ["", "a b", "/x", "x/", "progressToken", "modelcontextprotocol.io/x", "a.mcp/x", "1a/x", "_x"]
        {
            assert_eq!(place(IdempotencyKey::Meta(bad.into())), ["idempotency_key.meta"], "{bad}");
        }
        assert_eq!(place(IdempotencyKey::Argument(String::new())), ["idempotency_key.argument"]);
    }
}
