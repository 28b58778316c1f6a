//! Who calls? From an API key to a caller, by the permissions service. What is missing, malformed,
//! unknown or revoked gets one and the same answer.

use std::time::Duration;

use http::{HeaderMap, header::AUTHORIZATION};
use moka::future::Cache;
use proto::permissions::v1::{
    AuthenticateApiKeyRequest, AuthenticateApiKeyResponse,
    permissions_service_client::PermissionsServiceClient,
};
use rpc::{ErrorReason, Link, Outgoing};
use tonic::Status;
use types::{Caller, Kind, Role};

/// Metadata key for clients that cannot set `authorization`.
const API_KEY_HEADER: &str = "x-api-key";
/// How long a key is believed without asking again: a revocation bites within a second.
const BELIEVED: Duration = Duration::from_millis(900);
/// Keys remembered at once.
const MAX_REMEMBERED: u64 = 10_000;
/// How long the permissions service may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Knows the callers of the last second.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    permissions: Link,
    outgoing: Outgoing,
    /// By SHA-256 of the key: the key itself is not kept.
    remembered: Cache<String, Caller>,
}

impl Authenticator {
    pub(crate) fn new(permissions: Link, outgoing: Outgoing) -> Self {
        let remembered = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        Self { permissions, outgoing, remembered }
    }

    /// The caller whose key the request carries.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Box<Status>> {
        let key = presented(headers).ok_or_else(unauthenticated)?;
        let digest = types::digest_bytes(key.as_bytes());
        if let Some(caller) = self.remembered.get(&digest).await {
            return Ok(caller);
        }
        let ask = || {
            let mut client = PermissionsServiceClient::new(self.permissions.clone());
            let message = AuthenticateApiKeyRequest { api_key: key.to_owned() };
            let request = self.outgoing.own_request(TIMEOUT, message);
            async move { client.authenticate_api_key(request).await }
        };
        let caller = caller(self.outgoing.read(ask).await.map_err(Box::new)?);
        self.remembered.insert(digest, caller.clone()).await;
        Ok(caller)
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get(API_KEY_HEADER)?.to_str().ok()).filter(|key| !key.is_empty())
}

fn caller(answer: AuthenticateApiKeyResponse) -> Caller {
    Caller {
        role: Option::from(answer.role()).unwrap_or(Role::Agent),
        team: answer.team_id,
        agent: answer.agent_id,
        specialization: answer.specialization,
        key_id: answer.key_id,
        service: None,
    }
}

fn unauthenticated() -> Box<Status> {
    let message = "the API key is missing or not valid";
    Box::new(rpc::status_with_reason(Kind::Unauthenticated, ErrorReason::Unauthenticated, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_either_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(presented(&headers), None);
        headers.insert(API_KEY_HEADER, "b".parse().unwrap());
        assert_eq!(presented(&headers), Some("b"));
        headers.insert(AUTHORIZATION, "bearer a".parse().unwrap());
        assert_eq!(presented(&headers), Some("a"));
        headers.insert(AUTHORIZATION, "Basic a".parse().unwrap());
        headers.remove(API_KEY_HEADER);
        assert_eq!(presented(&headers), None);
    }
}
