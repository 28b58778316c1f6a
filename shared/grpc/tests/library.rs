//! The client against a server in another language: `tests/servers/grpc`, in Python, with reflection v1alpha only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader},
    net::IpAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use grpc::{Call, Connection, Error, Method, Security, reflect};
use http::HeaderMap;
use reach::{Guard, Lookup, Reach};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const INSTALL: &str = "scripts/install-sample-servers";
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/servers/grpc/server.py");
const PATIENCE: Duration = Duration::from_secs(20);
const MANY: usize = 1 << 20;

/// The server on a port of its own; it ends with this value.
struct Library {
    process: Child,
    endpoint: String,
}

impl Library {
    fn start() -> Option<Self> {
        let python = testkit::installed("grpc-server/bin/python", INSTALL)?;
        let mut command = Command::new(python);
        command.arg(SERVER).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { process, endpoint: format!("http://127.0.0.1:{}", port.trim()) })
    }

    async fn connect(&self) -> Connection {
        let guard = Guard::system(Reach::Any);
        Connection::open(&self.endpoint, guard, &Security::default(), PATIENCE).await.unwrap()
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn method(connection: &Connection, name: &str) -> Method {
    let reflected = reflect(connection, &HeaderMap::new(), &[], PATIENCE).await.unwrap();
    let service = reflected.services[0].found.as_ref().unwrap();
    let set = service.parent_pool().encode_to_vec();
    Method::load(&set, service.full_name(), name).unwrap()
}

async fn call(
    connection: &Connection,
    name: &str,
    arguments: Value,
    within: Duration,
) -> Result<Value, Error> {
    let method = method(connection, name).await;
    let (request, metadata) = (method.request(&arguments)?, HeaderMap::new());
    let call = Call { method: &method, request, metadata: &metadata, timeout: within, max_bytes: MANY };
    let answer = method.answer(connection.unary(call).await?)?;
    Ok(serde_json::from_str(&answer).unwrap())
}

#[tokio::test]
async fn a_server_that_knows_v1alpha_only_is_asked_and_called() {
    let Some(library) = Library::start() else { return };
    let connection = library.connect().await;
    let reflected = reflect(&connection, &HeaderMap::new(), &[], PATIENCE).await.unwrap();
    assert_eq!(reflected.listed, ["library.v1.Library"]);
    let none = reflect(&connection, &HeaderMap::new(), &["nobody.Here".into()], PATIENCE).await.unwrap();
    assert!(none.services.is_empty(), "{none:?}");
    let both = ["library.v1.Library".into(), "grpc.reflection.v1alpha.ServerReflection".into()];
    let both = reflect(&connection, &HeaderMap::new(), &both, PATIENCE).await.unwrap().services;
    let pools: Vec<_> = both.iter().map(|each| each.found.as_ref().unwrap().parent_pool()).collect();
    assert!(pools.len() == 2 && pools[0] == pools[1], "what is held of a server is held once");
    let book = call(&connection, "GetBook", json!({"isbn": "9007199254740993"}), PATIENCE).await.unwrap();
    let authors = json!(["A. Author", "B. Writer"]);
    assert_eq!(
        book,
        json!({"isbn": "9007199254740993", "title": "Sand", "authors": authors, "publishTime": "2020-02-29T12:00:00Z"})
    );
}

#[tokio::test]
async fn a_refusal_says_what_the_server_said_and_when_to_come_again() {
    let Some(library) = Library::start() else { return };
    let connection = library.connect().await;
    let fail = async |arguments: Value| match call(&connection, "Fail", arguments, PATIENCE).await {
        Err(Error::Status(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let plain = fail(json!({"code": 9, "message": "not\nnow"})).await;
    assert_eq!((plain.name(), plain.message.as_str()), ("FAILED_PRECONDITION", "not now"));
    assert_eq!((plain.retry_after, plain.is_final), (None, false));
    let later = fail(json!({"code": 14, "message": "later", "retryAfterMs": "1500"})).await;
    assert_eq!(later.retry_after, Some(Duration::from_millis(1_500)));
    let pushed = fail(json!({"code": 14, "message": "x", "pushback": "250"})).await;
    assert_eq!((pushed.retry_after, pushed.is_final), (Some(Duration::from_millis(250)), false));
    assert!(fail(json!({"code": 14, "message": "x", "pushback": "-1"})).await.is_final);
}

#[tokio::test]
async fn answers_are_bounded_and_requests_must_fit() {
    let Some(library) = Library::start() else { return };
    let connection = library.connect().await;
    let full = call(&connection, "Fill", json!({"size": 500_000}), PATIENCE).await.unwrap();
    assert!(full["content"].as_str().unwrap().len() > 500_000);
    let over = call(&connection, "Fill", json!({"size": MANY}), PATIENCE).await;
    assert!(matches!(over, Err(Error::TooLarge(MANY))), "{over:?}");
    for wrong in [json!({"size": "many"}), json!({"nobody": 1}), json!({"size": 3_000_000_000_u32})] {
        let refused = call(&connection, "Fill", wrong, PATIENCE).await;
        assert!(matches!(refused, Err(Error::Arguments(_))), "{refused:?}");
    }
    let two = call(&connection, "Copy", json!({"email": "a", "phone": 1}), PATIENCE).await;
    assert!(matches!(two, Err(Error::Arguments(_))), "{two:?}");
}

/// A message by JSON, as a server that knows its type would pack it.
fn packed(name: &str, arguments: &Value) -> Value {
    json!({"packed": {"@type": format!("type.googleapis.com/{name}"), "isbn": arguments["isbn"]}})
}

#[tokio::test]
async fn one_of_an_unknown_type_is_given_as_bytes_and_costs_nothing_else() {
    let Some(library) = Library::start() else { return };
    let connection = library.connect().await;
    let known = packed("library.v1.Book", &json!({"isbn": "7"}));
    let copied = call(&connection, "Copy", known, PATIENCE).await.unwrap();
    assert_eq!(copied["packed"]["@type"], "type.googleapis.com/library.v1.Book");
    assert_eq!(copied["packed"]["isbn"], "7");
    // Request and answer of `Copy` do not consist of a `GetBookRequest`.
    let copy = method(&connection, "Copy").await;
    let own = copy.request(&packed("library.v1.GetBookRequest", &json!({"isbn": "7"}))).unwrap();
    let files = copy.descriptor().parent_pool().file_descriptor_protos().cloned().map(|mut file| {
        file.message_type.retain(|message| message.name() != "GetBookRequest");
        file.service.iter_mut().for_each(|service| service.method.retain(|method| method.name() == "Copy"));
        file
    });
    let files = files.filter(|file| !file.name().starts_with("toolcrib/")).collect();
    let set = prost::Message::encode_to_vec(&prost_types::FileDescriptorSet { file: files });
    let without = Method::load(&set, "library.v1.Library", "Copy").unwrap();
    let answer: Value = serde_json::from_str(&without.answer(own).unwrap()).unwrap();
    let expected = json!({"@type": "type.googleapis.com/library.v1.GetBookRequest", "value": "CAc="});
    assert_eq!((&answer["packed"], &answer["small"]), (&expected, &json!(0)));
}

#[tokio::test]
async fn the_server_knows_the_deadline_and_is_told_when_a_call_is_given_up() {
    let Some(library) = Library::start() else { return };
    let connection = library.connect().await;
    let told = call(&connection, "Wait", json!({}), PATIENCE).await.unwrap();
    let remaining: u64 = told["remainingMs"].as_str().unwrap().parse().unwrap();
    assert!((1_000..=20_000).contains(&remaining), "{told}");
    let late = call(&connection, "Wait", json!({"milliseconds": 60_000}), Duration::from_millis(500)).await;
    assert!(matches!(late, Err(Error::Timeout)), "{late:?}");
    let dropped = call(&connection, "Wait", json!({"milliseconds": 60_000}), PATIENCE);
    assert!(tokio::time::timeout(Duration::from_millis(500), dropped).await.is_err());
    let begin = Instant::now();
    loop {
        let seen = call(&connection, "Inspect", json!({}), PATIENCE).await.unwrap();
        if seen["cancelled"] == 2 {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{seen}");
        tokio::task::yield_now().await;
    }
}

/// Gives one answer after the other.
#[derive(Debug)]
struct Fickle(Mutex<VecDeque<IpAddr>>);

impl Lookup for Fickle {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let next = self.0.lock().unwrap().pop_front();
        let none = || io::Error::new(io::ErrorKind::NotFound, "asked once more");
        Box::pin(std::future::ready(next.map(|address| vec![address]).ok_or_else(none)))
    }
}

#[tokio::test]
async fn no_address_that_is_not_public_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = async |host: &str, answers: &[&str]| {
        let answers = answers.iter().map(|address| address.parse().unwrap()).collect();
        let lookup = Arc::new(Fickle(Mutex::new(answers)));
        let guard = Guard { lookup, ..Guard::system(Reach::PUBLIC) };
        let endpoint = format!("http://{host}:{port}");
        Connection::open(&endpoint, guard, &Security::default(), PATIENCE).await
    };
    for host in
        ["127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost", "a.localhost"]
    {
        let refused = open(host, &["127.0.0.1"]).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{host}: {refused:?}");
    }
    // A name is resolved once: its second answer is never heard.
    let refused = open("rebinding.example", &["127.0.0.1", "93.184.216.34"]).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let come = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(come.is_err(), "something connected");
}

#[tokio::test]
async fn a_server_that_is_not_there_was_surely_not_reached() {
    let open = async |endpoint: &str| {
        let guard = Guard::system(Reach::Any);
        Connection::open(endpoint, guard, &Security::default(), Duration::from_secs(2)).await
    };
    let closed = open("http://127.0.0.1:1").await;
    assert!(matches!(closed, Err(Error::Unreachable(_))), "{closed:?}");
    // It takes connections and says nothing: TLS does not come about.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let late = open(&format!("https://{}", silent.local_addr().unwrap())).await;
    assert!(matches!(late, Err(Error::NotInTime)), "{late:?}");
    let wrong = open("https://127.0.0.1/path").await;
    assert!(matches!(wrong, Err(Error::Address(_))), "{wrong:?}");
}
