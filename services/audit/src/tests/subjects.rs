//! Whose payloads are sealed under which key, what is in the database in the clear, and what an erasure leaves.

use ::store::Database;
use chrono::{TimeDelta, Utc};
use proto::audit::v1::PayloadState;
use uuid::Uuid;

use super::{event, event_of, journal, key_file, records, trail, write_keys};
use crate::{Error, append::Journal, store, subjects::Subjects};

const CANARY: &str = "hunter2-canary";

/// Every row of every table of the service, as text and as the bytes of each column.
pub(crate) async fn holds(database: &Database, what: &str) -> Vec<String> {
    let pool = database.pool().unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'audit'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
             WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
        )
        .bind(&table)
        .fetch_all(pool)
        .await
        .unwrap();
        for (column, kind) in columns {
            let bytes = if kind == "bytea" {
                format!("{column:?}")
            } else {
                format!("convert_to({column:?}::text, 'UTF8')")
            };
            let asked = format!("SELECT count(*) FROM {table} WHERE position($1::bytea IN {bytes}) > 0");
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(asked))
                .bind(what.as_bytes())
                .fetch_one(pool)
                .await
                .unwrap();
            if count > 0 {
                found.push(format!("{table}.{column}"));
            }
        }
    }
    found
}

/// What an erasure does to the trail.
pub(crate) async fn erase(database: &Database, journal: &Journal, team: &str, user: &str) -> Option<Uuid> {
    let digest = journal.subjects.digest(team, user).await.unwrap();
    let mut connection = database.pool().unwrap().acquire().await.unwrap();
    let mut transaction = store::begin(&mut connection).await.unwrap();
    store::erasing_lock_in_txn(&mut transaction, team).await.unwrap();
    let subject: Option<Uuid> = sqlx::query_scalar(
        "UPDATE audit.subject SET wrapped_key = NULL, user_digest = NULL, erase_time = now()
         WHERE team_id = $1 AND user_digest = $2 RETURNING subject_id",
    )
    .bind(team)
    .bind(&digest)
    .fetch_optional(&mut *transaction)
    .await
    .unwrap();
    sqlx::query("UPDATE audit.record SET payload = NULL WHERE team_id = $1 AND subject_id = $2")
        .bind(team)
        .bind(subject)
        .execute(&mut *transaction)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO audit.erasure (team_id, id, subject_id, user_digest, reason, agent_id, request_id, request_time)
         VALUES ($1, $2, $3, $4, 'asked', 'a', '', $5)",
    )
    .bind(team)
    .bind(Uuid::now_v7())
    .bind(subject)
    .bind(&digest)
    .bind(Utc::now())
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    subject
}

/// An event of now: others are from a time before every erasure, or after.
fn of_now(team: &str, user: &str) -> crate::payload::Draft {
    let mut draft = event_of(team, user);
    draft.record.event_time = Utc::now();
    draft.record.intent_time = Some(Utc::now());
    draft
}

#[tokio::test]
async fn nothing_of_a_payload_is_in_the_database_in_the_clear() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let mut draft = event_of("team", &format!("{CANARY} ada"));
    draft.payload.message = CANARY.into();
    draft.payload.arguments_json = format!("{{\"password\":\"{CANARY}\"}}");
    draft.payload.arguments_digest = CANARY.into();
    draft.payload.result_digest = CANARY.into();
    draft.payload.result_summary_json = CANARY.into();
    let payload = draft.payload.clone();
    let mut shown = draft.clone();
    shown.record.id = types::new_id();
    shown.record.agent_id = "agent-canary".into();
    journal.append(vec![draft, shown]).await.unwrap();
    assert_eq!(holds(&database, CANARY).await, Vec::<String>::new());
    assert!(!holds(&database, "agent-canary").await.is_empty(), "the search finds what is there");
    let event = trail(&database, &journal, "team").await.remove(0);
    assert_eq!(
        (event.user, event.message, event.arguments_json, event.result_summary_json),
        (payload.user, payload.message, payload.arguments_json, payload.result_summary_json)
    );
}

#[tokio::test]
async fn a_user_has_one_pseudonym_a_team_and_none_is_told_from_a_name() {
    let database = testkit::database(&[crate::schema()]).await;
    let (one, other) = (journal(&database), journal(&database));
    one.append(vec![event_of("team", "ada"), event_of("team", "bob"), event_of("other", "ada")])
        .await
        .unwrap();
    other.append(vec![event_of("team", "ada")]).await.unwrap();
    let shown = trail(&database, &other, "team").await;
    let subject = |user: &str| {
        shown.iter().filter(|event| event.user == user).map(|event| &event.subject_id).collect::<Vec<_>>()
    };
    assert_eq!(subject("ada").len(), 2);
    assert_eq!(subject("ada")[0], subject("ada")[1]);
    assert_ne!(subject("ada")[0], subject("bob")[0]);
    assert_ne!(trail(&database, &one, "other").await[0].subject_id, *subject("ada")[0]);
    let found = one.subjects.find("team", "ada").await.unwrap().unwrap();
    assert_eq!(found.to_string(), *subject("ada")[0]);
    assert_eq!(one.subjects.find("team", "nobody").await.unwrap(), None);
    assert_ne!(
        one.subjects.digest("team", "ada").await.unwrap(),
        one.subjects.digest("other", "ada").await.unwrap()
    );
}

