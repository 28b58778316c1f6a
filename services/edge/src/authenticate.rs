//! Who calls, and for whom? From an API key or a token to a caller, by the permissions service. What is missing,
//! malformed, unknown or revoked gets one and the same answer. Must never ask again and again for whoever guesses, nor
//! let those who do keep the others waiting.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use moka::future::Cache;
use proto::permissions::v1::{
    AuthenticateRequest, AuthenticateResponse, permissions_service_client::PermissionsServiceClient,
};
use rpc::{ErrorReason, Link, Outgoing};
use tokio::time::Instant;
use tonic::{Code, Status};
use types::{Caller, Kind, Role};

use crate::{
    guesses::Guesses,
    places::{Places, site},
    strangers::Strangers,
};

/// Metadata key for clients that cannot set `authorization`.
const API_KEY_HEADER: &str = "x-api-key";
/// Metadata key by which a client says for which end user it acts.
pub(crate) const USER_HEADER: &str = "on-behalf-of";
/// Most characters of an end user's name.
const MAX_USER: usize = 256;
/// How long a key is believed without asking again: a revocation bites within a second.
pub(crate) const BELIEVED: Duration = Duration::from_millis(900);
/// Keys remembered at once, of each kind.
const MAX_REMEMBERED: u64 = 10_000;
/// How long a key that was valid is asked for whatever else comes from its caller's address.
const PROVEN: Duration = Duration::from_mins(15);
/// How long the permissions service may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Of a key that is newer than this process.
const NEWER: &str =
    "the key is held to scopes that this edge does not know yet; try again once it is upgraded";
/// How soon a key that is about to end is asked for again, at least.
const SOONEST: Duration = Duration::from_millis(100);

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
    /// Questions under way, for all who ask the same.
    questions: Cache<String, Answer>,
    strangers: Strangers,
    guesses: Guesses,
    places: Places,
}

/// Whose a key is, and until when.
#[derive(Debug, Clone)]
struct Known {
    caller: Caller,
    end: Option<SystemTime>,
    /// When the question was asked: what was revoked after it is not known.
    asked: Instant,
}

/// What was said of a key.
#[derive(Debug, Clone)]
struct Answer {
    known: Result<Known, Status>,
    asked: Instant,
}

/// A caller, and when to ask again who that is.
#[derive(Debug)]
pub(crate) struct Recognised {
    pub caller: Caller,
    pub ask_again: Instant,
}

impl Known {
    fn of(answer: AuthenticateResponse, asked: Instant) -> Self {
        // A time that cannot be told is past: such a key is asked for each time.
        let end = answer.expire_time.map(|end| SystemTime::try_from(end).unwrap_or(SystemTime::UNIX_EPOCH));
        Self { caller: caller(answer), end, asked }
    }

    fn is_believed(&self) -> bool {
        self.asked.elapsed() < BELIEVED && self.end.is_none_or(|end| SystemTime::now() < end)
    }

    fn ask_again(&self) -> Instant {
        let now = Instant::now();
        let end = self.end.and_then(|end| end.duration_since(SystemTime::now()).ok());
        let end = end.and_then(|left| now.checked_add(left));
        let believed = self.asked + BELIEVED;
        end.map_or(believed, |end| end.min(believed)).max(now + SOONEST)
    }
}

impl Authenticator {
    pub(crate) fn new(permissions: Link, outgoing: Outgoing, strangers: Strangers, places: Places) -> Self {
        let remembered = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        let rejected = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        let proven = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(PROVEN).build();
        let questions = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build();
        let guesses = Guesses::new();
        Self { permissions, outgoing, remembered, rejected, proven, questions, strangers, guesses, places }
    }

