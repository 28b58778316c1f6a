//! Grants of every kind as calls meet them: limits of an hour, a day and in all, hours, conditions, approvals and
//! patterns, exact over processes and all or nothing.

use proto::permissions::v1::{
    self as wire, AllowedHours, ArgumentCondition, HoursWindow, TextSet, argument_condition::Test,
};

use super::*;
use crate::{
    authorize::Period,
    batch_authorize::batch_authorize,
    settle::{purge, sweep},
    store::{Used, Windows},
};

fn root() -> Caller {
    caller("root", Role::Admin)
}

fn limited(hour: i64, day: i64, total: i64) -> NewGrant {
    NewGrant { max_per_hour: hour, max_per_day: day, max_total: total, ..new_grant(to_agent("scout"), 0) }
}

async fn made(database: &Database, new: NewGrant) -> ListedGrant {
    grant_permission(database, &root(), new, noon()).await.unwrap()
}

/// What is used of a grant by all agents.
async fn all_used(database: &Database, granted: &ListedGrant, now: DateTime<Utc>) -> Used {
    let ids = [granted.grant.grant_id];
    let used = store::grants_used(database.pool().unwrap(), "t", None, &ids, Windows::of(now)).await.unwrap();
    used.get(&ids[0]).copied().unwrap_or_default()
}

fn used_of(hour: i64, day: i64, total: i64) -> Used {
    Used { hour, day, total }
}

fn day() -> TimeDelta {
    TimeDelta::days(1)
}

#[tokio::test]
async fn each_limit_denies_exactly_at_its_end_and_opens_again_when_its_window_does() {
    let database = team().await;
    let granted = made(&database, limited(2, 3, 5)).await;
    let call = |at| {
        let database = &database;
        async move { authorize(database, &asked("scout"), at).await.unwrap() }
    };
    for used in 1..=2 {
        let decision = call(noon()).await;
        assert_eq!((decision.reason, decision.reserved), (None, true));
        let quotas: Vec<_> =
            decision.quotas.iter().map(|quota| (quota.period, quota.limit, quota.used)).collect();
        assert_eq!(quotas, [(Period::Hour, 2, used), (Period::Day, 3, used), (Period::Total, 5, used)]);
        assert_eq!(decision.quota().map(|quota| quota.period), Some(Period::Hour));
    }
    let full = call(noon()).await;
    assert_eq!(
        (full.reason, full.policies),
        (Some(ErrorReason::QuotaExhausted), vec!["quota-exhausted".to_owned()])
    );
    assert_eq!(full.quotas.iter().map(|quota| quota.period).collect::<Vec<_>>(), [Period::Hour]);
    assert!(full.message.ends_with("the next hour begins at 2026-11-22T13:00:00Z"), "{}", full.message);
    // One more in the next hour, then the day is full.
    let third = call(noon() + hour()).await;
    assert_eq!((third.reason, third.quota().unwrap().period), (None, Period::Day));
    let full = call(noon() + hour()).await;
    assert_eq!(full.policies, ["day-exhausted"]);
    assert_eq!(full.quota().unwrap().reset_time, Some("2026-11-23T00:00:00Z".parse().unwrap()));
    assert!(full.message.ends_with("the next day begins at 2026-11-23T00:00:00Z"), "{}", full.message);
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(2, 3, 3));
    // Midnight opens the day, and all that is left is two.
    let midnight: DateTime<Utc> = "2026-11-23T00:00:00Z".parse().unwrap();
    assert_eq!(call(midnight - TimeDelta::microseconds(1)).await.policies, ["day-exhausted"]);
    for _ in 0..2 {
        assert_eq!(call(midnight).await.reason, None);
    }
    let full = call(midnight).await;
    assert_eq!(full.policies, ["quota-exhausted", "total-exhausted"]);
    assert_eq!(full.quota().map(|quota| (quota.period, quota.reset_time)), Some((Period::Total, None)));
    assert!(full.message.contains("5 calls") && full.message.contains("in all"), "{}", full.message);
    assert_eq!(call(midnight + day() * 400).await.policies, ["total-exhausted"]);
    assert_eq!(all_used(&database, &granted, midnight).await, used_of(2, 2, 5));
}

