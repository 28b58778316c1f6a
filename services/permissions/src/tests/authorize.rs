//! Decisions, limits and reservations.

use std::collections::HashSet;

use super::*;
use crate::{
    batch_authorize::batch_authorize,
    settle::{purge, sweep},
};

#[tokio::test]
async fn fifty_at_once_over_two_processes_get_exactly_the_ten_places_there_are() {
    let url = testkit::database_url().await;
    let pools = [Database::new(&url, 8).unwrap(), Database::new(&url, 8).unwrap()];
    crate::schema().migrate(pools[0].pool().unwrap()).await.unwrap();
    people(&pools[0], "t").await;
    let granted = grant(&pools[0], to_agent("scout"), 10).await;
    let desks = [desk(&pools[0]), desk(&pools[1])];
    let calls = (0..50).map(|n| {
        let desk = desks[n % 2].clone();
        tokio::spawn(async move { desk.authorize(&asked("scout"), noon()).await.unwrap() })
    });
    let (mut places, mut denied) = (Vec::new(), 0);
    for call in calls.collect::<Vec<_>>() {
        let decision = call.await.unwrap();
        if decision.reason.is_none() {
            assert!(decision.reserved);
            places.push(decision.quota().unwrap().used);
            continue;
        }
        denied += 1;
        assert_eq!(decision.reason, Some(ErrorReason::QuotaExhausted));
        assert_eq!(decision.policies, ["quota-exhausted"]);
        let quota = decision.quota().unwrap();
        assert_eq!((quota.limit, quota.used, quota.reset_time), (10, 10, Some(noon() + hour() / 2)));
    }
    places.sort_unstable();
    assert_eq!((places, denied), ((1..=10).collect::<Vec<i64>>(), 40));
    assert_eq!(used(&pools[0], &granted, noon()).await, 10);
}

#[tokio::test]
async fn each_agent_of_a_specialization_has_places_of_its_own() {
    let database = team().await;
    grant(&database, to_researchers(), 1).await;
    assert_eq!(reason(&database, &asked("scout"), noon()).await, None);
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::QuotaExhausted));
    assert_eq!(reason(&database, &asked("second"), noon()).await, None);
    assert_eq!(reason(&database, &asked("writer"), noon()).await, Some(ErrorReason::NoGrant));
}

#[tokio::test]
async fn no_grant_no_agent_and_no_team_are_denied() {
    let database = team().await;
    let denied = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!(denied.reason, Some(ErrorReason::NoGrant));
    assert_eq!(
        denied.message,
        "no grant lets agent \"scout\" call python_sandbox; an admin can add one: \
         toolcrib grants add python_sandbox --agent scout"
    );
    people(&database, "other").await;
    grant(&database, to_agent("scout"), 0).await;
    assert_eq!(reason(&database, &asked("scout"), noon()).await, None);
    assert_eq!(reason(&database, &asked("nobody"), noon()).await, Some(ErrorReason::NoGrant));
    let elsewhere = Asked { team: "other".into(), ..asked("scout") };
    assert_eq!(reason(&database, &elsewhere, noon()).await, Some(ErrorReason::NoGrant));
    let tool = ToolFacts { name: "file_operations".into(), ..asked("scout").tool };
    let other_tool = Asked { tool, ..asked("scout") };
    assert_eq!(reason(&database, &other_tool, noon()).await, Some(ErrorReason::NoGrant));
    disable(&database, "scout").await;
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::AgentDisabled));
}

