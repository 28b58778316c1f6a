//! What is measured of signing: how many events, and how long each waited for its checkpoint.

use chrono::{DateTime, Utc};
use opentelemetry::metrics::{Counter, Histogram};

use crate::store::RecordRow;

/// Records older than this were moved over or came late: they say nothing of how fast this is.
const MEASURED: chrono::TimeDelta = chrono::TimeDelta::hours(1);

/// What is measured.
#[derive(Debug)]
pub(super) struct Figures {
    leaves: Counter<u64>,
    inclusion: Histogram<f64>,
}

impl Figures {
    pub(super) fn new() -> Self {
        let meter = opentelemetry::global::meter("toolcrib");
        let leaves = meter.u64_counter("toolcrib.audit.leaves").with_description("Events under a checkpoint");
        let inclusion = meter.f64_histogram("toolcrib.audit.inclusion_duration").with_unit("s");
        let inclusion = inclusion.with_description("From an event to the checkpoint that covers it");
        Self { leaves: leaves.build(), inclusion: inclusion.build() }
    }

    pub(super) fn signed(&self, records: &[Vec<RecordRow>], now: DateTime<Utc>) {
        for record in records.iter().flatten() {
            self.leaves.add(1, &[]);
            let took = now - record.event_time;
            if took < MEASURED {
                self.inclusion.record(took.as_seconds_f64().max(0.0), &[]);
            }
        }
    }
}
