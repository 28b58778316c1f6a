//! Update masks: which of the settings a request changes, by the contract's names. No I/O.

use ::rpc::FieldViolation;

use crate::settings::{IdempotencyKey, Semantic, Settings};

/// How alike a path must be to be told instead of an unknown one, from 0 to 1 (Jaro-Winkler).
const LIKENESS: f64 = 0.75;

/// Path of the fallbacks.
const FALLBACKS: &str = "fallbacks";

/// Takes one of the settings over: to the first, from the second.
type Take = fn(&mut Settings, &Settings);

macro_rules! paths {
    ($($first:ident $(. $rest:ident)*),+ $(,)?) => {
        &[$((
            concat!(stringify!($first) $(, ".", stringify!($rest))*),
            |to, from| to.$first $(.$rest)*.clone_from(&from.$first $(.$rest)*),
        )),+]
    };
}

const PLAIN: &[(&str, Take)] = paths![
    timeout_ms,
    rate_limit_per_minute,
    max_concurrent,
    retry,
    retry.max_retries,
    retry.initial_backoff_ms,
    retry.max_backoff_ms,
    retry.multiplier,
    retry.jitter,
    circuit_breaker,
    circuit_breaker.failure_ratio,
    circuit_breaker.min_calls,
    circuit_breaker.window_ms,
    circuit_breaker.open_ms,
    circuit_breaker.probes,
    circuit_breaker.disabled,
    cache,
    cache.enabled,
    cache.ttl_s,
    cache.stale_s,
    cache.negative_ttl_s,
    cache.semantic,
    output_mode,
    degradation,
    idempotency_key,
    fallbacks,
    redaction,
    redaction.keys,
    redaction.patterns,
];

/// Those below a setting that may be unset.
const BELOW: &[(&str, Take)] = &[
    ("cache.semantic.field", |to, from| semantic(to, from, |to, from| to.field.clone_from(&from.field))),
    ("cache.semantic.min_similarity", |to, from| {
        semantic(to, from, |to, from| to.min_similarity = from.min_similarity);
    }),
    ("cache.semantic.max_error", |to, from| semantic(to, from, |to, from| to.max_error = from.max_error)),
    ("cache.semantic.shadow_rate", |to, from| {
        semantic(to, from, |to, from| to.shadow_rate = from.shadow_rate);
    }),
    ("idempotency_key.header", |to, from| place(to, from, |key| matches!(key, IdempotencyKey::Header(_)))),
    ("idempotency_key.argument", |to, from| {
        place(to, from, |key| matches!(key, IdempotencyKey::Argument(_)));
    }),
    ("idempotency_key.meta", |to, from| place(to, from, |key| matches!(key, IdempotencyKey::Meta(_)))),
];

fn semantic(to: &mut Settings, from: &Settings, take: fn(&mut Semantic, &Semantic)) {
    if let Some(from) = &from.cache.semantic {
        take(to.cache.semantic.get_or_insert_default(), from);
    } else if let Some(to) = &mut to.cache.semantic {
        take(to, &Semantic::default());
    }
}

/// One of several places: the one that is set replaces any other, the one that is not is cleared.
fn place(to: &mut Settings, from: &Settings, is_it: fn(&IdempotencyKey) -> bool) {
    if from.idempotency_key.as_ref().is_some_and(is_it) || to.idempotency_key.as_ref().is_some_and(is_it) {
        to.idempotency_key = from.idempotency_key.clone().filter(is_it);
    }
}

/// Which settings change.
#[derive(Debug, Clone)]
pub(crate) enum Mask {
    /// All of them.
    All,
    /// These.
    Paths(Vec<Take>, /** Whether the fallbacks are among them. */ bool),
}

impl Mask {
    /// The fallbacks alone.
    pub(crate) fn fallbacks() -> Self {
        Self::Paths(vec![|to, from| to.fallbacks.clone_from(&from.fallbacks)], true)
    }

    /// Reads the paths of a mask, none for all; or tells every one that is unknown.
    pub(crate) fn read(paths: &[String]) -> Result<Self, Vec<FieldViolation>> {
        if paths.is_empty() || paths == ["*"] {
            return Ok(Self::All);
        }
        let (mut takes, mut unknown) = (Vec::new(), Vec::new());
        for (index, path) in paths.iter().enumerate() {
            match all().find(|(known, _)| known == path) {
                Some((_, take)) => takes.push(*take),
                None => unknown.push(FieldViolation {
                    field: format!("update_mask.paths[{index}]"),
                    description: format!("{path:?} is none of the settings{}", nearest(path)),
                }),
            }
        }
        let has_fallbacks = paths.iter().any(|path| path == FALLBACKS);
        if unknown.is_empty() { Ok(Self::Paths(takes, has_fallbacks)) } else { Err(unknown) }
    }

