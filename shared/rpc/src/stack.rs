//! What stands around every service, whether it is reached over a socket or linked in process.
//!
//! In this order: panic guard, trace and metrics, caller, access, load shedding, message size, deadline.
//! A handler therefore knows that its caller is verified, and may not do any of this again.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::{Request, Response};
use opentelemetry::{
    KeyValue, global,
    metrics::{Histogram, Meter},
};
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::{ServiceExt, service_fn};
use tracing::Instrument;
use types::{Caller, Kind};

use crate::{
    CALLER_HEADER, Call, ErrorReason, Link, TokenKey, access_of, body_limit, deadline, error_response, link,
    status::with_info, status_with_reason, trace,
};

/// What a stack needs.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Verifies caller tokens.
    pub key: TokenKey,
    /// Calls handled at once; one more is refused.
    pub max_concurrent_requests: usize,
}

/// Counts the calls of one service and closes it for new ones.
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    max: u32,
}

impl Gate {
    fn new(max: usize) -> Self {
        let max = u32::try_from(max).unwrap_or(u32::MAX).min(1 << 20);
        Self { permits: Arc::new(Semaphore::new(max as usize)), max }
    }

    /// Refuses new calls from now on and waits until those under way have ended.
    pub async fn drain(&self) {
        let all = self.permits.acquire_many(self.max).await;
        if all.is_ok() {
            self.permits.close();
        }
    }
}

struct Stack {
    routes: Routes,
    options: StackOptions,
    gate: Gate,
    duration: Histogram<f64>,
}

/// Wraps a service's routes. The link can be called in process and served over a socket alike.
pub fn stack(routes: Routes, options: StackOptions) -> (Link, Gate) {
    let meter: Meter = global::meter("toolcrib");
    let gate = Gate::new(options.max_concurrent_requests);
    let stack = Arc::new(Stack {
        routes: routes.prepare(),
        options,
        gate: gate.clone(),
        duration: meter.f64_histogram("rpc.server.duration").with_unit("ms").build(),
    });
    let service = service_fn(move |request| {
        let stack = Arc::clone(&stack);
        async move { Ok::<_, Infallible>(stack.guard(request).await) }
    });
    (link::local(service), gate)
}

impl Stack {
    /// Panic guard, trace and metrics: runs whatever the rest answers.
    async fn guard(&self, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        let span = trace::server_span(&path, request.headers());
        let answer = AssertUnwindSafe(self.admit(request).instrument(span.clone())).catch_unwind().await;
        let response = match answer {
            Ok(Ok(response)) => complete(response),
            Ok(Err(status)) => error_response(*status),
            Err(_) => span.in_scope(|| {
                tracing::error!(rpc.method = path, "handler panicked");
                error_response(status_with_reason(Kind::Internal, ErrorReason::Internal, "internal error"))
            }),
        };
        let code = code_of(&response);
        span.record("rpc.grpc.status_code", code as i32);
        if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable) {
            span.record("otel.status_code", "ERROR");
        }
        let attributes =
            [KeyValue::new("rpc.method", path), KeyValue::new("rpc.grpc.status_code", code as i64)];
        self.duration.record(started.elapsed().as_secs_f64() * 1_000.0, &attributes);
        response
    }

    /// Caller, access, load, size, deadline; then the handler.
    async fn admit(&self, mut request: Request<Body>) -> Result<Response<Body>, Box<Status>> {
        let caller = self.caller(&request)?;
        let access = access_of(request.uri().path()).ok_or_else(|| unknown_method(request.uri().path()))?;
        if !access.admits(&caller) {
            let message = format!("role {} may not use this method", caller.role.as_str());
            return Err(Box::new(status_with_reason(Kind::Denied, ErrorReason::RoleRequired, message)));
        }
        let _permit = self.gate.permits.clone().try_acquire_owned().map_err(|_| overloaded())?;
        let timeout = deadline::timeout_of(request.headers());
        let deadline = Instant::now() + timeout;
        // tonic would enforce it a second time, and answer CANCELLED.
        request.headers_mut().remove("grpc-timeout");
        request.extensions_mut().insert(Call { caller, deadline, trace_id: trace::current_trace_id() });
        let (parts, body) = request.into_parts();
        let run = async {
            let body = body_limit::check(body).await?;
            Ok(self.routes.clone().oneshot(Request::from_parts(parts, body)).await)
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(status)) => Err(Box::new(status)),
            Err(_) => Err(Box::new(past_deadline(timeout))),
        }
    }

    fn caller(&self, request: &Request<Body>) -> Result<Caller, Box<Status>> {
        let token = request.headers().get(CALLER_HEADER).and_then(|value| value.to_str().ok());
        token.and_then(|token| self.options.key.verify(token)).ok_or_else(|| {
            let message = "this port takes calls from the suite only; call the edge with an API key";
            Box::new(status_with_reason(Kind::Unauthenticated, ErrorReason::Unauthenticated, message))
        })
    }
}

/// Adds an ErrorInfo to an error of tonic's own.
fn complete(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok && status.details().is_empty() => {
            error_response(with_info(status))
        }
        _ => response,
    }
}

fn code_of(response: &Response<Body>) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

fn unknown_method(path: &str) -> Box<Status> {
    let message = format!("there is no method {path}; list them with grpcurl");
    Box::new(Status::unimplemented(message))
}

fn overloaded() -> Box<Status> {
    let message = "the service is stopping or handles as many calls as it may; try again";
    Box::new(status_with_reason(Kind::Unavailable, ErrorReason::Overloaded, message))
}

fn past_deadline(timeout: Duration) -> Status {
    let message = format!("not done within {timeout:?}; a call that started goes on and is recorded");
    status_with_reason(Kind::Deadline, ErrorReason::DeadlineExceeded, message)
}
