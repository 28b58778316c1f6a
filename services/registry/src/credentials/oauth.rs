//! Fetches a token of OAuth 2.0: the client credentials grant (RFC 6749, section 4.4) and the refresh token grant
//! (section 6). Must never tell what it sent, or more of an answer than its error code.

use std::{panic::AssertUnwindSafe, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::FutureExt;
use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::{
    outside::{Answer, Outside},
    secret::{Secret, Text},
};

/// Life of a token whose server does not say.
const DEFAULT_LIFE: Duration = Duration::from_mins(5);
/// Shortest and longest life that is believed.
const MIN_LIFE: Duration = Duration::from_secs(1);
const MAX_LIFE: Duration = Duration::from_hours(24 * 30);
/// Longest token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// What a token endpoint granted.
pub(super) struct Grant {
    pub token: Text,
    pub life: Duration,
    /// The refresh token to use from now on, where the server replaced it.
    pub refresh_token: Option<Text>,
}

/// Why nothing was granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct Refusal {
    /// What the server says, as far as it may be told.
    pub why: String,
    /// Whether asking again would change nothing.
    pub is_final: bool,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

/// What RFC 6749, section 5.1 lets a server answer.
#[derive(Deserialize)]
struct Granted {
    access_token: Text,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    refresh_token: Option<Text>,
}

/// Section 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Some servers send the number as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// Asks for a token. A secret that no token is fetched with is refused, and so is whatever makes the asking panic: a
/// fetch always ends in a way that can be noted.
pub(super) async fn fetch(outside: &Outside, secret: &Secret) -> Result<Grant, Refusal> {
    to_its_end(ask(outside, secret)).await
}

async fn to_its_end(asked: impl Future<Output = Result<Grant, Refusal>>) -> Result<Grant, Refusal> {
    let ended = AssertUnwindSafe(asked).catch_unwind().await;
    ended.unwrap_or_else(|_| Err(failed("the token endpoint gave an answer that cannot be read")))
}

async fn ask(outside: &Outside, secret: &Secret) -> Result<Grant, Refusal> {
    let (url, authorization, body) = request(secret).ok_or_else(|| failed("no token is fetched with it"))?;
    let answer =
        outside.post(url, "application/x-www-form-urlencoded", authorization, body.to_string()).await;
    let answer = answer.map_err(|error| failed(format!("the token endpoint {error}")))?;
    if answer.status.is_success() { granted(&answer.body) } else { Err(refused(&answer)) }
}

/// Address, `Authorization` and body.
fn request(secret: &Secret) -> Option<(&str, Option<HeaderValue>, Zeroizing<String>)> {
    let mut form = Serializer::new(String::new());
    let (url, id, client_secret, scopes, in_body) = match secret {
        Secret::OAuth2Client(client) => {
            form.append_pair("grant_type", "client_credentials");
            if !client.audience.is_empty() {
                form.append_pair("audience", &client.audience);
            }
            let in_body = client.secret_in_body;
            (&client.token_url, &client.client_id, &client.client_secret, &client.scopes, in_body)
        }
        Secret::OAuth2Refresh(refresh) => {
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("refresh_token", refresh.refresh_token.expose());
            // A public client has no secret, and so nothing to authenticate with.
            let in_body = refresh.secret_in_body || refresh.client_secret.is_empty();
            (&refresh.token_url, &refresh.client_id, &refresh.client_secret, &refresh.scopes, in_body)
        }
        Secret::ApiKey(_) | Secret::Basic(_) | Secret::MutualTls(_) => return None,
    };
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes.join(" "));
    }
    let mut authorization = None;
    if in_body {
        form.append_pair("client_id", id);
        if !client_secret.is_empty() {
            form.append_pair("client_secret", client_secret.expose());
        }
    } else {
        authorization = Some(basic(id, client_secret)?);
    }
    Some((url, authorization, Zeroizing::new(form.finish())))
}

/// RFC 6749, section 2.3.1: both are form-encoded before they are joined.
fn basic(id: &str, secret: &Text) -> Option<HeaderValue> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let joined = Zeroizing::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(joined.as_bytes())));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn granted(body: &[u8]) -> Result<Grant, Refusal> {
    // The parser's own words may hold the token.
    let granted: Granted =
        serde_json::from_slice(body).map_err(|_| failed("the token endpoint gave no token as JSON"))?;
    let is_bearer = granted.token_type.is_none_or(|name| name.eq_ignore_ascii_case("bearer"));
    if !is_bearer {
        return Err(failed("the token endpoint gave a token of another type than Bearer"));
    }
    for token in [Some(&granted.access_token), granted.refresh_token.as_ref()].into_iter().flatten() {
        let token = token.expose();
        if !(1..=MAX_TOKEN).contains(&token.len()) || !token.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        {
            return Err(failed("the token endpoint gave a token that cannot be sent"));
        }
    }
    let seconds = match granted.expires_in {
        None => None,
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.trim().parse().ok(),
    };
    // A text may be "NaN", which no clamp bounds and no duration takes.
    let seconds = seconds.filter(|seconds: &f64| seconds.is_finite());
    let life = seconds.map_or(DEFAULT_LIFE, |seconds| {
        Duration::from_secs_f64(seconds.clamp(MIN_LIFE.as_secs_f64(), MAX_LIFE.as_secs_f64()))
    });
    Ok(Grant { token: granted.access_token, life, refresh_token: granted.refresh_token })
}

