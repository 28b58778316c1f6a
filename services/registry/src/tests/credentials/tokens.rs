//! Tokens of OAuth 2.0 are fetched once, shared, renewed and never lost, whatever the token endpoint does.

use proto::registry::v1::{OAuth2ClientSecret, OAuth2RefreshSecret, credential_secret::Kind};

use super::{
    token_server::{Answer, TokenServer},
    *,
};

pub(super) fn client(server: &TokenServer) -> Kind {
    Kind::Oauth2Client(OAuth2ClientSecret {
        token_url: server.url("/token"),
        client_id: "client".into(),
        client_secret: "hunter2-secret".into(),
        ..OAuth2ClientSecret::default()
    })
}

pub(super) fn refresh(server: &TokenServer, refresh_token: &str) -> Kind {
    Kind::Oauth2Refresh(OAuth2RefreshSecret {
        token_url: server.url("/token"),
        client_id: "client".into(),
        refresh_token: refresh_token.into(),
        ..OAuth2RefreshSecret::default()
    })
}

impl House {
    pub(super) async fn bearer(&self, refused: i32) -> String {
        match self.resolve("oauth", refused).await.unwrap().kind {
            Some(Given::BearerToken(token)) => token,
            other => panic!("{other:?}"),
        }
    }
}

/// As if the token had been fetched long ago.
const OLD: &str = "UPDATE registry.credential_version SET token_time = now() - interval '10 s'";
pub(super) const ENDED: &str =
    "UPDATE registry.credential_version SET token_end_time = now(), next_fetch_time = NULL";

#[tokio::test]
async fn a_token_is_fetched_once_for_all_callers_of_all_processes() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    house.put("oauth", client(&server)).await.unwrap();
    assert_eq!(server.hits().len(), 1, "it is tried before it is used");
    assert!(server.hits()[0].authorization.starts_with("Basic "));
    let other = registry(&house.config, &house.database);
    house.sql(ENDED).await;
    server.answer(Answer::SlowToken(3_600, Duration::from_millis(300)));
    let asked = (0..40).map(|number| {
        let registry = if number % 2 == 0 { &house.registry } else { &other };
        let message = ResolveCredentialRequest { name: "oauth".into(), refused_version: 0 };
        let request = request!(registry, "team", message);
        async move { registry.client.clone().resolve_credential(request).await.unwrap().into_inner().kind }
    });
    let tokens = futures_util::future::join_all(asked).await;
    assert!(tokens.iter().all(|token| *token == Some(Given::BearerToken("token-2".into()))), "{tokens:?}");
    assert_eq!(server.hits().len(), 2);
    other.stop().await;
    house.stop().await;
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_and_one_that_is_valid_bridges_a_failure() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    house.put("oauth", client(&server)).await.unwrap();
    let soon = "UPDATE registry.credential_version
                SET token_time = now() - interval '1 h', token_end_time = now() + interval '50 s'";
    server.answer(Answer::Status(503, String::new(), Some("1")));
    house.sql(soon).await;
    assert_eq!(house.bearer(0).await, "token-1");
    let told = house.until("oauth", |it| it.warning.contains("HTTP status 503")).await;
    assert_eq!(states(&told), [(1, ACTIVE)]);
    assert_eq!(house.bearer(0).await, "token-1");
    server.answer(Answer::Token(3_600));
    house.sql("UPDATE registry.credential_version SET next_fetch_time = NULL").await;
    assert_eq!(house.bearer(0).await, "token-1");
    house.until("oauth", |it| it.warning.is_empty()).await;
    assert_eq!(house.bearer(0).await, "token-2");
    house.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_fetched_anew_but_not_one_that_has_just_come() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    house.put("oauth", client(&server)).await.unwrap();
    assert_eq!(house.bearer(1).await, "token-1", "another one was refused: this one is new");
    house.sql(OLD).await;
    assert_eq!(house.bearer(0).await, "token-1");
    assert_eq!(house.bearer(1).await, "token-2");
    assert_eq!(server.hits().len(), 2);
    house.stop().await;
}

#[tokio::test]
async fn a_replaced_refresh_token_is_kept_before_its_access_token_is_given() {
    let server = TokenServer::start().await;
    server.answer(Answer::Replacing(3_600));
    let house = House::new().await;
    house.put("oauth", refresh(&server, "refresh-0")).await.unwrap();
    for number in 2..5 {
        house.sql(ENDED).await;
        // Another process each time: nothing but the database knows what was replaced.
        let other = House::over(house.database.clone(), |config| {
            config.credentials = house.config.credentials.clone();
        });
        assert_eq!(other.bearer(0).await, format!("token-{number}"));
        other.stop().await;
    }
    let bodies: Vec<String> = server.hits().into_iter().map(|hit| hit.body).collect();
    for (number, body) in bodies.iter().enumerate() {
        assert!(body.contains(&format!("refresh_token=refresh-{number}&")), "{body}");
    }
    // Half of the callers go away while it is fetched; what was replaced is kept all the same.
    house.sql(ENDED).await;
    let gone = tokio::time::timeout(Duration::from_millis(1), house.resolve("oauth", 0)).await;
    drop(gone);
    house.bearer(0).await;
    house.sql(ENDED).await;
    house.bearer(0).await;
    house.stop().await;
}

