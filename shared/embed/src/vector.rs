//! A direction of text, kept in 8 bits a number: what is compared, stored and averaged.
//! Must never be compared with one of another model; `Embedder::model_id` tells them apart.

use std::fmt;

/// First byte of a stored vector; raised when its form changes.
const FORM: u8 = 1;
/// Longest vector that is read back.
const MAX_DIMENSION: usize = 4096;
/// How far from 1 the length of a stored vector may be: many times the rounding of 8 bits.
const TOLERANCE: f32 = 0.02;

/// A vector of length 1, or the one without direction (all zeros), which is like nothing.
/// A number is `value * scale`; the largest `value` is 127 or -127.
#[derive(Clone, PartialEq)]
pub struct Vector {
    values: Box<[i8]>,
    scale: f32,
}

impl Vector {
    /// The direction of some numbers: of length 1 whatever theirs is. Without direction if all are zero or one is
    /// not finite.
    pub fn of(numbers: &[f32]) -> Self {
        let top = numbers.iter().fold(0.0_f32, |top, number| top.max(number.abs()));
        if top <= 0.0 || !numbers.iter().all(|number| number.is_finite()) {
            return Self { values: vec![0; numbers.len()].into(), scale: 0.0 };
        }
        #[expect(clippy::cast_possible_truncation, reason = "between -127 and 127")]
        let values: Box<[i8]> =
            numbers.iter().map(|number| (number / top * 127.0).round_ties_even() as i8).collect();
        let scale = 1.0 / length(&values);
        Self { values, scale }
    }

    /// Cosine of the angle to another of the same model, -1 to 1: 1 is the same direction, 0 nothing in common. Of
    /// vectors of different length, or with the one without direction: 0.
    pub fn dot(&self, other: &Self) -> f32 {
        if self.values.len() != other.values.len() {
            return 0.0;
        }
        sum_of_products(&self.values, &other.values) as f32 * (self.scale * other.scale)
    }

    pub(crate) fn values(&self) -> &[i8] {
        &self.values
    }

    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// How many numbers there are.
    pub fn dimension(&self) -> usize {
        self.values.len()
    }

    /// Whether this is the vector without direction, that of a text without words.
    pub fn is_zero(&self) -> bool {
        self.scale == 0.0
    }

    /// The numbers.
    pub fn numbers(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.values.iter().map(|value| f32::from(*value) * self.scale)
    }

    /// The form it is stored in: a byte for the form, the scale as a little-endian f32, a byte a number.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(5 + self.values.len());
        bytes.push(FORM);
        bytes.extend(self.scale.to_le_bytes());
        bytes.extend(self.values.iter().map(|value| value.cast_unsigned()));
        bytes
    }

    /// What `to_bytes` made. `None` for anything else: another form, cut short, or not of length 1.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, values) = bytes.split_first_chunk::<5>()?;
        let [form, scale @ ..] = *head;
        if form != FORM || values.is_empty() || values.len() > MAX_DIMENSION {
            return None;
        }
        let scale = f32::from_le_bytes(scale);
        let values: Box<[i8]> = values.iter().map(|byte| byte.cast_signed()).collect();
        let size = length(&values) * scale;
        let valid = if scale == 0.0 {
            values.iter().all(|value| *value == 0)
        } else {
            (size - 1.0).abs() < TOLERANCE
        };
        valid.then_some(Self { values, scale })
    }
}

/// Numbers are not shown: they tell about the text.
impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vector").field("dimension", &self.values.len()).finish_non_exhaustive()
    }
}

fn length(values: &[i8]) -> f32 {
    (sum_of_products(values, values) as f32).sqrt()
}

/// Exact: 4,096 products of at most 2^14 stay far below 2^31.
fn sum_of_products(a: &[i8], b: &[i8]) -> i32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { sum_of_products_avx2(a, b) };
    }
    sum_of_products_plain(a, b)
}

/// The same of each row of a matrix, whose rows are as long as `b`, behind one another.
pub(crate) fn sums_of_products(rows: &[i8], b: &[i8], sums: &mut Vec<f32>) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vl") {
            // SAFETY: the processor has all that the function is compiled for.
            return unsafe { sums_of_products_avx512(rows, b, sums) };
        }
        if has!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { sums_of_products_avx2(rows, b, sums) };
        }
    }
    sums_of_products_plain(rows, b, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sums_of_products_avx512(rows: &[i8], b: &[i8], sums: &mut Vec<f32>) {
    sums_of_products_plain(rows, b, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sums_of_products_avx2(rows: &[i8], b: &[i8], sums: &mut Vec<f32>) {
    sums_of_products_plain(rows, b, sums);
}

#[inline(always)]
fn sums_of_products_plain(rows: &[i8], b: &[i8], sums: &mut Vec<f32>) {
    // A loop and no closure: closures are not compiled for the processor that the caller is.
    for row in rows.chunks_exact(b.len()) {
        sums.push(sum_of_products_plain(row, b) as f32);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_of_products_avx2(a: &[i8], b: &[i8]) -> i32 {
    sum_of_products_plain(a, b)
}

/// Written so that the compiler makes SIMD of it for whatever processor the caller is compiled for.
#[inline(always)]
fn sum_of_products_plain(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::Vector;

    #[test]
    fn has_length_1_and_keeps_angles() {
        let a: Vec<f32> = (0..384_u16).map(|i| f32::from(i % 23) - 11.0).collect();
        let b: Vec<f32> = (0..384_u16).map(|i| f32::from(i % 7) - 2.0).collect();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        let (x, y) = (Vector::of(&a), Vector::of(&b));
        assert!((x.dot(&x) - 1.0).abs() < 1e-5 && (y.dot(&y) - 1.0).abs() < 1e-5);
        assert!((x.dot(&y) - cosine).abs() < 0.005, "{} and {cosine}", x.dot(&y));
        let back: Vec<f32> = x.numbers().collect();
        assert!((dot(&back, &a) / dot(&a, &a).sqrt() - 1.0).abs() < 1e-3);
    }

    #[test]
    fn of_nothing_has_no_direction() {
        let some = Vector::of(&[1.0, 0.0]);
        for numbers in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            let nothing = Vector::of(&numbers);
            assert!(nothing.is_zero() && nothing.dot(&some) == 0.0, "{numbers:?}");
            assert_eq!(Vector::from_bytes(&nothing.to_bytes()), Some(nothing));
        }
        assert_eq!(some.dot(&Vector::of(&[1.0])).to_bits(), 0);
    }

    #[test]
    fn comes_back_from_bytes_and_nothing_else_does() {
        let vector = Vector::of(&[0.3, -0.2, 0.9]);
        let bytes = vector.to_bytes();
        assert_eq!(Vector::from_bytes(&bytes).as_ref(), Some(&vector));
        let changed = |at: usize, to: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = to;
            bytes
        };
        let bad =
            [vec![], bytes[..5].to_vec(), bytes[..7].to_vec(), changed(0, 2), changed(4, 255), changed(7, 3)];
        for bytes in bad {
            assert_eq!(Vector::from_bytes(&bytes), None, "{bytes:?}");
        }
        let mut long = vec![1, 0, 0, 0, 0];
        long.resize(5 + 4097, 0);
        assert_eq!(Vector::from_bytes(&long), None);
    }

    #[test]
    fn shows_no_number() {
        assert_eq!(format!("{:?}", Vector::of(&[0.3, -0.2])), "Vector { dimension: 2, .. }");
    }
}
