//! Approvals for one call whose settlement comes after the time of its reservation: the place is given back by a settlement
//! that says that nothing ran, and by nothing else.

use super::*;

/// A call of scout that took an approval for one call and a place of an hour, with the approval.
async fn taken(place: &Place, arguments: &serde_json::Value) -> (Asked, Decision, AccessRequestRow) {
    let grant = GrantRow::plain("t", (Some("scout".into()), None), TOOL, ("root", noon()));
    place.give_row(&GrantRow { approver_role: Some(Role::Operator), max_per_hour: 5, ..grant }).await;
    let request = place.approved(arguments, wire::ApprovalScope::Once).await;
    let call = call(arguments);
    let decision = place.desk.authorize(&call, noon()).await.unwrap();
    assert_eq!((decision.reason, decision.approval_id), (None, Some(request.request_id)));
    (call, decision, request)
}

async fn expire(place: &Place) -> DateTime<Utc> {
    let late = noon() + TTL;
    assert_eq!(crate::settle::sweep(&place.database, late).await.unwrap(), 1);
    late
}

/// Places that are taken: of the hour, and of approvals.
async fn places(place: &Place) -> (i64, i64) {
    let hour = "SELECT coalesce(sum(used), 0)::bigint FROM permissions.counter";
    let approvals = "SELECT coalesce(sum(used), 0)::bigint FROM permissions.tally";
    (place.number(hour).await, place.number(approvals).await)
}

const REQUIRED: Option<ErrorReason> = Some(ErrorReason::ApprovalRequired);

#[tokio::test]
async fn a_call_that_was_made_and_is_settled_late_has_used_its_approval() {
    let place = Place::new().await;
    let arguments = json!({"n": 1});
    let (_, decision, request) = taken(&place, &arguments).await;
    let late = expire(&place).await;
    assert_eq!(places(&place).await, (0, 1), "the hour has its place again, the approval has not");
    let other = async || place.desk.authorize(&call(&arguments), late).await.unwrap().reason;
    assert_eq!(other().await, REQUIRED);
    assert_eq!(place.get(&root(), request.request_id, late).await.unwrap().state, "used");
    for _ in 0..2 {
        settle(&place.database, "t", decision.id, true).await.unwrap();
        assert_eq!((places(&place).await, other().await), ((1, 1), REQUIRED));
    }
    assert_eq!(sweep(&place.database, &place.desk.teams, late).await.unwrap(), 1);
    assert_eq!(place.get(&root(), request.request_id, late).await.unwrap().state, "used");
}

#[tokio::test]
async fn a_call_that_was_not_made_and_is_settled_late_gives_its_approval_back_once() {
    let place = Place::new().await;
    let arguments = json!({"n": 1});
    let (_, decision, request) = taken(&place, &arguments).await;
    let late = expire(&place).await;
    settle(&place.database, "t", decision.id, false).await.unwrap();
    assert_eq!(places(&place).await, (0, 0));
    assert_eq!(place.get(&root(), request.request_id, late).await.unwrap().state, "approved");
    let next = place.desk.authorize(&call(&arguments), late).await.unwrap();
    assert_eq!((next.reason, next.approval_id), (None, Some(request.request_id)));
    // Said again, it changes nothing: the approval serves another call now.
    for committed in [false, true] {
        settle(&place.database, "t", decision.id, committed).await.unwrap();
        assert_eq!(places(&place).await, (1, 1));
    }
    let third = place.desk.authorize(&call(&arguments), late).await.unwrap();
    assert_eq!(third.reason, REQUIRED);
}

#[tokio::test]
async fn without_any_settlement_the_approval_serves_nobody_else() {
    let place = Place::new().await;
    let arguments = json!({"n": 1});
    let (_, _, request) = taken(&place, &arguments).await;
    let late = expire(&place).await;
    for _ in 0..3 {
        assert_eq!(crate::settle::sweep(&place.database, late).await.unwrap(), 0);
        sweep(&place.database, &place.desk.teams, late).await.unwrap();
        let other = desk(&place.database).authorize(&call(&arguments), late).await.unwrap();
        assert_eq!(other.reason, REQUIRED);
    }
    let ended = place.get(&root(), request.request_id, noon() + hour()).await.unwrap();
    assert_eq!((ended.state.as_str(), places(&place).await), ("used", (0, 1)));
}

#[tokio::test]
async fn the_same_execution_takes_its_own_approval_again_and_holds_it_once() {
    let place = Place::new().await;
    let arguments = json!({"n": 1});
    let (own, first, request) = taken(&place, &arguments).await;
    let late = expire(&place).await;
    let again = place.desk.authorize(&own, late).await.unwrap();
    assert_eq!((again.reason, again.approval_id), (None, Some(request.request_id)));
    assert_ne!(again.id, first.id);
    assert_eq!(places(&place).await, (1, 1));
    // What the first decision comes to is nothing any more.
    for committed in [false, true] {
        settle(&place.database, "t", first.id, committed).await.unwrap();
        assert_eq!(places(&place).await, (1, 1));
    }
    assert_eq!(place.desk.authorize(&call(&arguments), late).await.unwrap().reason, REQUIRED);
    settle(&place.database, "t", again.id, true).await.unwrap();
    assert_eq!(places(&place).await, (1, 1));
    assert_eq!(sweep(&place.database, &place.desk.teams, late).await.unwrap(), 1);
    let used = place.get(&root(), request.request_id, late).await.unwrap();
    assert_eq!((used.state.as_str(), used.execution_id), ("used", Some(own.execution_id)));
}

#[tokio::test]
async fn a_late_settlement_beside_new_decisions_leaves_one_holder_at_most() {
    let place = Place::new().await;
    let another = desk(&place.database);
    for n in 0..12 {
        let arguments = json!({ "n": n });
        let (own, first, _) = taken(&place, &arguments).await;
        let late = expire(&place).await;
        let (stranger, made) = (call(&arguments), n % 2 == 0);
        let (settled, mine, other) = tokio::join!(
            settle(&place.database, "t", first.id, made),
            place.desk.authorize(&own, late),
            another.authorize(&stranger, late),
        );
        settled.unwrap();
        let allowed = [mine.unwrap(), other.unwrap()].iter().filter(|answer| answer.reason.is_none()).count();
        assert!(allowed <= 1, "round {n}: {allowed} hold it");
        let holders = "SELECT count(*) FROM permissions.reservation
                       WHERE approval_id IS NOT NULL AND state IN ('reserved', 'committed', 'expired')";
        let (holders, taken) = (place.number(holders).await, places(&place).await.1);
        assert_eq!((holders, taken), (holders.min(n + 1), holders), "round {n}");
        sqlx::raw_sql(
            "UPDATE permissions.reservation SET expire_time = 'infinity' WHERE state = 'reserved';
             UPDATE permissions.counter SET used = 0",
        )
        .execute(place.database.pool().unwrap())
        .await
        .unwrap();
    }
}
