//! AuthZEN's published scenarios with data of our own: the certification scenario of Authorization API 1.0 (basic,
//! batch, discovery) and the Todo scenario of its interop events, told of agents and tools; and what goes wrong.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use http::{Method, StatusCode};
use proto::permissions::v1::{ExplainRequest, ExplainResponse};
use serde_json::{Value, json};
use tower::ServiceExt;
use types::Kind;

use super::*;

/// An edge before a permissions service that knows these agents and tools. Agents of other names are the auditor's to
/// see, and the caller `team.plain` is none.
struct House {
    edge: Link,
    /// What was asked of `Explain`.
    asked: Arc<Mutex<Vec<ExplainRequest>>>,
    /// Whether no key is valid any more.
    is_revoked: Arc<AtomicBool>,
}

/// `reader` may read notes, `writer` may write them too, but below `/drafts` alone.
fn allows(request: &ExplainRequest) -> bool {
    let arguments: Value = serde_json::from_str(&request.arguments_json).unwrap_or_default();
    match (request.agent_id.as_str(), request.tool_name.as_str()) {
        ("reader" | "writer", "notes.read") => true,
        ("writer", "notes.write") => {
            arguments["path"].as_str().is_some_and(|path| path.starts_with("/drafts/"))
                || request.user == "editor"
        }
        _ => false,
    }
}

fn explained(request: &ExplainRequest) -> Result<ExplainResponse, Status> {
    let fault = |kind, reason, message: &str| Err(rpc::status_with_reason(kind, reason, message));
    match (request.agent_id.as_str(), request.tool_name.as_str()) {
        ("stranger", _) => fault(Kind::NotFound, ErrorReason::NotFound, "there is no agent \"stranger\""),
        ("hidden", _) => fault(Kind::Denied, ErrorReason::RoleRequired, "this needs the role auditor"),
        (_, "scoped") => {
            fault(Kind::Denied, ErrorReason::ScopeRequired, "this needs the scope permissions_read")
        }
        (_, "away") => {
            fault(Kind::Unavailable, ErrorReason::StoreUnavailable, "the database cannot be reached")
        }
        (_, "a b") => fault(Kind::Invalid, ErrorReason::InvalidRequest, "invalid tool_name"),
        _ if allows(request) => Ok(ExplainResponse {
            allowed: true,
            message: "granted".into(),
            grant_id: "g".into(),
            policy_ids: vec!["grant-to-agent".into()],
            ..ExplainResponse::default()
        }),
        _ => Ok(ExplainResponse {
            reason: "NO_GRANT".into(),
            message: "no grant".into(),
            ..ExplainResponse::default()
        }),
    }
}

impl House {
    fn new(config: &Config) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let is_revoked = Arc::<AtomicBool>::default();
        let (seen, revoked) = (Arc::clone(&asked), Arc::clone(&is_revoked));
        let permissions = service(move |request: Request<Body>| {
            let (seen, revoked) = (Arc::clone(&seen), Arc::clone(&revoked));
            async move {
                if request.uri().path().ends_with("/Authenticate") {
                    let key = message::<AuthenticateRequest>(request).await.credential;
                    let known = key.split_once('.').filter(|_| !revoked.load(Ordering::Relaxed));
                    let Some((team, key)) = known else {
                        return rpc::error_response(Status::unauthenticated(
                            "the API key is missing or not valid",
                        ));
                    };
                    let (team_id, key_id) = (team.to_owned(), key.to_owned());
                    return answer(&AuthenticateResponse {
                        team_id,
                        key_id,
                        ..AuthenticateResponse::default()
                    });
                }
                assert!(request.headers().contains_key(rpc::CALLER_HEADER), "the caller is named");
                assert!(!request.headers().contains_key("authorization"), "the key goes no further");
                let request = message::<ExplainRequest>(request).await;
                seen.lock().unwrap().push(request.clone());
                explained(&request).map_or_else(rpc::error_response, |explained| answer(&explained))
            }
        });
        let away = rpc::later("nothing").1;
        let parts = Parts {
            registry: away.clone(),
            selector: away.clone(),
            executor: away.clone(),
            permissions,
            audit: away,
            key: TokenKey::new(&"0123456789abcdef0123456789abcdef".to_owned().into()),
            limiter: Limiter::memory(),
        };
        Self { edge: start(config, parts), asked, is_revoked }
    }

    fn plain() -> Self {
        Self::new(&config(0, 0))
    }

    async fn send(
        &self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> (StatusCode, HeaderMap, Value) {
        let request = request.body(Body::new(Full::new(body.into()))).unwrap();
        let (parts, body) = self.edge.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, headers, answer) = self.send(post(path), body.to_string()).await;
        assert_eq!(headers["content-type"], "application/json");
        (status, answer)
    }

    /// The decisions of a request that is answered with 200.
    async fn decisions(&self, body: &Value) -> Vec<bool> {
        let (status, answer) = self.post("/access/v1/evaluations", body).await;
        assert_eq!((status, answer.get("decision")), (StatusCode::OK, None), "{answer}");
        answer["evaluations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["decision"].as_bool().unwrap())
            .collect()
    }
}

