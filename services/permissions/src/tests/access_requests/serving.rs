//! What an approval allows: exactly that, for as long as it says.

use super::*;

#[tokio::test]
async fn an_approval_for_one_call_serves_one_execution_whoever_asks_and_how_often() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let (arguments, required) = (json!({"n": 1}), Some(ErrorReason::ApprovalRequired));
    let denied = place.desk.authorize(&call(&arguments), noon()).await.unwrap();
    assert_eq!((denied.reason, denied.approver_role), (required, Some(Role::Operator)));
    let request = place.approved(&arguments, wire::ApprovalScope::Once).await;
    // For these arguments and this definition alone.
    assert_eq!(place.decided_on(&json!({"n": 2})).await, required);
    let other = Asked { tool_digest: "e".into(), ..call(&arguments) };
    assert_eq!(place.desk.authorize(&other, noon()).await.unwrap().reason, required);
    let late = place.desk.authorize(&call(&arguments), noon() + hour()).await.unwrap();
    assert_eq!(late.reason, required, "an approval ends when it says");
    // Twenty at once over two processes.
    let another = desk(&place.database);
    let calls: Vec<Asked> = (0..20).map(|_| call(&arguments)).collect();
    let asking = calls.iter().enumerate().map(|(n, call)| {
        let desk = if n % 2 == 0 { &place.desk } else { &another };
        desk.authorize(call, noon())
    });
    let answers: Vec<Decision> = futures(asking).await.into_iter().map(Result::unwrap).collect();
    let allowed: Vec<usize> = (0..20).filter(|n| answers[*n].reason.is_none()).collect();
    assert_eq!(allowed.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.reason.is_none() || answer.reason == required));
    let (served, decision) = (&calls[allowed[0]], &answers[allowed[0]]);
    assert_eq!((decision.approval_id, decision.reserved), (Some(request.request_id), true));
    let again = another.authorize(served, noon()).await.unwrap();
    assert_eq!((again.reason, again.id), (None, decision.id), "the same execution again");
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap().state, "used");
    // What was not made after all gives its place back.
    settle(&place.database, "t", decision.id, false).await.unwrap();
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap().state, "approved");
    let next = place.desk.authorize(&call(&arguments), noon()).await.unwrap();
    assert_eq!(next.reason, None);
    settle(&place.database, "t", next.id, true).await.unwrap();
    assert_eq!(place.decided_on(&arguments).await, required);
    let before = place.events().await;
    for expected in [1, 0] {
        assert_eq!(sweep(&place.database, &place.desk.teams, noon()).await.unwrap(), expected);
    }
    assert_eq!(place.events().await, before + 1);
    assert_eq!(place.get(&root(), request.request_id, noon() + hour()).await.unwrap().state, "used");
    // Asked for anew, it can be approved anew.
    place.approved(&arguments, wire::ApprovalScope::Once).await;
    assert_eq!(place.decided_on(&arguments).await, None);
}

#[tokio::test]
async fn an_approval_for_more_than_one_call_covers_what_it_says() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let (required, here) = (Some(ErrorReason::ApprovalRequired), json!({"path": "/reports/a.csv"}));
    let request = place.ask(&scout(), wanted(&here)).await.unwrap();
    let scope = wire::ApprovalScope::Arguments;
    let verdict = Verdict { scope, conditions: vec![within("/reports")], ttl_s: 60, ..approval(&request) };
    place.decide(&operator(), verdict).await.unwrap();
    for (arguments, expected) in [
        (here, None),
        (json!({"path": "/reports/b.csv", "n": 1}), None),
        (json!({"path": "/reports/../etc/passwd"}), required),
        (json!({"path": ["/reports/a.csv"]}), required),
        (json!({}), required),
    ] {
        for _ in 0..2 {
            assert_eq!(place.decided_on(&arguments).await, expected, "{arguments}");
        }
    }
    let late = call(&json!({"path": "/reports/a.csv"}));
    let late = place.desk.authorize(&late, noon() + TimeDelta::seconds(60)).await.unwrap();
    assert_eq!(late.reason, required);
    place.approved(&json!({"any": 1}), wire::ApprovalScope::Tool).await;
    for arguments in [json!({}), json!({"path": "/etc/passwd"})] {
        assert_eq!(place.decided_on(&arguments).await, None);
    }
    let by_another = Asked { agent: "second".into(), ..call(&json!({})) };
    let denied = place.desk.authorize(&by_another, noon()).await.unwrap();
    assert_eq!(denied.reason, Some(ErrorReason::NoGrant), "it is for who asked alone");
}

