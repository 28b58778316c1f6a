//! Approvals that are taken back: at once and everywhere, by whoever may decide, and once.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::follow::follow;

const REQUIRED: Option<ErrorReason> = Some(ErrorReason::ApprovalRequired);

#[tokio::test]
async fn what_was_approved_is_not_any_more_in_any_process_and_the_trail_tells_who_took_it_back() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let (arguments, stop) = (json!({"n": 1}), CancellationToken::new());
    let request = place.approved(&arguments, wire::ApprovalScope::Tool).await;
    let other = desk(&place.database);
    let (teams, decisions) = (Arc::clone(&other.teams), access_requests::Decisions::default());
    let following = tokio::spawn(follow(teams, decisions, place.database.clone(), stop.clone()));
    let allowed =
        async |desk: &Desk| desk.authorize(&call(&arguments), noon()).await.unwrap().reason.is_none();
    assert!(allowed(&place.desk).await && allowed(&other).await);
    let before = place.events().await;
    let revoked = place.revoke(&operator(), request.request_id, "a mistake").await.unwrap();
    assert_eq!(place.decided_on(&arguments).await, REQUIRED, "at once, where it was done");
    let ended = async {
        while allowed(&other).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), ended).await.expect("within a second, elsewhere");
    assert_eq!((revoked.state.as_str(), revoked.revoked_by.as_deref()), ("revoked", Some("oper")));
    assert_eq!((revoked.revoke_time, revoked.revoke_reason.as_str()), (Some(noon()), "a mistake"));
    assert_eq!(place.get(&scout(), request.request_id, noon()).await.unwrap(), revoked);
    assert_eq!(place.events().await, before + 1);
    let told = place.told().await;
    let id = request.request_id.to_string();
    assert!(told.message.contains(&id) && told.message.contains("revoked: a mistake"), "{told:?}");
    assert_eq!((told.agent_id.as_str(), told.tool_name.as_str()), ("oper", TOOL));
    // Nothing of it comes back, and the call can be asked for anew.
    sweep(&place.database, &place.desk.teams, noon() + TimeDelta::days(2)).await.unwrap();
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap().state, "revoked");
    let anew = place.ask(&scout(), wanted(&arguments)).await.unwrap();
    assert_eq!((anew.state.as_str(), anew.request_id == request.request_id), ("pending", false));
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn a_call_that_took_it_and_has_not_run_is_refused_and_one_that_was_made_stays_made() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let arguments = json!({"n": 1});
    let request = place.approved(&arguments, wire::ApprovalScope::Once).await;
    let own = call(&arguments);
    let held = place.desk.authorize(&own, noon()).await.unwrap();
    assert_eq!(place.desk.authorize(&own, noon()).await.unwrap().id, held.id);
    place.revoke(&root(), request.request_id, "a mistake").await.unwrap();
    for desk in [&place.desk, &desk(&place.database)] {
        assert_eq!(
            desk.authorize(&own, noon()).await.unwrap().reason,
            REQUIRED,
            "it asks again before it runs"
        );
        assert_eq!(desk.authorize(&call(&arguments), noon()).await.unwrap().reason, REQUIRED);
    }
    // It ran all the same, since it was too late to stop it: it is counted, and nothing else changes.
    settle(&place.database, "t", held.id, true).await.unwrap();
    assert_eq!(sweep(&place.database, &place.desk.teams, noon()).await.unwrap(), 0);
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap().state, "revoked");
    // By itself, without a grant, it ends as well.
    let alone = Asked { tool: ToolFacts { name: TOOL.into(), ..own.tool.clone() }, ..call(&json!({"n": 2})) };
    let place = Place::new().await;
    let request = place.approved(&json!({"n": 2}), wire::ApprovalScope::Once).await;
    assert_eq!(place.desk.authorize(&alone, noon()).await.unwrap().reason, None);
    place.revoke(&root(), request.request_id, "a mistake").await.unwrap();
    let refused = place.desk.authorize(&alone, noon()).await.unwrap();
    assert_eq!(refused.reason, Some(ErrorReason::NoGrant));
}

