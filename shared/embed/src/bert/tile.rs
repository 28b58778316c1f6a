//! The innermost loop: a few rows of 8-bit numbers times 64 outputs' weights, as exact 32-bit sums. One for AVX-512 with
//! VNNI, one for AVX2, and one that any processor runs. Must never give another sum than the plain one.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi32, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_setzero_si256, _mm512_dpbusd_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
};

/// Outputs of a panel.
pub(super) const LANES: usize = 16;
/// Panels of a tile.
pub(super) const PANELS: usize = 4;

/// The weights of 16 outputs for four inputs.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Panel(pub(super) [i8; LANES * 4]);

/// Sums of one row.
pub(super) type Sums = [[i32; LANES]; PANELS];

/// Most rows that any tile takes at a time.
pub(super) const MAX_ROWS: usize = 6;

/// Which of the tiles the processor can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

impl Kernel {
    /// All that this processor can run, the fastest first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            if avx512 && has!("avx512vnni") && has!("avx2") {
                all.push(Self::Avx512);
            }
            if has!("avx2") {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Plain);
        all
    }

    pub(super) fn best() -> Self {
        Self::all()[0]
    }
}

/// One way to multiply.
pub(super) trait Tile {
    /// Most rows at a time.
    const ROWS: usize;

    /// Multiplies up to `ROWS` rows of `inputs` numbers with the panels of a slab (all groups of the first panel, then
    /// of the second ...), and leaves each row's sums in `out`.
    fn multiply(rows: &[u8], inputs: usize, slab: &[Panel], out: &mut [Sums; MAX_ROWS]);
}

/// A row's numbers in fours, and the panels of a slab.
#[inline(always)]
fn parts<'a, const ROWS: usize>(
    rows: &'a [u8],
    inputs: usize,
    slab: &'a [Panel],
) -> ([&'a [[u8; 4]]; ROWS], [&'a [Panel]; PANELS]) {
    let groups = inputs / 4;
    let row = |number: usize| &rows[number * inputs..][..inputs].as_chunks::<4>().0[..groups];
    let panel = |number: usize| &slab[number * groups..][..groups];
    (std::array::from_fn(row), std::array::from_fn(panel))
}

/// Runs `$tile::<N>` for as many rows as there are.
macro_rules! by_rows {
    ($tile:ident, $rows:expr, $inputs:expr, $slab:expr, $out:expr, $($n:literal)+) => {
        match $rows.len() / $inputs {
            $($n => {
                // SAFETY: whoever calls a tile by this trait has what the tile is compiled for.
                #[allow(unused_unsafe, reason = "the plain one is safe")]
                unsafe { $tile::<$n>($rows, $inputs, $slab, $out.first_chunk_mut().expect("MAX_ROWS is most")) };
            })+
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

/// For any processor.
pub(super) struct Plain;

impl Tile for Plain {
    const ROWS: usize = 1;

    #[inline(always)]
    fn multiply(rows: &[u8], inputs: usize, slab: &[Panel], out: &mut [Sums; MAX_ROWS]) {
        by_rows!(plain, rows, inputs, slab, out, 1);
    }
}

#[inline(always)]
fn plain<const ROWS: usize>(rows: &[u8], inputs: usize, slab: &[Panel], out: &mut [Sums; ROWS]) {
    let (rows, panels) = parts::<ROWS>(rows, inputs, slab);
    for (row, out) in rows.iter().zip(out) {
        for (panel, sums) in panels.iter().zip(out) {
            *sums = [0; LANES];
            for (four, weights) in row.iter().zip(*panel) {
                for (sum, weights) in sums.iter_mut().zip(weights.0.as_chunks::<4>().0) {
                    let products = four
                        .iter()
                        .zip(weights)
                        .map(|(number, weight)| i32::from(*number) * i32::from(*weight));
                    *sum += products.sum::<i32>();
                }
            }
        }
    }
}

/// 64 products an instruction.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Tile for Avx512 {
    const ROWS: usize = 6;

    #[inline(always)]
    fn multiply(rows: &[u8], inputs: usize, slab: &[Panel], out: &mut [Sums; MAX_ROWS]) {
        by_rows!(avx512, rows, inputs, slab, out, 1 2 3 4 5 6);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn avx512<const ROWS: usize>(rows: &[u8], inputs: usize, slab: &[Panel], out: &mut [Sums; ROWS]) {
    let (rows, panels) = parts::<ROWS>(rows, inputs, slab);
    let mut sums = [[_mm512_setzero_si512(); PANELS]; ROWS];
    for group in 0..inputs / 4 {
        // SAFETY: both are 64 bytes without padding, of which any value will do.
        let weights = panels.map(|panel| unsafe { std::mem::transmute::<Panel, __m512i>(panel[group]) });
        for row in 0..ROWS {
            let four = _mm512_set1_epi32(i32::from_le_bytes(rows[row][group]));
            for panel in 0..PANELS {
                sums[row][panel] = _mm512_dpbusd_epi32(sums[row][panel], four, weights[panel]);
            }
        }
    }
    for row in 0..ROWS {
        for panel in 0..PANELS {
            // SAFETY: as above.
            out[row][panel] = unsafe { std::mem::transmute::<__m512i, [i32; LANES]>(sums[row][panel]) };
        }
    }
}

/// 32 products in two instructions. The first adds two of them in 16 bits, which holds 2 x 255 x 64: weights have 7 bits.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Tile for Avx2 {
    const ROWS: usize = 4;

    #[inline(always)]
    fn multiply(rows: &[u8], inputs: usize, slab: &[Panel], out: &mut [Sums; MAX_ROWS]) {
        by_rows!(avx2, rows, inputs, slab, out, 1 2 3 4);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn avx2<const ROWS: usize>(rows: &[u8], inputs: usize, slab: &[Panel], out: &mut [Sums; ROWS]) {
    let (rows, panels) = parts::<ROWS>(rows, inputs, slab);
    let ones = _mm256_set1_epi16(1);
    for (number, panel) in panels.iter().enumerate() {
        // Two halves of a panel: eight sums, which is what the registers hold.
        let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
        for group in 0..inputs / 4 {
            // SAFETY: both are 64 bytes without padding, of which any value will do.
            let weights = unsafe { std::mem::transmute::<Panel, [__m256i; 2]>(panel[group]) };
            for row in 0..ROWS {
                let four = _mm256_set1_epi32(i32::from_le_bytes(rows[row][group]));
                for half in 0..2 {
                    let pairs = _mm256_maddubs_epi16(four, weights[half]);
                    sums[row][half] = _mm256_add_epi32(sums[row][half], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            // SAFETY: as above.
            out[row][number] = unsafe { std::mem::transmute::<[__m256i; 2], [i32; LANES]>(sums) };
        }
    }
}
