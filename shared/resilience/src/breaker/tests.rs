//! What a breaker lets through, alone and under concurrency.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Barrier;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn admit(breaker: &Breaker, now: Instant) -> Permit {
    breaker.admit(now).expect("admitted")
}

/// Ends so many calls that way; gives the states that this moved the breaker to.
fn call(
    breaker: &Breaker,
    times: usize,
    now: Instant,
    end: fn(Permit, Instant) -> Option<State>,
) -> Vec<State> {
    (0..times).filter_map(|_| end(admit(breaker, now), now)).collect()
}

fn retry_after(breaker: &Breaker, now: Instant) -> Duration {
    breaker.admit(now).expect_err("refused").retry_after
}

/// A breaker with the default settings that ten failures opened at `now`.
fn opened(now: Instant) -> Breaker {
    let breaker = Breaker::new(BreakerSettings::default(), now);
    assert_eq!(call(&breaker, 10, now, Permit::failed), [State::Open]);
    breaker
}

#[test]
fn it_opens_at_the_ratio_and_not_below_the_least_calls() {
    let now = Instant::now();
    let breaker = Breaker::new(BreakerSettings::default(), now);
    assert_eq!(call(&breaker, 9, now, Permit::failed), [], "nine calls are too few");
    assert_eq!(admit(&breaker, now).succeeded(now), Some(State::Open), "nine of ten");
    assert_eq!(retry_after(&breaker, now + 10 * SECOND), 20 * SECOND);

    let breaker = Breaker::new(BreakerSettings::default(), now);
    assert_eq!(call(&breaker, 11, now, Permit::succeeded), []);
    assert_eq!(call(&breaker, 10, now, Permit::failed), [], "less than half");
    assert_eq!(admit(&breaker, now).failed(now), Some(State::Open), "11 of 22");
}

#[test]
fn failures_older_than_the_window_do_not_count_and_ignored_calls_never() {
    let start = Instant::now();
    let breaker = Breaker::new(BreakerSettings::default(), start);
    assert_eq!(call(&breaker, 9, start, Permit::failed), []);
    let later = start + 30 * SECOND;
    assert_eq!(call(&breaker, 9, later, Permit::failed), []);
    (0..100).for_each(|_| admit(&breaker, later).ignored());
    assert_eq!(breaker.state(later), State::Closed);
    assert_eq!(admit(&breaker, later).failed(later), Some(State::Open), "ten of ten");
}

#[test]
fn probes_that_succeed_close_it_with_clean_counts() {
    let start = Instant::now();
    let breaker = opened(start);
    assert_eq!(breaker.state(start + 29 * SECOND), State::Open);
    let now = start + 30 * SECOND;
    assert_eq!(breaker.state(now), State::HalfOpen);
    assert_eq!(admit(&breaker, now).succeeded(now), None);
    let (second, third) = (admit(&breaker, now), admit(&breaker, now));
    assert_eq!(retry_after(&breaker, now), SECOND, "the one that succeeded keeps its place");
    assert_eq!(second.succeeded(now), None);
    assert_eq!(third.succeeded(now), Some(State::Closed));
    assert_eq!(call(&breaker, 9, now, Permit::failed), [], "the ten that opened it are forgotten");
    assert_eq!(admit(&breaker, now).failed(now), Some(State::Open));
}

#[test]
fn a_failed_probe_opens_it_again_for_longer_up_to_the_cap() {
    let mut now = Instant::now();
    let breaker = opened(now);
    let mut lengths = Vec::new();
    for _ in 0..6 {
        let left = retry_after(&breaker, now);
        lengths.push(left.as_secs());
        assert!(breaker.admit(now + left - Duration::from_millis(1)).is_err());
        now += left;
        assert_eq!(admit(&breaker, now).failed(now), Some(State::Open));
    }
    assert_eq!(lengths, [30, 60, 120, 240, 300, 300]);
    now += 300 * SECOND;
    assert_eq!(call(&breaker, 3, now, Permit::succeeded), [State::Closed]);
    assert_eq!(call(&breaker, 10, now, Permit::failed), [State::Open]);
    assert_eq!(retry_after(&breaker, now), 30 * SECOND, "closed in between, it starts anew");
}

#[test]
fn results_of_an_earlier_state_do_not_count() {
    let start = Instant::now();
    let breaker = Breaker::new(BreakerSettings::default(), start);
    let slow_failure = admit(&breaker, start);
    let slow_successes: Vec<_> = (0..3).map(|_| admit(&breaker, start)).collect();
    assert_eq!(call(&breaker, 10, start, Permit::failed), [State::Open]);
    let now = start + 30 * SECOND;
    let probes: Vec<_> = (0..3).map(|_| admit(&breaker, now)).collect();
    assert_eq!(slow_failure.failed(now), None, "it began before the breaker opened");
    assert!(
        slow_successes.into_iter().all(|permit| permit.succeeded(now).is_none()),
        "nor do they prove anything"
    );
    assert!(breaker.admit(now).is_err(), "and frees no probe's place");
    let changes: Vec<_> = probes.into_iter().map(|probe| probe.failed(now)).collect();
    assert_eq!(changes, [Some(State::Open), None, None], "opened once, not three times");
    assert_eq!(retry_after(&breaker, now), 60 * SECOND, "for the second time");
}