#[tokio::test]
async fn the_agents_own_grant_comes_first_and_the_specializations_after_it() {
    let database = team().await;
    let shared = grant(&database, to_researchers(), 0).await;
    let own = grant(&database, to_agent("scout"), 1).await;
    let first = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!(first.grant_id, Some(own.grant.grant_id));
    assert_eq!((first.reserved, first.quota().map(|quota| quota.used)), (true, Some(1)));
    let second = authorize(&database, &asked("scout"), noon()).await.unwrap();
    assert_eq!(second.grant_id, Some(shared.grant.grant_id));
    assert_eq!((second.reserved, second.quota()), (false, None));
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_decision_and_takes_nothing_more() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 1).await;
    let call = asked("scout");
    let first = authorize(&database, &call, noon()).await.unwrap();
    assert!(first.reserved);
    // In the next hour too: it is the same execution.
    for at in [noon(), noon() + hour()] {
        assert_eq!(authorize(&database, &call, at).await.unwrap(), first);
    }
    settle(&database, "t", first.id, true).await.unwrap();
    assert_eq!(authorize(&database, &call, noon()).await.unwrap(), first);
    assert_eq!(used(&database, &granted, noon()).await, 1);
    let changed = Asked { arguments_digest: "b".into(), ..call.clone() };
    let refused = authorize(&database, &changed, noon()).await;
    assert!(matches!(refused, Err(Error::ExecutionReused { .. })), "{refused:?}");
    revoke_permission(&database, "t", granted.grant.grant_id, noon()).await.unwrap();
    assert_eq!(reason(&database, &call, noon()).await, Some(ErrorReason::NoGrant));
}

#[tokio::test]
async fn the_same_request_many_times_at_once_takes_one_place() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 5).await;
    // Over two processes: their statements meet in the database.
    let (call, desks) = (asked("scout"), [desk(&database), desk(&database)]);
    let calls = (0..20).map(|n| {
        let (desk, call) = (desks[n % 2].clone(), call.clone());
        tokio::spawn(async move { desk.authorize(&call, noon()).await.unwrap() })
    });
    let mut decisions = HashSet::new();
    for call in calls.collect::<Vec<_>>() {
        let decision = call.await.unwrap();
        assert_eq!(decision.reason, None);
        decisions.insert(decision.id);
    }
    assert_eq!((decisions.len(), used(&database, &granted, noon()).await), (1, 1));
}

#[tokio::test]
async fn a_place_is_given_back_once_and_a_call_that_was_made_keeps_it() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 2).await;
    let (one, two) = (asked("scout"), asked("scout"));
    let not_made = authorize(&database, &one, noon()).await.unwrap();
    let made = authorize(&database, &two, noon()).await.unwrap();
    assert_eq!(used(&database, &granted, noon()).await, 2);
    for _ in 0..3 {
        settle(&database, "t", not_made.id, false).await.unwrap();
        settle(&database, "t", made.id, true).await.unwrap();
    }
    // Neither can be turned round afterwards.
    settle(&database, "t", made.id, false).await.unwrap();
    settle(&database, "t", not_made.id, true).await.unwrap();
    assert_eq!(used(&database, &granted, noon()).await, 1);
    for (team, decision) in [("t", random()), ("other", made.id)] {
        let unknown = settle(&database, team, decision, true).await;
        assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
    }
    // What was given back is taken anew, by a decision of its own.
    let again = authorize(&database, &one, noon()).await.unwrap();
    assert_eq!((again.reason, again.id == not_made.id), (None, false));
    assert_eq!(used(&database, &granted, noon()).await, 2);
}

#[tokio::test]
async fn many_settlements_at_once_give_back_one_place() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 9).await;
    let decision = authorize(&database, &asked("scout"), noon()).await.unwrap();
    authorize(&database, &asked("scout"), noon()).await.unwrap();
    let settlements = (0..10).map(|_| {
        let database = database.clone();
        tokio::spawn(async move { settle(&database, "t", decision.id, false).await.unwrap() })
    });
    for settlement in settlements.collect::<Vec<_>>() {
        settlement.await.unwrap();
    }
    assert_eq!(used(&database, &granted, noon()).await, 1);
}

