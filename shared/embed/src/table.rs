//! The static mode: the sum of a text's token vectors. How much a token counts is the length of its vector, found by
//! the fit (scripts/model-pack). Must never fail on a token it has no vector for: the vocabulary's size is checked.

use crate::tensors::Tensors;
use crate::vector::Vector;

/// Longest vectors a table may have.
const MAX_DIMENSION: usize = 1024;

/// A vector a token, 8 bits a number.
#[derive(Debug)]
pub(crate) struct Table {
    values: Vec<i8>,
    scales: Vec<f32>,
    dimension: usize,
}

impl Table {
    /// From `static.safetensors`: `tokens` (tokens x dimension, I8) and `scales` (tokens, F32).
    pub(crate) fn new(file: &[u8], tokens: usize) -> Result<Self, String> {
        let tensors = Tensors::new(file)?;
        let &[_, dimension @ 1..=MAX_DIMENSION] = tensors.shape("tokens")? else {
            return Err(format!("the tensor tokens is not a table of at most {MAX_DIMENSION} columns"));
        };
        let values = tensors.bytes("tokens", &[tokens, dimension])?;
        let scales = tensors.floats("scales", &[tokens])?;
        Ok(Self { values, scales, dimension })
    }

    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    pub(crate) fn embed(&self, tokens: &[u32]) -> Vector {
        let mut sum = vec![0.0_f32; self.dimension];
        for token in tokens {
            let token = *token as usize;
            let row = &self.values[token * self.dimension..][..self.dimension];
            let scale = self.scales[token];
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += f32::from(*value) * scale;
            }
        }
        Vector::of(&sum)
    }
}
