//! Queries of the trail among very many records, filter by filter. The records are made by the database itself, as a year
//! of them would lie there, and go with its folder. Payloads are left out: opening one costs the same whatever else is
//! there.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use proto::{
    audit::v1::{Action, QueryTrailRequest, Result as AuditResult},
    types::v1::Sensitivity,
};
use sqlx::{AssertSqlSafe, PgPool, Row};
use tests::Client;

use crate::stage::{Ground, Suite};

/// Full months that the records are of, before this one.
const MONTHS: i32 = 12;
/// Answers of each filter that are timed.
const ANSWERS: usize = 60;
/// Longest 99th percentile that the project holds itself to, in milliseconds.
const TARGET_MS: f64 = 50.0;

/// Fills a trail, asks it everything, and prints how long answers took.
pub async fn measure(records: i64) -> String {
    let ground = Ground::new().await;
    let suite = Suite::start(&ground, "trail", &["all"], None).await;
    let pool = suite.database.pool().expect("the database is up").clone();
    let begun = Instant::now();
    fill(&pool, records).await;
    let filled_in = begun.elapsed();
    let mut told = format!(
        "\n### Queries of the trail among {records} records of {MONTHS} months ({:.1} GB, made in {:.0} s)\n\n",
        size(&pool).await,
        filled_in.as_secs_f64()
    );
    told.push_str("| filter | answers | p50 ms | p99 ms | worst ms | first page of 50, ms | its answers |\n");
    told.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    let mut worst = 0.0_f64;
    for (name, filter) in filters(&pool).await {
        let line = one(&suite.admin, &filter).await;
        worst = worst.max(line.p99_ms);
        let _ = writeln!(
            told,
            "| {name} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {} |",
            line.answers, line.p50_ms, line.p99_ms, line.worst_ms, line.page_ms, line.page_answers
        );
    }
    let verdict = if worst <= TARGET_MS { "held" } else { "missed" };
    let _ = writeln!(told, "\nworst p99 {worst:.1} ms; target {TARGET_MS:.0} ms: {verdict}");
    told
}

struct Line {
    answers: usize,
    p50_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
    /// Until a page was full, or the trail at its end.
    page_ms: f64,
    page_answers: usize,
}

