//! Panic guard, trace and metrics around a served call: what edge and services have in common.

use std::{panic::AssertUnwindSafe, time::Instant};

use futures_util::FutureExt;
use http::{Request, Response};
use opentelemetry::{KeyValue, global, metrics::Histogram};
use tonic::{Code, Status, body::Body};
use tracing::Instrument;
use types::Kind;

use crate::{ErrorReason, access_of, error_response, status::with_info, status_with_reason, trace};

/// Measures and guards calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Observer {
    duration: Histogram<f64>,
}

impl Observer {
    /// For calls of this metric, in milliseconds: `rpc.server.duration` is the name that OpenTelemetry's
    /// semantic conventions give to the duration of a served call.
    pub fn new() -> Self {
        let meter = global::meter("toolcrib");
        Self { duration: meter.f64_histogram("rpc.server.duration").with_unit("ms").build() }
    }

    /// Runs a handler inside a span that continues the caller's trace. A panic becomes INTERNAL, an error of
    /// tonic's own gets its ErrorInfo, and the duration is measured whatever the end.
    pub async fn observe<H, F>(&self, request: Request<Body>, handler: H) -> Response<Body>
    where
        H: FnOnce(Request<Body>) -> F,
        F: Future<Output = Result<Response<Body>, Box<Status>>>,
    {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        let span = trace::server_span(&path, request.headers());
        let answer = AssertUnwindSafe(handler(request).instrument(span.clone())).catch_unwind().await;
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
        // Anyone may ask for any path: one that is no RPC is no value of its own.
        let method = if access_of(&path).is_some() { path } else { "unknown".to_owned() };
        let attributes =
            [KeyValue::new("rpc.method", method), KeyValue::new("rpc.grpc.status_code", code as i64)];
        self.duration.record(started.elapsed().as_secs_f64() * 1_000.0, &attributes);
        response
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
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
