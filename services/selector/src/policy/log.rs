//! Logged selections as the fit and the judgement see them. Pure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{SCORES, Weights};
use crate::rank::contends;

/// One tool that was offered, with the scores of then; a score that was not logged is neutral.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Offer {
    pub name: String,
    pub capability: f64,
    pub semantic: f64,
    pub success: f64,
    pub latency: f64,
    pub cost: f64,
    pub quality: f64,
}

impl Default for Offer {
    fn default() -> Self {
        let neutral = 0.5;
        Self {
            name: String::new(),
            capability: neutral,
            semantic: neutral,
            success: neutral,
            latency: neutral,
            cost: neutral,
            quality: neutral,
        }
    }
}

impl Offer {
    /// Its scores, in the order of [`Weights::coefficients`].
    pub(crate) fn scores(&self) -> [f64; SCORES] {
        [self.capability, self.semantic, self.success, self.latency, self.cost, self.quality]
    }

    /// Its combined score by these weights.
    pub(crate) fn combined(&self, weights: &Weights) -> f64 {
        self.scores().iter().zip(weights.coefficients()).map(|(score, weight)| score * weight).sum()
    }

    /// How well its tool had done, by these weights.
    pub(crate) fn suitability(&self, weights: &Weights) -> f64 {
        weights.success * self.success
            + weights.latency * self.latency
            + weights.cost * self.cost
            + weights.quality * self.quality
    }

    fn is_sound(&self) -> bool {
        self.scores().iter().all(|score| score.is_finite())
    }
}

/// One selection that a tool of the offer was called after.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub agent_id: String,
    pub create_time: DateTime<Utc>,
    /// Best first, as it was then; never empty.
    pub offers: Vec<Offer>,
    /// The place of the tool that was called, from 0.
    pub followed: usize,
    pub succeeded: bool,
    /// How likely the first was to come first.
    pub propensity: f64,
}

impl Sample {
    /// A sample; `None` where the tool that was called was not offered, or a score is no number.
    pub(crate) fn new(
        (agent_id, create_time): (String, DateTime<Utc>),
        offers: Vec<Offer>,
        (followed_tool, succeeded): (&str, bool),
        propensity: f64,
    ) -> Option<Self> {
        let followed = offers.iter().position(|offer| offer.name == followed_tool)?;
        let is_sound = offers.iter().all(Offer::is_sound) && propensity.is_finite() && propensity > 0.0;
        is_sound.then_some(Self {
            agent_id,
            create_time,
            offers,
            followed,
            succeeded,
            propensity: propensity.min(1.0),
        })
    }

    pub(crate) fn reward(&self) -> f64 {
        f64::from(u8::from(self.succeeded))
    }

    /// The places of the offers as these weights order them; equal ones stay in their order.
    pub(crate) fn order(&self, weights: &Weights) -> Vec<usize> {
        let best = self.offers.iter().map(|offer| offer.semantic).fold(0.0, f64::max);
        let scores: Vec<(bool, f64)> = self
            .offers
            .iter()
            .map(|offer| (contends(offer.semantic, best), offer.combined(weights)))
            .collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&left, &right| {
            scores[right].0.cmp(&scores[left].0).then(scores[right].1.total_cmp(&scores[left].1))
        });
        order
    }
}

/// The samples that may speak, oldest first: where there is more than one agent, none has more than all the others
/// together, and keeps its newest.
pub(crate) fn fair(mut samples: Vec<Sample>) -> Vec<Sample> {
    samples.sort_by_key(|sample| sample.create_time);
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for sample in &samples {
        *counts.entry(&sample.agent_id).or_default() += 1;
    }
    let Some((loudest, most)) = counts.into_iter().max_by_key(|(agent, count)| (*count, *agent)) else {
        return samples;
    };
    let (loudest, others) = (loudest.to_owned(), samples.len() - most);
    if others == 0 || most <= others {
        return samples;
    }
    let mut too_many = most - others;
    samples.retain(|sample| {
        let goes = too_many > 0 && sample.agent_id == loudest;
        too_many -= usize::from(goes);
        !goes
    });
    samples
}