/// A request as it comes from a client of HTTP/1.1.
fn post(path: &str) -> http::request::Builder {
    let request = Request::builder().method(Method::POST).uri(path).version(http::Version::HTTP_11);
    request.header("content-type", "application/json").header("authorization", "Bearer team.key")
}

fn tuple(agent: &str, tool: &str) -> Value {
    json!({
        "subject": {"type": "agent", "id": agent},
        "action": {"name": "call"},
        "resource": {"type": "tool", "id": tool},
    })
}

const ONE: &str = "/access/v1/evaluation";

#[tokio::test]
async fn basic_one_evaluation_is_one_decision() {
    let house = House::plain();
    let (status, answer) = house.post(ONE, &tuple("reader", "notes.read")).await;
    assert_eq!(status, StatusCode::OK);
    let context = json!({"message": "granted", "grant": "g", "policies": ["grant-to-agent"]});
    assert_eq!(answer, json!({"decision": true, "context": context}));
    let (status, answer) = house.post(ONE, &tuple("reader", "notes.write")).await;
    assert_eq!(
        (status, &answer["decision"], &answer["context"]["reason"]),
        (StatusCode::OK, &json!(false), &json!("NO_GRANT"))
    );
    // Context, properties and fields that we do not know change nothing; the same question has the same answer.
    let mut rich = tuple("reader", "notes.read");
    rich["context"] = json!({"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"});
    rich["subject"]["properties"] = json!({"department": "Sales"});
    rich["action"]["properties"] = json!({"method": "GET"});
    rich["resource"]["properties"] = json!({"owner": ["x"]});
    rich["futureField"] = json!({"nested": true});
    for _ in 0..3 {
        assert_eq!(house.post(ONE, &rich).await.1["decision"], json!(true));
    }
    let asked = house.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.time.unwrap().seconds, 1_751_072_580);
}

#[tokio::test]
async fn arguments_and_the_user_decide_too() {
    let house = House::plain();
    let mut write = tuple("writer", "notes.write");
    for (context, expected) in [
        (json!({}), false),
        (json!({"arguments": {"path": "/drafts/a"}}), true),
        (json!({"arguments": {"path": "/final/a"}}), false),
        (json!({"arguments": {"path": "/final/a"}, "user": "editor"}), true),
    ] {
        write["context"] = context;
        assert_eq!(house.post(ONE, &write).await.1["decision"], json!(expected), "{write}");
    }
}

