//! The figures of tools, against the same figures reckoned here from the raw rows.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "counts and places of a few hundred rows"
)]

use ::rpc::{ErrorReason, reason_of};
use chrono::{DateTime, Utc};
use proto::executor::v1::{
    ExecutionStatus, GetToolMetricsRequest, GetToolMetricsResponse, ListToolMetricsRequest,
    ListToolMetricsResponse, ToolMetrics,
};
use proto::registry::v1::CacheSettings;
use types::Caller;

use super::{
    cache::{hearing, keeping, read_only},
    fakes::Fakes,
    house::{House, agent, ended, posting, request, until},
    upstream::{Upstream, json},
};

async fn figures(house: &House, tool: &str, refresh: bool) -> GetToolMetricsResponse {
    let asked = house.as_agent(GetToolMetricsRequest { tool_name: tool.into(), refresh });
    house.client.clone().get_tool_metrics(asked).await.unwrap().into_inner()
}

async fn page(
    house: &House,
    caller: &Caller,
    page_token: &str,
) -> Result<ListToolMetricsResponse, tonic::Status> {
    let asked = ListToolMetricsRequest { page_size: 2, page_token: page_token.into(), refresh: false };
    house.client.clone().list_tool_metrics(house.asking(caller, asked)).await.map(tonic::Response::into_inner)
}

/// As if the figures had been made long ago.
async fn age(house: &House) {
    house.run("UPDATE executor.tool_metrics_refresh SET as_of = now() - interval '1 minute'").await;
}

