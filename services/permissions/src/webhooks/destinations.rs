//! Asks the addresses of webhooks: over TLS and in public, unless the operator names the host; no redirects, no proxies,
//! little time, and nothing of the answer but its status. Must never tell an address: it may hold a secret.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reach::{Authorities, CertificateFault, Guard, Reach, Refused};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use url::Url;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a receiver may ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Where webhooks may be.
#[derive(Debug, Clone)]
pub(crate) struct Destinations {
    public: Option<Client>,
    private: Option<Client>,
    private_hosts: Vec<String>,
    timeout: Duration,
}

/// Headers of a message (Standard Webhooks, "Webhook Headers").
#[derive(Debug)]
pub(super) struct Headers {
    pub id: String,
    pub timestamp: i64,
    pub signature: String,
}

impl Destinations {
    /// `private_hosts` are hosts, or hosts with a port, that may be private addresses and be without TLS.
    pub(crate) fn new(private_hosts: &[String], timeout: Duration, authorities: &Authorities) -> Self {
        let client = |reach| {
            let client = authorities
                .add_to(Client::builder())
                .redirect(Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT.min(timeout))
                .timeout(timeout)
                .dns_resolver(Guard::system(reach))
                .user_agent(concat!("toolcrib/", env!("CARGO_PKG_VERSION")))
                .build();
            client
                .inspect_err(|error| tracing::error!(%error, "the HTTP client for webhooks cannot be built"))
        };
        Self {
            public: client(Reach::PUBLIC).ok(),
            private: client(Reach::Any).ok(),
            private_hosts: private_hosts.iter().map(|host| host.to_lowercase()).collect(),
            timeout,
        }
    }

    /// How long an attempt may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The address, if it may be asked.
    pub(super) fn check(&self, address: &str) -> Result<Url, String> {
        let url = Url::parse(address).map_err(|_| "is not an address, such as https://example.com/hook")?;
        if self.is_allowed_private(&url) {
            Reach::Any.check(&url).map_err(|refused| format!("may not be asked: {refused}"))?;
            return Ok(url);
        }
        if url.scheme() != "https" {
            return Err("must begin with https:// (permissions.webhook_private_hosts allows others)".into());
        }
        Reach::PUBLIC.check(&url).map_err(|refused| format!("may not be asked: {refused}"))?;
        Ok(url)
    }

    fn is_allowed_private(&self, url: &Url) -> bool {
        let Some(host) = url.host_str().map(str::to_lowercase) else { return false };
        let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
        self.private_hosts.iter().any(|allowed| *allowed == host || Some(allowed) == with_port.as_ref())
    }

    /// Posts a message; gives the status of the answer and how long it asks to be left alone, or why there is none.
    pub(super) async fn post(
        &self,
        address: &str,
        headers: &Headers,
        body: String,
    ) -> Result<(StatusCode, Option<Duration>), String> {
        let url = self.check(address)?;
        let client = if self.is_allowed_private(&url) { &self.private } else { &self.public };
        let client = client.as_ref().ok_or("cannot be asked by this process")?;
        let answer = client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &headers.id)
            .header("webhook-timestamp", headers.timestamp)
            .header("webhook-signature", &headers.signature)
            .body(body)
            .send()
            .await;
        // The body of the answer is of no use, however long it is: the connection is dropped with it.
        answer.map(|answer| (answer.status(), retry_after(&answer))).map_err(|error| self.unanswered(&error))
    }

    /// In words of our own: those of the client may hold the address.
    fn unanswered(&self, error: &reqwest::Error) -> String {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(each) = cause {
            if let Some(refused) = each.downcast_ref::<Refused>() {
                return format!("may not be asked: {refused}");
            }
            cause = each.source();
        }
        if let Some(fault) = CertificateFault::of(error) {
            return format!("cannot be connected to: {fault}");
        }
        match (error.is_timeout(), error.is_connect()) {
            (true, true) => "cannot be connected to in time".to_owned(),
            (true, false) => format!("did not answer within {} s", self.timeout.as_secs_f64()),
            (false, true) => "cannot be connected to".to_owned(),
            (false, false) => "broke off before it answered".to_owned(),
        }
    }
}

/// What the answer says of when to come again: seconds, or a date (RFC 9110, section 10.2.3); at most an hour.
fn retry_after(answer: &Response) -> Option<Duration> {
    wait(answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

fn wait(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => MAX_RETRY_AFTER,
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_when_to_come_again_and_is_heard_up_to_an_hour() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        let table = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("3600", Some(3_600)),
            ("3601", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("Sun, 13 Nov 1994 08:48:00 GMT", Some(3_600)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (text, seconds) in table {
            assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    fn checked(private_hosts: &[&str], address: &str) -> Result<(), String> {
        let hosts: Vec<String> = private_hosts.iter().map(|host| (*host).to_owned()).collect();
        let destinations = Destinations::new(&hosts, Duration::from_secs(1), &Authorities::default());
        destinations.check(address).map(drop)
    }

    #[test]
    fn an_address_is_public_and_over_tls_unless_the_operator_names_its_host() {
        checked(&[], "https://hooks.example.com/x?token=y").unwrap();
        for address in [
            "http://hooks.example.com/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://localhost/",
            "https://10.0.0.7/",
            "https://user:word@hooks.example.com/",
            "https://hooks.example.com:25/",
            "ftp://hooks.example.com/",
            "hooks",
            "",
        ] {
            assert!(checked(&[], address).is_err(), "{address}");
        }
        checked(&["127.0.0.1"], "http://127.0.0.1:8080/").unwrap();
        checked(&["Hooks.internal:8080"], "http://hooks.internal:8080/").unwrap();
        assert!(checked(&["hooks.internal:8080"], "http://hooks.internal:8081/").is_err());
        assert!(checked(&["127.0.0.1"], "http://127.0.0.2/").is_err());
        assert!(checked(&["hooks.internal"], "http://hooks.internal.example.com/").is_err());
    }
}
