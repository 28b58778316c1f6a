//! Files and folders of repositories on GitHub (REST API, `GET /repos/{owner}/{repo}/contents/{path}`). Must never build
//! an address outside the contents of the repository that was named, nor tell the token.

use std::{collections::VecDeque, time::Instant};

use chrono::Utc;
use reqwest::{
    StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use super::{
    Entry, Kind, Listing, MAX_FOLDERS, Read, Remote, Wanted, deadline, http::cut, needed, text,
    window::Window,
};
use crate::{
    builtin::path::{self, wrong},
    drivers::{Fetched, Job, refused},
    outcome::{Reached, ToolError, ToolErrorCode},
};

/// The file itself, of up to 100 MB.
const RAW: &str = "application/vnd.github.raw+json";
const LISTING: &str = "application/vnd.github+json";
const API_VERSION: &str = "2022-11-28";
/// Entries of a folder that GitHub gives at most.
const FOLDER_LIMIT: usize = 1_000;
/// Largest answer about a folder, in bytes: some 1.5 KB an entry.
const MAX_LISTING_BYTES: usize = 4 << 20;
/// Longest wait that GitHub's limits ask for, in milliseconds: they are of an hour.
const MAX_WAIT_MS: i64 = 3_600_000;

/// A place in a repository.
#[derive(Debug)]
struct Place<'a> {
    owner: &'a str,
    name: &'a str,
    path: Vec<String>,
    revision: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(job: &Job<'a>) -> Result<Self, ToolError> {
        let (owner, name) = repository(needed(job, "repository", "github")?)?;
        let path = path::segments("path", text(job.arguments, "path").unwrap_or_default())?;
        let revision =
            text(job.arguments, "ref").filter(|name| !name.is_empty()).map(revision).transpose()?;
        Ok(Self { owner, name, path, revision })
    }

    fn at(&self, path: &[String]) -> String {
        let revision = self.revision.map(|name| format!("@{name}")).unwrap_or_default();
        format!("{}/{}/{}{revision}", self.owner, self.name, path.join("/"))
    }

    /// The address of a path; every character of a segment that could mean something is encoded.
    fn url(&self, base: &str, path: &[String]) -> Result<Url, ToolError> {
        let faulty = || ToolError::new(ToolErrorCode::NotConfigured, "executor.github.url is no address");
        let mut url = Url::parse(base).map_err(|_| faulty())?;
        let before =
            url.path_segments().map_or(0, |segments| segments.filter(|name| !name.is_empty()).count());
        url.path_segments_mut()
            .map_err(|()| faulty())?
            .pop_if_empty()
            .extend(["repos", self.owner, self.name, "contents"])
            .extend(path);
        if url.path_segments().map_or(0, Iterator::count) != before + 4 + path.len() {
            return Err(wrong("path", "must not lead out of the repository"));
        }
        if let Some(revision) = self.revision {
            url.query_pairs_mut().append_pair("ref", revision);
        }
        Ok(url)
    }
}

impl Remote {
    /// Reads a part of a file.
    pub(crate) async fn github_read(&self, job: &Job<'_>, window: &Window) -> Result<Read, ToolError> {
        let place = Place::of(job)?;
        if place.path.is_empty() {
            return Err(wrong("path", "is needed: the file's path in the repository"));
        }
        let most = window.reach().unwrap_or(self.reaches());
        let fetched = self.github_get(&place, &place.path, RAW, most, deadline(job)).await?;
        let kind =
            fetched.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A file is of the media type that was asked for; folders, submodules and links that lead nowhere are told of.
        if kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json") {
            let message = format!("{} is not a file; list_files lists a folder", place.at(&place.path));
            return Err(ToolError::new(ToolErrorCode::ToolFailed, message));
        }
        let mut read = cut(fetched, place.at(&place.path), window, false).await?;
        read.media_type = None;
        Ok(read)
    }

    /// Lists a folder and those below it.
    pub(crate) async fn github_list(
        &self,
        job: &Job<'_>,
        wanted: &Wanted,
    ) -> Result<(Listing, String), ToolError> {
        let (place, deadline) = (Place::of(job)?, deadline(job));
        let (mut found, mut asked) = (Listing::default(), 0);
        let mut folders = VecDeque::from([(place.path.clone(), String::new(), 1)]);
        while let Some((path, prefix, depth)) = folders.pop_front() {
            if asked == MAX_FOLDERS {
                found.truncated = true;
                break;
            }
            asked += 1;
            let fetched = self.github_get(&place, &path, LISTING, MAX_LISTING_BYTES, deadline).await?;
            let entries = entries(&fetched).ok_or_else(|| {
                let message = format!("{} is not a folder; read_file reads a file", place.at(&path));
                ToolError::new(ToolErrorCode::ToolFailed, message)
            })?;
            found.truncated |= entries.len() >= FOLDER_LIMIT;
            for (name, kind, size) in entries {
                let listed = format!("{prefix}{name}");
                if kind == Kind::Folder && depth < wanted.depth {
                    folders.push_back(([&path[..], &[name]].concat(), format!("{listed}/"), depth + 1));
                }
                if !found.add(wanted, Entry { path: listed, kind, size, modified: None, url: None }) {
                    break;
                }
            }
        }
        Ok((found.ended(wanted), place.at(&place.path)))
    }

    async fn github_get(
        &self,
        place: &Place<'_>,
        path: &[String],
        accept: &'static str,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Fetched, ToolError> {
        let url = place.url(&self.github.url, path)?;
        let mut headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static(accept)),
            (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static(API_VERSION)),
        ]);
        if let Some(token) = &self.github.token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| {
                    let message = "executor.github.token has a character that headers have not";
                    ToolError::new(ToolErrorCode::NotConfigured, message)
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // The address is the operator's own setting, so it may be a private one.
        let fetched = self.get(url, headers, max_bytes, true, deadline).await?;
        if fetched.status.is_success() {
            Ok(fetched)
        } else {
            Err(failure(&fetched, &place.at(path), self.github.token.is_none()))
        }
    }
}

