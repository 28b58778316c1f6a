//! The settings of the executor service, under `[executor]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;

/// Settings of the executor service; the embedded `default.toml` has a value for each that is not optional.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens when not every role runs in one process.
    pub listen: SocketAddr,
    /// Folder under which each team and task has its workspace.
    pub workspace_root: PathBuf,
    /// Largest result that is taken from a tool, in bytes of JSON text.
    pub max_result_bytes: usize,
    /// How often this process says that it lives, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// After how long a silent process is taken for dead and its executions are closed, in milliseconds.
    pub lease_timeout_ms: u64,
    /// Age of the oldest undelivered audit event above which new calls are refused, in seconds.
    pub audit_backlog_max_age_s: u64,
    /// Largest result that is kept as a file of the workspace when it is too large to travel, in bytes.
    pub max_artifact_bytes: usize,
    /// Longest time from the first attempt of a queued call to its last, in seconds.
    pub execution_timeout_s: u64,
    /// Queued calls that this process runs at once.
    pub worker_pool: usize,
    /// Calls of a batch that run at once when it does not say.
    pub parallel_limit: usize,
    /// How often the queue is looked at when nothing says that there is something new, in milliseconds.
    pub queue_poll_ms: u64,
    /// Calls of one tool of a team that run at once in this process, unless its settings say otherwise.
    pub max_concurrent_per_tool: usize,
    /// How long a call waits for a place among them, in milliseconds.
    pub max_wait_ms: u64,
    /// How often the figures of tools are made anew, in seconds.
    pub metrics_refresh_s: u64,
    /// After how long without news a watcher is told that all is alive, in seconds.
    pub watch_heartbeat_s: u64,
    /// How long a watch lasts at most, in seconds; it can be resumed.
    pub watch_timeout_s: u64,
    /// Watches that this process serves at once.
    pub max_watches: usize,
    /// How many of them one team may have.
    pub max_watches_per_team: usize,
    /// Answers of tools that are kept.
    pub cache: CacheConfig,
    /// The Python sandbox.
    pub sandbox: SandboxConfig,
    /// What HTTP tools may do.
    pub http: HttpConfig,
    /// The web search tools.
    pub web_search: WebSearchConfig,
    /// Where files of repositories on GitHub are read.
    pub github: GithubConfig,
}

/// Where answers of tools are kept, under `[executor.cache]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// off, memory, or redis; redis needs `[redis]`.
    pub variant: CacheVariant,
    /// Bytes that all answers in memory may have together.
    pub max_bytes: u64,
    /// Bytes that one answer may have, in either variant.
    pub max_entry_bytes: usize,
}

/// Where answers of tools are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheVariant {
    /// Nowhere.
    Off,
    /// In this process.
    Memory,
    /// In Redis, for all processes.
    Redis,
}

/// Settings of the Python sandbox, under `[executor.sandbox]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// The Python with pandas that programs run on: a virtual environment's `bin/python`.
    pub python: PathBuf,
    /// Folder for the programs' own folders, each deleted after its run.
    pub work_root: PathBuf,
    /// Memory of one program, in bytes.
    pub memory_bytes: u64,
    /// Programs that run at once; others wait.
    pub max_concurrent: usize,
}

/// What HTTP tools may do, under `[executor.http]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Whether `http_request` may reach loopback and private addresses. Registered HTTP tools say it themselves.
    pub allow_private_network: bool,
    /// Largest response body that is read, in bytes.
    pub max_response_bytes: usize,
}

/// Keys of the search providers, under `[executor.web_search]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSearchConfig {
    /// Brave Search API key.
    pub brave_api_key: Option<SecretString>,
    /// Address of Brave's web search.
    pub brave_url: String,
    /// Google Programmable Search key.
    pub google_api_key: Option<SecretString>,
    /// Google Programmable Search engine id (`cx`).
    pub google_engine_id: Option<String>,
    /// Address of Google's search.
    pub google_url: String,
}

/// Where `read_file` and `list_files` find repositories, under `[executor.github]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GithubConfig {
    /// Address of GitHub's REST API; that of an Enterprise Server ends with `/api/v3`.
    pub url: String,
    /// A token. What it may read, every agent with these tools may read; without one, public repositories alone, 60
    /// requests an hour.
    pub token: Option<SecretString>,
}

