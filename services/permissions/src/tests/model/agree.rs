//! The service decides as the model does, on 100,000 random cases (a tenth of them with every test run): which calls are allowed, by which grant, and every
//! reason why each grant does not allow one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ::rpc::ErrorReason;
use chrono::DateTime;
use proto::permissions::v1::{Role as WireRole, grant::Grantee};
use types::Role;
use uuid::Uuid;

use super::{Approved, Case, Given, POLICIES, SECOND, Scope, cases, decide as modelled};
use crate::{
    access_requests::{Approval, Scope as ApprovalScope},
    condition,
    decide::{Arguments, Candidate, Decided, Particulars, candidates, decide},
    hours::Hours,
    policies::{
        AgentFacts, Budget, Call, Policies, ToolFacts,
        team::{TeamPolicies, schema},
    },
    store::{GrantRow, Used},
};

const CASES: u64 = 100_000;
/// Cases that one thread decides in one go.
const SHARE: u64 = 2_500;
const TEAM: &str = "t";

/// The team's policies that are in force in a case; there are few different ones.
#[derive(Default)]
struct Sets(BTreeMap<BTreeSet<usize>, TeamPolicies>);

impl Sets {
    fn of(&mut self, which: &BTreeSet<usize>) -> TeamPolicies {
        let parse = || {
            let texts: Vec<_> =
                which.iter().map(|&index| (POLICIES[index].name, POLICIES[index].text)).collect();
            TeamPolicies::parse(schema().unwrap(), &texts).unwrap()
        };
        self.0.entry(which.clone()).or_insert_with(parse).clone()
    }
}

fn id(number: usize) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number as u128)
}

fn role(wire: i32) -> Option<Role> {
    Option::from(WireRole::try_from(wire).unwrap())
}

/// The grant as the service keeps it.
fn row(number: usize, Given { grant, .. }: &Given, now: i64) -> Arc<GrantRow> {
    let holder = match grant.grantee.clone().unwrap() {
        Grantee::AgentId(agent) => (Some(agent), None),
        Grantee::Specialization(specialization) => (None, Some(specialization)),
    };
    let plain = GrantRow::plain(
        TEAM,
        holder,
        &grant.tool_name,
        ("root", DateTime::from_timestamp_micros(now).unwrap()),
    );
    let level: Option<types::Sensitivity> = Option::from(grant.max_sensitivity());
    Arc::new(GrantRow {
        grant_id: id(number),
        max_per_hour: grant.max_per_hour,
        max_per_day: grant.max_per_day,
        max_total: grant.max_total,
        read_only: grant.read_only,
        max_sensitivity: level.map(|level| level.as_str().to_owned()),
        expire_time: grant.expire_time.as_ref().map(|at| {
            DateTime::from_timestamp_micros(at.seconds * SECOND + i64::from(at.nanos) / 1_000).unwrap()
        }),
        hours: grant.hours.clone().map(|hours| Hours::parse("hours", hours).unwrap()),
        conditions: condition::parse("conditions", grant.conditions.clone()).unwrap(),
        approver_role: role(grant.approver_role),
        ..plain
    })
}

fn approval(number: usize, approved: &Approved) -> Approval {
    Approval {
        id: id(1_000 + number),
        agent_id: approved.agent.clone(),
        user: approved.user.clone(),
        tool_name: approved.tool.clone(),
        tool_digest: approved.tool_digest.clone(),
        scope: match &approved.scope {
            Scope::Once { arguments_digest } => {
                ApprovalScope::Once { arguments_digest: arguments_digest.clone() }
            }
            Scope::Arguments(conditions) => ApprovalScope::Arguments {
                conditions: condition::parse("conditions", conditions.clone()).unwrap(),
            },
            Scope::Tool => ApprovalScope::Tool,
        },
        expire_time: DateTime::from_timestamp_micros(approved.expire_time).unwrap(),
        role: role(approved.role.into()).unwrap(),
        is_grant: approved.is_grant,
    }
}

