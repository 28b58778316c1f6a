//! Which tasks a tool has succeeded with: the mean of their vectors, towards which the tool's own vector is moved. Pure.
//! Vectors of different models are never mixed, and neither are teams.

use chrono::{DateTime, Utc};
use embed::Vector;

use super::{
    counts::{FORGET, faded},
    pool::shares,
};

/// Most successes of one agent that count for the others, and those that count whoever else is there.
const MOST: f64 = 10.0;
const FREE: f64 = 5.0;
/// Bytes of one component.
const COMPONENT: usize = 4;

/// The tasks that one agent succeeded with.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Centroid {
    /// All of them.
    pub successes: i64,
    /// Their vectors, faded and summed.
    pub sum: Vec<f32>,
    /// How many they are, faded.
    pub weight: f64,
    pub decay_time: DateTime<Utc>,
}

/// The direction of the tasks that a tool succeeded with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mean {
    pub vector: Vector,
    /// Successes it rests on, faded: 0 to 20.
    pub successes: f64,
}

impl Centroid {
    /// Takes the vector of a task that succeeded.
    pub(crate) fn add(&mut self, vector: &[f32], now: DateTime<Utc>) {
        if self.sum.len() != vector.len() {
            *self = Self { sum: vec![0.0; vector.len()], successes: self.successes, ..Self::default() };
        }
        let left = faded(self.decay_time, now) * FORGET;
        #[allow(clippy::cast_possible_truncation, reason = "components are as exact as the model's")]
        let factor = left as f32;
        self.sum.iter_mut().zip(vector).for_each(|(sum, component)| *sum = *sum * factor + component);
        self.weight = self.weight * left + 1.0;
        self.decay_time = self.decay_time.max(now);
        self.successes += 1;
    }

    /// The sum as it is kept: little-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.sum.iter().flat_map(|component| component.to_le_bytes()).collect()
    }

    /// The sum that was kept; `None`: it is no whole number of components.
    pub(crate) fn sum_of(bytes: &[u8]) -> Option<Vec<f32>> {
        let (components, rest) = bytes.as_chunks::<COMPONENT>();
        rest.is_empty().then(|| components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// The mean over some agents' centroids as others see it; an agent sees all of its own.
pub(crate) fn mean<'a>(
    centroids: impl Iterator<Item = (&'a str, &'a Centroid)>,
    viewer: Option<&str>,
    now: DateTime<Utc>,
) -> Option<Mean> {
    let of: Vec<(&str, &Centroid)> = centroids.collect();
    let weights: Vec<f64> = of.iter().map(|(_, it)| it.weight * faded(it.decay_time, now)).collect();
    let mut sum: Vec<f64> = Vec::new();
    let mut successes = 0.0;
    for (((agent, centroid), weight), share) in of.iter().zip(&weights).zip(shares(&weights, MOST, FREE)) {
        let share = if Some(*agent) == viewer { 1.0 } else { share };
        let factor = share * faded(centroid.decay_time, now);
        sum.resize(centroid.sum.len().max(sum.len()), 0.0);
        sum.iter_mut().zip(&centroid.sum).for_each(|(sum, part)| *sum += factor * f64::from(*part));
        successes += weight * share;
    }
    #[allow(clippy::cast_possible_truncation, reason = "components are as exact as the model's")]
    let sum: Vec<f32> = sum.iter().map(|part| *part as f32).collect();
    let vector = Vector::of(&sum);
    (!vector.is_zero()).then_some(Mean { vector, successes: successes.min(20.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(vector: [f32; 2], successes: usize) -> Centroid {
        let mut centroid = Centroid::default();
        (0..successes).for_each(|_| centroid.add(&vector, DateTime::UNIX_EPOCH));
        centroid
    }

    #[test]
    fn bytes_give_back_the_sum() {
        let centroid = learned([0.6, 0.8], 3);
        assert_eq!(Centroid::sum_of(&centroid.to_bytes()), Some(centroid.sum.clone()));
        assert_eq!(Centroid::sum_of(&[1, 2, 3]), None);
    }

    #[test]
    fn the_mean_points_where_the_successes_were() {
        let centroid = learned([0.6, 0.8], 3);
        let mean = mean([("a", &centroid)].into_iter(), Some("a"), DateTime::UNIX_EPOCH).unwrap();
        assert!(mean.vector.dot(&Vector::of(&[0.6, 0.8])) > 0.999, "{mean:?}");
        assert!((mean.successes - 2.8525).abs() < 1e-3, "{mean:?}");
        assert_eq!(super::mean([].into_iter(), None, DateTime::UNIX_EPOCH), None);
    }

    #[test]
    fn a_flood_of_one_agent_cannot_turn_what_two_others_learned() {
        let (honest, flood) = (learned([1.0, 0.0], 15), learned([0.0, 1.0], 10_000));
        let all = [("a", &honest), ("b", &honest), ("flood", &flood)];
        let mean = mean(all.into_iter(), Some("a"), DateTime::UNIX_EPOCH).unwrap();
        assert!(mean.vector.dot(&Vector::of(&[1.0, 0.0])) > 0.85, "{mean:?}");
        // Against one other, half and no more.
        let two = [("a", &honest), ("flood", &flood)];
        let theirs = super::mean(two.into_iter(), None, DateTime::UNIX_EPOCH).unwrap();
        assert!(theirs.vector.dot(&Vector::of(&[1.0, 0.0])) > 0.7, "{theirs:?}");
    }
}
