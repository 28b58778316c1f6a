//! How entries come together, without a database: what is written alone, together, and later.

use std::{
    cell::Cell,
    fs,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use tokio::task::JoinSet;

use super::*;
use crate::{Database, LocalCluster, LocalOptions};

/// An entry that knows only its key, its lane and its size.
#[derive(Debug, Clone, Copy, Default)]
struct Numbered {
    key: usize,
    lane: u8,
    rows: usize,
    bytes: usize,
}

impl Entry for Numbered {
    const NAME: &'static str = "numbers";
    const MAX_ROWS: usize = 10;
    const MAX_BYTES: usize = 100;

    type Answer = ();
    type Desk = ();
    type Key = usize;

    fn key(&self) -> Option<usize> {
        (self.key > 0).then_some(self.key)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn lane(&self, (): &()) -> u8 {
        self.lane
    }

    async fn commit((): &mut (), _: &mut PgConnection, batch: &[&Self]) -> Result<Vec<Option<()>>, Error> {
        Ok(vec![Some(()); batch.len()])
    }
}

fn split<T>(entries: &[Numbered], of: impl Fn(&Numbered) -> T) -> (Vec<T>, Vec<T>) {
    let waiting = entries.iter().map(|entry| Waiting { entry: *entry, answer: oneshot::channel().0 });
    let (batch, later) = together(waiting.collect(), &());
    let all = |part: Vec<Waiting<Numbered>>| part.iter().map(|waiting| of(&waiting.entry)).collect();
    (all(batch), all(later))
}

#[test]
fn the_second_of_a_key_is_written_later_and_those_without_go_with_any() {
    let entries = [1, 2, 1, 0, 3, 0, 2].map(|key| Numbered { key, rows: 1, ..Numbered::default() });
    assert_eq!(split(&entries, |entry| entry.key), (vec![1, 2, 0, 3, 0], vec![1, 2]));
}

#[test]
fn a_batch_is_bounded_and_nothing_overtakes() {
    let entries = [4, 6, 1, 0].map(|rows| Numbered { rows, ..Numbered::default() });
    assert_eq!(split(&entries, |entry| entry.rows), (vec![4, 6], vec![1, 0]));
    let entries = [99, 1, 1, 0].map(|bytes| Numbered { bytes, rows: 1, ..Numbered::default() });
    assert_eq!(split(&entries, |entry| entry.bytes), (vec![99, 1], vec![1, 0]));
    let entries = [11, 1].map(|rows| Numbered { rows, bytes: 1_000, ..Numbered::default() });
    assert_eq!(split(&entries, |entry| entry.rows), (vec![11], vec![1]), "too large for any batch: alone");
}

#[test]
fn the_lane_of_the_oldest_goes_first() {
    let entries = [2, 0, 2, 1].map(|lane| Numbered { lane, rows: 1, ..Numbered::default() });
    assert_eq!(split(&entries, |entry| entry.lane), (vec![2, 2], vec![0, 1]));
}

/// How many wait at last when so many tasks ask, each after as many turns of its own.
async fn gathered(askers: &[usize]) -> usize {
    let queued = Arc::new(Mutex::new(0));
    for &turns in askers {
        let queued = Arc::clone(&queued);
        tokio::spawn(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            *queued.lock().unwrap() += 1;
        });
    }
    gather::<Numbered>(1, || *queued.lock().unwrap()).await;
    *queued.lock().unwrap()
}

#[tokio::test]
async fn those_ready_to_ask_are_waited_for_and_no_others() {
    assert_eq!(gathered(&[0; 8]).await, 8);
    // Each turn brings more, so the next is given too.
    assert_eq!(gathered(&[0, 0, 1, 1, 2]).await, 5);
    // Whoever must wait for something else first is not waited for.
    assert_eq!(gathered(&[0, 0, 3]).await, 2);
    assert_eq!(gathered(&[2]).await, 0);
}

#[tokio::test]
async fn turns_end_however_many_come_and_when_a_batch_is_full() {
    let (asked, grown) = (Cell::new(0), Cell::new(0));
    let growing = || {
        asked.set(asked.get() + 1);
        grown.set(grown.get() + 1);
        grown.get()
    };
    gather::<Numbered>(0, growing).await;
    assert_eq!(asked.get(), 2 * TURNS);
    asked.set(0);
    gather::<Numbered>(Numbered::MAX_ROWS, growing).await;
    assert_eq!(asked.get(), 1);
}

/// Counts what was written; its callers wait in a crowd.
struct Counted;

impl Entry for Counted {
    const NAME: &'static str = "counts";
    const MAX_ROWS: usize = 4;

    type Answer = usize;
    type Desk = usize;
    type Key = ();

    async fn commit(
        written: &mut usize,
        _: &mut PgConnection,
        batch: &[&Self],
    ) -> Result<Vec<Option<usize>>, Error> {
        assert!(batch.len() <= Self::MAX_ROWS);
        *written += batch.len();
        Ok(vec![Some(*written); batch.len()])
    }
}

#[tokio::test]
async fn none_is_lost_where_more_come_than_a_batch_takes() {
    let root = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let options = LocalOptions { directory: root.path().join("postgres"), fsync: false };
    let cluster = LocalCluster::start(&options).await.unwrap();
    let database = Database::new(&cluster.url("postgres"), 2).unwrap();
    let group = GroupCommit::start(Kept::relaxed(&database), 0);
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let group = group.clone();
        callers.spawn(async move { group.write(Counted).await });
    }
    let counts = callers.join_all().await;
    assert_eq!(counts.into_iter().map(Result::unwrap).max(), Some(50));
    cluster.stop().await;
}