/// Asks for page after page, each of fifty, from the newest record again where the end comes first.
async fn one(admin: &Client, filter: &QueryTrailRequest) -> Line {
    let (mut times, mut token) = (Vec::new(), String::new());
    let (mut page, mut events) = (None, 0);
    // The first answers fill caches, and are not timed.
    for answer in 0..ANSWERS + 3 {
        let request = QueryTrailRequest { page_token: token, ..filter.clone() };
        let begun = Instant::now();
        let got = admin.audit().query_trail(request).await.expect("an answer").into_inner();
        let took = begun.elapsed();
        (token, events) = (got.next_page_token, events + got.events.len());
        if answer < 3 {
            // The same page is asked for again, and then timed.
            if answer == 2 {
                (token, events) = (String::new(), 0);
            }
            continue;
        }
        times.push(took);
        if page.is_none() && (events >= 50 || token.is_empty()) {
            page = Some((times.iter().sum::<Duration>(), times.len()));
        }
    }
    let (page, page_answers) = page.unwrap_or((times.iter().sum(), times.len()));
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of some dozens")]
        let index = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1;
        ms(times[index])
    };
    Line {
        answers: times.len(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        worst_ms: at(1.0),
        page_ms: ms(page),
        page_answers,
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Every filter alone, and combinations: those that fit much, those that fit little, and those that nothing fits.
#[allow(clippy::too_many_lines, reason = "a table")]
async fn filters(pool: &PgPool) -> Vec<(&'static str, QueryTrailRequest)> {
    let row = sqlx::query(
        "SELECT execution_id::text, subject_id::text FROM audit.record
         WHERE team_id = 'crew' AND subject_id IS NOT NULL AND execution_id IS NOT NULL
         ORDER BY team_id, id OFFSET 1000 LIMIT 1",
    );
    let row = row.fetch_one(pool).await.expect("a record");
    let (execution, subject): (String, String) = (row.get(0), row.get(1));
    let all = QueryTrailRequest { page_size: 50, ..QueryTrailRequest::default() };
    let agent = |id: &str| QueryTrailRequest { agent_id: id.into(), ..all.clone() };
    let tool = |filter: QueryTrailRequest, name: &str| QueryTrailRequest { tool_name: name.into(), ..filter };
    let action =
        |filter: QueryTrailRequest, action: Action| QueryTrailRequest { action: action.into(), ..filter };
    let result = |filter: QueryTrailRequest, result: AuditResult| QueryTrailRequest {
        result: result.into(),
        ..filter
    };
    let class = |filter: QueryTrailRequest, sensitivity: Sensitivity| QueryTrailRequest {
        sensitivity: sensitivity.into(),
        ..filter
    };
    let time = |filter: QueryTrailRequest, from_days: i64, hours: i64| {
        let start = chrono::Utc::now() - chrono::TimeDelta::days(from_days);
        let at = |at: chrono::DateTime<chrono::Utc>| {
            Some(prost_types::Timestamp { seconds: at.timestamp(), nanos: 0 })
        };
        QueryTrailRequest {
            start_time: at(start),
            end_time: at(start + chrono::TimeDelta::hours(hours)),
            ..filter
        }
    };
    let subject = |filter: QueryTrailRequest| QueryTrailRequest { subject_id: subject.clone(), ..filter };
    vec![
        ("none", all.clone()),
        ("agent, frequent", agent("agent-1")),
        ("agent, one record in a million", agent("agent-rare")),
        ("agent, unknown", agent("nobody")),
        ("tool", tool(all.clone(), "tool-7")),
        ("task", QueryTrailRequest { task_id: "task-77".into(), ..all.clone() }),
        ("execution", QueryTrailRequest { execution_id: execution, ..all.clone() }),
        ("user (pseudonym)", subject(all.clone())),
        ("action TOOL_INVOKED", action(all.clone(), Action::ToolInvoked)),
        ("action CACHE_HIT", action(all.clone(), Action::CacheHit)),
        ("action POLICY_CHANGED, rare", action(all.clone(), Action::PolicyChanged)),
        ("result SUCCESS", result(all.clone(), AuditResult::Success)),
        ("result DENIED", result(all.clone(), AuditResult::Denied)),
        ("result UNKNOWN", result(all.clone(), AuditResult::Unknown)),
        ("classification PUBLIC", class(all.clone(), Sensitivity::Public)),
        ("classification RESTRICTED", class(all.clone(), Sensitivity::Restricted)),
        ("an hour, half a year ago", time(all.clone(), 180, 1)),
        ("a month, half a year ago", time(all.clone(), 200, 720)),
        ("before half a year ago", QueryTrailRequest { start_time: None, ..time(all.clone(), 180, 1) }),
        ("agent + tool", tool(agent("agent-1"), "tool-7")),
        ("agent + tool that never met", tool(agent("agent-1"), "tool-8")),
        ("rare agent + tool", tool(agent("agent-rare"), "tool-7")),
        ("agent + DENIED", result(agent("agent-2"), AuditResult::Denied)),
        ("agent + an hour, half a year ago", time(agent("agent-1"), 180, 1)),
        ("tool + RESTRICTED", class(tool(all.clone(), "tool-7"), Sensitivity::Restricted)),
        (
            "tool + RESTRICTED + a month",
            time(class(tool(all.clone(), "tool-7"), Sensitivity::Restricted), 200, 720),
        ),
        ("user + DENIED", result(subject(all.clone()), AuditResult::Denied)),
        (
            "CACHE_HIT + DENIED, which nothing is",
            result(action(all.clone(), Action::CacheHit), AuditResult::Denied),
        ),
        (
            "TOOL_INVOKED + SUCCESS + RESTRICTED",
            class(
                result(action(all.clone(), Action::ToolInvoked), AuditResult::Success),
                Sensitivity::Restricted,
            ),
        ),
        (
            "agent + tool + TOOL_INVOKED + FAILURE + PUBLIC + a month",
            time(
                class(
                    result(
                        action(tool(agent("agent-1"), "tool-7"), Action::ToolInvoked),
                        AuditResult::Failure,
                    ),
                    Sensitivity::Public,
                ),
                200,
                720,
            ),
        ),
    ]
}

/// Records of every full month of the last year, a table at a time, with indexes made at the end. Their positions are
/// far beyond the trail's own, so that nobody takes them for news.
async fn fill(pool: &PgPool, records: i64) {
    let of_month = (records / i64::from(MONTHS)).max(1);
    run(pool, "ALTER DATABASE trail SET maintenance_work_mem = '512MB'").await;
    for back in (1..=MONTHS).rev() {
        let month = format!(
            "(date_trunc('month', now() AT TIME ZONE 'UTC') - interval '{back} months') AT TIME ZONE 'UTC'"
        );
        let name: String = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT 'record_' || to_char({month} AT TIME ZONE 'UTC', 'YYYY_MM')"
        )))
        .fetch_one(pool)
        .await
        .expect("a name");
        run(pool, &format!(
            "DO $$ BEGIN EXECUTE format(
                 'CREATE TABLE audit.{name} (LIKE audit.record INCLUDING DEFAULTS) PARTITION BY LIST (classification)');
             END $$"
        ))
        .await;
        for (class, share) in [
            ("public", "< 8"),
            ("internal", "BETWEEN 8 AND 15"),
            ("confidential", "BETWEEN 16 AND 18"),
            ("restricted", "> 18"),
        ] {
            let base = i64::from(MONTHS - back) * of_month + 1_000_000_000;
            run(pool, &format!("CREATE TABLE audit.{name}_{class} (LIKE audit.record INCLUDING DEFAULTS)"))
                .await;
            run(pool, &records_of(&format!("{name}_{class}"), class, share, &month, of_month, base)).await;
            run(
                pool,
                &format!(
                    "ALTER TABLE audit.{name} ATTACH PARTITION audit.{name}_{class} FOR VALUES IN ('{class}')"
                ),
            )
            .await;
        }
        let next = month.replace(&format!("'{back} months'"), &format!("'{} months'", back - 1));
        run(
            pool,
            &format!(
                "DO $$ BEGIN EXECUTE format(
                 'ALTER TABLE audit.record ATTACH PARTITION audit.{name} FOR VALUES FROM (%L) TO (%L)',
                 audit.uuid_floor({month}), audit.uuid_floor({next})); END $$"
            ),
        )
        .await;
    }
    run(pool, "VACUUM (ANALYZE) audit.record").await;
}

