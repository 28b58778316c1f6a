//! Answers that go on for minutes: each ends when its caller is nobody any more, or another, or may not have it. Must
//! never end one because permissions is away for a moment, nor keep one because it is away for long.

use std::{
    collections::HashSet,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, request::Parts};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use rpc::{Access, ErrorReason};
use tokio::{task::AbortHandle, time::Instant};
use tonic::{Code, Status, body::Body};
use types::{Caller, Kind};

use crate::authenticate::{self, Authenticator};

/// The RPCs that answer with a stream, by their paths.
static STREAMS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let streams = methods().filter(|(_, method)| method.server_streaming());
    streams.map(|(path, _)| path).collect()
});
/// How long a stream goes on while nobody can say whether it may.
const GRACE: Duration = Duration::from_secs(30);
/// Pause after a question that was not answered.
const PAUSE: Duration = Duration::from_secs(1);

/// Who may have an answer, and on what grounds.
pub(crate) struct Oversight {
    authenticator: Authenticator,
    access: Access,
    /// What the caller showed.
    credential: HeaderMap,
    peer: Option<SocketAddr>,
    caller: Caller,
    path: String,
}

impl Oversight {
    /// For the answer to a request, if that is a stream.
    pub(crate) fn of(
        authenticator: &Authenticator,
        request: &Parts,
        peer: Option<SocketAddr>,
        caller: &Caller,
    ) -> Option<Self> {
        let path = request.uri.path();
        let access = STREAMS.contains(path).then(|| rpc::access_of(path)).flatten()?;
        let (caller, path) = (caller.clone(), path.to_owned());
        let credential = authenticate::credential(&request.headers);
        Some(Self { authenticator: authenticator.clone(), access, credential, peer, caller, path })
    }

    /// The same answer, as long as the caller may have it.
    pub(crate) fn over(self, answer: Response<Body>) -> Response<Body> {
        // Its Status stands in the headers already: no stream follows.
        if answer.headers().contains_key(Status::GRPC_STATUS) {
            return answer;
        }
        answer.map(|body| {
            let stream = Arc::new(Mutex::new(Stream { body: Some(body), end: None, waker: None }));
            let overseen = Arc::clone(&stream);
            // A task of its own: a stream whose receiver takes nothing is not polled, and has to end all the same.
            let task = tokio::spawn(async move {
                let status = self.end().await;
                tracing::info!(rpc.method = self.path, code = ?status.code(), "a stream was ended");
                end(&overseen, status);
            });
            Body::new(Overseen { stream, task: task.abort_handle() })
        })
    }

    /// Waits until the stream has to end, and says why.
    async fn end(&self) -> Status {
        let mut known = Instant::now();
        loop {
            let question = self.authenticator.again(&self.credential, self.peer);
            match tokio::time::timeout_at(known + GRACE, question).await {
                Ok(Ok(now)) => {
                    if let Err(status) = self.is_the_same(&now.caller) {
                        return *status;
                    }
                    known = Instant::now();
                    tokio::time::sleep_until(now.ask_again).await;
                }
                Ok(Err(status)) if is_final(status.code()) => return *status,
                Ok(Err(_)) if known.elapsed() < GRACE => tokio::time::sleep(PAUSE).await,
                Ok(Err(_)) | Err(_) => return undecided(),
            }
        }
    }

    fn is_the_same(&self, caller: &Caller) -> Result<(), Box<Status>> {
        self.access.admits(caller).map_err(|lack| rpc::refused(caller, lack))?;
        // What a stream tells was chosen for who its caller was.
        if *caller == self.caller { Ok(()) } else { Err(Box::new(changed())) }
    }
}

/// The RPCs of the contracts, by their paths.
fn methods() -> impl Iterator<Item = (String, MethodDescriptorProto)> {
    let files = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("the contracts are compiled in").file;
    let files = files.into_iter().filter(|file| file.package().starts_with("toolcrib."));
    files.flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let name = format!("{package}.{}", service.name());
            service.method.into_iter().map(move |method| (format!("/{name}/{}", method.name()), method))
        })
    })
}

/// Whether permissions has answered, and asking again would not change it.
fn is_final(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::PermissionDenied)
}

fn changed() -> Status {
    let message = "what the caller may do has changed since the stream began; watch again";
    rpc::status_with_reason(Kind::Unavailable, ErrorReason::ServiceUnavailable, message)
}

fn undecided() -> Status {
    let message = format!(
        "the permissions service did not say for {} s whether the caller may go on; watch again",
        GRACE.as_secs()
    );
    rpc::status_with_reason(Kind::Unavailable, ErrorReason::ServiceUnavailable, message)
}

/// A stream that has a body, or ends with a Status, or has ended.
struct Stream {
    body: Option<Body>,
    end: Option<Status>,
    waker: Option<Waker>,
}

fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(stream: &Mutex<Stream>, status: Status) {
    let mut locked = lock(stream);
    let Some(body) = locked.body.take() else { return };
    locked.end = Some(status);
    let waker = locked.waker.take();
    drop(locked);
    // The service learns that nobody listens any more.
    drop(body);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The body of a stream that somebody watches over.
struct Overseen {
    stream: Arc<Mutex<Stream>>,
    task: AbortHandle,
}

impl Drop for Overseen {
    fn drop(&mut self) {
        self.task.abort();
        // The task holds it as well, for a moment more.
        let body = lock(&self.stream).body.take();
        drop(body);
    }
}

impl HttpBody for Overseen {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut stream = lock(&self.stream);
        if let Some(status) = stream.end.take() {
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let Some(body) = &mut stream.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Pending => stream.waker = Some(cx.waker().clone()),
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {}
            Poll::Ready(_) => {
                stream.body = None;
                self.task.abort();
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rpc_takes_a_stream_and_those_that_answer_with_one_are_known() {
        for (path, method) in methods() {
            // The edge reads a request to its end before it asks whose it is.
            assert!(!method.client_streaming(), "{path} takes a stream");
        }
        for path in [
            "/toolcrib.executor.v1.ExecutorService/WatchExecution",
            "/toolcrib.registry.v1.RegistryService/WatchTools",
        ] {
            assert!(STREAMS.contains(path), "{path}");
        }
        assert!(!STREAMS.contains("/toolcrib.executor.v1.ExecutorService/Execute"));
    }
}
