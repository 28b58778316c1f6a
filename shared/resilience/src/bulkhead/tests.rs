//! How many calls a bulkhead lets in, keeps waiting and refuses, and that no place is ever lost.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{task::JoinHandle, time::Instant};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn bulkhead(max_concurrent: usize, max_waiting: usize) -> Bulkhead {
    Bulkhead::new(BulkheadSettings { max_concurrent, max_waiting, max_wait: 5 * SECOND })
}

/// A task that enters and stays for `stay`.
fn visit(bulkhead: &Bulkhead, stay: Duration) -> JoinHandle<Result<(), Full>> {
    let bulkhead = bulkhead.clone();
    tokio::spawn(async move {
        let _guard = bulkhead.enter().await?;
        tokio::time::sleep(stay).await;
        Ok(())
    })
}

async fn let_all_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn some_run_some_wait_and_the_rest_is_refused_at_once() {
    let bulkhead = bulkhead(2, 3);
    let visits: Vec<_> = (0..10).map(|_| visit(&bulkhead, SECOND)).collect();
    let_all_run().await;
    assert_eq!((bulkhead.in_use(), bulkhead.waiting(), bulkhead.is_full()), (2, 3, true));
    let mut refused = 0;
    for visit in visits {
        match visit.await.expect("task") {
            Ok(()) => {}
            Err(full) => {
                assert_eq!(full, Full::Queue);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 5);
    assert_eq!((bulkhead.in_use(), bulkhead.waiting(), bulkhead.is_full()), (0, 0, false));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_its_time() {
    let bulkhead = bulkhead(1, 1);
    let guard = bulkhead.enter().await.expect("free");
    let begun = Instant::now();
    assert_eq!(bulkhead.enter().await.expect_err("taken"), Full::Wait { waited: 5 * SECOND });
    assert_eq!(begun.elapsed(), 5 * SECOND);
    assert_eq!(bulkhead.waiting(), 0);
    drop(guard);
    bulkhead.enter().await.map(drop).expect("free again");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_leaves_the_queue() {
    let bulkhead = bulkhead(1, 1);
    let guard = bulkhead.enter().await.expect("free");
    let waiting = visit(&bulkhead, SECOND);
    let_all_run().await;
    assert_eq!(bulkhead.waiting(), 1);
    waiting.abort();
    assert!(waiting.await.is_err());
    assert_eq!(bulkhead.waiting(), 0);
    drop(guard);
    assert_eq!(bulkhead.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_stops_nobody_and_holds_as_calls_end() {
    let bulkhead = bulkhead(5, 10);
    let sizes = |max_concurrent| BulkheadSettings { max_concurrent, max_waiting: 10, max_wait: 5 * SECOND };
    let mut guards = Vec::new();
    for _ in 0..5 {
        guards.push(bulkhead.enter().await.expect("free"));
    }
    bulkhead.apply(sizes(2));
    assert_eq!(bulkhead.in_use(), 5);
    guards.truncate(2);
    assert!(bulkhead.is_full(), "three ended, two run, two may");
    guards.pop();
    guards.push(bulkhead.enter().await.expect("one of two is free"));
    assert!(bulkhead.is_full());

    bulkhead.apply(sizes(1));
    bulkhead.apply(sizes(3));
    assert_eq!(bulkhead.in_use(), 2);
    let third = bulkhead.enter().await.expect("raised again");
    assert!(bulkhead.is_full());
    drop((guards, third));
    assert_eq!((bulkhead.in_use(), bulkhead.is_full()), (0, false));
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_in_who_waits() {
    let bulkhead = bulkhead(1, 10);
    let visits: Vec<_> = (0..4).map(|_| visit(&bulkhead, SECOND)).collect();
    let_all_run().await;
    assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (1, 3));
    bulkhead.apply(BulkheadSettings { max_concurrent: 3, ..BulkheadSettings::default() });
    let_all_run().await;
    assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (3, 1));
    for visit in visits {
        visit.await.expect("task").expect("entered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_handed_to_someone_who_gave_up_is_not_beyond_a_lower_limit() {
    let bulkhead = bulkhead(2, 10);
    let guards = (bulkhead.enter().await.expect("free"), bulkhead.enter().await.expect("free"));
    let mut waiting = Box::pin(bulkhead.enter());
    assert!(is_pending(&mut waiting).await, "it waits");
    drop(guards.0);
    bulkhead.apply(BulkheadSettings { max_concurrent: 1, ..BulkheadSettings::default() });
    drop(waiting);
    assert!(bulkhead.is_full(), "the one place is taken");
    assert_eq!(bulkhead.in_use(), 1);
}

/// Whether it waits, polled once.
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_or_doubled_under_a_thousand_calls_and_changing_limits() {
    let bulkhead =
        Bulkhead::new(BulkheadSettings { max_concurrent: 8, max_waiting: 1_000, max_wait: 60 * SECOND });
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1_000_u64 {
        let (bulkhead, running, most) = (bulkhead.clone(), Arc::clone(&running), Arc::clone(&most));
        tasks.spawn(async move {
            let mut rng = StdRng::seed_from_u64(number);
            let patience = Duration::from_micros(rng.random_range(0..20_000));
            let call = async {
                let _guard = bulkhead.enter().await.expect("there is room to wait");
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            };
            drop(tokio::time::timeout(patience, call).await);
            if number % 10 == 0 {
                let max_concurrent = rng.random_range(1..=8);
                bulkhead.apply(BulkheadSettings {
                    max_concurrent,
                    max_waiting: 1_000,
                    max_wait: 60 * SECOND,
                });
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("task");
    }
    assert!((1..=8).contains(&most.load(Ordering::SeqCst)));
    bulkhead.apply(BulkheadSettings { max_concurrent: 4, max_waiting: 0, max_wait: SECOND });
    assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (0, 0));
    let mut guards = Vec::new();
    while let Ok(guard) = bulkhead.enter().await {
        guards.push(guard);
    }
    assert_eq!(guards.len(), 4);
}
