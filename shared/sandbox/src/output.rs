//! What a program writes: the start of it kept, and its lines passed on while it runs.
//!
//! Must never hold or pass on more than the limits say, and must never stop reading: a full pipe would hold the
//! program up.

use crate::Stream;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines of one program that are passed on, both streams together.
const LINES: usize = 1_000;
/// Bytes of them, together.
const BYTES: usize = 64 << 10;
/// The longest line, in bytes; what is longer goes in pieces.
const LINE_BYTES: usize = 4 << 10;

/// What came out of one stream.
pub(crate) struct Kept {
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

/// Reads to the end, keeps the first `limit` bytes and passes lines on.
pub(crate) async fn keep(
    mut from: impl AsyncRead + Unpin,
    limit: usize,
    mut lines: Option<Lines<'_>>,
) -> Kept {
    let mut kept = Kept { bytes: Vec::new(), truncated: false };
    let mut chunk = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let room = limit - kept.bytes.len();
        kept.bytes.extend_from_slice(&chunk[..count.min(room)]);
        kept.truncated |= count > room;
        if let Some(lines) = &mut lines {
            lines.take(&chunk[..count]);
        }
    }
    if let Some(lines) = &mut lines {
        lines.end();
    }
    kept
}

type Told = dyn Fn(Stream, &str) + Send + Sync;

/// Whoever wants the lines of one program, and how many more it gets.
pub(crate) struct Listener {
    told: Box<Told>,
    lines: AtomicUsize,
    bytes: AtomicUsize,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("lines", &self.lines)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Listener {
    pub fn new(told: impl Fn(Stream, &str) + Send + Sync + 'static) -> Self {
        Self { told: Box::new(told), lines: AtomicUsize::new(LINES), bytes: AtomicUsize::new(BYTES) }
    }

    /// The lines of one of the two streams.
    pub fn lines(&self, stream: Stream) -> Lines<'_> {
        Lines { listener: self, stream, begun: Vec::new() }
    }

    /// False once there was enough.
    fn tell(&self, stream: Stream, line: &[u8]) -> bool {
        let take = |left: &AtomicUsize, count: usize| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count)).is_ok()
        };
        let wanted = take(&self.lines, 1) && take(&self.bytes, line.len());
        if wanted {
            (self.told)(stream, &String::from_utf8_lossy(line));
        } else {
            self.lines.store(0, Ordering::Relaxed); // no later, shorter one either
        }
        wanted
    }
}

/// Cuts one stream into lines.
pub(crate) struct Lines<'a> {
    listener: &'a Listener,
    stream: Stream,
    /// The line that has no end yet.
    begun: Vec<u8>,
}

impl Lines<'_> {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = LINE_BYTES - self.begun.len();
            let near = &bytes[..bytes.len().min(room)];
            let end = near.iter().position(|&byte| byte == b'\n');
            self.begun.extend_from_slice(&near[..end.unwrap_or(near.len())]);
            bytes = &bytes[end.map_or(near.len(), |end| end + 1)..];
            if (end.is_some() || self.begun.len() == LINE_BYTES) && !self.told() {
                return;
            }
        }
    }

    fn end(&mut self) {
        if !self.begun.is_empty() {
            self.told();
        }
    }

    fn told(&mut self) -> bool {
        let wanted = self.listener.tell(self.stream, &self.begun);
        self.begun.clear();
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// The lines told of chunks that arrive one by one.
    fn told(chunks: &[&[u8]]) -> Vec<String> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let sink = found.clone();
        let listener = Listener::new(move |_, line| sink.lock().unwrap().push(line.to_owned()));
        let mut lines = listener.lines(Stream::Stdout);
        for chunk in chunks {
            lines.take(chunk);
        }
        lines.end();
        found.lock().unwrap().clone()
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        assert_eq!(told(&[b"a", b"b\nc\n\n", b"d"]), ["ab", "c", "", "d"]);
        assert_eq!(told(&[b""]), [""; 0]);
        assert_eq!(told(&["\u{fc}".as_bytes(), b"\xff\n"]), ["\u{fc}\u{fffd}"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let found = told(&[&[b'x'; LINE_BYTES + 1], b"\n"]);
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES, 1]);
    }

    #[test]
    fn no_more_is_told_than_the_limits_allow() {
        assert_eq!(told(&[&b"\n".repeat(LINES * 3)]).len(), LINES);
        let line = [&[b'x'; 1023][..], b"\n"].concat().repeat(1000);
        let bytes: usize = told(&[&line]).iter().map(String::len).sum();
        assert!(bytes > BYTES - 1024 && bytes <= BYTES, "{bytes}");
    }
}
