//! The settings of the audit service, under `[audit]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use reach::Authorities;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use crate::{subjects::KEY_FILE, watch::Limits};

/// A hundred years.
const MAX_RETENTION_DAYS: u32 = 36_525;

/// Settings of the audit service; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens when not every role runs in one process.
    pub listen: SocketAddr,
    /// How often the partitions of the coming months are looked after, in seconds.
    pub partition_check_interval_s: u64,
    /// A file with the keys that the keys of data subjects are wrapped by: a line `ID HEX` each, 256 bits; the first
    /// wraps, all open.
    pub key_file: PathBuf,
    /// A file with the key that signs checkpoints, as `toolcrib audit keygen` prints it.
    pub signing_key_file: PathBuf,
    /// Public halves of keys that signed before, as `name+hash+base64`.
    #[serde(deserialize_with = "names")]
    pub former_verifier_keys: Vec<String>,
    /// What the trees are called: the origin of a team's checkpoints is `{origin}/{team}`.
    pub origin: String,
    /// How often records become leaves, in milliseconds.
    pub sequence_interval_ms: u64,
    /// Most records of one transaction that makes leaves; where so many wait, the next follows at once.
    pub sequence_batch: usize,
    /// How often executions are compared with the trail, in seconds.
    pub reconcile_interval_s: u64,
    /// What is younger may still be on its way from the executor to the trail, in seconds.
    pub reconcile_grace_s: u64,
    /// Second places of checkpoints.
    pub checkpoints: CheckpointConfig,
    /// After how long without news a watcher of the trail is told that all is alive, in seconds.
    pub watch_heartbeat_s: u64,
    /// How long a watch of the trail lasts at most, in seconds; it can be taken up again.
    pub watch_timeout_s: u64,
    /// Watches of the trail that one process serves at once.
    pub max_watches: usize,
    /// Of these, of one team.
    pub max_watches_per_team: usize,
    /// How long records are kept.
    pub retention_days: RetentionDays,
}

/// `[audit.retention_days]`: days for which records of a classification are kept, at least; 0: for ever.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionDays {
    /// PUBLIC.
    pub public: u32,
    /// INTERNAL.
    pub internal: u32,
    /// CONFIDENTIAL.
    pub confidential: u32,
    /// RESTRICTED.
    pub restricted: u32,
}

impl RetentionDays {
    /// Each classification as the trail writes it, with its days.
    pub(crate) fn by_classification(self) -> [(&'static str, u32); 4] {
        let Self { public, internal, confidential, restricted } = self;
        [
            ("public", public),
            ("internal", internal),
            ("confidential", confidential),
            ("restricted", restricted),
        ]
    }

    fn validate(self) -> impl Iterator<Item = String> {
        let is_wrong = |days: u32| days > MAX_RETENTION_DAYS;
        self.by_classification().into_iter().filter(move |(_, days)| is_wrong(*days)).map(|(name, days)| {
            format!("audit.retention_days.{name} is {days}; it must be 0 (for ever) to {MAX_RETENTION_DAYS}")
        })
    }
}

/// A list, or one text joined by commas, as an environment variable gives it.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::List(names) => names,
        Names::Text(text) => {
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
    })
}

/// `[audit.checkpoints]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// `dir:/path`, `https://host/path` or `s3://bucket/prefix`; none: checkpoints stay in the database alone.
    #[serde(deserialize_with = "names")]
    pub places: Vec<String>,
    /// How often the newest checkpoint of a team goes there, in seconds.
    pub copy_interval_s: u64,
    /// Longest time that one piece of work with a place may take, in milliseconds.
    pub timeout_ms: u64,
    /// What happens while none of the places takes anything.
    pub on_failure: OnFailure,
    /// With `block`, events are refused after so many seconds without a place that takes checkpoints.
    pub block_after_s: u64,
    /// How an HTTP server is told.
    pub http_method: HttpMethod,
    /// A bearer token for HTTP servers.
    pub http_token: Option<SecretString>,
    /// Checkpoints that are given up, as the health of the trail names them: `TEAM@SIZE@ROOT`.
    #[serde(deserialize_with = "names")]
    pub accept_rollback: Vec<String>,
    /// For `s3://`.
    pub s3: S3Config,
}

/// `[audit.checkpoints.s3]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// Where it is, such as `https://minio.example.com:9000`; empty: Amazon's, of the region.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// Whether the endpoint may be http://.
    pub allow_http: bool,
    /// With the next one; without both, what the machine, the container or a web identity gives is used.
    pub access_key_id: Option<SecretString>,
    /// Its secret.
    pub secret_access_key: Option<SecretString>,
    /// Of temporary keys.
    pub session_token: Option<SecretString>,
}

/// What happens while no second place takes checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Health, log and metric say so, and events are taken.
    Alarm,
    /// The same, and after `block_after_s` no event is taken.
    Block,
}

