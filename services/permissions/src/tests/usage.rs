//! What is counted of allowed calls, what the report says of it, and that the least grants would have done.

use std::collections::HashMap;

use rand::{RngExt, rngs::StdRng};

use super::*;
use crate::{
    decide::{Arguments, Decided, Particulars, candidates, decide},
    policies::{AgentFacts, Budget, Call},
    report_usage::{LeastGrant, Report, report_usage},
    store::{GrantRow, Used},
    usage::{Basis, Usage, purge},
};

async fn report(database: &Database, days: i32, agent: &str) -> Report {
    let auditor = caller("root", Role::Auditor);
    report_usage(database, &auditor, days, agent, noon()).await.unwrap()
}

fn tool(name: &str, effect: Effect, sensitivity: Sensitivity) -> ToolFacts {
    ToolFacts { name: name.into(), effect, sensitivity }
}

#[tokio::test]
async fn decisions_are_counted_once_and_denials_never() {
    let database = team().await;
    let used = grant(&database, to_agent("scout"), 0).await;
    let unused = grant(&database, to_researchers(), 5).await;
    let desk = desk(&database);
    let call = asked("scout");
    for _ in 0..3 {
        assert_eq!(desk.authorize(&call, noon()).await.unwrap().reason, None);
    }
    assert_eq!(desk.authorize(&asked("scout"), noon() - hour()).await.unwrap().reason, None);
    assert!(desk.authorize(&asked("writer"), noon()).await.unwrap().reason.is_some());
    desk.usage.flush(&database).await.unwrap();
    desk.usage.flush(&database).await.unwrap();
    let told = report(&database, 1, "").await;
    let of = |listed: &ListedGrant| {
        let found = told.grants.iter().find(|(each, _)| each.grant.grant_id == listed.grant.grant_id);
        found.unwrap().1.clone()
    };
    assert_eq!(of(&unused), None);
    let use_of = of(&used).unwrap();
    assert_eq!((use_of.calls, use_of.last_hour), (2, crate::authorize::window_start(noon())));
    assert_eq!(use_of.tools, ["python_sandbox"]);
    let [least] = &told.least[..] else { panic!("{told:?}") };
    let limits = (least.read_only, least.max_sensitivity, least.max_per_hour, least.max_per_day);
    assert_eq!(limits, (false, Some(Sensitivity::Internal), 1, 2));
    // More of the same is added; another process adds to it too.
    let another = super::desk(&database);
    assert_eq!(another.authorize(&asked("scout"), noon()).await.unwrap().reason, None);
    another.usage.flush(&database).await.unwrap();
    let told = report(&database, 1, "scout").await;
    let calls: i64 = told.grants.iter().filter_map(|(_, used)| Some(used.as_ref()?.calls)).sum();
    assert_eq!(calls, 3);
    assert!(report(&database, 1, "writer").await.grants.is_empty());
}

#[tokio::test]
async fn what_is_narrowed_already_stays_narrow_and_the_past_is_forgotten() {
    let database = team().await;
    let root = caller("root", Role::Admin);
    let narrow = NewGrant { approver_role: Some(Role::Operator), ..new_grant(to_agent("scout"), 0) };
    let narrow = grant_permission(&database, &root, narrow, noon()).await.unwrap();
    let usage = Usage::default();
    let sandbox = tool("python_sandbox", Effect::Idempotent, Sensitivity::Public);
    let other = tool("net.ping", Effect::ReadOnly, Sensitivity::Public);
    let count = |tool: &ToolFacts, basis: Basis<'_>, days: i64| {
        usage.count(("t", "scout", tool), basis, random(), noon() - TimeDelta::days(days));
    };
    count(&sandbox, Basis::Grant(narrow.grant.grant_id), 0);
    count(&other, Basis::Policy("anybody-pings"), 0);
    count(&other, Basis::Approval(random()), 29);
    count(&other, Basis::Approval(random()), 30);
    count(&other, Basis::Approval(random()), 93);
    usage.flush(&database).await.unwrap();
    let told = report(&database, 30, "").await;
    let [ping, sandbox] = &told.least[..] else { panic!("{told:?}") };
    assert_eq!(sandbox.like.as_ref().unwrap().approver_role, Some(Role::Operator));
    assert_eq!((ping.like.is_none(), ping.read_only, ping.max_per_day), (true, true, 1));
    assert!(ping.note.starts_with("2 calls in the 30 days"), "{}", ping.note);
    let rows = async || sqlx_count(&database).await;
    let before = rows().await;
    purge(&database, noon()).await.unwrap();
    assert_eq!((before, rows().await), (5, 4));
}

