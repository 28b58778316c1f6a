//! Credentials are sealed, rotated, revoked and given to services alone.

mod house;
mod leaks;
mod rotations;
mod times;
mod token_server;
mod tokens;
mod trail;
mod wrapping;

use ::rpc::{ErrorReason, reason_of};
use chrono::{TimeDelta, Utc};
use proto::registry::v1::{
    BasicSecret, CredentialKind, CredentialRotation, CredentialSecret, CredentialState,
    ListCredentialsRequest, MutualTlsSecret, PutCredentialRequest, ResolveCredentialRequest,
    credential_secret, resolve_credential_response::Kind as Given,
};
use tonic::Code;

use super::*;
use house::{House, key, states, timestamp};

const ACTIVE: CredentialState = CredentialState::Active;
const RETIRING: CredentialState = CredentialState::Retiring;
const REVOKED: CredentialState = CredentialState::Revoked;

#[tokio::test]
async fn a_credential_is_given_to_services_of_its_team_only() {
    let house = House::new().await;
    let kept = house.put("key", key("api-key-1")).await.unwrap();
    assert_eq!(kept.kind(), CredentialKind::ApiKey);
    assert_eq!(states(&kept), [(1, ACTIVE)]);
    let given = house.resolve("key", 0).await.unwrap();
    assert_eq!((given.version, given.kind), (1, Some(Given::ApiKey("api-key-1".into()))));
    assert!((1..=1_000).contains(&given.fresh_ms));

    let request = || ResolveCredentialRequest { name: "key".into(), refused_version: 0 };
    let asked = house.registry.outgoing.clone();
    let through = |caller: Caller| asked.request(&caller, Duration::from_mins(1), request());
    let other = through(admin("other").through("executor"));
    let refused = house.registry.client.clone().resolve_credential(other).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::NotFound, Some(ErrorReason::NotFound)));
    // The client of the tests speaks as a service, so that whoever is none is made by hand.
    let outsider = House::outsider(&admin("team"), request());
    let refused = house.registry.client.clone().resolve_credential(outsider).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let outsider = House::outsider(&operator("team"), PutCredentialRequest::default());
    let refused = house.registry.client.clone().put_credential(outsider).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let outsider = House::outsider(&operator("other"), ListCredentialsRequest {});
    let listed = house.registry.client.clone().list_credentials(outsider).await.unwrap().into_inner();
    assert!(listed.credentials.is_empty());
    house.stop().await;
}

#[tokio::test]
async fn every_kind_is_given_as_it_was_kept() {
    let house = House::new().await;
    let basic = BasicSecret { user: "u".into(), password: "pass:wörd".into() };
    house.put("basic", credential_secret::Kind::Basic(basic.clone())).await.unwrap();
    assert_eq!(house.resolve("basic", 0).await.unwrap().kind, Some(Given::Basic(basic)));

    let (pair, end) = pair();
    let kept = house.put("mtls", credential_secret::Kind::MutualTls(pair.clone())).await.unwrap();
    assert_eq!(kept.versions[0].expire_time.unwrap().seconds, end);
    assert_eq!(house.resolve("mtls", 0).await.unwrap().kind, Some(Given::MutualTls(pair.clone())));
    let foreign = MutualTlsSecret { private_key_pem: self::pair().0.private_key_pem, ..pair };
    let refused = house.put("mtls", credential_secret::Kind::MutualTls(foreign)).await.unwrap_err();
    assert!(refused.message().contains("private_key_pem does not belong"), "{refused}");
    let refused = house.put("mtls", key("api-key-0")).await.unwrap_err();
    assert!(refused.message().contains("mtls is of kind mutual_tls"), "{refused}");
    house.revoke("mtls", 0).await.unwrap();
    assert_eq!(house.put("mtls", key("api-key-0")).await.unwrap().kind(), CredentialKind::ApiKey);
    assert_eq!(house.resolve("mtls", 0).await.unwrap().kind, Some(Given::ApiKey("api-key-0".into())));
    house.stop().await;
}

