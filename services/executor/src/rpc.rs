//! The gRPC face of the executor service: parse, call the use case, map. `rpc/parse.rs` checks what comes in,
//! `rpc/mapping.rs` and `rpc/figures.rs` say what goes out.

mod figures;
mod intents;
mod mapping;
#[cfg(feature = "measure")]
pub mod measure;
mod parse;

use std::{pin::Pin, sync::Arc};

use ::rpc::{Call, PageKey, status};
use futures_util::{Stream, StreamExt};
use limit::Standing;
use proto::executor::v1::{
    BatchExecuteRequest, BatchExecuteResponse, CancelExecutionRequest, CancelExecutionResponse,
    EraseUserRequest, EraseUserResponse, ExecuteRequest, ExecuteResponse, GetCacheStatsRequest,
    GetCacheStatsResponse, GetExecutionRequest, GetExecutionResponse, GetToolMetricsRequest,
    GetToolMetricsResponse, InvalidateCacheRequest, InvalidateCacheResponse, ListExecutionsRequest,
    ListExecutionsResponse, ListIntentsRequest, ListIntentsResponse, ListToolMetricsRequest,
    ListToolMetricsResponse, StartExecutionRequest, StartExecutionResponse, WatchExecutionRequest,
    WatchExecutionResponse, executor_service_server::ExecutorService,
};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    Error, Executor, batch, cached, cancel, erase_user, events::timestamp, invoke, list_intents, metrics,
    query, start, watch,
};

pub(crate) struct Service {
    pub executor: Arc<Executor>,
    pub pages: PageKey,
}

type Events = Pin<Box<dyn Stream<Item = Result<WatchExecutionResponse, Status>> + Send>>;

#[allow(clippy::needless_pass_by_value, reason = "stands where map_err wants a function of an error")]
fn refused(error: Error) -> Status {
    status(&error)
}

