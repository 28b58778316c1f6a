//! OpenID AuthZEN Authorization API 1.0 over HTTP: may an agent call a tool? A thin form of `Explain`, asked with the
//! same keys; it reserves nothing. Must never decide anything, and never answer "true" because something failed.
//!
//! A subject is `{"type": "agent", "id": NAME}`, an action `{"name": "call"}`, a resource
//! `{"type": "tool", "id": NAME}`; `context` may hold `arguments`, `user` and `time`.

mod answer;
mod read;

use std::{net::SocketAddr, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use proto::permissions::v1::{ExplainRequest, permissions_service_client::PermissionsServiceClient};
use rpc::{CALLER_HEADER, ErrorReason, reason_of};
use serde_json::{Value, json};
use tonic::{Status, body::Body, metadata::MetadataMap, transport::server::TcpConnectInfo};
use types::{Caller, Kind};

use crate::{
    authenticate,
    forward::{Forwarder, internal, overloaded},
};
use answer::Refusal;
use read::{Asked, Question, Semantic, Unread};

/// Section 10.1 of the specification: where the endpoints are by default.
const EVALUATION: &str = "/access/v1/evaluation";
const EVALUATIONS: &str = "/access/v1/evaluations";
/// What begins every path of the API.
const PREFIX: &str = "/access/v1/";
/// Section 9.2: where the metadata stands.
const METADATA: &str = "/.well-known/authzen-configuration";
/// Section 10.1.3.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of a request.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// How long one decision may take, and all of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_OF_ALL: Duration = Duration::from_secs(20);

/// Whether a path is of this API.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with(PREFIX) || path == METADATA
}

