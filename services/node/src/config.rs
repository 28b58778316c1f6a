//! The settings of a process: `default.toml`, then a file, then the environment. The only place that reads
//! environment variables.

use std::{collections::BTreeSet, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use config::{Environment, File, FileFormat};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::cli::ConfigArgs;

/// The settings that stand under all others.
const DEFAULTS: &str = include_str!("default.toml");
/// Shortest secret that is accepted, in bytes: the output length of SHA-256 (RFC 2104, section 3).
const MIN_SECRET_BYTES: usize = 32;

/// One of the parts that a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The address that the outside calls.
    Edge,
    /// The catalog.
    Registry,
    /// The ranking.
    Selector,
    /// The calls.
    Executor,
    /// The decisions.
    Permissions,
    /// The trail.
    Audit,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Edge, Self::Registry, Self::Selector, Self::Executor, Self::Permissions, Self::Audit];

    /// Its name in settings and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Registry => "registry",
            Self::Selector => "selector",
            Self::Executor => "executor",
            Self::Permissions => "permissions",
            Self::Audit => "audit",
        }
    }
}

/// The roles of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(pub BTreeSet<Role>);

impl Roles {
    /// Every role in one process.
    pub fn all() -> Self {
        Self(Role::ALL.into())
    }

    /// Whether the process is this.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether the process is everything, so that only the edge needs a port.
    pub fn is_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    /// Reads names, `all` among them.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut roles = BTreeSet::new();
        for name in names.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
            match Role::ALL.into_iter().find(|role| role.as_str() == name) {
                Some(role) => drop(roles.insert(role)),
                None if name == "all" => roles.extend(Role::ALL),
                None => bail!(
                    "role {name:?} is not one of all, edge, registry, selector, executor, permissions, audit"
                ),
            }
        }
        if roles.is_empty() {
            bail!("no role is given");
        }
        Ok(Self(roles))
    }
}

impl FromStr for Roles {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Self::parse(text.split(','))
    }
}

/// Names, or one text of names joined by commas, as an environment variable gives them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Text(String),
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let roles = match Names::deserialize(deserializer)? {
            Names::List(names) => Self::parse(names.iter().map(String::as_str)),
            Names::Text(text) => text.parse(),
        };
        roles.map_err(serde::de::Error::custom)
    }
}

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What this process is.
    pub roles: Roles,
    /// The database.
    pub database: DatabaseSettings,
    /// What may be lost: rates and cached answers of many processes.
    pub redis: RedisSettings,
    /// Keys and secrets.
    pub security: Security,
    /// Logs, traces and metrics.
    pub telemetry: telemetry::Config,
    /// What holds for every port.
    pub server: Server,
    /// Where the other roles are.
    pub peers: Peers,
    /// The copy of the catalog in each process of selector and executor.
    pub catalog: CatalogSettings,
    /// What holds wherever MCP servers are reached.
    pub mcp: McpSettings,
    /// The edge's own.
    pub edge: edge::Config,
    /// The registry's own.
    pub registry: registry::Config,
    /// The selector's own.
    pub selector: selector::Config,
    /// The executor's own.
    pub executor: executor::Config,
    /// The permissions service's own.
    pub permissions: permissions::Config,
    /// The audit service's own.
    pub audit: audit::Config,
}

/// `[database]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// Where PostgreSQL is, such as `postgres://user:password@host/toolcrib`.
    pub url: Option<SecretString>,
    /// Most connections of this process.
    pub max_connections: u32,
}

/// `[redis]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// Where Redis is, such as `redis://host:6379`; of a Cluster, some of its nodes. None: there is no Redis.
    #[serde(deserialize_with = "addresses")]
    pub urls: Vec<SecretString>,
    /// Whether they are nodes of a Redis Cluster.
    pub cluster: bool,
    /// Longest that a call waits for Redis, in milliseconds.
    pub timeout_ms: u64,
    /// Processes of each kind: while Redis is away, each admits its share of a rate.
    pub replicas: u32,
}

/// Addresses, or one text of addresses joined by commas, as an environment variable gives them.
fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretString>, D::Error> {
    let addresses = match Names::deserialize(deserializer)? {
        Names::List(names) => names,
        Names::Text(text) => text.split(',').map(str::to_owned).collect(),
    };
    let given = addresses.iter().map(|address| address.trim()).filter(|address| !address.is_empty());
    Ok(given.map(SecretString::from).collect())
}

