//! The edge between a client and services that answer bytes: what it refuses, what it passes on, what it adds.

mod arrivals;
mod authzen;
mod guesses;
mod streams;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use limit::Limiter;
use prost::Message;
use proto::{
    permissions::v1::{AuthenticateRequest, AuthenticateResponse, Role},
    registry::v1::{GetToolRequest, GetToolResponse, registry_service_client::RegistryServiceClient},
};
use rpc::{ErrorReason, Link, ServerOptions, TokenKey};
use tokio::sync::Notify;
use tonic::{Code, Status, body::Body, transport::server::TcpConnectInfo};
use tonic_types::StatusExt;
use tower::service_fn;
use types::Caller;

use crate::{Config, Parts, authenticate::USER_HEADER, start};

/// A gRPC answer: one message, and the status OK behind it.
fn answer(message: &impl Message) -> Response<Body> {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let body = Full::new(frame.freeze()).with_trailers(async { Some(Ok::<_, Infallible>(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}

async fn message<T: Message + Default>(request: Request<Body>) -> T {
    let bytes: Bytes = request.into_body().collect().await.unwrap().to_bytes();
    T::decode(bytes.slice(5..)).unwrap()
}

/// A permissions service that takes any key `team.key` and counts its calls, and a registry that counts its own.
struct House {
    edge: Link,
    calls: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
    /// Callers that the registry saw, and addresses that the permissions service was told.
    seen: Arc<Mutex<(Vec<Caller>, Vec<String>)>>,
    /// Lets an answer for `team.held` go.
    go: Arc<Notify>,
    state: Arc<State>,
}

/// What changes while calls are under way.
#[derive(Default)]
struct State {
    /// Keys that are not valid any more.
    revoked: Mutex<Vec<String>>,
    /// What every key may be used for; empty: all.
    scopes: Mutex<Vec<i32>>,
    /// What every agent is, besides an agent.
    role: Mutex<Role>,
    /// Whether the permissions service cannot be reached.
    is_away: AtomicBool,
    /// Keys that begin with `stuck`, and are being asked for.
    stuck: AtomicUsize,
    /// Streams that the registry serves.
    open: Arc<()>,
    /// Lets a call of `team.slow` go.
    go: Notify,
}

impl State {
    fn streams(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }
}

/// An answer that says one thing and then nothing, for as long as anybody listens.
fn stream(open: Arc<()>) -> Response<Body> {
    let first = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(&[0; 5])))]);
    let silence = stream::pending().map(move |frame| {
        let _ = &open;
        frame
    });
    let body = Body::new(StreamBody::new(first.chain(silence)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

pub(crate) fn config(requests_per_minute: u32, burst: u32) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: String::new(),
        cors_origins: vec![],
        requests_per_minute,
        burst,
        unauthenticated_per_minute: 3,
        tls: crate::config::TlsConfig::default(),
        max_concurrent_requests: 100,
        max_concurrent_requests_per_key: 100,
        max_arriving_bytes: 64 << 20,
    }
}

impl House {
    fn new(requests_per_minute: u32, burst: u32, limiter: Limiter) -> Self {
        Self::with(&config(requests_per_minute, burst), limiter)
    }

    fn with(config: &Config, limiter: Limiter) -> Self {
        let (calls, asked) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counter, questions) = (Arc::clone(&calls), Arc::clone(&asked));
        let go = Arc::new(Notify::new());
        let may_go = Arc::clone(&go);
        let seen = Arc::<Mutex<(Vec<Caller>, Vec<String>)>>::default();
        let (by_registry, by_permissions) = (Arc::clone(&seen), Arc::clone(&seen));
        let key = TokenKey::new(&"0123456789abcdef0123456789abcdef".to_owned().into());
        let tokens = key.clone();
        let state = Arc::<State>::default();
        let (at_registry, at_permissions) = (Arc::clone(&state), Arc::clone(&state));
        let registry = service(move |request| {
            counter.fetch_add(1, Ordering::Relaxed);
            assert!(!request.headers().contains_key(USER_HEADER));
            let token = request.headers().get(rpc::CALLER_HEADER).unwrap().to_str().unwrap();
            let caller = tokens.verify(token).unwrap();
            let (is_slow, state) = (caller.key_id == "slow", Arc::clone(&at_registry));
            by_registry.lock().unwrap().0.push(caller);
            async move {
                if request.uri().path().ends_with("/WatchTools") {
                    return stream(Arc::clone(&state.open));
                }
                if is_slow {
                    state.go.notified().await;
                }
                let mut answer = answer(&GetToolResponse::default());
                answer.headers_mut().insert("ratelimit", "\"tool\";r=7;t=1".parse().unwrap());
                answer
            }
        });
        let permissions = service(move |request| {
            questions.fetch_add(1, Ordering::Relaxed);
            let (may_go, seen) = (Arc::clone(&may_go), Arc::clone(&by_permissions));
            let state = Arc::clone(&at_permissions);
            async move {
                let AuthenticateRequest { credential: key, peer } = message(request).await;
                seen.lock().unwrap().1.push(peer);
                if state.is_away.load(Ordering::Relaxed) {
                    return rpc::error_response(Status::unavailable("away"));
                }
                if key.starts_with("stuck") {
                    state.stuck.fetch_add(1, Ordering::Relaxed);
                    std::future::pending::<()>().await;
                }
                if state.revoked.lock().unwrap().contains(&key) {
                    return rpc::error_response(Status::unauthenticated("the key is not valid"));
                }
                let Some((team, key)) = key.split_once('.') else {
                    return rpc::error_response(Status::unauthenticated("unknown"));
                };
                if key == "held" {
                    may_go.notified().await;
                }
                answer(&AuthenticateResponse {
                    team_id: team.to_owned(),
                    agent_id: "a".to_owned(),
                    key_id: key.to_owned(),
                    user: key.strip_prefix("for-").unwrap_or_default().to_owned(),
                    expire_time: (key == "ended").then(|| SystemTime::now().into()),
                    role: (*state.role.lock().unwrap()).into(),
                    scopes: state.scopes.lock().unwrap().clone(),
                    ..AuthenticateResponse::default()
                })
            }
        });
        let absent = || {
            rpc::local(service_fn(|_: Request<Body>| async {
                Ok::<_, Infallible>(rpc::error_response(Status::unavailable("away")))
            }))
        };
        let parts = Parts {
            registry,
            selector: absent(),
            executor: absent(),
            permissions,
            audit: absent(),
            key,
            limiter,
        };
        assert_eq!(config.validate(), Vec::<String>::new());
        Self { edge: start(config, parts), calls, asked, seen, go, state }
    }

    /// A call for an end user.
    async fn call_for(&self, user: &str, key: &str) -> Result<String, Code> {
        let mut request = tonic::Request::new(GetToolRequest::default());
        request.metadata_mut().insert("x-api-key", key.parse().unwrap());
        request.metadata_mut().insert(USER_HEADER, user.parse().unwrap());
        let answer = RegistryServiceClient::new(self.edge.clone()).get_tool(request).await;
        answer.map_err(|status| status.code())?;
        Ok(self.seen.lock().unwrap().0.last().unwrap().user.clone())
    }

    async fn call(&self, key: &str) -> Result<tonic::Response<GetToolResponse>, Status> {
        self.call_from(None, key).await
    }

    /// A call as it comes over a socket from an address.
    async fn call_from(
        &self,
        address: Option<&str>,
        key: &str,
    ) -> Result<tonic::Response<GetToolResponse>, Status> {
        let mut request = tonic::Request::new(GetToolRequest::default());
        if let Some(address) = address {
            let remote_addr = Some(SocketAddr::new(address.parse().unwrap(), 1));
            request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr });
        }
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        RegistryServiceClient::new(self.edge.clone()).get_tool(request).await
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn service<H, F>(handler: H) -> Link
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    rpc::local(service_fn(move |request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    }))
}