/// What the service says: what it decides, and what it says of each grant.
fn decided(
    policies: &Policies,
    sets: &mut Sets,
    case: &Case,
) -> (Decided, Vec<Candidate>, Vec<BTreeSet<i32>>) {
    let now = DateTime::from_timestamp_micros(case.now).unwrap();
    let agent = AgentFacts {
        team: TEAM.into(),
        name: case.agent.name.clone(),
        specialization: case.agent.specialization.clone(),
        role: role(case.agent.role.into()).unwrap(),
        disabled: case.agent.disabled,
    };
    let tool = ToolFacts {
        name: case.tool.name.clone(),
        effect: Option::<types::Effect>::from(case.tool.effect).unwrap(),
        sensitivity: Option::<types::Sensitivity>::from(case.tool.sensitivity).unwrap(),
    };
    let rows: Vec<_> =
        case.grants.iter().enumerate().map(|(number, given)| row(number, given, case.now)).collect();
    let used: HashMap<Uuid, Used> = case
        .grants
        .iter()
        .enumerate()
        .map(|(number, given)| {
            (id(number), Used { hour: given.used[0], day: given.used[1], total: given.used[2] })
        })
        .collect();
    let approvals: Vec<_> =
        case.approvals.iter().enumerate().map(|(number, approved)| approval(number, approved)).collect();
    let particulars = Particulars {
        team: TEAM,
        agent: &case.agent.name,
        user: &case.user,
        tool: &case.tool.name,
        tool_digest: &case.tool_digest,
        arguments_digest: &case.arguments_digest,
        arguments: Arguments::Given(case.arguments.as_ref()),
        now,
    };
    let tried = candidates(&rows, &approvals, &used, &particulars);
    let budget = Budget { limit: case.budget.limit, used: case.budget.used, cost: case.budget.cost };
    let call = Call { user: &case.user, arguments: case.arguments.as_ref(), budget, now };
    let team = sets.of(&case.policies);
    let asking = policies.asking(&agent, &tool, call, Some(&team)).unwrap();
    let said = tried.iter().map(|candidate| {
        let verdict = asking.ask(Some(candidate));
        assert_eq!(verdict.allowed, verdict.reasons.is_empty(), "{verdict:?}");
        verdict.reasons.into_iter().map(|reason| reason as i32).collect()
    });
    let said = said.collect();
    (decide(policies, (&agent, &tool), call, Some(&team), &tried), tried, said)
}

/// What of a case the service and the model do not agree on.
fn disagreement(policies: &Policies, sets: &mut Sets, case: &Case) -> Option<String> {
    let model = modelled(case);
    let (decision, tried, said) = decided(policies, sets, case);
    let expected: HashMap<usize, &BTreeSet<i32>> =
        model.grants.iter().map(|(index, reasons)| (*index, reasons)).collect();
    for (index, said) in said.iter().enumerate().take(case.grants.len()) {
        match expected.get(&index) {
            Some(expected) if *expected != said => {
                return Some(format!("grant {index}: the service says {said:?}, the model {expected:?}"));
            }
            // A grant that is for somebody or something else allows nothing, whatever else is in its way.
            None if said.is_empty() => {
                return Some(format!("grant {index} is not for this call and allows it"));
            }
            _ => {}
        }
    }
    match decision {
        Decided::Allowed { .. } if !model.allowed => Some("the service allows what the model denies".into()),
        Decided::Denied { .. } if model.allowed => Some("the service denies what the model allows".into()),
        Decided::Allowed { index: Some(index), .. } if !said[index].is_empty() => {
            Some(format!("grant {index} decided and does not allow the call"))
        }
        Decided::Denied { reason, index: Some(index), .. } if !said[index].contains(&(reason as i32)) => {
            Some(format!("{reason:?} is no reason of grant {index} of {}", tried.len()))
        }
        Decided::Denied { reason: ErrorReason::Internal, .. } => Some("a case could not be evaluated".into()),
        Decided::Allowed { .. } | Decided::Denied { .. } => None,
    }
}

#[test]
fn the_service_decides_as_the_model_does() {
    agree_on(CASES / 10);
}

/// `cargo test --release -p permissions --lib model -- --ignored` takes half a minute.
#[test]
#[ignore = "takes minutes without --release"]
fn the_service_decides_as_the_model_does_on_all_cases() {
    agree_on(CASES);
}

fn agree_on(cases: u64) {
    let policies = Policies::load().unwrap();
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        let (mut sets, mut seen) = (Sets::default(), BTreeMap::<i32, u64>::new());
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= cases / SHARE {
                return seen;
            }
            let mut random = cases::seeded(seed);
            for number in 0..SHARE {
                let case = cases::case(&mut random);
                if let Some(what) = disagreement(&policies, &mut sets, &case) {
                    panic!("case {number} of seed {seed}: {what}\n{case:#?}");
                }
                let answer = modelled(&case);
                *seen.entry(if answer.allowed { 0 } else { -1 }).or_default() += 1;
                for reason in answer.grants.iter().flat_map(|(_, reasons)| reasons) {
                    *seen.entry(*reason).or_default() += 1;
                }
            }
        }
    };
    let seen = std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        let mut all = BTreeMap::<i32, u64>::new();
        for (reason, count) in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            *all.entry(reason).or_default() += count;
        }
        all
    });
    // The cases are about something: each answer and each reason came often.
    let reasons = [
        ErrorReason::AgentDisabled,
        ErrorReason::GrantExpired,
        ErrorReason::ReadOnlyGrant,
        ErrorReason::SensitivityExceeded,
        ErrorReason::QuotaExhausted,
        ErrorReason::BudgetExhausted,
        ErrorReason::OutsideHours,
        ErrorReason::ArgumentCondition,
        ErrorReason::ApprovalRequired,
        ErrorReason::PolicyDenied,
    ];
    for reason in reasons.map(|reason| reason as i32).into_iter().chain([0, -1]) {
        assert!(seen.get(&reason).copied().unwrap_or(0) > cases / 100, "{reason}: {seen:?}");
    }
}
