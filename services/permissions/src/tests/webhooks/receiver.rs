//! A real HTTP server that receives webhooks: it takes them, fails, hangs, answers late, or leads elsewhere.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// What is done with a message.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Status(u16),
    /// With this in Retry-After.
    Later(u16, &'static str),
    /// After this time.
    Late(Duration, u16),
    /// Never.
    Hang,
    /// Somewhere else.
    Redirect(String),
    /// 200, and a body without end.
    Endless,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Message {
    pub(super) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

/// Ends with this value.
pub(super) struct Receiver {
    pub address: std::net::SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
    came: Arc<Notify>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Answers each message; the number counts those of its path, from 1.
    pub(super) async fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, came) = (Arc::<Mutex<Vec<Message>>>::default(), Arc::<Notify>::default());
        let (kept, told, answer) = (Arc::clone(&messages), Arc::clone(&came), Arc::new(answer));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, told, answer) = (Arc::clone(&kept), Arc::clone(&told), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    // A sender that breaks off is what some tests are about.
                    while let Some(message) = read(&mut stream).await {
                        let path = message.path.clone();
                        let number = {
                            let mut kept = kept.lock().unwrap();
                            kept.push(message);
                            kept.iter().filter(|message| message.path == path).count()
                        };
                        told.notify_waiters();
                        give(stream.get_mut(), answer(&path, number)).await;
                    }
                });
            }
        });
        Self { address, messages, came, server }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Those of a path.
    pub(super) fn messages(&self, path: &str) -> Vec<Message> {
        let all = self.messages.lock().unwrap();
        all.iter().filter(|message| message.path == path).cloned().collect()
    }

    /// Waits until so many came to a path.
    pub(super) async fn wait_for(&self, path: &str, count: usize) -> Vec<Message> {
        let wait = async {
            loop {
                let came = self.came.notified();
                let messages = self.messages(path);
                if messages.len() >= count {
                    return messages;
                }
                came.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("messages come")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Message> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(Message { path, headers, body: String::from_utf8(body).ok()? })
}

async fn give(stream: &mut TcpStream, answer: Answer) {
    let mut status = async |status: u16, more: &str| {
        let text = format!("HTTP/1.1 {status} so\r\n{more}content-length: 0\r\n\r\n");
        let _ = stream.write_all(text.as_bytes()).await;
    };
    match answer {
        Answer::Status(code) => status(code, "").await,
        Answer::Later(code, when) => status(code, &format!("retry-after: {when}\r\n")).await,
        Answer::Late(time, code) => {
            tokio::time::sleep(time).await;
            status(code, "").await;
        }
        Answer::Hang => std::future::pending().await,
        Answer::Redirect(to) => status(302, &format!("location: {to}\r\n")).await,
        Answer::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 so\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while stream.write_all(b"5\r\nhello\r\n").await.is_ok() {}
        }
    }
}