#[tokio::test]
async fn basic_what_is_not_as_it_should_be_is_400() {
    let house = House::plain();
    let mut wrong = Vec::new();
    for field in ["subject", "action", "resource"] {
        let mut body = tuple("reader", "notes.read");
        body.as_object_mut().unwrap().remove(field);
        wrong.push(body.to_string());
    }
    for (field, member) in
        [("subject", "type"), ("subject", "id"), ("action", "name"), ("resource", "type"), ("resource", "id")]
    {
        let mut body = tuple("reader", "notes.read");
        body[field].as_object_mut().unwrap().remove(member);
        wrong.push(body.to_string());
        body[field][member] = json!(123);
        wrong.push(body.to_string());
        body[field] = json!("reader");
        wrong.push(body.to_string());
    }
    for context in [
        json!("x"),
        json!({"arguments": "x"}),
        json!({"arguments": [1]}),
        json!({"time": "soon"}),
        json!({"user": 1}),
    ] {
        let mut body = tuple("reader", "notes.read");
        body["context"] = context;
        wrong.push(body.to_string());
    }
    wrong.extend(["", "{", "[]", "null", "{}", "\"x\"", "{\"subject\":{},\"subject\":{}}"].map(String::from));
    wrong.push(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    wrong.push(tuple("reader", "a b").to_string());
    for body in wrong {
        for path in [ONE, "/access/v1/evaluations"] {
            let (status, _, answer) = house.send(post(path), body.clone()).await;
            assert!(
                status == StatusCode::BAD_REQUEST && answer.is_string(),
                "{path} {body}: {status} {answer}"
            );
        }
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        let body = tuple("reader", "notes.read").to_string();
        let mut request = post(ONE);
        request.headers_mut().unwrap().insert("content-type", kind.parse().unwrap());
        assert_eq!(house.send(request, body).await.0, StatusCode::BAD_REQUEST, "{kind}");
    }
    let (status, ..) = house.send(post(ONE), vec![b' '; 1024 * 1024 + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, headers, _) = house.send(post(ONE).method(Method::GET), "").await;
    assert_eq!((status, headers["allow"].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    assert_eq!(house.send(post("/access/v1/search/subject"), "{}").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn basic_the_request_id_comes_back_whatever_the_answer() {
    let house = House::plain();
    let right = tuple("reader", "notes.read").to_string();
    for (body, key, expected) in [
        (right.as_str(), "team.key", StatusCode::OK),
        ("{", "team.key", StatusCode::BAD_REQUEST),
        (right.as_str(), "wrong", StatusCode::UNAUTHORIZED),
    ] {
        let mut request = post(ONE).header("x-request-id", "bfe9eb29-ab87");
        request.headers_mut().unwrap().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let (status, headers, _) = house.send(request, body.to_owned()).await;
        assert_eq!((status, headers["x-request-id"].to_str().unwrap()), (expected, "bfe9eb29-ab87"));
    }
    let (status, headers, _) = house.send(post(ONE), right).await;
    assert_eq!((status, headers.get("x-request-id")), (StatusCode::OK, None));
}

#[tokio::test]
async fn batch_each_evaluation_has_its_decision_in_order() {
    let house = House::plain();
    let subject = json!({"type": "agent", "id": "writer"});
    let resources = json!([
        {"resource": {"type": "tool", "id": "notes.read"}},
        {"resource": {"type": "tool", "id": "notes.write"}, "context": {"arguments": {"path": "/drafts/x"}}},
        {"resource": {"type": "tool", "id": "notes.write"}},
    ]);
    let body =
        json!({"subject": subject, "action": {"name": "call"}, "resource": {}, "evaluations": resources});
    assert_eq!(house.decisions(&body).await, [true, true, false]);
    // A default that an evaluation overrides.
    let body = json!({
        "subject": subject, "action": {"name": "call"}, "resource": {"type": "tool", "id": "notes.read"},
        "evaluations": [{}, {"subject": {"type": "agent", "id": "other"}}, {"action": {"name": "delete"}}],
    });
    assert_eq!(house.decisions(&body).await, [true, false, false]);
    // No defaults at all.
    let whole = json!({"evaluations": [tuple("reader", "notes.read"), tuple("reader", "notes.write")]});
    assert_eq!(house.decisions(&whole).await, [true, false]);
    // Without evaluations it is one question.
    let mut single = tuple("reader", "notes.read");
    for evaluations in [None, Some(json!([]))] {
        if let Some(evaluations) = evaluations {
            single["evaluations"] = evaluations;
        }
        let (status, answer) = house.post("/access/v1/evaluations", &single).await;
        assert_eq!(
            (status, &answer["decision"], answer.get("evaluations")),
            (StatusCode::OK, &json!(true), None)
        );
    }
}

#[tokio::test]
async fn batch_what_is_wrong_with_one_evaluation_denies_that_one() {
    let house = House::plain();
    let body = json!({
        "subject": {"type": "agent", "id": "reader"}, "action": {"name": "call"},
        "evaluations": [
            {"resource": {"type": "tool", "id": "notes.read"}}, {}, "x", {"resource": 1},
            {"subject": {"type": "agent", "id": "stranger"}, "resource": {"type": "tool", "id": "notes.read"}},
            {"subject": {"type": "agent", "id": "hidden"}, "resource": {"type": "tool", "id": "notes.read"}},
            {"subject": {"type": "user", "id": "reader"}, "resource": {"type": "tool", "id": "notes.read"}},
            {"resource": {"type": "tool", "id": "notes.read"}},
        ],
    });
    let (status, answer) = house.post("/access/v1/evaluations", &body).await;
    assert_eq!(status, StatusCode::OK);
    let told: Vec<_> = answer["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| {
            (each["decision"].as_bool().unwrap(), each["context"]["error"]["status"].as_u64().unwrap_or(0))
        })
        .collect();
    assert_eq!(
        told,
        [
            (true, 0),
            (false, 400),
            (false, 400),
            (false, 400),
            (false, 404),
            (false, 403),
            (false, 404),
            (true, 0)
        ]
    );
    // What is wrong with all of them is told once.
    for (tool, expected) in [("scoped", StatusCode::FORBIDDEN), ("away", StatusCode::SERVICE_UNAVAILABLE)] {
        let body = json!({"evaluations": [tuple("reader", "notes.read"), tuple("reader", tool)]});
        assert_eq!(house.post("/access/v1/evaluations", &body).await.0, expected, "{tool}");
        assert_eq!(house.post(ONE, &tuple("reader", tool)).await.0, expected, "{tool}");
    }
    let many: Vec<_> = (0..101).map(|_| tuple("reader", "notes.read")).collect();
    let (status, answer) = house.post("/access/v1/evaluations", &json!({"evaluations": many})).await;
    assert_eq!((status, answer.as_str().unwrap().contains("at most 100")), (StatusCode::BAD_REQUEST, true));
    assert_eq!(house.decisions(&json!({"evaluations": many[1..]})).await, [true; 100]);
}

#[tokio::test]
async fn batch_the_semantics_say_where_it_ends() {
    let house = House::plain();
    let ask = async |semantic: &str, tools: [&str; 3]| {
        let evaluations = tools.map(|tool| json!({"resource": {"type": "tool", "id": tool}}));
        house.decisions(&json!({
            "subject": {"type": "agent", "id": "reader"}, "action": {"name": "call"},
            "options": {"evaluations_semantic": semantic, "another_option": "value"}, "evaluations": evaluations,
        })).await
    };
    let (yes, no) = ("notes.read", "notes.write");
    assert_eq!(ask("execute_all", [yes, no, yes]).await, [true, false, true]);
    assert_eq!(ask("deny_on_first_deny", [yes, no, yes]).await, [true, false]);
    assert_eq!(ask("deny_on_first_deny", [yes, yes, yes]).await, [true, true, true]);
    assert_eq!(ask("permit_on_first_permit", [no, yes, no]).await, [false, true]);
    assert_eq!(ask("permit_on_first_permit", [no, no, no]).await, [false, false, false]);
    let unknown = json!({"evaluations": [tuple("reader", yes)], "options": {"evaluations_semantic": "any"}});
    assert_eq!(house.post("/access/v1/evaluations", &unknown).await.0, StatusCode::BAD_REQUEST);
}

/// The Todo scenario: what each of a list a caller may change, asked in one go; the owner is told by the arguments.
#[tokio::test]
async fn interop_a_list_is_shown_with_what_may_be_changed_of_it() {
    let house = House::plain();
    let paths = ["/drafts/mine", "/final/theirs", "/drafts/../final/theirs"];
    let evaluations = paths.map(|path| json!({"context": {"arguments": {"path": path}}}));
    for (agent, expected) in [("writer", [true, false, true]), ("reader", [false; 3])] {
        let body = json!({
            "subject": {"type": "agent", "id": agent}, "action": {"name": "call"},
            "resource": {"type": "tool", "id": "notes.write"}, "context": {}, "evaluations": evaluations,
        });
        assert_eq!(house.decisions(&body).await, expected, "{agent}");
    }
}

#[tokio::test]
async fn discovery_says_where_the_endpoints_are() {
    let house = House::plain();
    let get = |host: &str| {
        Request::builder()
            .uri("/.well-known/authzen-configuration")
            .version(http::Version::HTTP_11)
            .header("host", host)
    };
    let (status, headers, answer) = house.send(get("tools.example:7700"), "").await;
    assert_eq!((status, headers["cache-control"].to_str().unwrap()), (StatusCode::OK, "no-store"));
    assert_eq!(
        answer,
        json!({
            "policy_decision_point": "http://tools.example:7700",
            "access_evaluation_endpoint": "http://tools.example:7700/access/v1/evaluation",
            "access_evaluations_endpoint": "http://tools.example:7700/access/v1/evaluations",
        })
    );
    assert_eq!(house.send(get("a b\"c"), "").await.0, StatusCode::BAD_REQUEST);
    let public = Config { public_url: "https://tools.example/".into(), ..config(0, 0) };
    assert!(public.validate().is_empty());
    let (_, headers, answer) = House::new(&public).send(get("elsewhere"), "").await;
    assert_eq!(headers["cache-control"], "max-age=3600");
    assert_eq!(answer["access_evaluation_endpoint"], "https://tools.example/access/v1/evaluation");
    let open = Config { public_url: "http://tools.example".into(), ..config(0, 0) };
    assert!(open.validate().join("\n").contains("edge.public_url"));
}

#[tokio::test]
async fn whoever_has_no_valid_key_or_asks_too_often_is_told_so() {
    let house = House::new(&config(1, 2));
    let body = tuple("reader", "notes.read").to_string();
    let mut stranger = post(ONE);
    stranger.headers_mut().unwrap().remove("authorization");
    let (status, headers, answer) = house.send(stranger, body.clone()).await;
    assert_eq!(
        (status, headers["www-authenticate"].to_str().unwrap()),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"toolcrib\"")
    );
    assert!(answer.as_str().unwrap().contains("key"), "{answer}");
    for _ in 0..2 {
        let (status, headers, _) = house.send(post(ONE), body.clone()).await;
        assert!(status == StatusCode::OK && headers.contains_key("ratelimit"));
    }
    let (status, headers, _) = house.send(post(ONE), body).await;
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(status == StatusCode::TOO_MANY_REQUESTS && (1..=60).contains(&seconds), "{status} {seconds}");
}

#[tokio::test]
async fn a_question_is_asked_by_whoever_its_asker_is_once_all_of_it_is_there() {
    let house = House::plain();
    let body = tuple("reader", "notes.read").to_string();
    let (first, rest) = body.split_at(10);
    for is_revoked in [false, true] {
        let (pieces, mut arriving) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let stream = stream::poll_fn(move |cx| arriving.poll_recv(cx));
        let sent = Body::new(StreamBody::new(stream.map(|piece| Ok::<_, Status>(Frame::data(piece)))));
        let mut answer = Box::pin(house.edge.clone().oneshot(post(ONE).body(sent).unwrap()));
        pieces.send(first.to_owned().into()).unwrap();
        assert!(futures_util::FutureExt::now_or_never(&mut answer).is_none());
        // Longer than what was said of a key is believed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.is_revoked.store(is_revoked, Ordering::Relaxed);
        pieces.send(rest.to_owned().into()).unwrap();
        drop(pieces);
        let expected = if is_revoked { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        assert_eq!(answer.await.unwrap().status(), expected);
    }
    assert_eq!(house.asked.lock().unwrap().len(), 1);
}
