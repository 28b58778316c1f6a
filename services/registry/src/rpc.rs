//! The gRPC face of the registry: parse, call the use case, map.

mod bindings;
mod credentials;
mod find;
mod grpc;
mod health;
mod imports;
mod mapping;
mod open_api;
mod review;
mod settings;

pub(crate) use settings::default_settings;

use std::{pin::Pin, time::Duration};

use ::rpc::{Call, Link, Outgoing, PageKey, ServiceError, Shares, status};
use ::store::Database;
use futures_util::{Stream, StreamExt};
use proto::registry::v1::{
    ApproveDefinitionRequest, ApproveDefinitionResponse, ExportToolsRequest, ExportToolsResponse,
    GetFallbacksRequest, GetFallbacksResponse, GetRegistryHealthRequest, GetRegistryHealthResponse,
    GetToolRequest, GetToolResponse, ImportGrpcRequest, ImportGrpcResponse, ImportOpenApiRequest,
    ImportOpenApiResponse, ListCredentialsRequest, ListCredentialsResponse, ListServersRequest,
    ListServersResponse, ListToolVersionsRequest, ListToolVersionsResponse, ListToolsRequest,
    ListToolsResponse, PutCredentialRequest, PutCredentialResponse, RefreshServerRequest,
    RefreshServerResponse, RegisterServerRequest, RegisterServerResponse, RegisterToolRequest,
    RegisterToolResponse, RemoveServerRequest, RemoveServerResponse, ResolveCredentialRequest,
    ResolveCredentialResponse, RevokeCredentialRequest, RevokeCredentialResponse, RotateCredentialRequest,
    RotateCredentialResponse, SearchToolsRequest, SearchToolsResponse, SetFallbacksRequest,
    SetFallbacksResponse, SetToolStatusRequest, SetToolStatusResponse, UpdateToolRequest, UpdateToolResponse,
    WatchToolsRequest, WatchToolsResponse, registry_service_server::RegistryService,
};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use types::Caller;

use crate::{
    Error,
    credentials::Credentials,
    fallbacks, get,
    import::Turns,
    list, register,
    servers::Servers,
    set_status, update,
    watch::{self, Options},
};
use mapping::View;

pub(crate) struct Service {
    pub database: Database,
    pub pages: PageKey,
    pub permissions: Link,
    pub outgoing: Outgoing,
    pub credentials: Credentials,
    pub revision: Receiver<i64>,
    pub heartbeat: Duration,
    /// The watches of this process, by team.
    pub watches: Shares<String>,
    pub stop: CancellationToken,
    pub servers: Servers,
    pub imports: Turns,
}

type Answer<T> = Result<Response<T>, Status>;
type Events = Pin<Box<dyn Stream<Item = Result<WatchToolsResponse, Status>> + Send>>;

/// Who calls, for which team, and what the call still may take.
fn caller<T>(request: &Request<T>) -> Result<Call, Status> {
    let call = Call::of(request).map_err(|status| *status)?;
    if call.caller.team.is_empty() {
        let error = Error::invalid("caller", "a service must call on behalf of a team");
        return Err(status(&error));
    }
    Ok(call)
}

fn answer<T>(result: Result<T, impl ServiceError>) -> Answer<T> {
    result.map(Response::new).map_err(|error| status(&error))
}

#[tonic::async_trait]
impl RegistryService for Service {
    async fn register_tool(&self, request: Request<RegisterToolRequest>) -> Answer<RegisterToolResponse> {
        let caller = caller(&request)?.caller;
        let registered = async {
            let mut request = request.into_inner();
            let plan = settings::plan(request.settings.take())?;
            let proposal = mapping::proposal(request)?;
            let done = register::register(&self.database, &caller, proposal, plan).await?;
            Ok::<_, Error>(RegisterToolResponse {
                tool: Some(View::Full.tool(&done.tool)?),
                created: done.created,
                changes: review::changes(done.changes),
            })
        };
        answer(registered.await)
    }

    async fn get_tool(&self, request: Request<GetToolRequest>) -> Answer<GetToolResponse> {
        let caller = caller(&request)?.caller;
        let found = async {
            let key = mapping::key(request.into_inner())?;
            let row = get::get(&self.database, &caller.team, key).await?;
            Ok::<_, Error>(GetToolResponse { tool: Some(View::of(&caller).tool(&row)?) })
        };
        answer(found.await)
    }

