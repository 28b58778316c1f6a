//! HTTP that reaches only where it may. A name is resolved once, its addresses are checked, and the
//! connection goes to a checked address; every redirect is checked again; bodies are read up to a limit.

use std::{
    error::Error as StdError,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::StreamExt;
use reqwest::{
    Client, Method, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{
        ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER,
        USER_AGENT,
    },
    redirect::Policy,
};
use url::{Host, Url};

use crate::{
    Error,
    outcome::{ToolError, ToolErrorCode},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 5;
/// Headers that follow a redirect to another origin; any other may be a key by whatever name.
const HARMLESS: [HeaderName; 5] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE, USER_AGENT];

/// One request.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
    pub max_bytes: usize,
    pub allow_private_network: bool,
}

/// Its answer.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub truncated: bool,
    pub url: Url,
}

impl Fetched {
    /// What the server asks to wait, where it gives seconds (RFC 9110, section 10.2.3).
    pub(crate) fn retry_after_ms(&self) -> i64 {
        let seconds =
            self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
        seconds.unwrap_or(0).clamp(0, 86_400) * 1_000
    }
}

/// Two clients with connections to keep: one for public addresses only, one for any.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    public: Client,
    any: Client,
    max_response_bytes: usize,
}

impl HttpClient {
    pub(crate) fn new(max_response_bytes: usize) -> Result<Self, Error> {
        let build = |allow_private| {
            Client::builder()
                .redirect(Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .dns_resolver(Guard { allow_private })
                .user_agent(concat!("toolcrib/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| Error::Internal(format!("the HTTP client cannot be built: {error}")))
        };
        Ok(Self { public: build(false)?, any: build(true)?, max_response_bytes })
    }

    /// Sends a request and follows its redirects.
    pub(crate) async fn fetch(&self, mut fetch: Fetch) -> Result<Fetched, ToolError> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&fetch).await?;
            match redirect(&fetch, &response)? {
                None => return self.read(fetch, response).await,
                Some(url) => follow(&mut fetch, response.status(), url),
            }
        }
        Err(ToolError::new(ToolErrorCode::ToolFailed, format!("more than {MAX_REDIRECTS} redirects")))
    }

    async fn send(&self, fetch: &Fetch) -> Result<Response, ToolError> {
        check_url(&fetch.url, fetch.allow_private_network)?;
        let client = if fetch.allow_private_network { &self.any } else { &self.public };
        let mut request =
            client.request(fetch.method.clone(), fetch.url.clone()).headers(fetch.headers.clone());
        if let Some(body) = &fetch.body {
            request = request.body(body.clone());
        }
        request.send().await.map_err(failure)
    }

    async fn read(&self, fetch: Fetch, response: Response) -> Result<Fetched, ToolError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let limit = fetch.max_bytes.min(self.max_response_bytes);
        let (mut body, mut truncated) = (Vec::new(), false);
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(failure)?;
            let room = limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                truncated = true;
                break;
            }
        }
        Ok(Fetched { status, headers, body, truncated, url: fetch.url })
    }
}

/// Where a redirect leads, if the response is one.
fn redirect(fetch: &Fetch, response: &Response) -> Result<Option<Url>, ToolError> {
    let follows = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| follows) else { return Ok(None) };
    let bad =
        || ToolError::new(ToolErrorCode::Protocol, "the server redirects to something that is no address");
    fetch.url.join(location.to_str().map_err(|_| bad())?).map(Some).map_err(|_| bad())
}

/// RFC 9110, section 15.4: what becomes of method and body; secrets do not leave their origin.
fn follow(fetch: &mut Fetch, status: StatusCode, url: Url) {
    let to_get = status == StatusCode::SEE_OTHER && fetch.method != Method::HEAD
        || matches!(status.as_u16(), 301 | 302) && fetch.method == Method::POST;
    if to_get {
        fetch.method = Method::GET;
        fetch.body = None;
        fetch.headers.remove(CONTENT_TYPE);
    }
    if url.origin() != fetch.url.origin() {
        let harmless = |name: &HeaderName| HARMLESS.contains(name);
        let secret: Vec<HeaderName> = fetch.headers.keys().filter(|name| !harmless(name)).cloned().collect();
        for name in secret {
            fetch.headers.remove(name);
        }
    }
    fetch.url = url;
}

