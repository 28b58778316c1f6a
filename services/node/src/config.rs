//! The settings of a process: `default.toml`, then a file, then the environment. The only place that reads
//! environment variables.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use config::{Environment, File, FileFormat};
use reach::Authorities;
use rpc::Tls;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

pub use crate::roles::{Role, Roles};

use crate::{cli::ConfigArgs, roles::Names};

/// The settings that stand under all others.
const DEFAULTS: &str = include_str!("default.toml");
/// Shortest secret that is accepted, in bytes: the output length of SHA-256 (RFC 2104, section 3).
const MIN_SECRET_BYTES: usize = 32;

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
    /// What holds wherever servers of tools, of imports and of tokens are reached.
    pub tls: TlsSettings,
    /// What is taken out of whatever is stored.
    pub redaction: redact::Config,
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

/// `[tls]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// A file of certificates in PEM form: authorities that are trusted besides the system's. Empty: none.
    pub extra_ca_file: PathBuf,
    /// This process's certificate for the other processes, in PEM form, those of intermediate authorities after it.
    /// With the next two, or none of them.
    pub certificate_file: PathBuf,
    /// Its key, in PEM form.
    pub key_file: PathBuf,
    /// The authorities that every process of the suite has a certificate of, in PEM form.
    pub ca_file: PathBuf,
    /// The name in the certificates of the other processes; empty: the host under which each is called.
    pub server_name: String,
    /// Where health is told without TLS, and nothing else, for probes that cannot show a certificate; empty: nowhere.
    pub health_listen: String,
}

impl TlsSettings {
    /// The authorities of the file; the error names the setting and what is wrong with the file.
    pub fn authorities(&self) -> Result<Authorities, String> {
        let file = &self.extra_ca_file;
        Authorities::read(file).map_err(|wrong| format!("tls.extra_ca_file {}: {wrong}", file.display()))
    }

    /// Where health is told apart, if it is.
    pub fn health_address(&self) -> Result<Option<SocketAddr>, String> {
        if self.health_listen.is_empty() {
            return Ok(None);
        }
        let wrong = |_| "tls.health_listen is no address, such as 0.0.0.0:7709".to_owned();
        self.health_listen.parse().map(Some).map_err(wrong)
    }

    /// What processes show each other, where they are to; the error names the setting or the file.
    pub fn mutual(&self) -> Result<Option<Tls>, String> {
        let files = [&self.certificate_file, &self.key_file, &self.ca_file];
        if files.iter().all(|file| file.as_os_str().is_empty()) {
            return Ok(None);
        }
        if files.iter().any(|file| file.as_os_str().is_empty()) {
            return Err(
                "tls.certificate_file, tls.key_file and tls.ca_file go together: set all or none".to_owned()
            );
        }
        let tls = Tls::mutual(&self.certificate_file, &self.key_file, &self.ca_file, &self.server_name);
        tls.map(Some).map_err(|wrong| format!("tls: {wrong}"))
    }
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

impl Security {
    /// The pepper of API keys.
    pub(crate) fn pepper(&self) -> anyhow::Result<SecretString> {
        self.api_key_pepper.clone().context("security.api_key_pepper is not set")
    }
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

impl Peers {
    /// The address of a role; empty for the edge, which nobody of the suite calls.
    pub fn of(&self, role: Role) -> &str {
        match role {
            Role::Edge => "",
            Role::Registry => &self.registry,
            Role::Selector => &self.selector,
            Role::Executor => &self.executor,
            Role::Permissions => &self.permissions,
            Role::Audit => &self.audit,
        }
    }

    /// Whether the addresses go with what `[tls]` says: a caller token must not go over an open connection by mistake.
    fn validate(&self, roles: &Roles, is_secured: bool) -> Vec<String> {
        let scheme = if is_secured { "https://" } else { "http://" };
        let why = if is_secured { "tls.certificate_file is set" } else { "tls.certificate_file is not set" };
        let wrong = |role: &&Role| !roles.has(**role) && !self.of(**role).starts_with(scheme);
        let others = Role::ALL.iter().filter(|role| **role != Role::Edge).filter(wrong);
        others.map(|role| format!("peers.{} must begin with {scheme}, since {why}", role.as_str())).collect()
    }
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
        faults.extend(self.tls.authorities().err());
        faults.extend(self.tls.health_address().err());
        match self.tls.mutual() {
            Ok(tls) => faults.extend(self.peers.validate(roles, tls.is_some())),
            Err(fault) => faults.push(fault),
        }
        if self.executor.cache.variant == executor::CacheVariant::Redis && self.redis.urls.is_empty() {
            faults.push("executor.cache.variant is redis, and redis.urls is empty".to_owned());
        }
        faults.extend(self.telemetry.validate());
        faults.extend(self.redaction.validate());
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
        let missing = ["database.url", "security.caller_token_key", "security.api_key_pepper"];
        for key in missing.into_iter().chain(["audit.key_file", "audit.signing_key_file"]) {
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
    fn a_file_of_authorities_that_holds_none_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let mut settings = Settings::load(None).unwrap();
        let faults = |settings: &Settings| settings.validate(&Roles::all()).join("\n");
        assert!(!faults(&settings).contains("tls."));
        settings.tls.extra_ca_file.clone_from(&file);
        let missing = faults(&settings);
        assert!(missing.contains("tls.extra_ca_file") && missing.contains("cannot be read"), "{missing}");
        std::fs::write(&file, "no certificate").unwrap();
        let empty = faults(&settings);
        assert!(empty.contains(&format!("{}: holds no certificate", file.display())), "{empty}");
    }

    #[test]
    fn certificates_between_processes_are_all_there_and_so_are_addresses_that_need_them() {
        let authority = testkit::Authority::new();
        let (folder, pair) = (tempfile::tempdir().unwrap(), authority.issue("executor"));
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut settings = Settings::load(None).unwrap();
        let executor: Roles = "executor".parse().unwrap();
        let faults = |settings: &Settings| settings.validate(&executor).join("\n");
        assert!(!faults(&settings).contains("tls") && !faults(&settings).contains("peers"));
        settings.peers.audit = "https://audit:7705".into();
        assert!(faults(&settings).contains("peers.audit must begin with http://"), "{}", faults(&settings));
        settings.tls.certificate_file = file("tls.crt", &pair.certificate_pem);
        assert!(faults(&settings).contains("go together"), "{}", faults(&settings));
        settings.tls.key_file = file("tls.key", &pair.key_pem);
        settings.tls.ca_file = file("ca.pem", authority.pem());
        let told = faults(&settings);
        assert!(told.contains("peers.registry must begin with https://"), "{told}");
        assert!(!told.contains("peers.audit") && !told.contains("peers.executor"), "{told}");
        settings.tls.key_file = file("other.key", &authority.issue("executor").key_pem);
        assert!(faults(&settings).contains("other.key: does not go with"), "{}", faults(&settings));
        settings.edge.tls.certificate_file = folder.path().join("tls.crt");
        let all = settings.validate(&Roles::all()).join("\n");
        assert!(all.contains("edge.tls.certificate_file and edge.tls.key_file go together"), "{all}");
    }
}
