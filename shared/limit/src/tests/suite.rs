//! One suite over every variant: the same calls get the same decisions.

use std::time::{Duration, Instant};

use super::{HOUR, LONG, Replicas, bucket, just_under};
use crate::NEVER;

macro_rules! every_variant {
    ($($test:ident)*) => {
        every_variant!(@ memory $($test)*);
        every_variant!(@ redis $($test)*);
        every_variant!(@ cluster $($test)*);
    };
    (@ $variant:ident $($test:ident)*) => {
        mod $variant {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(super::Replicas::$variant().await).await;
                }
            )*
        }
    };
}

every_variant! {
    a_burst_is_admitted_once_over_all_replicas
    no_more_than_the_rate_passes_over_time_and_no_less
    a_denied_bucket_takes_nothing_of_the_others
    standings_tell_what_is_left_and_when_it_is_full
    a_call_that_costs_more_than_the_bucket_holds_never_passes
    a_changed_rate_holds_at_once
    after_the_wait_the_call_passes
    scopes_and_names_have_their_own_buckets
    a_rate_of_nothing_admits_nothing_and_no_bucket_admits_all
}

async fn a_burst_is_admitted_once_over_all_replicas(replicas: Replicas) {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..32 {
        let (limiter, scope) = (replicas.limiters[index % 4].clone(), replicas.scope.clone());
        tasks.spawn(async move {
            let mut admitted = 0;
            for _ in 0..4 {
                admitted += u32::from(limiter.check(&scope, &[bucket("a", 1, HOUR, 20, 1)]).await.admitted);
            }
            admitted
        });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<u32>(), 20);
}