/// 480 ended executions of two tools in every status and from every source, 20 that still run, one of a week ago.
async fn insert(house: &House) {
    house
        .run(
            "INSERT INTO executor.execution (team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity,
                 agent_id, task_id, request_id, selection_id, trace_id, arguments_json, arguments_digest, status,
                 source, cost_micro_usd, input_tokens, output_tokens, retries, create_time, start_time, end_time,
                 owner, lease_epoch)
             SELECT CASE WHEN n % 50 = 7 THEN 'others' ELSE 'team' END,
                 (substr(executor.uuid_floor(at)::text, 1, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid,
                 CASE WHEN n % 3 = 0 THEN 'seldom' ELSE 'often' END, '1.0.0', '', 'READ_ONLY', 'internal',
                 'agent', '', '', '', '', '{}', '',
                 CASE WHEN n > 480 THEN 'running' ELSE (ARRAY['succeeded', 'succeeded', 'succeeded', 'failed',
                     'timed_out', 'unknown_outcome', 'cancelled', 'dead_letter'])[1 + n % 8] END,
                 (ARRAY['', '', '', 'cache', 'coalesced', 'semantic_cache', 'fallback', 'stale_cache', 'partial'])
                     [1 + n % 9],
                 n * 11, n % 17, n % 5, n % 4, at,
                 CASE WHEN n % 7 = 0 THEN NULL ELSE at + n * interval '1 ms' END,
                 CASE WHEN n > 480 THEN NULL ELSE at + (n + (n * 7919) % 4999) * interval '1.001 ms' END,
                 gen_random_uuid(), 1
             FROM generate_series(1, 501) n,
                 LATERAL (SELECT CASE WHEN n = 501 THEN now() - interval '8 days'
                     ELSE now() - n * interval '19 minutes' END AS at) times",
        )
        .await;
    house.run("UPDATE executor.execution SET end_time = now(), status = 'failed' WHERE create_time < now() - interval '7 days'").await;
}

#[derive(sqlx::FromRow)]
struct Row {
    status: String,
    source: String,
    cost_micro_usd: i64,
    input_tokens: i64,
    output_tokens: i64,
    retries: i32,
    create_time: DateTime<Utc>,
    start_time: Option<DateTime<Utc>>,
    end_time: Option<DateTime<Utc>>,
}

/// The figures as their definitions say, without a word of SQL.
async fn reckoned(house: &House, tool: &str) -> ToolMetrics {
    let all: Vec<Row> =
        sqlx::query_as("SELECT * FROM executor.execution WHERE team_id = 'team' AND tool_name = $1")
            .bind(tool)
            .fetch_all(house.database.pool().unwrap())
            .await
            .unwrap();
    let week_ago = Utc::now() - chrono::TimeDelta::days(7);
    let all: Vec<Row> = all
        .into_iter()
        .filter(|row| row.end_time.is_some() && row.create_time > week_ago && row.status != "cancelled")
        .collect();
    let is_hit = |row: &&Row| ["cache", "coalesced", "semantic_cache"].contains(&row.source.as_str());
    let ran: Vec<&Row> = all.iter().filter(|row| !is_hit(row)).collect();
    let count = |of: &[&str]| ran.iter().filter(|row| of.contains(&row.status.as_str())).count() as i64;
    let ms = |row: &&Row| {
        let took = row.end_time.unwrap() - row.start_time.unwrap_or(row.create_time);
        took.num_microseconds().unwrap() as f64 / 1_000.0
    };
    let mut durations: Vec<f64> = ran.iter().map(ms).collect();
    durations.sort_by(f64::total_cmp);
    let percentile = |share: f64| {
        let place = share * (durations.len() - 1) as f64;
        let (low, high) = (durations[place.floor() as usize], durations[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    let cost: i64 = all.iter().map(|row| row.cost_micro_usd).sum();
    ToolMetrics {
        tool_name: tool.into(),
        executions: ran.len() as i64,
        successes: count(&["succeeded"]),
        failures: count(&["failed", "unknown_outcome", "dead_letter"]),
        timeouts: count(&["timed_out"]),
        success_rate: count(&["succeeded"]) as f64 / ran.len() as f64,
        average_ms: durations.iter().sum::<f64>() / durations.len() as f64,
        p50_ms: percentile(0.5),
        p95_ms: percentile(0.95),
        p99_ms: percentile(0.99),
        cost_micro_usd: cost,
        average_cost_micro_usd: cost as f64 / ran.len() as f64,
        tokens: Some(proto::executor::v1::TokenUsage {
            input_tokens: all.iter().map(|row| row.input_tokens).sum(),
            output_tokens: all.iter().map(|row| row.output_tokens).sum(),
        }),
        retries: all.iter().map(|row| i64::from(row.retries)).sum(),
        fallbacks: all.iter().filter(|row| row.source == "fallback").count() as i64,
        cache_hits: all.iter().filter(is_hit).count() as i64,
        last_use: all.iter().map(|row| row.create_time).max().map(crate::events::timestamp),
    }
}

/// The numbers that are not whole.
fn reals(metrics: &ToolMetrics) -> [f64; 6] {
    let ToolMetrics { success_rate, average_ms, p50_ms, p95_ms, p99_ms, average_cost_micro_usd, .. } =
        metrics;
    [*success_rate, *average_ms, *p50_ms, *p95_ms, *p99_ms, *average_cost_micro_usd]
}

fn assert_same(told: &ToolMetrics, reckoned: &ToolMetrics) {
    for (told, reckoned) in reals(told).into_iter().zip(reals(reckoned)) {
        assert!((told - reckoned).abs() < 1e-6, "{told} is not {reckoned}");
    }
    let [success_rate, average_ms, p50_ms, p95_ms, p99_ms, average_cost_micro_usd] = reals(reckoned);
    let told = ToolMetrics {
        success_rate,
        average_ms,
        p50_ms,
        p95_ms,
        p99_ms,
        average_cost_micro_usd,
        ..told.clone()
    };
    assert_eq!(&told, reckoned);
}

#[tokio::test]
async fn they_are_those_of_the_raw_rows() {
    let house = hearing(House::new().await).await;
    insert(&house).await;
    let (well, ill) = (Upstream::well().await, Upstream::new(|_| async { json(500, "{}") }).await);
    house.add_with(read_only(posting("often", &well.url)), keeping(CacheSettings::default()));
    for n in 0..12 {
        let answer = house.execute(request("often", &format!(r#"{{"n":{}}}"#, n % 6))).await;
        ended(answer, ExecutionStatus::Succeeded);
    }
    house.add_with(read_only(posting("seldom", &ill.url)), keeping(CacheSettings::default()));
    ended(house.execute(request("seldom", "{}")).await, ExecutionStatus::Failed);
    age(&house).await;
    for tool in ["often", "seldom"] {
        let told = figures(&house, tool, true).await;
        let reckoned = reckoned(&house, tool).await;
        assert!(reckoned.executions > 90 && reckoned.cache_hits > 30, "{reckoned:?}");
        assert_same(&told.metrics.unwrap(), &reckoned);
        assert!((Utc::now().timestamp() - told.as_of.unwrap().seconds).abs() < 60);
    }
    let idle = figures(&house, "idle", false).await.metrics.unwrap();
    assert_eq!(
        idle,
        ToolMetrics {
            tool_name: "idle".into(),
            tokens: Some(proto::executor::v1::TokenUsage::default()),
            ..ToolMetrics::default()
        }
    );
    let asked = house.as_agent(GetToolMetricsRequest::default());
    let status = house.client.clone().get_tool_metrics(asked).await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest));
}

#[tokio::test]
async fn they_are_made_anew_on_demand_but_not_more_often_than_every_few_seconds() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    age(&house).await;
    let first = figures(&house, "tool", true).await;
    ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Succeeded);
    let old = figures(&house, "tool", true).await;
    assert_eq!((old.as_of, old.metrics.unwrap().executions), (first.as_of, 0));
    until(async || figures(&house, "tool", true).await.metrics.unwrap().executions == 1).await;
    assert_ne!(figures(&house, "tool", false).await.as_of, first.as_of);
}

#[tokio::test]
async fn what_another_process_has_just_made_or_what_takes_long_is_not_made_anew() {
    let database = testkit::database(&[crate::schema()]).await;
    let houses = [1, 2, 3].map(|_| House::on(&database, Fakes::default(), |_| {}));
    age(&houses[0]).await;
    let made = figures(&houses[0], "tool", true).await.as_of.unwrap();
    assert!(Utc::now().timestamp() - made.seconds < 30);
    assert_eq!(figures(&houses[1], "tool", true).await.as_of, Some(made));
    houses[0]
        .run("UPDATE executor.tool_metrics_refresh SET took = '1 hour', as_of = now() - interval '9 hours'")
        .await;
    let old = figures(&houses[1], "tool", true).await.as_of.unwrap();
    assert!(Utc::now().timestamp() - old.seconds > 8 * 3_600);
    houses[0].run("UPDATE executor.tool_metrics_refresh SET as_of = now() - interval '11 hours'").await;
    let new = figures(&houses[2], "tool", true).await.as_of.unwrap();
    assert!(Utc::now().timestamp() - new.seconds < 30);
    let took = "SELECT count(*) FROM executor.tool_metrics_refresh WHERE took > '0' AND took < '1 minute'";
    assert_eq!(houses[0].number(took).await, 1);
}

#[tokio::test]
async fn one_tool_with_absurd_figures_keeps_no_other_from_its_own() {
    let house = House::new().await;
    insert(&house).await;
    house
        .run(
            "UPDATE executor.execution SET input_tokens = 9223372036854775807, output_tokens = 9223372036854775807,
                 cost_micro_usd = 9223372036854775807 WHERE tool_name = 'seldom'",
        )
        .await;
    age(&house).await;
    let absurd = figures(&house, "seldom", true).await.metrics.unwrap();
    let tokens = absurd.tokens.unwrap();
    assert_eq!(
        (absurd.cost_micro_usd, tokens.input_tokens, tokens.output_tokens),
        (i64::MAX, i64::MAX, i64::MAX)
    );
    let other = figures(&house, "often", false).await.metrics.unwrap();
    assert_same(&other, &reckoned(&house, "often").await);
}

#[tokio::test]
async fn a_tool_that_tells_absurd_tokens_is_believed_up_to_a_bound() {
    let house = House::new().await;
    let body = format!(r#"{{"usage":{{"input_tokens":{0},"output_tokens":{0}}}}}"#, i64::MAX);
    let upstream = Upstream::new(move |_| {
        let body = body.clone();
        async move { json(200, &body) }
    })
    .await;
    house.add(posting("tool", &upstream.url));
    for n in 0..2 {
        ended(house.execute(request("tool", &format!(r#"{{"n":{n}}}"#))).await, ExecutionStatus::Succeeded);
    }
    age(&house).await;
    let tokens = figures(&house, "tool", true).await.metrics.unwrap().tokens.unwrap();
    assert_eq!((tokens.input_tokens, tokens.output_tokens), (2_000_000_000_000, 2_000_000_000_000));
}

#[tokio::test]
async fn they_are_made_anew_by_themselves_and_by_several_processes_at_once() {
    let database = testkit::database(&[crate::schema()]).await;
    let houses =
        [1, 2].map(|_| House::on(&database, Fakes::default(), |config| config.metrics_refresh_s = 1));
    let upstream = Upstream::well().await;
    houses[0].add(posting("tool", &upstream.url));
    let (one, other) = tokio::join!(figures(&houses[0], "tool", true), figures(&houses[1], "tool", true));
    assert_eq!((one.metrics, one.as_of.is_some()), (other.metrics, other.as_of.is_some()));
    ended(houses[0].execute(request("tool", "{}")).await, ExecutionStatus::Succeeded);
    until(async || figures(&houses[1], "tool", false).await.metrics.unwrap().executions == 1).await;
}

#[tokio::test]
async fn they_are_listed_by_name_page_by_page_for_ones_own_team() {
    let house = House::new().await;
    house
        .run(
            "INSERT INTO executor.execution (team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity,
                 agent_id, task_id, request_id, selection_id, trace_id, arguments_json, arguments_digest, status,
                 create_time, end_time, owner)
             SELECT team, gen_random_uuid(), name, '', '', '', '', '', '', '', '', '', '', '', 'succeeded', now(), now(),
                 gen_random_uuid()
             FROM (VALUES ('team', 'e'), ('team', 'a'), ('team', 'c'), ('others', 'b'), ('team', 'd'), ('team', 'f'))
                 rows (team, name)",
        )
        .await;
    house.run("UPDATE executor.execution SET id = (substr(executor.uuid_floor(now())::text, 1, 14) || '7' || substr(id::text, 16))::uuid").await;
    age(&house).await;
    figures(&house, "a", true).await;
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(&house, &agent("agent"), &token).await.unwrap();
        assert!(page.metrics.len() <= 2 && page.as_of.is_some());
        names.extend(page.metrics.into_iter().map(|metrics| metrics.tool_name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let stranger = Caller { team: "others".into(), ..agent("agent") };
        let status = self::page(&house, &stranger, &token).await.unwrap_err();
        assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest), "a token is for its own team");
    }
    assert_eq!(names, ["a", "c", "d", "e", "f"]);
    let stranger = Caller { team: "others".into(), ..agent("agent") };
    let theirs = page(&house, &stranger, "").await.unwrap().metrics;
    assert_eq!(theirs.iter().map(|metrics| metrics.tool_name.as_str()).collect::<Vec<_>>(), ["b"]);
}
