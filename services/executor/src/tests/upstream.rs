//! The tool's server: a real one on loopback that counts what reaches it and does as a test tells it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Response},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};

/// One request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: String,
}

/// A server that ends with this value.
pub(crate) struct Upstream {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn new<H, F>(handler: H) -> Self
    where
        H: Fn(Seen) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let arrived = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| {
            let (handler, arrived) = (handler.clone(), Arc::clone(&arrived));
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 24).await.unwrap();
                let one = Seen {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    headers: parts.headers,
                    body: String::from_utf8_lossy(&body).into_owned(),
                };
                arrived.lock().unwrap().push(one.clone());
                handler(one).await
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, task }
    }

    /// Answers every request with `{"ok":true}`.
    pub(crate) async fn well() -> Self {
        Self::new(|_| async { json(200, r#"{"ok":true}"#) }).await
    }

    pub(crate) fn hits(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that says when it is reached and answers when it may.
pub(crate) struct Held {
    pub upstream: Upstream,
    reached: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Held {
    pub(crate) async fn new() -> Self {
        let (reached, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (arrived, may) = (Arc::clone(&reached), Arc::clone(&go));
        let upstream = Upstream::new(move |_| {
            let (arrived, may) = (Arc::clone(&arrived), Arc::clone(&may));
            async move {
                arrived.add_permits(1);
                may.acquire().await.unwrap().forget();
                json(200, r#"{"ok":true}"#)
            }
        });
        Self { upstream: upstream.await, reached, go }
    }

    pub(crate) async fn reached(&self) {
        let reached = tokio::time::timeout(super::house::PATIENCE, self.reached.acquire()).await;
        reached.expect("the tool's server is reached in time").unwrap().forget();
    }

    pub(crate) fn go(&self) {
        self.go.add_permits(1);
    }
}

/// What a raw server does with a connection once it has read a request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again, with this pause between, until the client goes away.
    Repeat(Vec<u8>, Duration),
    /// Keeps still until the client goes away.
    Hold,
    /// Ends the connection with a reset instead of a close.
    Reset,
}

impl Step {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Send(text.into().into_bytes())
    }

    /// A whole answer: the status line and headers, each with its line's end, and the body.
    pub(crate) fn answer(head: &str, body: &str) -> Vec<Self> {
        let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        vec![Self::text(head + body)]
    }
}

/// A server below HTTP: keeps the very bytes of each request and answers with the very bytes it is told.
pub(crate) struct Raw {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    /// One message for each client that went away while the server was still at it.
    pub gone: mpsc::UnboundedReceiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Raw {
    pub(crate) async fn new(script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", script).await
    }

    pub(crate) async fn on(
        address: &str,
        script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (away, gone) = mpsc::unbounded_channel();
        let (kept, counted, script) = (Arc::clone(&requests), Arc::clone(&connections), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (kept, script, away) = (Arc::clone(&kept), Arc::clone(&script), away.clone());
                tokio::spawn(async move {
                    if serve(stream, &kept, &*script).await.is_none() {
                        let _ = away.send(());
                    }
                });
            }
        });
        Self { address, requests, connections, gone, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until a client has gone away before the server was done.
    pub(crate) async fn until_gone(&mut self) {
        let gone = tokio::time::timeout(super::house::PATIENCE, self.gone.recv()).await;
        gone.expect("the client closes its connection").unwrap();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Requests and answers, one after the other. `None`: the client went away in the middle.
async fn serve(
    mut stream: TcpStream,
    requests: &Mutex<Vec<String>>,
    script: &(impl Fn(&str) -> Vec<Step> + ?Sized),
) -> Option<()> {
    loop {
        let Some(request) = request(&mut stream).await else { return Some(()) };
        requests.lock().unwrap().push(request.clone());
        let steps = script(&request);
        let closes = steps.iter().any(|step| match step {
            Step::Send(bytes) => String::from_utf8_lossy(bytes).contains("connection: close"),
            Step::Repeat(..) | Step::Hold | Step::Reset => true,
        });
        for step in steps {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes).await.ok()?,
                Step::Repeat(bytes, pause) => loop {
                    stream.write_all(&bytes).await.ok()?;
                    tokio::time::sleep(pause).await;
                },
                Step::Hold => {
                    let _ = stream.read(&mut [0; 16]).await;
                    return None;
                }
                Step::Reset => {
                    stream.set_zero_linger().unwrap();
                    return Some(());
                }
            }
        }
        if closes {
            let _ = stream.shutdown().await;
            return Some(());
        }
    }
}

/// The bytes of one request; `None` where the client has none any more.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ if bytes.is_empty() => return None,
            // A client that speaks no HTTP, such as TLS, is answered all the same.
            _ => return Some(text),
        }
        if bytes.first() == Some(&0x16) {
            return Some(String::new());
        }
    }
}

pub(crate) fn json(status: u16, body: &str) -> Response<Body> {
    answer(status, &[("content-type", "application/json")], body.to_owned())
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}
