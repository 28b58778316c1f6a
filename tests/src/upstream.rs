//! The outside world of HTTP tools: a server on loopback that misbehaves on demand and remembers who asked for what.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
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

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_millis(20);

/// Bytes of a large answer.
const LARGE: usize = 1 << 20;

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
    held: Arc<Held>,
    open: watch::Receiver<bool>,
}

/// What became of the requests that `/held` kept waiting.
#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
    cut_off: AtomicUsize,
}

/// The server. `/echo` answers with what arrived; `/wrong` with what no schema here allows; `/failing` with 500;
/// `/limited` with 429; `/slow` after 20 ms; `/held` not before `release`; `/recovers` with 503 twice, then as `/echo`;
/// `/once` as `/echo` the first time, then with 500; `/large` with 1 MiB. The two that count do
/// so for each path and query. It ends with this value.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    hits: Arc<Mutex<Vec<Hit>>>,
    held: Arc<Held>,
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
        let held = Arc::<Held>::default();
        let seen = Seen { hits: Arc::clone(&hits), held: Arc::clone(&held), open };
        let routes = Router::new().fallback(answer).with_state(seen);
        let server = tokio::spawn(async move { axum::serve(counted, routes).await.unwrap() });
        Self { address, connections, hits, held, gate, server }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests that arrived, in order.
    pub fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.hits.lock().unwrap().len()
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

    /// Most requests that `/held` kept waiting at once.
    pub fn most_held(&self) -> usize {
        self.held.most.load(Ordering::Acquire)
    }

    /// Waits until this many of the requests that `/held` kept waiting have lost their connection.
    pub async fn wait_for_cut_off(&self, count: usize) {
        let gone = async || (self.held.cut_off.load(Ordering::Acquire) >= count).then_some(());
        eventually(&format!("{count} requests cut off"), gone).await;
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
    // Whoever asks may be killed before it has said everything: then it has asked for nothing.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let hit = Hit {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let before = {
        let mut hits = seen.hits.lock().unwrap();
        let before = hits.iter().filter(|earlier| earlier.target == hit.target).count();
        hits.push(hit.clone());
        before
    };
    match parts.uri.path() {
        "/wrong" => Json(json!({"count": "many", "items": [1, "two"]})).into_response(),
        "/failing" => (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response(),
        "/limited" => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "7")], "slow down").into_response(),
        "/slow" => {
            tokio::time::sleep(SLOW).await;
            Json(json!({"done": true})).into_response()
        }
        "/held" => {
            let mut waiting = Waiting::begin(&seen.held);
            // Fails when the server is gone, and then nobody waits for the answer.
            let _ = seen.open.wait_for(|open| *open).await;
            waiting.is_answered = true;
            Json(json!({"held": true})).into_response()
        }
        "/recovers" if before < 2 => (StatusCode::SERVICE_UNAVAILABLE, "not yet").into_response(),
        "/once" if before > 0 => (StatusCode::INTERNAL_SERVER_ERROR, "no more").into_response(),
        "/large" => Json(json!({"data": "ä".repeat(LARGE / 2)})).into_response(),
        _ => Json(json!({"method": hit.method, "target": hit.target, "body": hit.body})).into_response(),
    }
}

/// A request that is kept waiting. Its handler is dropped when its connection is lost.
struct Waiting {
    held: Arc<Held>,
    is_answered: bool,
}

impl Waiting {
    fn begin(held: &Arc<Held>) -> Self {
        let now = held.now.fetch_add(1, Ordering::AcqRel) + 1;
        held.most.fetch_max(now, Ordering::AcqRel);
        Self { held: Arc::clone(held), is_answered: false }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.held.now.fetch_sub(1, Ordering::AcqRel);
        if !self.is_answered {
            self.held.cut_off.fetch_add(1, Ordering::AcqRel);
        }
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