fn fields(metadata: &tonic::metadata::MetadataMap, name: &str) -> Vec<String> {
    metadata.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_that_calls_too_often_is_told_when_to_come_back_and_reaches_no_service() {
    let house = House::new(1, 3, Limiter::memory());
    for left in [2, 1, 0] {
        let answer = house.call("team.key").await.unwrap();
        let [service, key] = &fields(answer.metadata(), "ratelimit")[..] else { panic!("{answer:?}") };
        assert_eq!(service, "\"tool\";r=7;t=1");
        assert!(key.starts_with(&format!("\"key\";r={left};t=")), "{key}");
        assert_eq!(fields(answer.metadata(), "ratelimit-policy"), ["\"key\";q=1;w=60"]);
    }
    let refusal = house.call("team.key").await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert_eq!(rpc::reason_of(&refusal), Some(ErrorReason::RateLimited));
    let details = refusal.get_error_details();
    let retry = details.retry_info().unwrap().retry_delay.unwrap().as_secs_f64();
    assert!(retry > 30.0 && retry <= 60.0, "{retry}");
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "key:key");
    let [left] = &fields(refusal.metadata(), "ratelimit")[..] else { panic!("{refusal:?}") };
    assert!(left.starts_with("\"key\";r=0;t="), "{left}");
    assert_eq!(fields(refusal.metadata(), "ratelimit-policy"), ["\"key\";q=1;w=60"]);
    assert_eq!(house.calls(), 3);
}

