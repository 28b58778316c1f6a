//! One trace for one call, across processes: W3C Trace Context in, out, and into every log line.

use std::collections::HashMap;

use http::HeaderMap;
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt,
};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) =
            (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value))
        {
            self.0.insert(key, value);
        }
    }
}

/// The span of one served call, a child of the caller's when the request carries one.
pub(crate) fn server_span(path: &str, headers: &HeaderMap) -> Span {
    let name = path.trim_start_matches('/');
    // `otel.name`, `otel.kind` and `otel.status_code` are read by tracing-opentelemetry.
    let span = tracing::info_span!(
        "rpc",
        otel.name = name,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.method = name,
        rpc.grpc.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    // Without an OpenTelemetry layer there is no trace to continue.
    let _ = span.set_parent(parent);
    span
}

/// Writes the current span's context into outgoing metadata.
pub(crate) fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Metadata(metadata));
    });
}

/// Writes the current span's context into the headers of a request that is passed on.
pub fn inject_headers(headers: &mut HeaderMap) {
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut HeadersMut(headers));
    });
}

/// Key of the context that goes on later (W3C Trace Context, section 3.2).
const TRACEPARENT: &str = "traceparent";

/// The current span, for a span of later to name as what it follows from; empty when nothing traces.
pub fn current_traceparent() -> String {
    let (context, mut carrier) = (Span::current().context(), HashMap::new());
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut carrier));
    carrier.remove(TRACEPARENT).unwrap_or_default()
}

/// Links a span to one of earlier: it follows from it, and is no part of its trace.
pub fn link_span(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let earlier = global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &carrier)
    });
    let earlier = earlier.span().span_context().clone();
    if earlier.is_valid() {
        span.add_link(earlier);
    }
}

/// Trace id of the current span, 32 hex digits; empty when nothing traces.
pub fn current_trace_id() -> String {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() { span.trace_id().to_string() } else { String::new() }
}
