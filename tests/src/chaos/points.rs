//! Processes are killed at chosen points of a call's way into the trail: between its intent, its run, its outcome, its
//! events, their place in the trail, their leaves and the signature. Triggers of the scenario's own hold the statement of
//! a point until its process is dead; then the server either ends the statement or goes on with it, as it may with that
//! of any dead client.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use proto::{
    audit::v1::{GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest},
    permissions::v1::Grant,
};
use sqlx::PgConnection;
use trail::{Hash, leaf_hash, verify_consistency, verify_inclusion};

use super::{
    Crew, Plan, Progress, Report,
    load::{self, ACT, LOOK, Load},
    records,
};
use crate::{Upstream, eventually};

/// How long calls may take to reach a point.
const REACHED: Duration = Duration::from_secs(30);
/// The advisory lock that holds statements.
const LOCK: i64 = 4_242;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Executors,
    /// The process of everything else, with the audit service.
    Audit,
}

/// One point: when a statement does this to a row of this table.
#[derive(Debug, Clone, Copy)]
struct Point {
    timing: &'static str,
    events: &'static str,
    table: &'static str,
    victim: Victim,
    /// Whether the server goes on with the statement when its client is dead.
    goes_on: bool,
}

const fn point(
    timing: &'static str,
    events: &'static str,
    table: &'static str,
    victim: Victim,
    goes_on: bool,
) -> Point {
    Point { timing, events, table, victim, goes_on }
}

use Victim::{Audit, Executors};

/// The points, in the order of a call's way.
const POINTS: [Point; 20] = [
    point("BEFORE", "INSERT", "executor.execution", Executors, false),
    point("AFTER", "INSERT", "executor.execution", Executors, false),
    point("AFTER", "INSERT", "executor.execution", Executors, true),
    point("BEFORE", "INSERT", "executor.job", Executors, true),
    point("BEFORE", "UPDATE", "executor.job", Executors, false),
    point("BEFORE", "UPDATE", "executor.execution", Executors, false),
    point("AFTER", "UPDATE", "executor.execution", Executors, true),
    point("BEFORE", "INSERT", "executor.outbox", Executors, false),
    point("AFTER", "INSERT", "executor.outbox", Executors, true),
    point("BEFORE", "INSERT", "audit.record", Executors, true),
    point("BEFORE", "DELETE", "executor.outbox", Executors, false),
    point("BEFORE", "INSERT", "audit.head", Audit, false),
    point("BEFORE", "INSERT", "audit.record", Audit, true),
    point("AFTER", "INSERT", "audit.record", Audit, false),
    point("BEFORE", "INSERT OR UPDATE", "audit.tree", Audit, false),
    point("AFTER", "INSERT OR UPDATE", "audit.tree", Audit, true),
    point("BEFORE", "INSERT OR UPDATE", "audit.tile", Audit, false),
    point("BEFORE", "INSERT OR UPDATE", "audit.usage_day", Audit, false),
    point("AFTER", "INSERT OR UPDATE", "audit.usage_day", Audit, true),
    point("BEFORE", "INSERT OR UPDATE", "audit.checkpoint_copy", Audit, false),
];