    async fn list_tools(&self, request: Request<ListToolsRequest>) -> Answer<ListToolsResponse> {
        let caller = caller(&request)?.caller;
        let request = request.into_inner();
        let listed = async {
            let filter = mapping::filter(&request)?;
            let page = (request.page_size, request.page_token.as_str());
            let (rows, next_page_token) =
                list::list(&self.database, &self.pages, &caller.team, &filter, page).await?;
            Ok::<_, Error>(ListToolsResponse { tools: View::of(&caller).tools(&rows)?, next_page_token })
        };
        answer(listed.await)
    }

    async fn list_tool_versions(
        &self,
        request: Request<ListToolVersionsRequest>,
    ) -> Answer<ListToolVersionsResponse> {
        let caller = caller(&request)?.caller;
        let name = request.into_inner().name;
        let listed = async {
            let rows = list::versions(&self.database, &caller.team, &name).await?;
            Ok::<_, Error>(ListToolVersionsResponse { tools: View::of(&caller).tools(&rows)? })
        };
        answer(listed.await)
    }

    async fn set_tool_status(&self, request: Request<SetToolStatusRequest>) -> Answer<SetToolStatusResponse> {
        let caller = caller(&request)?.caller;
        let request = request.into_inner();
        let set = async {
            let wanted = mapping::status(request.status())?;
            let row = set_status::set_status(&self.database, &caller, &request.name, wanted).await?;
            Ok::<_, Error>(SetToolStatusResponse { tool: Some(View::Full.tool(&row)?) })
        };
        answer(set.await)
    }

    async fn update_tool(&self, request: Request<UpdateToolRequest>) -> Answer<UpdateToolResponse> {
        let caller = caller(&request)?.caller;
        let updated = async {
            let (name, change) = settings::change(request.into_inner())?;
            let row = update::update(&self.database, &caller, &name, change).await?;
            Ok::<_, Error>(UpdateToolResponse { tool: Some(View::Full.tool(&row)?) })
        };
        answer(updated.await)
    }

    async fn set_fallbacks(&self, request: Request<SetFallbacksRequest>) -> Answer<SetFallbacksResponse> {
        let caller = caller(&request)?.caller;
        let set = async {
            let (name, change) = settings::fallbacks_change(request.into_inner())?;
            let row = update::update(&self.database, &caller, &name, change).await?;
            Ok::<_, Error>(SetFallbacksResponse { tool: Some(View::Full.tool(&row)?) })
        };
        answer(set.await)
    }

    async fn get_fallbacks(&self, request: Request<GetFallbacksRequest>) -> Answer<GetFallbacksResponse> {
        let Caller { team, .. } = caller(&request)?.caller;
        let name = request.into_inner().name;
        let found = fallbacks::fallbacks(&self.database, &team, &name).await;
        answer(found.map(settings::resolved))
    }