#[test]
fn a_dropped_probe_gives_its_place_back_once() {
    let start = Instant::now();
    let breaker = opened(start);
    let now = start + 30 * SECOND;
    for _ in 0..50 {
        let probes: Vec<_> = (0..3).map(|_| admit(&breaker, now)).collect();
        assert!(breaker.admit(now).is_err());
        drop(probes);
    }
    let late = admit(&breaker, now);
    assert_eq!(admit(&breaker, now).failed(now), Some(State::Open));
    let now = now + 60 * SECOND;
    let probes: Vec<_> = (0..3).map(|_| admit(&breaker, now)).collect();
    drop(late);
    assert!(breaker.admit(now).is_err(), "a probe of the round before has no place in this one");
    drop(probes);
}

#[test]
fn slow_successes_are_failures_where_asked() {
    let start = Instant::now();
    let slow = BreakerSettings { min_calls: 2, slow_call: Some(2 * SECOND), ..BreakerSettings::default() };
    // One of the two calls is slow: enough for half, and too few for more.
    for (failure_ratio, opens) in [(0.5, Some(State::Open)), (0.6, None)] {
        let breaker = Breaker::new(BreakerSettings { failure_ratio, ..slow }, start);
        assert_eq!(admit(&breaker, start).succeeded(start + SECOND), None);
        assert_eq!(admit(&breaker, start).succeeded(start + 2 * SECOND), opens);
    }
}

#[test]
fn other_settings_keep_the_state_and_never_lock_it_half_open() {
    let start = Instant::now();
    let breaker = opened(start);
    let shorter = BreakerSettings { open_for: 10 * SECOND, ..BreakerSettings::default() };
    breaker.apply(shorter, start);
    assert_eq!(retry_after(&breaker, start), 10 * SECOND);
    let now = start + 10 * SECOND;
    assert_eq!(call(&breaker, 2, now, Permit::succeeded), []);
    breaker.apply(BreakerSettings { probes: 2, ..shorter }, now);
    assert_eq!(breaker.state(now), State::Closed, "two of two probes have succeeded");

    assert_eq!(call(&breaker, 9, now, Permit::failed), []);
    breaker.apply(BreakerSettings { window: 60 * SECOND, ..shorter }, now);
    assert_eq!(admit(&breaker, now).failed(now), Some(State::Open), "nine failures were kept");
}

/// Sends `count` tasks to `breaker` at once; those let through do `end`. Gives how many were.
async fn storm(breaker: &Breaker, count: usize, now: Instant, end: fn(Permit, Instant)) -> usize {
    let (barrier, passed) = (Arc::new(Barrier::new(count)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (breaker, barrier, passed) = (breaker.clone(), Arc::clone(&barrier), Arc::clone(&passed));
        tasks.spawn(async move {
            barrier.wait().await;
            if let Ok(permit) = breaker.admit(now) {
                passed.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                end(permit, now);
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("task");
    }
    passed.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_tasks_on_a_half_open_breaker_only_the_probes_pass() {
    for _ in 0..20 {
        let start = Instant::now();
        let breaker = opened(start);
        let now = start + 30 * SECOND;
        let passed =
            storm(&breaker, 1_000, now, |permit, now| assert_ne!(permit.failed(now), Some(State::Closed)))
                .await;
        assert!((1..=3).contains(&passed), "{passed} passed");
        assert_eq!(retry_after(&breaker, now), 60 * SECOND, "three failed probes open it once");
        // Held for ever, the probes' places are never given out again.
        let later = now + 60 * SECOND;
        let held = storm(&breaker, 1_000, later, |permit, _| std::mem::forget(permit)).await;
        assert_eq!(held, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_probes_never_make_room_for_more_than_the_probes_at_once() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    let start = Instant::now();
    let breaker = opened(start);
    let now = start + 30 * SECOND;
    let passed = storm(&breaker, 1_000, now, |permit, _| {
        assert!(RUNNING.fetch_add(1, Ordering::SeqCst) < 3, "more than three at once");
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        permit.ignored();
    })
    .await;
    assert!(passed >= 3);
    assert_eq!(breaker.state(now), State::HalfOpen);
    assert_eq!(call(&breaker, 3, now, Permit::succeeded), [State::Closed], "every place came back");
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_is_all_it_needs() {
    let breaker = opened(Instant::now());
    tokio::time::advance(29 * SECOND).await;
    assert_eq!(breaker.state(Instant::now()), State::Open);
    tokio::time::advance(SECOND).await;
    assert_eq!(breaker.state(Instant::now()), State::HalfOpen);
    assert_eq!(call(&breaker, 3, Instant::now(), Permit::succeeded), [State::Closed]);
}
