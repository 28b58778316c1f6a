//! How a tool is run, beyond its definition: what operators set, the same for every version. No I/O, and
//! never a part of a definition or its digest.

use serde::{Deserialize, Serialize};

/// The settings of a tool, whole: what was never set stands here with its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Longest run of one attempt in milliseconds; 0: that of the definition.
    pub timeout_ms: i64,
    /// Calls a minute; 0: those of the definition.
    pub rate_limit_per_minute: i32,
    /// Calls under way at once in one executor process; 0: the executor's default.
    pub max_concurrent: i32,
    pub retry: Retry,
    pub circuit_breaker: Breaker,
    pub cache: Cache,
    pub output_mode: OutputMode,
    pub degradation: Degradation,
    /// `None`: the tool takes no idempotency key.
    pub idempotency_key: Option<IdempotencyKey>,
    /// In the order in which they are tried.
    pub fallbacks: Vec<Fallback>,
    /// What is taken out of its calls before they are stored, besides what always is.
    pub redaction: redact::Added,
}

/// When and how often a failed attempt is made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Retry {
    pub max_retries: i32,
    pub initial_backoff_ms: i64,
    pub max_backoff_ms: i64,
    pub multiplier: f64,
    pub jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_retries: 3,
            initial_backoff_ms: 1_000,
            max_backoff_ms: 30_000,
            multiplier: 2.0,
            jitter: true,
        }
    }
}

/// When a tool is left alone for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Breaker {
    pub failure_ratio: f64,
    pub min_calls: i32,
    pub window_ms: i64,
    pub open_ms: i64,
    pub probes: i32,
    pub disabled: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failure_ratio: 0.5,
            min_calls: 10,
            window_ms: 30_000,
            open_ms: 30_000,
            probes: 3,
            disabled: false,
        }
    }
}

/// Whether answers are kept and given again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cache {
    pub enabled: bool,
    pub ttl_s: i64,
    pub stale_s: i64,
    /// 0: refusals are not kept.
    pub negative_ttl_s: i64,
    /// `None`: only the very same arguments count.
    pub semantic: Option<Semantic>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { enabled: false, ttl_s: 3_600, stale_s: 86_400, negative_ttl_s: 60, semantic: None }
    }
}

/// Answers for texts that say nearly the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Semantic {
    /// The text argument that may differ.
    pub field: String,
    pub min_similarity: f64,
    pub max_error: f64,
    pub shadow_rate: f64,
}

impl Default for Semantic {
    /// Names no field: that, and how much error is bearable, nobody but the operator can know.
    fn default() -> Self {
        Self { field: String::new(), min_similarity: 0.0, max_error: 0.0, shadow_rate: 0.05 }
    }
}

/// What is done with a result that breaks the output schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputMode {
    #[default]
    Strict,
    Warn,
    Off,
}

/// What is answered when the tool and every fallback failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Degradation {
    #[default]
    Full,
    Partial,
    Cached,
    Abort,
}

/// Where a tool takes an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IdempotencyKey {
    Header(String),
    Argument(String),
    Meta(String),
}

/// A tool that stands in for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fallback {
    pub tool: String,
    pub conditions: Vec<Condition>,
    /// CEL; empty: the same arguments.
    pub arguments: String,
    /// Lower ones are tried first.
    pub priority: i32,
}

/// After which failure a fallback is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    Timeout,
    RateLimit,
    AuthFailure,
    InvalidData,
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_row_does_not_say_has_its_default() {
        let old = r#"{"timeout_ms": 5000, "cache": {"enabled": true}, "idempotency_key": {"meta": "key"}}"#;
        let expected = Settings {
            timeout_ms: 5_000,
            cache: Cache { enabled: true, ..Cache::default() },
            idempotency_key: Some(IdempotencyKey::Meta("key".into())),
            ..Settings::default()
        };
        assert_eq!(serde_json::from_str::<Settings>(old).unwrap(), expected);
    }
}
