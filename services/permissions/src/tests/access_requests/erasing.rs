//! Access requests of a user who is erased: the words go, what was decided stays, and nothing that was allowed for them
//! is allowed any more.

use super::*;
use crate::{erase_user::erase, store::Subject};

async fn anywhere(database: &Database, what: &str) -> Vec<String> {
    let pool = database.pool().unwrap();
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT format('%I.%I', table_schema, table_name), column_name::text FROM information_schema.columns
         WHERE table_schema = 'permissions'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut found = Vec::new();
    for (table, column) in columns {
        let asked = format!(
            "SELECT count(*) FROM {table} t WHERE position($1 IN t.{column:?}::text) > 0
             OR position(encode(convert_to($1, 'UTF8'), 'hex') IN t.{column:?}::text) > 0"
        );
        let count: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(asked)).bind(what).fetch_one(pool).await.unwrap();
        if count > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

fn subject(user: &str) -> Subject {
    let before = noon() + TimeDelta::hours(1);
    Subject { team: "t".into(), user: user.into(), before, erasure: types::new_id() }
}

#[tokio::test]
async fn the_words_go_what_was_decided_stays_and_nothing_is_allowed_for_them_any_more() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    sqlx::query(
        "INSERT INTO permissions.webhook (team_id, name, url, secret, create_time)
         VALUES ('t', 'w', 'https://example.com/', '', now())",
    )
    .execute(place.database.pool().unwrap())
    .await
    .unwrap();
    let (arguments, other) = (json!({"n": "canary"}), json!({"n": 2}));
    // Asked for first: what is approved afterwards serves every call of the tool.
    let pending = place.ask(&scout(), wanted(&json!({"n": "canary 2"}))).await.unwrap();
    let approved = place.approved(&arguments, wire::ApprovalScope::Tool).await;
    let bob = Caller { user: "bob".into(), ..scout() };
    let of_bob = place.ask(&bob, wanted(&other)).await.unwrap();
    assert_eq!(place.decided_on(&arguments).await, None);
    assert!(place.number("SELECT count(*) FROM permissions.delivery").await >= 4);
    let ann = subject("ann");
    // What was decided after the end time is told of a request from before it.
    sqlx::query("UPDATE permissions.delivery SET create_time = $1 WHERE body::jsonb #>> '{data,id}' = $2")
        .bind(ann.before + TimeDelta::hours(1))
        .bind(approved.request_id.to_string())
        .execute(place.database.pool().unwrap())
        .await
        .unwrap();
    let (erased, done) = erase(&place.database, &place.desk.teams, &ann, noon()).await.unwrap();
    assert_eq!(erased.access_requests, 2);
    assert!(erased.deliveries >= 3, "{erased:?}");
    assert!(!done, "events that name them still wait");
    assert_eq!(place.decided_on(&arguments).await, Some(ErrorReason::ApprovalRequired));
    let row = place.get(&root(), approved.request_id, noon()).await.unwrap();
    assert_eq!((row.state.as_str(), row.decided_by.as_deref()), ("expired", Some("root")));
    assert_eq!(
        (row.end_user.as_str(), row.arguments_json.as_str(), row.justification.as_str()),
        ("", "{}", "")
    );
    assert_eq!(place.get(&root(), pending.request_id, noon()).await.unwrap().state, "expired");
    assert_eq!(place.get(&root(), of_bob.request_id, noon()).await.unwrap(), of_bob);
    // The relay takes them; then nothing is left.
    sqlx::query("DELETE FROM permissions.outbox").execute(place.database.pool().unwrap()).await.unwrap();
    let (again, done) = erase(&place.database, &place.desk.teams, &ann, noon()).await.unwrap();
    assert_eq!((again, done), (erased, true), "the same again counts nothing twice");
    for what in ["ann", "canary"] {
        assert_eq!(anywhere(&place.database, what).await, Vec::<String>::new(), "{what}");
    }
    assert!(!anywhere(&place.database, "bob").await.is_empty());
    // What is asked for them from now on is theirs again, and of no earlier erasure.
    let anew = place.ask_at(&scout(), wanted(&arguments), noon() + TimeDelta::hours(2)).await.unwrap();
    erase(&place.database, &place.desk.teams, &ann, noon()).await.unwrap();
    assert_eq!(place.get(&root(), anew.request_id, noon()).await.unwrap().end_user, "ann");
}
