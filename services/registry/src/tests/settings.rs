//! Settings are changed without a new version, checked whole, and stay whatever becomes of the definition.

use ::rpc::{ErrorReason, reason_of};
use prost_types::FieldMask;
use proto::{
    registry::v1::{
        CacheSettings, CircuitBreaker, Degradation, Fallback, FallbackCondition, GetFallbacksRequest,
        GetFallbacksResponse, IdempotencyKey, ListToolsRequest, OutputMode, RedactionPattern,
        RedactionSettings, RetryPolicy, SemanticMatch, SetFallbacksRequest, SetToolStatusRequest,
        ToolSettings, ToolStatus, UpdateToolRequest, idempotency_key::Place,
    },
    types::v1::{Effect, Sensitivity},
};
use tonic::{Code, Status};

use super::*;

fn defaults() -> ToolSettings {
    ToolSettings {
        retry: Some(RetryPolicy {
            max_retries: Some(3),
            initial_backoff_ms: 1_000,
            max_backoff_ms: 30_000,
            multiplier: 2.0,
            jitter: Some(true),
        }),
        circuit_breaker: Some(CircuitBreaker {
            failure_ratio: 0.5,
            min_calls: 10,
            window_ms: 30_000,
            open_ms: 30_000,
            probes: 3,
            disabled: false,
        }),
        cache: Some(CacheSettings {
            enabled: false,
            ttl_s: 3_600,
            stale_s: 86_400,
            negative_ttl_s: Some(60),
            semantic: None,
        }),
        output_mode: OutputMode::Strict.into(),
        degradation: Degradation::Full.into(),
        redaction: Some(RedactionSettings::default()),
        ..ToolSettings::default()
    }
}

fn reading(name: &str) -> ToolDefinition {
    ToolDefinition { effect: Effect::ReadOnly.into(), ..definition(name) }
}

fn cached() -> ToolSettings {
    let cache = CacheSettings { enabled: true, ttl_s: 60, ..CacheSettings::default() };
    ToolSettings { cache: Some(cache), ..ToolSettings::default() }
}

fn fallback(tool: &str, priority: i32) -> Fallback {
    let conditions = vec![FallbackCondition::Any.into()];
    Fallback { tool: tool.into(), conditions, arguments: String::new(), priority }
}

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(reason_of(status), Some(ErrorReason::InvalidRequest), "{status:?}");
    let details = tonic_types::StatusExt::get_error_details(status);
    details.bad_request().unwrap().field_violations.iter().map(|each| each.field.clone()).collect()
}

fn settings(tool: &Tool) -> &ToolSettings {
    tool.settings.as_ref().unwrap()
}

impl Registry {
    async fn change(
        &self,
        name: &str,
        settings: ToolSettings,
        paths: &[&str],
        etag: &str,
    ) -> Result<Tool, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let message = UpdateToolRequest {
            name: name.into(),
            settings: Some(settings),
            update_mask: Some(FieldMask { paths }),
            etag: etag.into(),
        };
        let updated = self.client.clone().update_tool(request!(self, "team", message)).await?;
        Ok(updated.into_inner().tool.unwrap())
    }

    async fn make(&self, team: &str, message: RegisterToolRequest) -> Result<(Tool, bool), Status> {
        let made = self.client.clone().register_tool(request!(self, team, message)).await?.into_inner();
        Ok((made.tool.unwrap(), made.created))
    }

    async fn set_fallbacks(&self, name: &str, fallbacks: Vec<Fallback>) -> Result<Tool, Status> {
        let message = SetFallbacksRequest { name: name.into(), fallbacks, etag: String::new() };
        let set = self.client.clone().set_fallbacks(request!(self, "team", message)).await?;
        Ok(set.into_inner().tool.unwrap())
    }

    async fn fallbacks(&self, name: &str) -> Result<GetFallbacksResponse, Status> {
        let request = request!(self, "team", GetFallbacksRequest { name: name.into() });
        Ok(self.client.clone().get_fallbacks(request).await?.into_inner())
    }
}

