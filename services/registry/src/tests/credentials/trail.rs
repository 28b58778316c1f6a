//! What the trail is told of credentials: each version from its first moment to its last, who had it so and why it
//! failed, and never a secret.

use proto::{
    audit::v1::{Action, Event, Result as Outcome},
    registry::v1::{CredentialRotation, credential_rotation::Source},
};

use super::super::trail::written;
use super::{
    house::rotation_of,
    token_server::{Answer, TokenServer},
    tokens, *,
};

/// By whom, whether it went as asked, and what.
fn told(event: &Event) -> (&str, bool, &str) {
    (&event.agent_id, event.result() == Outcome::Success, &event.message)
}

#[tokio::test]
async fn versions_are_told_with_who_put_and_revoked_them() {
    let house = House::new().await;
    house.put("key", key("canary-one")).await.unwrap();
    house.rotate("key", key("canary-two")).await.unwrap();
    house.put("key", credential_secret::Kind::Basic(BasicSecret::default())).await.unwrap_err();
    house.revoke("key", 2).await.unwrap();
    house.revoke("key", 2).await.unwrap();
    house.sql("UPDATE registry.credential_version SET retire_time = now() WHERE version = 1").await;
    house.until("key", |it| states(it)[1] == (1, REVOKED)).await;
    let events = written(&house.database).await;
    let expected = [
        ("tester", true, "credential key: version 1 was put (api_key)"),
        ("tester", true, "credential key: version 1 is used from now on"),
        ("tester", true, "credential key: version 2 was given by a rotation (api_key)"),
        ("tester", true, "credential key: version 2 is used from now on"),
        ("tester", true, "credential key: version 2 was revoked"),
        ("", true, "credential key: version 1 has ended: its time is over"),
    ];
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);
    assert!(
        events.iter().all(|event| event.action() == Action::CredentialRotated && event.team_id == "team")
    );
    assert!(!format!("{events:?}").contains("canary"));
    house.stop().await;
}

#[tokio::test]
async fn what_fails_is_told_with_the_reason() {
    let house = House::new().await;
    house.write_source("key", "canary-one");
    let source = Some(Source::File("key".into()));
    let rotation = Some(CredentialRotation { interval_s: 60, source, ..CredentialRotation::default() });
    house.put_request(PutCredentialRequest { rotation, ..named("key") }).await.unwrap();
    house.write_source("key", "");
    let asked = request!(house.registry, "team", rotation_of("key"));
    house.registry.client.clone().rotate_credential(asked).await.unwrap_err();
    house.sql("UPDATE registry.credential SET next_rotation_time = now()").await;
    house.until("key", |it| !it.last_error.is_empty()).await;

    let server = TokenServer::start().await;
    server.answer(Answer::Status(401, r#"{"error":"invalid_client"}"#.into(), None));
    house.put("oauth", tokens::client(&server)).await.unwrap_err();
    let events = written(&house.database).await;
    let of_source = "was put as its source gave it (api_key)";
    let expected = [
        ("tester", true, of_source),
        ("tester", true, "is used from now on"),
        ("tester", false, "cannot be rotated: its source is empty"),
        ("", false, "cannot be rotated: its source is empty"),
        ("tester", true, "credential oauth: version 1 was put (oauth2_client)"),
        ("tester", false, "credential oauth: version 1 was taken back: no token was given with it"),
    ];
    assert_eq!(events.len(), expected.len(), "{events:?}");
    for (event, (agent, went_well, message)) in events.iter().zip(expected) {
        let (by, result, said) = told(event);
        assert!((by, result) == (agent, went_well) && said.contains(message), "{event:?} and not {message}");
        assert_eq!(event.reason, if went_well { "" } else { "CREDENTIAL_UNAVAILABLE" });
    }
    let whole = format!("{events:?}");
    assert!(!whole.contains("canary") && !whole.contains("hunter2"), "{whole}");
    house.stop().await;
}
