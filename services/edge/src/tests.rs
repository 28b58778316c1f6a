//! The edge between a client and services that answer bytes: what it refuses, what it passes on, what it adds.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use limit::Limiter;
use prost::Message;
use proto::{
    permissions::v1::{AuthenticateApiKeyRequest, AuthenticateApiKeyResponse, Role},
    registry::v1::{GetToolRequest, GetToolResponse, registry_service_client::RegistryServiceClient},
};
use rpc::{ErrorReason, Link, TokenKey};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::service_fn;

use crate::{Config, Parts, start};

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

/// A permissions service that takes any key `team.key`, and a registry that counts its calls.
struct House {
    edge: Link,
    calls: Arc<AtomicU32>,
}

impl House {
    fn new(requests_per_minute: u32, burst: u32, limiter: Limiter) -> Self {
        let calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&calls);
        let registry = service(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            async {
                let mut answer = answer(&GetToolResponse::default());
                answer.headers_mut().insert("ratelimit", "\"tool\";r=7;t=1".parse().unwrap());
                answer
            }
        });
        let permissions = service(|request| async {
            let key = message::<AuthenticateApiKeyRequest>(request).await.api_key;
            let (team, key) = key.split_once('.').unwrap();
            answer(&AuthenticateApiKeyResponse {
                team_id: team.to_owned(),
                agent_id: "a".to_owned(),
                key_id: key.to_owned(),
                role: Role::Agent.into(),
                ..AuthenticateApiKeyResponse::default()
            })
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
            key: TokenKey::new(&"0123456789abcdef0123456789abcdef".to_owned().into()),
            limiter,
        };
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            cors_origins: vec![],
            requests_per_minute,
            burst,
        };
        assert_eq!(config.validate(), Vec::<String>::new());
        Self { edge: start(&config, parts), calls }
    }

    async fn call(&self, key: &str) -> Result<tonic::Response<GetToolResponse>, Status> {
        let mut request = tonic::Request::new(GetToolRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        RegistryServiceClient::new(self.edge.clone()).get_tool(request).await
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
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

#[test]
fn a_limit_without_a_burst_is_a_fault() {
    let config = |requests_per_minute, burst| Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        cors_origins: vec![],
        requests_per_minute,
        burst,
    };
    assert!(config(6_000, 0).validate().join("\n").contains("edge.burst"));
    assert!(config(0, 0).validate().is_empty());
}
