//! The decision table: each reason at its boundary, and which of several grants decides.

use std::sync::LazyLock;

use chrono::TimeDelta;
use types::{Effect, Sensitivity};

use super::*;
use crate::policies::Budget;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn agent() -> AgentFacts {
    AgentFacts {
        team: "t".into(),
        name: "scout".into(),
        specialization: "Researcher".into(),
        role: types::Role::Agent,
        disabled: false,
    }
}

fn tool(effect: Effect, sensitivity: Sensitivity) -> ToolFacts {
    ToolFacts { name: "x".into(), effect, sensitivity }
}

fn to_agent() -> Candidate {
    let grant = GrantRow::plain("t", (Some("scout".into()), None), "x", ("root", now()));
    Candidate {
        grant: Arc::new(grant),
        used: Used::default(),
        within_hours: true,
        unmet: Vec::new(),
        approval: None,
        is_approval: false,
    }
}

/// The grant of a candidate, to change it.
fn of(candidate: &mut Candidate) -> &mut GrantRow {
    Arc::make_mut(&mut candidate.grant)
}

fn to_specialization() -> Candidate {
    let mut candidate = to_agent();
    (of(&mut candidate).agent_id, of(&mut candidate).specialization) = (None, Some("Researcher".into()));
    candidate
}

fn with(change: impl Fn(&mut Candidate)) -> Candidate {
    let mut candidate = to_agent();
    change(&mut candidate);
    candidate
}

fn quota(limit: i64, used: i64) -> Candidate {
    with(|candidate| (of(candidate).max_per_hour, candidate.used.hour) = (limit, used))
}

fn limits(limits: [i64; 3], [hour, day, total]: [i64; 3]) -> Candidate {
    with(|candidate| {
        let grant = of(candidate);
        [grant.max_per_hour, grant.max_per_day, grant.max_total] = limits;
        candidate.used = Used { hour, day, total };
    })
}

fn approver(approval: Option<Served>) -> Candidate {
    with(|candidate| {
        of(candidate).approver_role = Some(types::Role::Operator);
        candidate.approval = approval;
    })
}

fn expiring(at: DateTime<Utc>) -> Candidate {
    with(|candidate| of(candidate).expire_time = Some(at))
}

fn up_to(level: &str) -> Candidate {
    with(|candidate| of(candidate).max_sensitivity = Some(level.into()))
}

fn read_only() -> Candidate {
    with(|candidate| of(candidate).read_only = true)
}

fn decided(agent: &AgentFacts, tool: &ToolFacts, candidates: &[Candidate], budget: Budget) -> Decided {
    static POLICIES: LazyLock<Policies> = LazyLock::new(|| Policies::load().unwrap());
    let call = Call { user: "", arguments: None, budget, now: now() };
    decide(&POLICIES, (agent, tool), call, None, candidates)
}

