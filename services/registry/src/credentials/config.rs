//! The settings of credentials, under `[registry.credentials]`.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

/// The setting that names the file of wrapping keys.
pub(super) const KEY_FILE: &str = "registry.credentials.key_file";

/// Settings of credentials; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialConfig {
    /// File with the keys that credentials are kept under; empty: none are kept.
    pub key_file: PathBuf,
    /// Folder with a folder a team, in which secrets stand that credentials are rotated from; empty: none are.
    pub source_root: PathBuf,
    /// Whether token endpoints and sources may be at addresses that are not public, and be reached without TLS.
    pub allow_private_network: bool,
    /// How long a token endpoint or a source may take to answer, in seconds.
    pub timeout_s: u64,
}

impl Default for CredentialConfig {
    fn default() -> Self {
        Self {
            key_file: PathBuf::new(),
            source_root: PathBuf::new(),
            allow_private_network: false,
            timeout_s: 10,
        }
    }
}

impl CredentialConfig {
    /// Every fault of the settings; a key file that is set is read.
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=30).contains(&self.timeout_s) {
            faults.push("registry.credentials.timeout_s must be 1 to 30".to_owned());
        }
        if !self.key_file.as_os_str().is_empty()
            && let Err(error) = keyring::read(&self.key_file, KEY_FILE)
        {
            faults.push(error.to_string());
        }
        if !self.source_root.as_os_str().is_empty() && !self.source_root.is_dir() {
            let root = self.source_root.display();
            faults.push(format!("registry.credentials.source_root {root} is not a folder"));
        }
        faults
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}
