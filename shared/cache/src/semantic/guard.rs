//! Whether a tool's matches may be served: two sequential tests on whether the served answer would have been
//! right. Must never serve before the evidence is there.
//!
//! **Admission.** While learning, every match is compared with the tool's real answer. Serving starts once
//! "at least `max_error` of the matches are wrong" is rejected at 5 %. The test is a mixture martingale: the
//! likelihood of the comparisons under a Beta-mixed error rate over that under `max_error` exactly; by
//! Ville's inequality (1939; see Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric,
//! nonasymptotic confidence sequences", Annals of Statistics 2021) it exceeds 20 with a chance of 5 % at
//! most, at whatever moment one looks. A fixed-size bound such as Clopper and Pearson's, looked at after each
//! comparison, would not hold its 5 %. The prior is put below `max_error`: without an error, 1 % takes 363
//! comparisons and 5 % takes 71, against 299 and 59 of the fixed-size bound.
//!
//! **Withdrawal.** While serving, a random share of the matches is compared further. Page's cumulative sum
//! (Biometrika 1954) weighs "twice `max_error`" against "half of it" and starts again at 0 whenever it falls
//! below: it notices a change for the worse however long all went well. Beyond ln 100, which four errors in
//! quick succession reach, the guard is off until the settings change.
//!
//! The idea of learning before serving under a bound on errors is that of vCache (Schroeder et al. 2025).

/// Greatest chance of ever admitting a tool whose matches are wrong too often.
const ADMISSION_ALPHA: f64 = 0.05;
/// Likelihood ratio beyond which the matches count as having become wrong too often.
const WITHDRAWAL_RATIO: f64 = 100.0;
/// The Beta prior's first parameter; its second is this over `max_error`, so that its mean is about a quarter
/// of it.
const PRIOR_ERRORS: f64 = 1.0;
const PRIOR_SCALE: f64 = 4.0;
/// Highest error rate that the withdrawal's alternative assumes.
const MAX_ALTERNATIVE: f64 = 0.99;

/// What is done with a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Compared, never served.
    Learning,
    /// Served, and now and then compared.
    Serving,
    /// Neither, until the settings change.
    Off,
}

/// What is known about a tool's matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is done with them.
    pub mode: Mode,
    /// Matches compared with the real answer.
    pub comparisons: u64,
    /// Those whose answer was another.
    pub disagreements: u64,
}

/// The tests of one tool.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) settings_digest: String,
    max_error: f64,
    standing: Standing,
    /// Natural logarithm of the admission martingale.
    log_evidence: f64,
    /// Page's sum.
    sum: f64,
}

