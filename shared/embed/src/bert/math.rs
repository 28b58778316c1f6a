//! The parts of the encoder that stay in floats, written over fixed lanes: the compiler makes SIMD of them for
//! whatever processor the caller is compiled for, and the order of every sum, so every result, is the same on all.
//! No fused multiply-add for the same reason. Does no I/O.

use super::linear::ROUND;

/// Width of the vectors that sums are kept in.
const LANES: usize = 16;
/// What the model was trained with.
const EPSILON: f32 = 1e-12;

/// Least and greatest.
#[inline(always)]
pub(super) fn range(row: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::MAX; LANES], [f32::MIN; LANES]);
    for chunk in row.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
            high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
        }
    }
    (low.into_iter().fold(f32::MAX, f32::min), high.into_iter().fold(f32::MIN, f32::max))
}

#[inline(always)]
pub(super) fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// Sum of `f(number)` over a row whose length is a multiple of the lanes.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    for chunk in row.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            sums[lane] += f(chunk[lane]);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Layer normalisation (Ba and others, 2016) of rows as wide as `gain`.
#[inline(always)]
pub(super) fn normalise(rows: &mut [f32], gain: &[f32], shift: &[f32]) {
    for row in rows.chunks_exact_mut(gain.len()) {
        let mean = sum(row, |number| number) / gain.len() as f32;
        let variance = sum(row, |number| (number - mean) * (number - mean)) / gain.len() as f32;
        let scale = 1.0 / (variance + EPSILON).sqrt();
        for ((number, gain), shift) in row.iter_mut().zip(gain).zip(shift) {
            *number = (*number - mean) * scale * gain + shift;
        }
    }
}

/// e to the power of x, within 2 units in the last place (Cephes, `expf`). Below -87: almost nothing.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the constants as published")]
fn exp(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = x - whole * 0.693_359_375 + whole * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * power
}

/// The error function, within 2e-7 (Abramowitz and Stegun, 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let mut p = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + coefficient;
    }
    (1.0 - p * t * exp(-size * size)).copysign(x)
}

/// Gaussian error linear units (Hendrycks and Gimpel, 2016), the exact form.
#[inline(always)]
pub(super) fn gelu(numbers: &mut [f32]) {
    for number in numbers {
        *number = 0.5 * *number * (1.0 + erf(*number * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Attention within one text (Vaswani and others, 2017). A row of `from` is query, key and value of all heads.
#[inline(always)]
pub(super) fn attend<const HEADS: usize, const HEAD: usize>(from: &[f32], to: &mut [f32]) {
    let width = HEADS * HEAD;
    let rows: Vec<&[f32]> = from.chunks_exact(width * 3).collect();
    let padded = rows.len().next_multiple_of(LANES);
    let mut keys = vec![[0.0_f32; LANES]; HEAD * padded / LANES];
    let mut weights = vec![0.0_f32; padded];
    for head in 0..HEADS {
        let at = head * HEAD;
        // Transposed: 16 keys side by side, one block of their numbers after the other.
        for (number, row) in rows.iter().enumerate() {
            let key: &[f32; HEAD] = row[width + at..].first_chunk().expect("a row has three parts");
            let block = &mut keys[number / LANES * HEAD..][..HEAD];
            for (lanes, key) in block.iter_mut().zip(key) {
                lanes[number % LANES] = *key;
            }
        }
        for (row, to) in rows.iter().zip(to.chunks_exact_mut(width)) {
            let query: &[f32; HEAD] = row[at..].first_chunk().expect("a row has three parts");
            score(query, &keys, &mut weights);
            let total = soften(&mut weights, rows.len());
            let mut mixed = [0.0; HEAD];
            for (row, weight) in rows.iter().zip(&weights) {
                let value: &[f32; HEAD] = row[width * 2 + at..].first_chunk().expect("a row has three parts");
                for (mixed, value) in mixed.iter_mut().zip(value) {
                    *mixed += weight * value;
                }
            }
            for (to, mixed) in to[at..at + HEAD].iter_mut().zip(mixed) {
                *to = mixed / total;
            }
        }
    }
}

/// Products of a query with all keys, over the square root of their length.
#[inline(always)]
fn score<const HEAD: usize>(query: &[f32; HEAD], keys: &[[f32; LANES]], scores: &mut [f32]) {
    let scale = 1.0 / (HEAD as f32).sqrt();
    for (block, scores) in keys.chunks_exact(HEAD).zip(scores.as_chunks_mut::<LANES>().0) {
        let mut sums = [0.0; LANES];
        for (query, keys) in query.iter().zip(block) {
            for lane in 0..LANES {
                sums[lane] += query * keys[lane];
            }
        }
        *scores = sums.map(|sum| sum * scale);
    }
}

/// The exponentials of the first `count` scores, nothing after them; returns their sum.
#[inline(always)]
fn soften(scores: &mut [f32], count: usize) -> f32 {
    let top = scores[..count].iter().fold(f32::MIN, |top, score| if *score > top { *score } else { top });
    for score in scores.iter_mut() {
        *score = exp(*score - top);
    }
    scores[count..].fill(0.0);
    sum(scores, |score| score)
}

#[cfg(test)]
mod tests {
    use super::{erf, exp};

    #[test]
    fn functions_are_close_to_the_true_ones() {
        for step in -8700_i16..=1000 {
            let x = f32::from(step) / 100.0;
            let (got, wanted) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / wanted - 1.0).abs() < 1e-6, "exp({x}) is {got}, not {wanted}");
        }
        assert!(exp(-1e30) < 1e-37);
        // Values of the error function, from tables.
        for (x, wanted) in
            [(0.0, 0.0), (0.1, 0.112_462_92), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (3.0, 0.999_977_9)]
        {
            assert!(
                (erf(x) - wanted).abs() < 5e-7 && (erf(-x) + wanted).abs() < 5e-7,
                "erf({x}) is {}",
                erf(x)
            );
        }
    }
}
