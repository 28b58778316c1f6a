//! The settings of the permissions service, under `[permissions]`.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;

/// Settings of the permissions service; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens when not every role runs in one process.
    pub listen: SocketAddr,
    /// How long a place is kept for a call that is not settled, in seconds; longer than any call takes.
    pub reservation_ttl_s: u64,
    /// How often places of calls that were never settled are given back, in seconds.
    pub sweep_interval_s: u64,
}

impl Config {
    /// Every fault of the settings.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(360..=86_400).contains(&self.reservation_ttl_s) {
            faults.push("permissions.reservation_ttl_s must be 360 to 86400".to_owned());
        }
        if !(1..=3_600).contains(&self.sweep_interval_s) {
            faults.push("permissions.sweep_interval_s must be 1 to 3600".to_owned());
        }
        faults
    }

    pub(crate) fn reservation_ttl(&self) -> Duration {
        Duration::from_secs(self.reservation_ttl_s)
    }

    pub(crate) fn sweep_interval(&self) -> Duration {
        Duration::from_secs(self.sweep_interval_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_at_once() {
        let mut config =
            Config { listen: ([127, 0, 0, 1], 7704).into(), reservation_ttl_s: 900, sweep_interval_s: 30 };
        assert_eq!(config.validate(), Vec::<String>::new());
        (config.reservation_ttl_s, config.sweep_interval_s) = (359, 0);
        assert_eq!(config.validate().len(), 2);
    }
}