#[tokio::test]
async fn several_limits_are_exact_over_processes_and_nothing_is_taken_of_one_that_another_refuses() {
    let url = testkit::database_url().await;
    let pools = [Database::new(&url, 8).unwrap(), Database::new(&url, 8).unwrap()];
    crate::schema().migrate(pools[0].pool().unwrap()).await.unwrap();
    people(&pools[0], "t").await;
    let new = NewGrant { grantee: Some(to_researchers()), ..limited(50, 12, 40) };
    let granted = made(&pools[0], new).await;
    let desks = [desk(&pools[0]), desk(&pools[1])];
    let calls = (0..80).map(|n| {
        let desk = desks[n % 2].clone();
        let agent = ["scout", "second"][n / 2 % 2];
        tokio::spawn(async move { desk.authorize(&asked(agent), noon()).await.unwrap() })
    });
    let (mut places, mut denied) = (Vec::new(), 0);
    for call in calls.collect::<Vec<_>>() {
        let decision = call.await.unwrap();
        match decision.reason {
            None => places.push(decision.quotas.iter().map(|quota| quota.used).collect::<Vec<_>>()),
            Some(reason) => {
                assert_eq!(
                    (reason, decision.policies),
                    (ErrorReason::QuotaExhausted, vec!["day-exhausted".into()])
                );
                denied += 1;
            }
        }
    }
    places.sort();
    // Each agent has its own: twelve on the day, and as many in the hour and in all.
    let expected: Vec<_> = (1..=12).flat_map(|used| [vec![used; 3], vec![used; 3]]).collect();
    assert_eq!((places, denied), (expected, 56));
    assert_eq!(all_used(&pools[0], &granted, noon()).await, used_of(24, 24, 24));
}

#[tokio::test]
async fn a_place_of_each_limit_is_given_back_once_or_kept_for_ever() {
    let database = team().await;
    let granted = made(&database, limited(0, 3, 3)).await;
    let [one, two, three] = [asked("scout"), asked("scout"), asked("scout")];
    let not_made = authorize(&database, &one, noon()).await.unwrap();
    let called = authorize(&database, &two, noon()).await.unwrap();
    let forgotten = authorize(&database, &three, noon()).await.unwrap();
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(0, 3, 3));
    // The same execution again takes nothing more, even when all is taken.
    assert_eq!(authorize(&database, &two, noon()).await.unwrap(), called);
    for _ in 0..2 {
        settle(&database, "t", not_made.id, false).await.unwrap();
        settle(&database, "t", called.id, true).await.unwrap();
    }
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(0, 2, 2));
    assert_eq!(sweep(&database, noon() + TTL).await.unwrap(), 1);
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(0, 1, 1));
    // It was made after all.
    settle(&database, "t", forgotten.id, true).await.unwrap();
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(0, 2, 2));
    // Days that are long over are forgotten, what counts for ever is not.
    purge(&database, noon() + day() * 10).await.unwrap();
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(0, 0, 2));
    assert_eq!(reason(&database, &asked("scout"), noon() + day() * 10).await, None);
    assert_eq!(
        reason(&database, &asked("scout"), noon() + day() * 10).await,
        Some(ErrorReason::QuotaExhausted)
    );
}

#[tokio::test]
async fn limits_and_the_budget_are_taken_together_or_not_at_all() {
    let database = team().await;
    let (teams, root) = (Teams::new(&database), root());
    crate::budget::set_budget(&database, &teams, &root, 10, noon()).await.unwrap();
    let granted = made(&database, limited(9, 9, 9)).await;
    let costing = |cost| Asked { cost_micro_usd: cost, ..asked("scout") };
    assert_eq!(reason(&database, &costing(8), noon()).await, None);
    assert_eq!(reason(&database, &costing(3), noon()).await, Some(ErrorReason::BudgetExhausted));
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(1, 1, 1));
    assert_eq!(reason(&database, &costing(2), noon()).await, None);
    assert_eq!(all_used(&database, &granted, noon()).await, used_of(2, 2, 2));
}

#[tokio::test]
async fn calls_are_allowed_in_their_hours_only_and_the_denial_says_when() {
    let database = team().await;
    let window = HoursWindow { days: vec![1, 2, 3, 4, 5], start: "09:00".into(), end: "17:00".into() };
    let hours = Some(AllowedHours { time_zone: "Europe/Berlin".into(), windows: vec![window] });
    made(&database, NewGrant { hours, ..new_grant(to_agent("scout"), 0) }).await;
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let denied = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!(
        (denied.reason, denied.policies),
        (Some(ErrorReason::OutsideHours), vec!["outside-hours".to_owned()])
    );
    assert_eq!(
        denied.message,
        "the grant of python_sandbox to agent \"scout\" allows calls Mon-Fri 09:00-17:00 Europe/Berlin only; they \
         begin next at 2026-11-23T08:00:00Z"
    );
    for (time, expected) in [
        ("2026-11-23T07:59:59.999999Z", Some(ErrorReason::OutsideHours)),
        ("2026-11-23T08:00:00Z", None),
        ("2026-11-23T15:59:59.999999Z", None),
        ("2026-11-23T16:00:00Z", Some(ErrorReason::OutsideHours)),
    ] {
        assert_eq!(reason(&database, &asked("scout"), at(time)).await, expected, "{time}");
    }
}