/// Runs it at every `step`th point.
pub async fn killed_at_points(step: usize, progress: Progress<'_>) -> Report {
    let mut report = Report::of("killed at chosen points");
    let crew = Crew::start(&Plan { executors: 2, ..Plan::default() }).await;
    let upstream = Upstream::start().await;
    for tool in [LOOK, ACT] {
        crew.admin.register(load::tool(tool, upstream.url("/slow"))).await;
    }
    let limits = Grant { max_per_hour: 10_000_000, ..Grant::default() };
    let doors = crew.agent("caller", &[LOOK.0, ACT.0], &limits).await;
    let load = Load::new(doors, usize::MAX);
    let mut callers = load.start(8);
    let mut trap = Trap::set(&crew).await;
    let mut signed = Vec::new();
    let points: Vec<_> = (0..POINTS.len()).step_by(step).collect();
    for (done, number) in points.iter().enumerate() {
        kill_at(&crew, &mut trap, *number, &mut report).await;
        signed.push(checkpoint(&crew).await);
        progress(done + 1, points.len() + 1);
    }
    let calls = load.done();
    eventually("calls go on after the last kill", async || (load.done() > calls + 20).then_some(())).await;
    load.stop();
    while callers.join_next().await.is_some() {}

    records::wait_until_settled(&crew, &mut report).await;
    let (records, tally) = (records::read(&crew).await, load.tally());
    records::check_acknowledged(&records, &tally, &mut report);
    records::check_effects(&records, &upstream, &mut report);
    records::check_books(&crew, &records, &mut report).await;
    check_trail(&crew, &signed, &mut report).await;
    for (refusal, count) in tally.refusals {
        report.note(format!("{count} refusals, asked again: {refusal}"));
    }
    for error in crew.errors() {
        report.note(format!("logged: {error}"));
    }
    report
}

/// What holds statements: a lock that the scenario has, and triggers that ask for it.
struct Trap {
    holder: PgConnection,
}

impl Trap {
    async fn set(crew: &Crew) -> Self {
        let mut statements = "CREATE SCHEMA chaos; CREATE TABLE chaos.armed (point integer PRIMARY KEY);
            CREATE FUNCTION chaos.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                IF EXISTS (SELECT FROM chaos.armed WHERE point = TG_ARGV[0]::integer) THEN
                    PERFORM pg_advisory_xact_lock_shared(4242);
                END IF;
                IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
                RETURN NEW;
            END $$;"
            .to_owned();
        for (number, Point { timing, events, table, .. }) in POINTS.iter().enumerate() {
            let _ = write!(
                statements,
                "CREATE TRIGGER chaos_{number} {timing} {events} ON {table}
                 FOR EACH ROW EXECUTE FUNCTION chaos.hold('{number}');"
            );
        }
        // All of it stands above.
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(crew.pool()).await.unwrap();
        let mut trap = Self { holder: crew.connection().await };
        trap.take().await;
        trap
    }

    async fn take(&mut self) {
        let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK);
        lock.execute(&mut self.holder).await.unwrap();
    }

    async fn arm(&mut self, number: usize) {
        let arm = sqlx::query("INSERT INTO chaos.armed VALUES ($1)").bind(i32::try_from(number).unwrap());
        arm.execute(&mut self.holder).await.unwrap();
    }

    /// The server's processes whose statements are held.
    async fn held(&mut self) -> Vec<i32> {
        let held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1::oid AND NOT granted";
        let held = sqlx::query_scalar(held).bind(i32::try_from(LOCK).unwrap());
        held.fetch_all(&mut self.holder).await.unwrap()
    }

    /// Holds nothing more; what is held goes on, or ends with its connection.
    async fn release(&mut self, goes_on: bool) {
        sqlx::query("DELETE FROM chaos.armed").execute(&mut self.holder).await.unwrap();
        if goes_on {
            let unlock = sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK);
            unlock.execute(&mut self.holder).await.unwrap();
            return self.take().await;
        }
        for pid in self.held().await {
            let end = sqlx::query("SELECT pg_terminate_backend($1)").bind(pid);
            end.execute(&mut self.holder).await.unwrap();
        }
    }
}

