//! The settings of the registry, under `[registry]`.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use serde::Deserialize;

use crate::credentials::CredentialConfig;

/// Settings of the registry; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens when not every role runs in one process.
    pub listen: SocketAddr,
    /// How often an MCP server's tools are listed again, in seconds.
    pub discovery_interval_s: u64,
    /// How long an MCP server may take to be reached and to list its tools, in seconds.
    pub server_timeout_s: u64,
    /// How often a failed discovery is tried again before the server is called unavailable.
    pub discovery_retries: u32,
    /// How often an MCP server is asked for a sign of life, in seconds. One that does not answer is asked again
    /// at least as often.
    pub health_check_interval_s: u64,
    /// The share of its last 20 answers from which a server is healthy, and of healthy servers from which the
    /// registry is, 0 to 1.
    pub health_threshold: f64,
    /// Which definitions of MCP servers serve without anybody's approval.
    pub trust_policy: TrustPolicy,
    /// How long a watch may be silent before a heartbeat is sent, in seconds. Watchers take 30 s of
    /// silence for death.
    pub watch_heartbeat_s: u64,
    /// Watches that this process serves at once, besides those of the suite's own services.
    pub max_watches: usize,
    /// How many of them one team may have.
    pub max_watches_per_team: usize,
    /// Credentials.
    pub credentials: CredentialConfig,
}

/// Which definitions of MCP servers serve without anybody's approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustPolicy {
    /// Every one.
    ApproveAll,
    /// The first of each tool; a changed one waits, and the one before it goes on serving.
    ApproveChanges,
    /// None; a new tool may not be called before somebody approved it.
    ApproveEverything,
}

impl Config {
    /// Every fault of the settings.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |key: &str, value: u64, range: RangeInclusive<u64>| {
            if !range.contains(&value) {
                faults.push(format!("registry.{key} must be {} to {}", range.start(), range.end()));
            }
        };
        check("discovery_interval_s", self.discovery_interval_s, 1..=86_400);
        check("server_timeout_s", self.server_timeout_s, 1..=300);
        check("discovery_retries", self.discovery_retries.into(), 0..=10);
        check("health_check_interval_s", self.health_check_interval_s, 1..=3_600);
        check("watch_heartbeat_s", self.watch_heartbeat_s, 1..=15);
        if !(0.0..=1.0).contains(&self.health_threshold) {
            faults.push("registry.health_threshold must be 0 to 1".to_owned());
        }
        if !(1..=100_000).contains(&self.max_watches) {
            faults.push("registry.max_watches must be 1 to 100000".to_owned());
        }
        if !(1..=self.max_watches).contains(&self.max_watches_per_team) {
            faults.push("registry.max_watches_per_team must be 1 to registry.max_watches".to_owned());
        }
        faults.extend(self.credentials.validate());
        faults
    }

    pub(crate) fn discovery_interval(&self) -> Duration {
        Duration::from_secs(self.discovery_interval_s)
    }

    pub(crate) fn health_check_interval(&self) -> Duration {
        Duration::from_secs(self.health_check_interval_s)
    }

    pub(crate) fn server_timeout(&self) -> Duration {
        Duration::from_secs(self.server_timeout_s)
    }

    pub(crate) fn watch_heartbeat(&self) -> Duration {
        Duration::from_secs(self.watch_heartbeat_s)
    }
}
