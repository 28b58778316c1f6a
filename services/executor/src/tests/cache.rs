//! The result cache through whole calls: what is answered from it, what never is, what is shared while it is under
//! way, and what is dropped everywhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::rpc::{ErrorReason, reason_of};
use ::store::RedisOptions;
use cache::{Cache, Limits};
use proto::{
    executor::v1::{
        CacheStats, CallOptions, CancelExecutionRequest, ExecuteRequest, Execution, ExecutionStatus,
        GetCacheStatsRequest, InvalidateCacheRequest, Source,
    },
    registry::v1::{CacheSettings, Degradation, Tool, ToolDefinition, ToolSettings},
    types::v1::{Effect, Sensitivity},
};
use tonic::{Response, Status};
use types::{Caller, Role};

use super::{
    fakes::Fakes,
    house::{House, PATIENCE, TEAM, agent, ended, execution, posting, request, retries, until},
    upstream::{Held, Upstream, json},
};

/// Settings under which answers are kept, and a tool is tried once.
pub(crate) fn keeping(cache: CacheSettings) -> ToolSettings {
    let cache = CacheSettings { enabled: true, ..cache };
    ToolSettings { cache: Some(cache), retry: Some(retries(0)), ..ToolSettings::default() }
}

pub(crate) fn read_only(definition: ToolDefinition) -> ToolDefinition {
    ToolDefinition { effect: Effect::ReadOnly.into(), ..definition }
}

