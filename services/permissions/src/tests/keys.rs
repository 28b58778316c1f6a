//! Keys, and the first start.

use ::rpc::{PageKey, ServiceError};
use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::{
    Bootstrap, Keys,
    authenticate::Authenticator,
    bootstrap,
    issue_key::{Issued, WantedKey},
    key_is_valid,
    list_grants::list_grants,
    store::GrantFilter,
    token::Issuers,
};

pub(super) fn keys() -> Keys {
    Keys::new(&SecretString::from("p".repeat(32)), "dev")
}

pub(super) fn authenticator(database: &Database, keys: &Keys, issuers: Issuers) -> Authenticator {
    Authenticator {
        database: database.clone(),
        keys: keys.clone(),
        issuers,
        uses: Arc::default(),
        failures: Arc::new(crate::failed_authentications::FailedAuthentications::new()),
    }
}

async fn authenticate(
    database: &Database,
    keys: &Keys,
    key: &SecretString,
    now: DateTime<Utc>,
) -> Result<Caller, Error> {
    let authenticator = authenticator(database, keys, Issuers::default());
    authenticator.authenticate(key, "192.0.2.1", now).await.map(|identity| identity.caller)
}

async fn issue_key(
    database: &Database,
    (team, agent): (&str, &str),
    ttl_s: i64,
    now: DateTime<Utc>,
) -> Result<Issued, Error> {
    let by = Caller { team: team.into(), ..caller("root", Role::Admin) };
    let wanted = WantedKey { agent: agent.into(), ttl_s, ..WantedKey::default() };
    crate::issue_key::issue_key(database, &keys(), &by, wanted, now).await
}

async fn revoke_key(database: &Database, team: &str, key_id: &str, now: DateTime<Utc>) -> Result<(), Error> {
    let by = Caller { team: team.into(), ..caller("root", Role::Admin) };
    crate::issue_key::revoke_key(database, &by, key_id, now).await
}

async fn failure(database: &Database, keys: &Keys, key: &str, now: DateTime<Utc>) -> String {
    let error = authenticate(database, keys, &SecretString::from(key), now).await.unwrap_err();
    format!("{:?} {:?} {}", error.kind(), error.reason(), error.public_message())
}

#[tokio::test]
async fn a_key_tells_who_calls_until_it_ends() {
    let database = team().await;
    let issued = issue_key(&database, ("t", "scout"), 60, noon()).await.unwrap();
    assert_eq!(issued.expire_time, Some(noon() + TimeDelta::seconds(60)));
    let last_moment = noon() + TimeDelta::seconds(60) - TimeDelta::microseconds(1);
    let owner = authenticate(&database, &keys(), &issued.key, last_moment).await.unwrap();
    assert_eq!((owner.team.as_str(), owner.agent.as_str()), ("t", "scout"));
    assert_eq!((owner.specialization.as_str(), owner.role), ("Researcher", Role::Agent));
    assert_eq!((owner.key_id, owner.service), (issued.key_id, None));
    for (agent, ttl) in [("nobody", 0), ("scout", -1), ("scout", i64::MAX)] {
        assert!(issue_key(&database, ("t", agent), ttl, noon()).await.is_err());
    }
}

#[tokio::test]
async fn every_failure_looks_the_same() {
    let database = team().await;
    let issue = async |agent, ttl| issue_key(&database, ("t", agent), ttl, noon()).await.unwrap();
    let (good, ends, revoked) = (issue("scout", 0).await, issue("scout", 60).await, issue("scout", 0).await);
    let of_disabled = issue("second", 0).await;
    disable(&database, "second").await;
    revoke_key(&database, "t", &revoked.key_id, noon()).await.unwrap();
    let text = |key: &SecretString| key.expose_secret().to_owned();
    let unknown = text(&keys().make().key);
    let other_pepper = Keys::new(&SecretString::from("q".repeat(32)), "dev");
    // The right id with another secret, and a checksum that fits.
    let swapped = {
        let (good, other) = (text(&good.key), text(&ends.key));
        let parts: Vec<&str> = good.split('_').collect();
        let body = format!("tc_dev_{}_{}", parts[2], other.split('_').nth(3).unwrap());
        format!("{body}_{:08x}", crc32fast::hash(body.as_bytes()))
    };
    let typo = text(&good.key).replace("tc_dev", "tc_dex");
    let later = noon() + TimeDelta::seconds(60);
    let same = "Unauthenticated Unauthenticated the API key or token is missing or not valid";
    for wrong in ["", "tc", &typo, &unknown, &swapped, &text(&revoked.key), &text(&of_disabled.key)] {
        assert_eq!(failure(&database, &keys(), wrong, noon()).await, same, "{wrong}");
    }
    assert_eq!(failure(&database, &keys(), &text(&ends.key), later).await, same);
    assert_eq!(failure(&database, &other_pepper, &text(&good.key), noon()).await, same);
    authenticate(&database, &keys(), &good.key, later).await.unwrap();
}

