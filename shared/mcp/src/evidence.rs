//! What was seen of one connection, shared by its parts and read when an error has to be explained. Holds a
//! bounded amount; must never give out one of the secrets the server was given.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, shortened};
use crate::events::Listeners;
use crate::transport::Transport;

/// The largest message accepted from a server, in bytes (16 MiB), after decompression.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

const STDERR_BYTES: usize = 2 * 1024;

/// Observations about one server.
#[derive(Default)]
pub(crate) struct Evidence {
    heard: AtomicBool,
    oversized: AtomicU64,
    texts: Mutex<Texts>,
    secrets: Vec<String>,
    /// The calls that want news of this connection.
    pub(crate) listeners: Listeners,
}

#[derive(Default)]
struct Texts {
    stderr: Vec<u8>,
    stderr_cut: bool,
    noise: Option<String>,
    exit: Option<String>,
}

impl Evidence {
    pub(crate) fn new(transport: &Transport) -> Self {
        Self { secrets: transport.secrets(), ..Self::default() }
    }

    /// A message of MCP arrived.
    pub(crate) fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// A message was larger than [`MAX_MESSAGE_BYTES`] and given up.
    pub(crate) fn oversized(&self) {
        self.oversized.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages were too large so far.
    pub(crate) fn oversized_count(&self) -> u64 {
        self.oversized.load(Ordering::Relaxed)
    }

    /// Text on standard output that is no JSON. The first one is kept.
    pub(crate) fn noise(&self, text: &[u8]) {
        let mut texts = self.texts();
        if texts.noise.is_none() {
            texts.noise = Some(String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned());
        }
    }

    pub(crate) fn exited(&self, status: std::process::ExitStatus) {
        self.texts().exit = Some(status.to_string());
    }

    /// More of standard error; only the last 2 KiB are kept.
    pub(crate) fn stderr(&self, bytes: &[u8]) {
        let mut texts = self.texts();
        texts.stderr.extend_from_slice(bytes);
        let surplus = texts.stderr.len().saturating_sub(STDERR_BYTES);
        if surplus > 0 {
            texts.stderr.drain(..surplus);
            texts.stderr_cut = true;
        }
    }

    /// The first text that was not MCP, for an error.
    pub(crate) fn first_noise(&self) -> Option<String> {
        self.texts().noise.clone().map(|text| self.redacted(&text))
    }

    /// Why the connection ended: exit status and the end of standard error.
    pub(crate) fn ending(&self) -> String {
        let (exit, stderr) = {
            let texts = self.texts();
            (texts.exit.clone(), texts.readable_stderr())
        };
        let exit = exit.map_or_else(|| "its stream ended".to_owned(), |s| format!("it ended with {s}"));
        if stderr.is_empty() {
            return exit;
        }
        format!("{exit}; the end of its standard error: {}", self.redacted(&stderr))
    }

    pub(crate) fn too_large() -> Error {
        Error::TooLarge { what: "a message of the server", limit: format!("{MAX_MESSAGE_BYTES} bytes") }
    }

    fn redacted(&self, text: &str) -> String {
        let hidden = self.secrets.iter().fold(text.to_owned(), |t, secret| t.replace(secret, "***"));
        let lines: Vec<&str> = hidden.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        shortened(&last_chars(&lines.join(" | "), 900))
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Texts {
    /// Without the first line where it was cut: half a secret could not be recognised.
    fn readable_stderr(&self) -> String {
        let start = if self.stderr_cut {
            self.stderr.iter().position(|b| *b == b'\n').map_or(self.stderr.len(), |at| at + 1)
        } else {
            0
        };
        String::from_utf8_lossy(&self.stderr[start..]).into_owned()
    }
}

/// The end of a text: the last line of a traceback says most.
fn last_chars(text: &str, count: usize) -> String {
    let skip = text.chars().count().saturating_sub(count);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(secret: &str) -> Evidence {
        Evidence { secrets: vec![secret.to_owned()], ..Evidence::default() }
    }

    #[test]
    fn keeps_the_end_of_standard_error_and_hides_secrets() {
        let seen = evidence("hunter2");
        seen.stderr(&b"noise\n".repeat(10_000));
        seen.stderr(b"Traceback\nkey hunter2 refused\n");
        let text = seen.ending();
        assert!(text.ends_with("Traceback | key *** refused"), "{text}");
        assert!(seen.texts().stderr.len() <= STDERR_BYTES);
    }

    #[test]
    fn a_secret_cut_in_half_is_not_shown() {
        let seen = evidence(&"s".repeat(3_000));
        seen.stderr("s".repeat(3_000).as_bytes());
        seen.stderr(b"\nlast words\n");
        assert!(!seen.ending().contains("ss"), "{}", seen.ending());
        assert!(seen.ending().ends_with("last words"));
    }
}
