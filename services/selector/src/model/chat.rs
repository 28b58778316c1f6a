//! Speaks the chat completions protocol (OpenAI API reference, "Create chat completion") as a client: one POST, no
//! redirects, no proxies, little time, a small answer. Must never tell what was sent or answered, and must trust
//! nothing of the answer but that its text is a text.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use reach::{Authorities, CertificateFault, Guard, Refused};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::{config::Config, key, prompt::Prompt};

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a server may ask to be left alone.
const MAX_PAUSE: Duration = Duration::from_hours(1);
/// How long a server that refused a schema is asked without one: one odd question must not decide for ever.
const PLAIN_FOR: Duration = Duration::from_hours(1);

/// Asks one server for one model's words.
#[derive(Debug)]
pub(super) struct Chat {
    client: Client,
    url: Url,
    model: String,
    max_tokens: u32,
    key_file: PathBuf,
    /// Until when the server is taken to take no `response_format`; learned from its refusal.
    plain_until: Mutex<Option<Instant>>,
}

/// Why there are no words; says nothing of what was sent or answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// No answer in the time there is.
    #[error("did not answer in time")]
    Late,
    /// No answer, or one that broke off.
    #[error("{0}")]
    Unanswered(String),
    /// Another status than 200.
    #[error("answered with status {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Not an answer of this protocol.
    #[error("{0}")]
    Malformed(String),
}

impl Chat {
    /// Fails when the endpoint may not be asked.
    pub(super) fn new(config: &Config, authorities: &Authorities) -> Result<Self, String> {
        let url = config.address()?;
        let client = authorities
            .add_to(Client::builder())
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout()))
            .timeout(config.timeout())
            .dns_resolver(Guard::system(config.reach()))
            .user_agent(concat!("toolcrib/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| "cannot be asked: the HTTP client cannot be built")?;
        Ok(Self {
            client,
            url,
            model: config.model.clone(),
            max_tokens: config.max_tokens,
            key_file: config.key_file.clone(),
            plain_until: Mutex::default(),
        })
    }

    /// Whether the server was found to take no schema of the answer.
    pub(super) fn is_plain(&self, now: Instant) -> bool {
        let until = self.plain_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }

    /// Asks without one for a while.
    pub(super) fn make_plain(&self, now: Instant) {
        let until = Some(now + PLAIN_FOR);
        *self.plain_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// The model's words on a prompt.
    pub(super) async fn complete(&self, prompt: &Prompt, is_plain: bool) -> Result<String, Fault> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(self.body(prompt, is_plain).to_string());
        if let Some(authorization) = self.authorization().await? {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(|error| unanswered(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(Fault::Status { status, retry_after: retry_after(&response) });
        }
        words(&read(response).await?)
    }

    /// What is posted. Without a schema, only what every server of this protocol takes.
    fn body(&self, prompt: &Prompt, is_plain: bool) -> Value {
        let messages = json!([
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.data.to_string()},
        ]);
        let mut body = json!({"model": self.model, "messages": messages, "max_tokens": self.max_tokens});
        if !is_plain {
            body["temperature"] = json!(0);
            let schema = json!({"name": prompt.name, "strict": true, "schema": prompt.schema});
            body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
        }
        body
    }

    async fn authorization(&self) -> Result<Option<header::HeaderValue>, Fault> {
        let file = self.key_file.clone();
        let read = tokio::task::spawn_blocking(move || key::authorization(&file)).await;
        let read = read.map_err(|_| Fault::Unanswered("cannot be asked: its key was not read".to_owned()))?;
        read.map_err(|fault| {
            tracing::warn!(fault, "the file with the key of the model that may help is of no use");
            Fault::Unanswered("cannot be asked: its key file is of no use".to_owned())
        })
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::with_capacity(4096);
    while let Some(chunk) = response.chunk().await.map_err(|error| unanswered(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Fault::Malformed(format!("answered with more than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first choice's text.
fn words(body: &[u8]) -> Result<String, Fault> {
    #[derive(Deserialize)]
    struct Completion {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        content: Option<String>,
    }
    let malformed = |what: &str| Fault::Malformed(what.to_owned());
    let completion: Completion =
        serde_json::from_slice(body).map_err(|_| malformed("answered with no chat completion"))?;
    let first = completion.choices.into_iter().next().and_then(|choice| choice.message.content);
    first.ok_or_else(|| malformed("answered with a chat completion without a text"))
}

/// In words of our own: those of the client may hold the address with its query.
fn unanswered(error: &reqwest::Error) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(each) = cause {
        if let Some(refused) = each.downcast_ref::<Refused>() {
            return Fault::Unanswered(format!("may not be asked: {refused}"));
        }
        cause = each.source();
    }
    if let Some(fault) = CertificateFault::of(error) {
        return Fault::Unanswered(format!("cannot be connected to: {fault}"));
    }
    if error.is_timeout() {
        return Fault::Late;
    }
    let what = if error.is_connect() { "cannot be connected to" } else { "broke off its answer" };
    Fault::Unanswered(what.to_owned())
}

/// What the answer says of when to come again: seconds, or a date (RFC 9110, section 10.2.3); at most an hour.
fn retry_after(answer: &Response) -> Option<Duration> {
    pause(answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

fn pause(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => MAX_PAUSE,
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_the_first_choice_counts() {
        let body = r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"one","extra":{}}},
            {"message":{"content":"two"}}],"usage":{"total_tokens":9}}"#;
        assert_eq!(words(body.as_bytes()).unwrap(), "one");
        let nested = format!(r#"{{"choices":[],"x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        for bad in [
            "",
            "oops",
            "null",
            "[]",
            r#"{"choices":[]}"#,
            r#"{"choices":[{}]}"#,
            r#"{"choices":[{"message":{"content":null,"refusal":"no"}}]}"#,
            r#"{"choices":[{"message":{"content":[{"type":"text","text":"x"}]}}]}"#,
            r#"{"choices":[{"message":{"content":"a"#,
            &nested,
            &"[".repeat(60_000),
        ] {
            assert!(
                matches!(words(bad.as_bytes()), Err(Fault::Malformed(_))),
                "{}",
                &bad[..bad.len().min(80)]
            );
        }
        assert!(words(b"{\"choices\":[{\"message\":{\"content\":\"\xff\"}}]}").is_err());
    }

    #[test]
    fn a_server_that_refused_a_schema_is_asked_with_one_again_an_hour_later() {
        let config = Config { endpoint: "https://models.example.com/v1".into(), ..Config::off() };
        let chat = Chat::new(&config, &Authorities::default()).unwrap();
        let now = Instant::now();
        assert!(!chat.is_plain(now));
        chat.make_plain(now);
        let last = now + Duration::from_secs(3_599);
        assert!(chat.is_plain(last) && !chat.is_plain(last + Duration::from_secs(1)));
    }

    #[test]
    fn a_server_is_heard_up_to_an_hour() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            ("99999999999999999999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(pause(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
