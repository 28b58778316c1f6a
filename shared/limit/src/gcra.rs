//! The Generic Cell Rate Algorithm as virtual scheduling (ATM Forum, Traffic Management 4.1, section 4.4.2; ITU-T
//! I.371, annex A), in whole microseconds. Pure: the same arithmetic is in `gcra.lua`, and both must change together.
//!
//! A bucket is one number, its theoretical arrival time (TAT): when it will be full again. Each unit moves it on by
//! the emission interval T = period / limit; the bucket holds burst units, so a call conforms if the TAT after it is
//! at most burst x T from now.

use std::time::Duration;

use crate::{Bucket, Decision, NEVER, Rate, Standing};

/// Longest emission interval, about a year: keeps every number below 2^53, up to which a Lua number is exact.
const MAX_INTERVAL: u64 = 1 << 45;
/// Most that a bucket may hold, about 35 years.
const MAX_CAPACITY: u64 = 1 << 50;

/// A bucket in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// T: what a unit takes. Rounded up, so that never more than the rate is admitted.
    pub interval: u64,
    /// burst x T: the farthest that the TAT may be from now.
    pub capacity: u64,
    /// cost x T: what the call takes.
    pub need: u64,
}

impl Terms {
    pub(crate) fn new(rate: Rate, cost: u32) -> Self {
        let period = u64::try_from(rate.period.as_micros()).unwrap_or(u64::MAX);
        let burst = if rate.limit == 0 { 0 } else { rate.burst };
        let interval = period.div_ceil(u64::from(rate.limit.max(1))).clamp(1, MAX_INTERVAL);
        let of = |units: u32| interval.saturating_mul(u64::from(units));
        let capacity = of(burst).min(MAX_CAPACITY);
        // A cost that the bucket never holds stays above its capacity, whatever was cut off.
        let need = if cost > burst {
            of(cost).clamp(capacity + 1, 2 * MAX_CAPACITY)
        } else {
            of(cost).min(capacity)
        };
        Self { interval, capacity, need }
    }

    /// The TAT as it counts now: an idle bucket is full, and one that was drained under a slower rate, or by a clock
    /// ahead of this one, is no emptier than empty.
    pub(crate) fn current(self, tat: u64, now: u64) -> u64 {
        tat.clamp(now, now + self.capacity)
    }

    /// How long a call has to wait at this (current) TAT; zero if it conforms.
    pub(crate) fn wait(self, tat: u64, now: u64) -> u64 {
        (tat + self.need).saturating_sub(now + self.capacity)
    }

    fn is_never(self) -> bool {
        self.need > self.capacity
    }

    fn remaining(self, tat: u64, now: u64) -> u32 {
        u32::try_from((now + self.capacity).saturating_sub(tat) / self.interval).unwrap_or(u32::MAX)
    }
}

/// The decision from the TATs after the call (as they were, if it was not admitted), by their buckets.
pub(crate) fn decision<'a>(
    now: u64,
    admitted: bool,
    read: impl Iterator<Item = (usize, &'a Bucket, u64)>,
) -> Decision {
    let mut decision =
        Decision { admitted, denied_by: None, retry_after: Duration::ZERO, standings: Vec::new() };
    for (index, bucket, tat) in read {
        let terms = Terms::new(bucket.rate, bucket.cost);
        let tat = terms.current(tat, now);
        decision.standings.push(Standing {
            name: bucket.name.clone(),
            limit: bucket.rate.limit,
            remaining: terms.remaining(tat, now),
            reset: Duration::from_micros(tat - now),
            period: bucket.rate.period,
        });
        let wait = if terms.is_never() { NEVER } else { Duration::from_micros(terms.wait(tat, now)) };
        if !admitted && wait > decision.retry_after {
            decision.denied_by = Some(index);
            decision.retry_after = wait;
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(limit: u32, seconds: u64, burst: u32) -> Rate {
        Rate { limit, period: Duration::from_secs(seconds), burst }
    }

    #[test]
    fn an_interval_is_rounded_up_so_that_no_more_than_the_rate_passes() {
        let terms = Terms::new(rate(3, 1, 2), 1);
        assert_eq!(terms, Terms { interval: 333_334, capacity: 666_668, need: 333_334 });
        // Faster than a call a microsecond is a call a microsecond.
        assert_eq!(Terms::new(rate(u32::MAX, 1, 1), 1).interval, 1);
    }

    #[test]
    fn every_number_stays_exact_in_lua_and_no_rate_overflows() {
        let now = 4_102_444_800_000_000; // the year 2100
        for limit in [0, 1, u32::MAX] {
            for period in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
                for (burst, cost) in [(0, 0), (0, 1), (1, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
                    let terms = Terms::new(Rate { limit, period, burst }, cost);
                    let most = now + terms.capacity + terms.need;
                    assert!(most < 1 << 53, "{limit} {period:?} {burst} {cost}: {terms:?}");
                    let admits_ever = cost == 0 || (limit > 0 && cost <= burst);
                    assert_eq!(
                        !terms.is_never(),
                        admits_ever,
                        "{limit} {period:?} {burst} {cost}: {terms:?}"
                    );
                    assert_eq!(terms.wait(now, now) == 0, admits_ever);
                }
            }
        }
    }

    #[test]
    fn a_bucket_admits_its_burst_and_then_its_rate() {
        let terms = Terms::new(rate(10, 1, 5), 1);
        let (mut tat, mut admitted) = (0, 0);
        // Asked every millisecond for 2 s: the burst, and one every 100 ms.
        for now in (10_000_000..12_000_000).step_by(1_000) {
            let current = terms.current(tat, now);
            if terms.wait(current, now) == 0 {
                tat = current + terms.need;
                admitted += 1;
            }
        }
        assert_eq!(admitted, 5 + 19);
    }
}