#[tokio::test]
async fn settings_change_by_mask_and_stay_whole() {
    let registry = registry(&config(), &database().await);
    let (made, _) = registry.make("team", registration(reading("t"))).await.unwrap();
    let (theirs, _) = registry.make("other", registration(reading("t"))).await.unwrap();
    assert_eq!((settings(&made), made.etag.is_empty()), (&defaults(), false));

    let retry = RetryPolicy { max_retries: Some(0), ..RetryPolicy::default() };
    let given = ToolSettings { retry: Some(retry), timeout_ms: 9_000, ..cached() };
    let changed = registry.change("t", given.clone(), &["retry.max_retries", "cache"], "").await.unwrap();
    let mut expected = defaults();
    expected.retry.as_mut().unwrap().max_retries = Some(0);
    expected.cache = Some(CacheSettings { enabled: true, ttl_s: 60, ..defaults().cache.unwrap() });
    assert_eq!(settings(&changed), &expected, "the timeout was not named");
    assert_eq!((&changed.id, &changed.digest), (&made.id, &made.digest), "no version is made");

    let again = registry.change("t", given.clone(), &["cache"], "").await.unwrap();
    assert_eq!((&again.etag, again.revision), (&changed.etag, changed.revision), "nothing changed");
    let whole = registry.change("t", given, &[], "").await.unwrap();
    assert_eq!(settings(&whole).timeout_ms, 9_000);
    let cleared = registry.change("t", ToolSettings::default(), &["cache", "retry"], "").await.unwrap();
    assert_eq!(settings(&cleared), &ToolSettings { timeout_ms: 9_000, ..defaults() });

    let listed = request!(registry, "team", ListToolsRequest::default());
    let listed = registry.client.clone().list_tools(listed).await.unwrap().into_inner().tools;
    assert_eq!((listed[0].settings.clone(), &listed[0].etag), (cleared.settings, &cleared.etag));
    let request = request!(registry, "other", ListToolsRequest::default());
    let untouched = registry.client.clone().list_tools(request).await.unwrap().into_inner().tools;
    assert_eq!(untouched, [theirs], "another team's tool of the name is another tool");
    registry.stop().await;
}

#[tokio::test]
async fn what_a_tool_adds_to_redaction_is_kept_and_what_cannot_be_used_is_told_with_its_place() {
    let registry = registry(&config(), &database().await);
    registry.make("team", registration(reading("t"))).await.unwrap();
    let redaction = |pattern: &str| {
        let patterns = vec![RedactionPattern { name: "case_number".into(), pattern: pattern.into() }];
        let redaction = RedactionSettings { keys: vec!["badge_no".into()], patterns };
        ToolSettings { redaction: Some(redaction), ..ToolSettings::default() }
    };
    let given = redaction(r"CASE-\d{6}");
    let changed = registry.change("t", given.clone(), &["redaction"], "").await.unwrap();
    assert_eq!(settings(&changed), &ToolSettings { redaction: given.redaction, ..defaults() });
    let wrong = registry.change("t", redaction("CASE-("), &["redaction.patterns"], "").await.unwrap_err();
    assert_eq!(
        (wrong.code(), fields(&wrong)),
        (Code::InvalidArgument, vec!["settings.redaction.patterns[0].pattern".into()])
    );
    let cleared = registry.change("t", ToolSettings::default(), &["redaction.keys"], "").await.unwrap();
    let redaction = settings(&cleared).redaction.clone().unwrap();
    assert_eq!((redaction.keys.len(), redaction.patterns.len()), (0, 1));
    registry.stop().await;
}

#[tokio::test]
async fn a_lost_update_is_refused() {
    let registry = registry(&config(), &database().await);
    let (made, _) = registry.make("team", registration(definition("t"))).await.unwrap();
    let limits = |timeout_ms| ToolSettings { timeout_ms, ..ToolSettings::default() };
    let first = registry.change("t", limits(5_000), &["timeout_ms"], &made.etag).await.unwrap();
    assert_ne!(first.etag, made.etag);
    let status = registry.change("t", limits(6_000), &["timeout_ms"], &made.etag).await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::FailedPrecondition, Some(ErrorReason::EtagMismatch))
    );
    let message = SetFallbacksRequest { name: "t".into(), fallbacks: vec![], etag: made.etag.clone() };
    let status =
        registry.client.clone().set_fallbacks(request!(registry, "team", message)).await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::EtagMismatch));
    assert_eq!(settings(&registry.get("t").await.unwrap()).timeout_ms, 5_000);

    // Neither a status nor a version is a change of the settings.
    let message = SetToolStatusRequest { name: "t".into(), status: ToolStatus::Disabled.into() };
    registry.client.clone().set_tool_status(request!(registry, "team", message)).await.unwrap();
    let next = ToolDefinition { title: "Next".into(), ..definition("t") };
    let (next, created) = registry.make("team", registration(next)).await.unwrap();
    assert_eq!((created, &next.etag, &next.settings), (true, &first.etag, &first.settings));
    let last = registry.change("t", limits(6_000), &["timeout_ms"], &first.etag).await.unwrap();
    assert_eq!((settings(&last).timeout_ms, last.status()), (6_000, ToolStatus::Disabled));
    registry.stop().await;
}

