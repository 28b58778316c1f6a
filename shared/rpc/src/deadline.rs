//! The caller's deadline: read from `grpc-timeout`, kept by us, because tonic keeps it only inside its
//! own transport (a linked call would ignore it) and answers CANCELLED where gRPC wants DEADLINE_EXCEEDED.

use std::time::Duration;

use http::HeaderMap;

/// The longest any call may take: the longest tool timeout and half a minute for everything around it.
pub(crate) const LONGEST: Duration = Duration::from_secs(330);

/// How long before the caller's deadline the answer leaves, at most.
const MARGIN: Duration = Duration::from_millis(20);

/// What a handler gets of what the caller allows: a little less. An answer that leaves at the deadline comes
/// too late, and on a socket tonic's own clock, which answers CANCELLED, would strike first.
pub(crate) fn kept(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(MARGIN))
}

/// What the caller allows, at most `LONGEST`.
pub(crate) fn timeout_of(headers: &HeaderMap) -> Duration {
    let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    asked.map_or(LONGEST, |timeout| timeout.min(LONGEST))
}

/// Reads a `grpc-timeout` (gRPC over HTTP/2, "Timeout → TimeoutValue TimeoutUnit", at most 8 digits).
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_nothing_else() {
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(parse("1H"), Some(Duration::from_hours(1)));
        for wrong in ["", "S", "123456789S", "2s", "-1S", "2", "é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_caller_waits_longer_than_the_longest_call() {
        let mut headers = HeaderMap::new();
        assert_eq!(timeout_of(&headers), LONGEST);
        headers.insert("grpc-timeout", "99H".parse().unwrap());
        assert_eq!(timeout_of(&headers), LONGEST);
        headers.insert("grpc-timeout", "10m".parse().unwrap());
        assert_eq!(timeout_of(&headers), Duration::from_millis(10));
    }
}