impl RedisSettings {
    fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let sound = |url: &SecretString| {
            let known = ["redis://", "rediss://", "redis+unix://"];
            known.iter().any(|scheme| url.expose_secret().starts_with(scheme))
        };
        if !self.urls.iter().all(sound) {
            faults.push("redis.urls must begin with redis://, rediss:// or redis+unix://".to_owned());
        }
        if !self.cluster && self.urls.len() > 1 {
            faults.push("redis.urls must be one address unless redis.cluster is true".to_owned());
        }
        if !(10..=10_000).contains(&self.timeout_ms) {
            faults.push("redis.timeout_ms must be 10 to 10000".to_owned());
        }
        if !(1..=10_000).contains(&self.replicas) {
            faults.push("redis.replicas must be 1 to 10000".to_owned());
        }
        faults
    }
}

/// `[catalog]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogSettings {
    /// How long the copy is followed by its changes alone, in seconds; then everything is read again.
    pub tool_cache_ttl_s: u64,
}

impl CatalogSettings {
    /// `tool_cache_ttl_s` as a duration.
    pub fn tool_cache_ttl(&self) -> Duration {
        Duration::from_secs(self.tool_cache_ttl_s)
    }
}

/// `[mcp]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpSettings {
    /// Programs that the registry and the executor may run as MCP servers.
    #[serde(deserialize_with = "commands")]
    pub stdio_commands: mcp::Commands,
}

/// Programs, or one text of programs joined by commas, as an environment variable gives them.
fn commands<'de, D: Deserializer<'de>>(deserializer: D) -> Result<mcp::Commands, D::Error> {
    let names = match Names::deserialize(deserializer)? {
        Names::List(names) => names,
        Names::Text(text) => {
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
    };
    Ok(mcp::Commands::only(names))
}

/// `[security]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// Signs what the processes of the suite tell each other.
    pub caller_token_key: Option<SecretString>,
    /// Under which API keys are stored.
    pub api_key_pepper: Option<SecretString>,
    /// Second part of every API key.
    pub environment: String,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Calls that one service handles at once.
    pub max_concurrent_requests: usize,
    /// How long calls under way may take when the process stops, in seconds.
    pub drain_timeout_s: u64,
    /// After this age a connection is closed gracefully, in seconds.
    pub max_connection_age_s: u64,
}

impl Server {
    /// `drain_timeout_s` as a duration.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_s)
    }
}

/// `[peers]`: addresses such as `http://executor:7703`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The registry's.
    pub registry: String,
    /// The selector's.
    pub selector: String,
    /// The executor's.
    pub executor: String,
    /// The permissions service's.
    pub permissions: String,
    /// The audit service's.
    pub audit: String,
}

impl Settings {
    /// Reads defaults, file and environment; nothing is checked yet but the shape.
    pub fn load(file: Option<&PathBuf>) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = file {
            builder = builder.add_source(File::from(file.as_path()).format(FileFormat::Toml));
        }
        let environment = Environment::with_prefix("TOOLCRIB").prefix_separator("__").separator("__");
        let read = builder.add_source(environment).build().context("the configuration cannot be read")?;
        let mut settings: Self = read.try_deserialize().context("the configuration is wrong")?;
        if settings.executor.sandbox.python.as_os_str().is_empty() {
            settings.executor.sandbox.python = tools_dir().join("python/bin/python");
        }
        Ok(settings)
    }

    /// Every fault that stops these roles, all at once.
    pub fn validate(&self, roles: &Roles) -> Vec<String> {
        let mut faults = Vec::new();
        let needs_database = roles.0.iter().any(|role| *role != Role::Edge);
        if needs_database && self.database.url.is_none() {
            faults.push("database.url is not set (TOOLCRIB__DATABASE__URL)".to_owned());
        }
        if self.database.max_connections < 8 {
            faults.push(
                "database.max_connections must be at least 8: listeners and relays hold some of them"
                    .to_owned(),
            );
        }
        faults.extend(secret("caller_token_key", self.security.caller_token_key.as_ref()));
        if roles.has(Role::Permissions) {
            faults.extend(secret("api_key_pepper", self.security.api_key_pepper.as_ref()));
        }
        let environment = &self.security.environment;
        if environment.is_empty()
            || !environment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            faults.push("security.environment must be lower-case letters and digits".to_owned());
        }
        if self.server.max_concurrent_requests == 0 || self.server.max_concurrent_requests > 1 << 20 {
            faults.push("server.max_concurrent_requests must be 1 to 1048576".to_owned());
        }
        faults.extend(self.redis.validate());
        if !(10..=86_400).contains(&self.catalog.tool_cache_ttl_s) {
            faults.push("catalog.tool_cache_ttl_s must be 10 to 86400".to_owned());
        }
        faults.extend(self.mcp.stdio_commands.validate());
        if self.executor.cache.variant == executor::CacheVariant::Redis && self.redis.urls.is_empty() {
            faults.push("executor.cache.variant is redis, and redis.urls is empty".to_owned());
        }
        faults.extend(self.telemetry.validate());
        for role in &roles.0 {
            faults.extend(match role {
                Role::Edge => self.edge.validate(),
                Role::Registry => self.registry.validate(),
                Role::Selector => self.selector.validate(),
                Role::Executor => self.executor.validate(),
                Role::Permissions => self.permissions.validate(),
                Role::Audit => self.audit.validate(),
            });
        }
        faults
    }

    /// These settings, if no fault stops these roles.
    pub fn checked(self, roles: &Roles) -> anyhow::Result<Self> {
        match self.validate(roles).as_slice() {
            [] => Ok(self),
            faults => bail!("the configuration has {} faults:\n  {}", faults.len(), faults.join("\n  ")),
        }
    }
}

