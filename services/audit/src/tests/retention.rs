//! The end of retention: what goes, what stays, and that it is told.

use ::store::Database;
use chrono::{DateTime, Months, TimeDelta, Utc};
use proto::audit::v1::{Action, Event};

use super::{
    event_of, journal,
    query::{auditor, event_at, pages},
    trail,
    trees::{Keys, Process, count, settings},
};
use crate::{
    append::Journal,
    checkpoints::Standing,
    config::RetentionDays,
    holds::{self, NewHold},
    prove,
    query::query,
    retention::{Ended, apply, digest_of},
    store::{Filter, ended_list, tree_get},
};

const DAYS: RetentionDays = RetentionDays { public: 30, internal: 0, confidential: 0, restricted: 0 };

/// The first day of this month, and when all of it has been kept for long enough.
fn month() -> (DateTime<Utc>, DateTime<Utc>) {
    let now = Utc::now();
    let first = now.date_naive().format("%Y-%m-01T12:00:00Z").to_string().parse::<DateTime<Utc>>().unwrap();
    (first, first + Months::new(1) + TimeDelta::days(32))
}

/// Records of two teams, public and internal by turns, some for an end user.
async fn filled(journal: &Journal) {
    let (first, _) = month();
    for n in 0..30 {
        let mut drafts =
            vec![event_at("team", "a", first), event_at("other", "b", first), event_of("team", "ada")];
        drafts[2].record.id = event_at("team", "c", first).record.id;
        drafts[2].record.event_time = first;
        drafts[2].record.intent_time = Some(first);
        for draft in &mut drafts {
            draft.record.classification = if n % 3 == 0 { "internal" } else { "public" }.into();
        }
        journal.append(drafts).await.unwrap();
    }
}

async fn public(database: &Database, team: &str) -> i64 {
    let statement =
        format!("SELECT count(*) FROM audit.record WHERE classification = 'public' AND team_id = '{team}'");
    count(database, Box::leak(statement.into_boxed_str())).await
}

async fn told(database: &Database, journal: &Journal, team: &str) -> Vec<Event> {
    let found =
        query(database, &pages(), &journal.subjects, &auditor(team), Filter::default(), (1_000, "")).await;
    let events = journal.subjects.events(found.unwrap().rows).await.unwrap();
    events.into_iter().filter(|event| event.action() == Action::RetentionApplied).collect()
}

/// The positions that the trail says have ended, by the event that tells of them.
async fn ended(database: &Database, team: &str) -> Vec<i64> {
    let ranges = ended_list(database.pool().unwrap(), team, (0, i64::MAX)).await.unwrap();
    ranges.iter().flat_map(|range| range.first_sequence..=range.last_sequence).collect()
}

#[tokio::test]
async fn a_month_that_is_over_goes_as_a_whole_and_proofs_stay() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    filled(&journal).await;
    let (first, over) = month();
    assert_eq!(apply(&database, &journal, DAYS, over).await.unwrap(), [], "nothing is signed yet");
    let keys = Keys::new();
    let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
    process.sequence().await;
    let before: Vec<_> = trail(&database, &journal, "team").await;
    let public_ones: Vec<i64> = before.iter().filter(|e| e.sensitivity == 1).map(|e| e.sequence).collect();
    let tree = tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap();
    assert_eq!(apply(&database, &journal, DAYS, over - TimeDelta::days(3)).await.unwrap(), [], "too early");
    let done = apply(&database, &journal, DAYS, over).await.unwrap();
    let name = first.format("%Y-%m").to_string();
    assert_eq!(done, [Ended { month: name.clone(), classification: "public", records: 60, held: 0 }]);
    assert_eq!((public(&database, "team").await, public(&database, "other").await), (0, 0));
    let tables =
        format!("SELECT count(*) FROM pg_tables WHERE tablename = 'record_{}_public'", first.format("%Y_%m"));
    assert_eq!(count(&database, Box::leak(tables.into_boxed_str())).await, 0, "the table is dropped");
    // It is told, exactly, once a team.
    let events = told(&database, &journal, "team").await;
    assert_eq!((events.len(), told(&database, &journal, "other").await.len()), (1, 1));
    let said: serde_json::Value = serde_json::from_str(&events[0].message).unwrap();
    let expected = serde_json::json!({
        "classification": "public", "month": name, "records": 40, "digest": digest_of(&public_ones)
    });
    assert_eq!(said, expected);
    assert_eq!(ended(&database, "team").await, public_ones);
    assert_eq!(apply(&database, &journal, DAYS, over).await.unwrap(), [], "once");
    // The tree goes on, and what it was is still part of it.
    process.sequence().await;
    let proof = prove::consistency(&database, "team", tree.size, 0).await.unwrap();
    let roots = (proof.first_root, proof.second_root);
    let size = u64::try_from(tree.size).unwrap();
    trail::verify_consistency(size, proof.second_size, &roots.0, &roots.1, &proof.hashes).unwrap();
    assert_eq!(roots.0.as_bytes().as_slice(), tree.root);
    assert_eq!(count(&database, "SELECT sum(calls)::bigint FROM audit.usage_day").await, 90, "sums stay");
}