impl Forwarder {
    /// Answers one request of this API.
    pub(crate) async fn observe_authzen(&self, request: Request<Body>) -> Response<Body> {
        let id = request.headers().get(REQUEST_ID).cloned();
        let observed = self.observer.observe(request, async |request| {
            Ok(self.authzen(request).await.unwrap_or_else(Refusal::response))
        });
        let mut response = observed.await;
        if response.headers().contains_key("grpc-status") {
            // What observes knows gRPC alone: that is how it answers for a handler that panicked.
            response = Refusal::from(&*internal()).response();
        }
        if let Some(id) = id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    async fn authzen(&self, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let _permit = self.permits.try_acquire().map_err(|_| Refusal::from(&*overloaded()))?;
        let path = request.uri().path();
        let expected = match path {
            METADATA => Method::GET,
            EVALUATION | EVALUATIONS => Method::POST,
            _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "this endpoint is not served here")),
        };
        if request.method() != expected {
            let message = format!("use {expected}");
            let allowed = HeaderValue::from_str(expected.as_str()).ok();
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, &message).with(ALLOW, allowed));
        }
        if expected == Method::GET {
            return self.metadata(request.headers());
        }
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let caller = self.authenticator.caller(request.headers(), peer).await;
        let caller = caller.map_err(|status| Refusal::from(&*status))?;
        let _place = self.places.of_key(&caller).map_err(|status| Refusal::from(&*status))?;
        let pass = self.gate.check(&caller).await;
        let answered = match &pass.refusal {
            Some(refusal) => Err(Refusal::from(refusal)),
            None => self.evaluate(request, peer).await,
        };
        let mut response = answered.map_or_else(Refusal::response, |answer| answer::json(&answer));
        pass.append_fields(response.headers_mut());
        Ok(response)
    }

    /// Section 9: the address that clients use, as the operator says or else as this client does.
    fn metadata(&self, headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
        let (base, cached) = if self.public_url.is_empty() {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let host = host.filter(|host| host.parse::<http::uri::Authority>().is_ok());
            let missing = || Refusal::new(StatusCode::BAD_REQUEST, "the Host header is missing or not valid");
            // Whoever named another host must not name it to others.
            let scheme = if self.is_tls { "https" } else { "http" };
            (format!("{scheme}://{}", host.ok_or_else(missing)?), "no-store")
        } else {
            (self.public_url.trim_end_matches('/').to_owned(), "max-age=3600")
        };
        let mut response = answer::json(&json!({
            "policy_decision_point": base,
            "access_evaluation_endpoint": format!("{base}{EVALUATION}"),
            "access_evaluations_endpoint": format!("{base}{EVALUATIONS}"),
        }));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cached));
        Ok(response)
    }

    async fn evaluate(&self, request: Request<Body>, peer: Option<SocketAddr>) -> Result<Value, Refusal> {
        let is_many = request.uri().path() == EVALUATIONS;
        let credential = authenticate::credential(request.headers());
        let body = body(request).await?;
        // Once more: whoever asks is who they are when all of the question is there.
        let known = self.authenticator.again(&credential, peer).await;
        let caller = &known.map_err(|status| Refusal::from(&*status))?.caller;
        let asked = read::read(&body, is_many).map_err(|unread| Refusal::bad(&unread.0))?;
        let answer = async {
            match asked {
                Asked::One(question) => self.one(caller, question).await,
                Asked::Many(questions, semantic) => self.many(caller, questions, semantic).await,
            }
        };
        let late =
            |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the decisions took too long; ask for fewer");
        tokio::time::timeout(TIMEOUT_OF_ALL, answer).await.map_err(late)?
    }

    /// Section 6: one decision. What is not decided is refused.
    async fn one(&self, caller: &Caller, question: Result<Question, Unread>) -> Result<Value, Refusal> {
        let question = question.map_err(|unread| Refusal::bad(&unread.0))?;
        match self.explain(caller, question).await {
            Ok(decision) => Ok(decision),
            Err(status) if rpc::kind_of(&status) == Kind::NotFound => {
                Ok(answer::undecided(&(&status).into()))
            }
            Err(status) => Err((&status).into()),
        }
    }

    /// Section 7: many decisions, in their order, up to the one that ends the request. What is not decided is denied.
    async fn many(
        &self,
        caller: &Caller,
        questions: Vec<Result<Question, Unread>>,
        semantic: Semantic,
    ) -> Result<Value, Refusal> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let answer = match question {
                Err(unread) => answer::undecided(&Refusal::bad(&unread.0)),
                Ok(question) => match self.explain(caller, question).await {
                    Ok(decision) => decision,
                    Err(status) if is_of_all(&status) => return Err((&status).into()),
                    Err(status) => answer::undecided(&(&status).into()),
                },
            };
            let allowed = answer["decision"] == Value::Bool(true);
            answers.push(answer);
            match semantic {
                Semantic::DenyOnFirstDeny if !allowed => break,
                Semantic::PermitOnFirstPermit if allowed => break,
                Semantic::ExecuteAll | Semantic::DenyOnFirstDeny | Semantic::PermitOnFirstPermit => {}
            }
        }
        Ok(json!({ "evaluations": answers }))
    }

    /// Asks the permissions service in the caller's own name, and with no more rights than the caller has.
    async fn explain(&self, caller: &Caller, question: Question) -> Result<Value, Status> {
        let request = match question {
            Question::Unknown(what) => return Ok(answer::unknown(&what)),
            Question::Call(request) => request,
        };
        let token = self.parts.key.mint(caller).ok().and_then(|token| HeaderValue::try_from(token).ok());
        let mut headers = HeaderMap::new();
        headers.insert(CALLER_HEADER, token.ok_or_else(|| *internal())?);
        rpc::inject_headers(&mut headers);
        let mut message = tonic::Request::new(ExplainRequest::clone(&request));
        *message.metadata_mut() = MetadataMap::from_headers(headers);
        message.set_timeout(TIMEOUT);
        let mut client = PermissionsServiceClient::new(self.parts.permissions.clone());
        Ok(answer::decision(&client.explain(message).await?.into_inner()))
    }
}

/// Whether what is wrong is wrong with the whole request: the other questions would be answered alike.
fn is_of_all(status: &Status) -> bool {
    match rpc::kind_of(status) {
        Kind::Invalid | Kind::NotFound | Kind::AlreadyExists | Kind::Precondition => false,
        Kind::Denied => reason_of(status) == Some(ErrorReason::ScopeRequired),
        Kind::Unauthenticated | Kind::Exhausted | Kind::Unavailable | Kind::Deadline | Kind::Internal => true,
    }
}

/// The body of a request that says it is JSON.
async fn body(request: Request<Body>) -> Result<Vec<u8>, Refusal> {
    let said = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::bad("Content-Type must be application/json"));
    }
    let collected =
        tokio::time::timeout(ARRIVAL, Limited::new(request.into_body(), MAX_BODY_BYTES).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the request has more than {MAX_BODY_BYTES} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, &message))
        }
        Ok(Err(_)) => Err(Refusal::bad("the request broke off")),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")),
    }
}