/// An address in the URL itself never reaches the resolver, so it is checked here. `Url` has turned the
/// decimal, octal and hexadecimal forms into plain addresses already (WHATWG URL, host parsing).
fn check_url(url: &Url, allow_private: bool) -> Result<(), ToolError> {
    let refused = |message: String| Err(ToolError::new(ToolErrorCode::AddressRefused, message));
    if !matches!(url.scheme(), "http" | "https") {
        return refused(format!("only http and https addresses may be reached, not {}", url.scheme()));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) => None,
        None => return refused("the address names no host".into()),
    };
    match literal {
        Some(address) if !may_reach(address, allow_private) => {
            refused(format!("{address} is not a public address; this tool may reach public ones only"))
        }
        _ => Ok(()),
    }
}

/// Resolves names to the addresses that may be reached, and to nothing else.
#[derive(Debug, Clone, Copy)]
struct Guard {
    allow_private: bool,
}

/// A name all of whose addresses are off limits.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no public address; this tool may reach public ones only")]
struct Refused(String);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| may_reach(address.ip(), allow_private)).collect();
            if allowed.is_empty() {
                return Err(Refused(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn may_reach(address: IpAddr, allow_private: bool) -> bool {
    allow_private || is_public(address)
}

/// Whether an address is globally reachable, by the IANA special-purpose address registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)                                      // this network, private, loopback, multicast, reserved
            | (172, 16..=31, _) | (192, 168, _) | (169, 254, _)         // private, link-local
            | (100, 64..=127, _) | (198, 18..=19, _)                    // shared, benchmarking
            | (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113)          // protocol assignments, documentation
            | (192, 88, 99) // 6to4 relay anycast
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Addresses that carry an IPv4 address: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // IETF protocol assignments with Teredo, and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

/// A failed request in words that repeat neither address nor headers: either may hold a secret.
fn failure(error: reqwest::Error) -> ToolError {
    let error = error.without_url();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut innermost = error.to_string();
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<Refused>() {
            return ToolError::new(ToolErrorCode::AddressRefused, refused.to_string());
        }
        innermost = current.to_string();
        cause = current.source();
    }
    let code = if error.is_body() || error.is_decode() {
        ToolErrorCode::Protocol
    } else {
        ToolErrorCode::Unreachable
    };
    ToolError::new(code, format!("{error}: {innermost}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public_in_any_disguise() {
        let special = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "::7f00:1",
            "fec0::1",
        ];
        for address in special {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in
            ["93.184.216.34", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "64:ff9b::808:808"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_in_the_url_is_checked_however_it_is_spelled() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0/",
            "ftp://example.com/",
            "file:///etc/passwd",
        ] {
            let refused = check_url(&url.parse().unwrap(), false).unwrap_err();
            assert_eq!(refused.code, ToolErrorCode::AddressRefused, "{url}");
        }
        assert!(check_url(&"https://example.com/".parse().unwrap(), false).is_ok());
        assert!(check_url(&"http://127.0.0.1/".parse().unwrap(), true).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_without_a_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let fetch = Fetch {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: None,
            max_bytes: 100,
            allow_private_network: false,
        };
        let refused = HttpClient::new(1_024).unwrap().fetch(fetch).await.unwrap_err();
        assert_eq!(refused.code, ToolErrorCode::AddressRefused);
        let nobody = listener.into_std().unwrap().accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_redirect_from_a_public_address_to_a_private_one_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hits = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&hits);
        let to = format!("http://127.0.0.1:{}/private", address.port());
        let router = axum::Router::new().fallback(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let to = to.clone();
            async move { (axum::http::StatusCode::FOUND, [("location", to)]) }
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        // A name that stands for a public address: it alone leads to the server.
        let public =
            Client::builder().redirect(Policy::none()).resolve("public.test", address).build().unwrap();
        let client = HttpClient { any: public.clone(), public, max_response_bytes: 1_024 };
        let fetch = Fetch {
            method: Method::GET,
            url: format!("http://public.test:{}/", address.port()).parse().unwrap(),
            headers: HeaderMap::new(),
            body: None,
            max_bytes: 100,
            allow_private_network: false,
        };
        let refused = client.fetch(fetch).await.unwrap_err();
        assert_eq!(refused.code, ToolErrorCode::AddressRefused);
        assert_eq!(hits.load(std::sync::atomic::Ordering::Relaxed), 1);
        server.abort();
    }
}
