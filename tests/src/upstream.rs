//! The outside world of HTTP tools: a server on loopback that misbehaves on demand and remembers who asked for what.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    serve::Listener,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::eventually;

/// One request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Its body, byte for byte.
    pub body: String,
}

#[derive(Debug, Clone)]
struct Seen {
    hits: Arc<Mutex<Vec<Hit>>>,
    open: watch::Receiver<bool>,
}

/// The server. `/echo` answers with what arrived; `/wrong` with what no schema here allows; `/failing` with 500;
/// `/limited` with 429; `/held` not before `release`. It ends with this value.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    hits: Arc<Mutex<Vec<Hit>>>,
    gate: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Upstream {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Counted { listener, connections: Arc::clone(&connections) };
        let (gate, open) = watch::channel(false);
        let hits = Arc::<Mutex<Vec<Hit>>>::default();
        let seen = Seen { hits: Arc::clone(&hits), open };
        let routes = Router::new().fallback(answer).with_state(seen);
        let server = tokio::spawn(async move { axum::serve(counted, routes).await.unwrap() });
        Self { address, connections, hits, gate, server }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests that arrived, in order.
    pub fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    /// Connections that were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Waits until this many requests have arrived.
    pub async fn wait_for_hits(&self, count: usize) {
        let arrived = async || (self.hits().len() >= count).then_some(());
        eventually(&format!("{count} requests at the outside server"), arrived).await;
    }

    /// Answers what is held, and from now on at once.
    pub fn release(&self) {
        self.gate.send_replace(true);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(mut seen): State<Seen>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let hit = Hit {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    seen.hits.lock().unwrap().push(hit.clone());
    match parts.uri.path() {
        "/wrong" => Json(json!({"count": "many", "items": [1, "two"]})).into_response(),
        "/failing" => (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response(),
        "/limited" => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "7")], "slow down").into_response(),
        "/held" => {
            // Fails when the server is gone, and then nobody waits for the answer.
            let _ = seen.open.wait_for(|open| *open).await;
            Json(json!({"held": true})).into_response()
        }
        _ => Json(json!({"method": hit.method, "target": hit.target, "body": hit.body})).into_response(),
    }
}

/// Counts connections.
struct Counted {
    listener: TcpListener,
    connections: Arc<AtomicUsize>,
}

impl Listener for Counted {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let accepted = Listener::accept(&mut self.listener).await;
        self.connections.fetch_add(1, Ordering::AcqRel);
        accepted
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
