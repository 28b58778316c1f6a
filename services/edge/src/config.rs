//! The settings of the edge, under `[edge]`.

use std::{net::SocketAddr, path::PathBuf};

use rpc::{Tls, TlsFiles};
use serde::Deserialize;

/// Settings of the edge; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where clients reach it, such as `https://tools.example.com`, for the metadata of AuthZEN; empty: they are told the
    /// address that they asked.
    pub public_url: String,
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
    /// How many of them an API key may have.
    pub max_concurrent_requests_per_key: usize,
    /// Bytes of messages that arrive in more than one piece, until they are passed on.
    pub max_arriving_bytes: usize,
    /// What it shows those who connect.
    pub tls: TlsConfig,
}

/// `[edge.tls]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names, reason = "each names a file, as the settings do")]
pub struct TlsConfig {
    /// The certificate, in PEM form, those of intermediate authorities after it. With a key, or neither: no TLS.
    pub certificate_file: PathBuf,
    /// Its key, in PEM form.
    pub key_file: PathBuf,
    /// The authorities that every client must have a certificate of; empty: clients need none.
    pub client_ca_file: PathBuf,
}

impl TlsConfig {
    /// Whether clients connect over TLS.
    pub fn is_set(&self) -> bool {
        !self.certificate_file.as_os_str().is_empty()
    }

    /// What is shown, if anything is; the error names the setting or the file.
    pub fn public(&self) -> Result<Option<Tls>, String> {
        let is_set = |file: &PathBuf| !file.as_os_str().is_empty();
        let clients = Some(self.client_ca_file.clone()).filter(is_set);
        match (is_set(&self.certificate_file), is_set(&self.key_file), &clients) {
            (false, false, None) => Ok(None),
            (true, true, _) => {
                let (certificate, key) = (self.certificate_file.clone(), self.key_file.clone());
                let tls = Tls::public(TlsFiles { certificate, key, clients });
                tls.map(Some).map_err(|wrong| format!("edge.tls: {wrong}"))
            }
            (false, false, Some(_)) => {
                Err("edge.tls.client_ca_file needs edge.tls.certificate_file and edge.tls.key_file"
                    .to_owned())
            }
            _ => {
                Err("edge.tls.certificate_file and edge.tls.key_file go together: set both or none"
                    .to_owned())
            }
        }
    }
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
        let public = self.public_url.parse::<http::Uri>().ok();
        let is_public = |url: &http::Uri| url.scheme_str() == Some("https") && url.query().is_none();
        if !self.public_url.is_empty() && !public.as_ref().is_some_and(is_public) {
            faults.push("edge.public_url must be empty or an https URL without a query".to_owned());
        }
        if self.requests_per_minute > 0 && self.burst == 0 {
            faults.push(
                "edge.burst must be at least 1, or no call of edge.requests_per_minute passes".to_owned(),
            );
        }
        if !(1..=1_000_000).contains(&self.max_concurrent_requests) {
            faults.push("edge.max_concurrent_requests must be 1 to 1000000".to_owned());
        }
        if !(1..=1_000_000).contains(&self.max_concurrent_requests_per_key) {
            faults.push("edge.max_concurrent_requests_per_key must be 1 to 1000000".to_owned());
        }
        // A quarter of them is one address's, which must be able to send the largest message.
        let least = 4 * (rpc::MAX_MESSAGE_BYTES + rpc::PREFIX_BYTES);
        if self.max_arriving_bytes < least {
            faults.push(format!("edge.max_arriving_bytes must be at least {least}"));
        }
        faults.extend(self.tls.public().err());
        faults
    }
}
