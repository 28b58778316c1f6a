//! The tool's server: a real one on loopback that counts what reaches it and does as a test tells it.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Response},
};
use tokio::sync::Semaphore;

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
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
