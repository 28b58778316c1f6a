//! The listings that web servers make of their folders: a page of links, or JSON as nginx and Caddy write it. Pure. Must
//! never give an entry that lies anywhere but directly in its folder.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::Url;

use super::{Entry, Kind};
use crate::{builtin::path, drivers::Fetched};

/// Links of a page.
#[allow(clippy::expect_used, reason = "the expression is a constant")]
static HREF: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)<a\s[^>]*?\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))"#)
        .expect("a valid expression")
});

/// What a folder holds, in order of path; `None` where this is no listing.
pub(super) fn entries(fetched: &Fetched) -> Option<Vec<Entry>> {
    let kind = fetched.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&fetched.body);
    let mut base = fetched.url.clone();
    base.set_query(None);
    base.set_fragment(None);
    if !base.path().ends_with('/') {
        let folder = format!("{}/", base.path());
        base.set_path(&folder);
    }
    let found = match kind.split(';').next().unwrap_or_default().trim() {
        "text/html" | "application/xhtml+xml" => from_page(&fetched.url, &base, &text),
        "application/json" => from_json(&base, &text)?,
        _ => return None,
    };
    Some(found.into_values().collect())
}

fn from_page(url: &Url, base: &Url, page: &str) -> BTreeMap<String, Entry> {
    let links = HREF.captures_iter(page).filter_map(|found| (1..=3).find_map(|group| found.get(group)));
    links
        .filter_map(|link| {
            let target = url.join(&link.as_str().replace("&amp;", "&")).ok()?;
            // Of the folder itself, in another order.
            if target.query().is_some() {
                return None;
            }
            entry(base, &target)
        })
        .map(|entry| (entry.path.clone(), entry))
        .collect()
}

/// An array of objects with a name, as nginx's `autoindex_format json` and Caddy's `file_server browse` give it.
fn from_json(base: &Url, text: &str) -> Option<BTreeMap<String, Entry>> {
    let listed: Vec<Value> = serde_json::from_str(text).ok()?;
    let mut found = BTreeMap::new();
    for one in &listed {
        let name = one.get("name")?.as_str()?;
        let is_folder = one.get("type").and_then(Value::as_str) == Some("directory")
            || one.get("is_dir").and_then(Value::as_bool) == Some(true);
        let mut target = base.clone();
        target.path_segments_mut().ok()?.pop_if_empty().push(name.trim_end_matches('/'));
        if is_folder {
            target.path_segments_mut().ok()?.push("");
        }
        let Some(mut entry) = entry(base, &target) else { continue };
        entry.size = one.get("size").and_then(Value::as_u64).filter(|_| !is_folder);
        let modified = one.get("mtime").or_else(|| one.get("mod_time")).and_then(Value::as_str);
        entry.modified = modified.map(|text| text.chars().take(40).collect());
        found.insert(entry.path.clone(), entry);
    }
    Some(found)
}

/// What lies directly in the folder, by its address.
fn entry(base: &Url, target: &Url) -> Option<Entry> {
    if target.origin() != base.origin() || !target.username().is_empty() {
        return None;
    }
    let below = target.path().strip_prefix(base.path())?;
    let (name, is_folder) = match below.strip_suffix('/') {
        Some(name) => (name, true),
        None => (below, false),
    };
    let [plain] = &path::segments("url", &percent_decoded(name)?).ok()?[..] else { return None };
    let mut url = target.clone();
    url.set_fragment(None);
    Some(Entry {
        path: plain.clone(),
        kind: if is_folder { Kind::Folder } else { Kind::File },
        size: None,
        modified: None,
        url: Some(url.into()),
    })
}

fn percent_decoded(name: &str) -> Option<String> {
    // A plus is itself in a path, and not a space.
    let form = format!("x={}", name.replace('+', "%2B").replace('&', "%26"));
    let (_, value) = url::form_urlencoded::parse(form.as_bytes()).next()?;
    (!value.contains(char::REPLACEMENT_CHARACTER)).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use reqwest::{
        StatusCode,
        header::{HeaderMap, HeaderValue},
    };

    use super::*;
    use crate::outcome::Reached;

    fn listed(kind: &'static str, body: &str) -> Option<Vec<(String, Kind)>> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        let fetched = Fetched {
            status: StatusCode::OK,
            headers,
            body: body.as_bytes().to_vec(),
            truncated: false,
            url: "http://example.com/pub/".parse().unwrap(),
            reached: Reached::Yes,
            certificate: None,
        };
        Some(entries(&fetched)?.into_iter().map(|entry| (entry.path, entry.kind)).collect())
    }

    #[test]
    fn a_page_gives_what_lies_in_its_folder_and_nothing_else() {
        let page = r#"<a href="../">up</a> <a href="?C=N">by name</a> <A class="x" HREF='b%20c.txt'>b</A>
            <a href=sub/>sub</a> <a href="/pub/d.txt#top">d</a> <a href="/other/e">e</a> <a href="//evil/pub/f">f</a>
            <a href="http://example.com:81/pub/g">g</a> <a href="sub/deep">h</a> <a href="%2e%2e/i">i</a>
            <a href="%252e%252e">j</a> <a href="a%2fb">k</a> <a href="javascript:alert(1)">l</a> <a href="1+1.txt">m</a>"#;
        let file = |name: &str| (name.to_owned(), Kind::File);
        let expected =
            vec![file("1+1.txt"), file("b c.txt"), file("d.txt"), ("sub".to_owned(), Kind::Folder)];
        assert_eq!(listed("text/html; charset=utf-8", page), Some(expected));
    }

    #[test]
    fn json_of_known_servers_is_read_and_names_that_leave_the_folder_are_not() {
        let json = r#"[{"name":"a","type":"directory"},{"name":"b.txt","type":"file","size":3},
            {"name":"../up","type":"file"},{"name":"c/","is_dir":true},{"name":"..","is_dir":true}]"#;
        let expected = [("a", Kind::Folder), ("b.txt", Kind::File), ("c", Kind::Folder)];
        let expected = expected.map(|(name, kind)| (name.to_owned(), kind)).to_vec();
        assert_eq!(listed("application/json", json), Some(expected));
        assert_eq!(listed("application/json", r#"{"error":"no"}"#), None);
        assert_eq!(listed("text/plain", "a"), None);
    }
}
