//! The executor, permissions and the selector, played by fakes that serve the generated traits: they say what a test tells them to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use ::rpc::{Link, Outgoing, TokenKey};
use chrono::{DateTime, Utc};
use proto::{
    executor::v1::{
        EraseUserRequest, EraseUserResponse, Intent, ListIntentsRequest, ListIntentsResponse,
        executor_service_server::{ExecutorService, ExecutorServiceServer},
    },
    permissions::v1::{
        EraseUserRequest as EraseRequestsRequest, EraseUserResponse as EraseRequestsResponse,
        permissions_service_server::{PermissionsService, PermissionsServiceServer},
    },
    selector::v1::{
        EraseUserRequest as EraseSelectionsRequest, EraseUserResponse as EraseSelectionsResponse,
        selector_service_server::{SelectorService, SelectorServiceServer},
    },
};
use secrecy::SecretString;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{payload::timestamp, peers::Peers};

/// What the executor has on record, and how all answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fakes {
    /// By team and id: whether it ended, when, and until when it may run.
    pub intents: Arc<Mutex<BTreeMap<(String, Uuid), Intent>>>,
    /// All are away.
    pub away: Arc<Mutex<bool>>,
    /// Calls of the user still run.
    pub busy: Arc<Mutex<bool>>,
    /// A selection of the user may still be written.
    pub writing: Arc<Mutex<bool>>,
    /// What they were told to erase: team, user, erasure.
    pub erased: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Fakes {
    pub(crate) fn peers(&self) -> Peers {
        let key = TokenKey::new(&SecretString::from("s".repeat(32)));
        let executor: Link = ::rpc::local(ExecutorServiceServer::new(self.clone()));
        let permissions = ::rpc::local(PermissionsServiceServer::new(self.clone()));
        let selector = ::rpc::local(SelectorServiceServer::new(self.clone()));
        Peers { executor, permissions, selector, outgoing: Outgoing::new("audit", key) }
    }

    /// Puts an execution of this id on record; one without an end runs until `latest`.
    pub(crate) fn intent(
        &self,
        team: &str,
        id: Uuid,
        end: Option<DateTime<Utc>>,
        latest: Option<DateTime<Utc>>,
    ) {
        let intent = Intent {
            execution_id: id.to_string(),
            ended: end.is_some(),
            end_time: end.map(timestamp),
            latest_end_time: latest.map(timestamp),
            ..Intent::default()
        };
        self.intents.lock().unwrap().insert((team.to_owned(), id), intent);
    }

    fn there(&self) -> Result<(), Status> {
        if *self.away.lock().unwrap() { Err(Status::unavailable("away")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl ExecutorService for Fakes {
    async fn list_intents(
        &self,
        request: Request<ListIntentsRequest>,
    ) -> Result<Response<ListIntentsResponse>, Status> {
        self.there()?;
        let asked = request.into_inner();
        let known = self.intents.lock().unwrap();
        if asked.team_id.is_empty() {
            let mut teams: Vec<String> = known.keys().map(|(team, _)| team.clone()).collect();
            teams.dedup();
            return Ok(Response::new(ListIntentsResponse { teams, ..ListIntentsResponse::default() }));
        }
        let floor = |at: Option<prost_types::Timestamp>| {
            at.map_or(0, |at| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000)
        };
        let (from, to) = (floor(asked.start_time), floor(asked.end_time));
        let made = |id: &Uuid| i64::try_from(id.as_u128() >> 80).unwrap();
        let own = known.iter().filter(|((team, _), _)| *team == asked.team_id);
        let own = own.filter(|((_, id), _)| match asked.execution_ids.as_slice() {
            [] => made(id) >= from && made(id) < to && id.to_string() > asked.after_execution_id,
            ids => ids.contains(&id.to_string()),
        });
        let all: Vec<Intent> = own.map(|(_, intent)| intent.clone()).collect();
        // Small pages, whatever is asked for.
        let page = if asked.execution_ids.is_empty() { 3 } else { all.len() };
        let more = all.len() > page;
        let intents = all.into_iter().take(page).collect();
        Ok(Response::new(ListIntentsResponse { intents, more, teams: Vec::new() }))
    }

    async fn erase_user(
        &self,
        request: Request<EraseUserRequest>,
    ) -> Result<Response<EraseUserResponse>, Status> {
        self.there()?;
        let asked = request.into_inner();
        self.erased.lock().unwrap().push((asked.team_id, asked.user, asked.erasure_id));
        let done = !*self.busy.lock().unwrap();
        Ok(Response::new(EraseUserResponse { executions: 5, cached: 2, artifacts: 1, done }))
    }
}

#[tonic::async_trait]
impl PermissionsService for Fakes {
    async fn erase_user(
        &self,
        _request: Request<EraseRequestsRequest>,
    ) -> Result<Response<EraseRequestsResponse>, Status> {
        self.there()?;
        Ok(Response::new(EraseRequestsResponse { access_requests: 3, deliveries: 1, done: true }))
    }
}

#[tonic::async_trait]
impl SelectorService for Fakes {
    async fn erase_user(
        &self,
        _request: Request<EraseSelectionsRequest>,
    ) -> Result<Response<EraseSelectionsResponse>, Status> {
        self.there()?;
        let done = !*self.writing.lock().unwrap();
        Ok(Response::new(EraseSelectionsResponse { selections: 6, feedback: 2, done }))
    }
}
