//! Second places of checkpoints: where a signed checkpoint goes so that nobody who holds the database alone can take it
//! back. Each keeps `TEAM/SIZE.checkpoint` of every checkpoint that arrived, and `TEAM/latest`. Must never show a secret,
//! and never write over a checkpoint of the same size that says something else.

mod directory;
mod http;
mod object_store;

use std::{fmt::Write, time::Duration};

use reach::Authorities;

use crate::config::CheckpointConfig;

/// Why a place did not do what was asked, for people.
pub(crate) type Failure = String;

/// A checkpoint on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy<'a> {
    pub team: &'a str,
    pub size: i64,
    /// The signed note.
    pub note: &'a str,
}

/// One place.
#[derive(Debug)]
pub(crate) enum Place {
    Directory(directory::Directory),
    Http(http::Http),
    ObjectStore(object_store::Bucket),
}

impl Place {
    /// The place of a setting; the error says what is wrong with it.
    pub(crate) fn open(
        text: &str,
        settings: &CheckpointConfig,
        authorities: &Authorities,
    ) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("dir:") {
            return directory::Directory::new(path).map(Self::Directory);
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return http::Http::new(text, settings, authorities).map(Self::Http);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return object_store::Bucket::new(rest, settings, authorities).map(Self::ObjectStore);
        }
        Err("is no place: it must be dir:/path, https://host/path or s3://bucket/prefix".to_owned())
    }

    /// Puts a checkpoint there, so that it is the latest. Again is as once.
    pub(crate) async fn put(&self, copy: Copy<'_>, timeout: Duration) -> Result<(), Failure> {
        let put = async {
            match self {
                Self::Directory(place) => place.put(copy).await,
                Self::Http(place) => place.put(copy).await,
                Self::ObjectStore(place) => place.put(copy).await,
            }
        };
        in_time(put, timeout).await
    }

    /// The latest checkpoint of a team that is there, if there is any.
    pub(crate) async fn latest(&self, team: &str, timeout: Duration) -> Result<Option<String>, Failure> {
        let latest = async {
            match self {
                Self::Directory(place) => place.latest(team).await,
                Self::Http(place) => place.latest(team).await,
                Self::ObjectStore(place) => place.latest(team).await,
            }
        };
        in_time(latest, timeout).await
    }

    /// Whether a checkpoint could be put there now, as far as that can be known without one.
    pub(crate) async fn probe(&self, timeout: Duration) -> Result<(), Failure> {
        let probe = async {
            match self {
                Self::Directory(place) => place.probe().await,
                Self::Http(place) => place.probe().await,
                Self::ObjectStore(place) => place.probe().await,
            }
        };
        in_time(probe, timeout).await
    }
}

async fn in_time<T>(
    asked: impl Future<Output = Result<T, Failure>>,
    timeout: Duration,
) -> Result<T, Failure> {
    let late = || Err(format!("did not answer within {} ms", timeout.as_millis()));
    tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| late())
}

/// The name of a checkpoint's file: sizes sort as they grow.
fn file_name(size: i64) -> String {
    format!("{size:020}.checkpoint")
}

/// A team as one part of a path: what is no ASCII letter, digit, `-` or `_` becomes `%` and two hex digits.
fn escaped(team: &str) -> String {
    let mut part = String::with_capacity(team.len());
    for byte in team.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            part.push(char::from(byte));
        } else {
            // A String takes whatever is written to it.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_one_part_of_a_path_whatever_its_name() {
        assert_eq!(escaped("crew-1_a"), "crew-1_a");
        assert_eq!(escaped("../é/."), "%2E%2E%2F%C3%A9%2F%2E");
        assert_ne!(escaped("a%2Eb"), escaped("a.b"));
        let mut names: Vec<String> = [9, 10, 1_000_000, i64::MAX].map(file_name).to_vec();
        names.sort();
        assert_eq!(names, [9, 10, 1_000_000, i64::MAX].map(file_name));
    }
}
