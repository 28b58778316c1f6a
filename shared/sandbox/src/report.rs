//! Decides how a program ended, from what the forkserver saw and what the program's side reported.
//!
//! The forkserver is ours; the report comes out of the program's own process and may be anything. Must never let a
//! report decide more than that program's own ending: it is read only where the process ended by itself.

use crate::output::Kept;
use crate::{Exit, Limits};
use serde::Deserialize;
use serde_json::Value;

/// How the process ended, from the forkserver.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ended {
    pub signal: Option<i32>,
    pub code: Option<i32>,
    /// User and system time, seconds.
    pub cpu_s: f64,
    pub max_rss_bytes: u64,
}

/// What the process reported on itself.
#[derive(Debug, Deserialize)]
struct Report {
    outcome: Outcome,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    message: String,
    result: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Raised,
    Denied,
    OutOfMemory,
    DiskFull,
    Exit,
}

/// Exit and result of a program that we did not kill.
pub(crate) fn judge(ended: &Ended, channel: &Kept, limits: &Limits) -> (Exit, Option<Value>) {
    match (ended.signal, ended.code) {
        (Some(signal), _) => (by_signal(signal, ended, limits), None),
        (None, code) => by_code(code.unwrap_or_default(), channel),
    }
}

fn by_signal(signal: i32, ended: &Ended, limits: &Limits) -> Exit {
    let out_of_time = ended.cpu_s >= limits.wall.as_secs_f64();
    let near_memory_limit = ended.max_rss_bytes >= limits.memory_bytes / 4 * 3;
    match signal {
        libc::SIGXCPU => Exit::TimedOut,
        libc::SIGKILL if out_of_time => Exit::TimedOut,
        // Native code that gets no memory aborts or runs into a null pointer; the kernel's killer kills.
        libc::SIGABRT | libc::SIGSEGV | libc::SIGBUS | libc::SIGKILL if near_memory_limit => {
            Exit::OutOfMemory
        }
        _ => Exit::Killed { signal },
    }
}

fn by_code(code: i32, channel: &Kept) -> (Exit, Option<Value>) {
    let report = read(channel);
    match (code, report) {
        (0, Ok(None)) => (Exit::Ok, None),
        (0, Ok(Some(report))) => (Exit::Ok, report.result),
        (0, Err(message)) => (Exit::Raised { kind: "ValueError".into(), message }, None),
        (code, Ok(Some(report))) => (failed(code, report), None),
        (code, _) => (Exit::ExitCode(code), None),
    }
}

fn failed(code: i32, report: Report) -> Exit {
    match report.outcome {
        Outcome::Raised => Exit::Raised { kind: report.kind, message: report.message },
        Outcome::Denied => Exit::Denied { what: report.message },
        Outcome::OutOfMemory => Exit::OutOfMemory,
        Outcome::DiskFull => Exit::DiskFull { what: report.message },
        Outcome::Ok | Outcome::Exit => Exit::ExitCode(code),
    }
}

/// The report, nothing where the program ended without one (`os._exit`), or why it cannot be used.
fn read(channel: &Kept) -> Result<Option<Report>, String> {
    if channel.truncated {
        return Err("the result is larger than its limit".into());
    }
    if channel.bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&channel.bytes)
        .map(Some)
        .map_err(|fault| format!("the result cannot be read: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(signal: Option<i32>, code: Option<i32>) -> Ended {
        Ended { signal, code, cpu_s: 0.1, max_rss_bytes: 100 << 20 }
    }

    fn judged(code: i32, report: &str) -> (Exit, Option<Value>) {
        let channel = Kept { bytes: report.as_bytes().to_vec(), truncated: false };
        judge(&ended(None, Some(code)), &channel, &Limits::default())
    }

    fn signalled(ended: &Ended) -> Exit {
        let channel = Kept { bytes: br#"{"outcome":"ok","result":1}"#.to_vec(), truncated: false };
        judge(ended, &channel, &Limits::default()).0
    }

    #[test]
    fn a_good_end_carries_the_result() {
        let (exit, result) = judged(0, r#"{"outcome":"ok","result":9007199254740993}"#);
        assert_eq!(exit, Exit::Ok);
        assert_eq!(result.unwrap().to_string(), "9007199254740993");
        assert_eq!(judged(0, "").0, Exit::Ok);
        assert_eq!(judged(3, "").0, Exit::ExitCode(3));
    }

    #[test]
    fn a_report_cannot_make_a_kill_look_good() {
        assert_eq!(signalled(&ended(Some(9), None)), Exit::Killed { signal: 9 });
        assert_eq!(signalled(&ended(Some(24), None)), Exit::TimedOut);
        assert_eq!(signalled(&Ended { cpu_s: 31.0, ..ended(Some(9), None) }), Exit::TimedOut);
        let big = Ended { max_rss_bytes: 900 << 20, ..ended(Some(6), None) };
        assert_eq!(signalled(&big), Exit::OutOfMemory);
    }

    #[test]
    fn an_unusable_report_is_a_failure_of_the_program() {
        let nested = format!("{{\"outcome\":\"ok\",\"result\":{}{}}}", "[".repeat(500), "]".repeat(500));
        for report in ["garbage", r#"{"outcome":"ok"}{"outcome":"ok"}"#, &nested] {
            assert!(matches!(judged(0, report).0, Exit::Raised { .. }), "{report}");
        }
    }
}