/// The statement that makes the records of a month and classification: the share of a month's numbers that are its.
fn records_of(table: &str, class: &str, share: &str, month: &str, count: i64, base: i64) -> String {
    format!(
        "INSERT INTO audit.{table}
         SELECT 'crew', (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
                    || lpad(to_hex(n % 4096), 3, '0') || '8' || left(md5(n::text), 15))::uuid,
                '{class}', {base} + n, at,
                CASE WHEN n % 100003 = 7 THEN 'policy_changed' WHEN h % 100 < 90 THEN 'tool_invoked'
                     WHEN h % 100 < 95 THEN 'cache_hit' WHEN h % 100 < 98 THEN 'permission_checked'
                     ELSE 'error_occurred' END,
                CASE WHEN h % 100 BETWEEN 95 AND 97 THEN 'denied' WHEN h % 100 >= 98 THEN 'failure'
                     WHEN h % 1000 = 5 THEN 'unknown' WHEN h % 40 = 3 THEN 'failure' ELSE 'success' END,
                CASE WHEN n % 1000003 = 11 THEN 'agent-rare' ELSE 'agent-' || h % 50 END,
                'tool-' || (CASE WHEN h % 50 = 1 THEN (h / 50 % 100) * 2 + 1 ELSE h / 50 % 200 END),
                '1.0.0', md5(h::text) || md5(n::text), md5('execution' || n / 2)::uuid, 'task-' || h / 7 % 100000,
                md5(n::text), '', h % 900000, h % 2000, NULL, at,
                CASE WHEN h % 3 = 0 THEN md5('user' || h / 3 % 20000)::uuid END, decode(md5(h::text) || md5(n::text), 'hex'),
                NULL
         FROM (
             SELECT n, abs(hashint8(n))::bigint AS h,
                    {month} + (n::double precision / {count}) * interval '27 days' AS at
             FROM generate_series(1, {count}) n WHERE abs(hashint8(n + 1))::bigint % 20 {share}
         ) numbers"
    )
}

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect("a statement that runs");
}

/// Gigabytes of records and indexes.
async fn size(pool: &PgPool) -> f64 {
    let bytes: i64 = sqlx::query_scalar(
        "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'audit' AND c.relname LIKE 'record%' AND c.relkind = 'r'",
    )
    .fetch_one(pool)
    .await
    .expect("a size");
    bytes as f64 / 1e9
}
