//! The settings of the selector service, under `[selector]`.

use std::net::SocketAddr;

use serde::Deserialize;

use crate::rank::Weights;

/// How far the weights of one pair may be from a sum of 1.
const TOLERANCE: f64 = 1e-6;

/// Settings of the selector service; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens when not every role runs in one process.
    pub listen: SocketAddr,
    /// Share of the match in the combined score, 0 to 1.
    pub match_weight: f64,
    /// Share of the suitability in the combined score; with `match_weight` it sums to 1.
    pub suitability_weight: f64,
    /// Share of the capabilities in the match score, 0 to 1.
    pub capability_weight: f64,
    /// Share of the text in the match score; with `capability_weight` it sums to 1.
    pub text_weight: f64,
}

impl Config {
    /// Every fault of the settings.
    pub fn validate(&self) -> Vec<String> {
        let pairs = [
            ("match_weight", self.match_weight, "suitability_weight", self.suitability_weight),
            ("capability_weight", self.capability_weight, "text_weight", self.text_weight),
        ];
        let mut faults = Vec::new();
        for (first, first_weight, second, second_weight) in pairs {
            for (name, weight) in [(first, first_weight), (second, second_weight)] {
                if !(0.0..=1.0).contains(&weight) {
                    faults.push(format!("selector.{name} must be 0 to 1"));
                }
            }
            let sum = first_weight + second_weight;
            if (sum - 1.0).abs() > TOLERANCE || sum.is_nan() {
                faults.push(format!("selector.{first} and selector.{second} must sum to 1, not {sum}"));
            }
        }
        faults
    }

    pub(crate) fn weights(&self) -> Weights {
        Weights {
            matching: self.match_weight,
            suitability: self.suitability_weight,
            capability: self.capability_weight,
            text: self.text_weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_weights_is_named_at_once() {
        let good = Config {
            listen: "127.0.0.1:7702".parse().unwrap(),
            match_weight: 0.6,
            suitability_weight: 0.4,
            capability_weight: 0.5,
            text_weight: 0.5,
        };
        assert_eq!(good.validate(), Vec::<String>::new());
        let bad = Config { match_weight: 0.7, text_weight: -0.5, ..good.clone() };
        assert_eq!(bad.validate().len(), 3, "{:?}", bad.validate());
        assert!(!Config { match_weight: f64::NAN, ..good }.validate().is_empty());
    }
}
