//! The services around the executor, played by fakes behind the real stack: they keep what they are told and
//! fail as a test tells them to.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use ::rpc::{ErrorReason, Link, StackOptions, TokenKey, status_with_reason};
use proto::{
    audit::v1::{
        AppendEventsRequest, AppendEventsResponse, Event,
        audit_service_server::{AuditService, AuditServiceServer},
    },
    permissions::v1::{
        AccessRequest, AccessRequestState, AuthorizeRequest, AuthorizeResponse,
        BatchSettleReservationsRequest, BatchSettleReservationsResponse, GetAccessRequestRequest,
        GetAccessRequestResponse, RequestAccessRequest, RequestAccessResponse, Role,
        SettleReservationRequest, SettleReservationResponse, SettlementResult, WatchAccessRequestsRequest,
        WatchAccessRequestsResponse,
        permissions_service_server::{PermissionsService, PermissionsServiceServer},
    },
    registry::v1::{
        GetToolRequest, GetToolResponse, ResolveCredentialRequest, ResolveCredentialResponse,
        registry_service_server::{RegistryService, RegistryServiceServer},
        resolve_credential_response,
    },
    selector::v1::{
        Outcome, RecordOutcomesRequest, RecordOutcomesResponse,
        selector_service_server::{SelectorService, SelectorServiceServer},
    },
};
use tokio::sync::Semaphore;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, service::Routes};
use types::Kind;

type Answer<T> = Result<Response<T>, Status>;

/// What a service is told to answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// UNAVAILABLE, and nothing done.
    Down,
    /// Does it, and answers UNAVAILABLE: the answer is lost.
    Mute,
    /// Refuses whatever speaks of this tool.
    Refuses(String),
}

/// Every fake, and what each was told.
#[derive(Debug, Clone)]
pub(crate) struct Fakes {
    /// Why permissions says no; `None`: it says yes.
    pub denial: Arc<Mutex<Option<AuthorizeResponse>>>,
    /// Why it says no to these tools alone.
    pub denied_tools: Arc<Mutex<HashMap<String, AuthorizeResponse>>>,
    pub permissions: Arc<Mutex<Mood>>,
    /// Authorize waits for a permit; closed, it waits for none.
    pub gate: Arc<Semaphore>,
    pub authorized: Arc<AtomicUsize>,
    /// The next decision; `None`: the execution's id.
    pub next_decision: Arc<Mutex<Option<String>>>,
    /// Access requests in the order in which they were made; the same call asks again for the one that is pending.
    pub access: Arc<Mutex<Vec<(RequestAccessRequest, AccessRequest)>>>,
    /// What is told to those who watch decisions.
    pub decisions: Arc<Mutex<tokio::sync::broadcast::Sender<WatchAccessRequestsResponse>>>,
    /// The revisions that had to be known for a decision.
    pub revisions: Arc<Mutex<Vec<i64>>>,
    /// Decision and whether it was committed.
    pub settled: Arc<Mutex<Vec<(String, bool)>>>,
    /// What was charged, in millionths of a US dollar.
    pub charged: Arc<Mutex<Vec<i64>>>,
    pub audit: Arc<Mutex<Mood>>,
    pub events: Arc<Mutex<Vec<Event>>>,
    /// Events in each request that audit took.
    pub requests: Arc<Mutex<Vec<usize>>>,
    pub selector: Arc<Mutex<Mood>>,
    pub outcomes: Arc<Mutex<Vec<Outcome>>>,
    /// Credentials by name: the version that is given, and the one that is given when that was refused. Every other name
    /// is a key.
    pub credentials: Arc<Mutex<HashMap<String, [resolve_credential_response::Kind; 2]>>>,
}

impl Default for Fakes {
    fn default() -> Self {
        let gate = Semaphore::new(0);
        gate.close();
        Self {
            denial: Arc::default(),
            denied_tools: Arc::default(),
            permissions: Arc::default(),
            gate: Arc::new(gate),
            authorized: Arc::default(),
            next_decision: Arc::default(),
            access: Arc::default(),
            decisions: Arc::new(Mutex::new(tokio::sync::broadcast::Sender::new(64))),
            revisions: Arc::default(),
            settled: Arc::default(),
            charged: Arc::default(),
            audit: Arc::default(),
            events: Arc::default(),
            requests: Arc::default(),
            selector: Arc::default(),
            outcomes: Arc::default(),
            credentials: Arc::default(),
        }
    }
}

