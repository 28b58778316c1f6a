//! A server below HTTP: keeps the very bytes of each request, and answers with the very bytes that it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is done with one request. Every answer ends the connection.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again, with this pause between, until the client goes away.
    Repeat(Vec<u8>, Duration),
    /// Keeps still for so long.
    Pause(Duration),
    /// Keeps still until the client goes away.
    Hold,
    /// Ends the connection with a reset instead of a close.
    Reset,
}

/// A whole answer: status line and headers, without the last line's end, and a body.
pub(super) fn answer(head: &str, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {head}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    vec![Step::Send((head + body).into_bytes())]
}

/// The server. It ends with this value.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Does with each request what the script says.
    pub(super) async fn start(script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, script) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(script));
        let kept = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                tokio::spawn(async move { serve(stream, &kept, &*script).await });
            }
        });
        Self { address, requests, task }
    }

    /// Answers every request with this text of a model.
    pub(super) async fn saying(words: &str) -> Self {
        let body = super::completion(words);
        Self::start(move |_| answer("200 OK", &body)).await
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far: its head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `None`: the client went away.
async fn serve(
    mut stream: TcpStream,
    requests: &Mutex<Vec<String>>,
    script: &(impl Fn(&str) -> Vec<Step> + ?Sized),
) -> Option<()> {
    let request = read(&mut stream).await?;
    requests.lock().unwrap().push(request.clone());
    for step in script(&request) {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await.ok()?,
            Step::Repeat(bytes, pause) => loop {
                stream.write_all(&bytes).await.ok()?;
                tokio::time::sleep(pause).await;
            },
            Step::Pause(length) => tokio::time::sleep(length).await,
            Step::Hold => {
                let _ = stream.read(&mut [0; 16]).await;
            }
            Step::Reset => return stream.set_zero_linger().ok(),
        }
    }
    stream.shutdown().await.ok()
}

async fn read(stream: &mut TcpStream) -> Option<String> {
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
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}
