//! Who may ask for what, and who sees it.

use super::*;

#[tokio::test]
async fn the_same_open_request_is_one_and_keeps_no_secret() {
    let place = Place::new().await;
    let arguments = json!({"to": "ops", "pin": 1234, "password": "hunter2"});
    let first = place.ask(&scout(), wanted(&arguments)).await.unwrap();
    assert_eq!(
        (first.state.as_str(), first.approver_role.as_str(), first.is_grant),
        ("pending", "admin", true)
    );
    assert_eq!((first.end_user.as_str(), first.tool_digest.as_str()), ("ann", "d"));
    assert_eq!(first.arguments_digest, types::digest_json(&arguments).unwrap());
    assert!(first.arguments_json.contains("ops"), "{}", first.arguments_json);
    assert!(!first.arguments_json.contains("hunter2") && !first.arguments_json.contains("1234"));
    let again = NewAccessRequest { justification: "another reason".into(), ..wanted(&arguments) };
    assert_eq!(place.ask(&scout(), again).await.unwrap(), first);
    let for_another = Caller { user: "bob".into(), ..scout() };
    let second = caller("second", Role::Agent);
    for (caller, arguments) in [(&for_another, &arguments), (&second, &arguments), (&scout(), &json!({}))] {
        assert_ne!(place.ask(caller, wanted(arguments)).await.unwrap().request_id, first.request_id);
    }
    // Once it is decided, or its time is over, the same call is asked for anew.
    place.decide(&root(), denial(&first)).await.unwrap();
    let anew = place.ask(&scout(), wanted(&arguments)).await.unwrap();
    assert_ne!(anew.request_id, first.request_id);
    let later = place.ask_at(&scout(), wanted(&arguments), noon() + TimeDelta::days(2)).await.unwrap();
    assert_ne!(later.request_id, anew.request_id);
    assert_eq!(place.get(&scout(), anew.request_id, noon()).await.unwrap().state, "expired");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_by_its_field() {
    let place = Place::new().await;
    let sound = || wanted(&json!({}));
    for (wrong, expected) in [
        (NewAccessRequest { tool_name: "no such".into(), ..sound() }, "tool_name"),
        (NewAccessRequest { justification: " ".into(), ..sound() }, "justification"),
        (NewAccessRequest { justification: "x".repeat(1_001), ..sound() }, "justification"),
        (NewAccessRequest { arguments_json: "[]".into(), ..sound() }, "arguments_json"),
        (NewAccessRequest { arguments_json: "{".into(), ..sound() }, "arguments_json"),
        (NewAccessRequest { arguments_digest: "a".repeat(64), ..sound() }, "arguments_digest"),
        (NewAccessRequest { execution_id: Some(random()), ..sound() }, "execution_id"),
        (NewAccessRequest { approver_role: Some(Role::Agent), ..sound() }, "approver_role"),
        (NewAccessRequest { ttl_s: -1, ..sound() }, "ttl_s"),
        (NewAccessRequest { ttl_s: 604_801, ..sound() }, "ttl_s"),
    ] {
        match place.ask(&scout(), wrong).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let unknown = NewAccessRequest { tool_name: "unknown".into(), ..sound() };
    assert_eq!(refusal(place.ask(&scout(), unknown).await), (Kind::NotFound, ErrorReason::NotFound));
    let changed = NewAccessRequest { tool_digest: "before".into(), ..sound() };
    let expected = (Kind::Precondition, ErrorReason::DigestMismatch);
    assert_eq!(refusal(place.ask(&scout(), changed).await), expected);
    let longest = NewAccessRequest { ttl_s: 604_800, justification: "x".repeat(1_000), ..sound() };
    assert_eq!(place.ask(&scout(), longest).await.unwrap().expire_time, noon() + TimeDelta::days(7));
    // What is allowed needs no approval, and what an approval does not lift is not asked for.
    grant(&place.database, to_agent("second"), 0).await;
    let allowed = place.ask(&caller("second", Role::Agent), sound()).await;
    assert_eq!(refusal(allowed), (Kind::Invalid, ErrorReason::InvalidRequest));
    disable(&place.database, "writer").await;
    let disabled = place.ask(&caller("writer", Role::Agent), sound()).await;
    assert_eq!(refusal(disabled), (Kind::Denied, ErrorReason::AgentDisabled));
}

#[tokio::test]
async fn so_many_of_an_agent_wait_and_no_more() {
    let place = Place::new().await;
    for n in 0..100 {
        place.ask(&scout(), wanted(&json!({ "n": n }))).await.unwrap();
    }
    let more = async || place.ask(&scout(), wanted(&json!({"n": "more"}))).await;
    assert_eq!(refusal(more().await), (Kind::Exhausted, ErrorReason::Overloaded));
    // One that is open is answered, and others may ask.
    let open = place.ask(&scout(), wanted(&json!({"n": 0}))).await.unwrap();
    place.ask(&caller("second", Role::Agent), wanted(&json!({}))).await.unwrap();
    place.decide(&root(), denial(&open)).await.unwrap();
    more().await.unwrap();
}

#[tokio::test]
async fn agents_see_their_own_and_auditors_all_of_their_team() {
    let place = Place::new().await;
    let own = place.ask(&scout(), wanted(&json!({}))).await.unwrap();
    let other = place.ask(&caller("second", Role::Agent), wanted(&json!({}))).await.unwrap();
    let auditor = caller("auditor", Role::Auditor);
    place.get(&scout(), own.request_id, noon()).await.unwrap();
    place.get(&auditor, own.request_id, noon()).await.unwrap();
    let hidden = (Kind::NotFound, ErrorReason::NotFound);
    assert_eq!(refusal(place.get(&scout(), other.request_id, noon()).await), hidden);
    let stranger = Caller { team: "u".into(), ..root() };
    assert_eq!(refusal(place.get(&stranger, own.request_id, noon()).await), hidden);
    let list = async |caller: &Caller, filter: AccessRequestFilter, page: (i32, &str)| {
        let listed = access_requests::list(&place.database, &place.pages, caller, filter, page, noon());
        let (rows, next) = listed.await.unwrap();
        (rows.into_iter().map(|row| row.request_id).collect::<Vec<_>>(), next)
    };
    let all = AccessRequestFilter::default;
    assert_eq!(list(&scout(), all(), (0, "")).await.0, [own.request_id]);
    assert_eq!(list(&auditor, all(), (0, "")).await.0, [other.request_id, own.request_id]);
    assert!(list(&stranger, all(), (0, "")).await.0.is_empty());
    let of_other = AccessRequestFilter { agent_id: Some("second".into()), ..all() };
    assert!(list(&scout(), of_other.clone(), (0, "")).await.0.is_empty());
    assert_eq!(list(&auditor, of_other, (0, "")).await.0, [other.request_id]);
    let (first, next) = list(&auditor, all(), (1, "")).await;
    assert_eq!(
        (first, list(&auditor, all(), (1, &next)).await.0),
        (vec![other.request_id], vec![own.request_id])
    );
    place.decide(&root(), denial(&own)).await.unwrap();
    let pending = AccessRequestFilter { state: Some("pending".into()), ..all() };
    assert_eq!(list(&auditor, pending, (0, "")).await.0, [other.request_id]);
}

#[tokio::test]
async fn a_service_asks_with_what_it_was_told_and_the_role_holds() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let arguments = json!({"password": "hunter2"});
    let executor = scout().through("executor");
    let new = NewAccessRequest {
        tool_digest: "d".into(),
        arguments_json: r#"{"password":"[redacted]"}"#.into(),
        arguments_digest: types::digest_json(&arguments).unwrap(),
        justification: String::new(),
        execution_id: Some(random()),
        approver_role: Some(Role::Operator),
        ..wanted(&json!({}))
    };
    for (wrong, expected) in [
        (NewAccessRequest { tool_digest: String::new(), ..new.clone() }, "tool_digest"),
        (NewAccessRequest { arguments_digest: "x".into(), ..new.clone() }, "arguments_digest"),
    ] {
        match place.ask(&executor, wrong).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let request = place.ask(&executor, new.clone()).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("operator", false));
    assert_eq!((&request.agent_id, request.execution_id), (&"scout".to_owned(), new.execution_id));
    // The agent itself asks for the same, and says why.
    let own = place.ask(&scout(), wanted(&arguments)).await.unwrap();
    assert_eq!((own.request_id, own.justification.as_str()), (request.request_id, "the report"));
    place.decide(&operator(), approval(&request)).await.unwrap();
    assert_eq!(place.decided_on(&arguments).await, None);
}