    /// The caller whose key the request carries, for the end user that it says. Calls without a valid key count against
    /// the address they come from.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Caller, Box<Status>> {
        match self.owner(headers, peer).await {
            Ok(known) => for_user(known.caller, headers),
            Err(status) if status.code() == Code::Unauthenticated => {
                self.strangers.count(peer)?;
                Err(status)
            }
            Err(status) => Err(status),
        }
    }

    /// The same while a call is under way, which counts against nobody.
    pub(crate) async fn again(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Recognised, Box<Status>> {
        let known = self.owner(headers, peer).await?;
        let ask_again = known.ask_again();
        Ok(Recognised { caller: for_user(known.caller, headers)?, ask_again })
    }

    async fn owner(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Known, Box<Status>> {
        let Some(key) = presented(headers) else { return Err(Box::new(unauthenticated())) };
        let digest = types::digest_bytes(key.as_bytes());
        let known = self.remembered.get(&digest).await;
        if let Some(known) = known.filter(Known::is_believed) {
            return Ok(known);
        }
        if let Some(rejection) = self.rejected.get(&digest).await {
            return Err(Box::new(rejection));
        }
        let question = |is_guess| Question { key, digest: digest.clone(), peer, is_guess };
        if self.proven.contains_key(&digest) {
            return self.ask_together(&question(false)).await;
        }
        self.strangers.check(peer)?;
        let _place = self.places.unknown(site(peer))?;
        self.ask_together(&question(true)).await
    }

    /// The answer to a question, which is asked once for all who ask it at the same time.
    async fn ask_together(&self, question: &Question<'_>) -> Result<Known, Box<Status>> {
        loop {
            let arrived = Instant::now();
            let entry = self.questions.entry_by_ref(&question.digest);
            let answer = entry.or_insert_with_if(self.ask(question), |_| true).await.into_value();
            // Whoever came late to a slow question asks once more: what was revoked since it was asked bites them.
            if arrived <= answer.asked + BELIEVED {
                return answer.known.map_err(Box::new);
            }
        }
    }

    /// Asks, and remembers what is said.
    async fn ask(&self, question: &Question<'_>) -> Answer {
        let turn = if question.is_guess { Some(self.guesses.turn(site(question.peer)).await) } else { None };
        let asked = Instant::now();
        let _turn = match turn.transpose() {
            Ok(turn) => turn,
            Err(crowded) => return Answer { known: Err(*crowded), asked },
        };
        let known = self.ask_permissions(question).await.map(|answer| Known::of(answer, asked));
        let digest = &question.digest;
        match &known {
            Ok(known) => {
                self.proven.insert(digest.clone(), ()).await;
                self.remembered.insert(digest.clone(), known.clone()).await;
            }
            Err(status) if status.code() == Code::Unauthenticated => {
                self.proven.invalidate(digest).await;
                self.rejected.insert(digest.clone(), status.clone()).await;
            }
            Err(_) => {}
        }
        Answer { known, asked }
    }

    async fn ask_permissions(&self, question: &Question<'_>) -> Result<AuthenticateResponse, Status> {
        let peer = question.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        let ask = || {
            let mut client = PermissionsServiceClient::new(self.permissions.clone());
            let message = AuthenticateRequest { credential: question.key.to_owned(), peer: peer.clone() };
            let request = self.outgoing.own_request(TIMEOUT, message);
            async move { client.authenticate(request).await }
        };
        let answer = self.outgoing.read(ask).await?;
        // A key that is held to what this process does not know yet must not look like one that is held to nothing.
        if !answer.scopes.is_empty() && answer.scopes().next().is_none() {
            return Err(rpc::status_with_reason(Kind::Unavailable, ErrorReason::ServiceUnavailable, NEWER));
        }
        Ok(answer)
    }
}

/// Who is whoever shows this key?
struct Question<'a> {
    key: &'a str,
    digest: String,
    peer: Option<SocketAddr>,
    /// Whether nobody knows the key yet.
    is_guess: bool,
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

/// What the headers say of who calls, for asking again.
pub(crate) fn credential(headers: &HeaderMap) -> HeaderMap {
    let mut credential = HeaderMap::new();
    let own = [API_KEY_HEADER, USER_HEADER].map(HeaderName::from_static);
    for name in own.into_iter().chain([AUTHORIZATION]) {
        for value in headers.get_all(&name) {
            let mut value = value.clone();
            value.set_sensitive(true);
            credential.append(&name, value);
        }
    }
    credential
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
