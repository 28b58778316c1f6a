//! Asks the permissions service, and settles what it reserved. Permissions unreachable means denied.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ::rpc::{ErrorReason, Link, Outgoing};
use chrono::Utc;
use limit::Standing;
use proto::{
    permissions::v1::{
        AuthorizeRequest, AuthorizeResponse, Period, Quota, SettleReservationRequest,
        permissions_service_client::PermissionsServiceClient,
    },
    registry::v1::Tool,
};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use types::{Caller, Kind};
use uuid::Uuid;

use crate::{Error, events::Settlement, resolve::definition};

/// How long a decision may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The windows of a quota and of a budget.
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// A budget is kept in millionths of a US dollar and told in cents.
const MICRO_USD_PER_CENT: i64 = 10_000;
/// How often settling is tried before it is left to the reservation's expiry.
const SETTLE_ATTEMPTS: u32 = 5;

/// A call that may be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decision {
    pub id: Option<Uuid>,
    pub reserved: bool,
    /// What is left of the caller's quota and of the team's budget.
    pub standings: Vec<Standing>,
}

/// The question whether an execution may run a tool with these arguments, of this digest.
pub(crate) fn question(
    tool: &Tool,
    arguments_json: &str,
    arguments_digest: String,
    execution: Uuid,
) -> Result<AuthorizeRequest, Error> {
    let definition = definition(tool)?;
    Ok(AuthorizeRequest {
        tool_name: definition.name.clone(),
        tool_digest: tool.digest.clone(),
        effect: definition.effect,
        sensitivity: definition.sensitivity,
        arguments_digest,
        execution_id: execution.to_string(),
        cost_micro_usd: definition.cost_micro_usd,
        arguments_json: if arguments_json.trim().is_empty() { "{}" } else { arguments_json }.to_owned(),
        ..AuthorizeRequest::default()
    })
}

/// The way to the permissions service.
#[derive(Debug, Clone)]
pub(crate) struct Authorizer {
    pub permissions: Link,
    pub outgoing: Outgoing,
}

/// A decision whose place is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    authorizer: Authorizer,
    runs: TaskTracker,
    caller: Caller,
    decision: Option<Decision>,
}

impl Reserved {
    /// The decision; whoever takes it settles it.
    pub(crate) fn keep(mut self) -> Decision {
        self.decision.take().unwrap_or_default()
    }

    /// What it comes to.
    pub(crate) fn charge(self, committed: bool, cost_micro_usd: i64) -> Charge {
        Charge { reserved: self, committed, cost_micro_usd, is_recorded: AtomicBool::new(false) }
    }

    /// Settles it, in a task of its own: permissions may be slow.
    fn end(&mut self, committed: bool, cost_micro_usd: i64) {
        let Some(decision) = self.decision.take() else { return };
        let (authorizer, caller) = (self.authorizer.clone(), self.caller.clone());
        if decision.reserved {
            self.runs.spawn(async move {
                authorizer.settle(&caller, &decision, committed, cost_micro_usd).await;
            });
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.end(false, 0);
    }
}

/// What a decision comes to. It is recorded with the outcome of its call, so that no death of the process parts the
/// two; where no outcome was recorded, it is settled when this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    reserved: Reserved,
    committed: bool,
    cost_micro_usd: i64,
    is_recorded: AtomicBool,
}

impl Charge {
    /// The same as it is recorded; `None`: nothing was reserved.
    pub(crate) fn settlement(&self) -> Option<Settlement> {
        let decision = self.reserved.decision.as_ref().filter(|decision| decision.reserved)?;
        Some(Settlement {
            team_id: self.reserved.caller.team.clone(),
            agent_id: self.reserved.caller.agent.clone(),
            decision_id: decision.id?,
            committed: self.committed,
            cost_micro_usd: self.cost_micro_usd,
        })
    }

    /// From here on the record settles it.
    pub(crate) fn recorded(&self) {
        self.is_recorded.store(true, Ordering::Release);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.is_recorded.load(Ordering::Acquire) {
            self.reserved.decision = None;
        } else {
            self.reserved.end(self.committed, self.cost_micro_usd);
        }
    }
}

