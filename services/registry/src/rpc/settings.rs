//! Settings of tools between the contract and the domain: what is not said becomes its default. Decides
//! nothing else.

use ::rpc::FieldViolation;
use proto::registry::v1::{
    self as wire, GetFallbacksResponse, ResolvedFallback, SetFallbacksRequest, ToolSettings,
    UpdateToolRequest,
};

use super::mapping::wire_status;
use crate::{
    Error,
    fallbacks::Fallbacks,
    mask::Mask,
    register::SettingsPlan,
    settings::{
        Breaker, Cache, Condition, Degradation, Fallback, IdempotencyKey, OutputMode, Retry, Semantic,
        Settings,
    },
    update::Change,
};

/// Where settings stand in a request.
const PREFIX: &str = "settings.";

/// What a registration asks for.
pub(super) fn plan(given: Option<ToolSettings>) -> Result<SettingsPlan, Error> {
    let Some(given) = given else { return Ok(SettingsPlan::Keep) };
    let settings = settings(given).map_err(Error::Invalid)?;
    let change = Change { settings, mask: Mask::All, etag: String::new(), prefix: PREFIX };
    Ok(SettingsPlan::Set(Box::new(change)))
}

/// Name of the tool and what is to change.
pub(super) fn change(request: UpdateToolRequest) -> Result<(String, Change), Error> {
    let mut found = Vec::new();
    let paths = request.update_mask.unwrap_or_default().paths;
    if request.settings.is_none() && paths.is_empty() {
        let description = "is not given; an empty message brings every default back".into();
        found.push(FieldViolation { field: "settings".into(), description });
    }
    let mask = Mask::read(&paths).map_err(|wrong| found.extend(wrong));
    let settings = settings(request.settings.unwrap_or_default()).map_err(|wrong| found.extend(wrong));
    match (mask, settings) {
        (Ok(mask), Ok(settings)) if found.is_empty() => {
            Ok((request.name, Change { settings, mask, etag: request.etag, prefix: PREFIX }))
        }
        _ => Err(Error::Invalid(found)),
    }
}

/// The same, of the fallbacks alone.
pub(super) fn fallbacks_change(request: SetFallbacksRequest) -> Result<(String, Change), Error> {
    let mut found = Vec::new();
    let fallbacks = fallbacks(request.fallbacks, "", &mut found);
    if !found.is_empty() {
        return Err(Error::Invalid(found));
    }
    let settings = Settings { fallbacks, ..Settings::default() };
    Ok((request.name, Change { settings, mask: Mask::fallbacks(), etag: request.etag, prefix: "" }))
}

/// The answer about fallbacks.
pub(super) fn resolved(found: Fallbacks) -> GetFallbacksResponse {
    let resolved = found.resolved.into_iter().map(|(fallback, status)| ResolvedFallback {
        fallback: Some(fallback_message(fallback)),
        status: status.map(|word| wire_status(&word)).unwrap_or_default().into(),
    });
    GetFallbacksResponse { fallbacks: resolved.collect(), etag: found.etag }
}

fn or<T: Default + PartialEq>(given: T, default: T) -> T {
    if given == T::default() { default } else { given }
}

fn settings(given: ToolSettings) -> Result<Settings, Vec<FieldViolation>> {
    let mut found = Vec::new();
    let settings = Settings {
        output_mode: output_mode(given.output_mode, &mut found),
        degradation: degradation(given.degradation, &mut found),
        fallbacks: fallbacks(given.fallbacks, PREFIX, &mut found),
        timeout_ms: given.timeout_ms,
        rate_limit_per_minute: given.rate_limit_per_minute,
        max_concurrent: given.max_concurrent,
        retry: given.retry.map(retry).unwrap_or_default(),
        circuit_breaker: given.circuit_breaker.map(breaker).unwrap_or_default(),
        cache: given.cache.map(cache).unwrap_or_default(),
        idempotency_key: given.idempotency_key.and_then(|key| key.place).map(|place| match place {
            wire::idempotency_key::Place::Header(name) => IdempotencyKey::Header(name),
            wire::idempotency_key::Place::Argument(name) => IdempotencyKey::Argument(name),
            wire::idempotency_key::Place::Meta(name) => IdempotencyKey::Meta(name),
        }),
        redaction: given.redaction.map(redaction).unwrap_or_default(),
    };
    if found.is_empty() { Ok(settings) } else { Err(found) }
}