#[tokio::test]
async fn a_key_that_is_erased_never_seals_again_and_what_was_heard_before_stays_erased() {
    let database = testkit::database(&[crate::schema()]).await;
    // The second process holds the key in memory, and nobody tells it.
    let (one, other) = (journal(&database), journal(&database));
    other.append(vec![of_now("team", "ada"), of_now("team", "bob")]).await.unwrap();
    let mut late = of_now("team", "ada");
    late.payload.message = CANARY.into();
    // Begun before, ended after.
    let mut begun = of_now("team", "ada");
    begun.record.event_time = Utc::now() + TimeDelta::hours(1);
    begun.payload.message = CANARY.into();
    let pseudonym = erase(&database, &one, "team", "ada").await.unwrap();
    let both = vec![late, begun, of_now("team", "bob"), of_now("team", "ada")];
    assert_eq!(other.append(both).await.unwrap().new, 4);
    let shown = trail(&database, &other, "team").await;
    let erased = |event: &&proto::audit::v1::Event| event.payload_state() == PayloadState::Erased;
    assert_eq!(shown.iter().filter(erased).count(), 3, "{shown:?}");
    assert!(shown.iter().filter(erased).all(|event| event.subject_id == pseudonym.to_string()));
    let anew: Vec<_> = shown.iter().filter(|event| event.user == "ada").collect();
    assert_eq!(anew.len(), 1);
    assert_ne!(anew[0].subject_id, pseudonym.to_string(), "another pseudonym");
    assert_eq!(shown.iter().filter(|event| event.user == "bob").count(), 2);
    assert!(shown.iter().all(|event| event.message.is_empty()));
}

#[tokio::test]
async fn whoever_was_erased_before_the_trail_knew_them_leaves_nothing_by_what_comes_late() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let late = of_now("team", "eve");
    assert_eq!(erase(&database, &journal, "team", "eve").await, None);
    journal.append(vec![late]).await.unwrap();
    let event = trail(&database, &journal, "team").await.remove(0);
    assert_eq!((event.payload_state(), event.subject_id.as_str()), (PayloadState::Erased, ""));
    assert_eq!(journal.subjects.find("team", "eve").await.unwrap(), None, "no subject was made for it");
}

/// An erasure in the midst of many appends: whatever is written after it is under another pseudonym.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_under_load_leaves_no_payload_of_the_old_pseudonym() {
    let database = testkit::database(&[crate::schema()]).await;
    let journals = [journal(&database), journal(&database)];
    journals[0].append(vec![of_now("team", "ada")]).await.unwrap();
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let journal = journals[writer % 2].clone();
            tokio::spawn(async move {
                for _ in 0..30 {
                    journal.append(vec![of_now("team", "ada")]).await.unwrap();
                }
            })
        })
        .collect();
    let mut gone = Vec::new();
    for _ in 0..4 {
        gone.extend(erase(&database, &journals[0], "team", "ada").await);
        journals[1].append(vec![of_now("team", "ada")]).await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(gone.len(), 4);
    let kept = records(&database, "team").await;
    let left = kept.iter().filter(|row| row.subject_id.is_some_and(|id| gone.contains(&id)));
    assert_eq!(left.filter(|row| row.payload.is_some()).count(), 0);
    assert_eq!(kept.len(), 185);
}

