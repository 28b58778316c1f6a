//! Decisions of the permissions service, asked for in process among very many grants.

use std::fmt::{self, Display, Formatter};

use proto::{
    permissions::v1::{
        AllowedHours, ArgumentCondition, AuthorizeRequest, Grant, HoursWindow, TextSet,
        argument_condition::Test, permissions_service_client::PermissionsServiceClient,
    },
    types::v1::{Effect, Sensitivity},
};
use rpc::{Link, Outgoing};
use serde_json::json;
use types::Caller;

use crate::{
    load::{self, Loop, Measured},
    stage::{AGENT, Suite, UNLIMITED},
};

/// Grants of the team, nearly all of them for tools that this agent and others never call.
const GRANTS: i32 = 100_000;
/// Rounds of which the middle one is told.
const ROUNDS: usize = 7;
/// How long a decision may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// What decisions took.
#[derive(Debug, Clone, Copy)]
pub struct Decisions {
    /// One after the other.
    pub one: Measured,
    /// With eight callers, who share the processors.
    pub eight: Measured,
}

impl Display for Decisions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| decisions among {GRANTS} grants, callers | calls/s | p50 ms | p99 ms |\n|--:|--:|--:|--:|"
        )?;
        for (callers, measured) in [(1, self.one), (8, self.eight)] {
            let Measured { per_second, p50_ms, p99_ms, .. } = measured;
            writeln!(f, "| {callers} | {per_second:.0} | {p50_ms:.3} | {p99_ms:.3} |")?;
        }
        Ok(())
    }
}

/// Gives the team its grants, and measures decisions on a tool that has no quota: one with a quota waits for the
/// database besides, and is in the table.
pub async fn among_many(suite: &mut Suite, plan: Loop) -> Decisions {
    let pool = suite.database.pool().expect("the database is up").clone();
    // Of every kind: one in ten a pattern, and limits, hours, conditions and approvals in turn.
    let many = "INSERT INTO permissions.tool_grant (team_id, grant_id, specialization, tool_name, max_per_hour,
                    max_per_day, max_total, hours, conditions, approver_role, read_only, created_by, create_time,
                    revision)
                SELECT team_id, gen_random_uuid(), 'role ' || n % 100,
                    'bench.idle_' || n / 100 || CASE WHEN n % 10 = 0 THEN '.*' ELSE '' END, 0,
                    CASE WHEN n % 5 = 1 THEN 100 ELSE 0 END, CASE WHEN n % 5 = 2 THEN 1000 ELSE 0 END,
                    CASE WHEN n % 5 = 3 THEN $2::jsonb END, CASE WHEN n % 5 = 4 THEN $3::jsonb ELSE '[]' END,
                    CASE WHEN n % 7 = 0 THEN 'operator' END, false, 'bench', now(), revision
                FROM permissions.team, generate_series(1, $1) n";
    sqlx::query(many)
        .bind(GRANTS)
        .bind(json!({"zone": "Europe/Berlin", "windows": [{"days": [0, 1, 2, 3, 4], "start": 540, "end": 1_020}]}))
        .bind(json!([{"pointer": "/path", "test": {"within": ["/reports"]}}]))
        .execute(&pool)
        .await
        .expect("grants");
    // Two that the agent meets, before the one that allows the call.
    let kinds = [
        Grant { max_per_day: 1_000_000_000, conditions: vec![conditioned()], ..Grant::default() },
        Grant { hours: Some(hours()), max_sensitivity: Sensitivity::Public.into(), ..Grant::default() },
    ];
    for limits in kinds {
        suite.admin.grant(AGENT, "*", limits).await;
    }
    // A change of the team makes its snapshot new, with all of them in it.
    suite.grant(UNLIMITED).await;
    let process = suite.executor();
    process.authorize(AGENT, UNLIMITED, Loop { run_ms: 2_000, callers: 8, ..plan });
    let mut middle = |callers| {
        // The table was just filled, and PostgreSQL tidies it while this runs: the middle of some rounds is told.
        let round = |_| process.authorize(AGENT, UNLIMITED, Loop { callers, ..plan });
        let mut rounds: Vec<Measured> = (0..ROUNDS).map(round).collect();
        rounds.sort_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
        rounds[ROUNDS / 2]
    };
    Decisions { one: middle(1), eight: middle(8) }
}

/// What the arguments of the calls do not meet.
fn conditioned() -> ArgumentCondition {
    let folders = TextSet { values: vec!["/reports".to_owned()] };
    ArgumentCondition { pointer: "/path".to_owned(), test: Some(Test::Within(folders)) }
}

fn hours() -> AllowedHours {
    let window = HoursWindow { days: Vec::new(), start: "00:00".to_owned(), end: "24:00".to_owned() };
    AllowedHours { time_zone: "Europe/Berlin".to_owned(), windows: vec![window] }
}

/// Decisions in turn, each for another execution.
pub async fn measure(
    link: &Link,
    outgoing: &Outgoing,
    (team, agent, tool): (&str, &str, &str),
    plan: Loop,
) -> Measured {
    let caller =
        Caller { team: team.to_owned(), agent: agent.to_owned(), service: None, ..Caller::service("") };
    let asked = AuthorizeRequest {
        tool_name: tool.to_owned(),
        tool_digest: "0".repeat(64),
        effect: Effect::ReadOnly.into(),
        sensitivity: Sensitivity::Internal.into(),
        arguments_digest: "0".repeat(64),
        arguments_json: r#"{"path": "/etc/hosts", "lines": [1, 2, 3]}"#.to_owned(),
        ..AuthorizeRequest::default()
    };
    let asker = |_| {
        let (link, outgoing, caller, asked) = (link.clone(), outgoing.clone(), caller.clone(), asked.clone());
        move || {
            let asked = AuthorizeRequest { execution_id: types::new_id().to_string(), ..asked.clone() };
            let request = outgoing.request(&caller, TIMEOUT, asked);
            let mut client = PermissionsServiceClient::new(link.clone());
            async move {
                let answer = client.authorize(request).await.map_err(|status| format!("{status:?}"))?;
                let answer = answer.into_inner();
                if answer.allowed { Ok(()) } else { Err(format!("{answer:?}")) }
            }
        }
    };
    load::run(plan, asker, || (), || ()).await
}
