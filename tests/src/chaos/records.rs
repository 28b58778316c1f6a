//! What the database and the outside world say of the calls of a load, once all have ended.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Crew, Report,
    load::{ACT, LOOK, Tally},
};
use crate::{PATIENCE, Upstream, eventually};

/// Every accepted call must have ended this long after the last kill.
const TERMINAL: Duration = Duration::from_mins(1);

/// One execution as it stands.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Its request id.
    pub request_id: String,
    /// How it ended.
    pub status: String,
    /// Why it failed; empty where it did not.
    pub error_code: String,
    /// Whether it changed the world.
    pub is_side_effect: bool,
    /// Whether it was queued.
    pub queued: bool,
    /// How often a process took it up.
    pub deliveries: usize,
    /// What it cost.
    pub cost_micro_usd: i64,
    /// From its acceptance to its end.
    pub took: Duration,
}

/// The columns of a record, in its order.
type Row = (String, String, String, String, bool, bool, i32, i64, f64);

impl Record {
    /// Whether it was recorded and not made, and its request id was free again: a limit of its tool held it back, or
    /// its process was too late for it.
    pub fn was_not_made(&self) -> bool {
        let is_held_back = ["RATE_LIMITED", "CIRCUIT_OPEN", "TOOL_BUSY"].contains(&self.error_code.as_str());
        is_held_back || (self.status == "failed" && self.error_code == "OWNER_DIED")
    }
}

/// Waits until every execution has ended and every event has been delivered.
pub async fn wait_until_settled(crew: &Crew, report: &mut Report) {
    let began = Instant::now();
    let running = "SELECT count(*) FROM executor.execution WHERE status IN ('running', 'queued')";
    while crew.number(running).await > 0 && began.elapsed() < TERMINAL {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = crew.number(running).await;
    report.check(left == 0, format!("{left} executions have not ended {TERMINAL:?} after the last kill"));
    report.note(format!("all ended {:.1} s after the last kill", began.elapsed().as_secs_f64()));
    eventually("the outbox is empty", async || {
        (crew.number("SELECT count(*) FROM executor.outbox").await == 0).then_some(())
    })
    .await;
}

/// Every execution of the two tools.
pub async fn read(crew: &Crew) -> Vec<Record> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id::text, request_id, status, error_code, effect = 'side_effect', asynchronous, deliveries, cost_micro_usd,
                extract(epoch FROM coalesce(end_time, now()) - create_time)::float8
         FROM executor.execution WHERE tool_name IN ($1, $2) ORDER BY id",
    )
    .bind(LOOK.0)
    .bind(ACT.0)
    .fetch_all(crew.pool())
    .await
    .unwrap();
    let record = |(
        id,
        request_id,
        status,
        error_code,
        is_side_effect,
        queued,
        deliveries,
        cost_micro_usd,
        seconds,
    )| Record {
        id,
        request_id,
        status,
        error_code,
        is_side_effect,
        queued,
        deliveries: usize::try_from(deliveries).unwrap(),
        cost_micro_usd,
        took: Duration::from_secs_f64(f64::max(seconds, 0.0)),
    };
    rows.into_iter().map(record).collect()
}

/// Nothing acknowledged is gone, and nothing has an end that its answer did not have.
pub fn check_acknowledged(records: &[Record], tally: &Tally, report: &mut Report) {
    let by_id: HashMap<&str, &Record> = records.iter().map(|record| (record.id.as_str(), record)).collect();
    let gone = |call: &&super::load::Acknowledged| !by_id.contains_key(call.execution.id.as_str());
    report.calls = tally.acknowledged.len();
    report.lost += tally.acknowledged.iter().filter(gone).count();
    report.check(report.lost == 0, format!("{} acknowledged executions are gone", report.lost));
    report.check(tally.given_up.is_empty(), format!("never acknowledged: {:?}", tally.given_up));
    report.slowest = records.iter().map(|record| record.took).max().unwrap_or_default();
}

