//! How entries come together, without a database: what is written alone, together, and later.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};

use super::*;

/// An entry that knows only its key.
struct Numbered(usize);

impl Item for Numbered {
    type Answer = ();
    type Key = usize;

    fn key(&self) -> usize {
        self.0
    }

    async fn commit(_: &mut Connection, batch: &[&Self]) -> Result<Vec<Option<()>>, Error> {
        Ok(vec![Some(()); batch.len()])
    }
}

fn entries(keys: impl IntoIterator<Item = usize>) -> Vec<Entry<Numbered>> {
    keys.into_iter().map(|key| Entry { item: Numbered(key), answer: oneshot::channel().0 }).collect()
}

fn keys(entries: &[Entry<Numbered>]) -> Vec<usize> {
    entries.iter().map(|entry| entry.item.0).collect()
}

#[test]
fn the_second_of_a_key_and_what_is_too_much_is_written_later_in_order() {
    let (batch, later) = together(entries([1, 2, 1, 3, 2]));
    assert_eq!((keys(&batch), keys(&later)), (vec![1, 2, 3], vec![1, 2]));
    let (batch, later) = together(entries(0..MAX_BATCH + 2));
    assert_eq!((batch.len(), keys(&later)), (MAX_BATCH, vec![MAX_BATCH, MAX_BATCH + 1]));
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
    gather(1, || *queued.lock().unwrap()).await;
    *queued.lock().unwrap()
}

#[tokio::test]
async fn those_ready_to_ask_are_waited_for_and_no_others() {
    assert_eq!(gathered(&[0; 40]).await, 40);
    // Each turn brings more, so the next is given too.
    assert_eq!(gathered(&[0, 0, 1, 1, 2]).await, 5);
    // Whoever must wait for something else first is not waited for.
    assert_eq!(gathered(&[0, 0, 3]).await, 2);
    assert_eq!(gathered(&[2]).await, 0);
}

#[tokio::test]
async fn turns_end_however_many_come_and_when_a_statement_is_full() {
    let (asked, grown) = (Cell::new(0), Cell::new(0));
    let growing = || {
        asked.set(asked.get() + 1);
        grown.set(grown.get() + 1);
        grown.get()
    };
    gather(1, growing).await;
    assert_eq!(asked.get(), 2 * TURNS);
    asked.set(0);
    gather(MAX_BATCH, growing).await;
    assert_eq!(asked.get(), 1);
}