#[tokio::test]
async fn arguments_must_meet_every_condition_and_are_read_nowhere_else() {
    let database = team().await;
    let within = Test::Within(TextSet { values: vec!["/reports".into()] });
    let conditions = vec![
        ArgumentCondition { pointer: "/path".into(), test: Some(within) },
        ArgumentCondition {
            pointer: "/size".into(),
            test: Some(Test::Range(wire::NumberRange { min: None, max: Some(9.0) })),
        },
    ];
    made(&database, NewGrant { conditions, ..new_grant(to_agent("scout"), 0) }).await;
    let with = |arguments: &str| Asked { arguments: arguments.to_owned().into(), ..asked("scout") };
    let met = r#"{"path": "/reports/a.csv", "size": 9}"#;
    assert_eq!(reason(&database, &with(met), noon()).await, None);
    for unmet in [
        "",
        "null",
        "[]",
        "no json",
        "{}",
        r#"{"path": "/reports/a.csv"}"#,
        r#"{"path": "/reports/a.csv", "size": 10}"#,
        r#"{"path": "/reports/a.csv", "size": "9"}"#,
        r#"{"path": "/reports/../etc/shadow", "size": 1}"#,
    ] {
        assert_eq!(
            reason(&database, &with(unmet), noon()).await,
            Some(ErrorReason::ArgumentCondition),
            "{unmet}"
        );
    }
    let secret = with(r#"{"path": "/etc/s3cret", "size": 1}"#);
    let denied = authorize(&database, &secret, noon()).await.unwrap();
    assert!(denied.message.ends_with("asks: /path must be a path within /reports"), "{}", denied.message);
    assert!(!format!("{denied:?} {secret:?}").contains("s3cret"));
    // Which arguments will come is not known when many tools are asked about.
    let (desk, tools) = (desk(&database), [asked("scout").tool]);
    let answers = batch_authorize(&database, &desk, ("t", "scout", ""), &tools, noon()).await.unwrap();
    assert_eq!(answers, [None]);
}

#[tokio::test]
async fn a_grant_that_asks_for_an_approval_allows_nothing_without_one() {
    let database = team().await;
    let approver_role = Some(Role::Operator);
    made(&database, NewGrant { approver_role, ..new_grant(to_agent("scout"), 0) }).await;
    let denied = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!((denied.reason, denied.approver_role), (Some(ErrorReason::ApprovalRequired), approver_role));
    assert_eq!(
        denied.message,
        "each call of python_sandbox under the grant to agent \"scout\" needs an approval by an operator or above; \
         ask for it: toolcrib access request python_sandbox"
    );
    // Another grant that asks for none allows it.
    made(&database, new_grant(to_researchers(), 0)).await;
    let allowed = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!((allowed.reason, allowed.approver_role), (None, None));
}

#[tokio::test]
async fn a_pattern_means_every_tool_below_it_and_the_oldest_grant_comes_first() {
    let database = team().await;
    let of = |tool: &str| NewGrant { tool_name: tool.into(), ..new_grant(to_agent("scout"), 0) };
    let call = |tool: &str| {
        let mut call = asked("scout");
        call.tool.name = tool.into();
        call
    };
    let below = made(&database, of("files.*")).await;
    for (tool, expected) in [
        ("files.read", None),
        ("files.a.b", None),
        ("files", Some(ErrorReason::NoGrant)),
        ("filesx.read", Some(ErrorReason::NoGrant)),
        ("data.files.read", Some(ErrorReason::NoGrant)),
    ] {
        assert_eq!(reason(&database, &call(tool), noon()).await, expected, "{tool}");
    }
    let exact = made(&database, of("files.read")).await;
    let decision = authorize(&database, &call("files.read"), noon()).await.unwrap();
    assert_eq!(decision.grant_id, Some(below.grant.grant_id));
    revoke_permission(&database, "t", below.grant.grant_id, noon()).await.unwrap();
    let decision = authorize(&database, &call("files.read"), noon()).await.unwrap();
    assert_eq!(decision.grant_id, Some(exact.grant.grant_id));
    assert_eq!(reason(&database, &call("files.write"), noon()).await, Some(ErrorReason::NoGrant));
    made(&database, of("*")).await;
    assert_eq!(reason(&database, &call("anything"), noon()).await, None);
}

#[tokio::test]
async fn a_decision_knows_the_revision_that_is_asked_for_or_is_not_made() {
    let database = team().await;
    let granted = made(&database, new_grant(to_agent("scout"), 0)).await;
    let desk = desk(&database);
    let revision = granted.revision;
    let at_least = |revision| Asked { at_least_revision: revision, ..asked("scout") };
    let decision = desk.authorize(&at_least(revision), noon()).await.unwrap();
    assert_eq!((decision.reason, decision.revision), (None, revision));
    // Another process revokes, and nobody tells this one, which trusts what it knows.
    let revoked = revoke_permission(&database, "t", granted.grant.grant_id, noon()).await.unwrap();
    desk.teams.verified(std::time::Instant::now());
    assert_eq!(desk.authorize(&at_least(0), noon()).await.unwrap().reason, None);
    let denied = desk.authorize(&at_least(revoked.revision), noon()).await.unwrap();
    assert_eq!((denied.reason, denied.revision), (Some(ErrorReason::NoGrant), revoked.revision));
    let ahead = desk.authorize(&at_least(revoked.revision + 1), noon()).await;
    assert!(matches!(ahead, Err(Error::Behind { .. })), "{ahead:?}");
}

/// Approves calls of `python_sandbox` by scout: with exactly the arguments "a", or with any.
async fn approve(database: &Database, scope: &str, is_grant: bool, role: &str) -> Uuid {
    let id = random();
    let mut transaction = database.pool().unwrap().begin().await.unwrap();
    let revision = store::revision_next(&mut transaction, "t", noon()).await.unwrap();
    sqlx::query(
        "INSERT INTO permissions.access_request (
             team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
             justification, approver_role, is_grant, state, create_time, expire_time, decided_by, decided_role,
             decide_time, scope, revision)
         VALUES ('t', $1, 'scout', '', 'python_sandbox', 'd', 'a', '{}', '', $3, $4, 'approved', $5, $6, 'root', $3,
                 $5, $2, $7)",
    )
    .bind(id)
    .bind(scope)
    .bind(role)
    .bind(is_grant)
    .bind(noon())
    .bind(noon() + hour())
    .bind(revision)
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    id
}

