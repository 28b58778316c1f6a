//! The settings of the edge, under `[edge]`.

use std::net::SocketAddr;

use serde::Deserialize;

/// Settings of the edge; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Origins whose pages may call from a browser, such as `https://console.example.com`.
    pub cors_origins: Vec<String>,
    /// How many calls an API key may make a minute; 0 limits none.
    pub requests_per_minute: u32,
    /// How many of them may come at once, after a pause.
    pub burst: u32,
    /// How many calls without a valid API key may come from one address a minute; 0 limits none.
    pub unauthenticated_per_minute: u32,
    /// Calls passed on at once; one more is refused.
    pub max_concurrent_requests: usize,
}

impl Config {
    /// Every fault of the settings.
    pub fn validate(&self) -> Vec<String> {
        let unsound = |origin: &&String| {
            let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            rest.is_none_or(|host| host.is_empty() || host.contains('/'))
        };
        let fault =
            |origin: &String| format!("edge.cors_origins: {origin:?} is no origin (scheme://host[:port])");
        let mut faults: Vec<String> = self.cors_origins.iter().filter(unsound).map(fault).collect();
        if self.requests_per_minute > 0 && self.burst == 0 {
            faults.push(
                "edge.burst must be at least 1, or no call of edge.requests_per_minute passes".to_owned(),
            );
        }
        if !(1..=1_000_000).contains(&self.max_concurrent_requests) {
            faults.push("edge.max_concurrent_requests must be 1 to 1000000".to_owned());
        }
        faults
    }
}