#[tokio::test]
async fn two_versions_live_while_they_overlap_and_a_refused_one_is_not_given_again() {
    let house = House::new().await;
    house.put("key", key("api-key-1")).await.unwrap();
    let second = house.rotate("key", key("api-key-2")).await.unwrap();
    assert_eq!(states(&second), [(2, ACTIVE), (1, RETIRING)]);
    let given = |version: i32| Some(Given::ApiKey(format!("api-key-{version}")));
    for (refused, version) in [(0, 2), (2, 1), (1, 2)] {
        let answer = house.resolve("key", refused).await.unwrap();
        assert_eq!((answer.version, answer.kind), (version, given(version)), "{refused} was refused");
    }
    let third = house.rotate("key", key("api-key-3")).await.unwrap();
    assert_eq!(states(&third), [(3, ACTIVE), (2, RETIRING), (1, REVOKED)]);
    house.sql("UPDATE registry.credential_version SET retire_time = now() WHERE version = 2").await;
    assert_eq!(house.resolve("key", 3).await.unwrap().version, 3, "the other one is over");
    let over = house.until("key", |it| states(it)[1] == (2, REVOKED)).await;
    assert_eq!(states(&over)[0], (3, ACTIVE));

    let at_once = CredentialRotation { overlap_s: Some(0), ..CredentialRotation::default() };
    let request = PutCredentialRequest {
        secret: Some(secret(key("api-key-4"))),
        rotation: Some(at_once),
        ..named("key")
    };
    let fourth = house.put_request(request).await.unwrap();
    assert_eq!(states(&fourth)[..2], [(4, ACTIVE), (3, REVOKED)]);
    house.stop().await;
}

