//! The settings of the audit service, under `[audit]`.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;

/// Settings of the audit service; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens when not every role runs in one process.
    pub listen: SocketAddr,
    /// How often the partitions of the coming months are looked after, in seconds.
    pub partition_check_interval_s: u64,
}

impl Config {
    /// Every fault of the settings.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(60..=86_400).contains(&self.partition_check_interval_s) {
            faults.push("audit.partition_check_interval_s must be 60 to 86400".to_owned());
        }
        faults
    }

    pub(crate) fn partition_check_interval(&self) -> Duration {
        Duration::from_secs(self.partition_check_interval_s)
    }
}
