//! One HTTP request and its redirects, under one deadline, with bounds on everything the server sends. Knows at
//! each moment whether the server may have acted. Must never send a body or a key where a redirect alone points.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use ::reach::{Authorities, Guard, Reach};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body::{Frame, SizeHint};
use reqwest::{
    Body, Certificate, Client, ClientBuilder, Identity, Method, Response, StatusCode,
    header::{CONTENT_ENCODING, HeaderMap},
    redirect::Policy,
    tls::TlsInfo,
};
use url::Url;

use super::{classify, redirect};
use crate::{
    Error,
    outcome::{Reached, ToolError, ToolErrorCode},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 5;
/// The driver ends this long before the attempt does, so that it says itself how far the request came.
const HEAD_START: Duration = Duration::from_millis(20);

/// One request.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    pub max_bytes: usize,
    pub allow_private_network: bool,
    /// Whether it may go to another origin as well, with a body or with a method that acts, when a redirect asks for
    /// that.
    pub may_move: bool,
    /// For the answer and all redirects before it.
    pub timeout: Duration,
}

/// Its answer.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub truncated: bool,
    pub url: Url,
    /// Whether the server may have acted.
    pub reached: Reached,
    /// The server's own certificate in its DER form, over TLS.
    pub certificate: Option<Vec<u8>>,
}

/// Two clients with connections to keep: one for public addresses only, one for any.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    public: Client,
    any: Client,
    /// What the first may reach, and whose certificates both take.
    guard: Guard,
    max_response_bytes: usize,
    /// Whether it shows a certificate, which is for the server of its tool alone.
    is_identified: bool,
}

/// The client certificate that connections show, and whose certificates they take.
pub(crate) struct Shown {
    pub identity: Identity,
    /// Empty: those that the system and the operator trust.
    pub authorities: Vec<Certificate>,
}

impl HttpClient {
    /// Takes certificates of these authorities besides those that the system trusts.
    pub(crate) fn new(authorities: &Authorities, max_response_bytes: usize) -> Result<Self, Error> {
        Self::with(Guard::system(Reach::PUBLIC).trusting(authorities), max_response_bytes)
    }

    /// With a resolver and an idea of what is public of one's own.
    pub(crate) fn with(public: Guard, max_response_bytes: usize) -> Result<Self, Error> {
        let build = |guard: &Guard| {
            let built = public.authorities.add_to(builder(guard)).build();
            built.map_err(|error| Error::Internal(format!("the HTTP client cannot be built: {error}")))
        };
        let any = Guard { reach: Reach::Any, ..public.clone() };
        Ok(Self {
            public: build(&public)?,
            any: build(&any)?,
            guard: public,
            max_response_bytes,
            is_identified: false,
        })
    }

    /// The same that shows a certificate, with connections of its own.
    pub(crate) fn showing(&self, shown: &Shown) -> Result<Self, reqwest::Error> {
        let build = |guard: &Guard| {
            let builder = builder(guard).identity(shown.identity.clone());
            if shown.authorities.is_empty() {
                guard.authorities.add_to(builder).build()
            } else {
                builder.tls_certs_only(shown.authorities.clone()).build()
            }
        };
        let (public, any) = (build(&self.guard)?, build(&self.guard(true))?);
        Ok(Self { public, any, is_identified: true, ..self.clone() })
    }

    /// What keeps a connection that is no request of HTTP to the addresses that requests may reach.
    pub(crate) fn guard(&self, allow_private_network: bool) -> Guard {
        let reach = if allow_private_network { Reach::Any } else { self.guard.reach };
        Guard { reach, ..self.guard.clone() }
    }

    /// Whose certificates it takes besides those that the system trusts.
    pub(crate) fn authorities(&self) -> &Authorities {
        &self.guard.authorities
    }

    /// Sends a request and follows its redirects.
    pub(crate) async fn fetch(&self, fetch: Fetch) -> Result<Fetched, ToolError> {
        let (trace, timeout) = (Trace::default(), fetch.timeout);
        let within = timeout.saturating_sub(HEAD_START.min(timeout / 10));
        let fetched = tokio::time::timeout(within, self.follow(fetch, &trace)).await;
        let too_late = || {
            let message = format!("the server did not answer within {} ms", timeout.as_millis());
            ToolError::new(ToolErrorCode::Timeout, message)
        };
        fetched.unwrap_or_else(|_| Err(too_late())).map_err(|error| error.having(trace.reached()))
    }

