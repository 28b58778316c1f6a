//! Who may decide what, and that the first decision stands.

use super::*;

#[tokio::test]
async fn nobody_decides_their_own_nor_above_their_role_nor_what_they_did_not_see() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let as_admin = Caller { role: Role::Admin, ..scout() };
    let request = place.ask(&as_admin, wanted(&json!({}))).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("operator", false));
    let own = (Kind::Denied, ErrorReason::OwnRequest);
    for decider in [
        as_admin.clone(),
        Caller { user: "ann".into(), ..root() },
        caller("ann", Role::Admin),
        Caller { user: "scout".into(), ..root() },
    ] {
        assert_eq!(refusal(place.decide(&decider, approval(&request)).await), own, "{decider:?}");
        assert_eq!(refusal(place.decide(&decider, denial(&request)).await), own, "{decider:?}");
    }
    let error = place.decide(&caller("auditor", Role::Auditor), approval(&request)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Denied, ErrorReason::RoleRequired));
    assert!(error.public_message().contains("operator"), "{error}");
    let mismatch = (Kind::Precondition, ErrorReason::DigestMismatch);
    for digest in ["", &"0".repeat(64)] {
        let unseen = Verdict { arguments_digest: digest.into(), ..approval(&request) };
        assert_eq!(refusal(place.decide(&operator(), unseen).await), mismatch);
    }
    let invalid = (Kind::Invalid, ErrorReason::InvalidRequest);
    for wrong in [
        Verdict { reason: " ".into(), ..denial(&request) },
        Verdict { scope: wire::ApprovalScope::Unspecified, ..approval(&request) },
        Verdict { scope: wire::ApprovalScope::Arguments, ..approval(&request) },
        Verdict { conditions: vec![within("/a")], ..approval(&request) },
        Verdict { ttl_s: -1, ..approval(&request) },
        Verdict { ttl_s: 7_776_001, ..approval(&request) },
        Verdict { reason: "x".repeat(1_001), ..approval(&request) },
    ] {
        assert_eq!(refusal(place.decide(&operator(), wrong.clone()).await), invalid, "{wrong:?}");
    }
    // What serves by now is not what was asked for.
    *place.shelf.0.lock().unwrap() = "e".into();
    assert_eq!(refusal(place.decide(&operator(), approval(&request)).await), mismatch);
    *place.shelf.0.lock().unwrap() = "d".into();
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap(), request, "nothing was decided");
    let late = noon() + TimeDelta::days(1);
    let parts = (&place.database, &*place.desk.teams, place.registry());
    let late = access_requests::decide(parts, &operator(), approval(&request), late).await;
    assert_eq!(refusal(late), (Kind::Precondition, ErrorReason::ApprovalDenied));
    place.decide(&operator(), approval(&request)).await.unwrap();
}

#[tokio::test]
async fn the_first_decision_stands_also_when_many_decide_at_once() {
    let place = Place::new().await;
    let request = place.ask(&scout(), wanted(&json!({}))).await.unwrap();
    let before = place.events().await;
    let deciders: Vec<Caller> = (0..8).map(|n| caller(&format!("admin-{n}"), Role::Admin)).collect();
    let deciding = deciders.iter().enumerate().map(|(n, decider)| {
        let verdict = if n % 2 == 0 { approval(&request) } else { denial(&request) };
        place.decide(decider, verdict)
    });
    let answers = futures(deciding).await;
    let won: Vec<&AccessRequestRow> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    let first = won[0].decided_by.clone().unwrap();
    for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!((lost.kind(), lost.reason()), (Kind::Precondition, ErrorReason::AlreadyDecided));
        let message = lost.public_message();
        assert!(message.contains(&first) && message.contains("2026-11-22T12:30:00Z"), "{message}");
    }
    let denied_later = place.decide(&root(), denial(&request)).await;
    assert_eq!(refusal(denied_later), (Kind::Precondition, ErrorReason::AlreadyDecided));
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap(), *won[0]);
    assert_eq!(place.events().await, before + 1, "one decision is told of");
}
