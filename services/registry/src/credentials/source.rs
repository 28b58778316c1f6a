//! Where the next secret comes from by itself: a file below the team's folder, or an address. A file is opened
//! without ever leaving the folder. Must never tell what it read.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};
use secrecy::zeroize::Zeroizing;
use serde::Serialize;

use super::{Credentials, outside::Outside, rotation::Source, secret::Secret};

/// Longest file, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Whose next version is asked for.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Wanted<'a> {
    pub team: &'a str,
    #[serde(rename = "credential")]
    pub name: &'a str,
    pub version: i32,
}

/// Why a source gave nothing; says nothing of what it gave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ungiven {
    /// An operator is to give it.
    #[error("its rotation has no source; give the secret")]
    Operator,
    /// The source is at fault.
    #[error("{0}")]
    Source(String),
}

impl Credentials {
    /// What a source gives.
    pub(super) async fn ask(&self, source: &Source, wanted: Wanted<'_>) -> Result<Secret, Ungiven> {
        match source {
            Source::Operator => Err(Ungiven::Operator),
            Source::File(file) => {
                let (root, team, path) = (self.0.source_root.clone(), wanted.team.to_owned(), file.clone());
                let read = tokio::task::spawn_blocking(move || read(&root, &team, &path));
                let text = read.await.map_err(|_| fault("the file cannot be read"))?;
                parse(&text.map_err(|error| fault(format!("file {file} {error}")))?, true)
            }
            Source::Url(url) => post(&self.0.outside, url, wanted).await,
        }
    }
}

fn fault(what: impl Into<String>) -> Ungiven {
    Ungiven::Source(what.into())
}

async fn post(outside: &Outside, url: &str, wanted: Wanted<'_>) -> Result<Secret, Ungiven> {
    let body = serde_json::to_string(&wanted).map_err(|_| fault("it cannot be asked for"))?;
    let answer = outside.post(url, "application/json", None, body).await;
    let answer = answer.map_err(|error| fault(format!("its source {error}")))?;
    if !answer.status.is_success() {
        return Err(fault(format!("its source answered with HTTP status {}", answer.status.as_u16())));
    }
    parse(&answer.body, false)
}

/// The file's bytes. The team's folder is the root of what it can name, by any path and through any link.
fn read(root: &Path, team: &str, path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    if root.as_os_str().is_empty() {
        return Err("cannot be read: registry.credentials.source_root is not set".into());
    }
    let told = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "is not there".to_owned(),
        kind => format!("cannot be read: {kind}"),
    };
    let folder = Dir::open_ambient_dir(root, ambient_authority())
        .and_then(|root| root.open_dir(one_name(team)?))
        .map_err(|_| {
            "cannot be read: registry.credentials.source_root has no folder of the team".to_owned()
        })?;
    // Before it is opened: opening a pipe would wait for whoever writes it.
    if !folder.metadata(path).map_err(told)?.is_file() {
        return Err("is not a file".into());
    }
    let file = folder.open(path).map_err(told)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let size = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(told)?;
    if size as u64 > MAX_FILE { Err(format!("is larger than {MAX_FILE} bytes")) } else { Ok(bytes) }
}

/// A team as the name of one folder.
fn one_name(team: &str) -> io::Result<PathBuf> {
    let path = Path::new(team);
    if path.file_name().is_some_and(|name| name == team) {
        return Ok(path.to_owned());
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// The secret in its JSON form; from a file, a text that is no JSON object is a key.
fn parse(bytes: &[u8], may_be_key: bool) -> Result<Secret, Ungiven> {
    let text = std::str::from_utf8(bytes).map_err(|_| fault("its source gives no text"))?.trim();
    if may_be_key && !text.starts_with('{') {
        return if text.is_empty() {
            Err(fault("its source is empty"))
        } else {
            Ok(Secret::ApiKey(text.into()))
        };
    }
    // The parser's own words may hold the value.
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        fault(format!("its source gives no CredentialSecret as JSON (line {line}, column {column})"))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn no_path_and_no_link_leads_out_of_the_teams_folder() {
        let root = tempfile::tempdir().unwrap();
        for team in ["one", "two"] {
            fs::create_dir(root.path().join(team)).unwrap();
            fs::write(root.path().join(team).join("key"), format!("of {team}\n")).unwrap();
        }
        fs::write(root.path().join("top"), "top").unwrap();
        let own = root.path().join("one");
        symlink("../two/key", own.join("relative")).unwrap();
        symlink(root.path().join("two/key"), own.join("absolute")).unwrap();
        symlink("../two", own.join("folder")).unwrap();
        symlink("key", own.join("inside")).unwrap();
        let read = |team: &str, path: &str| read(root.path(), team, path).map(|bytes| bytes.to_vec());
        assert_eq!(read("one", "key").unwrap(), b"of one\n");
        assert_eq!(read("one", "inside").unwrap(), b"of one\n");
        let absolute = root.path().join("two/key");
        for path in
            ["../two/key", "relative", "absolute", "folder/key", "..", ".", "", absolute.to_str().unwrap()]
        {
            assert!(read("one", path).is_err(), "{path}");
        }
        for team in ["", ".", "..", "one/../two", "/", "three", "one/"] {
            assert!(read(team, "key").is_err(), "{team}");
        }
        assert!(super::read(Path::new(""), "one", "key").unwrap_err().contains("source_root"));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("one");
        fs::create_dir(&own).unwrap();
        fs::create_dir(own.join("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(own.join("pipe")).status().unwrap();
        assert!(made.success());
        fs::write(own.join("large"), vec![b'x'; 256 * 1024 + 1]).unwrap();
        let told = |path: &str| read(root.path(), "one", path).unwrap_err();
        assert!(told("folder").contains("not a file") && told("pipe").contains("not a file"));
        assert!(told("large").contains("larger") && told("missing").contains("not there"));
    }

    #[test]
    fn a_file_holds_a_key_or_json_and_an_address_json_only() {
        assert!(parse(b" hunter2\n", true).unwrap() == Secret::ApiKey("hunter2".into()));
        assert!(parse(br#"{"apiKey":"k"}"#, true).unwrap() == Secret::ApiKey("k".into()));
        for (bytes, may_be_key) in [
            (&b"hunter2"[..], false),
            (b"", true),
            (br#"{"hunter2":"hunter2"}"#, true),
            (br#"{"basic":{"user":["hunter2"]}}"#, false),
            (b"{\"apiKey\":\"hunter2", false),
            (&[0xff, 0xfe], true),
        ] {
            let told = parse(bytes, may_be_key).err().unwrap().to_string();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