#[tokio::test]
async fn every_violation_is_told_at_once_and_nothing_is_kept() {
    let registry = registry(&config(), &database().await);
    registry.make("team", registration(definition("t"))).await.unwrap();
    let semantic =
        SemanticMatch { field: "none".into(), min_similarity: 0.4, max_error: 0.6, shadow_rate: 2.0 };
    let wrong = ToolSettings {
        timeout_ms: 1,
        rate_limit_per_minute: -1,
        max_concurrent: 10_001,
        retry: Some(RetryPolicy {
            max_retries: Some(11),
            initial_backoff_ms: 40_000,
            multiplier: 11.0,
            ..RetryPolicy::default()
        }),
        circuit_breaker: Some(CircuitBreaker {
            failure_ratio: 1.1,
            probes: 101,
            ..CircuitBreaker::default()
        }),
        cache: Some(CacheSettings {
            enabled: true,
            ttl_s: -1,
            semantic: Some(semantic),
            ..CacheSettings::default()
        }),
        idempotency_key: Some(IdempotencyKey { place: Some(Place::Header("Host".into())) }),
        fallbacks: vec![
            Fallback { tool: "t".into(), arguments: "{".into(), ..Fallback::default() },
            fallback("none", 0),
        ],
        ..ToolSettings::default()
    };
    let expected = [
        "cache.enabled",
        "cache.semantic.field",
        "cache.semantic.max_error",
        "cache.semantic.min_similarity",
        "cache.semantic.shadow_rate",
        "cache.ttl_s",
        "circuit_breaker.failure_ratio",
        "circuit_breaker.probes",
        "fallbacks[0].arguments",
        "fallbacks[0].conditions",
        "fallbacks[0].tool",
        "fallbacks[1].tool",
        "idempotency_key.header",
        "idempotency_key.header",
        "max_concurrent",
        "rate_limit_per_minute",
        "retry.initial_backoff_ms",
        "retry.max_retries",
        "retry.multiplier",
        "timeout_ms",
    ]
    .map(|field| format!("settings.{field}"));
    let mut found = fields(&registry.change("t", wrong.clone(), &[], "").await.unwrap_err());
    found.sort_unstable();
    assert_eq!(found, expected);
    // With a tool that is wrong too, those that the tool decides cannot be told yet; all others are.
    let both = RegisterToolRequest {
        settings: Some(wrong),
        ..registration(ToolDefinition { timeout_ms: 1, ..definition("t") })
    };
    let found = fields(&registry.make("team", both).await.unwrap_err());
    assert!(found.contains(&"definition.timeout_ms".into()) && found.contains(&expected[8]), "{found:?}");
    assert!(found.contains(&expected[17]), "{found:?}");
    let unknown = ToolSettings { output_mode: 9, degradation: 9, ..ToolSettings::default() };
    let found = fields(&registry.change("t", unknown, &["nothing"], "").await.unwrap_err());
    assert_eq!(found, ["update_mask.paths[0]", "settings.output_mode", "settings.degradation"]);
    let untouched = registry.get("t").await.unwrap();
    assert_eq!((settings(&untouched), untouched.revision), (&defaults(), 1));

    let status = registry.change("tt", ToolSettings::default(), &[], "").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::NotFound, Some(ErrorReason::ToolNotFound)));
    let nothing = UpdateToolRequest { name: "t".into(), ..UpdateToolRequest::default() };
    let status = registry.client.clone().update_tool(request!(registry, "team", nothing)).await.unwrap_err();
    assert_eq!(fields(&status), ["settings"]);
    registry.stop().await;
}

#[tokio::test]
async fn a_version_that_its_settings_do_not_go_with_is_refused_until_they_change() {
    let registry = registry(&config(), &database().await);
    let request = RegisterToolRequest { settings: Some(cached()), ..registration(reading("t")) };
    let (made, created) = registry.make("team", request.clone()).await.unwrap();
    assert!(created && settings(&made).cache.as_ref().unwrap().enabled);
    let (again, created) = registry.make("team", request).await.unwrap();
    assert_eq!((again, created), (made, false));

    let guarded = ToolDefinition { sensitivity: Sensitivity::Restricted.into(), ..reading("t") };
    let status = registry.make("team", registration(guarded.clone())).await.unwrap_err();
    assert_eq!(fields(&status), ["settings.cache.enabled"]);
    assert!(status.message().contains("change it first"), "{}", status.message());
    assert_eq!(registry.get("t").await.unwrap().definition.unwrap().version, "1.0.0");

    let given = ToolSettings { max_concurrent: 7, ..ToolSettings::default() };
    let request = RegisterToolRequest { settings: Some(given.clone()), ..registration(guarded) };
    let (next, created) = registry.make("team", request).await.unwrap();
    assert!(created);
    assert_eq!(settings(&next), &ToolSettings { max_concurrent: 7, ..defaults() });
    // The same definition with other settings makes no version, and sets them.
    let other = ToolSettings { max_concurrent: 8, ..given };
    let request =
        RegisterToolRequest { settings: Some(other), ..registration(next.definition.clone().unwrap()) };
    let (same, created) = registry.make("team", request).await.unwrap();
    assert_eq!((created, &same.id, settings(&same).max_concurrent), (false, &next.id, 8));
    registry.stop().await;
}