    async fn watch_tools(&self, request: Request<WatchToolsRequest>) -> Answer<Events> {
        let caller = Call::of(&request).map_err(|status| *status)?.caller;
        let from_revision = request.into_inner().from_revision;
        if !(0..i64::MAX).contains(&from_revision) {
            return Err(status(&Error::invalid(
                "from_revision",
                "must be a revision of an earlier answer, or 0",
            )));
        }
        // A service that speaks for itself sees every team; nobody else is without one. Every call waits for its copy of
        // the catalog, and so it needs no place.
        let sees_all = caller.is_service() && caller.team.is_empty();
        let place = (!sees_all).then(|| self.watches.take(caller.team.clone(), 1)).transpose();
        let place = place.map_err(|full| status(&Error::from(full)))?;
        let view = View::of(&caller);
        let options = Options {
            database: self.database.clone(),
            revision: self.revision.clone(),
            team: (!sees_all).then_some(caller.team),
            from_revision,
            heartbeat: self.heartbeat,
            stop: self.stop.clone(),
        };
        let events = watch::watch(options, place);
        let responses = events
            .map(move |event| event.and_then(|event| view.event(event)).map_err(|error| status(&error)));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn register_server(
        &self,
        request: Request<RegisterServerRequest>,
    ) -> Answer<RegisterServerResponse> {
        let call = caller(&request)?;
        let registered = async {
            let new = mapping::new_server(request.into_inner())?;
            let (server, tools) = self.servers.register(&call.caller, new, call.time_left()).await?;
            let server = Some(mapping::server(server));
            Ok::<_, Error>(RegisterServerResponse { server, tools: View::Full.tools(&tools)? })
        };
        answer(registered.await)
    }

    async fn list_servers(&self, request: Request<ListServersRequest>) -> Answer<ListServersResponse> {
        let Caller { team, .. } = caller(&request)?.caller;
        let listed = self.servers.list(&team).await;
        let response = listed
            .map(|rows| ListServersResponse { servers: rows.into_iter().map(mapping::server).collect() });
        answer(response)
    }

    async fn refresh_server(&self, request: Request<RefreshServerRequest>) -> Answer<RefreshServerResponse> {
        let call = caller(&request)?;
        let name = request.into_inner().name;
        let refreshed = self.servers.refresh(&call.caller.team, &name, call.time_left()).await;
        answer(refreshed.map(|row| RefreshServerResponse { server: Some(mapping::server(row)) }))
    }

    async fn remove_server(&self, request: Request<RemoveServerRequest>) -> Answer<RemoveServerResponse> {
        let caller = caller(&request)?.caller;
        let removed = self.servers.remove(&caller, &request.into_inner().name).await;
        let count = |disabled| i32::try_from(disabled).unwrap_or(i32::MAX);
        answer(removed.map(|disabled| RemoveServerResponse { tools_disabled: count(disabled) }))
    }

    async fn search_tools(&self, request: Request<SearchToolsRequest>) -> Answer<SearchToolsResponse> {
        let call = caller(&request)?;
        answer(find::search(self, &call, request.into_inner()).await)
    }

    async fn approve_definition(
        &self,
        request: Request<ApproveDefinitionRequest>,
    ) -> Answer<ApproveDefinitionResponse> {
        let call = caller(&request)?;
        answer(review::approve(self, &call, request.into_inner()).await)
    }

    async fn export_tools(&self, request: Request<ExportToolsRequest>) -> Answer<ExportToolsResponse> {
        let call = caller(&request)?;
        answer(find::export(self, &call, request.into_inner()).await)
    }

    async fn import_open_api(&self, request: Request<ImportOpenApiRequest>) -> Answer<ImportOpenApiResponse> {
        let call = caller(&request)?;
        answer(open_api::import(self, &call, request.into_inner()).await)
    }

    async fn import_grpc(&self, request: Request<ImportGrpcRequest>) -> Answer<ImportGrpcResponse> {
        let call = caller(&request)?;
        answer(grpc::import(self, &call, request.into_inner()).await)
    }

    async fn get_registry_health(
        &self,
        request: Request<GetRegistryHealthRequest>,
    ) -> Answer<GetRegistryHealthResponse> {
        let call = caller(&request)?;
        answer(health::health(self, &call, request.into_inner()).await)
    }

    async fn put_credential(&self, request: Request<PutCredentialRequest>) -> Answer<PutCredentialResponse> {
        let call = caller(&request)?;
        answer(credentials::put(self, &call, request.into_inner()).await)
    }

    async fn rotate_credential(
        &self,
        request: Request<RotateCredentialRequest>,
    ) -> Answer<RotateCredentialResponse> {
        let call = caller(&request)?;
        answer(credentials::rotate(self, &call, request.into_inner()).await)
    }

    async fn revoke_credential(
        &self,
        request: Request<RevokeCredentialRequest>,
    ) -> Answer<RevokeCredentialResponse> {
        let call = caller(&request)?;
        answer(credentials::revoke(self, &call, request.into_inner()).await)
    }

    async fn list_credentials(
        &self,
        request: Request<ListCredentialsRequest>,
    ) -> Answer<ListCredentialsResponse> {
        let call = caller(&request)?;
        answer(credentials::list(self, &call, request.into_inner()).await)
    }

    async fn resolve_credential(
        &self,
        request: Request<ResolveCredentialRequest>,
    ) -> Answer<ResolveCredentialResponse> {
        let call = caller(&request)?;
        answer(credentials::resolve(self, &call, request.into_inner()).await)
    }
}