#[tokio::test]
async fn an_approval_for_one_call_serves_one_execution_over_all_processes_and_that_one_again() {
    let url = testkit::database_url().await;
    let pools = [Database::new(&url, 8).unwrap(), Database::new(&url, 8).unwrap()];
    crate::schema().migrate(pools[0].pool().unwrap()).await.unwrap();
    people(&pools[0], "t").await;
    let approver_role = Some(Role::Operator);
    made(&pools[0], NewGrant { approver_role, max_per_day: 5, ..new_grant(to_agent("scout"), 0) }).await;
    let approval = approve(&pools[0], "once", false, "operator").await;
    let desks = [desk(&pools[0]), desk(&pools[1])];
    let calls = (0..30).map(|n| {
        let desk = desks[n % 2].clone();
        tokio::spawn(async move {
            let call = asked("scout");
            (desk.authorize(&call, noon()).await.unwrap(), call)
        })
    });
    let mut served = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let (decision, call) = call.await.unwrap();
        match decision.reason {
            None => served.push((decision, call)),
            Some(reason) => assert_eq!(reason, ErrorReason::ApprovalRequired),
        }
    }
    let [(decision, call)] = &served[..] else { panic!("{served:?}") };
    assert_eq!((decision.approval_id, decision.reserved), (Some(approval), true));
    assert_eq!(decision.quota().map(|quota| (quota.used, quota.limit)), Some((1, 5)));
    // The same execution again, also after the approval has ended.
    for at in [noon(), noon() + hour() * 2] {
        assert_eq!(&desks[1].authorize(call, at).await.unwrap(), decision);
    }
    // What was not made leaves the approval to another.
    settle(&pools[0], "t", decision.id, false).await.unwrap();
    assert_eq!(reason(&pools[0], &asked("scout"), noon()).await, None);
    assert_eq!(reason(&pools[0], &asked("scout"), noon()).await, Some(ErrorReason::ApprovalRequired));
}

