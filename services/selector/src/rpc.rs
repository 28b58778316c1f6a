//! The gRPC face of the selector service: parse, call the use case, map. Each RPC has its file in `rpc/`.

mod effectiveness;
mod erase;
mod feedback;
mod health;
mod outcomes;
mod patterns;
mod pins;
mod policy;
mod recommend;
mod select;
mod selections;

use std::time::Duration;

use ::rpc::{Call, PageKey, status};
use chrono::{DateTime, Utc};
use proto::{
    selector::v1::{
        ActivatePolicyRequest, ActivatePolicyResponse, EraseUserRequest, EraseUserResponse,
        GetEffectivenessRequest, GetEffectivenessResponse, GetSelectorHealthRequest,
        GetSelectorHealthResponse, GetUsagePatternsRequest, GetUsagePatternsResponse, ListPinsRequest,
        ListPinsResponse, ListPoliciesRequest, ListPoliciesResponse, ListRecommendationsRequest,
        ListRecommendationsResponse, ListSelectionsRequest, ListSelectionsResponse, Mode as WireMode,
        PinToolRequest, PinToolResponse, RecordFeedbackRequest, RecordFeedbackResponse,
        RecordOutcomesRequest, RecordOutcomesResponse, RefitPolicyRequest, RefitPolicyResponse,
        SelectToolsRequest, SelectToolsResponse, UnpinToolRequest, UnpinToolResponse,
        selector_service_server::SelectorService,
    },
    types::v1 as wire,
};
use tonic::{Request, Response, Status};
use types::Category;
use uuid::Uuid;

use ::store::Database;
use catalog::Catalog;

use crate::{
    Error,
    fuse::Mode,
    learn::{Learned, Ledger},
    patterns::Sequences,
    policy::Policies,
    select::Selector,
};

/// What the RPCs stand on.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub ledger: Ledger,
    pub learned: Learned,
    /// Signs page tokens.
    pub pages: PageKey,
    pub selector: Selector,
    pub database: Database,
    pub catalog: Catalog,
    pub policies: Policies,
    pub sequences: Sequences,
    /// After which no selection of an end user is written any more.
    pub selection_write_timeout: Duration,
}

type Answer<T> = Result<Response<T>, Status>;

/// Parts a request from its caller, has the use case act and gives its answer or its refusal.
async fn route<'a, Q, A, F>(
    service: &'a Service,
    request: Request<Q>,
    act: impl FnOnce(&'a Service, Call, Q) -> F,
) -> Answer<A>
where
    F: Future<Output = Result<A, Error>>,
{
    let call = Call::of(&request).map_err(|status| *status)?;
    act(service, call, request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
}

#[tonic::async_trait]
impl SelectorService for Service {
    async fn select_tools(&self, request: Request<SelectToolsRequest>) -> Answer<SelectToolsResponse> {
        route(self, request, select::select).await
    }

    async fn record_outcomes(
        &self,
        request: Request<RecordOutcomesRequest>,
    ) -> Answer<RecordOutcomesResponse> {
        route(self, request, outcomes::record).await
    }

    async fn record_feedback(
        &self,
        request: Request<RecordFeedbackRequest>,
    ) -> Answer<RecordFeedbackResponse> {
        route(self, request, feedback::record).await
    }

    async fn get_effectiveness(
        &self,
        request: Request<GetEffectivenessRequest>,
    ) -> Answer<GetEffectivenessResponse> {
        route(self, request, effectiveness::get).await
    }

    async fn list_recommendations(
        &self,
        request: Request<ListRecommendationsRequest>,
    ) -> Answer<ListRecommendationsResponse> {
        route(self, request, recommend::list).await
    }

    async fn get_usage_patterns(
        &self,
        request: Request<GetUsagePatternsRequest>,
    ) -> Answer<GetUsagePatternsResponse> {
        route(self, request, patterns::get).await
    }

    async fn list_selections(
        &self,
        request: Request<ListSelectionsRequest>,
    ) -> Answer<ListSelectionsResponse> {
        route(self, request, selections::list).await
    }

    async fn pin_tool(&self, request: Request<PinToolRequest>) -> Answer<PinToolResponse> {
        route(self, request, pins::pin).await
    }

    async fn unpin_tool(&self, request: Request<UnpinToolRequest>) -> Answer<UnpinToolResponse> {
        route(self, request, pins::unpin).await
    }

    async fn list_pins(&self, request: Request<ListPinsRequest>) -> Answer<ListPinsResponse> {
        route(self, request, pins::list).await
    }

    async fn get_selector_health(
        &self,
        request: Request<GetSelectorHealthRequest>,
    ) -> Answer<GetSelectorHealthResponse> {
        route(self, request, health::get).await
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Answer<EraseUserResponse> {
        route(self, request, erase::erase).await
    }

    async fn refit_policy(&self, request: Request<RefitPolicyRequest>) -> Answer<RefitPolicyResponse> {
        route(self, request, policy::refit).await
    }

    async fn activate_policy(
        &self,
        request: Request<ActivatePolicyRequest>,
    ) -> Answer<ActivatePolicyResponse> {
        route(self, request, policy::activate).await
    }

    async fn list_policies(&self, request: Request<ListPoliciesRequest>) -> Answer<ListPoliciesResponse> {
        route(self, request, policy::list).await
    }
}

fn id(field: &str, text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid(field, "is not a UUID"))
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}

fn time(field: &str, at: Option<prost_types::Timestamp>) -> Result<DateTime<Utc>, Error> {
    at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
        .ok_or_else(|| Error::invalid(field, "is not set or not a time"))
}

/// A category on the wire; `None`: it is not set.
fn category(field: &str, value: i32) -> Result<Option<Category>, Error> {
    let Ok(category) = wire::Category::try_from(value) else {
        let known: Vec<&str> = Category::ALL.iter().map(|category| category.as_str()).collect();
        return Err(Error::invalid(field, format!("{value} is no category; they are {}", known.join(", "))));
    };
    Ok(category.into())
}

fn mode(mode: Mode) -> WireMode {
    match mode {
        Mode::Full => WireMode::Full,
        Mode::Static => WireMode::Static,
        Mode::Lexical => WireMode::Lexical,
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
