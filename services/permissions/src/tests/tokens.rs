//! Tokens of an issuer that serves its keys over HTTP and rotates them.

use jsonwebtoken::EncodingKey;
use reach::Authorities;
use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::{Algorithm, KeyServer, SigningKey, SigningKeyKind, signed};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::Scope;

use super::{
    keys::{authenticator, keys},
    *,
};
use crate::{
    Issuer,
    authenticate::{Authenticator, Identity},
    jwks::{Jwks, Keeping, Miss},
    token::Issuers,
};

const ISSUER: &str = "https://id.example.com/";

/// An issuer with a server of keys, and a process that trusts it.
struct House {
    server: KeyServer,
    authenticator: Authenticator,
    database: Database,
    stop: CancellationToken,
}

impl House {
    async fn new(keys: &[&SigningKey]) -> Self {
        Self::with(keys, &json!({})).await
    }

    async fn with(signing: &[&SigningKey], changes: &Value) -> Self {
        let (server, database, stop) = (KeyServer::start(signing), team().await, CancellationToken::new());
        let issuer = settings("okta", ISSUER, &server.url(), changes);
        assert_eq!(crate::issuer::validate(std::slice::from_ref(&issuer)), Vec::<String>::new());
        let issuers = Issuers::start(&[issuer], &Authorities::default(), &stop, &TaskTracker::new()).unwrap();
        let authenticator = authenticator(&database, &keys(), issuers);
        Self { server, authenticator, database, stop }
    }

    async fn read(&self, token: &str) -> Result<Identity, Error> {
        self.authenticator.authenticate(&SecretString::from(token), "::ffff:192.0.2.7", Utc::now()).await
    }

    /// Fails as everything does, and gives the cause that was noted.
    async fn refused(&self, token: &str) -> String {
        let error = self.read(token).await.unwrap_err();
        let told = ::rpc::ServiceError::public_message(&error);
        assert_eq!(told, "the API key or token is missing or not valid");
        assert!(matches!(error, Error::Unauthenticated), "{error:?}");
        self.authenticator.failures.tell(&self.database, true).await.unwrap();
        let payload: Vec<u8> =
            sqlx::query_scalar("SELECT payload FROM permissions.outbox ORDER BY id DESC LIMIT 1")
                .fetch_one(self.database.pool().unwrap())
                .await
                .unwrap();
        let event: proto::audit::v1::Event = prost::Message::decode(payload.as_slice()).unwrap();
        assert_eq!(event.action(), proto::audit::v1::Action::AuthenticationFailed);
        let secret = token.rsplit('.').next().unwrap();
        assert!(secret.is_empty() || !event.message.contains(secret), "{}", event.message);
        event.message
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn settings(name: &str, issuer: &str, jwks_url: &str, changes: &Value) -> Issuer {
    let mut settings = json!({
        "name": name, "issuer": issuer, "audiences": ["toolcrib"], "jwks_url": jwks_url, "team": "t",
        "algorithms": ["RS256", "ES256", "EdDSA"], "user_claim": "email", "scopes_claim": "scope",
    });
    for (key, value) in changes.as_object().unwrap() {
        settings[key] = value.clone();
    }
    serde_json::from_value(settings).unwrap()
}

fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "toolcrib", "sub": "scout", "exp": Utc::now().timestamp() + 300, "jti": "t-1",
    });
    for (key, value) in changes.as_object().unwrap() {
        claims[key] = value.clone();
    }
    claims
}

fn rsa() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::new("rsa", SigningKeyKind::Rsa))
}

