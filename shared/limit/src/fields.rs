//! The header fields `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4),
//! which are Lists of Structured Fields (RFC 9651). gRPC carries them as metadata of the same names in lower case.

use std::{fmt::Write, time::Duration};

use crate::Standing;

/// The values of `RateLimit` and of `RateLimit-Policy`: `"name";r=49;t=30` and `"name";q=60;w=60`, joined by commas.
/// Times are in whole seconds, rounded up. Both are empty where there is no standing: then send neither.
pub fn fields(standings: &[Standing]) -> (String, String) {
    let (mut limits, mut policies) = (String::new(), String::new());
    for standing in standings {
        let separator = if limits.is_empty() { "" } else { ", " };
        let name = string(&standing.name);
        let (reset, window) = (seconds(standing.reset), seconds(standing.period).max(1));
        // Writing to a String does not fail.
        let _ = write!(limits, "{separator}{name};r={};t={reset}", standing.remaining);
        let _ = write!(policies, "{separator}{name};q={};w={window}", standing.limit);
    }
    (limits, policies)
}

/// An sf-string: printable ASCII in quotes (RFC 9651, section 3.3.3). Other characters become percent-encoded UTF-8.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out.push('"');
    out
}

/// Whole seconds, rounded up, within what an sf-integer may be (15 digits).
fn seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).min(999_999_999_999_999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(name: &str) -> Standing {
        Standing {
            name: name.into(),
            limit: 60,
            remaining: 49,
            reset: Duration::from_millis(29_001),
            period: Duration::from_mins(1),
        }
    }

    #[test]
    fn fields_are_lists_in_the_order_of_the_buckets() {
        let (limit, policy) = fields(&[standing("key"), standing("tool:a")]);
        assert_eq!(limit, r#""key";r=49;t=30, "tool:a";r=49;t=30"#);
        assert_eq!(policy, r#""key";q=60;w=60, "tool:a";q=60;w=60"#);
        assert_eq!(fields(&[]), (String::new(), String::new()));
    }

    #[test]
    fn any_name_is_a_valid_string() {
        let (limit, _) = fields(&[standing("a\"b\\c\nü, \"x\";r=9")]);
        assert_eq!(limit, r#""a\"b\\c%0A%C3%BC, \"x\";r=9";r=49;t=30"#);
        let mut short = standing("s");
        short.period = Duration::from_millis(1);
        assert_eq!(fields(&[short]).1, r#""s";q=60;w=1"#);
    }
}
