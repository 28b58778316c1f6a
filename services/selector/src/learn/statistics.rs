//! The tests behind a trend, and the interval of a rate. Pure; every value in the tests below is what SciPy 1.17 gives.

use std::f64::consts::PI;

/// Most outcomes for which Fisher's test is summed; with more, the normal approximation is as good.
const MAX_EXACT: u64 = 2_000;
/// How far from each other two probabilities may be that are equal but for rounding.
const ROUNDING: f64 = 1e-7;
/// The 97.5 % point of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// Successes and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub successes: u64,
    pub failures: u64,
}

impl Tally {
    pub(crate) fn total(self) -> u64 {
        self.successes + self.failures
    }

    pub(crate) fn rate(self) -> f64 {
        if self.total() == 0 { 0.0 } else { self.successes as f64 / self.total() as f64 }
    }
}

/// A sample, as its sums.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sample {
    pub count: f64,
    pub sum: f64,
    pub squares: f64,
}

impl Sample {
    pub(crate) fn mean(self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }

    fn variance(self) -> f64 {
        let rest = self.squares - self.sum * self.sum / self.count;
        (rest / (self.count - 1.0)).max(0.0)
    }
}

/// The chance that two equal rates differ as much as these: Fisher's exact test, two-sided; for large numbers the z test
/// of two proportions. 1 where one of them is empty.
pub(crate) fn rates_p_value(first: Tally, second: Tally) -> f64 {
    let all = first.total() + second.total();
    let successes = first.successes + second.successes;
    if first.total() == 0 || second.total() == 0 || successes == 0 || successes == all {
        return 1.0;
    }
    if all <= MAX_EXACT { fisher(first, second) } else { two_proportions(first, second) }
}

/// The sum of the probabilities of every table with these margins that is no likelier than this one.
fn fisher(first: Tally, second: Tally) -> f64 {
    let (left, right) = (first.total(), second.total());
    let successes = first.successes + second.successes;
    let ln_all = ln_choose(left + right, successes);
    let probability = |x: u64| (ln_choose(left, x) + ln_choose(right, successes - x) - ln_all).exp();
    let seen = probability(first.successes) * (1.0 + ROUNDING);
    let tables = successes.saturating_sub(right)..=successes.min(left);
    tables.map(probability).filter(|probability| *probability <= seen).sum::<f64>().min(1.0)
}

fn two_proportions(first: Tally, second: Tally) -> f64 {
    let (left, right) = (first.total() as f64, second.total() as f64);
    let pooled = (first.successes + second.successes) as f64 / (left + right);
    let error = (pooled * (1.0 - pooled) * (1.0 / left + 1.0 / right)).sqrt();
    normal_p_value((first.rate() - second.rate()) / error)
}

/// The chance that two equal means differ as much as these: Welch's t test, two-sided. 1 where it cannot be said.
pub(crate) fn means_p_value(first: Sample, second: Sample) -> f64 {
    if first.count < 2.0 || second.count < 2.0 {
        return 1.0;
    }
    let (left, right) = (first.variance() / first.count, second.variance() / second.count);
    let error = left + right;
    let difference = first.mean() - second.mean();
    if error <= f64::EPSILON {
        return if difference.abs() <= ROUNDING { 1.0 } else { 0.0 };
    }
    let freedom = error * error / (left * left / (first.count - 1.0) + right * right / (second.count - 1.0));
    student_p_value(difference * difference / error, freedom)
}

/// Lower and upper end of the interval that holds a rate with 95 % (E. B. Wilson, 1927). `successes` and `total` may be
/// faded counts; 0 to 1 without any.
pub(crate) fn wilson(successes: f64, total: f64) -> (f64, f64) {
    if total <= 0.0 {
        return (0.0, 1.0);
    }
    let (rate, square) = (successes / total, Z_95 * Z_95);
    let middle = (rate + square / (2.0 * total)) / (1.0 + square / total);
    let spread = (rate * (1.0 - rate) / total + square / (4.0 * total * total)).max(0.0).sqrt();
    let half = Z_95 * spread / (1.0 + square / total);
    ((middle - half).clamp(0.0, 1.0), (middle + half).clamp(0.0, 1.0))
}

/// Two-sided p value of a t whose square is given.
fn student_p_value(t_square: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t_square))
}

/// Two-sided p value of a standard normal: the t distribution in the limit of its degrees of freedom.
fn normal_p_value(z: f64) -> f64 {
    incomplete_gamma_half(z * z / 2.0)
}

/// The upper regularised incomplete gamma function of 1/2: series below 1.5, continued fraction above (Numerical
/// Recipes, 6.2).
fn incomplete_gamma_half(x: f64) -> f64 {
    let a = 0.5;
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x <= 0.0 {
        return 1.0;
    }
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * f64::EPSILON {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - front * sum;
    }
    let mut fraction = Fraction::new(x + 1.0 - a);
    for n in 1..200 {
        let n = f64::from(n);
        if fraction.step(n * (a - n), x + 1.0 - a + 2.0 * n) {
            break;
        }
    }
    front / fraction.value
}

/// The regularised incomplete beta function, by its continued fraction (Numerical Recipes, 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges quickly on this side alone.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let mut fraction = Fraction::new(1.0);
    for m in 0..500 {
        let m = f64::from(m);
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let even = (m + 1.0) * (b - m - 1.0) * x / ((a + 2.0 * m + 1.0) * (a + 2.0 * m + 2.0));
        if fraction.step(odd, 1.0) & fraction.step(even, 1.0) {
            break;
        }
    }
    front / fraction.value
}