fn retry(given: wire::RetryPolicy) -> Retry {
    let default = Retry::default();
    Retry {
        max_retries: given.max_retries.unwrap_or(default.max_retries),
        initial_backoff_ms: or(given.initial_backoff_ms, default.initial_backoff_ms),
        max_backoff_ms: or(given.max_backoff_ms, default.max_backoff_ms),
        multiplier: or(given.multiplier, default.multiplier),
        jitter: given.jitter.unwrap_or(default.jitter),
    }
}

fn breaker(given: wire::CircuitBreaker) -> Breaker {
    let default = Breaker::default();
    Breaker {
        failure_ratio: or(given.failure_ratio, default.failure_ratio),
        min_calls: or(given.min_calls, default.min_calls),
        window_ms: or(given.window_ms, default.window_ms),
        open_ms: or(given.open_ms, default.open_ms),
        probes: or(given.probes, default.probes),
        disabled: given.disabled,
    }
}

fn cache(given: wire::CacheSettings) -> Cache {
    let default = Cache::default();
    Cache {
        enabled: given.enabled,
        ttl_s: or(given.ttl_s, default.ttl_s),
        stale_s: or(given.stale_s, default.stale_s),
        negative_ttl_s: given.negative_ttl_s.unwrap_or(default.negative_ttl_s),
        semantic: given.semantic.map(|semantic| Semantic {
            field: semantic.field,
            min_similarity: semantic.min_similarity,
            max_error: semantic.max_error,
            shadow_rate: or(semantic.shadow_rate, Semantic::default().shadow_rate),
        }),
    }
}

fn redaction(given: wire::RedactionSettings) -> redact::Added {
    redact::Added::of(given.keys, given.patterns.into_iter().map(|given| (given.name, given.pattern)))
}

fn unknown(field: String) -> FieldViolation {
    FieldViolation { field, description: "is a number that the contract does not define".into() }
}

fn output_mode(number: i32, found: &mut Vec<FieldViolation>) -> OutputMode {
    match wire::OutputMode::try_from(number) {
        Ok(wire::OutputMode::Unspecified | wire::OutputMode::Strict) => OutputMode::Strict,
        Ok(wire::OutputMode::Warn) => OutputMode::Warn,
        Ok(wire::OutputMode::Off) => OutputMode::Off,
        Err(_) => {
            found.push(unknown(format!("{PREFIX}output_mode")));
            OutputMode::Strict
        }
    }
}

fn degradation(number: i32, found: &mut Vec<FieldViolation>) -> Degradation {
    match wire::Degradation::try_from(number) {
        Ok(wire::Degradation::Unspecified | wire::Degradation::Full) => Degradation::Full,
        Ok(wire::Degradation::Partial) => Degradation::Partial,
        Ok(wire::Degradation::Cached) => Degradation::Cached,
        Ok(wire::Degradation::Abort) => Degradation::Abort,
        Err(_) => {
            found.push(unknown(format!("{PREFIX}degradation")));
            Degradation::Full
        }
    }
}

fn fallbacks(given: Vec<wire::Fallback>, prefix: &str, found: &mut Vec<FieldViolation>) -> Vec<Fallback> {
    let mut all = Vec::new();
    for (index, fallback) in given.into_iter().enumerate() {
        let mut conditions = Vec::new();
        for (nth, number) in fallback.conditions.into_iter().enumerate() {
            match condition(number) {
                Some(condition) if conditions.contains(&condition) => {}
                Some(condition) => conditions.push(condition),
                None => found.push(FieldViolation {
                    field: format!("{prefix}fallbacks[{index}].conditions[{nth}]"),
                    description: "must be TIMEOUT, RATE_LIMIT, AUTH_FAILURE, INVALID_DATA or ANY".into(),
                }),
            }
        }
        let (tool, arguments, priority) = (fallback.tool, fallback.arguments, fallback.priority);
        all.push(Fallback { tool, conditions, arguments, priority });
    }
    all
}