#[tokio::test]
async fn a_seed_takes_the_settings_that_go_with_it() {
    let database = database().await;
    let registry = registry(&config(), &database);
    let settings = ToolSettings {
        timeout_ms: 5_000,
        idempotency_key: Some(IdempotencyKey { place: Some(Place::Argument("city".into())) }),
        ..ToolSettings::default()
    };
    let echo = Kind::Builtin(BuiltinBinding { name: "echo".into() });
    let weather = ToolDefinition { binding: Some(Binding { kind: Some(echo) }), ..definition("weather") };
    let request = RegisterToolRequest { settings: Some(settings), ..registration(weather) };
    registry.make("team", request).await.unwrap();
    let next = crate::check::tests::proposal();
    let next = crate::definition::Proposal { input_schema: r#"{"type":"object"}"#.into(), ..next };
    let plan = crate::register::SettingsPlan::Fit;
    crate::register::register(&database, &crate::trail::own("team"), next, plan).await.unwrap();
    let seeded = registry.get("weather").await.unwrap();
    assert_eq!(seeded.settings.unwrap(), ToolSettings { timeout_ms: 5_000, ..defaults() });
    registry.stop().await;
}

#[tokio::test]
async fn fallbacks_are_told_in_order_with_the_state_of_each() {
    let registry = registry(&config(), &database().await);
    for name in ["a", "b", "c"] {
        registry.make("team", registration(definition(name))).await.unwrap();
    }
    registry.make("other", registration(definition("theirs"))).await.unwrap();
    let asked =
        Fallback { arguments: "{\"city\": arguments.city, \"why\": error.code}".into(), ..fallback("c", 1) };
    let set = registry.set_fallbacks("a", vec![fallback("b", 5), asked.clone()]).await.unwrap();
    assert_eq!(settings(&set), &ToolSettings { fallbacks: vec![asked, fallback("b", 5)], ..defaults() });
    let message = SetToolStatusRequest { name: "b".into(), status: ToolStatus::Disabled.into() };
    registry.client.clone().set_tool_status(request!(registry, "team", message)).await.unwrap();
    let answer = registry.fallbacks("a").await.unwrap();
    let told: Vec<_> = answer
        .fallbacks
        .iter()
        .map(|each| (each.fallback.as_ref().unwrap().tool.as_str(), each.status()))
        .collect();
    assert_eq!(told, [("c", ToolStatus::Active), ("b", ToolStatus::Disabled)]);
    assert_eq!(answer.etag, set.etag);

    let status = registry.set_fallbacks("b", vec![fallback("theirs", 0)]).await.unwrap_err();
    assert_eq!(fields(&status), ["fallbacks[0].tool"], "another team's tool is none");
    registry.set_fallbacks("b", vec![fallback("c", 0)]).await.unwrap();
    let status = registry.set_fallbacks("c", vec![fallback("a", 0)]).await.unwrap_err();
    assert!(status.message().contains("c -> a -> c"), "{}", status.message());
    // What was set before is not in the way of what is set now.
    registry.set_fallbacks("a", vec![]).await.unwrap();
    registry.set_fallbacks("c", vec![fallback("a", 0)]).await.unwrap();
    assert_eq!(registry.fallbacks("a").await.unwrap().fallbacks, []);
    assert_eq!(reason_of(&registry.fallbacks("x").await.unwrap_err()), Some(ErrorReason::ToolNotFound));
    registry.stop().await;
}

#[tokio::test]
async fn two_halves_of_a_circle_at_once_are_not_both_taken() {
    let database = database().await;
    let (one, two) = (registry(&config(), &database), registry(&config(), &database));
    for n in 0..8 {
        for side in ["a", "b"] {
            one.make("team", registration(definition(&format!("{side}{n}")))).await.unwrap();
        }
        let (a, b) = (format!("a{n}"), format!("b{n}"));
        let halves = tokio::join!(
            one.set_fallbacks(&a, vec![fallback(&b, 0)]),
            two.set_fallbacks(&b, vec![fallback(&a, 0)])
        );
        assert_ne!(halves.0.is_ok(), halves.1.is_ok(), "exactly one of the two");
    }
    one.stop().await;
    two.stop().await;
}
