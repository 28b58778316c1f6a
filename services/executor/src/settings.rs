//! How a tool is run, read from its settings in the catalog: the registry has checked them and filled in what was
//! never set; a tool without settings has the defaults.

use std::time::Duration;

use limit::Rate;
use proto::registry::v1::{
    CacheSettings, Degradation, Fallback, OutputMode, SemanticMatch, Tool, ToolDefinition, ToolSettings,
    idempotency_key::Place as KeyPlace,
};
use resilience::{BreakerSettings, RetryPolicy};

/// Defaults of `registry.proto`, for tools whose settings are not there.
const TTL: Duration = Duration::from_hours(1);
const STALE: Duration = Duration::from_hours(24);
const NEGATIVE_TTL: Duration = Duration::from_mins(1);
const SHADOW_RATE: f64 = 0.05;
/// The window of a tool's rate.
const MINUTE: Duration = Duration::from_mins(1);

/// The settings of one tool.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub retry: RetryPolicy,
    pub breaker: BreakerSettings,
    pub breaker_disabled: bool,
    /// Calls at once in this process; 0: the executor's default.
    pub max_concurrent: usize,
    pub rate_limit_per_minute: u32,
    pub output_mode: OutputMode,
    pub degradation: Degradation,
    pub key_place: Option<KeyPlace>,
    /// `None`: answers are not kept.
    pub cache: Option<Caching>,
    pub fallbacks: Vec<Fallback>,
}

/// How long answers are kept.
#[derive(Debug, Clone)]
pub(crate) struct Caching {
    pub ttl: Duration,
    pub stale_for: Duration,
    pub negative_ttl: Duration,
    pub semantic: Option<SemanticMatch>,
}

impl Settings {
    pub(crate) fn of(tool: &Tool) -> Self {
        let unset = ToolSettings::default();
        let settings = tool.settings.as_ref().unwrap_or(&unset);
        Self {
            retry: retry(settings),
            breaker: breaker(settings),
            breaker_disabled: settings.circuit_breaker.as_ref().is_some_and(|breaker| breaker.disabled),
            max_concurrent: usize::try_from(settings.max_concurrent).unwrap_or(0),
            rate_limit_per_minute: u32::try_from(settings.rate_limit_per_minute).unwrap_or(0),
            output_mode: settings.output_mode(),
            degradation: match settings.degradation() {
                Degradation::Unspecified => Degradation::Full,
                said => said,
            },
            cache: settings.cache.as_ref().filter(|cache| cache.enabled).map(caching),
            key_place: settings.idempotency_key.as_ref().and_then(|key| key.place.clone()),
            fallbacks: settings.fallbacks.clone(),
        }
    }

    /// The tool's rate: a minute's calls may come at once, and then as they are earned back.
    pub(crate) fn rate(&self, definition: Option<&ToolDefinition>) -> Option<Rate> {
        let own = definition.map_or(0, |definition| definition.rate_limit_per_minute);
        let limit = match self.rate_limit_per_minute {
            0 => u32::try_from(own).unwrap_or(0),
            set => set,
        };
        (limit > 0).then_some(Rate { limit, period: MINUTE, burst: limit })
    }
}

/// The timeout of one attempt: the tool's, or what the call asks for where that is shorter.
pub(crate) fn timeout(tool: &Tool, asked_ms: i64) -> Duration {
    let set = tool.settings.as_ref().map_or(0, |settings| settings.timeout_ms);
    let own = tool.definition.as_ref().map_or(0, |definition| definition.timeout_ms);
    let own = millis(if set > 0 { set } else { own });
    if asked_ms > 0 { own.min(millis(asked_ms)) } else { own }
}

/// What is taken out of a tool's calls before they are stored, besides what always is.
pub(crate) fn redaction(tool: &Tool) -> redact::Added {
    let set = tool.settings.as_ref().and_then(|settings| settings.redaction.clone()).unwrap_or_default();
    redact::Added::of(set.keys, set.patterns.into_iter().map(|it| (it.name, it.pattern)))
}

fn retry(settings: &ToolSettings) -> RetryPolicy {
    let default = RetryPolicy::default();
    let Some(set) = &settings.retry else { return default };
    RetryPolicy {
        max_retries: set.max_retries.map_or(default.max_retries, |n| u32::try_from(n).unwrap_or(0)),
        initial_backoff: millis_or(set.initial_backoff_ms, default.initial_backoff),
        max_backoff: millis_or(set.max_backoff_ms, default.max_backoff),
        multiplier: if set.multiplier >= 1.0 { set.multiplier } else { default.multiplier },
        jitter: set.jitter.unwrap_or(default.jitter),
    }
}

fn breaker(settings: &ToolSettings) -> BreakerSettings {
    let default = BreakerSettings::default();
    let Some(set) = &settings.circuit_breaker else { return default };
    let count = |number: i32, or: u32| if number > 0 { number.unsigned_abs() } else { or };
    BreakerSettings {
        failure_ratio: if set.failure_ratio > 0.0 { set.failure_ratio } else { default.failure_ratio },
        min_calls: count(set.min_calls, default.min_calls),
        window: millis_or(set.window_ms, default.window),
        open_for: millis_or(set.open_ms, default.open_for),
        probes: count(set.probes, default.probes),
        ..default
    }
}

fn caching(set: &CacheSettings) -> Caching {
    let seconds = |number: i64, or: Duration| match u64::try_from(number) {
        Ok(0) | Err(_) => or,
        Ok(seconds) => Duration::from_secs(seconds),
    };
    let semantic = set.semantic.clone().map(|mut semantic| {
        if semantic.shadow_rate <= 0.0 {
            semantic.shadow_rate = SHADOW_RATE;
        }
        semantic
    });
    Caching {
        ttl: seconds(set.ttl_s, TTL),
        // Below zero: never.
        stale_for: if set.stale_s < 0 { Duration::ZERO } else { seconds(set.stale_s, STALE) },
        negative_ttl: set
            .negative_ttl_s
            .map_or(NEGATIVE_TTL, |s| Duration::from_secs(u64::try_from(s).unwrap_or(0))),
        semantic,
    }
}

fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

fn millis_or(number: i64, or: Duration) -> Duration {
    if number > 0 { millis(number) } else { or }
}
