//! The settings of the registry, under `[registry]`.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use serde::Deserialize;

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
    /// Whether MCP servers may be programs that the registry and the executor start on their hosts.
    pub allow_stdio_servers: bool,
    /// How long a watch may be silent before a heartbeat is sent, in seconds. Watchers take 30 s of
    /// silence for death.
    pub watch_heartbeat_s: u64,
}

impl Config {
    /// Every fault of the settings.
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
        check("watch_heartbeat_s", self.watch_heartbeat_s, 1..=15);
        faults
    }

    pub(crate) fn discovery_interval(&self) -> Duration {
        Duration::from_secs(self.discovery_interval_s)
    }

    pub(crate) fn server_timeout(&self) -> Duration {
        Duration::from_secs(self.server_timeout_s)
    }

    pub(crate) fn watch_heartbeat(&self) -> Duration {
        Duration::from_secs(self.watch_heartbeat_s)
    }
}