    async fn follow(&self, mut fetch: Fetch, trace: &Trace) -> Result<Fetched, ToolError> {
        for _ in 0..=MAX_REDIRECTS {
            let before = trace.reached();
            let response = self.send(&fetch, trace).await?;
            let Some(url) = redirect::target(&fetch, &response)? else {
                trace.set(before.max(classify::reached(response.status(), response.headers())));
                return self.read(fetch, response, trace).await;
            };
            // Sent on unchanged, the request was not acted on here. Any other redirect may be the answer to
            // what it did.
            let here = if redirect::is_unchanged(response.status()) { Reached::No } else { Reached::Maybe };
            trace.set(before.max(here));
            if self.is_identified && url.origin() != fetch.url.origin() {
                let message = "the server redirects to another origin, to which no certificate is shown";
                return Err(ToolError::new(ToolErrorCode::ToolFailed, message));
            }
            redirect::apply(&mut fetch, response.status(), url)?;
        }
        Err(ToolError::new(ToolErrorCode::ToolFailed, format!("more than {MAX_REDIRECTS} redirects")))
    }

    async fn send(&self, fetch: &Fetch, trace: &Trace) -> Result<Response, ToolError> {
        let (reach, client) = if fetch.allow_private_network {
            (Reach::Any, &self.any)
        } else {
            (self.guard.reach, &self.public)
        };
        reach.check(&fetch.url)?;
        let mut request =
            client.request(fetch.method.clone(), fetch.url.clone()).headers(fetch.headers.clone());
        let before = trace.reached();
        match &fetch.body {
            // Its first byte is taken when the connection stands.
            Some(body) if !body.is_empty() => {
                request = request.body(Body::wrap(Told { bytes: Some(body.clone()), trace: trace.clone() }));
            }
            // Nothing tells when a request without a body has gone out.
            body => {
                if let Some(body) = body {
                    request = request.body(body.clone());
                }
                trace.set(before.max(Reached::Maybe));
            }
        }
        request.send().await.map_err(|error| {
            if classify::is_unsent(&error) {
                trace.set(before);
            }
            classify::failure(error)
        })
    }

    async fn read(&self, fetch: Fetch, response: Response, trace: &Trace) -> Result<Fetched, ToolError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let tls = response.extensions().get::<TlsInfo>();
        let certificate = tls.and_then(TlsInfo::peer_certificate).map(<[u8]>::to_vec);
        let limit = fetch.max_bytes.min(self.max_response_bytes);
        // What was decoded has lost this header: any that is left was not asked for.
        if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let name: String = String::from_utf8_lossy(encoding.as_bytes()).chars().take(40).collect();
            let message = format!("the server encoded its answer as {name:?}, which it was not asked to");
            return Err(ToolError::new(ToolErrorCode::Protocol, message));
        }
        let (mut body, mut truncated) = (Vec::new(), false);
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                // The status says enough of a failure whose words broke off.
                Err(_) if !status.is_success() => break,
                Err(error) => return Err(classify::failure(error)),
            };
            let room = limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                truncated = true;
                break;
            }
        }
        Ok(Fetched {
            status,
            headers,
            body,
            truncated,
            url: fetch.url,
            reached: trace.reached(),
            certificate,
        })
    }
}

fn builder(guard: &Guard) -> ClientBuilder {
    Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .dns_resolver(guard.clone())
        .user_agent(concat!("toolcrib/", env!("CARGO_PKG_VERSION")))
        .tls_info(true)
}

/// How far a request has come.
#[derive(Debug, Clone)]
struct Trace(Arc<Mutex<Reached>>);

impl Default for Trace {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Reached::No)))
    }
}

impl Trace {
    fn reached(&self) -> Reached {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, reached: Reached) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reached;
    }
}

/// A body that tells when it is taken.
struct Told {
    bytes: Option<Bytes>,
    trace: Trace,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.bytes.take();
        if bytes.is_some() {
            self.trace.set(self.trace.reached().max(Reached::Maybe));
        }
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