/// `None` when allowed.
fn reason(agent: &AgentFacts, tool: &ToolFacts, candidates: &[Candidate]) -> Option<ErrorReason> {
    match decided(agent, tool, candidates, Budget::NONE) {
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
        ("day, one below", limits([0, 3, 0], [9, 2, 9]), plain.clone(), None),
        ("day, at its end", limits([0, 3, 0], [0, 3, 0]), plain.clone(), Some(ErrorReason::QuotaExhausted)),
        ("day, above", limits([0, 3, 0], [0, 4, 0]), plain.clone(), Some(ErrorReason::QuotaExhausted)),
        ("total, one below", limits([0, 0, 3], [9, 9, 2]), plain.clone(), None),
        ("total, at its end", limits([0, 0, 3], [0, 0, 3]), plain.clone(), Some(ErrorReason::QuotaExhausted)),
        ("all, each one below", limits([3, 3, 3], [2, 2, 2]), plain.clone(), None),
        ("within hours", with(|candidate| candidate.within_hours = true), plain.clone(), None),
        (
            "outside hours",
            with(|candidate| candidate.within_hours = false),
            plain.clone(),
            Some(ErrorReason::OutsideHours),
        ),
        (
            "conditions not met",
            with(|candidate| candidate.unmet = vec!["/a".into()]),
            plain.clone(),
            Some(ErrorReason::ArgumentCondition),
        ),
        ("not approved", approver(None), plain.clone(), Some(ErrorReason::ApprovalRequired)),
        ("approved", approver(Some(Served { id: Uuid::nil(), is_once: false })), plain.clone(), None),
        ("of every tool", with(|candidate| of(candidate).tool_name = "*".into()), plain.clone(), None),
        (
            "of tools below the tool",
            with(|candidate| of(candidate).tool_name = "x.*".into()),
            plain.clone(),
            Some(ErrorReason::NoGrant),
        ),
        (
            "of another team",
            with(|candidate| of(candidate).team_id = "other".into()),
            plain.clone(),
            Some(ErrorReason::NoGrant),
        ),
        ("of its specialization", to_specialization(), plain.clone(), None),
        (
            "of another agent",
            with(|candidate| of(candidate).agent_id = Some("other".into())),
            plain.clone(),
            Some(ErrorReason::NoGrant),
        ),
        (
            "of another tool",
            with(|candidate| of(candidate).tool_name = "y".into()),
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
    let plain = tool(Effect::SideEffect, Sensitivity::Internal);
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
        let reason = match decided(&agent(), &plain, &[to_agent()], budget) {
            Decided::Allowed { .. } => None,
            Decided::Denied { reason, .. } => Some(reason),
        };
        assert_eq!(reason, expected, "{what}");
    }
    // A full window opens sooner than a budget does.
    let budget = Budget { limit: 1, used: 1, cost: 1 };
    let made = decided(&agent(), &plain, &[quota(1, 1)], budget);
    let Decided::Denied { reason, policies: ids, .. } = made else { panic!("allowed") };
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
    let none = with(|candidate| of(candidate).agent_id = None);
    assert_eq!(reason(&nobody, &plain, &[none]), Some(ErrorReason::NoGrant));
}

#[test]
fn the_first_grant_that_permits_decides() {
    let plain = tool(Effect::SideEffect, Sensitivity::Internal);
    let made = decided(&agent(), &plain, &[to_agent(), to_specialization()], Budget::NONE);
    let grant_to_agent = vec!["grant-to-agent".to_owned()];
    assert_eq!(made, Decided::Allowed { index: Some(0), policies: grant_to_agent });
    let made = decided(&agent(), &plain, &[quota(1, 1), to_specialization()], Budget::NONE);
    let grant_to_specialization = vec!["grant-to-specialization".to_owned()];
    assert_eq!(made, Decided::Allowed { index: Some(1), policies: grant_to_specialization });
}

#[test]
fn the_nearest_denial_is_told_with_the_policies_behind_it() {
    let plain = tool(Effect::SideEffect, Sensitivity::Restricted);
    let both = with(|candidate| {
        of(candidate).read_only = true;
        of(candidate).expire_time = Some(now());
    });
    let Decided::Denied { reason, index, policies: ids } =
        decided(&agent(), &plain, std::slice::from_ref(&both), Budget::NONE)
    else {
        panic!("allowed")
    };
    assert_eq!((reason, index), (ErrorReason::GrantExpired, Some(0)));
    assert_eq!(ids, ["grant-expired", "read-only-grant"]);
    let outside = with(|candidate| candidate.within_hours = false);
    let candidates = [both, up_to("internal"), approver(None), quota(1, 1), outside, read_only()];
    let Decided::Denied { reason, index, policies: ids } =
        decided(&agent(), &plain, &candidates, Budget::NONE)
    else {
        panic!("allowed")
    };
    assert_eq!((reason, index), (ErrorReason::QuotaExhausted, Some(3)));
    assert_eq!(ids, ["quota-exhausted"]);
}

/// Not a test of behaviour: tells what a decision costs. `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_decision() {
    let plain = tool(Effect::SideEffect, Sensitivity::Internal);
    let candidates = [quota(10, 3)];
    let rounds = 20_000;
    let started = std::time::Instant::now();
    for _ in 0..rounds {
        let made = decided(&agent(), &plain, std::hint::black_box(&candidates), Budget::NONE);
        assert!(matches!(made, Decided::Allowed { .. }));
    }
    println!("{:?} a decision", started.elapsed() / rounds);
}