impl Guard {
    pub(crate) fn new(settings_digest: &str, max_error: f64) -> Self {
        Self {
            settings_digest: settings_digest.to_owned(),
            max_error,
            standing: Standing { mode: Mode::Learning, comparisons: 0, disagreements: 0 },
            log_evidence: 0.0,
            sum: 0.0,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Takes in one comparison, and gives the mode from here on.
    pub(crate) fn observe(&mut self, agrees: bool) -> Mode {
        self.log_evidence += self.admission_step(agrees);
        self.standing.comparisons += 1;
        self.standing.disagreements += u64::from(!agrees);
        match self.standing.mode {
            Mode::Learning if self.is_admitted() => self.standing.mode = Mode::Serving,
            Mode::Serving => {
                self.sum = (self.sum + self.withdrawal_step(agrees)).max(0.0);
                if self.sum > WITHDRAWAL_RATIO.ln() {
                    self.standing.mode = Mode::Off;
                }
            }
            Mode::Learning | Mode::Off => {}
        }
        self.standing.mode
    }

    /// Beyond the bound from below: many errors are evidence against `max_error`, too.
    fn is_admitted(&self) -> bool {
        let rate = self.standing.disagreements as f64 / self.standing.comparisons as f64;
        rate < self.max_error && self.log_evidence >= (1.0 / ADMISSION_ALPHA).ln()
    }

    /// Logarithm of the chance that the mixture gave to this comparison over the one that `max_error` gives.
    fn admission_step(&self, agrees: bool) -> f64 {
        let prior_agreements = PRIOR_SCALE / self.max_error;
        let errors = PRIOR_ERRORS + self.standing.disagreements as f64;
        let all = PRIOR_ERRORS + prior_agreements + self.standing.comparisons as f64;
        log_ratio(errors / all, self.max_error, agrees)
    }

    fn withdrawal_step(&self, agrees: bool) -> f64 {
        log_ratio((2.0 * self.max_error).min(MAX_ALTERNATIVE), 0.5 * self.max_error, agrees)
    }
}

/// Logarithm of the chance of this outcome at one error rate over that at another.
fn log_ratio(one: f64, other: f64, agrees: bool) -> f64 {
    if agrees { ((1.0 - one) / (1.0 - other)).ln() } else { (one / other).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn admitted_after(max_error: f64) -> u64 {
        let mut guard = Guard::new("", max_error);
        while guard.observe(true) == Mode::Learning {}
        guard.standing().comparisons
    }

    fn run(guard: &mut Guard, rng: &mut StdRng, error_rate: f64, comparisons: u32) -> Mode {
        for _ in 0..comparisons {
            guard.observe(rng.random::<f64>() >= error_rate);
        }
        guard.standing().mode
    }

    #[test]
    fn serving_takes_as_many_agreements_as_the_text_says() {
        assert_eq!(admitted_after(0.01), 363);
        assert_eq!(admitted_after(0.05), 71);
    }

    #[test]
    fn a_rate_at_the_bound_is_hardly_ever_admitted_however_long_one_looks() {
        let mut rng = StdRng::seed_from_u64(1);
        let admitted = (0..400)
            .filter(|_| run(&mut Guard::new("", 0.05), &mut rng, 0.05, 4_000) != Mode::Learning)
            .count();
        assert!(admitted <= 32, "{admitted} of 400: 20 expected at most, 32 is 2.7 deviations above");
    }

    #[test]
    fn nothing_but_errors_is_strong_evidence_and_admits_nothing() {
        let mut guard = Guard::new("", 0.05);
        assert_eq!(run(&mut guard, &mut StdRng::seed_from_u64(5), 1.0, 1_000), Mode::Learning);
        assert!(guard.log_evidence > 100.0, "the martingale itself has no direction");
    }

    #[test]
    fn a_low_rate_is_admitted_and_stays() {
        let mut rng = StdRng::seed_from_u64(2);
        let serving = (0..100)
            .filter(|_| run(&mut Guard::new("", 0.05), &mut rng, 0.01, 2_000) == Mode::Serving)
            .count();
        assert!(serving >= 95, "{serving}");
    }

    #[test]
    fn a_change_for_the_worse_is_noticed_soon_after_long_good_service() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut slowest = 0;
        for _ in 0..100 {
            let mut guard = Guard::new("", 0.05);
            while guard.standing().comparisons < 5_000 {
                guard.observe(true);
            }
            let mut comparisons = 0;
            while run(&mut guard, &mut rng, 0.2, 1) != Mode::Off {
                comparisons += 1;
            }
            slowest = slowest.max(comparisons);
        }
        assert!(slowest < 100, "{slowest}");
    }

    #[test]
    fn four_errors_in_a_row_end_it_and_nothing_brings_it_back() {
        let mut guard = Guard::new("", 0.01);
        for _ in 0..363 {
            guard.observe(true);
        }
        let modes = [false; 4].map(|agrees| guard.observe(agrees));
        assert_eq!(modes, [Mode::Serving, Mode::Serving, Mode::Serving, Mode::Off]);
        assert_eq!(run(&mut guard, &mut StdRng::seed_from_u64(4), 0.0, 10_000), Mode::Off);
    }
}