impl Config {
    /// Every fault of the settings.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |sound: bool, fault: &str| {
            if !sound {
                faults.push(format!("executor.{fault}"));
            }
        };
        check(!self.workspace_root.as_os_str().is_empty(), "workspace_root must be a folder");
        check(
            (1_024..=3 << 20).contains(&self.max_result_bytes),
            "max_result_bytes must be 1024 to 3145728: the arguments stand beside it in one message of 4194304",
        );
        check(
            (100..=60_000).contains(&self.heartbeat_interval_ms),
            "heartbeat_interval_ms must be 100 to 60000",
        );
        check(
            self.lease_timeout_ms >= self.heartbeat_interval_ms.saturating_mul(3),
            "lease_timeout_ms must be at least three heartbeats, so that a lost one does not kill",
        );
        check(self.audit_backlog_max_age_s >= 5, "audit_backlog_max_age_s must be at least 5");
        check(
            self.max_artifact_bytes >= self.max_result_bytes && self.max_artifact_bytes <= 256 << 20,
            "max_artifact_bytes must be at least max_result_bytes and at most 268435456",
        );
        check((1..=300).contains(&self.execution_timeout_s), "execution_timeout_s must be 1 to 300");
        check((1..=1_000).contains(&self.worker_pool), "worker_pool must be 1 to 1000");
        check((1..=20).contains(&self.parallel_limit), "parallel_limit must be 1 to 20");
        check((10..=60_000).contains(&self.queue_poll_ms), "queue_poll_ms must be 10 to 60000");
        check(
            (1..=10_000).contains(&self.max_concurrent_per_tool),
            "max_concurrent_per_tool must be 1 to 10000",
        );
        check(self.max_wait_ms <= 60_000, "max_wait_ms must be at most 60000");
        check(self.metrics_refresh_s >= 10, "metrics_refresh_s must be at least 10");
        check((1..=300).contains(&self.watch_heartbeat_s), "watch_heartbeat_s must be 1 to 300");
        check((1..=86_400).contains(&self.watch_timeout_s), "watch_timeout_s must be 1 to 86400");
        check((1..=100_000).contains(&self.max_watches), "max_watches must be 1 to 100000");
        check(
            (1..=self.max_watches).contains(&self.max_watches_per_team),
            "max_watches_per_team must be 1 to max_watches",
        );
        check(self.cache.max_entry_bytes >= 1_024, "cache.max_entry_bytes must be at least 1024");
        check(
            self.cache.max_bytes >= self.cache.max_entry_bytes as u64,
            "cache.max_bytes must be at least cache.max_entry_bytes",
        );
        check(self.sandbox.memory_bytes >= 16 << 20, "sandbox.memory_bytes must be at least 16777216");
        check((1..=256).contains(&self.sandbox.max_concurrent), "sandbox.max_concurrent must be 1 to 256");
        check(self.http.max_response_bytes >= 1_024, "http.max_response_bytes must be at least 1024");
        for (name, url) in
            [("brave_url", &self.web_search.brave_url), ("google_url", &self.web_search.google_url)]
        {
            let sound = url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            check(sound, &format!("web_search.{name} must be an http or https address"));
        }
        let is_plain = |url: &url::Url| url.query().is_none() && url.fragment().is_none();
        let github = url::Url::parse(&self.github.url);
        check(
            github.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && is_plain(&url)),
            "github.url must be an http or https address without a query",
        );
        faults
    }

    pub(crate) fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_interval_ms)
    }

    pub(crate) fn lease_timeout(&self) -> Duration {
        Duration::from_millis(self.lease_timeout_ms)
    }

    pub(crate) fn audit_backlog_max_age(&self) -> Duration {
        Duration::from_secs(self.audit_backlog_max_age_s)
    }

    pub(crate) fn execution_timeout(&self) -> Duration {
        Duration::from_secs(self.execution_timeout_s)
    }

    pub(crate) fn watch_timeout(&self) -> Duration {
        Duration::from_secs(self.watch_timeout_s)
    }

    pub(crate) fn max_wait(&self) -> Duration {
        Duration::from_millis(self.max_wait_ms)
    }
}
