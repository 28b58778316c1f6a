//! The decision table: each reason at its boundary, and which of several grants decides.

use chrono::TimeDelta;
use types::{Effect, Sensitivity};

use super::*;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn agent() -> AgentFacts {
    AgentFacts {
        team: "t".into(),
        name: "scout".into(),
        specialization: "Researcher".into(),
        disabled: false,
    }
}

fn tool(effect: Effect, sensitivity: Sensitivity) -> ToolFacts {
    ToolFacts { name: "x".into(), effect, sensitivity }
}

fn to_agent() -> Candidate {
    let grant = GrantRow {
        team_id: "t".into(),
        grant_id: types::new_id(),
        agent_id: Some("scout".into()),
        specialization: None,
        tool_name: "x".into(),
        max_per_hour: 0,
        read_only: false,
        max_sensitivity: None,
        expire_time: None,
        created_by: "root".into(),
        create_time: now(),
        revoke_time: None,
    };
    Candidate { grant, used: 0 }
}

fn to_specialization() -> Candidate {
    let mut candidate = to_agent();
    (candidate.grant.agent_id, candidate.grant.specialization) = (None, Some("Researcher".into()));
    candidate
}

fn with(change: impl Fn(&mut Candidate)) -> Candidate {
    let mut candidate = to_agent();
    change(&mut candidate);
    candidate
}

fn quota(limit: i64, used: i64) -> Candidate {
    with(|candidate| (candidate.grant.max_per_hour, candidate.used) = (limit, used))
}

fn expiring(at: DateTime<Utc>) -> Candidate {
    with(|candidate| candidate.grant.expire_time = Some(at))
}

fn up_to(level: &str) -> Candidate {
    with(|candidate| candidate.grant.max_sensitivity = Some(level.into()))
}

fn read_only() -> Candidate {
    with(|candidate| candidate.grant.read_only = true)
}

/// `None` when allowed.
fn reason(agent: &AgentFacts, tool: &ToolFacts, candidates: &[Candidate]) -> Option<ErrorReason> {
    match decide(&Policies::load().unwrap(), agent, tool, candidates, Budget::NONE, now()) {
        Decided::Allowed { .. } => None,
        Decided::Denied { reason, .. } => Some(reason),
    }
}

#[test]
fn every_limit_denies_exactly_at_its_boundary() {
    let plain = tool(Effect::SideEffect, Sensitivity::Internal);
    let micro = TimeDelta::microseconds(1);
    let table = [
        ("no limit", to_agent(), plain.clone(), None),
        ("one below the limit", quota(10, 9), plain.clone(), None),
        ("at the limit", quota(10, 10), plain.clone(), Some(ErrorReason::QuotaExhausted)),
        ("one above the limit", quota(10, 11), plain.clone(), Some(ErrorReason::QuotaExhausted)),
        ("without limit, used", quota(0, 1_000_000), plain.clone(), None),
        ("ends later", expiring(now() + micro), plain.clone(), None),
        ("ends now", expiring(now()), plain.clone(), Some(ErrorReason::GrantExpired)),
        ("ended", expiring(now() - micro), plain.clone(), Some(ErrorReason::GrantExpired)),
        ("read-only, read", read_only(), tool(Effect::ReadOnly, Sensitivity::Internal), None),
        (
            "read-only, idempotent",
            read_only(),
            tool(Effect::Idempotent, Sensitivity::Internal),
            Some(ErrorReason::ReadOnlyGrant),
        ),
        ("read-only, side effect", read_only(), plain.clone(), Some(ErrorReason::ReadOnlyGrant)),
        ("below its level", up_to("confidential"), plain.clone(), None),
        ("at its level", up_to("internal"), plain.clone(), None),
        ("above its level", up_to("public"), plain.clone(), Some(ErrorReason::SensitivityExceeded)),
        ("a level not known", up_to("secret"), plain.clone(), Some(ErrorReason::SensitivityExceeded)),
        ("no level", to_agent(), tool(Effect::SideEffect, Sensitivity::Restricted), None),
        ("of its specialization", to_specialization(), plain.clone(), None),
        (
            "of another agent",
            with(|candidate| candidate.grant.agent_id = Some("other".into())),
            plain.clone(),
            Some(ErrorReason::NoGrant),
        ),
        (
            "of another tool",
            with(|candidate| candidate.grant.tool_name = "y".into()),
            plain.clone(),
            Some(ErrorReason::NoGrant),
        ),
    ];
    for (what, candidate, tool, expected) in table {
        assert_eq!(reason(&agent(), &tool, &[candidate]), expected, "{what}");
    }
}

