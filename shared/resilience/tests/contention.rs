//! Many clients on one contended resource, simulated: what jitter saves in calls and in time. The resource is
//! the one of "Exponential Backoff And Jitter" (AWS Architecture Blog): a client reads a version, writes it
//! back, and must begin anew when another wrote in between. Must never depend on the machine's clock or load.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use resilience::{Delay, RetryPolicy};

const CLIENTS: usize = 100;

/// Something that arrives at the resource.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    Read,
    Write { version: u64 },
}

/// Calls until every client has written once, and how long the last one took.
fn contend(policy: &RetryPolicy, seed: u64) -> (u32, Duration) {
    let mut rng = StdRng::seed_from_u64(seed);
    let travel = |rng: &mut StdRng| Duration::from_micros(rng.random_range(6_000..14_000));
    let mut queue: BinaryHeap<Reverse<(Duration, usize, Arrival)>> =
        (0..CLIENTS).map(|client| Reverse((travel(&mut rng), client, Arrival::Read))).collect();
    let (mut version, mut calls, mut end) = (0, 0, Duration::ZERO);
    let mut retries = [0; CLIENTS];
    while let Some(Reverse((now, client, arrival))) = queue.pop() {
        end = now;
        // Its answer travels back, and the next request to the resource.
        let next = now + travel(&mut rng) + travel(&mut rng);
        match arrival {
            Arrival::Read => queue.push(Reverse((next, client, Arrival::Write { version }))),
            Arrival::Write { version: read } => {
                calls += 1;
                if read == version {
                    version += 1;
                    continue;
                }
                let Some(Delay::Wait(wait)) = policy.delay(retries[client], None, false, &mut rng) else {
                    panic!("a retry is left");
                };
                retries[client] += 1;
                queue.push(Reverse((next + wait, client, Arrival::Read)));
            }
        }
    }
    assert_eq!(version, CLIENTS as u64, "everyone wrote once");
    (calls, end)
}

#[test]
fn jitter_spares_a_contended_resource_half_the_calls_and_most_of_the_time() {
    let jitter = RetryPolicy {
        max_retries: u32::MAX,
        initial_backoff: Duration::from_millis(5),
        max_backoff: Duration::from_secs(2),
        ..RetryPolicy::default()
    };
    let plain = RetryPolicy { jitter: false, ..jitter };
    for seed in 0..20 {
        let ((plain_calls, plain_time), (calls, time)) = (contend(&plain, seed), contend(&jitter, seed));
        assert!(calls * 10 < plain_calls * 7, "seed {seed}: {calls} calls, {plain_calls} without jitter");
        assert!(time * 3 < plain_time, "seed {seed}: {time:?}, {plain_time:?} without jitter");
    }
}