/// How an HTTP server is given a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// PUT.
    Put,
    /// POST.
    Post,
}

impl CheckpointConfig {
    fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=86_400).contains(&self.copy_interval_s) {
            faults.push("audit.checkpoints.copy_interval_s must be 1 to 86400".to_owned());
        }
        if !(100..=3_000).contains(&self.timeout_ms) {
            faults.push("audit.checkpoints.timeout_ms must be 100 to 3000".to_owned());
        }
        if !(5..=86_400).contains(&self.block_after_s) {
            faults.push("audit.checkpoints.block_after_s must be 5 to 86400".to_owned());
        }
        if self.on_failure == OnFailure::Block && self.places.is_empty() {
            faults.push(
                "audit.checkpoints.on_failure is block, and audit.checkpoints.places is empty".to_owned(),
            );
        }
        let mut places = self.places.clone();
        places.sort_unstable();
        places.dedup();
        if places.len() != self.places.len() || places.len() > 8 {
            faults.push("audit.checkpoints.places must be at most 8 different ones".to_owned());
        }
        if self.s3.access_key_id.is_some() != self.s3.secret_access_key.is_some() {
            faults.push(
                "audit.checkpoints.s3.access_key_id and secret_access_key go together: set both or none"
                    .to_owned(),
            );
        }
        for place in &self.places {
            if let Err(wrong) = crate::copy::Place::open(place, self, &Authorities::default()) {
                faults.push(format!("audit.checkpoints.places: {place} {wrong}"));
            }
        }
        faults
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn copy_interval(&self) -> Duration {
        Duration::from_secs(self.copy_interval_s)
    }

    pub(crate) fn block_after(&self) -> Duration {
        Duration::from_secs(self.block_after_s)
    }
}

impl Config {
    /// Every fault of the settings.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(60..=86_400).contains(&self.partition_check_interval_s) {
            faults.push("audit.partition_check_interval_s must be 60 to 86400".to_owned());
        }
        if self.key_file.as_os_str().is_empty() {
            faults.push("audit.key_file is not set: the keys that the trail is sealed under".to_owned());
        } else if let Err(error) = keyring::read(&self.key_file, KEY_FILE) {
            faults.push(error.to_string());
        }
        if self.origin.is_empty()
            || self.origin.len() > 200
            || self.origin.chars().any(|c| c.is_control() || c == ' ')
        {
            faults.push(
                "audit.origin must be 1 to 200 characters without spaces, such as audit.example.com"
                    .to_owned(),
            );
        }
        if !(50..=10_000).contains(&self.sequence_interval_ms) {
            faults.push("audit.sequence_interval_ms must be 50 to 10000".to_owned());
        }
        if !(256..=65_536).contains(&self.sequence_batch) {
            faults.push("audit.sequence_batch must be 256 to 65536".to_owned());
        }
        if !(1..=3_600).contains(&self.reconcile_interval_s) {
            faults.push("audit.reconcile_interval_s must be 1 to 3600".to_owned());
        }
        if !(1..=86_400).contains(&self.reconcile_grace_s) {
            faults.push("audit.reconcile_grace_s must be 1 to 86400".to_owned());
        }
        faults.extend(crate::Signer::read(self).err());
        faults.extend(self.checkpoints.validate());
        faults.extend(self.retention_days.validate());
        faults.extend(self.watch_faults());
        faults
    }

    fn watch_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |is_right: bool, text: &str| {
            if !is_right {
                faults.push(format!("audit.{text}"));
            }
        };
        check((1..=300).contains(&self.watch_heartbeat_s), "watch_heartbeat_s must be 1 to 300");
        check((1..=86_400).contains(&self.watch_timeout_s), "watch_timeout_s must be 1 to 86400");
        check((1..=100_000).contains(&self.max_watches), "max_watches must be 1 to 100000");
        check(
            (1..=self.max_watches).contains(&self.max_watches_per_team),
            "max_watches_per_team must be 1 to max_watches",
        );
        faults
    }

    pub(crate) fn watch_limits(&self) -> Limits {
        Limits {
            heartbeat: Duration::from_secs(self.watch_heartbeat_s),
            longest: Duration::from_secs(self.watch_timeout_s),
            most: self.max_watches,
            most_of_team: self.max_watches_per_team,
        }
    }

    pub(crate) fn reconcile_interval(&self) -> Duration {
        Duration::from_secs(self.reconcile_interval_s)
    }

    pub(crate) fn reconcile_grace(&self) -> Duration {
        Duration::from_secs(self.reconcile_grace_s)
    }

    pub(crate) fn sequence_interval(&self) -> Duration {
        Duration::from_millis(self.sequence_interval_ms)
    }

    pub(crate) fn partition_check_interval(&self) -> Duration {
        Duration::from_secs(self.partition_check_interval_s)
    }
}
