//! The settings of the permissions service, under `[permissions]`.

use std::{net::SocketAddr, time::Duration};

use chrono::TimeDelta;
use reach::Authorities;
use serde::{Deserialize, Deserializer};

use crate::{
    issuer::{self, Issuer},
    webhooks::Destinations,
};

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
    /// Issuers whose tokens are taken in place of API keys.
    pub issuers: Vec<Issuer>,
    /// How long access requests are kept after they would have ended at the latest, in days.
    pub access_request_retention_days: u64,
    /// The most that is waited for after each failed attempt to tell a webhook, in seconds: each wait is drawn between
    /// nothing and this. After one more failure a message is given up.
    pub webhook_retry_s: Vec<u64>,
    /// How long a webhook may take to answer, in seconds.
    pub webhook_timeout_s: u64,
    /// Hosts of webhooks, or hosts with a port, that may be private addresses and be without TLS; a list, or a text with
    /// commas, as an environment variable has it.
    #[serde(deserialize_with = "hosts")]
    pub webhook_private_hosts: Vec<String>,
}

fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Hosts {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Hosts::deserialize(deserializer)? {
        Hosts::List(hosts) => hosts,
        Hosts::Text(text) if text.is_empty() => Vec::new(),
        Hosts::Text(text) => text.split(',').map(|host| host.trim().to_owned()).collect(),
    })
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
        if !(1..=36_500).contains(&self.access_request_retention_days) {
            faults.push("permissions.access_request_retention_days must be 1 to 36500".to_owned());
        }
        if self.webhook_retry_s.len() > 20
            || self.webhook_retry_s.iter().any(|wait| !(1..=86_400).contains(wait))
        {
            faults.push("permissions.webhook_retry_s must have at most 20 numbers of 1 to 86400".to_owned());
        }
        if !(1..=60).contains(&self.webhook_timeout_s) {
            faults.push("permissions.webhook_timeout_s must be 1 to 60".to_owned());
        }
        if self.webhook_private_hosts.iter().any(|host| host.is_empty() || host.contains(['/', '@', '*'])) {
            let what = "hosts, such as hooks.internal or hooks.internal:8080";
            faults.push(format!("permissions.webhook_private_hosts must name {what}"));
        }
        faults.extend(issuer::validate(&self.issuers));
        faults
    }

    pub(crate) fn reservation_ttl(&self) -> Duration {
        Duration::from_secs(self.reservation_ttl_s)
    }

    pub(crate) fn access_request_retention(&self) -> TimeDelta {
        TimeDelta::days(i64::try_from(self.access_request_retention_days).unwrap_or(i64::MAX))
    }

    pub(crate) fn webhook_retry(&self) -> Vec<Duration> {
        self.webhook_retry_s.iter().copied().map(Duration::from_secs).collect()
    }

    pub(crate) fn destinations(&self, authorities: &Authorities) -> Destinations {
        let timeout = Duration::from_secs(self.webhook_timeout_s);
        Destinations::new(&self.webhook_private_hosts, timeout, authorities)
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
        let mut config = Config {
            listen: ([127, 0, 0, 1], 7704).into(),
            reservation_ttl_s: 900,
            sweep_interval_s: 30,
            issuers: Vec::new(),
            access_request_retention_days: 400,
            webhook_retry_s: vec![5, 30],
            webhook_timeout_s: 10,
            webhook_private_hosts: vec!["hooks.internal:8080".into()],
        };
        assert_eq!(config.validate(), Vec::<String>::new());
        (config.reservation_ttl_s, config.sweep_interval_s) = (359, 0);
        (config.webhook_retry_s, config.webhook_timeout_s) = (vec![0], 0);
        config.access_request_retention_days = 0;
        config.webhook_private_hosts = vec!["https://hooks.internal/".into()];
        assert_eq!(config.validate().len(), 6);
    }
}