#[tokio::test]
async fn a_secret_that_does_not_work_replaces_none() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    let refusal =
        Answer::Status(401, r#"{"error":"invalid_client","error_description":"hunter2"}"#.into(), None);
    server.answer(refusal.clone());
    let refused = house.put("oauth", client(&server)).await.unwrap_err();
    assert_eq!(reason_of(&refused), Some(ErrorReason::CredentialUnavailable));
    assert!(
        refused.message().contains("invalid_client") && !refused.message().contains("hunter2"),
        "{refused}"
    );
    assert!(house.list().await.is_empty(), "nothing is kept of it");
    server.answer(Answer::Token(3_600));
    house.put("oauth", client(&server)).await.unwrap();
    server.answer(refusal);
    house.rotate("oauth", client(&server)).await.unwrap_err();
    assert_eq!(states(&house.list().await[0]), [(1, ACTIVE)]);
    assert_eq!(house.bearer(0).await, "token-1");
    server.answer(Answer::Token(3_600));
    let next = house.rotate("oauth", client(&server)).await.unwrap();
    assert_eq!(next.versions[0].state(), ACTIVE);
    assert_eq!(house.bearer(0).await, "token-2");
    house.stop().await;
}

#[tokio::test]
async fn whatever_a_token_endpoint_does_is_told_in_our_words_and_not_asked_for_at_every_call() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    house.put("oauth", client(&server)).await.unwrap();
    let text = |text: &str| text.to_owned();
    for (answer, code, told) in [
        (Answer::Status(500, text("hunter2"), None), Code::Unavailable, "HTTP status 500"),
        (Answer::Json(text("<html>hunter2")), Code::Unavailable, "no token as JSON"),
        (Answer::Huge, Code::Unavailable, "more than 65536 bytes"),
        (Answer::Redirect, Code::Unavailable, "HTTP status 307"),
        (Answer::Never, Code::Unavailable, "did not answer within 2 s"),
        (Answer::Endless, Code::Unavailable, "did not answer within 2 s"),
        (Answer::Status(429, text(""), Some("120")), Code::Unavailable, "HTTP status 429"),
        (
            Answer::Status(400, text(r#"{"error":"invalid_grant"}"#), None),
            Code::FailedPrecondition,
            "invalid_grant",
        ),
    ] {
        server.answer(answer);
        house.sql(ENDED).await;
        let before = server.hits().len();
        let refused = house.resolve("oauth", 0).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason_of(&refused)),
            (code, Some(ErrorReason::CredentialUnavailable)),
            "{told}"
        );
        assert!(refused.message().contains(told) && !refused.message().contains("hunter2"), "{refused}");
        let again = house.resolve("oauth", 0).await.unwrap_err();
        assert!(again.message().contains(told), "{again}");
        assert_eq!(server.hits().len(), before + 1, "{told}: it is not asked again at once");
    }
    let wait = "SELECT extract(epoch FROM next_fetch_time - now())::bigint FROM registry.credential_version";
    assert!((20..=30).contains(&house.number(wait).await));
    house.stop().await;
}

#[tokio::test]
async fn a_replaced_refresh_token_outlives_a_moment_of_the_database_and_the_process_that_fetched_it() {
    let server = TokenServer::start().await;
    server.answer(Answer::Replacing(3_600));
    let house = House::new().await;
    for statement in [
        "CREATE SEQUENCE registry.tries",
        "CREATE FUNCTION registry.once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('registry.tries') = 1 THEN RAISE EXCEPTION 'a moment'; END IF;
             RETURN NEW;
         END $$",
        "CREATE TRIGGER once BEFORE UPDATE ON registry.credential_version FOR EACH ROW
         WHEN (OLD.state = 'pending' AND NEW.state = 'active') EXECUTE FUNCTION registry.once()",
    ] {
        house.sql(statement).await;
    }
    let kept = house.put("oauth", refresh(&server, "refresh-0")).await.unwrap();
    assert_eq!(states(&kept), [(1, ACTIVE)]);
    assert_eq!(house.number("SELECT last_value FROM registry.tries").await, 2, "it was tried twice");
    house
        .sql(
            "UPDATE registry.credential_version
             SET state = 'pending', create_time = now() - interval '1 h'",
        )
        .await;
    house.until("oauth", |it| states(it) == [(1, ACTIVE)]).await;
    house.sql(ENDED).await;
    assert_eq!(house.bearer(0).await, "token-2");
    assert!(server.hits()[1].body.contains("refresh_token=refresh-1&"), "the one that the server gave");
    house.stop().await;
}
