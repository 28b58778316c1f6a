//! Calls that share one answer, and leaders that go away.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cache::{Cache, Flight, Flights, Followed, Lead, Ticket};
use tokio::task::JoinSet;

use crate::{LIMITS, number};

fn flights() -> (Cache, Flights<Arc<str>>) {
    let cache = Cache::memory(LIMITS);
    let flights = Flights::new(cache.statistics());
    (cache, flights)
}

fn lead(flights: &Flights<Arc<str>>, ticket: Ticket) -> Lead<Arc<str>> {
    match flights.join(&number(1), ticket) {
        Flight::Lead(lead) => lead,
        Flight::Follow(_) => panic!("somebody else leads"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_at_once_one_leads_and_all_get_its_outcome() {
    let (cache, flights) = flights();
    let barrier = Arc::new(tokio::sync::Barrier::new(1_000));
    let joined = Arc::new(tokio::sync::Barrier::new(1_000));
    let leads = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for _ in 0..1_000 {
        let (flights, barrier, joined, leads) =
            (flights.clone(), barrier.clone(), joined.clone(), leads.clone());
        calls.spawn(async move {
            barrier.wait().await;
            let flight = flights.join(&number(1), Ticket::NONE);
            joined.wait().await;
            match flight {
                Flight::Lead(lead) => {
                    leads.fetch_add(1, Ordering::SeqCst);
                    lead.finish("outcome".into());
                    "outcome".into()
                }
                Flight::Follow(follow) => match follow.wait().await {
                    Followed::Outcome(outcome) => outcome,
                    Followed::Lead(_) => panic!("the leader was there"),
                },
            }
        });
    }
    assert!(calls.join_all().await.iter().all(|outcome: &Arc<str>| &**outcome == "outcome"));
    assert_eq!(leads.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
    assert_eq!(cache.stats("team", Some("tool")).await[0].coalesced, 999);
}

/// Every call but the last loses its leadership, by being dropped or by a panic; each time exactly one other
/// leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_leader_goes_exactly_one_follower_leads() {
    let (_, flights) = flights();
    let first = lead(&flights, Ticket::NONE);
    let leading = Arc::new(AtomicUsize::new(0));
    let led = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let Flight::Follow(follow) = flights.join(&number(1), Ticket::NONE) else {
            panic!("one leads already")
        };
        let (leading, led) = (leading.clone(), led.clone());
        calls.spawn(async move {
            match follow.wait().await {
                Followed::Outcome(outcome) => Some(outcome),
                Followed::Lead(lead) => {
                    assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two lead at once");
                    tokio::task::yield_now().await;
                    leading.fetch_sub(1, Ordering::SeqCst);
                    match led.fetch_add(1, Ordering::SeqCst) {
                        0..10 => drop(lead),
                        10..20 => std::panic::resume_unwind(Box::new("a leader panics")),
                        _ => lead.finish("outcome".into()),
                    }
                    None
                }
            }
        });
    }
    drop(first);
    let (mut outcomes, mut others, mut panics) = (0, 0, 0);
    while let Some(ended) = calls.join_next().await {
        match ended {
            Ok(Some(_)) => outcomes += 1,
            Ok(None) => others += 1,
            Err(_) => panics += 1,
        }
    }
    assert_eq!((outcomes, others, panics), (50 - 21, 11, 10));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_flight_that_all_have_left_is_gone() {
    let (_, flights) = flights();
    drop(lead(&flights, Ticket::NONE));
    assert!(flights.is_empty(), "a leader alone");
    let leader = lead(&flights, Ticket::NONE);
    let Flight::Follow(one) = flights.join(&number(1), Ticket::NONE) else { panic!("one leads already") };
    let Flight::Follow(two) = flights.join(&number(1), Ticket::NONE) else { panic!("one leads already") };
    drop(one);
    drop(leader);
    assert_eq!(flights.len(), 1, "a follower may still take it");
    drop(two);
    assert!(flights.is_empty());
    lead(&flights, Ticket::NONE).finish("outcome".into());
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_new_call_takes_a_flight_without_a_leader() {
    let (_, flights) = flights();
    let leader = lead(&flights, Ticket::NONE);
    let Flight::Follow(follower) = flights.join(&number(1), Ticket::NONE) else {
        panic!("one leads already")
    };
    drop(leader);
    let leader = lead(&flights, Ticket::NONE);
    leader.finish("outcome".into());
    assert!(matches!(follower.wait().await, Followed::Outcome(outcome) if &*outcome == "outcome"));
}

#[tokio::test]
async fn other_keys_and_calls_after_an_invalidation_fly_alone() {
    let (cache, flights) = flights();
    let before = cache.get(&number(1)).await.ticket;
    let _leader = lead(&flights, before);
    assert!(matches!(flights.join(&number(1), before), Flight::Follow(_)));
    assert!(matches!(flights.join(&number(2), before), Flight::Lead(_)));
    cache.invalidate("team", "tool", None).await;
    let after = cache.get(&number(1)).await.ticket;
    assert!(
        matches!(flights.join(&number(1), after), Flight::Lead(_)),
        "the old leader may have an old answer"
    );
}
