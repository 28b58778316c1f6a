//! What an agent's calls of a tool came to, for tasks of one kind: totals, and sums that fade with time and with every
//! further outcome (discounted Beta: Raj and Kalyani, "Taming non-stationary bandits", 2017), so that a tool that turns
//! is known soon. Pure.

use chrono::{DateTime, Utc};

use super::{
    blame::Says,
    drift::{Drift, Turn},
};

/// Seconds after which an outcome counts half as much; `selector.decay` has the same.
const HALF_LIFE_S: f64 = 604_800.0;
/// What every outcome leaves of those before it: their sum never exceeds 20.
pub(crate) const FORGET: f64 = 0.95;
/// What a turn leaves of the outcomes that speak for the time before it. Without it, a tool that has recovered from 20 %
/// to 95 % needs three times as many outcomes to stand where it stood.
const KEPT_AT_TURN: f64 = 0.05;
/// Outcomes before which no turn can be told.
const SETTLED: f64 = 5.0;

/// Outcomes, all of them and faded; feedback, faded by time alone.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Counts {
    pub executions: i64,
    pub successes: i64,
    /// Executions, faded as of `decay_time`.
    pub weight: f64,
    /// Successes, faded.
    pub success_weight: f64,
    /// Their durations in milliseconds, faded and summed.
    pub duration_ms: f64,
    /// Their costs in millionths of a US dollar, faded and summed.
    pub cost_micro_usd: f64,
    pub feedbacks: i64,
    /// Feedback with a quality, faded.
    pub quality_weight: f64,
    /// Its quality, faded and summed.
    pub quality: f64,
    pub drift: Drift,
    pub decay_time: DateTime<Utc>,
}

/// One execution, as the counts take it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub says: Says,
    pub succeeded: bool,
    pub duration_ms: f64,
    pub cost_micro_usd: f64,
}

/// What is left of a weight after a time.
pub(crate) fn faded(since: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    let age_s = (now - since).num_milliseconds().max(0) as f64 / 1_000.0;
    0.5_f64.powf(age_s / HALF_LIFE_S)
}

impl Counts {
    /// The same, faded up to a later time.
    pub(crate) fn as_of(&self, now: DateTime<Utc>) -> Self {
        let factor = faded(self.decay_time, now);
        Self {
            weight: self.weight * factor,
            success_weight: self.success_weight * factor,
            duration_ms: self.duration_ms * factor,
            cost_micro_usd: self.cost_micro_usd * factor,
            quality_weight: self.quality_weight * factor,
            quality: self.quality * factor,
            decay_time: self.decay_time.max(now),
            ..self.clone()
        }
    }

    /// Takes the next execution.
    pub(crate) fn record(&mut self, outcome: Outcome, now: DateTime<Utc>) {
        let (duration_ms, cost_micro_usd) = match outcome.says {
            Says::Nothing => return,
            Says::All => (outcome.duration_ms, outcome.cost_micro_usd),
            // With nothing measured there is no average to leave as it is: it would count as one that takes no time.
            Says::Failure if self.weight <= 0.0 => return,
            // It took no time of its own: the averages stay.
            Says::Failure => (self.average_ms(), self.average_cost()),
        };
        *self = self.as_of(now);
        let expected = (self.success_weight + 1.0) / (self.weight + 2.0);
        let turn = (self.weight >= SETTLED).then(|| self.drift.step(expected, outcome.succeeded)).flatten();
        let success = f64::from(u8::from(outcome.succeeded));
        self.executions += 1;
        self.successes += i64::from(outcome.succeeded);
        self.weight = self.weight * FORGET + 1.0;
        self.success_weight = self.success_weight * FORGET + success;
        self.duration_ms = self.duration_ms * FORGET + duration_ms;
        self.cost_micro_usd = self.cost_micro_usd * FORGET + cost_micro_usd;
        match turn {
            Some(Turn::Worse) => self.begin_anew(KEPT_AT_TURN, 1.0),
            Some(Turn::Better) => self.begin_anew(1.0, KEPT_AT_TURN),
            None => {}
        }
    }

    /// Leaves these shares of the successes and of the failures; the averages stay.
    fn begin_anew(&mut self, successes: f64, failures: f64) {
        let kept = self.success_weight * successes + (self.weight - self.success_weight) * failures;
        let share = if self.weight > 0.0 { kept / self.weight } else { 1.0 };
        self.success_weight *= successes;
        self.weight = kept;
        self.duration_ms *= share;
        self.cost_micro_usd *= share;
    }

