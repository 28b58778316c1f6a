//! Files at addresses of HTTP, and folders that a web server lists itself. Must never reach an address that tools may
//! not reach, nor follow a listing out of its folder.

use std::{collections::VecDeque, time::Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use url::Url;

use super::{
    Entry, Kind, Listing, MAX_FOLDERS, Read, Remote, Wanted, deadline, index, needed, window::Window,
};
use crate::{
    builtin::{
        http_request::address,
        path::{self, wrong},
    },
    drivers::{Fetched, Job, refused},
    outcome::{ToolError, ToolErrorCode},
};

/// Largest listing of one folder, in bytes.
const MAX_LISTING_BYTES: usize = 4 << 20;

impl Remote {
    /// Reads a part of what an address gives.
    pub(crate) async fn http_read(&self, job: &Job<'_>, window: &Window) -> Result<Read, ToolError> {
        let url = checked(needed(job, "url", "http")?)?;
        let is_raw = super::text(job.arguments, "encoding") == Some("base64");
        let fetched = self.http_get(url, window.reach(), HeaderMap::new(), deadline(job)).await?;
        let location = fetched.url.to_string();
        let mut read = cut(fetched, location, window, !is_raw).await?;
        if !is_raw && read.charset.is_some() {
            // Its bytes are not those of the file any more.
            read.size = None;
        }
        Ok(read)
    }

    /// Lists a folder that a web server lists, and those below it.
    pub(crate) async fn http_list(
        &self,
        job: &Job<'_>,
        wanted: &Wanted,
    ) -> Result<(Listing, String), ToolError> {
        let start = checked(needed(job, "url", "http")?)?;
        let deadline = deadline(job);
        let (mut found, mut asked, mut base) = (Listing::default(), 0, None);
        let mut folders = VecDeque::from([(start, String::new(), 1)]);
        while let Some((url, prefix, depth)) = folders.pop_front() {
            if asked == MAX_FOLDERS {
                found.truncated = true;
                break;
            }
            asked += 1;
            let headers =
                HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/html, application/json"))]);
            let fetched = self.http_get(url, Some(MAX_LISTING_BYTES), headers, deadline).await?;
            found.truncated |= fetched.truncated;
            base.get_or_insert_with(|| fetched.url.clone());
            for entry in index::entries(&fetched).ok_or_else(no_listing)? {
                let entry = Entry { path: format!("{prefix}{}", entry.path), ..entry };
                let below = (entry.kind == Kind::Folder && depth < wanted.depth)
                    .then(|| entry.url.as_deref().and_then(|url| Url::parse(url).ok()))
                    .flatten();
                if let Some(below) = below {
                    folders.push_back((below, format!("{}/", entry.path), depth + 1));
                }
                if !found.add(wanted, entry) {
                    break;
                }
            }
        }
        Ok((found.ended(wanted), base.map(String::from).unwrap_or_default()))
    }

    async fn http_get(
        &self,
        url: Url,
        reach: Option<usize>,
        headers: HeaderMap,
        deadline: Instant,
    ) -> Result<Fetched, ToolError> {
        let fetched =
            self.get(url, headers, reach.unwrap_or(usize::MAX), self.allow_private_network, deadline).await?;
        if fetched.status.is_success() { Ok(fetched) } else { Err(refused(&fetched, "the server", true)) }
    }

    /// Most bytes of a remote file that are read.
    pub(super) fn reaches(&self) -> usize {
        self.max_response_bytes
    }
}

/// An address that says at first sight where it leads.
fn checked(text: &str) -> Result<Url, ToolError> {
    let url = address(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("url", "must begin with http:// or https://"));
    }
    // The parser has resolved what leads up; a caller who writes that means something else than a file below.
    let written = text.split_once("://").map_or(text, |(_, rest)| rest);
    let path = written.split(['?', '#']).next().unwrap_or_default();
    for segment in path.split('/').skip(1) {
        path::check("url", segment)?;
    }
    Ok(url)
}

/// The part that is wanted of an answer, as UTF-8 where it is text.
pub(super) async fn cut(
    fetched: Fetched,
    location: String,
    window: &Window,
    as_text: bool,
) -> Result<Read, ToolError> {
    let content_type = fetched.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let charset = content_type.as_deref().and_then(charset).filter(|_| as_text);
    let (more, length) = (fetched.truncated, fetched.body.len());
    let body = match (&charset, &content_type) {
        (Some(_), Some(content_type)) => decoded(fetched.body, content_type).await,
        _ => fetched.body,
    };
    let mut part = window.cut(&body[..], false).map_err(|error| wrong("start_line", error))?;
    if more && part.bytes.is_empty() {
        let message = format!("only the first {length} bytes of this file can be read");
        return Err(ToolError::new(ToolErrorCode::ResultTooLarge, message));
    }
    part.truncated |= more;
    let media_type = content_type.and_then(|text| Some(text.split(';').next()?.trim().to_ascii_lowercase()));
    let size = (!more).then_some(length as u64);
    Ok(Read { part, location, size, media_type: media_type.filter(|text| !text.is_empty()), charset })
}

/// The charset of a content type, unless it is that of UTF-8.
fn charset(content_type: &str) -> Option<String> {
    let lower = content_type.to_ascii_lowercase();
    let charset = lower.split(';').skip(1).find_map(|part| part.trim().strip_prefix("charset="))?;
    let charset = charset.trim_matches('"');
    (!matches!(charset, "utf-8" | "utf8" | "us-ascii" | "ascii" | "")).then(|| charset.to_owned())
}

/// The HTTP client decodes every charset of the Encoding standard.
async fn decoded(body: Vec<u8>, content_type: &str) -> Vec<u8> {
    let mut buffered = http::Response::new(body.clone());
    if let Ok(value) = HeaderValue::from_str(content_type) {
        buffered.headers_mut().insert(CONTENT_TYPE, value);
    }
    reqwest::Response::from(buffered).text().await.map_or(body, String::into_bytes)
}

fn no_listing() -> ToolError {
    let message = "this address gives no listing of a folder; read_file reads a file";
    ToolError::new(ToolErrorCode::ToolFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_http_and_leads_nowhere_else() {
        assert!(checked("https://example.com/a%20b/c.txt?x=../y#../z").is_ok());
        assert!(checked("https://example.com/group%2Fname/file").is_ok());
        for text in
            ["ftp://example.com/", "file:///etc/passwd", "https://u:p@example.com/", "http://e.com/a/../b"]
        {
            assert!(checked(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_charset_other_than_utf_8_is_told() {
        assert_eq!(charset("text/plain; charset=ISO-8859-1").as_deref(), Some("iso-8859-1"));
        assert_eq!(charset("text/plain; charset=\"UTF-8\""), None);
        assert_eq!(charset("text/plain"), None);
    }
}