async fn kill_at(crew: &Crew, trap: &mut Trap, number: usize, report: &mut Report) {
    let point = POINTS[number];
    trap.arm(number).await;
    let began = Instant::now();
    while trap.held().await.is_empty() && began.elapsed() < REACHED {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report.check(began.elapsed() < REACHED, format!("no call reached point {number}: {point:?}"));
    let victims: Vec<_> = match point.victim {
        Executors => crew.executors.iter().collect(),
        Audit => crew.edges.iter().take(1).collect(),
    };
    for victim in &victims {
        victim.kill();
        report.kills += 1;
    }
    trap.release(point.goes_on).await;
    for victim in &victims {
        victim.start();
    }
    for victim in victims {
        victim.wait_until_serving().await;
    }
}

/// A checkpoint that somebody has seen.
struct Seen {
    size: i64,
    root: Hash,
}

async fn checkpoint(crew: &Crew) -> Seen {
    let seen = eventually("there is a checkpoint", async || {
        crew.admin.audit().get_checkpoint(GetCheckpointRequest { size: 0 }).await.ok()
    })
    .await
    .into_inner();
    Seen { size: seen.size, root: Hash::try_from(seen.root.as_slice()).unwrap() }
}

/// Every event has one place, every place is a leaf, the tree holds every tree that was ever shown, and so does the
/// second place.
async fn check_trail(crew: &Crew, signed: &[Seen], report: &mut Report) {
    let waiting = "SELECT count(*) FROM audit.head h LEFT JOIN audit.tree t USING (team_id)
         WHERE h.sequence IS DISTINCT FROM t.size";
    eventually("everything is signed", async || (crew.number(waiting).await == 0).then_some(())).await;
    let twice = "SELECT count(*) - count(DISTINCT (team_id, sequence)) FROM audit.record";
    let twice = crew.number(twice).await;
    report.twice += usize::try_from(twice).unwrap();
    report.check(twice == 0, format!("{twice} places in the trail are taken twice"));
    let lost =
        "SELECT coalesce(sum(h.sequence), 0)::bigint - (SELECT count(*) FROM audit.record) FROM audit.head h";
    let lost = crew.number(lost).await;
    report.lost += usize::try_from(lost.abs()).unwrap();
    report.check(lost == 0, format!("{lost} places in the trail are empty"));
    let without = "SELECT count(*) FROM audit.record r WHERE r.execution_id IS NOT NULL AND r.action = 'tool_invoked'
         AND NOT EXISTS (SELECT FROM executor.execution e WHERE e.team_id = r.team_id AND e.id = r.execution_id)";
    let without = crew.number(without).await;
    report.check(without == 0, format!("{without} events tell of executions without an intent"));
    let halted = crew.texts("SELECT reason FROM audit.halt").await;
    report.check(halted.is_empty(), format!("{halted:?}"));

    let newest = checkpoint(crew).await;
    for seen in signed {
        let request = GetConsistencyProofRequest { first_size: seen.size, second_size: newest.size };
        let proof = crew.admin.audit().get_consistency_proof(request).await.unwrap().into_inner();
        let (first, second) = (number(seen.size), number(newest.size));
        let grown = verify_consistency(first, second, &seen.root, &newest.root, &hashes(&proof.hashes));
        report.check(
            grown.is_ok(),
            format!("the tree of {second} is not grown from that of {first}: {grown:?}"),
        );
    }
    let some =
        "SELECT id::text FROM audit.record WHERE team_id = 'crew' AND sequence % 29 = 1 ORDER BY sequence";
    for event_id in crew.texts(some).await {
        let request = GetInclusionProofRequest { event_id: event_id.clone(), size: newest.size };
        let proof = crew.admin.audit().get_inclusion_proof(request).await.unwrap().into_inner();
        let (index, leaf) = (number(proof.index), leaf_hash(&proof.leaf));
        let stands =
            verify_inclusion(&leaf, index, number(newest.size), &hashes(&proof.hashes), &newest.root);
        report.check(stands.is_ok(), format!("event {event_id} does not stand in the tree: {stands:?}"));
    }
    report.note(format!("{} events under the last checkpoint", newest.size));
    let latest = crew.checkpoints().join("crew/latest");
    let mark = format!("\n{}\n", newest.size);
    eventually("the last checkpoint is in the second place", async || is_there(&latest, &mark).then_some(()))
        .await;
}

fn is_there(latest: &Path, mark: &str) -> bool {
    std::fs::read_to_string(latest).is_ok_and(|note| note.contains(mark))
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap()
}

fn hashes(bytes: &[Vec<u8>]) -> Vec<Hash> {
    bytes.iter().map(|hash| Hash::try_from(hash.as_slice()).unwrap()).collect()
}
