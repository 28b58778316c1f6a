//! A token endpoint on loopback that misbehaves on demand and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

/// How the next requests are answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// A token `token-N`, the Nth, of this many seconds.
    Token(u64),
    /// The same, after this time.
    SlowToken(u64, Duration),
    /// The same, and with it the refresh token `refresh-N`, after which only that one is taken.
    Replacing(u64),
    /// This status, body and Retry-After.
    Status(u16, String, Option<&'static str>),
    /// This JSON.
    Json(String),
    /// The same, after this time.
    SlowJson(String, Duration),
    /// A megabyte.
    Huge,
    /// To the same place again.
    Redirect,
    /// Nothing at all.
    Never,
    /// The beginning of an answer, and no end.
    Endless,
}

/// One request that arrived.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub authorization: String,
    pub body: String,
}

#[derive(Debug, Clone)]
struct Seen(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    answer: Answer,
    hits: Vec<Hit>,
    tokens: u32,
    /// The only refresh token that is taken; `None`: any.
    refresh: Option<String>,
}

/// The server; ends when dropped.
pub(super) struct TokenServer {
    address: SocketAddr,
    seen: Seen,
    task: JoinHandle<()>,
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TokenServer {
    pub(super) async fn start() -> Self {
        let book = Book { answer: Answer::Token(3_600), hits: vec![], tokens: 0, refresh: None };
        let seen = Seen(Arc::new(Mutex::new(book)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(seen.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, task }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn answer(&self, answer: Answer) {
        self.seen.book(|book| book.answer = answer);
    }

    pub(super) fn hits(&self) -> Vec<Hit> {
        self.seen.book(|book| book.hits.clone())
    }
}

impl Seen {
    fn book<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn answer(State(seen): State<Seen>, headers: HeaderMap, request: Request) -> Response {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let authorization = headers.get(header::AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
    let hit = Hit { authorization: authorization.into(), body: body.clone() };
    let answer = seen.book(|book| {
        book.hits.push(hit);
        book.answer.clone()
    });
    match answer {
        Answer::Token(life) => token(&seen, life, &body, false),
        Answer::SlowToken(life, time) => {
            tokio::time::sleep(time).await;
            token(&seen, life, &body, false)
        }
        Answer::Replacing(life) => token(&seen, life, &body, true),
        Answer::Status(status, text, retry_after) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), text).into_response();
            if let Some(retry_after) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, retry_after.parse().unwrap());
            }
            response
        }
        Answer::Json(text) => text.into_response(),
        Answer::SlowJson(text, time) => {
            tokio::time::sleep(time).await;
            text.into_response()
        }
        Answer::Huge => "x".repeat(1 << 20).into_response(),
        Answer::Redirect => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/again")]).into_response(),
        Answer::Never => std::future::pending().await,
        Answer::Endless => {
            let begun = futures_util::stream::once(async { Ok::<_, std::io::Error>("{") });
            axum::body::Body::from_stream(begun.chain(futures_util::stream::pending())).into_response()
        }
    }
}

fn token(seen: &Seen, life: u64, body: &str, replaces: bool) -> Response {
    seen.book(|book| {
        let given = url::form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "refresh_token");
        let given = given.map(|(_, value)| value.into_owned());
        if given.is_some() && book.refresh.is_some() && given != book.refresh {
            let refused = json!({"error": "invalid_grant", "error_description": given});
            return (StatusCode::BAD_REQUEST, refused.to_string()).into_response();
        }
        book.tokens += 1;
        let number = book.tokens;
        let mut told =
            json!({"access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": life});
        if replaces {
            book.refresh = Some(format!("refresh-{number}"));
            told["refresh_token"] = json!(book.refresh);
        }
        told.to_string().into_response()
    })
}