#[tokio::test]
async fn tokens_of_every_kind_of_key_say_who_calls_for_whom() {
    let (p256, ed) =
        (SigningKey::new("p256", SigningKeyKind::P256), SigningKey::new("ed", SigningKeyKind::Ed25519));
    let p384 = SigningKey::new("p384", SigningKeyKind::P384);
    let algorithms = json!({"algorithms": ["RS256", "PS256", "PS512", "ES256", "ES384", "EdDSA"]});
    let house = House::with(&[rsa(), &p256, &p384, &ed], &algorithms).await;
    let end = Utc::now().timestamp() + 200;
    let said = claims(&json!({"exp": end, "email": "ann@example.com", "scope": "openid tools_call"}));
    for key in [rsa(), &p256, &p384, &ed] {
        let identity = house.read(&key.sign(&said)).await.unwrap();
        let caller = identity.caller;
        assert_eq!((caller.team.as_str(), caller.agent.as_str(), caller.role), ("t", "scout", Role::Agent));
        assert_eq!((caller.specialization.as_str(), caller.user.as_str()), ("Researcher", "ann@example.com"));
        assert_eq!((caller.key_id.as_str(), caller.scopes), ("okta:t-1", vec![Scope::ToolsCall]));
        assert_eq!(identity.expire_time.unwrap().timestamp(), end);
    }
    let header = json!({"alg": "PS256", "kid": "rsa", "typ": "at+jwt"});
    house.read(&rsa().sign_by(Algorithm::PS256, &header, &said)).await.unwrap();
    house.read(&rsa().sign_as(&json!({"alg": "RS256", "kid": "rsa"}), &said)).await.unwrap();
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_the_answer_is_the_same_and_the_cause_is_known() {
    let other = SigningKey::new("rsa", SigningKeyKind::Rsa);
    let ec = SigningKey::new("ec", SigningKeyKind::P256);
    let house = House::new(&[rsa(), &ec]).await;
    house.read(&rsa().sign(&claims(&json!({})))).await.unwrap();
    let now = Utc::now().timestamp();
    let header = |changes: Value| {
        let mut header = json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"});
        for (key, value) in changes.as_object().unwrap() {
            header[key] = value.clone();
        }
        header
    };
    let good = claims(&json!({}));
    let unsigned = |header: &Value| {
        let token = rsa().sign_as(header, &good);
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    // The public key as it is published, taken for a shared secret (key confusion).
    let modulus = rsa().public["n"].as_str().unwrap();
    let shared = EncodingKey::from_secret(modulus.as_bytes());
    let shared_jwk = EncodingKey::from_secret(rsa().public.to_string().as_bytes());
    let hs = header(json!({"alg": "HS256"}));
    let changed = {
        let token = rsa().sign(&good);
        let foreign = rsa().sign(&claims(&json!({"sub": "root"})));
        let (head, signature) = (foreign.rsplit_once('.').unwrap().0, token.rsplit_once('.').unwrap().1);
        format!("{head}.{signature}")
    };
    let cases = [
        (unsigned(&header(json!({"alg": "none"}))), "algorithm is not allowed"),
        (unsigned(&header(json!({"alg": "None"}))), "algorithm is not allowed"),
        (unsigned(&header(json!({}))), "signature is wrong"),
        (signed(&hs, &good, &shared, Algorithm::HS256), "algorithm is not allowed"),
        (signed(&hs, &good, &shared_jwk, Algorithm::HS256), "algorithm is not allowed"),
        // The header says what is allowed, the signature is one of a shared secret.
        (signed(&header(json!({})), &good, &shared, Algorithm::HS256), "signature is wrong"),
        (
            signed(&header(json!({"alg": "ES256"})), &good, &shared, Algorithm::HS256),
            "key is not for its algorithm",
        ),
        (ec.sign_as(&header(json!({"alg": "ES256", "kid": "rsa"})), &good), "key is not for its algorithm"),
        (rsa().sign_as(&header(json!({"alg": "RS256", "kid": "ec"})), &good), "key is not for its algorithm"),
        (
            rsa().sign_by(Algorithm::RS384, &header(json!({"alg": "RS384"})), &good),
            "algorithm is not allowed",
        ),
        (other.sign(&good), "signature is wrong"),
        (changed, "signature is wrong"),
        (rsa().sign_as(&header(json!({"kid": "unknown"})), &good), "key is not known"),
        (rsa().sign_as(&header(json!({"kid": 7})), &good), "key id is not a text"),
        (rsa().sign_as(&header(json!({"typ": "logout+jwt"})), &good), "not an access token"),
        (rsa().sign_as(&header(json!({"typ": null})), &good), "not an access token"),
        (rsa().sign_as(&header(json!({"crit": ["exp"]})), &good), "extension that is not known"),
        (rsa().sign(&claims(&json!({"aud": "another"}))), "another audience"),
        (rsa().sign(&claims(&json!({"exp": now - 31}))), "it has ended"),
        (rsa().sign(&claims(&json!({"nbf": now + 60}))), "not valid yet"),
        (rsa().sign(&claims(&json!({"sub": "nobody"}))), "no such agent"),
        (rsa().sign(&claims(&json!({"scope": "openid"}))), "no scope that is known"),
    ];
    for (token, told) in cases {
        let cause = house.refused(&token).await;
        assert!(
            cause.contains(told) && cause.contains("okta") && cause.contains("192.0.2.7"),
            "{told}: {cause}"
        );
    }
    disable(&house.database, "scout").await;
    let cause = house.refused(&rsa().sign(&good)).await;
    assert!(cause.contains("okta:t-1") && cause.contains("disabled"), "{cause}");
}

#[tokio::test]
async fn what_belongs_to_no_team_is_refused_alike() {
    let house = House::new(&[rsa()]).await;
    let good = rsa().sign(&claims(&json!({})));
    let long = format!("{good}{}", "x".repeat(8 * 1024));
    let (head, _) = good.split_once('.').unwrap();
    let tokens = [
        rsa().sign(&claims(&json!({"iss": "https://id.example.com"}))),
        rsa().sign(&claims(&json!({"iss": [ISSUER]}))),
        rsa().sign(&claims(&json!({"iss": null}))),
        long,
        format!("{good}.x"),
        format!("{good}="),
        format!("{head}.."),
        "..".to_owned(),
        ".".to_owned(),
        "a.b.c".to_owned(),
        format!("{head}.é.x"),
    ];
    for token in tokens {
        let error = house.read(&token).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated), "{token}: {error:?}");
    }
    house.read(&good).await.unwrap();
    let without = authenticator(&house.database, &keys(), Issuers::default());
    let token = SecretString::from(good);
    assert!(
        without.authenticate(&token, "", Utc::now()).await.is_err(),
        "nobody is trusted unless configured"
    );
}