/// Each request is one execution, with the effects that its status allows.
pub fn check_effects(records: &[Record], upstream: &Upstream, report: &mut Report) {
    let mut effects: HashMap<String, usize> = HashMap::new();
    for hit in upstream.hits() {
        let body: Value = serde_json::from_str(&hit.body).unwrap_or_default();
        *effects.entry(body["key"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let mut known = HashSet::new();
    for record in records.iter().filter(|record| !record.was_not_made()) {
        let again = !known.insert(record.request_id.as_str());
        report.twice += usize::from(again);
        report.check(!again, format!("one request id, two executions: {record:?}"));
        let count = effects.get(&record.request_id).copied().unwrap_or(0);
        let most = if record.queued && !record.is_side_effect { record.deliveries } else { 1 };
        report.twice += usize::from(count > most);
        report.check(count <= most, format!("{count} effects: {record:?}"));
        let least = usize::from(record.status == "succeeded");
        report.check(count >= least, format!("it says that it succeeded, without an effect: {record:?}"));
    }
    let without = effects.keys().filter(|key| !known.contains(key.as_str())).count();
    report.check(without == 0, format!("{without} effects without an execution"));
}

/// Whatever succeeded cost what its tool costs, once; the trail has the end of every execution once, whether its tool was
/// invoked or could not be.
pub async fn check_books(crew: &Crew, records: &[Record], report: &mut Report) {
    let cost = |record: &Record| if record.is_side_effect { ACT.1 } else { LOOK.1 };
    for record in records.iter().filter(|record| record.status == "succeeded") {
        report.check(record.cost_micro_usd == cost(record), format!("the cost is wrong: {record:?}"));
    }
    let events: Vec<(String, i64)> = sqlx::query_as(
        "SELECT execution_id::text, count(*) FROM audit.record
         WHERE action IN ('tool_invoked', 'error_occurred') AND execution_id IS NOT NULL GROUP BY 1",
    )
    .fetch_all(crew.pool())
    .await
    .unwrap();
    let events: HashMap<&str, i64> = events.iter().map(|(id, count)| (id.as_str(), *count)).collect();
    for record in records.iter().filter(|record| !record.was_not_made()) {
        let count = events.get(record.id.as_str()).copied().unwrap_or(0);
        report.twice += usize::from(count > 1);
        report.check(count == 1, format!("{count} events in the trail: {record:?}"));
    }
    let mut statuses: HashMap<(&str, &str), usize> = HashMap::new();
    for record in records {
        *statuses.entry((&record.status, &record.error_code)).or_default() += 1;
    }
    let told = |((status, code), count): (&(&str, &str), &usize)| format!("{count} {status} {code}");
    let mut statuses: Vec<_> = statuses.iter().map(told).collect();
    statuses.sort();
    report.note(statuses.join(", "));
}

/// One place in the quota, and one cost in the budget, for each execution, and none for what was never accepted. A place
/// whose holder died is given back when its time is over; here it is over at once.
pub async fn check_quota(crew: &Crew, records: &[Record], report: &mut Report) {
    let reserved = "SELECT count(*) FROM permissions.reservation WHERE state = 'reserved'";
    // What the last runs still settle.
    let began = Instant::now();
    let mut before = crew.number(reserved).await;
    while began.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = crew.number(reserved).await;
        if std::mem::replace(&mut before, now) == now {
            break;
        }
    }
    let unsettled = crew
        .number(
            "SELECT count(*) FROM permissions.reservation r JOIN executor.execution e
             ON e.team_id = r.team_id AND e.id = r.execution_id WHERE r.state = 'reserved'",
        )
        .await;
    report.note(format!("{before} places were never settled, {unsettled} of them of ended executions"));
    sqlx::query("UPDATE permissions.reservation SET expire_time = now() WHERE state = 'reserved'")
        .execute(crew.pool())
        .await
        .unwrap();
    let swept = tokio::time::timeout(PATIENCE, async {
        while crew.number(reserved).await > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    report.check(swept.await.is_ok(), "places stay reserved after the sweep");
    let used = crew.number("SELECT coalesce(sum(used), 0)::bigint FROM permissions.counter").await;
    let counted = records.iter().filter(|record| !record.was_not_made()).count();
    let counted = i64::try_from(counted).unwrap();
    report.check(used == counted, format!("{used} places are taken for {counted} executions"));
    let (spent, held): (i64, i64) = sqlx::query_as(
        "SELECT coalesce(sum(spent_micro_usd), 0)::bigint, coalesce(sum(reserved_micro_usd), 0)::bigint
         FROM permissions.spend",
    )
    .fetch_one(crew.pool())
    .await
    .unwrap();
    let cost: i64 = records.iter().map(|record| record.cost_micro_usd).sum();
    report.check((spent, held) == (cost, 0), format!("spent {spent} and held {held} of {cost} micro USD"));
}
