//! What the services share beyond PostgreSQL: rates and cached answers, in Redis where there is one, else in this
//! process. Never the only copy of anything.

use anyhow::Context;
use cache::{Cache, Limits};
use executor::CacheVariant;
use limit::Limiter;
use store::{Redis, RedisOptions};

use crate::config::{RedisSettings, Settings};

/// The configured Redis; `None`: there is none.
pub(crate) fn connect(settings: &RedisSettings) -> anyhow::Result<Option<Redis>> {
    if settings.urls.is_empty() {
        return Ok(None);
    }
    let options = RedisOptions {
        urls: settings.urls.clone(),
        cluster: settings.cluster,
        timeout: std::time::Duration::from_millis(settings.timeout_ms),
    };
    Redis::new(&options).context("redis.urls").map(Some)
}

/// Counts over all processes where there is a Redis, else in this one.
pub(crate) fn limiter(settings: &Settings, redis: Option<&Redis>) -> Limiter {
    match redis {
        Some(redis) => Limiter::redis(redis.clone(), settings.redis.replicas),
        None => Limiter::memory(),
    }
}

/// The cache of tools' answers, sealed under this key where others could read it.
pub(crate) fn cache(settings: &Settings, redis: Option<&Redis>, key: &[u8; 32]) -> anyhow::Result<Cache> {
    let config = &settings.executor.cache;
    let limits = Limits { max_entry_bytes: config.max_entry_bytes, max_bytes: config.max_bytes };
    Ok(match config.variant {
        CacheVariant::Off => Cache::Off,
        CacheVariant::Memory => Cache::memory(limits),
        CacheVariant::Redis => {
            let redis = redis.context("executor.cache.variant is redis, and redis.urls is empty")?;
            Cache::redis(redis.clone(), key, limits)
        }
    })
}