#[tokio::test]
async fn a_key_serves_its_own_issuer_only() {
    let (one, other) =
        (SigningKey::new("one", SigningKeyKind::P256), SigningKey::new("two", SigningKeyKind::P256));
    let (first, second) = (KeyServer::start(&[&one]), KeyServer::start(&[&other]));
    let (database, stop) = (team().await, CancellationToken::new());
    let issuers = [
        settings("first", ISSUER, &first.url(), &json!({})),
        settings("second", "https://other.example.com/", &second.url(), &json!({})),
    ];
    let issuers = Issuers::start(&issuers, &Authorities::default(), &stop, &TaskTracker::new()).unwrap();
    let authenticator = authenticator(&database, &keys(), issuers);
    let read = async |key: &SigningKey, issuer: &str| {
        let token = SecretString::from(key.sign(&claims(&json!({ "iss": issuer }))));
        authenticator.authenticate(&token, "", Utc::now()).await.map(|identity| identity.caller.key_id).ok()
    };
    assert_eq!(read(&one, ISSUER).await.as_deref(), Some("first:t-1"));
    assert_eq!(read(&other, "https://other.example.com/").await.as_deref(), Some("second:t-1"));
    assert_eq!(read(&other, ISSUER).await, None);
    assert_eq!(read(&one, "https://other.example.com/").await, None);
    stop.cancel();
}

fn keeping(refresh_ms: u64, stale_ms: u64, gap_ms: u64) -> Keeping {
    let ms = Duration::from_millis;
    let (refresh, stale, gap, timeout) = (ms(refresh_ms), ms(stale_ms), ms(gap_ms), ms(500));
    Keeping { refresh, stale, gap, least: gap, burst: 6, timeout }
}

fn jwks(server: &KeyServer, keeping: Keeping) -> Jwks {
    Jwks::new("okta", server.url().parse().unwrap(), keeping, &Authorities::default()).unwrap()
}

async fn find(jwks: &Jwks, id: &str) -> Option<Miss> {
    jwks.find(Some(id), ("ES256", Algorithm::ES256)).await.err()
}

const LONG: u64 = 600_000;

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it_and_guesses_cost_one_reading() {
    let (old, new) =
        (SigningKey::new("old", SigningKeyKind::P256), SigningKey::new("new", SigningKeyKind::P256));
    let server = KeyServer::start(&[&old]);
    let keys = jwks(&server, keeping(LONG, LONG, LONG));
    assert_eq!((find(&keys, "old").await, server.requests()), (None, 1));
    for guess in 0..50 {
        assert_eq!(find(&keys, &guess.to_string()).await, Some(Miss::Unknown));
    }
    assert_eq!(server.requests(), 1, "not before the gap is over");
    let keys = jwks(&server, keeping(LONG, LONG, 0));
    assert_eq!(find(&keys, "old").await, None);
    server.rotate(&[&old, &new]);
    assert_eq!((find(&keys, "new").await, find(&keys, "old").await), (None, None));
    // One that is known asks for nothing, and so a key that was taken out goes with the next reading.
    let before = server.requests();
    server.rotate(&[&new]);
    assert_eq!((find(&keys, "old").await, server.requests()), (None, before));
    assert_eq!(find(&keys, "unknown").await, Some(Miss::Unknown));
    assert_eq!((find(&keys, "old").await, find(&keys, "new").await), (Some(Miss::Unknown), None));
}

