//! Decisions of the permissions service, asked for in process among very many grants.

use proto::{
    permissions::v1::{AuthorizeRequest, permissions_service_client::PermissionsServiceClient},
    types::v1::{Effect, Sensitivity},
};
use rpc::{Link, Outgoing};
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

/// Gives the team its grants, and measures decisions on a tool that has no quota: one with a quota waits for the
/// database besides, and is in the table.
pub async fn among_many(suite: &mut Suite, plan: Loop) -> Measured {
    let pool = suite.database.pool().expect("the database is up").clone();
    let many = "INSERT INTO permissions.tool_grant (team_id, grant_id, specialization, tool_name, max_per_hour,
                    read_only, created_by, create_time, revision)
                SELECT team_id, gen_random_uuid(), 'role ' || n % 100, 'bench.idle_' || n / 100, 0, false, 'bench',
                    now(), revision
                FROM permissions.team, generate_series(1, $1) n";
    sqlx::query(many).bind(GRANTS).execute(&pool).await.expect("grants");
    // A change of the team makes its snapshot new, with all of them in it.
    suite.grant(UNLIMITED).await;
    let process = suite.executor();
    process.authorize(AGENT, UNLIMITED, Loop { run_ms: 2_000, ..plan });
    // The table was just filled, and PostgreSQL tidies it while this runs: the middle of some rounds is told.
    let mut rounds: Vec<Measured> = (0..ROUNDS).map(|_| process.authorize(AGENT, UNLIMITED, plan)).collect();
    rounds.sort_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
    rounds[ROUNDS / 2]
}

/// Decisions in turn, each for another execution.
pub async fn measure(
    link: &Link,
    outgoing: &Outgoing,
    (team, agent, tool): (&str, &str, &str),
    plan: Loop,
) -> Measured {
    let caller = Caller {
        team: team.to_owned(),
        agent: agent.to_owned(),
        service: None,
        ..Caller::service("")
    };
    let asked = AuthorizeRequest {
        tool_name: tool.to_owned(),
        tool_digest: "0".repeat(64),
        effect: Effect::ReadOnly.into(),
        sensitivity: Sensitivity::Internal.into(),
        arguments_digest: "0".repeat(64),
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
