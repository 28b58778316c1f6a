//! Where `read_file` and `list_files` find files: the task's workspace, addresses of HTTP, repositories of GitHub. Must
//! never reach a file outside of what the caller named: each source holds its paths in.

mod github;
mod http;
mod index;
pub(crate) mod window;
pub(crate) mod workspace;

use std::time::{Duration, Instant};

use reqwest::{Method, header::HeaderMap};
use url::Url;

use self::window::Part;
use super::{glob::Glob, path::wrong, text};
use crate::{
    config::GithubConfig,
    drivers::{Fetch, Fetched, HttpClient, Job},
    outcome::{ToolError, ToolErrorCode},
};

/// Folders of a remote source that one listing looks into.
const MAX_FOLDERS: usize = 50;
/// Entries that one listing looks at.
const MAX_SEEN: usize = 100_000;
/// Deepest that a listing goes.
pub(crate) const MAX_DEPTH: usize = 32;
/// Entries that are given when the caller does not say.
const DEFAULT_ENTRIES: usize = 1_000;

/// What is beyond the workspace.
pub(crate) struct Remote {
    http: HttpClient,
    allow_private_network: bool,
    github: GithubConfig,
    max_response_bytes: usize,
}

/// A part of a file, and what is known of the whole.
#[derive(Debug)]
pub(crate) struct Read {
    pub part: Part,
    /// What was read, in words.
    pub location: String,
    /// Size of the whole file, where it is known.
    pub size: Option<u64>,
    pub media_type: Option<String>,
    /// What the text was written in, where that was not UTF-8.
    pub charset: Option<String>,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Beneath the folder that is listed.
    pub path: String,
    pub kind: Kind,
    pub size: Option<u64>,
    /// RFC 3339.
    pub modified: Option<String>,
    pub url: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
            Self::Other => "other",
        }
    }
}

/// What a listing is to give.
#[derive(Debug)]
pub(crate) struct Wanted {
    glob: Option<Glob>,
    kind: Option<&'static str>,
    depth: usize,
    most: usize,
}

/// What a listing found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub entries: Vec<Entry>,
    pub truncated: bool,
    seen: usize,
}

impl Wanted {
    pub(crate) fn of(job: &Job<'_>) -> Result<Self, ToolError> {
        let glob = text(job.arguments, "pattern").map(Glob::new).transpose()?;
        // As deep as the pattern reaches, unless the caller says.
        let reach = glob.as_ref().map_or(1, |glob| glob.depth.unwrap_or(MAX_DEPTH));
        let kind = text(job.arguments, "kind").and_then(|kind| match kind {
            "file" => Some(Kind::File.as_str()),
            "folder" => Some(Kind::Folder.as_str()),
            _ => None,
        });
        Ok(Self {
            glob,
            kind,
            depth: number(job, "depth").unwrap_or(reach).clamp(1, MAX_DEPTH),
            most: number(job, "max_entries").unwrap_or(DEFAULT_ENTRIES).max(1),
        })
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.kind.is_none_or(|kind| entry.kind.as_str() == kind)
            && self.glob.as_ref().is_none_or(|glob| glob.matches(&entry.path))
    }
}

impl Listing {
    /// Looks at an entry; `false` when no more may be looked at.
    fn add(&mut self, wanted: &Wanted, entry: Entry) -> bool {
        if self.seen >= MAX_SEEN {
            self.truncated = true;
            return false;
        }
        self.seen += 1;
        if wanted.takes(&entry) {
            self.entries.push(entry);
        }
        true
    }

    /// In order of path, and no more than wanted.
    fn ended(mut self, wanted: &Wanted) -> Self {
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        self.truncated |= self.entries.len() > wanted.most;
        self.entries.truncate(wanted.most);
        self
    }
}

impl Remote {
    pub(crate) fn new(http: HttpClient, config: &crate::Config) -> Self {
        Self {
            http,
            allow_private_network: config.http.allow_private_network,
            github: config.github.clone(),
            max_response_bytes: config.http.max_response_bytes,
        }
    }

    /// One GET. At most `max_bytes` of its answer are read.
    async fn get(
        &self,
        url: Url,
        headers: HeaderMap,
        max_bytes: usize,
        allow_private_network: bool,
        deadline: Instant,
    ) -> Result<Fetched, ToolError> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        if timeout.is_zero() {
            return Err(ToolError::new(ToolErrorCode::Timeout, "the source was too slow"));
        }
        let (method, body, may_move) = (Method::GET, None, true);
        self.http
            .fetch(Fetch { method, url, headers, body, max_bytes, allow_private_network, may_move, timeout })
            .await
    }
}

/// When a job must have its answer.
fn deadline(job: &Job<'_>) -> Instant {
    Instant::now() + job.timeout.saturating_sub(Duration::from_millis(50).min(job.timeout / 10))
}

fn number(job: &Job<'_>, name: &str) -> Option<usize> {
    job.arguments
        .get(name)
        .and_then(serde_json::Value::as_u64)
        .and_then(|number| usize::try_from(number).ok())
}

/// An argument without which a source is not found.
fn needed<'a>(job: &Job<'a>, name: &str, source: &str) -> Result<&'a str, ToolError> {
    text(job.arguments, name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| wrong(name, format!("is needed for the source {source}")))
}