#[tokio::test]
async fn an_approval_serves_what_it_was_given_for_and_nothing_else() {
    let database = team().await;
    let approver_role = Some(Role::Operator);
    made(&database, NewGrant { approver_role, ..new_grant(to_agent("scout"), 0) }).await;
    let denied = Some(ErrorReason::ApprovalRequired);
    approve(&database, "tool", false, "auditor").await;
    assert_eq!(reason(&database, &asked("scout"), noon()).await, denied, "of too low a role");
    approve(&database, "tool", false, "admin").await;
    let others = [
        (asked("scout"), noon(), None),
        (Asked { arguments_digest: "b".into(), ..asked("scout") }, noon(), None),
        (Asked { tool_digest: "e".into(), ..asked("scout") }, noon(), denied),
        (asked("scout"), noon() + hour() - TimeDelta::microseconds(1), None),
        (asked("scout"), noon() + hour(), denied),
    ];
    for (call, at, expected) in others {
        assert_eq!(reason(&database, &call, at).await, expected, "{call:?} {at}");
    }
    // It lasts, so nothing is reserved for it.
    let decision = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!((decision.reserved, decision.approval_id.is_some()), (false, true));
}

#[tokio::test]
async fn an_approval_of_what_no_grant_allows_allows_it_once() {
    let database = team().await;
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::NoGrant));
    let approval = approve(&database, "once", true, "admin").await;
    let other = Asked { arguments_digest: "b".into(), ..asked("scout") };
    assert_eq!(reason(&database, &other, noon()).await, Some(ErrorReason::NoGrant));
    let call = asked("scout");
    let decision = authorize(&database, &call, noon()).await.unwrap();
    assert_eq!((decision.reason, decision.grant_id, decision.approval_id), (None, None, Some(approval)));
    assert_eq!(decision.message, format!("approved by access request {approval}"));
    assert_eq!(authorize(&database, &call, noon() + hour() * 2).await.unwrap(), decision);
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::NoGrant));
    settle(&database, "t", decision.id, true).await.unwrap();
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::NoGrant));
}

#[tokio::test]
async fn what_a_policy_of_the_team_permits_needs_no_grant_and_still_counts_against_the_budget() {
    let database = team().await;
    let (teams, root) = (Teams::new(&database), root());
    crate::budget::set_budget(&database, &teams, &root, 10, noon()).await.unwrap();
    let put = async |name: &str, text: &str| {
        let mut transaction = database.pool().unwrap().begin().await.unwrap();
        let revision = store::revision_next(&mut transaction, "t", noon()).await.unwrap();
        sqlx::query(
            "INSERT INTO permissions.policy (team_id, name, version, policy_text, created_by, create_time, revision)
             VALUES ('t', $1, 1, $2, 'root', $3, $4)",
        )
        .bind(name)
        .bind(text)
        .bind(noon())
        .bind(revision)
        .execute(&mut *transaction)
        .await
        .unwrap();
        transaction.commit().await.unwrap();
    };
    put("open", r#"permit (principal, action, resource) when { resource.name == "python_sandbox" };"#).await;
    let call = Asked { cost_micro_usd: 8, ..asked("scout") };
    let decision = authorize(&database, &call, noon()).await.unwrap();
    assert_eq!((decision.reason, decision.grant_id, decision.reserved), (None, None, true));
    assert_eq!((decision.policies, decision.quotas), (vec!["team/open".to_owned()], Vec::new()));
    assert_eq!(authorize(&database, &call, noon()).await.unwrap().id, decision.id);
    let dear = Asked { cost_micro_usd: 3, ..asked("scout") };
    assert_eq!(reason(&database, &dear, noon()).await, Some(ErrorReason::BudgetExhausted));
    // A forbid denies whatever the grants say, in the words of the team.
    made(&database, new_grant(to_agent("scout"), 0)).await;
    assert_eq!(reason(&database, &asked("scout"), noon()).await, None);
    put("shut", r#"@message("not at weekends") forbid (principal, action, resource);"#).await;
    let denied = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!(
        (denied.reason, denied.policies),
        (Some(ErrorReason::PolicyDenied), vec!["team/shut".to_owned()])
    );
    assert!(denied.message.contains("not at weekends (policy team/shut)"), "{}", denied.message);
}
