//! The outside world of the fencing scenario: it answers each request when it is told to, and with what it is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::eventually;

/// What a request is answered with.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// The number of the turn.
    Done,
    /// 503 with `Retry-After`, which says that nothing was begun: a request to come again.
    Busy,
}

/// The requests of one path, in order of arrival; each waits until its turn is given.
#[derive(Debug, Clone)]
struct Shared {
    arrived: Arc<Mutex<HashMap<String, usize>>>,
    given: watch::Receiver<HashMap<(String, usize), Reply>>,
}

/// The server. It ends with this value.
#[derive(Debug)]
pub struct Turns {
    address: std::net::SocketAddr,
    arrived: Arc<Mutex<HashMap<String, usize>>>,
    give: watch::Sender<HashMap<(String, usize), Reply>>,
    server: JoinHandle<()>,
}

impl Turns {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (give, given) = watch::channel(HashMap::new());
        let arrived = Arc::<Mutex<HashMap<String, usize>>>::default();
        let shared = Shared { arrived: Arc::clone(&arrived), given };
        let routes = Router::new().fallback(answer).with_state(shared);
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, arrived, give, server }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Requests that have arrived at a path.
    pub fn arrived(&self, path: &str) -> usize {
        self.arrived.lock().unwrap().get(&format!("/{path}")).copied().unwrap_or(0)
    }

    /// Waits until so many have.
    pub async fn wait_for(&self, path: &str, count: usize) {
        eventually(&format!("{count} requests of {path}"), async || {
            (self.arrived(path) >= count).then_some(())
        })
        .await;
    }

    /// Answers the request of this number, the first being 1, now or when it comes.
    pub fn give(&self, path: &str, turn: usize, reply: Reply) {
        self.give.send_modify(|given| {
            given.insert((format!("/{path}"), turn), reply);
        });
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(mut shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let turn = {
        let mut arrived = shared.arrived.lock().unwrap();
        let count = arrived.entry(path.clone()).or_default();
        *count += 1;
        *count
    };
    let key = (path, turn);
    let reply = shared.given.wait_for(|given| given.contains_key(&key)).await;
    // Nobody waits for the answer when the server is gone.
    let reply = reply.map_or(Reply::Done, |given| given[&key]);
    match reply {
        Reply::Done => Json(json!({"turn": turn})).into_response(),
        Reply::Busy => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "busy").into_response(),
    }
}
