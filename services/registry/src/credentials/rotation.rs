//! How a credential is rotated, and where its versions stand.

use super::check::violation;
use ::rpc::FieldViolation;

/// Shortest and longest time from one rotation to the next, in seconds.
const INTERVAL_S: std::ops::RangeInclusive<i64> = 60..=31_536_000;
/// Where there is a source and no interval is given.
const DEFAULT_INTERVAL_S: i64 = 86_400;
/// Longest overlap in seconds, and that where none is given.
const MAX_OVERLAP_S: i64 = 604_800;
const DEFAULT_OVERLAP_S: i64 = 3_600;
/// Longest path or address of a source, in bytes.
const MAX_SOURCE: usize = 2_048;

/// Where a version stands: pending, active, retiring, revoked, in this order and never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Kept, and not used yet.
    Pending,
    /// Used.
    Active,
    /// Replaced, and still valid until its overlap is over.
    Retiring,
    /// Ended; its secret is destroyed.
    Revoked,
}

impl From<String> for State {
    /// A word that a newer program wrote is not used by this one.
    fn from(word: String) -> Self {
        match word.as_str() {
            "pending" => Self::Pending,
            "active" => Self::Active,
            "retiring" => Self::Retiring,
            _ => Self::Revoked,
        }
    }
}

/// Where the next secret comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// An operator gives it.
    #[default]
    Operator,
    /// A file below the team's folder of `source_root`.
    File(String),
    /// An address that answers a POST with it.
    Url(String),
}

/// When and how a credential is rotated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// As it was asked for; 0: the default.
    pub interval_s: i64,
    /// As it was asked for; `None`: the default.
    pub overlap_s: Option<i64>,
    pub source: Source,
}

impl Rotation {
    /// Seconds from one rotation to the next; `None`: never by itself.
    pub(crate) fn interval_s(&self) -> Option<i64> {
        match (self.interval_s, &self.source) {
            (0, Source::Operator) => None,
            (0, Source::File(_) | Source::Url(_)) => Some(DEFAULT_INTERVAL_S),
            (seconds, _) => Some(seconds),
        }
    }

    /// Seconds that the version before stays valid.
    pub(crate) fn overlap_s(&self) -> i64 {
        self.overlap_s.unwrap_or(DEFAULT_OVERLAP_S)
    }

    /// Everything that is wrong with it. Whether a source may be reached is looked at when it is.
    pub(super) fn check(&self) -> Vec<FieldViolation> {
        let mut wrong = Vec::new();
        if self.interval_s != 0 && !INTERVAL_S.contains(&self.interval_s) {
            wrong.push(violation("rotation.interval_s", "must be 60 to 31536000, or 0 for the default"));
        }
        if !(0..=MAX_OVERLAP_S).contains(&self.overlap_s()) {
            wrong.push(violation("rotation.overlap_s", "must be 0 to 604800"));
        }
        match &self.source {
            Source::File(file) if file.is_empty() || file.len() > MAX_SOURCE => {
                wrong.push(violation("rotation.file", "must be a path of 1 to 2048 bytes"));
            }
            Source::Url(url) if url.is_empty() || url.len() > MAX_SOURCE => {
                wrong.push(violation("rotation.url", "must be an address of 1 to 2048 bytes"));
            }
            // An address stands in the database and in lists as it is.
            Source::Url(url) if url::Url::parse(url).is_ok_and(|url| has_room_for_a_secret(&url)) => {
                let told = "may have no user, password, query or fragment: an address is no place for a secret; \
                            let the network or mutual TLS in front of the source decide who may ask it";
                wrong.push(violation("rotation.url", told));
            }
            Source::Operator | Source::File(_) | Source::Url(_) => {}
        }
        wrong
    }
}

fn has_room_for_a_secret(url: &url::Url) -> bool {
    let has_user = !url.username().is_empty() || url.password().is_some();
    has_user || url.query().is_some() || url.fragment().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_asked_once_a_day_and_an_operator_when_it_is_said() {
        let rotation = |interval_s, source| Rotation { interval_s, source, ..Rotation::default() };
        assert_eq!(rotation(0, Source::Operator).interval_s(), None);
        assert_eq!(rotation(0, Source::File("f".into())).interval_s(), Some(86_400));
        assert_eq!(rotation(60, Source::Operator).interval_s(), Some(60));
        assert_eq!(Rotation::default().overlap_s(), 3_600);
        assert_eq!(Rotation { overlap_s: Some(0), ..Rotation::default() }.overlap_s(), 0);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let fields = |interval_s, overlap_s, source| {
            let rotation = Rotation { interval_s, overlap_s: Some(overlap_s), source };
            rotation.check().into_iter().map(|wrong| wrong.field).collect::<Vec<_>>()
        };
        assert!(fields(0, 0, Source::Operator).is_empty());
        assert!(fields(60, 604_800, Source::File("a".into())).is_empty());
        assert_eq!(fields(59, 0, Source::Operator), ["rotation.interval_s"]);
        assert_eq!(
            fields(31_536_001, 604_801, Source::Operator),
            ["rotation.interval_s", "rotation.overlap_s"]
        );
        assert_eq!(fields(0, -1, Source::Url(String::new())), ["rotation.overlap_s", "rotation.url"]);
        assert_eq!(fields(0, 0, Source::File("x".repeat(2_049))), ["rotation.file"]);
        for place in ["?key=hunter2", "?", "#hunter2"] {
            let url = Source::Url(format!("https://vault.example.com/next{place}"));
            assert_eq!(fields(0, 0, url), ["rotation.url"], "{place}");
        }
        for user in ["hunter2@", "user:hunter2@", ":hunter2@"] {
            let url = Source::Url(format!("https://{user}vault.example.com/next"));
            assert_eq!(fields(0, 0, url), ["rotation.url"], "{user}");
        }
        assert!(fields(0, 0, Source::Url("https://vault.example.com/next".into())).is_empty());
    }
}