#[tokio::test]
async fn what_is_revoked_is_not_given_any_more_and_nothing_of_it_is_left() {
    let house = House::new().await;
    house.put("key", key("api-key-1")).await.unwrap();
    house.rotate("key", key("api-key-2")).await.unwrap();
    let after = house.revoke("key", 2).await.unwrap();
    assert_eq!(states(&after), [(2, REVOKED), (1, RETIRING)]);
    assert!(after.warning.contains("only version 1 is left"), "{}", after.warning);
    assert_eq!(house.resolve("key", 0).await.unwrap().version, 1);
    house.revoke("key", 0).await.unwrap();
    let refused = house.resolve("key", 0).await.unwrap_err();
    let expected = (Code::FailedPrecondition, Some(ErrorReason::CredentialUnavailable));
    assert_eq!((refused.code(), reason_of(&refused)), expected);
    let left = "SELECT count(*) FROM registry.credential_version
                WHERE sealed IS NOT NULL OR wrapped_key IS NOT NULL OR token IS NOT NULL";
    assert_eq!(house.number(left).await, 0);
    assert_eq!(house.revoke("key", 9).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(house.revoke("none", 0).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(house.rotate("none", key("api-key-0")).await.unwrap_err().code(), Code::NotFound);
    let again = house.put("key", key("api-key-3")).await.unwrap();
    assert_eq!(states(&again)[0], (3, ACTIVE));
    house.stop().await;
}

#[tokio::test]
async fn an_ended_version_is_never_given_and_the_end_is_told_ahead() {
    let house = House::new().await;
    let request = |days: i64| PutCredentialRequest {
        secret: Some(secret(key("api-key-0"))),
        expire_time: Some(timestamp(Utc::now() + TimeDelta::days(days))),
        ..named("key")
    };
    let refused = house.put_request(request(0)).await.unwrap_err();
    assert!(refused.message().contains("expire_time must be in the future"), "{refused}");
    assert_eq!(house.put_request(request(8)).await.unwrap().warning, "");
    let soon = house.put_request(request(6)).await.unwrap();
    assert!(soon.warning.contains("version 2 ends at"), "{}", soon.warning);
    assert_eq!(house.warnings().await.len(), 1);
    let end =
        "UPDATE registry.credential_version SET expire_time = now() + interval '300 ms' WHERE version = 2";
    house.sql(end).await;
    let answer = house.resolve("key", 0).await.unwrap();
    assert!(answer.fresh_ms <= 300 || answer.version == 1, "no longer than it lives: {answer:?}");
    house.sql("UPDATE registry.credential_version SET expire_time = now() WHERE version = 2").await;
    assert_eq!(house.resolve("key", 0).await.unwrap().version, 1);
    house.sql("UPDATE registry.credential_version SET expire_time = now() WHERE version = 1").await;
    assert_eq!(house.resolve("key", 0).await.unwrap_err().code(), Code::FailedPrecondition);
    let over = house.until("key", |it| states(it) == [(2, REVOKED), (1, REVOKED)]).await;
    assert!(over.warning.contains("no version may be used"), "{}", over.warning);
    house.stop().await;
}

#[tokio::test]
async fn twenty_at_once_over_two_processes_get_twenty_numbers_and_one_is_used() {
    let house = House::new().await;
    house.put("key", key("api-key-0")).await.unwrap();
    let other = registry(&house.config, &house.database);
    let rotations = (1..=20).map(|number| {
        let registry = if number % 2 == 0 { &house.registry } else { &other };
        house::rotate_by(registry, "key", key(&format!("api-key-{number}")))
    });
    for rotated in futures_util::future::join_all(rotations).await {
        rotated.unwrap();
    }
    let listed = house.list().await.remove(0);
    let versions: Vec<_> = states(&listed).into_iter().map(|(version, _)| version).collect();
    assert_eq!(versions, (2..=21).rev().collect::<Vec<_>>());
    let of = |state| states(&listed).into_iter().filter(|(_, each)| *each == state).count();
    assert_eq!((of(ACTIVE), of(RETIRING)), (1, 1));
    assert_eq!(states(&listed)[..2], [(21, ACTIVE), (20, RETIRING)]);
    other.stop().await;
    house.stop().await;
}

#[tokio::test]
async fn a_use_is_noted_to_the_minute_and_not_at_every_call() {
    let house = House::new().await;
    house.put("key", key("api-key-0")).await.unwrap();
    assert!(house.list().await[0].versions[0].last_used_time.is_none());
    house.resolve("key", 0).await.unwrap();
    let used = house.list().await[0].versions[0].last_used_time.unwrap();
    assert_eq!((used.seconds % 60, used.nanos), (0, 0));
    let writes = "SELECT xmin::text::bigint FROM registry.credential_version";
    let before = house.number(writes).await;
    for _ in 0..5 {
        house.resolve("key", 0).await.unwrap();
    }
    let minute = house.list().await[0].versions[0].last_used_time.unwrap();
    assert!(minute != used || house.number(writes).await == before);
    house.stop().await;
}

#[tokio::test]
async fn without_a_key_it_is_said_what_to_set_and_all_else_works() {
    let database = database().await;
    let house = House::over(database, |config| config.credentials.key_file = std::path::PathBuf::new());
    for refused in [
        house.put("key", key("api-key-0")).await.unwrap_err(),
        house.rotate("key", key("api-key-0")).await.unwrap_err(),
        house.resolve("key", 0).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("registry.credentials.key_file"), "{refused}");
    }
    assert!(house.list().await.is_empty());
    house.stop().await;
}

#[tokio::test]
async fn a_wrapping_key_is_replaced_while_everything_runs() {
    let house = House::new().await;
    house.put("key", key("api-key-0")).await.unwrap();
    let ids = "SELECT count(*) FROM registry.credential_version WHERE key_id = 'k2'";
    // First where it only opens, then where it wraps.
    house.write_keys(&["k1", "k2"]);
    house.rotate("key", key("api-key-2")).await.unwrap();
    assert_eq!(house.number(ids).await, 0);
    house.write_keys(&["k2", "k1"]);
    house.until_number(ids, 2).await;
    house.write_keys(&["k2"]);
    let other =
        House::over(house.database.clone(), |config| config.credentials = house.config.credentials.clone());
    assert_eq!(other.resolve("key", 0).await.unwrap().kind, Some(Given::ApiKey("api-key-2".into())));
    // A process that knows other keys only says which one it lacks, and gives nothing.
    let strange = House::over(house.database.clone(), |_| ());
    strange.write_keys(&["k9"]);
    let refused = strange.resolve("key", 0).await.unwrap_err();
    assert!(refused.message().contains("wrapping key k2"), "{refused}");
    for each in [strange, other, house] {
        each.stop().await;
    }
}

fn named(name: &str) -> PutCredentialRequest {
    PutCredentialRequest { name: name.into(), ..PutCredentialRequest::default() }
}

fn secret(kind: credential_secret::Kind) -> CredentialSecret {
    CredentialSecret { kind: Some(kind) }
}

fn admin(team: &str) -> Caller {
    Caller { role: Role::Admin, ..operator(team) }
}

/// A client certificate, and when it ends.
fn pair() -> (MutualTlsSecret, i64) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["client".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 2);
    let pair = MutualTlsSecret {
        certificate_pem: params.self_signed(&key).unwrap().pem(),
        private_key_pem: key.serialize_pem(),
        ca_pem: String::new(),
    };
    (pair, params.not_after.unix_timestamp())
}