/// Tells the code of an error that is one of OAuth 2.0, and nothing else of the answer.
fn refused(answer: &Answer) -> Refusal {
    let code = serde_json::from_slice::<Refused>(&answer.body).ok().map(|refused| refused.error);
    let code = code.filter(|code| {
        (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    });
    let status = answer.status.as_u16();
    // RFC 6749, section 5.2: all of these say that the request is wrong, not the moment.
    let is_final = code.as_deref().is_some_and(|code| {
        let wrong = ["invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"];
        wrong.contains(&code) || ["unsupported_grant_type", "invalid_scope"].contains(&code)
    });
    let why = match code {
        Some(code) => format!("the token endpoint refused: {code} (HTTP status {status})"),
        None => format!("the token endpoint answered with HTTP status {status}"),
    };
    Refusal { why, is_final, retry_after: answer.retry_after }
}

fn failed(why: impl Into<String>) -> Refusal {
    Refusal { why: why.into(), is_final: false, retry_after: None }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::credentials::{OAuth2Client, OAuth2Refresh};

    fn client(secret_in_body: bool) -> Secret {
        Secret::OAuth2Client(OAuth2Client {
            token_url: "https://a/t".into(),
            client_id: "a b".into(),
            client_secret: "p:w/d".into(),
            scopes: vec!["read".into(), "write".into()],
            audience: "https://api".into(),
            secret_in_body,
        })
    }

    #[test]
    fn the_client_is_told_in_the_header_or_in_the_body_and_never_in_both() {
        let secret = client(false);
        let (url, header, body) = request(&secret).unwrap();
        assert_eq!(url, "https://a/t");
        let expected = format!("Basic {}", BASE64_STANDARD.encode("a+b:p%3Aw%2Fd"));
        assert_eq!(header.unwrap(), expected.as_str());
        assert_eq!(*body, "grant_type=client_credentials&audience=https%3A%2F%2Fapi&scope=read+write");
        let secret = client(true);
        let (_, header, body) = request(&secret).unwrap();
        assert!(header.is_none() && body.ends_with("&client_id=a+b&client_secret=p%3Aw%2Fd"));
        let public =
            OAuth2Refresh { client_id: "i".into(), refresh_token: "r".into(), ..OAuth2Refresh::default() };
        let secret = Secret::OAuth2Refresh(public);
        let (_, header, body) = request(&secret).unwrap();
        assert!(header.is_none());
        assert_eq!(*body, "grant_type=refresh_token&refresh_token=r&client_id=i");
        assert!(request(&Secret::ApiKey("k".into())).is_none());
    }

    #[test]
    fn only_a_bearer_token_that_can_be_sent_is_taken() {
        let life = |text: &str| granted(text.as_bytes()).ok().map(|grant| grant.life.as_secs());
        assert_eq!(life(r#"{"access_token":"t","token_type":"bearer","expires_in":60}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"t","expires_in":"60"}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"t"}"#), Some(300));
        assert_eq!(life(r#"{"access_token":"t","expires_in":-5}"#), Some(1));
        assert_eq!(life(r#"{"access_token":"t","expires_in":1e300}"#), Some(30 * 86_400));
        for text in ["NaN", "-nan", "inf", "-Infinity", "1e999"] {
            assert_eq!(
                life(&format!(r#"{{"access_token":"t","expires_in":"{text}"}}"#)),
                Some(300),
                "{text}"
            );
        }
        for bad in [
            "<html>hunter2</html>",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"hunter2\r\nX: y"}"#,
            r#"{"access_token":"hunter2","token_type":"mac"}"#,
            r#"{"access_token":"t","refresh_token":"hunter2\n"}"#,
            r#"{"access_token":{"hunter2":1}}"#,
        ] {
            let told = granted(bad.as_bytes()).err().unwrap();
            assert!(!told.why.contains("hunter2"), "{told}");
        }
    }

    #[tokio::test]
    async fn an_asking_that_panics_is_a_failure_like_any_other() {
        let told = to_its_end(async { panic!("hunter2") }).await.err().unwrap();
        assert!(!told.is_final && !told.why.contains("hunter2"), "{told}");
    }

    #[test]
    fn of_a_refusal_the_code_is_told_and_nothing_else() {
        let told = |body: &str| {
            let body = Zeroizing::new(body.as_bytes().to_vec());
            refused(&Answer { status: StatusCode::BAD_REQUEST, retry_after: None, body })
        };
        let grant = told(r#"{"error":"invalid_grant","error_description":"hunter2"}"#);
        assert_eq!(grant.why, "the token endpoint refused: invalid_grant (HTTP status 400)");
        assert!(grant.is_final);
        for body in [r#"{"error":"hunter2"}"#, r#"{"error":"not so; hunter2"}"#, "hunter2", ""] {
            let other = told(body);
            assert!(!other.is_final && !other.why.contains("hunter2"), "{other}");
        }
    }
}