impl Fakes {
    /// Whose Authorize waits at the gate until it is closed.
    pub(crate) fn hesitant() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::default() }
    }

    pub(crate) fn links(&self, key: &TokenKey) -> HashMap<&'static str, Link> {
        let options = || StackOptions { key: key.clone(), max_concurrent_requests: 4_096 };
        let link = |routes: Routes| ::rpc::stack(routes, options());
        HashMap::from([
            ("permissions", link(Routes::new(PermissionsServiceServer::new(self.clone())))),
            ("audit", link(Routes::new(AuditServiceServer::new(self.clone())))),
            ("selector", link(Routes::new(SelectorServiceServer::new(self.clone())))),
            ("registry", link(Routes::new(RegistryServiceServer::new(self.clone())))),
        ])
    }

    pub(crate) fn set(mood: &Mutex<Mood>, to: Mood) {
        *mood.lock().unwrap() = to;
    }

    /// Denies every call of one tool.
    pub(crate) fn deny_tool(&self, tool: &str, denial: AuthorizeResponse) {
        self.denied_tools.lock().unwrap().insert(tool.to_owned(), denial);
    }

    /// Says that every call needs an approval.
    pub(crate) fn ask_for_approvals(&self) {
        *self.denial.lock().unwrap() = Some(AuthorizeResponse {
            reason: "APPROVAL_REQUIRED".into(),
            message: "each call needs an approval".into(),
            approver_role: Role::Operator.into(),
            ..AuthorizeResponse::default()
        });
    }

    /// Decides the newest access request, so that it says this of itself.
    pub(crate) fn decide(&self, decide: impl FnOnce(&mut AccessRequest)) {
        decide(&mut self.access.lock().unwrap().last_mut().expect("one was made").1);
    }

    /// How many watch decisions.
    pub(crate) fn watchers(&self) -> usize {
        self.decisions.lock().unwrap().receiver_count()
    }

    /// Tells those who watch.
    pub(crate) fn tell(&self, decided: WatchAccessRequestsResponse) {
        self.decisions.lock().unwrap().send(decided).expect("somebody watches");
    }

    pub(crate) fn settled(&self) -> Vec<(String, bool)> {
        self.settled.lock().unwrap().clone()
    }

    /// The events that arrived, without those that arrived before.
    pub(crate) fn trail(&self) -> Vec<Event> {
        let mut seen = std::collections::HashSet::new();
        self.events.lock().unwrap().iter().filter(|event| seen.insert(event.id.clone())).cloned().collect()
    }
}

fn down() -> Status {
    status_with_reason(Kind::Unavailable, ErrorReason::ServiceUnavailable, "down")
}

#[tonic::async_trait]
impl PermissionsService for Fakes {
    async fn authorize(&self, request: Request<AuthorizeRequest>) -> Answer<AuthorizeResponse> {
        let _ = self.gate.acquire().await.map(tokio::sync::SemaphorePermit::forget);
        if *self.permissions.lock().unwrap() == Mood::Down {
            return Err(down());
        }
        self.authorized.fetch_add(1, Ordering::Relaxed);
        self.revisions.lock().unwrap().push(request.get_ref().at_least_revision);
        if let Some(denial) = self.denial.lock().unwrap().clone() {
            return Ok(Response::new(denial));
        }
        let request = request.into_inner();
        if let Some(denial) = self.denied_tools.lock().unwrap().get(&request.tool_name).cloned() {
            return Ok(Response::new(denial));
        }
        let decision_id = self.next_decision.lock().unwrap().take().unwrap_or(request.execution_id);
        Ok(Response::new(AuthorizeResponse {
            allowed: true,
            reserved: true,
            decision_id,
            ..AuthorizeResponse::default()
        }))
    }

    async fn request_access(&self, request: Request<RequestAccessRequest>) -> Answer<RequestAccessResponse> {
        if *self.permissions.lock().unwrap() == Mood::Down {
            return Err(down());
        }
        let (asked, mut made) = (request.into_inner(), self.access.lock().unwrap());
        let is_open = |(before, state): &&(RequestAccessRequest, AccessRequest)| {
            before.arguments_digest == asked.arguments_digest && state.state() == AccessRequestState::Pending
        };
        if let Some((_, open)) = made.iter().find(is_open) {
            return Ok(Response::new(RequestAccessResponse { access_request: Some(open.clone()) }));
        }
        let state = AccessRequestState::Pending.into();
        let new = AccessRequest { id: types::new_id().to_string(), state, ..AccessRequest::default() };
        made.push((asked, new.clone()));
        Ok(Response::new(RequestAccessResponse { access_request: Some(new) }))
    }

