//! How long to wait before a call is made again. Must never decide whether the call may be repeated (that
//! hangs on its effect and its error) nor wait itself.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Exponential backoff with jitter.
///
/// Full jitter spreads a wait evenly over zero to the backoff; equal jitter over the upper half of it. Both
/// as in "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// How often a call is made again after its first attempt.
    pub max_retries: u32,
    /// Backoff before the first retry.
    pub initial_backoff: Duration,
    /// Largest backoff.
    pub max_backoff: Duration,
    /// Growth of the backoff from one retry to the next; below 1 counts as 1.
    pub multiplier: f64,
    /// Whether waits are spread at random. Off, clients that failed together come back together.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    /// 3 retries; 1 s, doubled up to 30 s; with jitter.
    fn default() -> Self {
        Self {
            max_retries: 3,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: true,
        }
    }
}

/// What to do before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// Wait that long.
    Wait(Duration),
    /// The tool asks for a wait above `max_backoff`: this long. Whether it is worth it is for the caller to
    /// say.
    TooLong(Duration),
}

impl Delay {
    /// The wait, if an attempt after it still begins within `left`, the caller's time. For one whose patience
    /// is `max_backoff`, match on the enum instead.
    pub fn within(self, left: Duration) -> Option<Duration> {
        let (Self::Wait(wait) | Self::TooLong(wait)) = self;
        (wait < left).then_some(wait)
    }
}

impl RetryPolicy {
    /// The wait before retry number `retry` (0 is the first), or `None` when no retry is left.
    ///
    /// `throttled`: the tool said that it is called too often (HTTP 429, `RESOURCE_EXHAUSTED`); the wait is
    /// then at least half the backoff, since coming back at once would only be refused again. `retry_after`:
    /// what the tool asked for; the wait is never shorter, and with jitter up to half a backoff longer, so
    /// that those who were all told the same do not come back together.
    pub fn delay<R: Rng + ?Sized>(
        &self,
        retry: u32,
        retry_after: Option<Duration>,
        throttled: bool,
        rng: &mut R,
    ) -> Option<Delay> {
        if retry >= self.max_retries {
            return None;
        }
        let backoff = self.backoff(retry);
        let wait = self.jittered(backoff, throttled, rng);
        Some(match retry_after {
            Some(asked) if asked > self.max_backoff => Delay::TooLong(asked),
            Some(asked) if asked > wait && self.jitter => {
                Delay::Wait(asked + (backoff / 2).mul_f64(rng.random::<f64>()))
            }
            Some(asked) => Delay::Wait(wait.max(asked)),
            None => Delay::Wait(wait),
        })
    }

    /// The backoff before retry number `retry` (0 is the first), without jitter.
    pub fn backoff(&self, retry: u32) -> Duration {
        let growth = self.multiplier.max(1.0).powi(i32::try_from(retry).unwrap_or(i32::MAX));
        let grown = Duration::try_from_secs_f64(self.initial_backoff.as_secs_f64() * growth);
        grown.unwrap_or(self.max_backoff).min(self.max_backoff)
    }

    fn jittered<R: Rng + ?Sized>(&self, backoff: Duration, throttled: bool, rng: &mut R) -> Duration {
        if !self.jitter {
            return backoff;
        }
        let share = rng.random::<f64>();
        backoff.mul_f64(if throttled { 0.5 + share / 2.0 } else { share })
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(delay: Option<Delay>) -> Duration {
        match delay {
            Some(Delay::Wait(wait)) => wait,
            other => panic!("no wait: {other:?}"),
        }
    }

    /// Policies of every shape, and a retry each of them allows.
    fn policies(rng: &mut StdRng) -> impl Iterator<Item = (RetryPolicy, u32)> {
        (0..20_000).map(move |_| {
            let policy = RetryPolicy {
                max_retries: rng.random_range(1..=2_000),
                initial_backoff: Duration::from_micros(rng.random_range(0..5_000_000)),
                max_backoff: Duration::from_micros(rng.random_range(0..60_000_000)),
                multiplier: rng.random_range(0.0..10.0),
                jitter: true,
            };
            (policy, rng.random_range(0..policy.max_retries))
        })
    }

    #[test]
    fn full_jitter_stays_within_the_backoff_and_uses_all_of_it() {
        let (mut rng, mut seeds) = (StdRng::seed_from_u64(1), StdRng::seed_from_u64(2));
        for (policy, retry) in policies(&mut seeds) {
            let backoff = policy.backoff(retry);
            assert!(backoff <= policy.max_backoff);
            assert!(wait(policy.delay(retry, None, false, &mut rng)) <= backoff);
        }
        let policy = RetryPolicy::default();
        let tenths: std::collections::BTreeSet<u128> =
            (0..1_000).map(|_| wait(policy.delay(1, None, false, &mut rng)).as_millis() / 200).collect();
        assert_eq!(tenths, (0..10).collect());
    }

    #[test]
    fn the_throttled_wait_at_least_half_and_nobody_less_than_was_asked() {
        let (mut rng, mut seeds) = (StdRng::seed_from_u64(3), StdRng::seed_from_u64(4));
        for (policy, retry) in policies(&mut seeds) {
            let backoff = policy.backoff(retry);
            let throttled = wait(policy.delay(retry, None, true, &mut rng));
            assert!(throttled >= backoff / 2 && throttled <= backoff);
            let asked = policy.max_backoff.mul_f64(rng.random::<f64>());
            let told = wait(policy.delay(retry, Some(asked), rng.random(), &mut rng));
            assert!(
                told >= asked && told <= asked.max(backoff) + backoff / 2,
                "{told:?} for {asked:?}, {policy:?}"
            );
        }
    }

    #[test]
    fn those_who_are_told_the_same_do_not_come_back_together() {
        let (policy, mut rng) = (RetryPolicy::default(), StdRng::seed_from_u64(5));
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|_| wait(policy.delay(0, Some(10 * SECOND), true, &mut rng))).collect();
        assert!(waits.len() > 90, "{} different waits", waits.len());
    }

    #[test]
    fn a_wait_above_the_longest_is_the_callers_to_decide() {
        let (policy, mut rng) = (RetryPolicy::default(), StdRng::seed_from_u64(6));
        let delay = policy.delay(0, Some(31 * SECOND), true, &mut rng).expect("a retry is left");
        assert_eq!(delay, Delay::TooLong(31 * SECOND));
        assert_eq!(delay.within(60 * SECOND), Some(31 * SECOND));
        assert_eq!(delay.within(31 * SECOND), None);
        assert_eq!(Delay::Wait(SECOND).within(SECOND / 2), None);
    }

    #[test]
    fn without_jitter_it_doubles_up_to_the_cap_and_ends() {
        let policy = RetryPolicy { max_retries: 8, jitter: false, ..RetryPolicy::default() };
        let mut rng = StdRng::seed_from_u64(7);
        let waits: Vec<u64> =
            (0..8).map(|n| wait(policy.delay(n, None, false, &mut rng)).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(policy.delay(1, asked(1), true, &mut rng), Some(Delay::Wait(2 * SECOND)));
        assert_eq!(policy.delay(1, asked(3), true, &mut rng), Some(Delay::Wait(3 * SECOND)));
        assert_eq!(policy.delay(8, None, false, &mut rng), None);
        assert_eq!(policy.backoff(u32::MAX), policy.max_backoff);
        assert_eq!(RetryPolicy { multiplier: f64::NAN, ..policy }.backoff(5), SECOND);
    }
}
