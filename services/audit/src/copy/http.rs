//! An HTTP server as a second place: `PUT URL/TEAM/SIZE.checkpoint` and `URL/TEAM/latest`, and `GET` of the latter. Must
//! never show the token, and never follow a redirect with it.

use std::error::Error as _;

use reach::Authorities;
use reqwest::{Client, Method, StatusCode, Url, header, redirect::Policy};
use secrecy::{ExposeSecret, SecretString};

use super::{Copy, Failure, escaped, file_name};
use crate::config::{CheckpointConfig, HttpMethod};

/// Longest checkpoint that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The media type of a signed note: UTF-8 text (C2SP signed-note).
const MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// The server.
#[derive(Debug)]
pub(crate) struct Http {
    url: Url,
    method: Method,
    token: Option<SecretString>,
    client: Client,
}

impl Http {
    /// The server at this address.
    pub(super) fn new(
        text: &str,
        settings: &CheckpointConfig,
        authorities: &Authorities,
    ) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user or a password; set audit.checkpoints.http_token instead".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("has a query or a fragment, which no place has".to_owned());
        }
        let token = settings.http_token.clone().filter(|token| !token.expose_secret().is_empty());
        if token.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            return Err("must begin with https://, since audit.checkpoints.http_token is set".to_owned());
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let method = match settings.http_method {
            HttpMethod::Put => Method::PUT,
            HttpMethod::Post => Method::POST,
        };
        let builder = Client::builder()
            .timeout(settings.timeout())
            .connect_timeout(settings.timeout())
            .redirect(Policy::none());
        let client = authorities.add_to(builder).build();
        let client = client.map_err(|error| format!("cannot be asked: {}", cause(&error)))?;
        Ok(Self { url, method, token, client })
    }

    pub(super) async fn put(&self, copy: Copy<'_>) -> Result<(), Failure> {
        for name in [file_name(copy.size).as_str(), "latest"] {
            let request = self.client.request(self.method.clone(), self.address(copy.team, name)?);
            let request = request.header(header::CONTENT_TYPE, MEDIA_TYPE).body(copy.note.to_owned());
            let answer = self.authorized(request).send().await.map_err(|error| cause(&error))?;
            // A server that keeps every checkpoint for ever may refuse the same one a second time.
            let is_kept = answer.status() == StatusCode::CONFLICT && name != "latest";
            if !answer.status().is_success() && !is_kept {
                return Err(format!("answered {} to {} of {name}", answer.status().as_u16(), self.method));
            }
        }
        Ok(())
    }

    pub(super) async fn latest(&self, team: &str) -> Result<Option<String>, Failure> {
        let request = self.client.get(self.address(team, "latest")?);
        let mut answer = self.authorized(request).send().await.map_err(|error| cause(&error))?;
        if matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(format!("answered {} to GET of latest", answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| cause(&error))? {
            body.extend_from_slice(&part);
            if body.len() > MAX_BYTES {
                return Err(format!("has a checkpoint of more than {MAX_BYTES} bytes"));
            }
        }
        String::from_utf8(body).map(Some).map_err(|_| "has a checkpoint that is no text".to_owned())
    }

    /// Any answer but a server's own fault shows that it is there; what it refuses, a copy finds out.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let answer = self.authorized(self.client.get(self.url.clone())).send().await;
        let status = answer.map_err(|error| cause(&error))?.status();
        if status.is_server_error() { Err(format!("answered {}", status.as_u16())) } else { Ok(()) }
    }

    fn address(&self, team: &str, name: &str) -> Result<Url, Failure> {
        // `%` itself is escaped once more, so that a server sees the same name as a folder has.
        let path = format!("{}/{name}", escaped(team).replace('%', "%25"));
        self.url.join(&path).map_err(|error| format!("has no address for a team: {error}"))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// What went wrong, down to its cause, without the address.
fn cause(error: &reqwest::Error) -> String {
    let mut deepest = error.source();
    while let Some(next) = deepest.and_then(std::error::Error::source) {
        deepest = Some(next);
    }
    let what = if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    };
    deepest.map_or_else(|| what.to_owned(), |deepest| format!("{what}: {deepest}"))
}
