//! Data keys are wrapped under a new key however many there are, and whichever process dies while it does so.

use super::{house::write_keys, *};

/// What is wrapped: by the old key, and by the new one.
const OLD: &str = "SELECT (SELECT count(*) FROM registry.credential_version WHERE key_id = 'k1')
                        + (SELECT count(*) FROM registry.credential WHERE digest_key_id = 'k1')";
const NEW: &str = "SELECT (SELECT count(*) FROM registry.credential_version WHERE key_id = 'k2')
                        + (SELECT count(*) FROM registry.credential WHERE digest_key_id = 'k2')";
/// What comes before the version of key-070, in the order in which it is done: of key-070 only what digests are made
/// with.
const BEFORE: &str = "SELECT (SELECT count(*) FROM registry.credential_version WHERE name < 'key-070')
                           + (SELECT count(*) FROM registry.credential
                              WHERE digest_key IS NOT NULL AND name <= 'key-070')";
/// Bytes of what the first process has done, as far as they tell whether it was done again.
const DONE: &str = "SELECT sum(hashtext(encode(wrapped_key, 'hex'))) FROM registry.credential_version
                    WHERE name < 'key-070'";

#[tokio::test]
async fn what_a_dead_process_left_is_wrapped_anew_by_another_over_every_page() {
    let house = House::new().await;
    for number in 0..130 {
        house.put(&format!("key-{number:03}"), key(&format!("api-key-{number:03}"))).await.unwrap();
    }
    let (all, before) = (house.number(OLD).await, house.number(BEFORE).await);
    assert!(before > 100 && all > before + 100, "it dies in another page than the first and the last");

    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("keys");
    write_keys(&key_file, &["k2", "k1"]);
    let config = crate::CredentialConfig { key_file, ..house.config.credentials.clone() };
    // It stands still before this version until it is killed.
    let mut held = house.database.pool().unwrap().begin().await.unwrap();
    let hold = "SELECT FROM registry.credential_version WHERE name = 'key-070' FOR UPDATE";
    sqlx::query(hold).execute(&mut *held).await.unwrap();
    let first = house.credentials_with(&config);
    let killed = tokio::spawn(async move { first.rewrap().await });
    house.until_number(NEW, before).await;
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    assert_eq!((house.number(NEW).await, house.number(OLD).await), (before, all - before));
    let done = house.number(DONE).await;
    held.rollback().await.unwrap();

    let others = [house.credentials_with(&config), house.credentials_with(&config)];
    let (one, two) = tokio::join!(others[0].rewrap(), others[1].rewrap());
    one.and(two).unwrap();
    assert_eq!((house.number(NEW).await, house.number(OLD).await), (all, 0));
    assert_eq!(house.number(DONE).await, done, "what was done is not done again");

    write_keys(&config.key_file, &["k2"]);
    let last = house.credentials_with(&config);
    for number in [0, 69, 70, 71, 129] {
        let resolved = last.resolve("team", &format!("key-{number:03}"), 0).await.unwrap();
        let crate::credentials::Material::ApiKey(given) = resolved.material else { panic!("no key") };
        assert_eq!(given.expose(), format!("api-key-{number:03}"));
    }
    house.stop().await;
}