    /// Whether the fallbacks change.
    pub(crate) fn has_fallbacks(&self) -> bool {
        matches!(self, Self::All | Self::Paths(_, true))
    }

    /// The settings as they become.
    pub(crate) fn apply(&self, current: &Settings, given: &Settings) -> Settings {
        match self {
            Self::All => given.clone(),
            Self::Paths(takes, _) => {
                let mut merged = current.clone();
                for take in takes {
                    take(&mut merged, given);
                }
                merged
            }
        }
    }
}

fn all() -> impl Iterator<Item = &'static (&'static str, Take)> {
    PLAIN.iter().chain(BELOW)
}

fn nearest(path: &str) -> String {
    let scored = all().map(|(known, _)| (strsim::jaro_winkler(path, known), *known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= LIKENESS);
    best.map(|(_, known)| format!("; did you mean {known}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Cache, Retry};

    fn mask(paths: &[&str]) -> Result<Mask, Vec<FieldViolation>> {
        Mask::read(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    }

    fn other() -> Settings {
        Settings {
            timeout_ms: 7_000,
            retry: Retry { max_retries: 9, jitter: false, ..Retry::default() },
            cache: Cache {
                ttl_s: 5,
                semantic: Some(Semantic { field: "q".into(), min_similarity: 0.9, ..Semantic::default() }),
                ..Cache::default()
            },
            idempotency_key: Some(IdempotencyKey::Header("X-Key".into())),
            ..Settings::default()
        }
    }

    fn merged(paths: &[&str], current: &Settings, given: &Settings) -> Settings {
        mask(paths).unwrap().apply(current, given)
    }

    #[test]
    fn only_what_is_named_changes() {
        let (current, given) = (Settings::default(), other());
        let retries = merged(&["retry.max_retries"], &current, &given);
        let expected = Retry { max_retries: 9, ..Retry::default() };
        assert_eq!(retries, Settings { retry: expected, ..Settings::default() });
        let two = merged(&["cache.ttl_s", "timeout_ms"], &current, &given);
        assert_eq!((two.cache.ttl_s, two.timeout_ms, two.cache.semantic), (5, 7_000, None));
        assert_eq!(merged(&[], &current, &given), given);
        assert_eq!(merged(&["retry"], &given, &current).retry, Retry::default());
    }

    #[test]
    fn what_is_below_an_unset_setting_sets_it() {
        let (current, given) = (Settings::default(), other());
        let field = merged(&["cache.semantic.field"], &current, &given).cache.semantic.unwrap();
        assert_eq!((field.field.as_str(), field.min_similarity), ("q", 0.0));
        assert_eq!(merged(&["cache.semantic.field"], &current, &current), current);
        let header = merged(&["idempotency_key.header"], &current, &given);
        assert_eq!(header.idempotency_key, given.idempotency_key);
        let argument =
            Settings { idempotency_key: Some(IdempotencyKey::Argument("key".into())), ..Settings::default() };
        assert_eq!(merged(&["idempotency_key.meta"], &argument, &given), argument);
        assert_eq!(
            merged(&["idempotency_key.header"], &argument, &given).idempotency_key,
            given.idempotency_key
        );
        assert_eq!(merged(&["idempotency_key.argument"], &argument, &current).idempotency_key, None);
    }

    #[test]
    fn every_unknown_path_is_told_with_the_nearest() {
        let found = mask(&["retry.max_retrys", "timeout_ms", "zzz"]).unwrap_err();
        let told: Vec<_> = found.iter().map(|v| format!("{} {}", v.field, v.description)).collect();
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("update_mask.paths[0]")
                && told[0].contains("did you mean retry.max_retries?")
        );
        assert!(told[1].ends_with("is none of the settings"), "{told:?}");
    }

    #[test]
    fn every_setting_has_its_path() {
        // Walks the serialised settings, whose names are those of the contract.
        fn walk(at: &str, value: &serde_json::Value, found: &mut Vec<String>) {
            for (name, inner) in value.as_object().into_iter().flatten() {
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                walk(&path, inner, found);
                found.push(path);
            }
        }
        let mut found = Vec::new();
        walk("", &serde_json::to_value(other()).unwrap(), &mut found);
        found.extend(["idempotency_key.argument", "idempotency_key.meta"].map(str::to_owned));
        let mut known: Vec<_> = all().map(|(path, _)| (*path).to_owned()).collect();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known);
    }
}