#[tokio::test]
async fn guesses_cost_a_few_readings_and_no_more_however_many_there_are() {
    let key = SigningKey::new("key", SigningKeyKind::P256);
    let server = KeyServer::start(&[&key]);
    let keys = jwks(&server, Keeping { least: Duration::ZERO, ..keeping(LONG, LONG, LONG) });
    assert_eq!(find(&keys, "key").await, None);
    for guess in 0..200 {
        assert_eq!(find(&keys, &guess.to_string()).await, Some(Miss::Unknown));
    }
    assert_eq!(server.requests(), 1 + 6);
}

#[tokio::test]
async fn a_token_of_a_key_that_was_just_rotated_in_is_taken_at_once() {
    let (old, new) =
        (SigningKey::new("old", SigningKeyKind::P256), SigningKey::new("new", SigningKeyKind::P256));
    let house = House::new(&[&old]).await;
    house.read(&old.sign(&claims(&json!({})))).await.unwrap();
    // Readings are a second apart at least.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    house.server.rotate(&[&new]);
    let first = house.read(&new.sign(&claims(&json!({})))).await.unwrap();
    assert_eq!(first.caller.agent, "scout");
    house.refused(&old.sign(&claims(&json!({})))).await;
}

#[tokio::test]
async fn many_that_wait_for_keys_share_one_reading() {
    let key = SigningKey::new("key", SigningKeyKind::P256);
    let server = KeyServer::start(&[&key]);
    let keys = Arc::new(jwks(&server, keeping(LONG, LONG, LONG)));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let keys = Arc::clone(&keys);
        all.spawn(async move { find(&keys, "key").await });
    }
    assert!(all.join_all().await.into_iter().all(|miss| miss.is_none()));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn keys_are_read_again_by_themselves() {
    let (old, new) =
        (SigningKey::new("old", SigningKeyKind::P256), SigningKey::new("new", SigningKeyKind::P256));
    let server = KeyServer::start(&[&old]);
    let keys = Arc::new(jwks(&server, keeping(20, LONG, LONG)));
    assert_eq!(find(&keys, "old").await, None);
    let (stop, kept) = (CancellationToken::new(), Arc::clone(&keys));
    let task = tokio::spawn({
        let stop = stop.clone();
        async move { kept.keep_read(stop).await }
    });
    server.rotate(&[&new]);
    let gone = async {
        while find(&keys, "old").await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    assert_eq!(find(&keys, "new").await, None);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_serve_for_a_while_and_not_for_ever() {
    let key = SigningKey::new("key", SigningKeyKind::P256);
    let server = KeyServer::start(&[&key]);
    let keys = jwks(&server, keeping(LONG, 1_500, 0));
    assert_eq!(find(&keys, "key").await, None);
    let set = json!({ "keys": [key.public] }).to_string();
    let huge = format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(1024 * 1024));
    let many = json!({ "keys": vec![&key.public; 101] }).to_string();
    for (status, body) in [(500, ""), (302, set.as_str()), (200, "<html>"), (200, &*huge), (200, &*many)] {
        server.answer(status, body, Duration::ZERO);
        assert_eq!(find(&keys, "another").await, Some(Miss::Unknown), "{status}");
        assert_eq!(find(&keys, "key").await, None, "the old ones stay");
    }
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert_eq!(find(&keys, "key").await, Some(Miss::Unavailable));
    // Slower than is waited for.
    server.answer(200, &set, Duration::from_secs(2));
    assert_eq!(find(&keys, "key").await, Some(Miss::Unavailable));
    server.answer(200, &set, Duration::ZERO);
    assert_eq!(find(&keys, "key").await, None);
}

#[tokio::test]
async fn without_the_keys_of_its_issuer_no_token_is_taken() {
    let away = House::with(&[rsa()], &json!({"jwks_url": "http://127.0.0.1:1/keys"})).await;
    let cause = away.refused(&rsa().sign(&claims(&json!({})))).await;
    assert!(cause.contains("keys of its issuer cannot be read"), "{cause}");
}
