//! Two counters over a sliding span of time, in ten buckets. Must never keep more than the buckets, however
//! many calls are counted, and never read a clock itself.

use std::time::Duration;

use tokio::time::Instant;

const BUCKETS: usize = 10;
const LEAST_SPAN: Duration = Duration::from_millis(10);

/// What was counted in the window, or in one bucket of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Everything that was counted.
    pub(crate) total: u64,
    /// The part of it that is watched: failures, or retries.
    pub(crate) marked: u64,
}

/// A sliding window. It reaches back between nine tenths of its span and all of it.
#[derive(Debug)]
pub(crate) struct Window {
    origin: Instant,
    width: Duration,
    /// Each bucket with the number of the stretch of time it last counted, so that nothing has to be cleared.
    buckets: [(usize, Counts); BUCKETS],
}

impl Window {
    /// An empty window over `span`, or over ten milliseconds if that is longer.
    pub(crate) fn new(span: Duration, now: Instant) -> Self {
        let width = span.max(LEAST_SPAN).div_f64(BUCKETS as f64);
        Self { origin: now, width, buckets: [(0, Counts::default()); BUCKETS] }
    }

    /// Adds to the bucket of `now`. What is older than the whole window is left out.
    pub(crate) fn add(&mut self, counts: Counts, now: Instant) {
        let stretch = self.stretch(now);
        let (last, bucket) = &mut self.buckets[stretch % BUCKETS];
        if *last > stretch {
            return;
        }
        if *last < stretch {
            (*last, *bucket) = (stretch, Counts::default());
        }
        bucket.total += counts.total;
        bucket.marked += counts.marked;
    }

    /// The sums over the window that ends at `now`.
    pub(crate) fn sum(&self, now: Instant) -> Counts {
        let oldest = (self.stretch(now) + 1).saturating_sub(BUCKETS);
        let live = self.buckets.iter().filter(|(stretch, _)| *stretch >= oldest);
        live.fold(Counts::default(), |sum, (_, bucket)| Counts {
            total: sum.total + bucket.total,
            marked: sum.marked + bucket.marked,
        })
    }

    /// The same counts over another span: each bucket goes where its beginning falls.
    pub(crate) fn resized(&self, span: Duration, now: Instant) -> Self {
        let mut resized = Self { origin: self.origin, ..Self::new(span, now) };
        for (stretch, counts) in self.buckets {
            let begun = self.origin + self.width.saturating_mul(u32::try_from(stretch).unwrap_or(u32::MAX));
            resized.add(counts, begun);
        }
        resized
    }

    fn stretch(&self, at: Instant) -> usize {
        let since = at.saturating_duration_since(self.origin).as_nanos() / self.width.as_nanos();
        usize::try_from(since).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Counts = Counts { total: 1, marked: 0 };
    const MARKED: Counts = Counts { total: 1, marked: 1 };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_older_than_the_window_is_gone_however_long_it_was_idle() {
        let start = Instant::now();
        let mut window = Window::new(seconds(30), start);
        window.add(MARKED, start);
        window.add(ONE, start + seconds(10));
        assert_eq!(window.sum(start + seconds(26)), Counts { total: 2, marked: 1 });
        assert_eq!(window.sum(start + seconds(30)), Counts { total: 1, marked: 0 });
        assert_eq!(window.sum(start + seconds(40)), Counts::default());
        window.add(MARKED, start + seconds(86_400));
        assert_eq!(window.sum(start + seconds(86_400)), Counts { total: 1, marked: 1 });
    }

    #[test]
    fn a_late_writer_reaches_its_own_bucket_or_none() {
        let start = Instant::now();
        let mut window = Window::new(seconds(10), start);
        window.add(ONE, start + seconds(9));
        window.add(ONE, start + seconds(5));
        assert_eq!(window.sum(start + seconds(9)).total, 2);
        window.add(ONE, start + seconds(15));
        window.add(ONE, start + seconds(5));
        assert_eq!(window.sum(start + seconds(15)).total, 2, "the bucket belongs to second 15 now");
    }

    #[test]
    fn another_span_keeps_what_it_still_covers() {
        let start = Instant::now();
        let mut window = Window::new(seconds(30), start);
        for second in 0..30 {
            window.add(ONE, start + seconds(second));
        }
        let now = start + seconds(29);
        assert_eq!(window.resized(seconds(300), now).sum(now).total, 30);
        assert_eq!(
            window.resized(seconds(10), now).sum(now).total,
            9,
            "the buckets of seconds 21, 24 and 27"
        );
    }
}