#[tonic::async_trait]
impl ExecutorService for Service {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let request = parse::execute(request.into_inner()).map_err(refused)?;
        let answer = invoke::invoke(&self.executor, &call, request).await.map_err(refused)?;
        let execution = Some(mapping::execution(answer.execution));
        let mut response = Response::new(ExecuteResponse { execution, replayed: answer.replayed });
        tell_limits(response.metadata_mut(), &answer.standings);
        Ok(response)
    }

    async fn start_execution(
        &self,
        request: Request<StartExecutionRequest>,
    ) -> Result<Response<StartExecutionResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let request = parse::start(request.into_inner()).map_err(refused)?;
        let answer = start::start(&self.executor, &call, request).await.map_err(refused)?;
        let execution = Some(mapping::execution(answer.execution));
        let mut response = Response::new(StartExecutionResponse { execution, replayed: answer.replayed });
        tell_limits(response.metadata_mut(), &answer.standings);
        Ok(response)
    }

    async fn get_execution(
        &self,
        request: Request<GetExecutionRequest>,
    ) -> Result<Response<GetExecutionResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let id = request.into_inner().id;
        let found = query::get(&self.executor.database, &call.caller, &id).await;
        let execution = found.map(mapping::execution).map_err(refused)?;
        Ok(Response::new(GetExecutionResponse { execution: Some(execution) }))
    }

    async fn watch_execution(
        &self,
        request: Request<WatchExecutionRequest>,
    ) -> Result<Response<Events>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let WatchExecutionRequest { id, after_sequence } = request.into_inner();
        let events = watch::watch(&self.executor, &call, &id, after_sequence).await.map_err(refused)?;
        Ok(Response::new(Box::pin(events.map(|event| event.map(mapping::event).map_err(refused)))))
    }

    async fn cancel_execution(
        &self,
        request: Request<CancelExecutionRequest>,
    ) -> Result<Response<CancelExecutionResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let id = request.into_inner().id;
        let execution = cancel::cancel(&self.executor, &call, &id).await.map_err(refused)?;
        Ok(Response::new(CancelExecutionResponse { execution: Some(mapping::execution(execution)) }))
    }

    async fn list_executions(
        &self,
        request: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let request = request.into_inner();
        let page = (request.page_size, request.page_token.as_str());
        let filter = parse::filter(&request).map_err(refused)?;
        let listed = query::list(&self.executor.database, &self.pages, &call.caller, filter, page).await;
        let (rows, next_page_token) = listed.map_err(refused)?;
        let executions = rows.into_iter().map(mapping::execution).collect();
        Ok(Response::new(ListExecutionsResponse { executions, next_page_token }))
    }

    async fn batch_execute(
        &self,
        request: Request<BatchExecuteRequest>,
    ) -> Result<Response<BatchExecuteResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let asked = figures::batch(request.into_inner()).map_err(refused)?;
        let answers = batch::batch(&self.executor, &call, asked);
        Ok(Response::new(figures::batch_response(answers).await))
    }

    async fn get_tool_metrics(
        &self,
        request: Request<GetToolMetricsRequest>,
    ) -> Result<Response<GetToolMetricsResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let GetToolMetricsRequest { tool_name, refresh } = request.into_inner();
        let found = metrics::get(&self.executor, &call.caller, &tool_name, refresh).await;
        let (found, as_of) = found.map_err(refused)?;
        let as_of = Some(timestamp(as_of));
        Ok(Response::new(GetToolMetricsResponse { metrics: Some(figures::metrics(found)), as_of }))
    }

    async fn list_tool_metrics(
        &self,
        request: Request<ListToolMetricsRequest>,
    ) -> Result<Response<ListToolMetricsResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let request = request.into_inner();
        let page = (request.page_size, request.page_token.as_str());
        let listed = metrics::list(&self.executor, &self.pages, &call.caller, request.refresh, page).await;
        let (rows, as_of, next_page_token) = listed.map_err(refused)?;
        let metrics = rows.into_iter().map(figures::metrics).collect();
        let as_of = Some(timestamp(as_of));
        Ok(Response::new(ListToolMetricsResponse { metrics, as_of, next_page_token }))
    }

    async fn get_cache_stats(
        &self,
        request: Request<GetCacheStatsRequest>,
    ) -> Result<Response<GetCacheStatsResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let tool = request.into_inner().tool_name;
        let stats = cached::stats(&self.executor, &call.caller, &tool).await;
        Ok(Response::new(figures::cache_stats(stats, cached::variant(&self.executor))))
    }

    async fn invalidate_cache(
        &self,
        request: Request<InvalidateCacheRequest>,
    ) -> Result<Response<InvalidateCacheResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let InvalidateCacheRequest { tool_name, arguments_json } = request.into_inner();
        let dropped = cached::invalidate(&self.executor, &call.caller, &tool_name, &arguments_json).await;
        dropped.map_err(refused)?;
        Ok(Response::new(InvalidateCacheResponse {}))
    }

    async fn list_intents(
        &self,
        request: Request<ListIntentsRequest>,
    ) -> Result<Response<ListIntentsResponse>, Status> {
        let asked = intents::asked(request.into_inner()).map_err(refused)?;
        let listed = list_intents::list(&self.executor.database, &asked).await.map_err(refused)?;
        Ok(Response::new(intents::listed(listed)))
    }

    async fn erase_user(
        &self,
        request: Request<EraseUserRequest>,
    ) -> Result<Response<EraseUserResponse>, Status> {
        let subject = intents::subject(request.into_inner()).map_err(refused)?;
        let (erased, done) = erase_user::erase(&self.executor, &subject).await.map_err(refused)?;
        Ok(Response::new(intents::erased(erased, done)))
    }
}

/// What is left of the limits that a call counted against, in the fields of draft-ietf-httpapi-ratelimit-headers.
fn tell_limits(metadata: &mut MetadataMap, standings: &[Standing]) {
    if standings.is_empty() {
        return;
    }
    let (limits, policies) = limit::fields(standings);
    for (name, field) in [("ratelimit", limits), ("ratelimit-policy", policies)] {
        // Names are escaped, so that the field is plain ASCII.
        if let Ok(field) = field.parse() {
            metadata.insert(name, field);
        }
    }
}