#[tokio::test]
async fn an_approval_lifts_what_its_role_may_lift_and_no_more() {
    let place = Place::new().await;
    place.give(Role::Operator, vec![within("/reports")]).await;
    let outside = json!({"path": "/etc/passwd"});
    assert_eq!(place.decided_on(&outside).await, Some(ErrorReason::ArgumentCondition));
    // The grant does not allow it, with or without an approval: an admin may.
    let request = place.ask(&scout(), wanted(&outside)).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("admin", true));
    let refused = place.decide(&operator(), approval(&request)).await;
    assert_eq!(refusal(refused), (Kind::Denied, ErrorReason::RoleRequired));
    place.decide(&root(), approval(&request)).await.unwrap();
    let allowed = place.desk.authorize(&call(&outside), noon()).await.unwrap();
    assert_eq!((allowed.reason, allowed.grant_id), (None, None));
    assert_eq!(allowed.approval_id, Some(request.request_id));
    // An operator's approval serves no grant that asks for an admin's.
    let inside = json!({"path": "/reports/a.csv"});
    let request = place.ask(&scout(), wanted(&inside)).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("operator", false));
    let verdict = Verdict { scope: wire::ApprovalScope::Tool, ..approval(&request) };
    place.decide(&operator(), verdict).await.unwrap();
    assert_eq!(place.decided_on(&inside).await, None);
    assert_eq!(place.decided_on(&outside).await, Some(ErrorReason::ArgumentCondition));
    place.give(Role::Admin, Vec::new()).await;
    assert_eq!(place.decided_on(&outside).await, Some(ErrorReason::ApprovalRequired));
}

#[tokio::test]
async fn where_no_grant_is_an_admins_approval_allows_and_nothing_else_does() {
    let place = Place::new().await;
    let arguments = json!({"n": 1});
    assert_eq!(place.decided_on(&arguments).await, Some(ErrorReason::NoGrant));
    let request = place.approved(&arguments, wire::ApprovalScope::Tool).await;
    let allowed = place.desk.authorize(&call(&arguments), noon()).await.unwrap();
    assert_eq!((allowed.reason, allowed.approval_id), (None, Some(request.request_id)));
    // What serves is answered, and not asked for again.
    let again = place.ask(&scout(), wanted(&json!({"n": 2}))).await.unwrap();
    assert_eq!((again.request_id, again.state.as_str()), (request.request_id, "approved"));
    disable(&place.database, "scout").await;
    assert_eq!(place.decided_on(&arguments).await, Some(ErrorReason::AgentDisabled));
}

#[tokio::test]
async fn an_approval_serves_the_agent_for_the_user_it_was_asked_for_and_for_nobody_else() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let scopes = [
        (wire::ApprovalScope::Once, Vec::new()),
        (wire::ApprovalScope::Arguments, vec![within("/reports")]),
        (wire::ApprovalScope::Tool, Vec::new()),
    ];
    for (n, (scope, conditions)) in scopes.into_iter().enumerate() {
        let arguments = json!({"path": "/reports/a.csv", "n": n});
        for (asks, others) in [("ann", ["bob", "", "Ann", "ann "]), ("", ["ann", "bob", " ", "scout"])] {
            let caller = Caller { user: asks.into(), ..scout() };
            let request = place.ask(&caller, wanted(&arguments)).await.unwrap();
            assert_eq!((request.state.as_str(), request.end_user.as_str()), ("pending", asks));
            let conditions = conditions.clone();
            let verdict = Verdict { scope, conditions, ..approval(&request) };
            place.decide(&root(), verdict).await.unwrap();
            for user in others {
                let other = Asked { user: user.into(), ..call(&arguments) };
                let denied = place.desk.authorize(&other, noon()).await.unwrap();
                assert_eq!(denied.reason, Some(ErrorReason::ApprovalRequired), "{asks:?} {user:?} {scope:?}");
            }
            let own = Asked { user: asks.into(), ..call(&arguments) };
            let allowed = place.desk.authorize(&own, noon()).await.unwrap();
            assert_eq!((allowed.reason, allowed.approval_id), (None, Some(request.request_id)), "{asks:?}");
            settle(&place.database, "t", allowed.id, true).await.ok();
            if scope != wire::ApprovalScope::Once {
                place.revoke(&root(), request.request_id, "the next one").await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_approval_by_itself_is_for_its_user_too_and_another_may_ask_for_its_own() {
    let place = Place::new().await;
    let arguments = json!({"n": 1});
    let request = place.approved(&arguments, wire::ApprovalScope::Tool).await;
    for user in ["", "bob"] {
        let other = Asked { user: user.into(), ..call(&arguments) };
        let denied = place.desk.authorize(&other, noon()).await.unwrap();
        assert_eq!(denied.reason, Some(ErrorReason::NoGrant), "{user:?}");
    }
    assert_eq!(place.decided_on(&arguments).await, None);
    let bob = Caller { user: "bob".into(), ..scout() };
    let own = place.ask(&bob, wanted(&arguments)).await.unwrap();
    assert_ne!((own.request_id, own.state.as_str()), (request.request_id, "approved"));
}
