//! Streamable HTTP: no redirects, no proxies from the environment, bounded answers, and errors of the HTTP
//! client turned into ours. Must never repeat a header value or the query of an address.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue};
use reach::{Authorities, CertificateFault};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::{BoxedSseResponse, ExponentialBackoff};
use rmcp::transport::streamable_http_client::{
    HttpStatusError, SseError, StreamableHttpClient, StreamableHttpClientTransportConfig,
    StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
};

use crate::error::{Error, shortened};
use crate::evidence::{Evidence, MAX_MESSAGE_BYTES};

type Failure = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;

/// How long a TCP and TLS connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Calls under way to one server at once; callers have limits of their own, far below.
const MAX_CONCURRENT: usize = 1_024;

/// The longest pause before a lost notification stream is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_mins(1);

/// Nobody waits longer for a server that says it will be back.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Bytes of an HTTP error page read, for the error text.
const ERROR_PAGE_BYTES: usize = 2 * 1024;

/// Prepares the transport. Nothing is sent yet; the error is the reason why it never could be.
pub(crate) fn open(
    url: &str,
    headers: &BTreeMap<String, String>,
    authorities: &Authorities,
    evidence: Arc<Evidence>,
) -> Result<StreamableHttpClientTransport<Bounded>, String> {
    let address = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
    if !matches!(address.scheme(), "http" | "https") {
        return Err("the address must begin with http or https".to_owned());
    }
    let client = authorities
        .add_to(reqwest::Client::builder())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .user_agent(concat!("toolcrib/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| cause(&error))?;
    let mut backoff = ExponentialBackoff::default();
    backoff.max_delay = Some(RECONNECT_PAUSE);
    let mut config = StreamableHttpClientTransportConfig::with_uri(address.as_str())
        .custom_headers(parse_headers(headers)?)
        .max_concurrent_requests(MAX_CONCURRENT)
        .max_sse_event_size(MAX_MESSAGE_BYTES)
        .max_json_response_size(MAX_MESSAGE_BYTES)
        .max_error_response_size(ERROR_PAGE_BYTES);
    config.retry_config = Arc::new(backoff);
    Ok(StreamableHttpClientTransport::with_client(Bounded { client, evidence }, config))
}

fn parse_headers(headers: &BTreeMap<String, String>) -> Result<Headers, String> {
    headers
        .iter()
        .map(|(name, value)| {
            let parsed = HeaderName::try_from(name).map_err(|_| format!("{name:?} is not a header name"))?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| format!("the value of header {name:?} has forbidden characters"))?;
            value.set_sensitive(true);
            Ok((parsed, value))
        })
        .collect()
}

/// The HTTP client, noting answers that were too large: `rmcp` reports those only as a lost stream.
#[derive(Clone)]
pub(crate) struct Bounded {
    client: reqwest::Client,
    evidence: Arc<Evidence>,
}

impl Bounded {
    fn watch(&self, stream: BoxedSseResponse) -> BoxedSseResponse {
        let evidence = self.evidence.clone();
        stream
            .inspect(move |event| {
                if let Err(SseError::Body(error)) = event
                    && error.to_string().starts_with("SSE event exceeded")
                {
                    evidence.oversized();
                }
            })
            .boxed()
    }
}

impl StreamableHttpClient for Bounded {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits)
            .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let answer = self
            .client
            .post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits)
            .await?;
        Ok(match answer {
            StreamableHttpPostResponse::Sse(stream, id) => {
                StreamableHttpPostResponse::Sse(self.watch(stream), id)
            }
            other => other,
        })
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<(), Failure> {
        self.client.delete_session(uri, session_id, auth_header, custom_headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<BoxedSseResponse, Failure> {
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            MAX_MESSAGE_BYTES,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
        limit: usize,
    ) -> Result<BoxedSseResponse, Failure> {
        let stream = self
            .client
            .get_stream_with_max_sse_event_size(
                uri,
                session_id,
                last_event_id,
                auth_header,
                custom_headers,
                limit,
            )
            .await?;
        Ok(self.watch(stream))
    }
}

/// What an error of `rmcp`'s HTTP transport means to a caller; `None` where it is not one.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static), address: &str) -> Option<Error> {
    let connect = |reason| Error::Connect { address: address.to_owned(), reason };
    let status = |status| Error::Http { status, retry_after: None };
    Some(match error.downcast_ref::<Failure>()? {
        StreamableHttpError::HttpStatus(error) => http_status(error),
        StreamableHttpError::AuthRequired(_) => status(401),
        StreamableHttpError::InsufficientScope(_) => status(403),
        StreamableHttpError::SessionExpired => status(404),
        StreamableHttpError::ResponseBodyTooLarge { .. } => Evidence::too_large(),
        StreamableHttpError::ReservedHeaderConflict(name) => {
            connect(format!("header {name:?} is not yours to set"))
        }
        StreamableHttpError::Client(error) => match (CertificateFault::of(error), error.status()) {
            (Some(fault), _) => Error::Certificate(fault),
            (None, _) if error.is_connect() || error.is_builder() => connect(cause(error)),
            (None, Some(code)) => status(code.as_u16()),
            (None, None) => Error::closed(cause(error)),
        },
        StreamableHttpError::UnexpectedServerResponse(text) => match status_in(text) {
            Some(code) => status(code),
            None => Error::unusable(text),
        },
        StreamableHttpError::UnexpectedContentType(kind) => {
            Error::unusable(&format!("content type {}", kind.as_deref().unwrap_or("missing")))
        }
        StreamableHttpError::ReinitializationFailed(error) => Error::protocol(error),
        _ => Error::closed("the connection was lost"),
    })
}

fn http_status(error: &HttpStatusError) -> Error {
    Error::Http { status: error.status, retry_after: error.retry_after.as_deref().and_then(retry_after) }
}

/// The wait that a `Retry-After` asks for (RFC 9110, section 10.2.3: seconds, or an HTTP date), from now and
/// at most a day; a date that has passed asks for none.
pub fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
        (at.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The status in `rmcp`'s text `HTTP 404 Not Found: …`, its form for client errors without MCP content.
fn status_in(text: &str) -> Option<u16> {
    text.strip_prefix("HTTP ")?.get(..3)?.parse().ok()
}

/// The innermost cause. The error itself is left out: it repeats the whole address.
fn cause(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| "the request failed".to_owned(), |cause| shortened(&cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str, headers: &[(&str, &str)]) -> String {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        open(url, &headers, &Authorities::default(), Arc::default()).err().unwrap()
    }

    #[test]
    fn bad_addresses_and_headers_are_refused_without_their_values() {
        assert!(refusal("file:///etc/passwd", &[]).contains("http"));
        assert!(!refusal("not an address", &[]).is_empty());
        assert!(refusal("http://h/", &[("a b", "c")]).contains("a b"));
        let text = refusal("http://h/", &[("key", "hunter2\n")]);
        assert!(text.contains("key") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_status_is_read_from_the_text_form() {
        assert_eq!(status_in("HTTP 404 Not Found: nope"), Some(404));
        assert_eq!(status_in("could not parse"), None);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let in_a_minute = chrono::Utc::now() + chrono::Duration::seconds(60);
        let wait = retry_after(&in_a_minute.format("%a, %d %b %Y %H:%M:%S GMT").to_string()).unwrap();
        assert!((50..=60).contains(&wait.as_secs()), "{wait:?}");
    }

    #[test]
    fn retry_after_in_seconds_is_kept() {
        let error: Failure = HttpStatusError::new(429, Some("7".to_owned())).into();
        let expected = Error::Http { status: 429, retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(describe(&error, "http://h/"), Some(expected));
    }
}