/// `toolcrib config check`.
pub fn check(args: &ConfigArgs) -> anyhow::Result<()> {
    let settings = Settings::load(args.config.as_ref())?;
    let roles = if args.roles.is_empty() { settings.roles.clone() } else { args.roles.join(",").parse()? };
    settings.checked(&roles)?;
    let names: Vec<&str> = roles.0.iter().map(|role| role.as_str()).collect();
    crate::cli::say(&format!("the configuration is sound for {}", names.join(", ")));
    Ok(())
}

fn secret(name: &str, value: Option<&SecretString>) -> Option<String> {
    let variable = format!("TOOLCRIB__SECURITY__{}", name.to_uppercase());
    match value {
        None => Some(format!("security.{name} is not set ({variable})")),
        Some(value) if value.expose_secret().len() < MIN_SECRET_BYTES => {
            Some(format!("security.{name} must have at least {MIN_SECRET_BYTES} bytes"))
        }
        Some(_) => None,
    }
}

/// Where `make setup` puts what it installs; the same rule as in `scripts/tools-dir`.
#[allow(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
fn tools_dir() -> PathBuf {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").unwrap_or_default().join(".cache/toolcrib/tools");
    let root = store::unprivileged_user().is_ok_and(|user| user.is_some());
    set("TOOLCRIB_TOOLS")
        .unwrap_or_else(|| if root { PathBuf::from("/var/lib/toolcrib/tools") } else { home() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_read_and_name_what_is_missing() {
        let settings = Settings::load(None).unwrap();
        let faults = settings.validate(&Roles::all()).join("\n");
        for key in ["database.url", "security.caller_token_key", "security.api_key_pepper"] {
            assert!(faults.contains(key), "{faults}");
        }
        let edge = settings.validate(&"edge".parse().unwrap()).join("\n");
        assert!(!edge.contains("database.url") && !edge.contains("api_key_pepper"), "{edge}");
    }

    #[test]
    fn a_file_stands_over_the_defaults_and_unknown_keys_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolcrib.toml");
        std::fs::write(&file, "roles = [\"audit\", \"edge\"]\n[edge]\nlisten = \"127.0.0.1:1\"").unwrap();
        let settings = Settings::load(Some(&file)).unwrap();
        assert_eq!(settings.edge.listen.port(), 1);
        assert_eq!(settings.roles, "edge,audit".parse().unwrap());
        std::fs::write(&file, "[edge]\nlisen = \"127.0.0.1:1\"").unwrap();
        assert!(format!("{:#}", Settings::load(Some(&file)).unwrap_err()).contains("lisen"));
    }

    #[test]
    fn every_fault_is_told_at_once_and_no_secret_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolcrib.toml");
        std::fs::write(
            &file,
            "[security]\ncaller_token_key = \"hunter2\"\n[server]\nmax_concurrent_requests = 0\n\
             [executor]\nmax_result_bytes = 1\n[telemetry]\ntrace_sample_ratio = 2.0",
        )
        .unwrap();
        let settings = Settings::load(Some(&file)).unwrap();
        let text = settings.clone().checked(&Roles::all()).unwrap_err().to_string();
        for key in ["caller_token_key", "max_concurrent_requests", "max_result_bytes", "trace_sample_ratio"] {
            assert!(text.contains(key), "{text}");
        }
        assert!(!text.contains("hunter2") && !format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn roles_are_names_and_all_is_every_one() {
        assert!("all".parse::<Roles>().unwrap().is_all());
        assert!("edge,cook".parse::<Roles>().is_err());
        assert!("".parse::<Roles>().is_err());
    }
}