fn repository(text: &str) -> Result<(&str, &str), ToolError> {
    let bad = || wrong("repository", "must be OWNER/NAME, as in rust-lang/rust");
    let (owner, name) = text.split_once('/').ok_or_else(bad)?;
    let is_owner = (1..=39).contains(&owner.len())
        && owner.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let is_name = (1..=100).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !matches!(name, "." | "..");
    if is_owner && is_name { Ok((owner, name)) } else { Err(bad()) }
}

/// A branch, tag or commit (git-check-ref-format).
fn revision(text: &str) -> Result<&str, ToolError> {
    let sound = text.len() <= 255
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\%".contains(c));
    if sound { Ok(text) } else { Err(wrong("ref", "is no name of a branch, tag or commit")) }
}

/// Name, kind and size of what a folder holds; `None` where this is none.
fn entries(fetched: &Fetched) -> Option<Vec<(String, Kind, Option<u64>)>> {
    let listed: Vec<Value> = serde_json::from_slice(&fetched.body).ok()?;
    let one = |entry: &Value| {
        let name = entry.get("name")?.as_str()?;
        // A name is one segment, whatever the server says.
        let [name] = &path::segments("path", name).ok()?[..] else { return None };
        let kind = match entry.get("type")?.as_str()? {
            "dir" => Kind::Folder,
            "file" => Kind::File,
            "symlink" => Kind::Link,
            _ => Kind::Other,
        };
        let size = entry.get("size").and_then(Value::as_u64).filter(|_| kind == Kind::File);
        Some((name.clone(), kind, size))
    };
    Some(listed.iter().filter_map(one).collect())
}

/// What GitHub refused, and what to do about it. Its own words may repeat a token.
fn failure(fetched: &Fetched, place: &str, with_its_words: bool) -> ToolError {
    let header = |name: &str| fetched.headers.get(name).and_then(|value| value.to_str().ok());
    let is_limited = fetched.status == StatusCode::FORBIDDEN && header("x-ratelimit-remaining") == Some("0")
        || fetched.status == StatusCode::TOO_MANY_REQUESTS;
    if is_limited {
        let reset = header("x-ratelimit-reset").and_then(|text| text.parse::<i64>().ok());
        let until_reset =
            reset.map_or(0, |reset| reset.saturating_sub(Utc::now().timestamp()).saturating_mul(1_000));
        let asked = refused(fetched, "GitHub", false).retry_after_ms.max(until_reset);
        let message = "GitHub's rate limit is used up; executor.github.token raises it";
        return ToolError {
            retry_after_ms: asked.clamp(0, MAX_WAIT_MS),
            ..ToolError::new(ToolErrorCode::UpstreamRateLimited, message).having(Reached::No)
        };
    }
    if fetched.status == StatusCode::NOT_FOUND {
        let message = format!("{place} does not exist on GitHub, or may not be seen");
        return ToolError { is_deterministic: true, ..ToolError::new(ToolErrorCode::ToolFailed, message) };
    }
    refused(fetched, "GitHub", with_its_words)
}