#[tokio::test]
async fn a_wrapping_key_is_replaced_while_everything_runs() {
    let database = testkit::database(&[crate::schema()]).await;
    let file = key_file(&["k1"]);
    let old = Journal::start(&database, Subjects::new(database.clone(), &file));
    old.append(vec![event_of("team", "ada")]).await.unwrap();
    write_keys(&file, &["k2", "k1"]);
    let new = Journal::start(&database, Subjects::new(database.clone(), &file));
    new.append(vec![event_of("team", "bob")]).await.unwrap();
    assert_eq!(trail(&database, &new, "team").await[0].user, "ada", "what k1 wraps opens");
    // A process that has not read the file since finds k2 there.
    let shown = trail(&database, &old, "team").await;
    assert_eq!(shown[1].user, "bob");
    new.subjects.look_after().await.unwrap();
    let used: Vec<String> = sqlx::query_scalar("SELECT DISTINCT key_id FROM audit.subject")
        .fetch_all(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(used, ["k2"], "wrapped anew");
    write_keys(&file, &["k2"]);
    let last = Journal::start(&database, Subjects::new(database.clone(), &file));
    assert_eq!(trail(&database, &last, "team").await[0].user, "ada");
}

#[tokio::test]
async fn a_wrong_key_file_is_told_plainly_and_nothing_is_lost_or_sealed_under_it() {
    let database = testkit::database(&[crate::schema()]).await;
    journal(&database).append(vec![event_of("team", "ada")]).await.unwrap();
    let missing = key_file(&["k9"]);
    let without = Journal::start(&database, Subjects::new(database.clone(), &missing));
    let error = without.append(vec![event_of("team", "bob")]).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("k1") && told.contains("audit.key_file"), "{told}");
    let failed = ::rpc::delivery_failed(&::rpc::status(&error));
    assert!(failed.refused, "the sender keeps it, and sends what needs another key");
    let none = Journal::start(&database, Subjects::new(database.clone(), std::path::Path::new("")));
    let error = none.append(vec![event_of("team", "bob")]).await.unwrap_err();
    assert!(!::rpc::delivery_failed(&::rpc::status(&error)).refused, "nothing at all can be taken: {error}");
    let rows = records(&database, "team").await;
    let told = without.subjects.events(rows.clone()).await.unwrap_err().to_string();
    assert!(told.contains("k1") && told.contains("audit.key_file"), "{told}");
    let another = key_file(&["k9"]);
    std::fs::write(&another, format!("k1 {}\n", "ab".repeat(32))).unwrap();
    let wrong = Subjects::new(database.clone(), &another);
    let error = wrong.events(rows).await.unwrap_err();
    assert!(matches!(&error, Error::WrongKey(id) if id == "k1"), "{error}");
    assert!(
        wrong.look_after().await.is_err() && without.subjects.look_after().await.is_err(),
        "told in the log"
    );
    assert_eq!(records(&database, "team").await.len(), 1);
}

#[tokio::test]
async fn a_key_that_cannot_be_unwrapped_fails_what_needs_it_and_nothing_else() {
    let database = testkit::database(&[crate::schema()]).await;
    let before = journal(&database);
    let all =
        || vec![event_of("team", "ada"), event_of("team", "bob"), event("lost", "a"), event("other", "a")];
    before.append(all()).await.unwrap();
    let ada = before.subjects.find("team", "ada").await.unwrap();
    let damaged = sqlx::query(
        "UPDATE audit.subject SET wrapped_key = '\\x00'
         WHERE subject_id = $1 OR team_id = 'lost' AND user_digest = ''",
    );
    let damaged = damaged.bind(ada).execute(database.pool().unwrap()).await.unwrap();
    assert_eq!(damaged.rows_affected(), 2);
    let file = key_file(&["k2", "k1"]);
    let after = Journal::start(&database, Subjects::new(database.clone(), &file));
    for refused in [event_of("team", "ada"), event("lost", "a"), event_of("lost", "eve")] {
        // Alone or among others: the sender halves until it is alone.
        for events in [vec![refused.clone()], vec![event_of("team", "bob"), refused]] {
            let error = after.append(events).await.unwrap_err();
            assert!(matches!(&error, Error::WrongKey(id) if id == "k1"), "{error}");
            assert!(::rpc::delivery_failed(&::rpc::status(&error)).refused, "{error}");
        }
    }
    let others = vec![event_of("team", "bob"), event_of("team", "eve"), event("other", "a")];
    assert_eq!(after.append(others).await.unwrap().new, 3);
    // Nor does it keep the others from being wrapped anew.
    assert!(matches!(after.subjects.look_after().await, Err(Error::WrongKey(_))));
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM audit.subject WHERE key_id = 'k1'")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(left, 2);
}

#[tokio::test]
async fn a_key_that_another_process_remembers_opens_nothing_once_it_is_erased() {
    let database = testkit::database(&[crate::schema()]).await;
    let other = journal(&database);
    other.append(vec![of_now("team", "ada"), of_now("team", "bob")]).await.unwrap();
    let users = async || {
        let shown = trail(&database, &other, "team").await;
        shown.into_iter().map(|event| event.user).collect::<Vec<_>>()
    };
    assert_eq!(users().await, ["ada", "bob"]);
    let ada = other.subjects.find("team", "ada").await.unwrap().unwrap();
    let mut connection = database.pool().unwrap().acquire().await.unwrap();
    let mut transaction = store::begin(&mut connection).await.unwrap();
    // The payload is there still.
    store::subject_destroy_in_txn(&mut transaction, "team", ada, Utc::now()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(users().await, ["", "bob"]);
}
