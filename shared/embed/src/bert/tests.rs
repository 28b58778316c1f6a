//! Every kernel of this processor against plain arithmetic, and against each other on a whole text.

use super::linear::{Linear, Quantised};
#[cfg(target_arch = "x86_64")]
use super::tile::{Avx2, Avx512};
use super::tile::{Kernel, Plain, Tile};
use super::{Bert, WIDTH};

/// Numbers from -1 to 1 that look like chance and are always the same (a linear congruential generator).
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn apply<T: Tile>(linear: &Linear, rows: &[f32]) -> Vec<f32> {
    let mut quantised = Quantised::default();
    quantised.fill(rows, WIDTH);
    let mut out = vec![0.0; rows.len() / WIDTH * 64];
    linear.apply::<T>(&quantised, &mut out);
    out
}

#[test]
fn layers_multiply_as_floats_do_whatever_the_kernel() {
    // The largest weights there are among them: where 16 bits would overflow if they had 8.
    #[expect(clippy::cast_possible_truncation, reason = "between -64 and 63")]
    let weights: Vec<i8> = noise(64 * WIDTH, 1).iter().map(|n| (n * 70.0).clamp(-64.0, 63.0) as i8).collect();
    let (scale, bias) = (vec![0.01; 64], noise(64, 2));
    let linear = Linear::packed(&weights, scale, bias.clone(), WIDTH);
    for count in 1..=9 {
        let mut rows = noise(count * WIDTH, 3);
        rows[..WIDTH].fill(0.0);
        rows.iter_mut().skip(WIDTH).step_by(7).for_each(|number| *number = 1.0);
        let wanted: Vec<f32> = rows
            .chunks_exact(WIDTH)
            .flat_map(|row| {
                weights.chunks_exact(WIDTH).zip(&bias).map(move |(weights, bias)| {
                    weights.iter().zip(row).map(|(w, x)| f32::from(*w) * x).sum::<f32>() * 0.01 + bias
                })
            })
            .collect();
        let got = apply::<Plain>(&linear, &rows);
        for (got, wanted) in got.iter().zip(&wanted) {
            assert!((got - wanted).abs() < 0.1, "{got} and {wanted} of {count} rows");
        }
        for kernel in Kernel::all() {
            let same = match kernel {
                #[cfg(target_arch = "x86_64")]
                Kernel::Avx512 => apply::<Avx512>(&linear, &rows),
                #[cfg(target_arch = "x86_64")]
                Kernel::Avx2 => apply::<Avx2>(&linear, &rows),
                Kernel::Plain => apply::<Plain>(&linear, &rows),
            };
            assert_eq!(same, got, "{kernel:?}, {count} rows");
        }
    }
}

#[test]
fn every_kernel_makes_the_same_vectors() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/all-minilm-l6-v2/model.safetensors");
    let mut bert = Bert::new(&std::fs::read(folder).unwrap(), 30_522).unwrap();
    let texts: Vec<Vec<u32>> =
        [3, 17, 40, 200].map(|count| (0..count).map(|i| 1000 + i * 97).collect()).into();
    let best = bert.embed(&texts);
    for kernel in Kernel::all() {
        bert.kernel = kernel;
        assert!(bert.embed(&texts) == best, "{kernel:?} and {:?}", Kernel::best());
    }
}
