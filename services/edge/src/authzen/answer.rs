//! What a client of AuthZEN is told: decisions, and refusals by HTTP's status codes.

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use proto::permissions::v1::ExplainResponse;
use serde_json::{Map, Value, json};
use tonic::{Status, body::Body};
use tonic_types::StatusExt;
use types::Kind;

/// A request that is not answered with a decision (section 10.1.2).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: &str) -> Self {
        Self { status, message: message.to_owned(), header: None }
    }

    /// 400, of a request that is not as it should be.
    pub(super) fn bad(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn with(self, name: HeaderName, value: Option<HeaderValue>) -> Self {
        Self { header: value.map(|value| (name, value)), ..self }
    }

    /// The message, as a JSON string.
    pub(super) fn response(self) -> Response<Body> {
        let mut response = json(&Value::String(self.message));
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let code = match rpc::kind_of(status) {
            Kind::Invalid | Kind::Precondition | Kind::AlreadyExists => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unavailable | Kind::Deadline => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let refusal = Self::new(code, status.message());
        if code == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3.
            let challenge = HeaderValue::from_static("Bearer realm=\"toolcrib\"");
            return refusal.with(WWW_AUTHENTICATE, Some(challenge));
        }
        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
        // Rounded up: a client that comes back too early is refused again.
        let seconds =
            retry.map(|delay| HeaderValue::from(delay.as_secs() + u64::from(delay.subsec_nanos() > 0)));
        refusal.with(RETRY_AFTER, seconds)
    }
}

/// 200, with this.
pub(super) fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(value.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What was decided, and why.
pub(super) fn decision(explained: &ExplainResponse) -> Value {
    let mut context = Map::new();
    let texts =
        [("reason", &explained.reason), ("message", &explained.message), ("grant", &explained.grant_id)];
    for (name, text) in texts {
        if !text.is_empty() {
            context.insert(name.to_owned(), Value::String(text.clone()));
        }
    }
    context.insert("policies".to_owned(), json!(explained.policy_ids));
    json!({ "decision": explained.allowed, "context": context })
}

/// No subject, action or resource that is known here: nothing allows it.
pub(super) fn unknown(what: &str) -> Value {
    json!({ "decision": false, "context": { "error": { "status": 404, "message": what } } })
}

/// A question that could not be decided on, and so is denied.
pub(super) fn undecided(refusal: &Refusal) -> Value {
    let error = json!({ "status": refusal.status.as_u16(), "message": refusal.message });
    json!({ "decision": false, "context": { "error": error } })
}