/// A continued fraction by the modified method of Lentz.
struct Fraction {
    value: f64,
    c: f64,
    d: f64,
}

impl Fraction {
    fn new(first: f64) -> Self {
        Self { value: first, c: first, d: 0.0 }
    }

    /// Takes the next numerator and denominator; whether it has converged.
    fn step(&mut self, numerator: f64, denominator: f64) -> bool {
        const TINY: f64 = 1e-300;
        let apart = |value: f64| if value.abs() < TINY { TINY } else { value };
        self.d = 1.0 / apart(denominator + numerator * self.d);
        self.c = apart(denominator + numerator / self.c);
        self.value *= self.c * self.d;
        (self.c * self.d - 1.0).abs() < 1e-14
    }
}

fn ln_choose(of: u64, chosen: u64) -> f64 {
    let ln_factorial = |n: u64| ln_gamma(n as f64 + 1.0);
    ln_factorial(of) - ln_factorial(chosen) - ln_factorial(of - chosen)
}

/// The logarithm of the gamma function of a positive number (C. Lanczos, 1964; coefficients for g = 7, n = 9 by
/// P. Godfrey).
fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 7.0;
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let terms = COEFFICIENTS.iter().zip(0_u32..).skip(1);
    let sum = terms.fold(COEFFICIENTS[0], |sum, (coefficient, n)| sum + coefficient / (x + f64::from(n)));
    let t = x + G + 0.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, wanted: f64) {
        assert!((got - wanted).abs() <= 1e-9 + 1e-8 * wanted.abs(), "{got} is not {wanted}");
    }

    fn tally((successes, failures): (u64, u64)) -> Tally {
        Tally { successes, failures }
    }

    #[test]
    fn fishers_test_gives_what_scipy_gives() {
        for (first, second, wanted) in [
            ((8, 2), (1, 5), 0.034_965_034_965_034_975),
            ((95, 5), (20, 80), 8.542_024_895_438_386e-30),
            ((19, 1), (12, 8), 0.019_656_019_656_019_656),
            ((100, 0), (97, 3), 0.246_231_155_778_894_48),
            ((500, 20), (480, 45), 0.001_919_797_044_484_241),
        ] {
            near(rates_p_value(tally(first), tally(second)), wanted);
        }
        near(rates_p_value(tally((1_900, 100)), tally((1_840, 160))), 0.000_118_984_008_137_579_01);
        for (first, second) in [((0, 0), (5, 5)), ((9, 0), (7, 0)), ((0, 9), (0, 3))] {
            near(rates_p_value(tally(first), tally(second)), 1.0);
        }
    }

    #[test]
    fn welchs_test_gives_what_scipy_gives() {
        let sample = |mean: f64, deviation: f64, count: f64| Sample {
            count,
            sum: mean * count,
            squares: deviation * deviation * (count - 1.0) + mean * mean * count,
        };
        near(means_p_value(sample(2.0, 1.0, 10.0), sample(2.5, 0.5, 12.0)), 0.174_526_789_140_260_54);
        near(means_p_value(sample(4.6, 0.3, 50.0), sample(4.7, 0.25, 40.0)), 0.088_131_076_555_836_44);
        near(means_p_value(sample(5.0, 0.1, 8.0), sample(5.0, 0.2, 8.0)), 1.0);
        near(means_p_value(sample(5.0, 0.0, 8.0), sample(6.0, 0.0, 8.0)), 0.0);
        near(means_p_value(sample(5.0, 0.0, 1.0), sample(6.0, 0.0, 8.0)), 1.0);
    }

    #[test]
    fn special_functions_give_what_scipy_gives() {
        for (x, wanted) in [
            (0.5, 0.572_364_942_924_7),
            (1.0, 0.0),
            (3.7, 1.428_072_326_665_388),
            (100.0, 359.134_205_369_575_4),
            (1_234.5, 7_550.550_901_077_894),
        ] {
            near(ln_gamma(x), wanted);
        }
        for (a, b, x, wanted) in [
            (2.0, 3.0, 0.4, 0.524_799_999_999_999_9),
            (0.5, 0.5, 0.1, 0.204_832_764_699_133_45),
            (50.0, 2.0, 0.97, 0.545_163_438_368_518_1),
            (5.0, 0.5, 0.9, 0.316_642_915_020_012_2),
        ] {
            near(incomplete_beta(a, b, x), wanted);
        }
        for (z, wanted) in [
            (0.1, 0.920_344_325_445_942),
            (1.0, 0.317_310_507_862_914_15),
            (1.96, 0.049_995_790_296_440_87),
            (6.0, 1.973_175_290_075_389e-9),
        ] {
            near(normal_p_value(z), wanted);
        }
    }

    #[test]
    fn the_interval_of_a_rate_is_wilsons() {
        let (low, high) = wilson(8.0, 10.0);
        near(low, 0.490_162_471_536_641_8);
        near(high, 0.943_317_848_545_624_8);
        let (low, high) = wilson(0.0, 5.0);
        near(low, 0.0);
        near(high, 0.434_482_464_783_174_76);
        assert_eq!(wilson(0.0, 0.0), (0.0, 1.0));
    }
}
