//! Asks the permissions service, and settles what it reserved. Permissions unreachable means denied.

use std::time::Duration;

use ::rpc::{ErrorReason, Link, Outgoing};
use chrono::Utc;
use proto::permissions::v1::{
    AuthorizeRequest, AuthorizeResponse, SettleReservationRequest,
    permissions_service_client::PermissionsServiceClient,
};
use types::{Caller, Kind};
use uuid::Uuid;

use crate::Error;

/// How long a decision may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often settling is tried before it is left to the reservation's expiry.
const SETTLE_ATTEMPTS: u32 = 5;

/// A call that may be made.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub id: Option<Uuid>,
    pub reserved: bool,
}

/// The way to the permissions service.
#[derive(Debug, Clone)]
pub(crate) struct Authorizer {
    pub permissions: Link,
    pub outgoing: Outgoing,
}

impl Authorizer {
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
        Ok(Decision { id: answer.decision_id.parse().ok(), reserved: answer.reserved })
    }

    /// Ends a reservation: `committed` when the call was made. Tried a few times; then it expires.
    pub(crate) async fn settle(&self, caller: &Caller, decision: &Decision, committed: bool) {
        let (true, Some(id)) = (decision.reserved, decision.id) else { return };
        for attempt in 0..SETTLE_ATTEMPTS {
            let request = SettleReservationRequest { decision_id: id.to_string(), committed };
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

fn denied(answer: AuthorizeResponse) -> Error {
    let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", answer.reason));
    let quota = answer.quota.map(|quota| {
        let reset = quota.reset_time.map_or(0, |at| at.seconds - Utc::now().timestamp());
        let reset = Duration::from_secs(u64::try_from(reset).unwrap_or(0));
        (format!("grant:{}", answer.grant_id), reset)
    });
    Error::Denied { reason: reason.unwrap_or(ErrorReason::NoGrant), message: answer.message, quota }
}
