//! The gRPC face of the audit service: parse, call the use case, map. Each group of methods has a file of its own.

mod append;
mod erase;
mod export;
mod health;
mod holds;
mod proofs;
mod query;
mod reconcile;
mod report;
mod review;
mod usage;
mod watch;

use ::rpc::{Link, Outgoing, PageKey};
use ::store::Database;
use chrono::{DateTime, Utc};
use proto::audit::v1::{
    AppendEventsRequest, AppendEventsResponse, EraseSubjectRequest, EraseSubjectResponse, ExportTrailRequest,
    GenerateReportRequest, GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest,
    GetConsistencyProofResponse, GetCostsRequest, GetCostsResponse, GetInclusionProofRequest,
    GetInclusionProofResponse, GetTrailHealthRequest, GetTrailHealthResponse, GetUsageRequest,
    GetUsageResponse, ListHoldsRequest, ListHoldsResponse, PlaceHoldRequest, PlaceHoldResponse,
    QueryTrailRequest, QueryTrailResponse, ReconcileTrailRequest, ReconcileTrailResponse,
    RecordReviewRequest, RecordReviewResponse, ReleaseHoldRequest, ReleaseHoldResponse, WatchTrailRequest,
    audit_service_server::AuditService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    Checkpoints, Error, append::Journal, erase::Eraser, reconcile::Reconciler, report::Reports,
    watch::Watches,
};

pub(crate) struct Service {
    pub database: Database,
    pub journal: Journal,
    pub pages: PageKey,
    pub watches: Watches,
    pub permissions: Link,
    pub outgoing: Outgoing,
    pub checkpoints: Checkpoints,
    pub eraser: Eraser,
    pub reconciler: Reconciler,
    pub reports: Reports,
}

#[tonic::async_trait]
impl AuditService for Service {
    async fn append_events(
        &self,
        request: Request<AppendEventsRequest>,
    ) -> Result<Response<AppendEventsResponse>, Status> {
        append::append_events(self, request).await
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        proofs::get_checkpoint(self, request).await
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        proofs::get_inclusion_proof(self, request).await
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        proofs::get_consistency_proof(self, request).await
    }

    async fn export_trail(
        &self,
        request: Request<ExportTrailRequest>,
    ) -> Result<Response<export::Lines>, Status> {
        export::export_trail(self, request).await
    }

    async fn get_trail_health(
        &self,
        request: Request<GetTrailHealthRequest>,
    ) -> Result<Response<GetTrailHealthResponse>, Status> {
        health::get_trail_health(self, request).await
    }

    async fn erase_subject(
        &self,
        request: Request<EraseSubjectRequest>,
    ) -> Result<Response<EraseSubjectResponse>, Status> {
        erase::erase_subject(self, request).await
    }

    async fn reconcile_trail(
        &self,
        request: Request<ReconcileTrailRequest>,
    ) -> Result<Response<ReconcileTrailResponse>, Status> {
        reconcile::reconcile_trail(self, request).await
    }

    async fn generate_report(
        &self,
        request: Request<GenerateReportRequest>,
    ) -> Result<Response<report::Contents>, Status> {
        report::generate_report(self, request).await
    }

    async fn record_review(
        &self,
        request: Request<RecordReviewRequest>,
    ) -> Result<Response<RecordReviewResponse>, Status> {
        review::record_review(self, request).await
    }

    async fn query_trail(
        &self,
        request: Request<QueryTrailRequest>,
    ) -> Result<Response<QueryTrailResponse>, Status> {
        query::query_trail(self, request).await
    }

    async fn watch_trail(
        &self,
        request: Request<WatchTrailRequest>,
    ) -> Result<Response<watch::Events>, Status> {
        watch::watch_trail(self, request).await
    }

    async fn get_usage(
        &self,
        request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        usage::get_usage(self, request).await
    }

    async fn get_costs(
        &self,
        request: Request<GetCostsRequest>,
    ) -> Result<Response<GetCostsResponse>, Status> {
        usage::get_costs(self, request).await
    }

    async fn place_hold(
        &self,
        request: Request<PlaceHoldRequest>,
    ) -> Result<Response<PlaceHoldResponse>, Status> {
        holds::place_hold(self, request).await
    }

    async fn release_hold(
        &self,
        request: Request<ReleaseHoldRequest>,
    ) -> Result<Response<ReleaseHoldResponse>, Status> {
        holds::release_hold(self, request).await
    }

    async fn list_holds(
        &self,
        request: Request<ListHoldsRequest>,
    ) -> Result<Response<ListHoldsResponse>, Status> {
        holds::list_holds(self, request).await
    }
}

fn id(field: &str, text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid(field, "is not a UUID"))
}

fn time(field: &str, at: Option<prost_types::Timestamp>) -> Result<DateTime<Utc>, Error> {
    at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
        .ok_or_else(|| Error::invalid(field, "is not set or not a time"))
}
