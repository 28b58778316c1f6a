//! Who calls? From an API key to a caller, by the permissions service. What is missing, malformed,
//! unknown or revoked gets one and the same answer. Must never ask again and again for whoever guesses.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, header::AUTHORIZATION};
use moka::future::Cache;
use proto::permissions::v1::{
    AuthenticateRequest, AuthenticateResponse,
    permissions_service_client::PermissionsServiceClient,
};
use rpc::{ErrorReason, Link, Outgoing};
use tonic::{Code, Status};
use types::{Caller, Kind, Role};

use crate::strangers::Strangers;

/// Metadata key for clients that cannot set `authorization`.
const API_KEY_HEADER: &str = "x-api-key";
/// How long a key is believed without asking again: a revocation bites within a second.
const BELIEVED: Duration = Duration::from_millis(900);
/// Keys remembered at once, of each kind.
const MAX_REMEMBERED: u64 = 10_000;
/// How long a key that was valid is asked for whatever else comes from its caller's address.
const PROVEN: Duration = Duration::from_mins(15);
/// How long the permissions service may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Knows the callers of the last second.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    permissions: Link,
    outgoing: Outgoing,
    /// By SHA-256 of the key: the key itself is not kept.
    remembered: Cache<String, Caller>,
    /// Keys that are not valid, and the answer they got. Apart from the others: made-up keys displace none of them.
    rejected: Cache<String, Status>,
    /// Keys that were valid lately: they are asked for again, but never for the guesses of a neighbour refused.
    proven: Cache<String, ()>,
    strangers: Strangers,
}

impl Authenticator {
    pub(crate) fn new(permissions: Link, outgoing: Outgoing, strangers: Strangers) -> Self {
        let remembered = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        let rejected = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        let proven = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(PROVEN).build();
        Self { permissions, outgoing, remembered, rejected, proven, strangers }
    }

    /// The caller whose key the request carries. Calls without a valid one count against the address they come from.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Caller, Box<Status>> {
        let Some(key) = presented(headers) else {
            return Err(Box::new(self.strangers.count(peer).err().unwrap_or_else(unauthenticated)));
        };
        let digest = types::digest_bytes(key.as_bytes());
        if let Some(caller) = self.remembered.get(&digest).await {
            return Ok(caller);
        }
        if let Some(rejection) = self.rejected.get(&digest).await {
            return Err(Box::new(self.strangers.count(peer).err().unwrap_or(rejection)));
        }
        if !self.proven.contains_key(&digest) {
            self.strangers.check(peer)?;
        }
        match self.ask(key).await {
            Ok(caller) => {
                self.proven.insert(digest.clone(), ()).await;
                self.remembered.insert(digest, caller.clone()).await;
                Ok(caller)
            }
            Err(status) => {
                if status.code() == Code::Unauthenticated {
                    self.proven.invalidate(&digest).await;
                    self.rejected.insert(digest, status.clone()).await;
                    self.strangers.count(peer)?;
                }
                Err(Box::new(status))
            }
        }
    }

    async fn ask(&self, key: &str) -> Result<Caller, Status> {
        let ask = || {
            let mut client = PermissionsServiceClient::new(self.permissions.clone());
            let message = AuthenticateRequest { credential: key.to_owned(), peer: String::new() };
            let request = self.outgoing.own_request(TIMEOUT, message);
            async move { client.authenticate(request).await }
        };
        Ok(caller(self.outgoing.read(ask).await?))
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

fn caller(answer: AuthenticateResponse) -> Caller {
    Caller {
        role: Option::from(answer.role()).unwrap_or(Role::Agent),
        scopes: answer.scopes().filter_map(Option::from).collect(),
        team: answer.team_id,
        agent: answer.agent_id,
        specialization: answer.specialization,
        key_id: answer.key_id,
        user: answer.user,
        service: None,
    }
}

fn unauthenticated() -> Status {
    let message = "the API key is missing or not valid";
    rpc::status_with_reason(Kind::Unauthenticated, ErrorReason::Unauthenticated, message)
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
