//! Watches the lines a child process writes: a line over the limit ends the stream before it is held in
//! memory, and the first text that is no JSON is kept to explain a failed start. Must never change a byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::evidence::Evidence;

/// A reader that fails once a line is longer than its limit.
pub(crate) struct Lines<R> {
    inner: R,
    limit: usize,
    /// Bytes of the present line so far.
    length: usize,
    evidence: Arc<Evidence>,
}

impl<R> Lines<R> {
    pub(crate) fn new(inner: R, limit: usize, evidence: Arc<Evidence>) -> Self {
        Self { inner, limit, length: 0, evidence }
    }

    fn observe(&mut self, chunk: &[u8]) -> io::Result<()> {
        for (index, part) in chunk.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.length = 0;
            }
            if self.length == 0 && is_noise(part) {
                self.evidence.noise(part);
            }
            self.length += part.len();
            if self.length > self.limit {
                self.evidence.oversized();
                return Err(too_large());
            }
        }
        Ok(())
    }
}

/// Whether a line beginning like this can be no JSON-RPC message.
fn is_noise(part: &[u8]) -> bool {
    part.trim_ascii_start().first().is_some_and(|first| !b"{[\xEF".contains(first))
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.length > self.limit {
            return Poll::Ready(Err(too_large()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let observed = self.observe(&buf.filled()[before..]);
        if observed.is_err() {
            buf.set_filled(before);
        }
        Poll::Ready(observed)
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "message too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn read(input: &[u8], limit: usize) -> (io::Result<usize>, Arc<Evidence>) {
        let evidence = Arc::new(Evidence::default());
        let mut out = Vec::new();
        let result = Lines::new(input, limit, evidence.clone()).read_to_end(&mut out).await;
        assert!(result.is_err() || out == input);
        (result, evidence)
    }

    #[tokio::test]
    async fn lines_up_to_the_limit_pass_and_longer_ones_end_the_stream() {
        let (result, evidence) = read(b"{\"a\":1}\n{\"b\":22}\n", 8).await;
        assert_eq!((result.unwrap(), evidence.oversized_count()), (17, 0));
        let (result, evidence) = read(b"{}\n{\"c\":33333}\n", 8).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(evidence.oversized_count(), 1);
    }

    #[tokio::test]
    async fn the_first_text_that_is_no_json_is_kept() {
        let (_, evidence) = read(b"{}\n  welcome\nagain\n", 100).await;
        assert_eq!(evidence.first_noise().as_deref(), Some("welcome"));
    }
}
