//! A dense layer on 8-bit numbers: rows are quantised one by one, multiplied exactly, and scaled back.
//! Must never let one row's range touch another's, or a text's vector would depend on its neighbours.

use super::tile::{LANES, MAX_ROWS, PANELS, Panel, Sums, Tile};
use crate::tensors::Tensors;

/// Adding it to a number below 2^22 leaves the nearest whole number in the low bits, ties to even.
pub(super) const ROUND: f32 = 12_582_912.0;

/// Weights of a dense layer in panels of 16 outputs; in a panel, for every four inputs, 16 x 4 numbers.
#[derive(Debug)]
pub(super) struct Linear {
    panels: Vec<Panel>,
    inputs: usize,
    outputs: usize,
    scale: Vec<f32>,
    /// Sum of an output's weights: what a zero point of 1 adds to it.
    sum: Vec<f32>,
    bias: Vec<f32>,
}

/// Rows in 8 bits: `number = (value - zero) * scale`.
#[derive(Debug, Default)]
pub(super) struct Quantised {
    pub(super) values: Vec<u8>,
    scale: Vec<f32>,
    zero: Vec<f32>,
}

impl Quantised {
    /// Takes rows of this width.
    #[inline(always)]
    pub(super) fn fill(&mut self, rows: &[f32], width: usize) {
        self.values.clear();
        self.scale.clear();
        self.zero.clear();
        self.values.resize(rows.len(), 0);
        for (row, values) in rows.chunks_exact(width).zip(self.values.chunks_exact_mut(width)) {
            let (low, high) = super::math::range(row);
            let (low, high) = (low.min(0.0), high.max(0.0));
            let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
            let (zero, inverse) = ((-low / scale + ROUND) - ROUND, 1.0 / scale);
            for (value, number) in values.iter_mut().zip(row) {
                let shifted = (number * inverse + zero).clamp(0.0, 255.0);
                *value = (shifted + ROUND).to_bits().to_le_bytes()[0];
            }
            self.scale.push(scale);
            self.zero.push(zero);
        }
    }
}

impl Linear {
    /// Layers of the same shape become one, their outputs one after the other.
    pub(super) fn new(
        tensors: &Tensors<'_>,
        names: &[String],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, String> {
        let (mut weights, mut scale, mut bias) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            weights.extend(tensors.bytes(&format!("{name}.weight"), &[outputs, inputs])?);
            scale.extend(tensors.floats(&format!("{name}.scale"), &[outputs])?);
            bias.extend(tensors.floats(&format!("{name}.bias"), &[outputs])?);
        }
        if weights.iter().any(|weight| !(-64..=63).contains(weight)) {
            return Err(format!("the weights of {} need more than 7 bits: is it another model?", names[0]));
        }
        Ok(Self::packed(&weights, scale, bias, inputs))
    }

    /// Outputs must fill whole tiles, inputs groups of four.
    pub(super) fn packed(weights: &[i8], scale: Vec<f32>, bias: Vec<f32>, inputs: usize) -> Self {
        let outputs = scale.len();
        assert!(
            outputs.is_multiple_of(LANES * PANELS) && inputs.is_multiple_of(4),
            "a shape the kernels know"
        );
        let rows: Vec<&[i8]> = weights.chunks_exact(inputs).collect();
        let panel = |(outputs, group): (&[&[i8]], usize)| {
            let mut panel = [0; LANES * 4];
            for (lane, row) in panel.chunks_exact_mut(4).zip(outputs) {
                lane.copy_from_slice(&row[group * 4..][..4]);
            }
            Panel(panel)
        };
        let groups =
            rows.chunks_exact(LANES).flat_map(|rows| (0..inputs / 4).map(move |group| (rows, group)));
        let panels = groups.map(panel).collect();
        let sum = rows.iter().map(|row| row.iter().map(|weight| f32::from(*weight)).sum()).collect();
        Self { panels, inputs, outputs, scale, sum, bias }
    }

    /// Rows in, rows out.
    #[inline(always)]
    pub(super) fn apply<T: Tile>(&self, rows: &Quantised, out: &mut [f32]) {
        let groups = self.inputs / 4;
        let count = rows.scale.len();
        let mut sums = [Sums::default(); MAX_ROWS];
        let slabs = self.panels.chunks_exact(groups * PANELS);
        for (slab, first) in slabs.zip((0..self.outputs).step_by(LANES * PANELS)) {
            let mut row = 0;
            while row < count {
                let many = T::ROWS.min(count - row);
                let values = &rows.values[row * self.inputs..][..many * self.inputs];
                T::multiply(values, self.inputs, slab, &mut sums);
                for (at, sums) in sums[..many].iter().enumerate() {
                    self.scale_back(rows, row + at, first, sums, out);
                }
                row += many;
            }
        }
    }

    /// From whole numbers to what they stand for.
    #[inline(always)]
    fn scale_back(&self, rows: &Quantised, row: usize, first: usize, sums: &Sums, out: &mut [f32]) {
        let (scale, zero) = (rows.scale[row], rows.zero[row]);
        let out = &mut out[row * self.outputs + first..][..LANES * PANELS];
        for (panel, sums) in sums.iter().enumerate() {
            let at = first + panel * LANES;
            let weight: &[f32; LANES] = self.scale[at..].first_chunk().expect("whole panels");
            let sum: &[f32; LANES] = self.sum[at..].first_chunk().expect("whole panels");
            let bias: &[f32; LANES] = self.bias[at..].first_chunk().expect("whole panels");
            let out: &mut [f32; LANES] = out[panel * LANES..].first_chunk_mut().expect("whole panels");
            for lane in 0..LANES {
                out[lane] = (sums[lane] as f32 - zero * sum[lane]) * (scale * weight[lane]) + bias[lane];
            }
        }
    }
}