#[tokio::test]
async fn each_key_of_each_team_has_its_own_limit() {
    let house = House::new(1, 1, Limiter::memory());
    for key in ["one.a", "one.b", "two.a"] {
        house.call(key).await.unwrap();
        assert_eq!(house.call(key).await.unwrap_err().code(), Code::ResourceExhausted);
    }
    assert_eq!(house.calls(), 3);
}

#[tokio::test]
async fn zero_limits_nothing_and_says_nothing() {
    let house = House::new(0, 0, Limiter::memory());
    for _ in 0..100 {
        let answer = house.call("team.key").await.unwrap();
        assert_eq!(fields(answer.metadata(), "ratelimit"), ["\"tool\";r=7;t=1"]);
        assert!(answer.metadata().get("ratelimit-policy").is_none());
    }
}

#[tokio::test]
async fn edges_over_one_redis_share_the_limit() {
    let server = testkit::redis().await;
    let options = store::RedisOptions {
        urls: vec![server.url()],
        cluster: false,
        timeout: std::time::Duration::from_secs(30),
    };
    let edges = [(); 2].map(|()| House::new(1, 5, Limiter::redis(store::Redis::new(&options).unwrap(), 2)));
    for edge in edges.iter().cycle().take(5) {
        edge.call("team.key").await.unwrap();
    }
    for edge in &edges {
        assert_eq!(edge.call("team.key").await.unwrap_err().code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn whoever_guesses_keys_is_refused_before_anyone_is_asked_and_his_neighbours_are_not() {
    let house = House::new(0, 0, Limiter::memory());
    let (here, elsewhere) = (Some("192.0.2.1"), Some("192.0.2.2"));
    house.call_from(here, "team.known").await.unwrap();
    for guess in ["a", "b", "c"] {
        let refusal = house.call_from(here, guess).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal:?}");
    }
    assert_eq!(house.asked(), 4);
    for guess in ["d", "team.new"] {
        let refusal = house.call_from(here, guess).await.unwrap_err();
        let told = (refusal.code(), rpc::reason_of(&refusal));
        assert_eq!(told, (Code::ResourceExhausted, Some(ErrorReason::RateLimited)), "{refusal:?}");
        let retry = refusal.get_error_details().retry_info().unwrap().retry_delay.unwrap();
        assert!(retry.as_secs() <= 20 && !retry.is_zero(), "{retry:?}");
        assert!(!refusal.message().contains("team.new"), "{refusal:?}");
    }
    assert_eq!(house.asked(), 4, "no one was asked");
    house.call_from(elsewhere, "team.new").await.unwrap();
    // What was valid lately is asked for again when it is believed no more.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    house.call_from(here, "team.known").await.unwrap();
    assert_eq!(house.asked(), 6);
}

#[tokio::test]
async fn a_key_that_is_not_valid_is_asked_for_once_in_a_while_and_counts_each_time() {
    let house = House::new(0, 0, Limiter::memory());
    let codes = async |key: &str| house.call_from(Some("192.0.2.1"), key).await.unwrap_err().code();
    for _ in 0..3 {
        assert_eq!(codes("wrong").await, Code::Unauthenticated);
    }
    assert_eq!((codes("wrong").await, house.asked()), (Code::ResourceExhausted, 1));
    // Calls without any key count as well.
    let house = House::new(0, 0, Limiter::memory());
    let codes = async |key: &str| house.call_from(Some("192.0.2.1"), key).await.unwrap_err().code();
    for _ in 0..3 {
        assert_eq!(codes("").await, Code::Unauthenticated);
    }
    assert_eq!((codes("").await, house.asked()), (Code::ResourceExhausted, 0));
}

#[tokio::test]
async fn the_address_of_a_caller_is_that_of_its_socket() {
    let house = House::new(0, 0, Limiter::memory());
    let bound = rpc::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let peer = format!("http://{}", bound.address);
    let options = ServerOptions { accept_http1: true, max_connection_age: Duration::from_mins(1) };
    let (_, server) = rpc::serve(bound, house.edge.clone(), &options, std::future::pending()).unwrap();
    let server = tokio::spawn(server);
    let link = rpc::remote("edge", &peer).unwrap();
    let mut codes = Vec::new();
    for guess in ["a", "b", "c", "d"] {
        let mut request = tonic::Request::new(GetToolRequest::default());
        request.metadata_mut().insert("x-api-key", guess.parse().unwrap());
        codes.push(RegistryServiceClient::new(link.clone()).get_tool(request).await.unwrap_err().code());
    }
    server.abort();
    let refused = Code::Unauthenticated;
    assert_eq!(codes, [refused, refused, refused, Code::ResourceExhausted]);
}

#[tokio::test]
async fn services_hear_for_whom_an_agent_acts_and_a_token_knows_best() {
    let house = House::new(0, 0, Limiter::memory());
    assert_eq!(house.call_for("ann", "team.key").await.as_deref(), Ok("ann"));
    // What is remembered of a key is not the user of one request.
    assert_eq!(house.call_for("bob", "team.key").await.as_deref(), Ok("bob"));
    house.call("team.key").await.unwrap();
    assert_eq!(house.seen.lock().unwrap().0.last().unwrap().user, "");
    assert_eq!(house.asked(), 1);
    assert_eq!(house.call_for("ann", "team.for-ann").await.as_deref(), Ok("ann"));
    assert_eq!(house.call_for("bob", "team.for-ann").await, Err(Code::PermissionDenied));
    assert_eq!(house.call_for("a b", "team.key").await, Err(Code::InvalidArgument));
    assert_eq!(house.calls(), 4);
}

#[tokio::test]
async fn a_key_is_not_remembered_beyond_its_end_and_its_address_is_told() {
    let house = House::new(0, 0, Limiter::memory());
    for _ in 0..3 {
        house.call_from(Some("::ffff:192.0.2.1"), "team.ended").await.unwrap();
        house.call_from(None, "team.key").await.unwrap();
    }
    assert_eq!(house.asked(), 4);
    assert_eq!(house.seen.lock().unwrap().1, ["192.0.2.1", "", "192.0.2.1", "192.0.2.1"]);
}

#[tokio::test]
async fn the_tokens_of_an_agent_are_counted_together_however_many() {
    let house = House::new(1, 1, Limiter::memory());
    house.call("team.okta:1").await.unwrap();
    assert_eq!(house.call("team.okta:2").await.unwrap_err().code(), Code::ResourceExhausted);
    house.call("team.other:2").await.unwrap();
}

#[tokio::test]
async fn one_call_more_than_may_be_passed_on_is_refused_and_none_after_it() {
    let config = Config { max_concurrent_requests: 1, ..config(0, 0) };
    let house = House::with(&config, Limiter::memory());
    let (first, second) = tokio::join!(house.call("team.held"), async {
        // The first is at the permissions service when this is reached.
        let second = house.call("team.key").await;
        house.go.notify_one();
        second
    });
    first.unwrap();
    let refusal = second.unwrap_err();
    let told = (refusal.code(), rpc::reason_of(&refusal));
    assert_eq!(told, (Code::Unavailable, Some(ErrorReason::Overloaded)), "{refusal:?}");
    house.call("team.key").await.unwrap();
}

#[test]
fn settings_that_let_nothing_pass_are_faults() {
    assert!(config(6_000, 0).validate().join("\n").contains("edge.burst"));
    assert!(config(0, 0).validate().is_empty());
    let none = Config { max_concurrent_requests: 0, ..config(0, 0) };
    assert!(none.validate().join("\n").contains("edge.max_concurrent_requests"));
    let none = Config { max_concurrent_requests_per_key: 0, max_arriving_bytes: 1 << 20, ..config(0, 0) };
    let faults = none.validate().join("\n");
    assert!(faults.contains("requests_per_key") && faults.contains("max_arriving_bytes"), "{faults}");
}