async fn sqlx_count(database: &Database) -> usize {
    let all =
        store::use_by_tool(database.pool().unwrap(), "t", None, DateTime::UNIX_EPOCH, 10).await.unwrap();
    usize::try_from(all.iter().map(|each| each.calls).sum::<i64>()).unwrap()
}

/// One recorded call.
type Called = (String, ToolFacts, DateTime<Utc>);

/// Random calls, a few of them in the same hour.
fn calls(random: &mut StdRng) -> Vec<Called> {
    let agents = ["scout", "second", "writer"];
    let called = (0..random.random_range(1..200)).map(|_| {
        let agent = agents[random.random_range(0..agents.len())].to_owned();
        let effect = Effect::ALL[random.random_range(0..Effect::ALL.len())];
        let sensitivity = Sensitivity::ALL[random.random_range(0..Sensitivity::ALL.len())];
        let name = ["a.read", "a.write", "b"][random.random_range(0..3)];
        let longest = if random.random_range(0..2) == 0 { 90 } else { 60 * 24 * 20 };
        let minutes = random.random_range(0..longest);
        (agent, tool(name, effect, sensitivity), noon() - TimeDelta::minutes(minutes))
    });
    let mut called: Vec<_> = called.collect();
    called.sort_by_key(|(_, _, at)| *at);
    called
}

fn row(least: &LeastGrant) -> GrantRow {
    let plain = GrantRow::plain("t", (Some(least.agent.clone()), None), &least.tool, ("root", noon()));
    GrantRow {
        read_only: least.read_only,
        max_sensitivity: least.max_sensitivity.map(|level| level.as_str().to_owned()),
        max_per_hour: least.max_per_hour,
        max_per_day: least.max_per_day,
        ..plain
    }
}

/// Whether the least grants would have allowed each call, when it was made; the first that they would not have.
fn replay(policies: &Policies, least: &[LeastGrant], called: &[Called]) -> Option<Called> {
    let mut counted: HashMap<(String, String, DateTime<Utc>), i64> = HashMap::new();
    for (agent, tool, at) in called {
        let least = least.iter().find(|least| least.agent == *agent && least.tool == tool.name)?;
        let grant = Arc::new(row(least));
        let windows = store::Windows::of(*at);
        // A day begins with an hour: the two are told apart by a second.
        let mut take = |start| {
            let counter = counted.entry((agent.clone(), tool.name.clone(), start)).or_default();
            *counter += 1;
            *counter - 1
        };
        let taken =
            Used { hour: take(windows.hour), day: take(windows.day - TimeDelta::seconds(1)), total: 0 };
        let particulars = Particulars {
            team: "t",
            agent,
            user: "",
            tool: &tool.name,
            tool_digest: "d",
            arguments_digest: "a",
            arguments: Arguments::Given(None),
            now: *at,
        };
        let used = HashMap::from([(grant.grant_id, taken)]);
        let tried = candidates(&[grant], &[], &used, &particulars);
        let facts = AgentFacts {
            team: "t".into(),
            name: agent.clone(),
            specialization: String::new(),
            role: Role::Agent,
            disabled: false,
        };
        let call = Call { user: "", arguments: None, budget: Budget::NONE, now: *at };
        if matches!(decide(policies, (&facts, tool), call, None, &tried), Decided::Denied { .. }) {
            return Some((agent.clone(), tool.clone(), *at));
        }
    }
    None
}

#[tokio::test]
async fn the_least_grants_allow_every_call_that_was_made_and_are_not_wide() {
    let database = team().await;
    let policies = Policies::load().unwrap();
    let mut random: StdRng = rand::SeedableRng::seed_from_u64(7);
    let usage = Usage::default();
    let mut called = Vec::new();
    for round in 0..5 {
        let more = calls(&mut random);
        for (agent, tool, at) in &more {
            usage.count(("t", agent, tool), Basis::Grant(super::random()), super::random(), *at);
        }
        usage.flush(&database).await.unwrap();
        called.extend(more);
        called.sort_by_key(|(_, _, at)| *at);
        let least = report(&database, 30, "").await.least;
        assert_eq!(replay(&policies, &least, &called), None, "round {round}");
        // Half of a limit would not have done: each is the next round number.
        for (index, each) in least.iter().enumerate() {
            let mut tighter = least.clone();
            if each.max_per_hour > 1 {
                tighter[index].max_per_hour /= 3;
                tighter[index].max_per_hour = tighter[index].max_per_hour.max(1);
                assert!(replay(&policies, &tighter, &called).is_some(), "{each:?}");
            }
        }
    }
}
