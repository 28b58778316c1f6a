//! One execution authorised again: by another process, later, after its reservation ended.

use super::*;
use crate::settle::sweep;

#[tokio::test]
async fn without_limits_the_same_call_has_the_same_decision_everywhere() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 0).await;
    let call = asked("scout");
    let first = authorize(&database, &call, noon()).await.unwrap();
    assert_eq!((first.reason, first.id.get_version_num()), (None, 7));
    assert_eq!(first.id.as_bytes()[..6], call.execution_id.as_bytes()[..6]);
    assert_eq!(authorize(&database, &call, noon() + hour() * 30).await.unwrap(), first);
    // It is bound to all that was decided on.
    let others = [
        Asked { execution_id: random(), ..call.clone() },
        Asked { arguments_digest: "b".into(), ..call.clone() },
        Asked { tool_digest: "e".into(), ..call.clone() },
        Asked { tool_digest: "da".into(), arguments_digest: String::new(), ..call.clone() },
    ];
    for other in others {
        assert_ne!(authorize(&database, &other, noon()).await.unwrap().id, first.id, "{other:?}");
    }
    revoke_permission(&database, "t", granted.grant.grant_id, noon()).await.unwrap();
    assert_eq!(reason(&database, &call, noon()).await, Some(ErrorReason::NoGrant));
    grant(&database, to_agent("scout"), 0).await;
    assert_ne!(authorize(&database, &call, noon()).await.unwrap().id, first.id);
}

#[tokio::test]
async fn a_grant_that_ended_meanwhile_denies_what_it_allowed() {
    let database = team().await;
    let root = caller("root", Role::Admin);
    let end = noon() + TimeDelta::minutes(5);
    for limit in [0, 5] {
        let new = NewGrant { expire_time: Some(end), ..new_grant(to_agent("scout"), limit) };
        let granted = grant_permission(&database, &root, new, noon()).await.unwrap();
        let call = asked("scout");
        let first = authorize(&database, &call, noon()).await.unwrap();
        assert_eq!(first.reason, None);
        let moment_before = end - TimeDelta::microseconds(1);
        assert_eq!(authorize(&database, &call, moment_before).await.unwrap(), first);
        assert_eq!(reason(&database, &call, end).await, Some(ErrorReason::GrantExpired));
        revoke_permission(&database, "t", granted.grant.grant_id, noon()).await.unwrap();
    }
}

#[tokio::test]
async fn what_has_expired_takes_one_new_place_and_counts_once() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 5).await;
    let call = asked("scout");
    let first = authorize(&database, &call, noon()).await.unwrap();
    assert_eq!(sweep(&database, noon() + TTL).await.unwrap(), 1);
    assert_eq!(used(&database, &granted, noon()).await, 0);
    let later = noon() + TTL;
    let second = authorize(&database, &call, later).await.unwrap();
    assert_eq!((second.reason, second.reserved, second.id == first.id), (None, true, false));
    assert_eq!(authorize(&database, &call, later).await.unwrap(), second);
    assert_eq!(used(&database, &granted, noon()).await, 1);
    // Whichever decision is settled, and however often: one call.
    for decision in [first.id, second.id, first.id, second.id] {
        settle(&database, "t", decision, true).await.unwrap();
    }
    assert_eq!(used(&database, &granted, noon()).await, 1);
    assert_eq!(authorize(&database, &call, later).await.unwrap(), second);
}

#[tokio::test]
async fn asking_again_keeps_the_place_for_as_long_as_a_new_one_would_be() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 5).await;
    let call = asked("scout");
    let first = authorize(&database, &call, noon()).await.unwrap();
    // Past its time, and not swept yet.
    let later = noon() + TTL + TimeDelta::minutes(1);
    assert_eq!(authorize(&database, &call, later).await.unwrap(), first);
    assert_eq!(sweep(&database, later).await.unwrap(), 0);
    assert_eq!(used(&database, &granted, noon()).await, 1);
    assert_eq!(sweep(&database, later + TTL).await.unwrap(), 1);
    assert_eq!(used(&database, &granted, noon()).await, 0);
}

#[tokio::test]
async fn a_call_that_was_made_after_its_time_was_over_still_counts() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 5).await;
    let call = asked("scout");
    let first = authorize(&database, &call, noon()).await.unwrap();
    sweep(&database, noon() + TTL).await.unwrap();
    settle(&database, "t", first.id, true).await.unwrap();
    settle(&database, "t", first.id, true).await.unwrap();
    assert_eq!(used(&database, &granted, noon()).await, 1);
    assert_eq!(authorize(&database, &call, noon()).await.unwrap(), first);
    assert_eq!(used(&database, &granted, noon()).await, 1);
}

#[tokio::test]
async fn when_the_grant_is_used_up_the_execution_that_holds_a_place_still_may() {
    let database = team().await;
    grant(&database, to_agent("scout"), 1).await;
    let call = asked("scout");
    let first = authorize(&database, &call, noon()).await.unwrap();
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::QuotaExhausted));
    assert_eq!(authorize(&database, &call, noon()).await.unwrap(), first);
}
