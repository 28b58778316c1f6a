//! Legal holds: placed once, told of, and asked by whoever would take something away.

use ::store::Database;
use chrono::{TimeDelta, Utc};
use proto::audit::v1::Action;
use uuid::Uuid;

use super::{event_of, journal, query::auditor, trail};
use crate::{
    Error,
    append::Journal,
    holds::{self, NewHold},
    store::hold_of_subject,
};

fn new(name: &str) -> NewHold {
    NewHold { name: name.into(), reason: "a case".into(), ..NewHold::default() }
}

async fn place(database: &Database, journal: &Journal, new: NewHold) -> Result<holds::Hold, Error> {
    holds::place(database, journal, &auditor("team"), new, Utc::now()).await
}

async fn held(database: &Database, subject: Option<Uuid>) -> Option<String> {
    let mut connection = database.pool().unwrap().acquire().await.unwrap();
    hold_of_subject(&mut connection, "team", subject).await.unwrap()
}

#[tokio::test]
async fn a_hold_is_placed_once_told_of_and_released_once() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let case = NewHold { user: "ada lovelace".into(), ..new("case-7") };
    let hold = place(&database, &journal, case.clone()).await.unwrap();
    assert!(hold.row.subject_id.is_some(), "a user whom nobody knew has a pseudonym now");
    let again = place(&database, &journal, case.clone()).await.unwrap_err();
    assert!(matches!(&again, Error::AlreadyExists { name, .. } if name == "case-7"), "{again}");
    let listed = holds::list(&database, &journal, "team", false).await.unwrap();
    assert_eq!(listed, [hold]);
    assert_eq!(listed[0].user, "ada lovelace");
    assert!(holds::list(&database, &journal, "other", true).await.unwrap().is_empty());
    let release = async |name: &'static str| {
        holds::release(&database, &journal, &auditor("team"), (name, "it is over"), Utc::now()).await
    };
    assert!(matches!(release("case-8").await, Err(Error::NotThere { .. })));
    assert!(release("case-7").await.unwrap().row.release_time.is_some());
    assert!(matches!(release("case-7").await, Err(Error::NotThere { .. })));
    assert!(holds::list(&database, &journal, "team", false).await.unwrap().is_empty());
    assert_eq!(holds::list(&database, &journal, "team", true).await.unwrap().len(), 1);
    // A name may be taken again, once it is free.
    place(&database, &journal, case).await.unwrap();
    let events = trail(&database, &journal, "team").await;
    assert!(events.iter().all(|event| event.action() == Action::HoldChanged && event.user == "ada lovelace"));
    let told: Vec<&str> = events.iter().map(|event| event.message.as_str()).collect();
    let (placed, released) = ("hold case-7 was placed: a case", "hold case-7 was released: it is over");
    assert_eq!(told, [placed, released, placed]);
    let rows: Vec<String> = sqlx::query_scalar("SELECT h::text FROM audit.hold h")
        .fetch_all(database.pool().unwrap())
        .await
        .unwrap();
    let hex = "ada lovelace".bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert!(
        rows.iter().all(|row| !row.contains("ada lovelace") && !row.contains(&hex)),
        "no name is kept in clear"
    );
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let now = Some(Utc::now());
    for (wrong, of) in [
        (new(""), "name"),
        (new("case 7"), "name"),
        (new(&"x".repeat(65)), "name"),
        (NewHold { reason: " ".into(), ..new("x") }, "reason"),
        (NewHold { reason: "x".repeat(1_001), ..new("x") }, "reason"),
        (NewHold { start_time: now, end_time: now, ..new("x") }, "end_time"),
    ] {
        let refused = place(&database, &journal, wrong).await;
        assert!(matches!(&refused, Err(Error::Invalid { field, .. }) if field == of), "{refused:?}");
    }
}

#[tokio::test]
async fn a_subject_is_held_by_holds_that_are_about_them() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    journal.append(vec![event_of("team", "ada"), event_of("team", "bob")]).await.unwrap();
    let ada = journal.subjects.find("team", "ada").await.unwrap();
    let bob = journal.subjects.find("team", "bob").await.unwrap();
    assert_eq!((held(&database, ada).await, held(&database, None).await), (None, None));
    let at = trail(&database, &journal, "team").await[0].time.unwrap().seconds;
    let at = chrono::DateTime::from_timestamp(at, 0).unwrap();
    let cases = [
        (NewHold { user: "ada".into(), ..new("of-ada") }, [true, false, false]),
        (NewHold { agent_id: "a".into(), ..new("of-agent") }, [true, true, false]),
        (NewHold { agent_id: "z".into(), ..new("of-another") }, [false, false, false]),
        (NewHold { start_time: Some(at), ..new("since") }, [true, true, false]),
        (
            NewHold { end_time: Some(Utc::now() - TimeDelta::hours(1)), ..new("before") },
            [false, false, false],
        ),
        (NewHold { user: "bob".into(), agent_id: "a".into(), ..new("both") }, [false, true, false]),
        (new("everything"), [true, true, true]),
    ];
    for (hold, expected) in cases {
        let name = hold.name.clone();
        place(&database, &journal, hold).await.unwrap();
        for (subject, expected) in [ada, bob, None].into_iter().zip(expected) {
            assert_eq!(held(&database, subject).await, expected.then(|| name.clone()), "{name}");
        }
        holds::release(&database, &journal, &auditor("team"), (&name, "next"), Utc::now()).await.unwrap();
    }
}

#[tokio::test]
async fn a_hold_is_of_who_the_user_is_now_whatever_a_process_remembers() {
    let database = testkit::database(&[crate::schema()]).await;
    // The second process holds the key in memory, and nobody tells it.
    let (one, other) = (journal(&database), journal(&database));
    other.append(vec![event_of("team", "ada")]).await.unwrap();
    let erased = super::subjects::erase(&database, &one, "team", "ada").await.unwrap();
    let hold = place(&database, &other, NewHold { user: "ada".into(), ..new("case-7") }).await.unwrap();
    let now = one.subjects.find("team", "ada").await.unwrap();
    assert!(now.is_some() && now != Some(erased), "{now:?}");
    assert_eq!(hold.row.subject_id, now);
    assert_eq!(held(&database, now).await.as_deref(), Some("case-7"));
}