/// A server that gives another answer each time.
pub(crate) async fn counting() -> Upstream {
    let count = Arc::new(AtomicUsize::new(0));
    Upstream::new(move |_| {
        let nth = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move { json(200, &format!(r#"{{"n":{nth}}}"#)) }
    })
    .await
}

/// A process that hears the others: before that its cache may be emptied at any moment.
pub(crate) async fn hearing(house: House) -> House {
    let upstream = Upstream::well().await;
    house.add_with(read_only(posting("warm", &upstream.url)), keeping(CacheSettings::default()));
    until(async || call(&house, request("warm", "{}")).await.source() == Source::Cache).await;
    house
}

/// With a lease that a burst of a thousand calls on a busy machine does not outlast.
pub(crate) async fn house() -> House {
    hearing(House::with(|config| config.lease_timeout_ms = 30_000).await).await
}

pub(crate) async fn call(house: &House, request: ExecuteRequest) -> Execution {
    execution(house.execute(request).await)
}

/// The answer of the cache, once it has one: a process that has not heard the others for a moment gives none.
pub(crate) async fn from_cache(house: &House, request: &ExecuteRequest) -> Execution {
    let found = std::cell::RefCell::new(Execution::default());
    until(async || {
        *found.borrow_mut() = call(house, request.clone()).await;
        found.borrow().source() == Source::Cache
    })
    .await;
    found.into_inner()
}

fn with(options: CallOptions, request: ExecuteRequest) -> ExecuteRequest {
    ExecuteRequest { options: Some(options), ..request }
}

pub(crate) async fn stats(house: &House, tool: &str) -> CacheStats {
    let asked = house.as_agent(GetCacheStatsRequest { tool_name: tool.into() });
    let answer = house.client.clone().get_cache_stats(asked).await.unwrap().into_inner();
    answer.stats.into_iter().next().unwrap_or_default()
}

async fn invalidate(house: &House, caller: &Caller, arguments_json: &str) -> Result<(), Status> {
    let asked = InvalidateCacheRequest { tool_name: "tool".into(), arguments_json: arguments_json.into() };
    house.client.clone().invalidate_cache(house.asking(caller, asked)).await.map(|_: Response<_>| ())
}

fn operator() -> Caller {
    Caller { role: Role::Operator, ..agent("operator") }
}

#[tokio::test]
async fn a_thousand_equal_calls_at_once_are_one_of_the_tool() {
    let (house, held) = (house().await, Held::new().await);
    house.add_with(read_only(posting("tool", &held.upstream.url)), keeping(CacheSettings::default()));
    let calls: Vec<_> =
        (0..1_000).map(|_| house.spawn(PATIENCE * 2, request("tool", r#"{"q":1}"#))).collect();
    until(async || stats(&house, "tool").await.misses == 1_000).await;
    held.go();
    let mut ids = std::collections::HashSet::new();
    let mut own = 0;
    for call in calls {
        let execution = execution(call.await.unwrap());
        assert_eq!(
            (execution.status(), execution.result_json.as_str()),
            (ExecutionStatus::Succeeded, r#"{"ok":true}"#),
            "{:?}",
            execution.error
        );
        own += usize::from(execution.source() == Source::Unspecified);
        assert!(matches!(execution.source(), Source::Unspecified | Source::Coalesced), "{execution:?}");
        ids.insert(execution.id);
    }
    assert_eq!((held.upstream.hits(), own, ids.len()), (1, 1, 1_000));
    let rows = "SELECT source || ' ' || count(*) || ' ' || sum(cost_micro_usd) FROM executor.execution
        WHERE tool_name = 'tool' GROUP BY source ORDER BY source";
    assert_eq!(house.texts(rows).await, [" 1 7", "coalesced 999 0"]);
    let later = from_cache(&house, &request("tool", r#"{"q":1}"#)).await;
    assert_eq!(
        (later.result_json.as_str(), later.cost_micro_usd, later.attempts.len()),
        (r#"{"ok":true}"#, 0, 0)
    );
    assert_eq!(stats(&house, "tool").await.coalesced, 999);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_comes_as_another_ends_asks_the_tool_no_second_time() {
    let (house, upstream) = (house().await, Upstream::new(|_| async { json(200, r#"{"ok":true}"#) }).await);
    house.add_with(read_only(posting("tool", &upstream.url)), keeping(CacheSettings::default()));
    for round in 1..=100 {
        let arguments = format!(r#"{{"q":{round}}}"#);
        let calls: Vec<_> = (0..8).map(|_| house.spawn(PATIENCE, request("tool", &arguments))).collect();
        for call in calls {
            assert_eq!(execution(call.await.unwrap()).status(), ExecutionStatus::Succeeded);
        }
        assert_eq!(upstream.hits(), round);
    }
}

#[tokio::test]
async fn a_call_with_wishes_of_its_own_shares_no_other_run() {
    let (house, held) = (house().await, Held::new().await);
    house.add_with(read_only(posting("tool", &held.upstream.url)), keeping(CacheSettings::default()));
    let plain = request("tool", "{}");
    let wishes = [
        with(CallOptions { skip_cache: true, ..CallOptions::default() }, plain.clone()),
        with(CallOptions { no_fallbacks: true, ..CallOptions::default() }, plain.clone()),
        with(CallOptions { max_retries: Some(0), ..CallOptions::default() }, plain.clone()),
        with(CallOptions { degradation: Degradation::Abort.into(), ..CallOptions::default() }, plain.clone()),
        ExecuteRequest { timeout_ms: 20_000, ..plain.clone() },
    ];
    let mut calls = vec![house.spawn(PATIENCE, plain)];
    held.reached().await;
    for wish in wishes {
        calls.push(house.spawn(PATIENCE, wish));
        held.reached().await;
    }
    for _ in &calls {
        held.go();
    }
    for call in calls {
        assert_eq!(execution(call.await.unwrap()).source(), Source::Unspecified);
    }
}

#[tokio::test]
async fn when_the_one_that_runs_is_cancelled_another_takes_over() {
    let (house, held) = (house().await, Held::new().await);
    house.add_with(read_only(posting("tool", &held.upstream.url)), keeping(CacheSettings::default()));
    let first = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let id = house.texts("SELECT id::text FROM executor.execution WHERE status = 'running'").await.remove(0);
    let second = house.spawn(PATIENCE, request("tool", "{}"));
    until(async || stats(&house, "tool").await.misses == 2).await;
    let cancel = house.as_agent(CancelExecutionRequest { id });
    house.client.clone().cancel_execution(cancel).await.unwrap();
    ended(first.await.unwrap(), ExecutionStatus::Cancelled);
    held.reached().await;
    held.go();
    // The request of the one that was cancelled may have taken the first.
    held.go();
    ended(second.await.unwrap(), ExecutionStatus::Succeeded);
}

#[tokio::test]
async fn a_fresh_answer_is_given_with_its_age_unless_the_call_wants_a_newer_one() {
    let (house, upstream) = (house().await, counting().await);
    house.add_with(read_only(posting("tool", &upstream.url)), keeping(CacheSettings::default()));
    let plain = request("tool", "{}");
    assert_eq!(call(&house, plain.clone()).await.source(), Source::Unspecified);
    until(async || from_cache(&house, &plain).await.cache_age_ms > 0).await;
    let skips = with(CallOptions { skip_cache: true, ..CallOptions::default() }, plain.clone());
    let newer = call(&house, skips).await;
    assert_eq!(newer.source(), Source::Unspecified);
    let kept = from_cache(&house, &plain).await;
    assert_eq!(kept.result_json, newer.result_json, "the newer answer is kept");
    let aged = |max_age_s| with(CallOptions { max_age_s, ..CallOptions::default() }, plain.clone());
    assert_eq!(from_cache(&house, &aged(3_600)).await.result_json, kept.result_json);
    let hits = upstream.hits();
    until(async || call(&house, aged(1)).await.source() == Source::Unspecified).await;
    assert_eq!(upstream.hits(), hits + 1);
}

#[tokio::test]
async fn an_answer_ends_with_its_ttl() {
    let (house, upstream) = (house().await, counting().await);
    let settings = keeping(CacheSettings { ttl_s: 1, ..CacheSettings::default() });
    house.add_with(read_only(posting("tool", &upstream.url)), settings);
    let kept = from_cache(&house, &request("tool", "{}")).await;
    let newest = std::cell::RefCell::new(Execution::default());
    until(async || {
        *newest.borrow_mut() = call(&house, request("tool", "{}")).await;
        newest.borrow().source() == Source::Unspecified
    })
    .await;
    assert_ne!(newest.into_inner().result_json, kept.result_json);
}

#[tokio::test]
async fn what_changes_the_world_and_what_is_restricted_is_never_kept() {
    let (house, upstream) = (house().await, counting().await);
    let restricted = read_only(posting("restricted", &upstream.url));
    let restricted = ToolDefinition { sensitivity: Sensitivity::Restricted.into(), ..restricted };
    for definition in [posting("acts", &upstream.url), restricted] {
        let name = definition.name.clone();
        house.add_with(definition, keeping(CacheSettings::default()));
        let before = upstream.hits();
        for _ in 0..3 {
            assert_eq!(call(&house, request(&name, "{}")).await.source(), Source::Unspecified);
        }
        assert_eq!(upstream.hits() - before, 3, "{name}");
        assert_eq!(stats(&house, &name).await, CacheStats::default());
    }
}

#[tokio::test]
async fn an_answer_is_for_one_team_one_definition_and_the_very_arguments() {
    let (house, upstream) = (house().await, counting().await);
    let definition = read_only(posting("tool", &upstream.url));
    house.add_with(definition.clone(), keeping(CacheSettings::default()));
    let kept = from_cache(&house, &request("tool", r#"{"a":1,"b":[2]}"#)).await.result_json;
    // The same arguments in another spelling.
    let spelt = request("tool", "{ \"b\": [2],\n \"a\": 1 }");
    assert_eq!(from_cache(&house, &spelt).await.result_json, kept);
    for other in [r#"{"a":"1","b":[2]}"#, r#"{"a":1,"b":[2],"c":null}"#, r#"{"a":1}"#] {
        assert_eq!(call(&house, request("tool", other)).await.source(), Source::Unspecified, "{other}");
    }
    // Numbers that RFC 8785 writes alike.
    for (number, text) in
        [("9007199254740993", "first"), ("9007199254740992", "second"), ("9007199254740993", "again")]
    {
        let arguments = format!(r#"{{"a":{number}}}"#);
        assert_eq!(call(&house, request("tool", &arguments)).await.source(), Source::Unspecified, "{text}");
        assert_eq!(upstream.seen().last().unwrap().body, arguments);
    }
    let tool = |team: &str, digest: &str| Tool {
        id: types::new_id().to_string(),
        digest: digest.repeat(64),
        status: proto::registry::v1::ToolStatus::Active.into(),
        revision: 2,
        team_id: team.into(),
        definition: Some(definition.clone()),
        settings: Some(keeping(CacheSettings::default())),
        ..Tool::default()
    };
    house.catalog.upsert(tool("others", "d"));
    let stranger = Caller { team: "others".into(), ..agent("agent") };
    let arguments = r#"{"a":1,"b":[2]}"#;
    let theirs = execution(house.execute_as(&stranger, PATIENCE, request("tool", arguments)).await);
    assert_eq!(theirs.source(), Source::Unspecified);
    house.catalog.upsert(tool(TEAM, "e"));
    assert_eq!(call(&house, request("tool", arguments)).await.source(), Source::Unspecified);
}

#[tokio::test]
async fn a_refusal_that_stays_is_remembered_and_one_that_passes_is_not() {
    let house = house().await;
    for (name, status, negative_ttl_s, kept) in
        [("gone", 404, Some(60), true), ("away", 503, Some(60), false), ("forgets", 404, Some(0), false)]
    {
        let upstream = Upstream::new(move |_| async move { json(status, r#"{"why":"no"}"#) }).await;
        let settings = keeping(CacheSettings { negative_ttl_s, ..CacheSettings::default() });
        house.add_with(read_only(posting(name, &upstream.url)), settings);
        let first = call(&house, request(name, "{}")).await;
        assert_eq!((first.status(), first.source()), (ExecutionStatus::Failed, Source::Unspecified));
        if kept {
            let again = from_cache(&house, &request(name, "{}")).await;
            assert_eq!((again.status(), &again.error), (ExecutionStatus::Failed, &first.error));
            assert!(stats(&house, name).await.negative_hits > 0);
        } else {
            assert_eq!(call(&house, request(name, "{}")).await.source(), Source::Unspecified);
            assert_eq!(upstream.hits(), 2, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_dropped_in_one_process_is_not_answered_by_another() {
    let database = testkit::database(&[crate::schema()]).await;
    let one = hearing(House::on(&database, Fakes::default(), |_| {})).await;
    let other = hearing(House::on(&database, Fakes::default(), |_| {})).await;
    let upstream = counting().await;
    for house in [&one, &other] {
        house.add_with(read_only(posting("tool", &upstream.url)), keeping(CacheSettings::default()));
    }
    let (first, second) = (request("tool", r#"{"q":1}"#), request("tool", r#"{"q":2}"#));
    let (dropped, stays) =
        (from_cache(&other, &first).await.result_json, from_cache(&other, &second).await.result_json);
    let here = from_cache(&one, &first).await.result_json;
    let status = invalidate(&one, &operator(), "[]").await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest));

    invalidate(&one, &operator(), "{ \"q\": 1 }").await.unwrap();
    let told = std::time::Instant::now();
    assert_ne!(call(&one, first.clone()).await.result_json, here, "here at once");
    until(async || call(&other, first.clone()).await.result_json != dropped).await;
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
    assert_eq!(from_cache(&other, &second).await.result_json, stays, "the answer to other arguments stays");
    invalidate(&one, &operator(), "").await.unwrap();
    until(async || call(&other, second.clone()).await.result_json != stays).await;
    assert_eq!(stats(&one, "tool").await.invalidations, 2);
}

/// A process with a connection of its own to this Redis.
fn on_redis(redis: &testkit::RedisServer, database: &::store::Database) -> House {
    let options = RedisOptions { urls: vec![redis.url()], cluster: false, timeout: Duration::from_secs(2) };
    let limits = Limits { max_bytes: 1 << 24, max_entry_bytes: 1 << 20 };
    let cache = Cache::redis(::store::Redis::new(&options).unwrap(), &[3; 32], limits);
    House::with_cache(database, Fakes::default(), cache, |_| {})
}

#[tokio::test]
async fn processes_share_the_answers_in_redis_and_drop_them_together() {
    let (redis, database) = (testkit::redis().await, testkit::database(&[crate::schema()]).await);
    let (one, other) = (on_redis(&redis, &database), on_redis(&redis, &database));
    let upstream = counting().await;
    for house in [&one, &other] {
        house.add_with(read_only(posting("tool", &upstream.url)), keeping(CacheSettings::default()));
    }
    let kept = from_cache(&one, &request("tool", "{}")).await.result_json;
    let hits = upstream.hits();
    assert_eq!(from_cache(&other, &request("tool", "{}")).await.result_json, kept);
    assert_eq!(upstream.hits(), hits, "it never asked the tool itself");
    invalidate(&one, &operator(), "").await.unwrap();
    let anew = call(&other, request("tool", "{}")).await;
    assert_eq!((anew.source(), upstream.hits()), (Source::Unspecified, hits + 1));
    // Redis away: calls go on without it.
    redis.kill();
    assert_eq!(call(&other, request("tool", "{}")).await.status(), ExecutionStatus::Succeeded);
}

#[tokio::test]
async fn the_figures_of_the_cache_tell_what_it_did() {
    let (house, upstream) = (house().await, counting().await);
    house.add_with(read_only(posting("tool", &upstream.url)), keeping(CacheSettings::default()));
    assert_eq!(stats(&house, "tool").await, CacheStats::default(), "it was not asked yet");
    from_cache(&house, &request("tool", "{}")).await;
    from_cache(&house, &request("tool", "{}")).await;
    let told = stats(&house, "tool").await;
    assert!(told.hits >= 2 && told.misses >= 1 && told.puts >= 1, "{told:?}");
    let ratio = told.hits as f64 / (told.hits + told.misses) as f64;
    assert!((told.hit_ratio - ratio).abs() < 1e-9 && told.semantic_state == "off", "{told:?}");
    let stranger = Caller { team: "others".into(), ..agent("agent") };
    let asked = house.asking(&stranger, GetCacheStatsRequest::default());
    let theirs = house.client.clone().get_cache_stats(asked).await.unwrap().into_inner();
    assert_eq!((theirs.stats.len(), theirs.variant.as_str()), (0, "memory"));
}
