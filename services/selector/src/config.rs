//! The settings of the selector service, under `[selector]`.

use std::{net::SocketAddr, path::Path, time::Duration};

use serde::Deserialize;

use crate::{fuse::Mode, model, policy::Weights};

/// Shares of the four parts of the suitability; they sum to 1.
const SUCCESS: f64 = 0.6;
const LATENCY: f64 = 0.15;
const COST: f64 = 0.1;
const QUALITY: f64 = 0.15;
/// How far the weights of one pair may be from a sum of 1.
const TOLERANCE: f64 = 1e-6;

/// Most threads.
const MAX_THREADS: usize = 64;

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
    /// Share of the semantic score in the match score; with `capability_weight` it sums to 1.
    pub semantic_weight: f64,
    /// What the words of a task are matched with; where the files of the model do not allow it, with less.
    pub mode: Mode,
    /// Folder of the model's files; empty: the one that comes with the program.
    pub model_folder: String,
    /// Tasks that are embedded at once, and threads that make vectors of tools in the background.
    pub threads: usize,
    /// Least semantic score of a single candidate, 0 to 1: where even the best of the candidates fits less, no tool is
    /// suitable. Of more candidates the best must fit somewhat better.
    pub min_semantic_score: f64,
    /// A selection of an end user that is not written within so many milliseconds is lost; an erasure waits for half as
    /// much again.
    pub selection_write_timeout_ms: u64,
    /// The model that may help.
    pub model: model::Config,
}

impl Config {
    /// Every fault of the settings.
    pub fn validate(&self) -> Vec<String> {
        let pairs = [
            ("match_weight", self.match_weight, "suitability_weight", self.suitability_weight),
            ("capability_weight", self.capability_weight, "semantic_weight", self.semantic_weight),
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
        if !(0.0..=1.0).contains(&self.min_semantic_score) {
            faults.push("selector.min_semantic_score must be 0 to 1".to_owned());
        }
        if !(1..=MAX_THREADS).contains(&self.threads) {
            faults.push(format!("selector.threads must be 1 to {MAX_THREADS}"));
        }
        if !(1_000..=600_000).contains(&self.selection_write_timeout_ms) {
            faults.push("selector.selection_write_timeout_ms must be 1000 to 600000".to_owned());
        }
        faults.extend(self.model.validate());
        faults
    }

    /// Where the model's files are said to be.
    pub(crate) fn folder(&self) -> Option<&Path> {
        Some(Path::new(&self.model_folder)).filter(|folder| !folder.as_os_str().is_empty())
    }

    pub(crate) fn selection_write_timeout(&self) -> Duration {
        Duration::from_millis(self.selection_write_timeout_ms)
    }

    pub(crate) fn weights(&self) -> Weights {
        Weights {
            matching: self.match_weight,
            capability: self.capability_weight,
            success: SUCCESS,
            latency: LATENCY,
            cost: COST,
            quality: QUALITY,
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
            semantic_weight: 0.5,
            mode: Mode::Lexical,
            model_folder: String::new(),
            threads: 2,
            min_semantic_score: 0.05,
            selection_write_timeout_ms: 10_000,
            model: model::Config::off(),
        };
        assert_eq!(good.validate(), Vec::<String>::new());
        let bad = Config { match_weight: 0.7, semantic_weight: -0.5, ..good.clone() };
        assert_eq!(bad.validate().len(), 3, "{:?}", bad.validate());
        let bad = Config {
            threads: 0,
            min_semantic_score: f64::NAN,
            selection_write_timeout_ms: 0,
            ..good.clone()
        };
        assert_eq!(bad.validate().len(), 3, "{:?}", bad.validate());
        assert!(!Config { match_weight: f64::NAN, ..good }.validate().is_empty());
    }
}
