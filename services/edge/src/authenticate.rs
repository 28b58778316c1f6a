//! Who calls, and for whom? From an API key or a token to a caller, by the permissions service. What is missing,
//! malformed, unknown or revoked gets one and the same answer. Must never ask again and again for whoever guesses.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, header::AUTHORIZATION};
use moka::future::Cache;
use proto::permissions::v1::{
    AuthenticateRequest, AuthenticateResponse, permissions_service_client::PermissionsServiceClient,
};
use rpc::{ErrorReason, Link, Outgoing};
use tonic::{Code, Status};
use types::{Caller, Kind, Role};

use crate::strangers::Strangers;

/// Metadata key for clients that cannot set `authorization`.
const API_KEY_HEADER: &str = "x-api-key";
/// Metadata key by which a client says for which end user it acts.
pub(crate) const USER_HEADER: &str = "on-behalf-of";
/// Most characters of an end user's name.
const MAX_USER: usize = 256;
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
    remembered: Cache<String, Known>,
    /// Keys that are not valid, and the answer they got. Apart from the others: made-up keys displace none of them.
    rejected: Cache<String, Status>,
    /// Keys that were valid lately: they are asked for again, but never for the guesses of a neighbour refused.
    proven: Cache<String, ()>,
    strangers: Strangers,
}

/// Whose a key is, and until when.
#[derive(Debug, Clone)]
struct Known {
    caller: Caller,
    end: Option<SystemTime>,
    /// When the question was asked: what was revoked after it is not known.
    asked: Instant,
}

impl Known {
    fn is_believed(&self) -> bool {
        self.asked.elapsed() < BELIEVED && self.end.is_none_or(|end| SystemTime::now() < end)
    }
}

impl Authenticator {
    pub(crate) fn new(permissions: Link, outgoing: Outgoing, strangers: Strangers) -> Self {
        let remembered = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        let rejected = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        let proven = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(PROVEN).build();
        Self { permissions, outgoing, remembered, rejected, proven, strangers }
    }

    /// The caller whose key the request carries, for the end user that it says. Calls without a valid key count against
    /// the address they come from.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Caller, Box<Status>> {
        let caller = self.owner(headers, peer).await?;
        for_user(caller, headers)
    }

    async fn owner(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Caller, Box<Status>> {
        let Some(key) = presented(headers) else {
            return Err(Box::new(self.strangers.count(peer).err().unwrap_or_else(unauthenticated)));
        };
        let digest = types::digest_bytes(key.as_bytes());
        let known = self.remembered.get(&digest).await;
        if let Some(known) = known.filter(Known::is_believed) {
            return Ok(known.caller);
        }
        if let Some(rejection) = self.rejected.get(&digest).await {
            return Err(Box::new(self.strangers.count(peer).err().unwrap_or(rejection)));
        }
        if !self.proven.contains_key(&digest) {
            self.strangers.check(peer)?;
        }
        match self.ask(key, peer).await {
            Ok(known) => {
                self.proven.insert(digest.clone(), ()).await;
                self.remembered.insert(digest, known.clone()).await;
                Ok(known.caller)
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

    async fn ask(&self, key: &str, peer: Option<SocketAddr>) -> Result<Known, Status> {
        let asked = Instant::now();
        let peer = peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        let ask = || {
            let mut client = PermissionsServiceClient::new(self.permissions.clone());
            let message = AuthenticateRequest { credential: key.to_owned(), peer: peer.clone() };
            let request = self.outgoing.own_request(TIMEOUT, message);
            async move { client.authenticate(request).await }
        };
        let answer = self.outgoing.read(ask).await?;
        // A time that cannot be told is past: such a key is asked for each time.
        let end = answer.expire_time.map(|end| SystemTime::try_from(end).unwrap_or(SystemTime::UNIX_EPOCH));
        Ok(Known { caller: caller(answer), end, asked })
    }
}

/// The caller, acting for the end user whom the request names. A token that names one knows better.
fn for_user(caller: Caller, headers: &HeaderMap) -> Result<Caller, Box<Status>> {
    let mut named = headers.get_all(USER_HEADER).iter();
    let Some(user) = named.next() else { return Ok(caller) };
    let is_user =
        |user: &&[u8]| (1..=MAX_USER).contains(&user.len()) && user.iter().all(u8::is_ascii_graphic);
    let user = Some(user.as_bytes()).filter(is_user).and_then(|user| std::str::from_utf8(user).ok());
    let Some(user) = user.filter(|_| named.next().is_none()) else {
        let message =
            format!("{USER_HEADER} must be once, and name a user by 1 to {MAX_USER} visible characters");
        return Err(Box::new(rpc::status_with_reason(Kind::Invalid, ErrorReason::InvalidRequest, message)));
    };
    if !caller.user.is_empty() && caller.user != user {
        let message =
            format!("the token is for another user than {USER_HEADER} names; leave {USER_HEADER} out");
        return Err(Box::new(rpc::status_with_reason(Kind::Denied, ErrorReason::InvalidRequest, message)));
    }
    Ok(Caller { user: user.to_owned(), ..caller })
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
    let message = "the API key or token is missing or not valid";
    rpc::status_with_reason(Kind::Unauthenticated, ErrorReason::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_once_in_visible_characters_and_never_another_than_the_tokens() {
        let caller = |user: &str| Caller { user: user.to_owned(), service: None, ..Caller::service("x") };
        let with = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(USER_HEADER, http::HeaderValue::from_bytes(value).unwrap());
            }
            headers
        };
        let named = |user: &str, values: &[&[u8]]| {
            for_user(caller(user), &with(values)).map(|caller| caller.user).map_err(|status| status.code())
        };
        assert_eq!(named("", &[]), Ok(String::new()));
        assert_eq!(named("ann", &[]), Ok("ann".to_owned()));
        assert_eq!(named("", &[b"ann@example.com"]), Ok("ann@example.com".to_owned()));
        assert_eq!(named("ann", &[b"ann"]), Ok("ann".to_owned()));
        assert_eq!(named("ann", &[b"bob"]), Err(Code::PermissionDenied));
        assert_eq!(named("", &[&[b'x'; 256]]), Ok("x".repeat(256)));
        let odd: [&[&[u8]]; 6] =
            [&[b""], &[b"a b"], &[b"a\tb"], &["é".as_bytes()], &[&[b'x'; 257]], &[b"ann", b"ann"]];
        for odd in odd {
            assert_eq!(named("", odd), Err(Code::InvalidArgument), "{odd:?}");
        }
    }

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
