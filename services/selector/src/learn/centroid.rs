//! Which tasks a tool has succeeded with: the mean of their vectors, towards which the tool's own vector is moved. Pure.
//! Vectors of different models are never mixed, and neither are teams.

use std::collections::HashMap;

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

/// What a tool's centroids of one model come to: for anyone, and for each agent of whom others see less than all.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Means {
    anyone: Option<Mean>,
    own: HashMap<String, Mean>,
}

impl Means {
    /// The means over some agents' centroids: one sum for all, to which an agent adds what others do not see of its own.
    pub(crate) fn of<'a>(centroids: impl Iterator<Item = (&'a str, &'a Centroid)>) -> Self {
        let of: Vec<(&str, &Centroid)> = centroids.collect();
        let now = of.iter().map(|(_, it)| it.decay_time).max().unwrap_or_default();
        let weights: Vec<f64> = of.iter().map(|(_, it)| it.weight * faded(it.decay_time, now)).collect();
        let shares = shares(&weights, MOST, FREE);
        let parts = of.iter().zip(weights.into_iter().zip(shares));
        let mut all = Sum::default();
        parts.clone().for_each(|((_, centroid), (weight, share))| all.add(centroid, weight, share, now));
        let less = parts.filter(|(_, (weight, share))| *weight > 0.0 && *share < 1.0);
        let own = less.filter_map(|((agent, centroid), (weight, share))| {
            let mut own = all.clone();
            own.add(centroid, weight, 1.0 - share, now);
            Some(((*agent).to_owned(), own.mean()?))
        });
        Self { own: own.collect(), anyone: all.mean() }
    }

    /// The mean as an agent sees it: all of its own, and of each other its share.
    pub(crate) fn seen_by(&self, agent: &str) -> Option<&Mean> {
        self.own.get(agent).or(self.anyone.as_ref())
    }
}

/// Shares of centroids, summed.
#[derive(Clone, Default)]
struct Sum {
    components: Vec<f64>,
    successes: f64,
}

impl Sum {
    /// Adds a share of a centroid that weighs so much by now.
    fn add(&mut self, centroid: &Centroid, weight: f64, share: f64, now: DateTime<Utc>) {
        let factor = share * faded(centroid.decay_time, now);
        self.components.resize(centroid.sum.len().max(self.components.len()), 0.0);
        let parts = self.components.iter_mut().zip(&centroid.sum);
        parts.for_each(|(sum, part)| *sum += factor * f64::from(*part));
        self.successes += weight * share;
    }

    fn mean(&self) -> Option<Mean> {
        #[allow(clippy::cast_possible_truncation, reason = "components are as exact as the model's")]
        let sum: Vec<f32> = self.components.iter().map(|part| *part as f32).collect();
        let vector = Vector::of(&sum);
        (!vector.is_zero()).then_some(Mean { vector, successes: self.successes.min(20.0) })
    }
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
        let means = Means::of([("a", &centroid)].into_iter());
        let mean = means.seen_by("a").unwrap();
        assert!(mean.vector.dot(&Vector::of(&[0.6, 0.8])) > 0.999, "{mean:?}");
        assert!((mean.successes - 2.8525).abs() < 1e-3, "{mean:?}");
        assert_eq!(Means::of([].into_iter()), Means::default());
    }

    #[test]
    fn a_flood_of_one_agent_cannot_turn_what_two_others_learned() {
        let (honest, flood) = (learned([1.0, 0.0], 15), learned([0.0, 1.0], 10_000));
        let all = [("a", &honest), ("b", &honest), ("flood", &flood)];
        let means = Means::of(all.into_iter());
        let mean = means.seen_by("a").unwrap();
        assert!(mean.vector.dot(&Vector::of(&[1.0, 0.0])) > 0.85, "{mean:?}");
        // Against one other, half and no more.
        let two = [("a", &honest), ("flood", &flood)];
        let means = Means::of(two.into_iter());
        let theirs = means.seen_by("newcomer").unwrap();
        assert!(theirs.vector.dot(&Vector::of(&[1.0, 0.0])) > 0.7, "{theirs:?}");
    }

    #[test]
    fn an_agent_sees_all_of_its_own_and_only_whoever_brings_too_much_has_a_mean_of_its_own() {
        let (few, many) = (learned([1.0, 0.0], 2), learned([0.0, 1.0], 15));
        let means = Means::of([("few", &few), ("many", &many)].into_iter());
        assert_eq!(means.own.keys().collect::<Vec<_>>(), ["many"]);
        // As if all of it counted: the direction of the two sums.
        let whole: Vec<f32> = few.sum.iter().zip(&many.sum).map(|(few, many)| few + many).collect();
        let own = means.seen_by("many").unwrap();
        assert!(own.vector.dot(&Vector::of(&whole)) > 0.999, "{own:?}");
        assert!((own.successes - few.weight - many.weight).abs() < 1e-9, "{own:?}");
        let theirs = means.seen_by("few").unwrap();
        assert!((theirs.successes - few.weight - FREE).abs() < 1e-9, "{theirs:?}");
    }
}
