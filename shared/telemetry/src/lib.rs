//! Logs, traces and metrics of a process: text or JSON lines on standard error, and OTLP when configured.
//!
//! No payload may be logged or put on a span, by anyone.

use std::io::IsTerminal;

use opentelemetry::{KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use serde::Deserialize;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Settings of logs, traces and metrics, under `[telemetry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is logged, in the directives of `tracing-subscriber`'s `EnvFilter`, such as `info,executor=debug`.
    pub log: String,
    /// How lines look.
    pub log_format: Format,
    /// Where spans and metrics go over OTLP/gRPC, such as `http://127.0.0.1:4317`; empty: nowhere.
    pub otlp_endpoint: String,
    /// Share of traces begun here that are exported, 0 to 1. A trace begun elsewhere keeps its own decision.
    pub trace_sample_ratio: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The OTLP exporter cannot be built.
    #[error("telemetry.otlp_endpoint cannot be used: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Something else has set up logging in this process.
    #[error("logging is set up already: {0}")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Ends telemetry: what waits is sent when this is shut down.
#[derive(Debug)]
pub struct Guard {
    traces: SdkTracerProvider,
    metrics: Option<SdkMeterProvider>,
}

impl Guard {
    /// Sends what waits. Blocks up to a few seconds; call it outside async code or on a blocking thread.
    pub fn shutdown(self) {
        // At the end of a process there is no one left to tell.
        let _ = self.traces.shutdown();
        if let Some(metrics) = self.metrics {
            let _ = metrics.shutdown();
        }
    }
}

impl Config {
    /// Every fault of the settings.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(error) = EnvFilter::try_new(&self.log) {
            faults.push(format!("telemetry.log: {error}"));
        }
        if !(0.0..=1.0).contains(&self.trace_sample_ratio) {
            faults.push("telemetry.trace_sample_ratio must be 0 to 1".to_owned());
        }
        let endpoint = &self.otlp_endpoint;
        if !endpoint.is_empty() && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            faults.push("telemetry.otlp_endpoint must begin with http:// or https://".to_owned());
        }
        faults
    }
}

/// Starts logs, traces and metrics for this process. Must be called inside a tokio runtime.
pub fn start(config: &Config, roles: &str) -> Result<Guard, Error> {
    let resource = Resource::builder()
        .with_service_name("toolcrib")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("toolcrib.roles", roles.to_owned()))
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let traces = traces(config, resource.clone())?;
    let metrics = metrics(config, resource)?;
    let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer("toolcrib")).with_filter(traced());
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match config.log_format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init()?;
    Ok(Guard { traces, metrics })
}

/// What becomes a span, whatever is logged: a trace must not lose its parts because the log is quiet.
fn traced() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(["rmcp", "sqlx"].map(|target| (target, LevelFilter::WARN)))
}

/// Traces always have ids, so that logs and executions can name them; they are exported only when configured.
fn traces(config: &Config, resource: Resource) -> Result<SdkTracerProvider, Error> {
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_sample_ratio)));
    let builder = SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler);
    if config.otlp_endpoint.is_empty() {
        return Ok(builder.build());
    }
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(&config.otlp_endpoint).build()?;
    Ok(builder.with_batch_exporter(exporter).build())
}

fn metrics(config: &Config, resource: Resource) -> Result<Option<SdkMeterProvider>, Error> {
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = MetricExporter::builder().with_tonic().with_endpoint(&config.otlp_endpoint).build()?;
    let provider =
        SdkMeterProvider::builder().with_resource(resource).with_periodic_exporter(exporter).build();
    global::set_meter_provider(provider.clone());
    Ok(Some(provider))
}
