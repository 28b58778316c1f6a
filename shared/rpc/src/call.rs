//! What a handler knows of the call it serves, and how it calls others on that call's behalf.

use std::time::{Duration, Instant};

use tonic::{Request, Response, Status, metadata::MetadataValue};
use types::{Caller, Kind};

use crate::{CALLER_HEADER, ErrorReason, TokenKey, retry::Retries, status_with_reason, trace};

/// One call as the stack saw it: verified caller, deadline, trace.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The trace it belongs to, 32 hex digits.
    pub trace_id: String,
}

impl Call {
    /// The call behind a request. An error means that a service was served without the stack.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Box<Status>> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            let message = "the request did not pass the stack; serve the routes through rpc::stack";
            Box::new(status_with_reason(Kind::Internal, ErrorReason::Internal, message))
        })
    }

    /// How long the caller still waits.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Makes the requests that one service sends to the others.
#[derive(Debug, Clone)]
pub struct Outgoing {
    service: &'static str,
    key: TokenKey,
    retries: Retries,
}

impl Outgoing {
    /// For the service of this name.
    pub fn new(service: &'static str, key: TokenKey) -> Self {
        Self { service, key, retries: Retries::new() }
    }

    /// A request on behalf of a caller: carries the caller, what is left of `time_left`, and the trace.
    pub fn request<T>(&self, caller: &Caller, time_left: Duration, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = self.key.mint(&caller.through(self.service));
        // A token is base64url and dots, and minting fails only on claims that cannot be JSON.
        if let Some(value) = token.ok().and_then(|token| MetadataValue::try_from(token).ok()) {
            request.metadata_mut().insert(CALLER_HEADER, value);
        }
        request.set_timeout(time_left);
        trace::inject(request.metadata_mut());
        request
    }

    /// Makes a call that only reads, and makes it once more when the service could not be reached, within a
    /// budget of a fifth of all calls. `call` makes the request anew each time.
    pub async fn read<T, F>(&self, call: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.retries.read(call).await
    }

    /// A request of the service's own, for every team.
    pub fn own_request<T>(&self, time_left: Duration, message: T) -> Request<T> {
        self.request(&Caller::service(self.service), time_left, message)
    }
}