#[tokio::test]
async fn a_revocation_bites_at_once_and_only_in_its_own_team() {
    let database = team().await;
    let issued = issue_key(&database, ("t", "scout"), 0, noon()).await.unwrap();
    let stranger = revoke_key(&database, "other", &issued.key_id, noon()).await;
    assert!(matches!(stranger, Err(Error::NotFound { .. })), "{stranger:?}");
    assert!(key_is_valid(&database, &keys(), &issued.key).await.unwrap());
    for _ in 0..2 {
        revoke_key(&database, "t", &issued.key_id, noon()).await.unwrap();
        assert!(!key_is_valid(&database, &keys(), &issued.key).await.unwrap());
    }
}

#[tokio::test]
async fn the_key_is_nowhere_in_the_database() {
    let database = team().await;
    let issued = issue_key(&database, ("t", "scout"), 0, noon()).await.unwrap();
    let row: String = sqlx::query_scalar("SELECT k::text FROM permissions.api_key k")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    let secret = issued.key.expose_secret().split('_').nth(3).unwrap();
    assert!(row.contains(&issued.key_id) && !row.contains(secret), "{row}");
}

#[tokio::test]
async fn the_first_start_makes_what_is_needed_and_the_second_adds_only_a_key() {
    let database = testkit::database(&[crate::schema()]).await;
    let wanted = Bootstrap {
        team: "dev".into(),
        agent: "admin".into(),
        specialization: "Researcher".into(),
        tools: vec!["python_sandbox".into(), "http_request".into()],
    };
    let first = bootstrap(&database, &keys(), &wanted).await.unwrap();
    let owner = authenticate(&database, &keys(), &first, Utc::now()).await.unwrap();
    assert_eq!((owner.team.as_str(), owner.agent.as_str(), owner.role), ("dev", "admin", Role::Admin));
    let pages = PageKey::new(&SecretString::from("k"));
    let list = async || {
        list_grants(&database, &pages, &owner, GrantFilter::default(), (0, ""), Utc::now()).await.unwrap().0
    };
    let grants = list().await;
    let mut seeded: Vec<_> = grants
        .iter()
        .map(|listed| &listed.grant)
        .map(|grant| (grant.specialization.as_deref(), grant.tool_name.as_str(), grant.max_per_hour))
        .collect();
    seeded.sort_unstable();
    let expected = [
        (None, "http_request", 0),
        (None, "python_sandbox", 0),
        (Some("Analyzer"), "brave_web_search", 30),
        (Some("Analyzer"), "pandas_analyzer", 15),
        (Some("Content Creator"), "file_operations", 50),
        (Some("Researcher"), "brave_web_search", 30),
        (Some("Researcher"), "pandas_analyzer", 15),
        (Some("Technical Executor"), "file_operations", 50),
        (Some("Technical Executor"), "python_sandbox", 20),
    ];
    assert_eq!(seeded, expected);
    // A person takes one away: it stays away.
    revoke_permission(&database, "dev", grants[0].grant.grant_id, Utc::now()).await.unwrap();
    let second = bootstrap(&database, &keys(), &wanted).await.unwrap();
    assert!(key_is_valid(&database, &keys(), &first).await.unwrap());
    assert!(key_is_valid(&database, &keys(), &second).await.unwrap());
    assert_eq!(list().await.len(), expected.len() - 1);
}
