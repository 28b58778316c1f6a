//! Watches: nothing is left out, whatever the watch began with and however slow it is.

use std::time::Duration;

use ::store::Database;
use futures_util::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use super::{adopt::write_old, event, event_of, journal};
use crate::{
    Error,
    adopt::adopt_some,
    append::Journal,
    store::Filter,
    watch::{Limits, Step, Watches},
};

const LIMITS: Limits =
    Limits { heartbeat: Duration::from_secs(1), longest: Duration::from_mins(1), most: 4, most_of_team: 2 };

fn watches(database: &Database, journal: &Journal, limits: Limits) -> (Watches, CancellationToken) {
    let stop = CancellationToken::new();
    let watches = Watches::new(database.clone(), journal.subjects.clone(), limits, stop.clone());
    tokio::spawn(watches.clone().keep_fed());
    (watches, stop)
}

/// Positions of the records that come, until there are so many; a stream that ends earlier is a failure.
async fn positions(stream: impl Stream<Item = Result<Step, Error>>, count: usize) -> Vec<i64> {
    let mut stream = std::pin::pin!(stream);
    let mut positions = Vec::new();
    let all = async {
        while positions.len() < count {
            let step = stream.next().await.unwrap().unwrap();
            assert!(step.rows.iter().all(|row| row.sequence <= step.position));
            positions.extend(step.rows.iter().map(|row| row.sequence));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("they come within seconds");
    positions
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_from_now_from_before_and_from_the_middle_miss_nothing_while_many_write() {
    let database = testkit::database(&[crate::schema()]).await;
    let journals = [journal(&database), journal(&database)];
    journals[0].append((0..700).map(|_| event("team", "a")).collect()).await.unwrap();
    let (watches, _stop) = watches(&database, &journals[0], LIMITS);
    let from = |after| watches.watch("team", Filter::default(), after);
    let begun = from(700).await.unwrap();
    let from_now = tokio::spawn(positions(begun, 1_000));
    let from_first = tokio::spawn(positions(from(1).await.unwrap(), 1_699));
    let writers = (0..10).map(|writer| {
        let journal = journals[writer % 2].clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                journal.append((0..5).map(|_| event("team", "b")).collect()).await.unwrap();
                journal.append(vec![event("other", "b")]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(from_now.await.unwrap(), (701..=1_700).collect::<Vec<i64>>());
    assert_eq!(from_first.await.unwrap(), (2..=1_700).collect::<Vec<i64>>());
}

/// A process of the version before writes as well: what it wrote is moved later, to its own position.
#[tokio::test]
async fn what_an_older_version_wrote_is_waited_for_and_told_in_its_place() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    journal.append(vec![event("team", "a")]).await.unwrap();
    let (watches, _stop) = watches(&database, &journal, LIMITS);
    let watch = |team: &'static str, after| watches.watch(team, Filter::default(), after);
    let mut live = std::pin::pin!(watch("team", 1).await.unwrap());
    let mut witness = std::pin::pin!(watch("other", 0).await.unwrap());
    witness.next().await.unwrap().unwrap();
    write_old(&database, &event("team", "old"), "").await;
    journal.append(vec![event("team", "new")]).await.unwrap();
    for position in 1..=2 {
        // With the second one, the first look at all teams is over.
        journal.append(vec![event("other", "a")]).await.unwrap();
        assert_eq!(positions(witness.as_mut(), 1).await, [position]);
    }
    // One that begins now has to read for itself what it has not seen.
    let behind = watch("team", 1).await.unwrap();
    let mut connection = database.pool().unwrap().acquire().await.unwrap();
    assert_eq!(adopt_some(&mut connection, &journal.subjects).await.unwrap(), 1);
    assert_eq!(positions(live.as_mut(), 2).await, [2, 3]);
    assert_eq!(positions(behind, 2).await, [2, 3]);
}

#[tokio::test]
async fn a_watch_that_is_slow_catches_up() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let (watches, _stop) = watches(&database, &journal, LIMITS);
    let mut slow = std::pin::pin!(watches.watch("team", Filter::default(), 0).await.unwrap());
    assert_eq!(slow.next().await.unwrap().unwrap().position, 0, "where it begins is said at once");
    // More batches than wait for anybody, as a watch beside it is told them one by one.
    let mut quick = std::pin::pin!(watches.watch("team", Filter::default(), 0).await.unwrap());
    quick.next().await.unwrap().unwrap();
    for position in 1..=40 {
        journal.append(vec![event("team", "a")]).await.unwrap();
        assert_eq!(positions(quick.as_mut(), 1).await, [position]);
    }
    assert_eq!(positions(slow, 40).await, (1..=40).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_watch_tells_what_fits_and_finds_a_user_who_was_not_known() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let (watches, _stop) = watches(&database, &journal, LIMITS);
    let of_ada = Filter { user: Some("ada".into()), ..Filter::default() };
    let of_b = Filter { agent_id: Some("b".into()), ..Filter::default() };
    let of_ada = tokio::spawn(positions(watches.watch("team", of_ada, 0).await.unwrap(), 2));
    let of_b = tokio::spawn(positions(watches.watch("team", of_b, 0).await.unwrap(), 1));
    let events =
        vec![event_of("team", "bob"), event_of("team", "ada"), event("team", "b"), event_of("team", "ada")];
    for event in events {
        journal.append(vec![event]).await.unwrap();
    }
    assert_eq!(of_ada.await.unwrap(), [2, 4]);
    assert_eq!(of_b.await.unwrap(), [3]);
}

#[tokio::test]
async fn places_are_bounded_signs_of_life_come_and_a_watch_ends_where_it_can_go_on() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let limits =
        Limits { heartbeat: Duration::from_millis(50), longest: Duration::from_millis(300), ..LIMITS };
    let (watches, stop) = watches(&database, &journal, limits);
    let watch = |team: &'static str| watches.watch(team, Filter::default(), 0);
    let (first, _second) = (watch("a").await.unwrap(), watch("a").await.unwrap());
    assert!(matches!(watch("a").await.err(), Some(Error::TooManyWatches { whose: "this team", most: 2 })));
    let (_third, fourth) = (watch("b").await.unwrap(), watch("c").await.unwrap());
    assert!(matches!(watch("d").await.err(), Some(Error::TooManyWatches { whose: "this process", .. })));
    let steps: Vec<_> = first.collect().await;
    assert!(steps.len() > 2, "signs of life");
    let last = steps.last().unwrap();
    assert!(matches!(last, Err(Error::WatchTooLong { after: 0, .. })), "{last:?}");
    let again = watch("a").await.unwrap();
    stop.cancel();
    let steps: Vec<_> = again.collect().await;
    assert!(matches!(steps.last(), Some(Err(Error::ShuttingDown))));
    drop(fourth);
    assert!(matches!(watches.watch("a", Filter::default(), -1).await.err(), Some(Error::Invalid { .. })));
}