#[tokio::test]
async fn a_call_that_is_never_settled_gives_its_place_back_when_its_time_is_over() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 3).await;
    let forgotten = authorize(&database, &asked("scout"), noon()).await.unwrap();
    let made = authorize(&database, &asked("scout"), noon()).await.unwrap();
    settle(&database, "t", made.id, true).await.unwrap();
    let end = noon() + TTL;
    assert_eq!(sweep(&database, end - TimeDelta::microseconds(1)).await.unwrap(), 0);
    assert_eq!(used(&database, &granted, noon()).await, 2);
    assert_eq!(sweep(&database, end).await.unwrap(), 1);
    assert_eq!(sweep(&database, end).await.unwrap(), 0);
    settle(&database, "t", forgotten.id, false).await.unwrap();
    assert_eq!(used(&database, &granted, noon()).await, 1);
}

#[tokio::test]
async fn a_new_hour_begins_a_new_window_and_a_place_goes_back_to_its_own() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 1).await;
    let last_moment: DateTime<Utc> = "2026-11-22T12:59:59.999999Z".parse().unwrap();
    let next_hour: DateTime<Utc> = "2026-11-22T13:00:00Z".parse().unwrap();
    let old = authorize(&database, &asked("scout"), last_moment).await.unwrap();
    assert_eq!(old.quota().unwrap().reset_time, Some(next_hour));
    let denied = authorize(&database, &asked("scout"), last_moment).await.unwrap();
    assert_eq!(
        denied.message,
        "agent \"scout\" has used all 1 calls of python_sandbox that the grant to agent \"scout\" allows in \
         an hour; the next hour begins at 2026-11-22T13:00:00Z"
    );
    assert_eq!(reason(&database, &asked("scout"), next_hour).await, None);
    settle(&database, "t", old.id, false).await.unwrap();
    assert_eq!(used(&database, &granted, last_moment).await, 0);
    assert_eq!(used(&database, &granted, next_hour).await, 1);
    assert_eq!(reason(&database, &asked("scout"), next_hour).await, Some(ErrorReason::QuotaExhausted));
}

#[tokio::test]
async fn what_is_past_is_deleted_and_what_counts_is_kept() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 5).await;
    // Ids of decisions carry the real time, so this test lives in it.
    let now = Utc::now();
    let settled = authorize(&database, &asked("scout"), now).await.unwrap();
    let open = authorize(&database, &asked("scout"), now).await.unwrap();
    settle(&database, "t", settled.id, true).await.unwrap();
    purge(&database, now + TimeDelta::hours(47)).await.unwrap();
    assert_eq!(used(&database, &granted, now).await, 2);
    settle(&database, "t", settled.id, true).await.unwrap();
    purge(&database, now + TimeDelta::hours(50)).await.unwrap();
    assert_eq!(used(&database, &granted, now).await, 0);
    assert!(settle(&database, "t", settled.id, true).await.is_err());
    settle(&database, "t", open.id, false).await.unwrap();
}

#[tokio::test]
async fn a_batch_says_what_single_decisions_would_and_reserves_nothing() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 1).await;
    let allowed = asked("scout").tool;
    let unknown = ToolFacts { name: "file_operations".into(), ..allowed.clone() };
    let desk = desk(&database);
    let tools = [unknown.clone(), allowed.clone(), unknown, allowed.clone()];
    let no_grant = Some(ErrorReason::NoGrant);
    for _ in 0..2 {
        let answers = batch_authorize(&database, &desk, ("t", "scout", ""), &tools, noon()).await.unwrap();
        assert_eq!(answers, [no_grant, None, no_grant, None]);
    }
    assert_eq!(used(&database, &granted, noon()).await, 0);
    authorize(&database, &asked("scout"), noon()).await.unwrap();
    let exhausted = Some(ErrorReason::QuotaExhausted);
    let answers = batch_authorize(&database, &desk, ("t", "scout", ""), &tools, noon()).await.unwrap();
    assert_eq!(answers, [no_grant, exhausted, no_grant, exhausted]);
    let answers = batch_authorize(&database, &desk, ("t", "nobody", ""), &tools, noon()).await.unwrap();
    assert_eq!(answers, [no_grant; 4]);
    let too_many = vec![allowed; 10_001];
    let refused = batch_authorize(&database, &desk, ("t", "scout", ""), &too_many, noon()).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}