    /// Takes feedback, in the place of an earlier one of a quality and a time.
    pub(crate) fn rate(
        &mut self,
        quality: Option<f64>,
        earlier: Option<(Option<f64>, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) {
        *self = self.as_of(now);
        if let Some((Some(old), time)) = earlier {
            // Nothing but time has faded it, so that it can be taken out whole.
            let left = faded(time, now);
            self.quality_weight = (self.quality_weight - left).max(0.0);
            self.quality = (self.quality - left * old).clamp(0.0, self.quality_weight);
        }
        if let Some(quality) = quality {
            self.quality_weight += 1.0;
            self.quality += quality;
        }
        self.feedbacks += i64::from(earlier.is_none());
    }

    /// Adds other counts as of the same time; what drifts in each stays its own.
    pub(crate) fn add(&mut self, other: &Self) {
        self.executions += other.executions;
        self.successes += other.successes;
        self.weight += other.weight;
        self.success_weight += other.success_weight;
        self.duration_ms += other.duration_ms;
        self.cost_micro_usd += other.cost_micro_usd;
        self.feedbacks += other.feedbacks;
        self.quality_weight += other.quality_weight;
        self.quality += other.quality;
    }

    /// What is left without a part of it, as of the same time.
    pub(crate) fn without(&self, part: &Self) -> Self {
        let less = |whole: f64, part: f64| (whole - part).max(0.0);
        let weight = less(self.weight, part.weight);
        Self {
            executions: self.executions - part.executions,
            successes: self.successes - part.successes,
            weight,
            success_weight: less(self.success_weight, part.success_weight).min(weight),
            duration_ms: less(self.duration_ms, part.duration_ms),
            cost_micro_usd: less(self.cost_micro_usd, part.cost_micro_usd),
            feedbacks: self.feedbacks - part.feedbacks,
            quality_weight: less(self.quality_weight, part.quality_weight),
            quality: less(self.quality, part.quality),
            ..self.clone()
        }
    }

    /// Average duration in milliseconds; 0 without history. An average does not fade, its parts fade alike.
    pub(crate) fn average_ms(&self) -> f64 {
        share(self.duration_ms, self.weight)
    }

    /// Average cost in millionths of a US dollar; 0 without history.
    pub(crate) fn average_cost(&self) -> f64 {
        share(self.cost_micro_usd, self.weight)
    }

    /// Share of successes, recent ones counting more; 0 without history.
    pub(crate) fn success_rate(&self) -> f64 {
        share(self.success_weight, self.weight)
    }

    /// Average quality by feedback, 0 to 1; `None` without any.
    pub(crate) fn average_quality(&self) -> Option<f64> {
        (self.quality_weight > 1e-9).then(|| (self.quality / self.quality_weight).clamp(0.0, 1.0))
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::TimeDelta;

    use super::*;

    pub(in crate::learn) fn ran(succeeded: bool, duration_ms: f64) -> Outcome {
        Outcome { says: Says::All, succeeded, duration_ms, cost_micro_usd: 100.0 }
    }

    pub(in crate::learn) fn counted(outcomes: impl IntoIterator<Item = bool>) -> Counts {
        let mut counts = Counts::default();
        outcomes.into_iter().for_each(|succeeded| counts.record(ran(succeeded, 50.0), DateTime::UNIX_EPOCH));
        counts
    }

    #[test]
    fn an_execution_counts_half_after_a_week_and_the_total_stays() {
        let counts = Counts { executions: 8, weight: 8.0, ..Counts::default() };
        let later = counts.as_of(DateTime::UNIX_EPOCH + TimeDelta::days(14));
        assert!((later.weight - 2.0).abs() < 1e-9);
        assert_eq!(later.executions, 8);
        assert_eq!(counts.as_of(DateTime::UNIX_EPOCH - TimeDelta::days(1)), counts);
    }

    #[test]
    fn the_weight_of_any_number_of_outcomes_stays_below_twenty() {
        let counts = counted((0..10_000).map(|number| number % 3 > 0));
        assert!(counts.weight <= 20.0 && counts.executions == 10_000, "{counts:?}");
        assert!((counts.average_ms() - 50.0).abs() < 1e-6, "{counts:?}");
    }

    #[test]
    fn a_turn_forgets_the_time_before_it() {
        let mut counts = counted([true; 100]);
        assert!(counts.success_rate() > 0.99);
        (0..8).for_each(|_| counts.record(ran(false, 50.0), DateTime::UNIX_EPOCH));
        assert!(counts.success_rate() < 0.15, "{counts:?}");
        (0..12).for_each(|_| counts.record(ran(true, 50.0), DateTime::UNIX_EPOCH));
        assert!(counts.success_rate() > 0.9, "{counts:?}");
        assert!((counts.average_ms() - 50.0).abs() < 1e-6, "{counts:?}");
    }

    #[test]
    fn an_open_breaker_counts_against_success_alone_and_a_kept_answer_for_nothing() {
        let mut counts = counted([true; 4]);
        let open = Outcome { says: Says::Failure, ..ran(false, 0.0) };
        counts.record(open, DateTime::UNIX_EPOCH);
        assert!((counts.average_ms() - 50.0).abs() < 1e-9 && counts.success_rate() < 0.8, "{counts:?}");
        let mut first = Counts::default();
        first.record(open, DateTime::UNIX_EPOCH);
        first.record(ran(true, 50.0), DateTime::UNIX_EPOCH);
        assert!((first.average_ms() - 50.0).abs() < 1e-9, "no time was measured before: {first:?}");
        let before = counts.clone();
        counts.record(Outcome { says: Says::Nothing, ..ran(true, 0.0) }, DateTime::UNIX_EPOCH);
        assert_eq!(counts, before);
    }

    #[test]
    fn feedback_that_replaces_takes_the_old_one_out_whole() {
        let (mut counts, day) = (Counts::default(), DateTime::UNIX_EPOCH + TimeDelta::days(1));
        counts.rate(Some(0.0), None, DateTime::UNIX_EPOCH);
        counts.rate(Some(1.0), Some((Some(0.0), DateTime::UNIX_EPOCH)), day);
        assert!(
            (counts.quality_weight - 1.0).abs() < 1e-9 && (counts.quality - 1.0).abs() < 1e-9,
            "{counts:?}"
        );
        assert_eq!(counts.feedbacks, 1);
        counts.rate(None, Some((Some(1.0), day)), day);
        assert!(counts.quality_weight.abs() < 1e-9 && counts.quality.abs() < 1e-9, "{counts:?}");
    }
}
