//! What credentials wait for, and how long: every wait ends, and what a dead process began is begun again.

use proto::registry::v1::credential_rotation::Source;

use super::{
    token_server::{Answer, TokenServer},
    tokens::{ENDED, client, refresh},
    *,
};

const BY_A_DEAD_ONE: &str = "UPDATE registry.credential_version
    SET fetch_id = gen_random_uuid(), fetch_until = now() + interval '1 s', token_end_time = now()";
const BY_ONE_THAT_HANGS: &str = "UPDATE registry.credential_version
    SET fetch_id = gen_random_uuid(), fetch_until = now() + interval '1 h', token_end_time = now()";

#[tokio::test]
async fn a_fetch_of_a_dead_process_is_made_again_and_one_that_hangs_is_not_waited_for_for_ever() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    house.put("oauth", client(&server)).await.unwrap();
    house.sql(BY_A_DEAD_ONE).await;
    assert_eq!(house.bearer(0).await, "token-2");
    assert_eq!(server.hits().len(), 2);

    house.sql(BY_ONE_THAT_HANGS).await;
    let (credentials, short) = (house.credentials(), Duration::from_millis(200));
    let told = credentials.try_out_within(("team", "oauth", 1), short).await.err().unwrap().to_string();
    assert!(told.contains("another process fetches its token and does not end"), "{told}");
    assert_eq!(server.hits().len(), 2, "nobody asks beside the one that does");
    house.stop().await;
}

#[tokio::test]
async fn a_fetch_is_claimed_for_longer_than_it_may_take() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    house.put("oauth", client(&server)).await.unwrap();
    house.sql(ENDED).await;
    server.answer(Answer::Never);
    let (credentials, first) = (house.credentials(), server.hits().len());
    let asking = tokio::spawn(async move { credentials.resolve("team", "oauth", 0).await.map(drop) });
    house.until("oauth", |_| server.hits().len() > first).await;
    let claimed = "SELECT extract(epoch FROM fetch_until - now())::bigint FROM registry.credential_version";
    let left = house.number(claimed).await;
    assert!((25..=32).contains(&left), "{left}: 2 s for the answer, 10 to keep it, and twice that");
    assert!(asking.await.unwrap().is_err(), "the answer does not come");
    house.stop().await;
}

#[tokio::test]
async fn a_pause_that_a_server_asks_for_is_heeded_up_to_an_hour() {
    let server = TokenServer::start().await;
    let house = House::new().await;
    house.put("oauth", client(&server)).await.unwrap();
    let wait = "SELECT extract(epoch FROM next_fetch_time - now())::bigint FROM registry.credential_version";
    let hour = 3_590..=3_600;
    for (asked, expected) in
        [("120", 110..=120), ("86400", hour.clone()), ("Thu, 01 Jan 2099 00:00:00 GMT", hour)]
    {
        server.answer(Answer::Status(429, String::new(), Some(asked)));
        house.sql(ENDED).await;
        house.resolve("oauth", 0).await.unwrap_err();
        let left = house.number(wait).await;
        assert!(expected.contains(&left), "{asked}: {left}");
    }
    house.stop().await;
}

#[tokio::test]
async fn a_rotation_that_does_not_end_is_begun_again_when_its_claim_is_over() {
    let server = TokenServer::start().await;
    server.answer(Answer::Json(r#"{"apiKey":"api-key-1"}"#.into()));
    let house = House::over(database().await, |config| config.credentials.timeout_s = 8);
    let source = Some(Source::Url(server.url("/next")));
    let rotation = CredentialRotation { interval_s: 3_600, source, ..CredentialRotation::default() };
    house.put_request(PutCredentialRequest { rotation: Some(rotation), ..named("key") }).await.unwrap();

    // Long, and shorter than the time that it has.
    server.answer(Answer::SlowJson(r#"{"apiKey":"api-key-1"}"#.into(), Duration::from_secs(5)));
    let due = "UPDATE registry.credential SET next_rotation_time = now()";
    house.sql(due).await;
    house.until("key", |_| server.hits().len() == 2).await;
    let claimed = "SELECT extract(epoch FROM next_rotation_time - now())::bigint FROM registry.credential";
    let left = house.number(claimed).await;
    assert!((100..=120).contains(&left), "{left}");
    // As if two minutes were over, and nothing had come of it.
    server.answer(Answer::Json(r#"{"apiKey":"api-key-2"}"#.into()));
    house.sql(due).await;
    let next = house.until("key", |it| it.versions.len() == 2).await;
    assert_eq!(states(&next), [(2, ACTIVE), (1, RETIRING)]);
    house.stop().await;
}

#[tokio::test]
async fn what_never_came_to_be_used_ends_after_five_minutes_and_not_before() {
    let house = House::new().await;
    for name in ["young", "old"] {
        house.put(name, key("api-key-1")).await.unwrap();
    }
    let age = "UPDATE registry.credential_version SET state = 'pending', create_time = now() - CASE name
               WHEN 'old' THEN interval '301 s' ELSE interval '200 s' END";
    house.sql(age).await;
    house.until("old", |it| states(it) == [(1, REVOKED)]).await;
    let pending = "SELECT count(*) FROM registry.credential_version WHERE state = 'pending'";
    assert_eq!(house.number(pending).await, 1, "the young one may still be tried");
    house.stop().await;
}

#[tokio::test]
async fn a_database_that_takes_nothing_for_long_loses_no_refresh_token() {
    let server = TokenServer::start().await;
    server.answer(Answer::Replacing(3_600));
    let house = House::new().await;
    for statement in [
        "CREATE FUNCTION registry.never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE EXCEPTION 'not now';
         END $$",
        "CREATE TRIGGER never BEFORE UPDATE ON registry.credential_version FOR EACH ROW
         WHEN (OLD.state = 'pending' AND NEW.state = 'active') EXECUTE FUNCTION registry.never()",
    ] {
        house.sql(statement).await;
    }
    let started = std::time::Instant::now();
    let refused = house.put("oauth", refresh(&server, "refresh-0")).await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_secs(10), "it is tried for ten seconds: {refused}");
    house.sql("DROP TRIGGER never ON registry.credential_version").await;
    house.sql("UPDATE registry.credential_version SET create_time = now() - interval '301 s'").await;
    house.until("oauth", |it| states(it) == [(1, ACTIVE)]).await;
    house.sql(ENDED).await;
    assert_eq!(house.bearer(0).await, "token-2");
    assert!(server.hits()[1].body.contains("refresh_token=refresh-1&"), "the one that the server gave");
    house.stop().await;
}
