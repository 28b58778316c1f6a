//! Credentials are rotated from their source when it is time, by one process, and a failure replaces nothing.

use proto::registry::v1::{Credential, CredentialRotation, credential_rotation::Source};

use super::{
    house::rotation_of,
    token_server::{Answer, TokenServer},
    *,
};

fn rotated_from(source: Source) -> PutCredentialRequest {
    let rotation =
        CredentialRotation { interval_s: 60, source: Some(source), ..CredentialRotation::default() };
    PutCredentialRequest { rotation: Some(rotation), ..named("key") }
}

const DUE: &str = "UPDATE registry.credential SET next_rotation_time = now()";

#[tokio::test]
async fn a_file_is_read_again_when_it_is_time_and_gives_a_version_when_it_changed() {
    let house = House::new().await;
    let refused = house.put_request(rotated_from(Source::File("key".into()))).await.unwrap_err();
    assert!(refused.message().contains("secret is not given: file key is not there"), "{refused}");
    assert!(house.list().await.is_empty());
    house.write_source("key", "api-key-1\n");
    let kept = house.put_request(rotated_from(Source::File("key".into()))).await.unwrap();
    let next = kept.next_rotation_time.unwrap().seconds - Utc::now().timestamp();
    assert!((50..=60).contains(&next), "{next}");
    // The same again is no version. What is under way is due again later than what is done, should its process die.
    house.sql(DUE).await;
    let is_done = |it: &Credential| {
        (1..=60).contains(&(it.next_rotation_time.unwrap().seconds - Utc::now().timestamp()))
    };
    let same = house.until("key", is_done).await;
    assert_eq!((states(&same), same.last_error.as_str()), (vec![(1, ACTIVE)], ""));
    house.write_source("key", r#"{"apiKey":"api-key-2"}"#);
    house.sql(DUE).await;
    let next = house.until("key", |it| it.versions.len() == 2).await;
    assert_eq!(states(&next), [(2, ACTIVE), (1, RETIRING)]);
    assert_eq!(house.resolve("key", 0).await.unwrap().kind, Some(Given::ApiKey("api-key-2".into())));
    // Asked for by name, it is a version whatever it holds.
    let request = request!(house.registry, "team", rotation_of("key"));
    let asked = house.registry.client.clone().rotate_credential(request).await.unwrap().into_inner();
    assert_eq!(states(&asked.credential.unwrap())[0], (3, ACTIVE));
    house.stop().await;
}

#[tokio::test]
async fn a_rotation_that_fails_keeps_what_there_is_tells_it_and_is_tried_again() {
    let house = House::new().await;
    house.write_source("key", "api-key-1");
    house.put_request(rotated_from(Source::File("key".into()))).await.unwrap();
    for (text, told) in [
        (r#"{"apiKey":"hunter2"#, "no CredentialSecret as JSON"),
        (r#"{"basic":{"user":"hunter2-user"}}"#, "is of kind basic"),
        ("hunter2-\u{1}", "control character"),
        ("", "is empty"),
    ] {
        house.write_source("key", text);
        house.sql(DUE).await;
        let failed = house.until("key", |it| it.last_error.contains(told)).await;
        assert_eq!(states(&failed), [(1, ACTIVE)], "{text}");
        assert!(failed.next_rotation_time.unwrap().seconds > Utc::now().timestamp() + 20);
        let warnings = house.warnings().await;
        assert!(warnings[0].contains("key: the last rotation failed"), "{warnings:?}");
        assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
    }
    assert_eq!(house.resolve("key", 0).await.unwrap().kind, Some(Given::ApiKey("api-key-1".into())));
    house.write_source("key", "api-key-2");
    house.sql(DUE).await;
    let mended = house.until("key", |it| it.versions.len() == 2).await;
    assert_eq!((mended.last_error.as_str(), mended.warning.as_str()), ("", ""));
    assert_eq!(house.number("SELECT failures::bigint FROM registry.credential").await, 0);
    house.stop().await;
}

#[tokio::test]
async fn an_address_is_asked_by_one_process_and_told_which_version_it_is_to_give() {
    let server = TokenServer::start().await;
    server.answer(Answer::Json(r#"{"apiKey":"api-key-1"}"#.into()));
    let house = House::new().await;
    house.put_request(rotated_from(Source::Url(server.url("/next")))).await.unwrap();
    let others = [registry(&house.config, &house.database), registry(&house.config, &house.database)];
    server.answer(Answer::Json(r#"{"apiKey":"api-key-2"}"#.into()));
    house.sql(DUE).await;
    let next = house.until("key", |it| it.versions.len() == 2).await;
    assert_eq!(states(&next), [(2, ACTIVE), (1, RETIRING)]);
    let bodies: Vec<String> = server.hits().into_iter().map(|hit| hit.body).collect();
    let asked = |version: i32| format!(r#"{{"team":"team","credential":"key","version":{version}}}"#);
    assert_eq!(bodies, [asked(1), asked(2)]);
    for (answer, told) in [
        (Answer::Status(500, "hunter2".into(), None), "HTTP status 500"),
        (Answer::Huge, "more than 65536 bytes"),
        (Answer::Redirect, "HTTP status 307"),
        (Answer::Never, "did not answer within 2 s"),
        (Answer::Endless, "did not answer within 2 s"),
    ] {
        server.answer(answer);
        house.sql(DUE).await;
        let failed = house.until("key", |it| it.last_error.contains(told)).await;
        assert_eq!(failed.versions.len(), 2);
    }
    house.revoke("key", 0).await.unwrap();
    assert!(
        house.list().await[0].next_rotation_time.is_none(),
        "what was ended does not come back by itself"
    );
    for other in others {
        other.stop().await;
    }
    house.stop().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_is_refused_at_once() {
    let house = House::over(database().await, |config| config.credentials.allow_private_network = false);
    for (source, field) in [
        (Source::Url("http://127.0.0.1/next".into()), "rotation.url must begin with https"),
        (Source::Url("https://127.0.0.1/next".into()), "rotation.url may not be asked"),
        (Source::Url("nothing".into()), "rotation.url is not an address"),
        (Source::Url("https://u:hunter2@example.com/next".into()), "rotation.url may have no user"),
        (Source::Url("https://example.com/next?key=hunter2".into()), "rotation.url may have no user"),
        (Source::File(String::new()), "rotation.file must be"),
        (Source::File("../other/key".into()), "secret is not given"),
        (Source::File("/etc/passwd".into()), "secret is not given"),
    ] {
        let refused = house.put_request(rotated_from(source)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    }
    assert!(house.list().await.is_empty());
    house.stop().await;
}

#[tokio::test]
async fn what_changes_while_a_source_is_asked_is_not_overtaken_by_its_answer() {
    let server = TokenServer::start().await;
    server.answer(Answer::Json(r#"{"apiKey":"api-key-1"}"#.into()));
    let house = House::new().await;
    house.put_request(rotated_from(Source::Url(server.url("/next")))).await.unwrap();
    house.rotate("key", key("api-key-2")).await.unwrap();
    let new = r#"{"apiKey":"api-key-3"}"#;
    server.answer(Answer::SlowJson(new.into(), Duration::from_secs(1)));
    house.sql(DUE).await;
    house.until("key", |_| server.hits().len() == 2).await;
    house.revoke("key", 1).await.unwrap();
    let told = house.until("key", |it| it.last_error.contains("versions changed")).await;
    assert_eq!(states(&told), [(2, ACTIVE), (1, REVOKED)]);
    server.answer(Answer::Json(new.into()));
    house.sql(DUE).await;
    house.until("key", |it| states(it)[0] == (3, ACTIVE)).await;
    house.stop().await;
}

#[tokio::test]
async fn a_source_that_still_gives_what_has_ended_is_told_of_and_not_followed() {
    let house = House::new().await;
    house.write_source("key", "api-key-1");
    let end = timestamp(Utc::now() + TimeDelta::days(1));
    let request = PutCredentialRequest { expire_time: Some(end), ..rotated_from(Source::File("key".into())) };
    house.put_request(request).await.unwrap();
    let request = request!(house.registry, "team", rotation_of("key"));
    let asked = house.registry.client.clone().rotate_credential(request).await.unwrap().into_inner();
    let second = asked.credential.unwrap();
    assert_eq!(second.versions[0].expire_time, Some(end), "the same secret ends when it did");
    house.revoke("key", 2).await.unwrap();
    house.sql(DUE).await;
    let told = house.until("key", |it| it.last_error.contains("version 2 again, which has ended")).await;
    assert_eq!(states(&told), [(2, REVOKED), (1, RETIRING)]);
    let request = request!(house.registry, "team", rotation_of("key"));
    house.registry.client.clone().rotate_credential(request).await.unwrap_err();

    house.write_source("key", "api-key-2");
    house.sql(DUE).await;
    house.until("key", |it| states(it)[0] == (3, ACTIVE)).await;
    house.sql("UPDATE registry.credential_version SET expire_time = now() WHERE state = 'active'").await;
    house.sql(DUE).await;
    let told = house.until("key", |it| it.last_error.contains("version 3 again, which has ended")).await;
    assert_eq!(states(&told)[0], (3, REVOKED));
    // With another wrapping key it is known all the same.
    house.write_keys(&["k2", "k1"]);
    let old = "SELECT count(*) FROM registry.credential WHERE digest_key_id = 'k1'";
    house.until_number(old, 0).await;
    house.write_keys(&["k2"]);
    house.sql("UPDATE registry.credential SET last_error = '', next_rotation_time = now()").await;
    house.until("key", |it| it.last_error.contains("version 3 again, which has ended")).await;
    house.write_source("key", "api-key-3");
    house.sql(DUE).await;
    house.until("key", |it| states(it)[0] == (4, ACTIVE)).await;
    house.stop().await;
}