    async fn get_access_request(
        &self,
        request: Request<GetAccessRequestRequest>,
    ) -> Answer<GetAccessRequestResponse> {
        let id = request.into_inner().id;
        let made = self.access.lock().unwrap();
        let found = made.iter().find(|(_, made)| made.id == id).map(|(_, made)| made.clone());
        let missing = || status_with_reason(Kind::NotFound, ErrorReason::NotFound, "there is none");
        Ok(Response::new(GetAccessRequestResponse { access_request: Some(found.ok_or_else(missing)?) }))
    }

    async fn watch_access_requests(
        &self,
        _: Request<WatchAccessRequestsRequest>,
    ) -> Answer<Pin<Box<dyn Stream<Item = Result<WatchAccessRequestsResponse, Status>> + Send>>> {
        if *self.permissions.lock().unwrap() == Mood::Down {
            return Err(down());
        }
        let told = tokio_stream::wrappers::BroadcastStream::new(self.decisions.lock().unwrap().subscribe());
        Ok(Response::new(Box::pin(told.map(|told| told.map_err(|_| down())))))
    }

    async fn settle_reservation(
        &self,
        request: Request<SettleReservationRequest>,
    ) -> Answer<SettleReservationResponse> {
        if *self.permissions.lock().unwrap() == Mood::Down {
            return Err(down());
        }
        let request = request.into_inner();
        self.charged.lock().unwrap().push(request.cost_micro_usd);
        self.settled.lock().unwrap().push((request.decision_id, request.committed));
        Ok(Response::new(SettleReservationResponse {}))
    }

    async fn batch_settle_reservations(
        &self,
        request: Request<BatchSettleReservationsRequest>,
    ) -> Answer<BatchSettleReservationsResponse> {
        if *self.permissions.lock().unwrap() == Mood::Down {
            return Err(down());
        }
        let settlements = request.into_inner().settlements;
        let results = settlements.iter().map(|_| SettlementResult { found: true }).collect();
        for settlement in settlements {
            self.charged.lock().unwrap().push(settlement.cost_micro_usd);
            self.settled.lock().unwrap().push((settlement.decision_id, settlement.committed));
        }
        Ok(Response::new(BatchSettleReservationsResponse { results }))
    }
}

#[tonic::async_trait]
impl AuditService for Fakes {
    async fn append_events(&self, request: Request<AppendEventsRequest>) -> Answer<AppendEventsResponse> {
        let (events, mood) = (request.into_inner().events, self.audit.lock().unwrap().clone());
        match &mood {
            Mood::Down => return Err(down()),
            Mood::Refuses(tool) if events.iter().any(|event| event.tool_name == *tool) => {
                return Err(Status::invalid_argument("not such an event"));
            }
            Mood::Well | Mood::Mute | Mood::Refuses(_) => {}
        }
        self.requests.lock().unwrap().push(events.len());
        self.events.lock().unwrap().extend(events);
        if mood == Mood::Mute { Err(down()) } else { Ok(Response::new(AppendEventsResponse::default())) }
    }
}

#[tonic::async_trait]
impl SelectorService for Fakes {
    async fn record_outcomes(
        &self,
        request: Request<RecordOutcomesRequest>,
    ) -> Answer<RecordOutcomesResponse> {
        if *self.selector.lock().unwrap() == Mood::Down {
            return Err(down());
        }
        self.outcomes.lock().unwrap().extend(request.into_inner().outcomes);
        Ok(Response::new(RecordOutcomesResponse::default()))
    }
}

#[tonic::async_trait]
impl RegistryService for Fakes {
    async fn resolve_credential(
        &self,
        request: Request<ResolveCredentialRequest>,
    ) -> Answer<ResolveCredentialResponse> {
        let ResolveCredentialRequest { name, refused_version } = request.into_inner();
        let known = self.credentials.lock().unwrap().get(&name).cloned();
        let (version, kind) = match known {
            Some([_, second]) if refused_version == 1 => (2, second),
            Some([first, _]) => (1, first),
            None => (1, resolve_credential_response::Kind::ApiKey("a-key-of-the-fakes".into())),
        };
        Ok(Response::new(ResolveCredentialResponse { version, kind: Some(kind), fresh_ms: 900 }))
    }

    async fn get_tool(&self, _: Request<GetToolRequest>) -> Answer<GetToolResponse> {
        Err(status_with_reason(Kind::NotFound, ErrorReason::ToolNotFound, "no such tool"))
    }
}