#[tokio::test]
async fn a_query_beyond_the_retention_says_from_when_on_everything_is_there() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    filled(&journal).await;
    let keys = Keys::new();
    Process::start(&database, &keys.checkpoints(settings())).await.sequence().await;
    let (first, over) = month();
    apply(&database, &journal, DAYS, over).await.unwrap();
    let next_month =
        (first + Months::new(1)).date_naive().format("%Y-%m-01T00:00:00Z").to_string().parse().unwrap();
    let since = async |filter: Filter| {
        let found = query(&database, &pages(), &journal.subjects, &auditor("team"), filter, (5, "")).await;
        found.unwrap().available_start_time
    };
    let of =
        |classification: &str| Filter { classification: Some(classification.into()), ..Filter::default() };
    assert_eq!(since(Filter::default()).await, Some(next_month));
    assert_eq!(since(of("public")).await, Some(next_month));
    assert_eq!(since(of("internal")).await, None);
    assert_eq!(since(Filter { start_time: Some(next_month), ..of("public") }).await, None);
}

#[tokio::test]
async fn a_hold_keeps_its_records_and_only_those_until_it_is_released() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    filled(&journal).await;
    let keys = Keys::new();
    let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
    let (hold, caller, now) = ("case-7", auditor("team"), Utc::now());
    let new =
        NewHold { name: hold.into(), reason: "a case".into(), user: "ada".into(), ..NewHold::default() };
    holds::place(&database, &journal, &caller, new, now).await.unwrap();
    process.sequence().await;
    let (_, over) = month();
    let done = apply(&database, &journal, DAYS, over).await.unwrap();
    assert_eq!((done.len(), done[0].records, done[0].held), (1, 40, 20));
    assert_eq!((public(&database, "team").await, public(&database, "other").await), (20, 0));
    assert_eq!(apply(&database, &journal, DAYS, over).await.unwrap(), [], "nothing more ends under the hold");
    holds::release(&database, &journal, &caller, (hold, "it is over"), now).await.unwrap();
    let done = apply(&database, &journal, DAYS, over).await.unwrap();
    assert_eq!((done.len(), done[0].records, done[0].held), (1, 20, 0));
    assert_eq!(public(&database, "team").await, 0);
    assert_eq!(
        (told(&database, &journal, "team").await.len(), ended(&database, "team").await.len()),
        (2, 40)
    );
}

#[tokio::test]
async fn a_team_that_is_not_signed_keeps_its_own_records_and_no_others() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    filled(&journal).await;
    let checkpoints = Keys::new().checkpoints(settings());
    let mut process = Process::start(&database, &checkpoints).await;
    checkpoints.set_standing("team", Standing::Contradicted);
    process.sequence().await;
    let (_, over) = month();
    let done = apply(&database, &journal, DAYS, over).await.unwrap();
    assert_eq!((done.len(), done[0].records, done[0].held), (1, 20, 40));
    assert_eq!((public(&database, "team").await, public(&database, "other").await), (40, 0));
    assert_eq!(apply(&database, &journal, DAYS, over).await.unwrap(), [], "nothing more is signed");
    checkpoints.set_standing("team", Standing::Sound);
    process.sequence().await;
    let done = apply(&database, &journal, DAYS, over).await.unwrap();
    assert_eq!((done.len(), done[0].records, done[0].held), (1, 40, 0));
    assert_eq!(ended(&database, "other").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_end_a_month_once_while_events_come_in() {
    let database = testkit::database(&[crate::schema()]).await;
    let journals = [journal(&database), journal(&database)];
    filled(&journals[0]).await;
    let keys = Keys::new();
    Process::start(&database, &keys.checkpoints(settings())).await.sequence().await;
    let (first, over) = month();
    let writer = tokio::spawn({
        let journal = journals[0].clone();
        async move {
            for _ in 0..40 {
                let mut draft = event_at("team", "w", first);
                draft.record.classification = "internal".into();
                journal.append(vec![draft]).await.unwrap();
            }
        }
    });
    let processes = journals.map(|journal| {
        let database = database.clone();
        tokio::spawn(async move {
            let mut ended = 0;
            // A month that cannot be locked at once is tried again.
            for _ in 0..20 {
                if let Ok(done) = apply(&database, &journal, DAYS, over).await {
                    ended += done.iter().map(|ended| ended.records).sum::<i64>();
                }
            }
            ended
        })
    });
    let mut all = 0;
    for process in processes {
        all += process.await.unwrap();
    }
    writer.await.unwrap();
    assert_eq!((all, public(&database, "team").await), (60, 0));
    let journal = journal(&database);
    assert_eq!(told(&database, &journal, "team").await.len(), 1);
}
