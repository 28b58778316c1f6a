//! Asks permissions for approvals: makes the access request of a call that needs one, and reads what became of it. Only
//! sanitised arguments leave by here. Allows nothing: that is decided by `authorize.rs` alone.

use std::time::Duration;

use ::rpc::kind_of;
use proto::permissions::v1::{
    AccessRequest, GetAccessRequestRequest, RequestAccessRequest, Role,
    permissions_service_client::PermissionsServiceClient,
};
use types::{Caller, Kind};
use uuid::Uuid;

use crate::{Error, authorize::Authorizer};

/// How long permissions may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A call that needs an approval.
pub(crate) struct Unapproved<'a> {
    pub tool_name: &'a str,
    pub tool_digest: &'a str,
    /// Sanitised.
    pub arguments_json: String,
    pub arguments_digest: &'a str,
    pub justification: &'a str,
    /// What it was told when it asked for permission.
    pub message: String,
    pub approver_role: i32,
}

impl Authorizer {
    /// The id of the access request for a call: the one that is open for it, or a new one.
    pub(crate) async fn request_access(
        &self,
        caller: &Caller,
        call: &Unapproved<'_>,
        waiting: Option<Uuid>,
    ) -> Result<Uuid, Error> {
        let request = RequestAccessRequest {
            tool_name: call.tool_name.to_owned(),
            tool_digest: call.tool_digest.to_owned(),
            arguments_json: call.arguments_json.clone(),
            arguments_digest: call.arguments_digest.to_owned(),
            justification: call.justification.to_owned(),
            ttl_s: 0,
            execution_id: waiting.map(|id| id.to_string()).unwrap_or_default(),
            approver_role: call.approver_role,
        };
        let request = self.outgoing.request(caller, TIMEOUT, request);
        let answer = PermissionsServiceClient::new(self.permissions.clone()).request_access(request).await;
        let refused = |why: &str| Error::Unapproved {
            message: format!("{}; no access request could be made: {why}", call.message),
            approver_role: call.approver_role,
            access_request_id: None,
        };
        let answer = answer.map_err(|status| match kind_of(&status) {
            Kind::Unavailable | Kind::Deadline | Kind::Internal => peer(&status),
            _ => refused(status.message()),
        })?;
        let made = answer.into_inner().access_request.unwrap_or_default();
        made.id.parse().map_err(|_| refused("permissions answered without one"))
    }

    /// What became of an access request; `None`: there is none.
    pub(crate) async fn access_request(
        &self,
        caller: &Caller,
        id: Uuid,
    ) -> Result<Option<AccessRequest>, Error> {
        let ask = || {
            let (mut client, id) = (PermissionsServiceClient::new(self.permissions.clone()), id.to_string());
            let request = self.outgoing.request(caller, TIMEOUT, GetAccessRequestRequest { id });
            async move { client.get_access_request(request).await }
        };
        match self.outgoing.read(ask).await {
            Ok(answer) => Ok(answer.access_request),
            Err(status) if kind_of(&status) == Kind::NotFound => Ok(None),
            Err(status) => Err(peer(&status)),
        }
    }
}

impl Unapproved<'_> {
    /// The refusal of a call that does not wait.
    pub(crate) fn refused(&self, access_request: Uuid) -> Error {
        let role = Role::try_from(self.approver_role).unwrap_or_default();
        let role = role.as_str_name().trim_start_matches("ROLE_").to_lowercase();
        let message = format!(
            "{}; access request {access_request} asks for it, and somebody of role {role} or higher decides: \
             toolcrib approvals show {access_request}",
            self.message
        );
        Error::Unapproved {
            message,
            approver_role: self.approver_role,
            access_request_id: Some(access_request),
        }
    }
}

fn peer(status: &(impl std::fmt::Display + ?Sized)) -> Error {
    Error::Peer { service: "permissions", status: status.to_string() }
}
