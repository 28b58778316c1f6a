//! Refuses a message that is too large from its 5-byte prefix, before it is read: tonic alone would
//! answer OUT_OF_RANGE.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::time::Sleep;
use tonic::{Status, body::Body};
use types::Kind;

use crate::{ErrorReason, status_with_reason};

/// Largest request message: 4 MiB, gRPC's usual default.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes before a message: one flag and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
pub const PREFIX_BYTES: usize = 5;

/// How long a client may take to begin its message, and then to end it: a call that says nothing holds a place.
pub const ARRIVAL: Duration = Duration::from_secs(10);

/// The same body, if its first message declares a size that may be sent.
pub async fn check(mut body: Body) -> Result<Body, Status> {
    let mut head: Vec<Bytes> = Vec::new();
    let mut prefix = Vec::with_capacity(PREFIX_BYTES);
    let begun = tokio::time::timeout(ARRIVAL, read_prefix(&mut body, &mut head, &mut prefix)).await;
    begun.unwrap_or_else(|_| Err(not_in_time()))?;
    check_length(&prefix)?;
    if let ([_], true) = (head.as_slice(), body.is_end_stream()) {
        // Nothing more will come: there is nothing to watch over.
        return Ok(Body::new(Full::new(head.remove(0))));
    }
    head.reverse();
    Ok(Body::new(Prefixed { head, body, late: Box::pin(tokio::time::sleep(ARRIVAL)) }))
}

/// Refuses a message by how it begins, where it declares a size that may not be sent.
#[allow(clippy::result_large_err, reason = "what the caller answers with")]
pub fn check_length(begun: &[u8]) -> Result<(), Status> {
    let length = begun.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    match length {
        Some(length) if length as usize > MAX_MESSAGE_BYTES => {
            let message = format!(
                "the message has {length} bytes, at most {MAX_MESSAGE_BYTES} are taken; send large data by file"
            );
            Err(status_with_reason(Kind::Exhausted, ErrorReason::MessageTooLarge, message))
        }
        _ => Ok(()),
    }
}

async fn read_prefix(body: &mut Body, head: &mut Vec<Bytes>, prefix: &mut Vec<u8>) -> Result<(), Status> {
    while prefix.len() < PREFIX_BYTES {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame?.into_data() else { break };
        prefix.extend(data.iter().take(PREFIX_BYTES - prefix.len()));
        head.push(data);
    }
    Ok(())
}

/// DEADLINE_EXCEEDED for a message that did not come in time.
pub fn not_in_time() -> Status {
    let message =
        format!("the message did not come within {ARRIVAL:?}; send it at once, and large data by file");
    status_with_reason(Kind::Deadline, ErrorReason::DeadlineExceeded, message)
}

/// A body whose first chunks were read already; `head` holds them, the next one last.
struct Prefixed {
    head: Vec<Bytes>,
    body: Body,
    /// Ends when the rest should have come.
    late: Pin<Box<Sleep>>,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(chunk) = self.head.pop() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(self.late.as_mut().poll(cx));
        Poll::Ready(Some(Err(not_in_time())))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let read: u64 = self.head.iter().map(|chunk| chunk.remaining() as u64).sum();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + read);
        }
        hint.set_lower(hint.lower() + read);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(chunks: Vec<Vec<u8>>) -> Body {
        let chunks = chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(Bytes::from(chunk))));
        Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(chunks)))
    }

    #[tokio::test]
    async fn a_message_arrives_unchanged_however_it_is_cut() {
        for chunks in [vec![vec![0, 0, 0], vec![0, 2, 7], vec![8]], vec![vec![0, 0, 0, 0, 2, 7, 8]], vec![]] {
            let whole: Vec<u8> = chunks.concat();
            let checked = check(body(chunks)).await.unwrap();
            assert_eq!(checked.collect().await.unwrap().to_bytes(), whole);
        }
    }

    #[tokio::test]
    async fn a_message_above_the_limit_is_refused_from_its_prefix_alone() {
        let [a, b, c, d] = u32::try_from(MAX_MESSAGE_BYTES).unwrap().to_be_bytes();
        assert!(check(body(vec![vec![0, a, b, c, d]])).await.is_ok());
        let [a, b, c, d] = u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
        let refused = check(body(vec![vec![0, a], vec![b, c, d]])).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_says_nothing_is_given_up() {
        let silence = Body::new(http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, Status>,
        >()));
        assert_eq!(check(silence).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_stops_in_the_middle_is_given_up() {
        let begun = futures_util::stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(&[
            0, 0, 0, 0, 5, 1,
        ])))]);
        let stream = futures_util::StreamExt::chain(begun, futures_util::stream::pending());
        let stopped = check(Body::new(http_body_util::StreamBody::new(stream))).await.unwrap();
        let collected = tokio::time::timeout(2 * ARRIVAL, stopped.collect()).await.expect("it ends");
        assert_eq!(collected.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }
}