fn condition(number: i32) -> Option<Condition> {
    Some(match wire::FallbackCondition::try_from(number).ok()? {
        wire::FallbackCondition::Unspecified => return None,
        wire::FallbackCondition::Timeout => Condition::Timeout,
        wire::FallbackCondition::RateLimit => Condition::RateLimit,
        wire::FallbackCondition::AuthFailure => Condition::AuthFailure,
        wire::FallbackCondition::InvalidData => Condition::InvalidData,
        wire::FallbackCondition::Any => Condition::Any,
    })
}

/// What a tool has that was given nothing.
pub(crate) fn default_settings() -> ToolSettings {
    message(Settings::default())
}

/// The settings as they are told: whole.
pub(super) fn message(settings: Settings) -> ToolSettings {
    ToolSettings {
        timeout_ms: settings.timeout_ms,
        rate_limit_per_minute: settings.rate_limit_per_minute,
        max_concurrent: settings.max_concurrent,
        retry: Some(wire::RetryPolicy {
            max_retries: Some(settings.retry.max_retries),
            initial_backoff_ms: settings.retry.initial_backoff_ms,
            max_backoff_ms: settings.retry.max_backoff_ms,
            multiplier: settings.retry.multiplier,
            jitter: Some(settings.retry.jitter),
        }),
        circuit_breaker: Some(wire::CircuitBreaker {
            failure_ratio: settings.circuit_breaker.failure_ratio,
            min_calls: settings.circuit_breaker.min_calls,
            window_ms: settings.circuit_breaker.window_ms,
            open_ms: settings.circuit_breaker.open_ms,
            probes: settings.circuit_breaker.probes,
            disabled: settings.circuit_breaker.disabled,
        }),
        cache: Some(cache_message(settings.cache)),
        output_mode: match settings.output_mode {
            OutputMode::Strict => wire::OutputMode::Strict,
            OutputMode::Warn => wire::OutputMode::Warn,
            OutputMode::Off => wire::OutputMode::Off,
        }
        .into(),
        degradation: match settings.degradation {
            Degradation::Full => wire::Degradation::Full,
            Degradation::Partial => wire::Degradation::Partial,
            Degradation::Cached => wire::Degradation::Cached,
            Degradation::Abort => wire::Degradation::Abort,
        }
        .into(),
        idempotency_key: settings.idempotency_key.map(|key| wire::IdempotencyKey {
            place: Some(match key {
                IdempotencyKey::Header(name) => wire::idempotency_key::Place::Header(name),
                IdempotencyKey::Argument(name) => wire::idempotency_key::Place::Argument(name),
                IdempotencyKey::Meta(name) => wire::idempotency_key::Place::Meta(name),
            }),
        }),
        fallbacks: settings.fallbacks.into_iter().map(fallback_message).collect(),
        redaction: Some(redaction_message(settings.redaction)),
    }
}

fn redaction_message(added: redact::Added) -> wire::RedactionSettings {
    let pattern =
        |added: redact::Pattern| wire::RedactionPattern { name: added.name, pattern: added.pattern };
    wire::RedactionSettings { keys: added.keys, patterns: added.patterns.into_iter().map(pattern).collect() }
}

fn cache_message(cache: Cache) -> wire::CacheSettings {
    wire::CacheSettings {
        enabled: cache.enabled,
        ttl_s: cache.ttl_s,
        stale_s: cache.stale_s,
        negative_ttl_s: Some(cache.negative_ttl_s),
        semantic: cache.semantic.map(|semantic| wire::SemanticMatch {
            field: semantic.field,
            min_similarity: semantic.min_similarity,
            max_error: semantic.max_error,
            shadow_rate: semantic.shadow_rate,
        }),
    }
}

fn fallback_message(fallback: Fallback) -> wire::Fallback {
    let number = |condition| match condition {
        Condition::Timeout => wire::FallbackCondition::Timeout.into(),
        Condition::RateLimit => wire::FallbackCondition::RateLimit.into(),
        Condition::AuthFailure => wire::FallbackCondition::AuthFailure.into(),
        Condition::InvalidData => wire::FallbackCondition::InvalidData.into(),
        Condition::Any => wire::FallbackCondition::Any.into(),
    };
    wire::Fallback {
        tool: fallback.tool,
        conditions: fallback.conditions.into_iter().map(number).collect(),
        arguments: fallback.arguments,
        priority: fallback.priority,
    }
}
