//! What the audit service asks of the executor, of permissions and of the selector, in its own name. Never asks on behalf
//! of a caller: they answer services alone.

use std::time::Duration;

use ::rpc::{Link, Outgoing};
use chrono::{DateTime, Utc};
use proto::{
    executor::v1 as executor, executor::v1::executor_service_client::ExecutorServiceClient,
    permissions::v1 as permissions, permissions::v1::permissions_service_client::PermissionsServiceClient,
    selector::v1 as selector, selector::v1::selector_service_client::SelectorServiceClient,
};
use types::Kind;
use uuid::Uuid;

use crate::{Error, verdict::Known};

/// How long a page of intents may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request to erase may take: longer than any service works at one.
const ERASE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest page of intents, in bytes: 10,000 of them and room.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// The services that are asked. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    pub executor: Link,
    pub permissions: Link,
    pub selector: Link,
    pub outgoing: Outgoing,
}

/// One intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intent {
    pub id: Uuid,
    pub known: Known,
}

/// Which intents.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub after: Option<Uuid>,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// What one part of the suite has erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ErasedThere {
    /// Executions, access requests, or selections.
    pub rows: i64,
    /// Cached answers, messages to webhooks, or feedback.
    pub passing: i64,
    /// Files.
    pub files: i64,
    pub done: bool,
}

/// Whose data, of what was made before when.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub team: String,
    pub user: String,
    pub before: DateTime<Utc>,
    pub erasure: Uuid,
}

impl Peers {
    /// The teams that have executions made before a time.
    pub(crate) async fn teams(&self, to: DateTime<Utc>) -> Result<Vec<String>, Error> {
        let asked = executor::ListIntentsRequest { end_time: Some(stamp(to)), ..Default::default() };
        Ok(self.list(asked).await?.teams)
    }

    /// A page of intents in order, and whether there are more.
    pub(crate) async fn intents(
        &self,
        team: &str,
        range: &Range,
        page: i32,
    ) -> Result<(Vec<Intent>, bool), Error> {
        let asked = executor::ListIntentsRequest {
            team_id: team.to_owned(),
            after_execution_id: range.after.map(|id| id.to_string()).unwrap_or_default(),
            start_time: Some(stamp(range.from)),
            end_time: Some(stamp(range.to)),
            page_size: page,
            ..Default::default()
        };
        let answer = self.list(asked).await?;
        Ok((answer.intents.iter().filter_map(intent).collect(), answer.more))
    }

    /// Those of these executions that are on record; at most 1,000 are asked for.
    pub(crate) async fn intents_of(&self, team: &str, ids: &[Uuid]) -> Result<Vec<Intent>, Error> {
        let asked = executor::ListIntentsRequest {
            team_id: team.to_owned(),
            end_time: Some(stamp(Utc::now())),
            execution_ids: ids.iter().map(Uuid::to_string).collect(),
            ..Default::default()
        };
        Ok(self.list(asked).await?.intents.iter().filter_map(intent).collect())
    }

    async fn list(
        &self,
        asked: executor::ListIntentsRequest,
    ) -> Result<executor::ListIntentsResponse, Error> {
        let call = || {
            let request = self.outgoing.own_request(LIST_TIMEOUT, asked.clone());
            let client = ExecutorServiceClient::new(self.executor.clone());
            async move { client.max_decoding_message_size(MAX_PAGE_BYTES).list_intents(request).await }
        };
        self.outgoing.read(call).await.map_err(|status| match ::rpc::kind_of(&status) {
            Kind::Unavailable | Kind::Deadline => Error::peer("executor", &status),
            _ => Error::PeerFailed { service: "executor", message: status.message().to_owned() },
        })
    }

    /// Erases what the executor keeps of a user.
    pub(crate) async fn erase_executions(&self, subject: &Subject) -> Result<ErasedThere, Error> {
        let asked = executor::EraseUserRequest {
            team_id: subject.team.clone(),
            user: subject.user.clone(),
            end_time: Some(stamp(subject.before)),
            erasure_id: subject.erasure.to_string(),
        };
        let request = self.outgoing.own_request(ERASE_TIMEOUT, asked);
        let answer = ExecutorServiceClient::new(self.executor.clone()).erase_user(request).await;
        let answer = answer.map_err(|status| Error::peer("executor", &status))?.into_inner();
        let executor::EraseUserResponse { executions, cached, artifacts, done } = answer;
        Ok(ErasedThere { rows: executions, passing: cached, files: artifacts, done })
    }

    /// Erases what permissions keeps of a user.
    pub(crate) async fn erase_requests(&self, subject: &Subject) -> Result<ErasedThere, Error> {
        let asked = permissions::EraseUserRequest {
            team_id: subject.team.clone(),
            user: subject.user.clone(),
            end_time: Some(stamp(subject.before)),
            erasure_id: subject.erasure.to_string(),
        };
        let request = self.outgoing.own_request(ERASE_TIMEOUT, asked);
        let answer = PermissionsServiceClient::new(self.permissions.clone()).erase_user(request).await;
        let answer = answer.map_err(|status| Error::peer("permissions", &status))?.into_inner();
        let permissions::EraseUserResponse { access_requests, deliveries, done } = answer;
        Ok(ErasedThere { rows: access_requests, passing: deliveries, files: 0, done })
    }

    /// Erases what the selector keeps of a user.
    pub(crate) async fn erase_selections(&self, subject: &Subject) -> Result<ErasedThere, Error> {
        let asked = selector::EraseUserRequest {
            team_id: subject.team.clone(),
            user: subject.user.clone(),
            end_time: Some(stamp(subject.before)),
            erasure_id: subject.erasure.to_string(),
        };
        let request = self.outgoing.own_request(ERASE_TIMEOUT, asked);
        let answer = SelectorServiceClient::new(self.selector.clone()).erase_user(request).await;
        let answer = answer.map_err(|status| Error::peer("selector", &status))?.into_inner();
        let selector::EraseUserResponse { selections, feedback, done } = answer;
        Ok(ErasedThere { rows: selections, passing: feedback, files: 0, done })
    }
}

fn intent(told: &executor::Intent) -> Option<Intent> {
    let known = Known {
        ended: told.ended,
        end_time: told.end_time.and_then(time),
        latest_end_time: told.latest_end_time.and_then(time),
    };
    Some(Intent { id: told.execution_id.parse().ok()?, known })
}

fn time(at: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

fn stamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}
