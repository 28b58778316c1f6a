//! Vectors side by side in memory, to be compared with one vector after another: reading them in order costs a fraction of
//! following a pointer to each. Must say the same as comparing one by one.

use crate::vector::{Vector, sums_of_products};

/// Vectors of one dimension, in the order they were put in.
#[derive(Debug, Default)]
pub struct Rows {
    dimension: usize,
    values: Vec<i8>,
    /// 0 where there is none.
    scales: Vec<f32>,
}

impl Rows {
    /// Rows of this dimension, none yet, with room for so many.
    pub fn new(dimension: usize, room: usize) -> Self {
        Self { dimension, values: Vec::with_capacity(dimension * room), scales: Vec::with_capacity(room) }
    }

    /// Puts one in behind the others. `None`, and one of another dimension, is the vector without direction.
    pub fn push(&mut self, vector: Option<&Vector>) {
        if let Some(vector) = vector.filter(|vector| vector.dimension() == self.dimension) {
            self.values.extend_from_slice(vector.values());
            self.scales.push(vector.scale());
        } else {
            self.values.resize(self.values.len() + self.dimension, 0);
            self.scales.push(0.0);
        }
    }

    /// Cosine of each to a vector, in their order, as [`Vector::dot`] has it.
    pub fn cosines(&self, to: &Vector) -> Vec<f32> {
        if self.dimension == 0 || to.dimension() != self.dimension {
            return vec![0.0; self.scales.len()];
        }
        let mut cosines = Vec::with_capacity(self.scales.len());
        sums_of_products(&self.values, to.values(), &mut cosines);
        for (cosine, scale) in cosines.iter_mut().zip(&self.scales) {
            *cosine *= scale * to.scale();
        }
        cosines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_one_by_one_says() {
        let vector = |seed: u16| {
            let numbers: Vec<f32> =
                (0..384_u16).map(|at| f32::from((at * 7 + seed * 31) % 97) - 48.0).collect();
            Vector::of(&numbers)
        };
        let mut rows = Rows::new(384, 4);
        let all = [Some(vector(1)), None, Some(vector(2)), Some(Vector::of(&[1.0]))];
        for vector in &all {
            rows.push(vector.as_ref());
        }
        let to = vector(3);
        let expected = [vector(1).dot(&to), 0.0, vector(2).dot(&to), 0.0];
        assert_eq!(rows.cosines(&to), expected);
        assert_eq!(rows.cosines(&Vector::of(&[1.0])), [0.0; 4]);
        assert!(Rows::new(384, 0).cosines(&to).is_empty());
    }
}