#[test]
fn the_budget_denies_exactly_where_a_cost_no_longer_fits() {
    let (policies, plain) = (Policies::load().unwrap(), tool(Effect::SideEffect, Sensitivity::Internal));
    let largest = i64::MAX;
    let table = [
        ("no budget", 0, 0, 1_000, None),
        ("fits exactly", 10, 7, 3, None),
        ("one too much", 10, 8, 3, Some(ErrorReason::BudgetExhausted)),
        ("costs nothing, all used", 10, 10, 0, None),
        ("costs nothing, overdrawn", 10, 20, 0, None),
        ("a sum that is no number", largest, largest, 1, Some(ErrorReason::Internal)),
    ];
    for (what, limit, used, cost, expected) in table {
        let budget = Budget { limit, used, cost };
        let reason = match decide(&policies, &agent(), &plain, &[to_agent()], budget, now()) {
            Decided::Allowed { .. } => None,
            Decided::Denied { reason, .. } => Some(reason),
        };
        assert_eq!(reason, expected, "{what}");
    }
    // A full window opens sooner than a budget does.
    let budget = Budget { limit: 1, used: 1, cost: 1 };
    let decided = decide(&policies, &agent(), &plain, &[quota(1, 1)], budget, now());
    let Decided::Denied { reason, policies: ids, .. } = decided else { panic!("allowed") };
    assert_eq!(reason, ErrorReason::BudgetExhausted);
    assert_eq!(ids, ["budget-exhausted", "quota-exhausted"]);
}

#[test]
fn without_a_grant_everything_is_denied() {
    let plain = tool(Effect::ReadOnly, Sensitivity::Public);
    assert_eq!(reason(&agent(), &plain, &[]), Some(ErrorReason::NoGrant));
    let disabled = AgentFacts { disabled: true, ..agent() };
    assert_eq!(reason(&disabled, &plain, &[]), Some(ErrorReason::AgentDisabled));
    assert_eq!(reason(&disabled, &plain, &[to_agent()]), Some(ErrorReason::AgentDisabled));
}

#[test]
fn a_grant_to_no_specialization_does_not_reach_an_agent_without_one() {
    let nobody = AgentFacts { specialization: String::new(), ..agent() };
    let plain = tool(Effect::ReadOnly, Sensitivity::Public);
    assert_eq!(reason(&nobody, &plain, &[to_specialization()]), Some(ErrorReason::NoGrant));
    let none = with(|candidate| candidate.grant.agent_id = None);
    assert_eq!(reason(&nobody, &plain, &[none]), Some(ErrorReason::NoGrant));
}

#[test]
fn the_first_grant_that_permits_decides() {
    let policies = Policies::load().unwrap();
    let plain = tool(Effect::SideEffect, Sensitivity::Internal);
    let decided =
        decide(&policies, &agent(), &plain, &[to_agent(), to_specialization()], Budget::NONE, now());
    let grant_to_agent = vec!["grant-to-agent".to_owned()];
    assert_eq!(decided, Decided::Allowed { index: 0, policies: grant_to_agent });
    let decided =
        decide(&policies, &agent(), &plain, &[quota(1, 1), to_specialization()], Budget::NONE, now());
    let grant_to_specialization = vec!["grant-to-specialization".to_owned()];
    assert_eq!(decided, Decided::Allowed { index: 1, policies: grant_to_specialization });
}

#[test]
fn the_nearest_denial_is_told_with_the_policies_behind_it() {
    let policies = Policies::load().unwrap();
    let plain = tool(Effect::SideEffect, Sensitivity::Restricted);
    let both = with(|candidate| {
        candidate.grant.read_only = true;
        candidate.grant.expire_time = Some(now());
    });
    let Decided::Denied { reason, index, policies: ids } =
        decide(&policies, &agent(), &plain, std::slice::from_ref(&both), Budget::NONE, now())
    else {
        panic!("allowed")
    };
    assert_eq!((reason, index), (ErrorReason::GrantExpired, Some(0)));
    assert_eq!(ids, ["grant-expired", "read-only-grant"]);
    let candidates = [both, up_to("internal"), quota(1, 1), read_only()];
    let Decided::Denied { reason, index, policies: ids } =
        decide(&policies, &agent(), &plain, &candidates, Budget::NONE, now())
    else {
        panic!("allowed")
    };
    assert_eq!((reason, index), (ErrorReason::QuotaExhausted, Some(2)));
    assert_eq!(ids, ["quota-exhausted"]);
}

/// Not a test of behaviour: tells what a decision costs. `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_decision() {
    let policies = Policies::load().unwrap();
    let plain = tool(Effect::SideEffect, Sensitivity::Internal);
    let candidates = [quota(10, 3)];
    let rounds = 20_000;
    let started = std::time::Instant::now();
    for _ in 0..rounds {
        let decided =
            decide(&policies, &agent(), &plain, std::hint::black_box(&candidates), Budget::NONE, now());
        assert!(matches!(decided, Decided::Allowed { .. }));
    }
    println!("{:?} a decision", started.elapsed() / rounds);
}
