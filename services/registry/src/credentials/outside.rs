//! Asks token endpoints and sources of secrets: no redirects, no proxies, little time, a small answer, and no address
//! that is not public unless the operator allows it. Must never tell what was sent or answered.

use std::time::Duration;

use reach::{Authorities, CertificateFault, Guard, Reach, Refused};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use secrecy::zeroize::Zeroizing;
use url::Url;

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a connection may take to be made, where half of the time for all of it is not less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest pause that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// Asks over HTTP.
pub(super) struct Outside {
    client: Option<Client>,
    timeout: Duration,
    allow_private_network: bool,
}

/// What was answered.
pub(super) struct Answer {
    pub status: StatusCode,
    /// How long to wait, where the server says so.
    pub retry_after: Option<Duration>,
    pub body: Zeroizing<Vec<u8>>,
}

/// Why nothing was answered; says nothing of what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unanswered(pub String);

impl Outside {
    pub(super) fn new(timeout: Duration, allow_private_network: bool, authorities: &Authorities) -> Self {
        let reach = if allow_private_network { Reach::Any } else { Reach::PUBLIC };
        let client = authorities
            .add_to(Client::builder())
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(connect_timeout(timeout))
            .timeout(timeout)
            .dns_resolver(Guard::system(reach))
            .user_agent(concat!("toolcrib/", env!("CARGO_PKG_VERSION")))
            .build();
        if client.is_err() {
            tracing::error!("the HTTP client for token endpoints cannot be built");
        }
        Self { client: client.ok(), timeout, allow_private_network }
    }

    /// How long an answer may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The address, if it may be asked: over TLS and in public, unless the operator allows others.
    pub(super) fn check(&self, address: &str) -> Result<Url, String> {
        let url = Url::parse(address).map_err(|_| "is not an address".to_owned())?;
        if !self.allow_private_network && url.scheme() != "https" {
            return Err(
                "must begin with https:// (registry.credentials.allow_private_network allows others)".into(),
            );
        }
        let reach = if self.allow_private_network { Reach::Any } else { Reach::PUBLIC };
        reach.check(&url).map_err(|refused| format!("may not be asked: {refused}"))?;
        Ok(url)
    }

    /// Posts a body of this type.
    pub(super) async fn post(
        &self,
        address: &str,
        content_type: &'static str,
        authorization: Option<header::HeaderValue>,
        body: String,
    ) -> Result<Answer, Unanswered> {
        let url = self.check(address).map_err(Unanswered)?;
        let client =
            self.client.as_ref().ok_or_else(|| Unanswered("cannot be asked by this process".into()))?;
        let mut request = client
            .post(url)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, "application/json")
            .body(body);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let body = self.read(response).await?;
        Ok(Answer { status, retry_after, body })
    }

    async fn read(&self, mut response: Response) -> Result<Zeroizing<Vec<u8>>, Unanswered> {
        let mut body = Zeroizing::new(Vec::with_capacity(4096));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Unanswered(format!("answered more than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// In words of our own: those of the client may hold the address with its query.
    fn unanswered(&self, error: &reqwest::Error) -> Unanswered {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(each) = cause {
            if let Some(refused) = each.downcast_ref::<Refused>() {
                return Unanswered(format!("may not be asked: {refused}"));
            }
            cause = each.source();
        }
        if let Some(fault) = CertificateFault::of(error) {
            return Unanswered(format!("cannot be connected to: {fault}"));
        }
        if error.is_timeout() && error.is_connect() {
            let limit = connect_timeout(self.timeout).as_secs_f64();
            return Unanswered(format!("cannot be connected to within {limit} s"));
        }
        if error.is_timeout() {
            return Unanswered(format!("did not answer within {} s", self.timeout.as_secs()));
        }
        let what = if error.is_connect() { "cannot be connected to" } else { "broke off its answer" };
        Unanswered(what.into())
    }
}

fn connect_timeout(timeout: Duration) -> Duration {
    CONNECT_TIMEOUT.min(timeout / 2)
}

/// RFC 9110, section 10.2.3, in seconds or as a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = chrono::DateTime::parse_from_rfc2822(value).ok()?;
        until.signed_duration_since(chrono::Utc::now()).to_std().unwrap_or_default()
    };
    Some(pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_public_addresses_over_tls_are_asked_unless_others_are_allowed() {
        let strict = Outside::new(Duration::from_secs(1), false, &Authorities::default());
        assert!(strict.check("https://auth.example.com/token").is_ok());
        for bad in [
            "http://auth.example.com/token",
            "https://127.0.0.1/token",
            "https://[::1]/token",
            "https://169.254.169.254/latest",
            "https://localhost/token",
            "https://user:pass@auth.example.com/token",
            "ftp://auth.example.com/",
            "nothing",
        ] {
            assert!(strict.check(bad).is_err(), "{bad}");
        }
        let refused = strict.post("https://127.0.0.1:1/", "text/plain", None, String::new()).await;
        assert!(refused.err().unwrap().0.contains("may not be asked"));
        let open = Outside::new(Duration::from_secs(1), true, &Authorities::default());
        assert!(open.check("http://127.0.0.1/token").is_ok());
        assert!(open.check("file:///etc/passwd").is_err());
    }
    #[tokio::test]
    async fn a_connection_that_does_not_come_about_is_waited_for_as_long_as_is_said() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts: the system makes a few connections, and then no more.
        let mut made = Vec::new();
        let short = Duration::from_millis(300);
        while let Ok(connected) = tokio::time::timeout(short, tokio::net::TcpStream::connect(address)).await {
            made.push(connected.unwrap());
        }
        let outside = Outside::new(Duration::from_secs(2), true, &Authorities::default());
        let url = format!("http://{address}/");
        let told = outside.post(&url, "text/plain", None, String::new()).await.err().unwrap();
        assert_eq!(told.0, "cannot be connected to within 1 s");
    }
}