impl Authorizer {
    /// The same as `authorize`, and what it reserves is given back when no one waits for the answer any more.
    pub(crate) async fn reserve(
        &self,
        runs: &TaskTracker,
        caller: &Caller,
        request: AuthorizeRequest,
    ) -> Result<Reserved, Error> {
        let (authorizer, runs, caller) = (self.clone(), runs.clone(), caller.clone());
        let (send, answer) = oneshot::channel();
        let asking = {
            let runs = runs.clone();
            async move {
                let decided = authorizer.authorize(&caller, request).await;
                // Whatever no one takes is dropped here, and so given back.
                let _ = send.send(decided.map(|decision| Reserved {
                    authorizer,
                    runs,
                    caller,
                    decision: Some(decision),
                }));
            }
        };
        runs.spawn(asking.instrument(tracing::Span::current()));
        answer.await.unwrap_or_else(|_| Err(Error::Internal("permissions was not asked".into())))
    }

    /// A decision for one call, or the reason why not.
    pub(crate) async fn authorize(
        &self,
        caller: &Caller,
        request: AuthorizeRequest,
    ) -> Result<Decision, Error> {
        let request = self.outgoing.request(caller, TIMEOUT, request);
        let answer = PermissionsServiceClient::new(self.permissions.clone()).authorize(request).await;
        let answer =
            answer.map_err(|status| Error::Peer { service: "permissions", status: status.to_string() })?;
        let answer = answer.into_inner();
        if !answer.allowed {
            return Err(denied(answer));
        }
        let quotas = answer.quotas.iter().filter_map(|quota| match quota.period() {
            Period::Hour => Some(standing("quota", quota, 1, HOUR)),
            Period::Day => Some(standing("quota-day", quota, 1, DAY)),
            // What never starts again has no period that could be told.
            Period::Total | Period::Unspecified => None,
        });
        let budget = answer.budget.map(|budget| standing("budget-cents", &budget, MICRO_USD_PER_CENT, DAY));
        let standings = quotas.chain(budget).collect();
        Ok(Decision { id: answer.decision_id.parse().ok(), reserved: answer.reserved, standings })
    }

    /// Ends a reservation: `committed` when the call was made, and what it cost. Tried a few times; then it
    /// expires.
    pub(crate) async fn settle(
        &self,
        caller: &Caller,
        decision: &Decision,
        committed: bool,
        cost_micro_usd: i64,
    ) {
        let (true, Some(id)) = (decision.reserved, decision.id) else { return };
        for attempt in 0..SETTLE_ATTEMPTS {
            let request = SettleReservationRequest { decision_id: id.to_string(), committed, cost_micro_usd };
            let request = self.outgoing.request(caller, TIMEOUT, request);
            match PermissionsServiceClient::new(self.permissions.clone()).settle_reservation(request).await {
                Ok(_) => return,
                // Settling twice is settling once, so whatever may pass is tried again.
                Err(status)
                    if matches!(
                        rpc::kind_of(&status),
                        Kind::Unavailable | Kind::Deadline | Kind::Internal
                    ) =>
                {
                    tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
                }
                Err(status) => {
                    tracing::warn!(decision.id = %id, "reservation cannot be settled: {}", status.message());
                    return;
                }
            }
        }
        tracing::warn!(decision.id = %id, "reservation is left to expire: permissions cannot be reached");
    }
}

/// A limit of permissions in the form in which limits are told, in units of so many of its own.
fn standing(name: &str, quota: &Quota, unit: i64, period: Duration) -> Standing {
    let count = |number: i64| u32::try_from(number.max(0) / unit).unwrap_or(u32::MAX);
    Standing {
        name: name.to_owned(),
        limit: count(quota.limit),
        remaining: count(quota.limit - quota.used),
        reset: until_reset(quota),
        period,
    }
}

fn until_reset(quota: &Quota) -> Duration {
    let seconds = quota.reset_time.map_or(0, |at| at.seconds - Utc::now().timestamp());
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn denied(answer: AuthorizeResponse) -> Error {
    let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", answer.reason));
    if reason == Some(ErrorReason::ApprovalRequired) {
        let (message, approver_role) = (answer.message, answer.approver_role);
        return Error::Unapproved { message, approver_role, access_request_id: None };
    }
    let quota = match (&answer.budget, &answer.quota) {
        (Some(budget), _) if reason == Some(ErrorReason::BudgetExhausted) => {
            Some(("team:budget".to_owned(), until_reset(budget)))
        }
        (_, quota) => {
            let opens_again = quota.as_ref().filter(|quota| quota.reset_time.is_some());
            opens_again.map(|quota| (format!("grant:{}", answer.grant_id), until_reset(quota)))
        }
    };
    Error::Denied { reason: reason.unwrap_or(ErrorReason::NoGrant), message: answer.message, quota }
}