async fn no_more_than_the_rate_passes_over_time_and_no_less(replicas: Replicas) {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..16 {
        let (limiter, scope) = (replicas.limiters[index % 4].clone(), replicas.scope.clone());
        tasks.spawn(async move {
            let (mut admitted, mut longest) = (0, Duration::ZERO);
            let mut last = Instant::now();
            while started.elapsed() < Duration::from_secs(2) {
                let decision =
                    limiter.check(&scope, &[bucket("a", 100, Duration::from_secs(1), 20, 1)]).await;
                admitted += u32::from(decision.admitted);
                tokio::time::sleep(Duration::from_millis(1)).await;
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            (admitted, longest)
        });
    }
    let counts = tasks.join_all().await;
    let admitted: u32 = counts.iter().map(|(admitted, _)| admitted).sum();
    let allowed = 20.0 + started.elapsed().as_secs_f64() * 100.0;
    assert!(f64::from(admitted) <= allowed, "{admitted} of {allowed}");
    // The bucket holds 0.2 s: where nobody asked for so long on a busy machine, some of the rate was not used.
    if counts.iter().all(|(_, longest)| *longest < Duration::from_millis(150)) {
        assert!(admitted >= 200, "{admitted} of {allowed}");
    }
    assert!(admitted >= 21, "{admitted} of {allowed}");
}

async fn a_denied_bucket_takes_nothing_of_the_others(replicas: Replicas) {
    let first = || bucket("first", 1, HOUR, 5, 1);
    let second = || bucket("second", 2, HOUR, 1, 1);
    assert!(replicas.check(&[first(), second()]).await.admitted);
    for limiter in &replicas.limiters {
        let denied = limiter.check(&replicas.scope, &[first(), second()]).await;
        assert!(!denied.admitted);
        assert_eq!(denied.denied_by, Some(1));
        assert!(just_under(denied.retry_after, HOUR / 2), "{denied:?}");
        assert_eq!(denied.retry(), Some(denied.retry_after));
    }
    let alone = replicas.check(&[first()]).await;
    assert!(alone.admitted);
    assert_eq!(alone.standings[0].remaining, 3);
}

async fn standings_tell_what_is_left_and_when_it_is_full(replicas: Replicas) {
    let buckets = [bucket("a", 2, HOUR, 10, 3), bucket("b", 60, HOUR, 60, 1)];
    for taken in 1..=3 {
        let decision = replicas.check(&buckets).await;
        assert!(decision.admitted);
        assert_eq!((decision.denied_by, decision.retry_after), (None, Duration::ZERO));
        assert_eq!(decision.retry(), None);
        let [a, b] = &decision.standings[..] else { panic!("{decision:?}") };
        assert_eq!((a.name.as_str(), a.limit, a.period, a.remaining), ("a", 2, HOUR, 10 - 3 * taken));
        assert_eq!((b.name.as_str(), b.limit, b.period, b.remaining), ("b", 60, HOUR, 60 - taken));
        let full = HOUR / 2 * 3 * taken;
        assert!(just_under(a.reset, full), "{a:?}");
    }
    // The fourth time 3 are wanted and 1 is left: two more come after an hour.
    let denied = replicas.check(&buckets).await;
    assert_eq!(denied.denied_by, Some(0));
    assert!(just_under(denied.retry_after, HOUR), "{denied:?}");
    assert_eq!((denied.standings[0].remaining, denied.standings[0].name.as_str()), (1, "a"));
    // Looking costs nothing, and one unit is still to be had.
    let look = [bucket("a", 2, HOUR, 10, 0)];
    assert_eq!(replicas.check(&look).await.standings[0].remaining, 1);
    assert!(replicas.check(&[bucket("a", 2, HOUR, 10, 1)]).await.admitted);
}

async fn a_call_that_costs_more_than_the_bucket_holds_never_passes(replicas: Replicas) {
    for _ in 0..2 {
        let decision = replicas.check(&[bucket("a", 1, HOUR, 3, 1), bucket("b", 100, HOUR, 3, 4)]).await;
        assert!(!decision.admitted);
        assert_eq!((decision.denied_by, decision.retry_after), (Some(1), NEVER));
        assert_eq!(decision.retry(), None);
    }
    assert_eq!(replicas.check(&[bucket("a", 1, HOUR, 3, 1)]).await.standings[0].remaining, 2);
}

async fn a_changed_rate_holds_at_once(replicas: Replicas) {
    assert!(replicas.check(&[bucket("a", 1, HOUR, 10, 10)]).await.admitted);
    assert!(!replicas.check(&[bucket("a", 1, HOUR, 10, 1)]).await.admitted);
    // Ten hours of the old rate are 10 ms of the new one.
    let started = Instant::now();
    while !replicas.check(&[bucket("a", 1, Duration::from_millis(1), 10, 10)]).await.admitted {
        assert!(started.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // And back: what was taken is next to nothing of the slow one.
    assert!(replicas.check(&[bucket("a", 1, HOUR, 10, 9)]).await.admitted);
}

async fn after_the_wait_the_call_passes(replicas: Replicas) {
    let buckets = [bucket("a", 4, Duration::from_secs(1), 1, 1)];
    let mut denials = 0;
    for _ in 0..4 {
        let decision = replicas.check(&buckets).await;
        denials += u32::from(!decision.admitted);
        if !decision.admitted {
            assert!(decision.retry_after <= Duration::from_millis(250));
            tokio::time::sleep(decision.retry_after).await;
            assert!(replicas.check(&buckets).await.admitted);
        }
    }
    assert!(denials > 0, "four calls at once are more than four a second with a burst of one");
}

async fn scopes_and_names_have_their_own_buckets(replicas: Replicas) {
    let limiter = &replicas.limiters[0];
    for tail in ["", "}", "%7D", "}:a"] {
        for name in ["a", "}", "a:b", "é"] {
            let scope = format!("{}{tail}", replicas.scope);
            let buckets = [bucket(name, 1, HOUR, 1, 1), bucket("other", 1, HOUR, 9, 1)];
            assert!(limiter.check(&scope, &buckets).await.admitted, "{scope} {name}");
            assert!(!limiter.check(&scope, &buckets).await.admitted, "{scope} {name}");
        }
    }
}

async fn a_rate_of_nothing_admits_nothing_and_no_bucket_admits_all(replicas: Replicas) {
    for (limit, burst) in [(0, 0), (0, 5), (5, 0)] {
        let decision = replicas.check(&[bucket("none", limit, HOUR, burst, 1)]).await;
        assert_eq!((decision.admitted, decision.retry_after), (false, NEVER));
        assert_eq!(decision.standings[0].remaining, 0);
    }
    assert!(replicas.check(&[]).await.admitted);
}