#[tokio::test]
async fn what_is_no_approval_in_force_is_told_as_what_it_is() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let pending = place.ask(&scout(), wanted(&json!({"n": 1}))).await.unwrap();
    let denied = place.ask(&scout(), wanted(&json!({"n": 2}))).await.unwrap();
    place.decide(&root(), denial(&denied)).await.unwrap();
    let used = place.approved(&json!({"n": 3}), wire::ApprovalScope::Once).await;
    let served = place.desk.authorize(&call(&json!({"n": 3})), noon()).await.unwrap();
    settle(&place.database, "t", served.id, true).await.unwrap();
    let revoked = place.approved(&json!({"n": 4}), wire::ApprovalScope::Tool).await;
    place.revoke(&operator(), revoked.request_id, "a mistake").await.unwrap();
    let events = place.events().await;
    let not_approved = (Kind::Precondition, ErrorReason::NotApproved);
    for (request, expected, part) in [
        (&pending, not_approved, "waits for a decision; deny it"),
        (&denied, not_approved, "was denied by \"root\""),
        (&used, not_approved, "for one call, which it has served"),
        (
            &revoked,
            (Kind::Precondition, ErrorReason::AlreadyDecided),
            "revoked by \"oper\" at 2026-11-22T12:30:00Z already: a mistake",
        ),
    ] {
        let error = place.revoke(&root(), request.request_id, "again").await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), expected, "{error}");
        assert!(error.public_message().contains(part), "{error}");
    }
    let short = place.ask(&scout(), wanted(&json!({"n": 5}))).await.unwrap();
    place.decide(&root(), Verdict { ttl_s: 60, ..approval(&short) }).await.unwrap();
    let revocation = Revocation { id: short.request_id, reason: "late".into() };
    let parts = (&place.database, &*place.desk.teams);
    let late = access_requests::revoke(parts, &root(), revocation, noon() + TimeDelta::seconds(60)).await;
    let error = late.unwrap_err();
    assert_eq!((error.kind(), error.reason()), not_approved);
    assert!(error.public_message().contains("the approval has ended"), "{error}");
    let nothing = place.revoke(&root(), random(), "nothing").await;
    assert_eq!(refusal(nothing), (Kind::NotFound, ErrorReason::NotFound));
    assert_eq!(place.events().await, events + 2, "one request and decision more, and no revocation");
}

#[tokio::test]
async fn it_takes_the_role_that_decides_and_a_reason_and_of_many_one_revokes() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let request = place.approved(&json!({"n": 1}), wire::ApprovalScope::Tool).await;
    let error = place.revoke(&caller("auditor", Role::Auditor), request.request_id, "no").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Denied, ErrorReason::RoleRequired));
    assert!(error.public_message().contains("operator"), "{error}");
    for reason in ["", "  ", &*"x".repeat(1_001)] {
        let wrong = place.revoke(&root(), request.request_id, reason).await;
        assert_eq!(refusal(wrong), (Kind::Invalid, ErrorReason::InvalidRequest));
    }
    let stranger = Caller { team: "u".into(), ..root() };
    let hidden = place.revoke(&stranger, request.request_id, "no").await;
    assert_eq!(refusal(hidden), (Kind::NotFound, ErrorReason::NotFound));
    assert_eq!(place.decided_on(&json!({"n": 1})).await, None);
    let before = place.events().await;
    let revokers: Vec<Caller> = (0..8).map(|n| caller(&format!("admin-{n}"), Role::Admin)).collect();
    let revoking = revokers.iter().map(|by| place.revoke(by, request.request_id, "at once"));
    let answers = futures(revoking).await;
    let won: Vec<&AccessRequestRow> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!((won.len(), place.events().await), (1, before + 1));
    for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!((lost.kind(), lost.reason()), (Kind::Precondition, ErrorReason::AlreadyDecided));
        assert!(lost.public_message().contains(won[0].revoked_by.as_deref().unwrap()), "{lost}");
    }
}
