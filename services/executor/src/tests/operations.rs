//! The built-in tools of operations: servers that answer and do not, files of every source, and no way out of any.

use std::{net::TcpListener, path::Path, sync::Arc};

use ::reach::{Lookup, Reach};
use axum::{body::Body, http::Response};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    drive::{MAX_BYTES, Names, is_public_here},
    house::{PATIENCE, TEAM, builtin, config},
    upstream::{Raw, Seen, Step, Upstream, answer, json as json_answer},
};
use crate::{
    drivers::{Drivers, Guard, HttpClient, Job},
    outcome::{Ended, ToolError, ToolErrorCode},
    progress::Sink,
};

const TOKEN: &str = "g1thubC4NARY";

/// The drivers, a workspace of their own, and a resolver that the test controls.
struct Bench {
    drivers: Drivers,
    names: Arc<Names>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(allow_private_network: bool, github: &str, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.http.allow_private_network = allow_private_network;
        github.clone_into(&mut config.github.url);
        config.github.token = token.map(SecretString::from);
        let names: Arc<Names> = Arc::default();
        let lookup: Arc<dyn Lookup> = Arc::<Names>::clone(&names);
        let guard = Guard { lookup, ..Guard::system(Reach::Only(is_public_here)) };
        let client = HttpClient::with(guard, MAX_BYTES).unwrap();
        Self {
            drivers: Drivers::with(&config, mcp::Commands::any(), super::drive::credentials(), client),
            names,
            folder,
        }
    }

    /// One that reaches this machine, and GitHub there.
    fn local(github: &str) -> Self {
        Self::new(true, github, None)
    }

    /// Writes a file of the task's workspace.
    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.workspace().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn workspace(&self) -> std::path::PathBuf {
        self.folder.path().join(TEAM).join("task")
    }

    async fn run(&self, name: &str, arguments: &Value) -> Ended {
        let tool = proto::registry::v1::Tool { definition: Some(builtin(name)), ..Default::default() };
        let progress = Sink::none();
        let job = Job {
            team: TEAM,
            task_id: "task",
            tool: &tool,
            arguments,
            timeout: PATIENCE,
            idempotency: None,
            progress: &progress,
        };
        self.drivers.run(&job).await
    }

    /// The result, which keeps to the schema that the tool is registered with.
    async fn get(&self, name: &str, arguments: Value) -> Value {
        let seed = seed(name);
        let faults = |part: &str, value: &Value| -> Vec<String> {
            let validator = jsonschema::validator_for(&seed[part]).unwrap();
            validator.iter_errors(value).map(|fault| fault.to_string()).collect()
        };
        assert_eq!(faults("input_schema", &arguments), [""; 0], "{name} {arguments}");
        let text =
            self.run(name, &arguments).await.unwrap_or_else(|error| panic!("{name} {arguments}: {error:?}"));
        let result: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(faults("output_schema", &result), [""; 0], "{result}");
        result
    }

    async fn fail(&self, name: &str, arguments: Value) -> ToolError {
        let ended = self.run(name, &arguments).await;
        ended.expect_err(&format!("{name} {arguments} is refused"))
    }
}

fn seed(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../registry/seed/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn paths(result: &Value) -> Vec<&str> {
    result["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_file_of_the_workspace_is_read_whole_by_lines_and_by_bytes() {
    let bench = Bench::local("http://127.0.0.1:1/");
    bench.write("notes/a.txt", "one\ntwö\nthree\n");
    bench.write("raw.bin", [0, 159, 146, 150]);
    let read = async |arguments: Value| bench.get("read_file", arguments).await;
    let whole = read(json!({"path": "notes/a.txt"})).await;
    assert_eq!(
        whole,
        json!({"source": "workspace", "location": "notes/a.txt", "content": "one\ntwö\nthree\n", "encoding": "utf-8",
               "truncated": false, "size_bytes": 15})
    );
    let line = read(json!({"path": "./notes/a.txt", "start_line": 2, "line_count": 1})).await;
    assert_eq!(
        (&line["content"], &line["truncated"], &line["line_count"]),
        (&json!("twö\n"), &json!(true), &json!(1))
    );
    // The cut falls inside a character.
    let part = read(json!({"path": "notes/a.txt", "offset": 4, "max_bytes": 3})).await;
    assert_eq!((&part["content"], &part["encoding"]), (&json!("tw"), &json!("utf-8")));
    let raw = read(json!({"path": "raw.bin"})).await;
    assert_eq!((&raw["content"], &raw["encoding"]), (&json!("AJ+Slg=="), &json!("base64")));
    let wanted = read(json!({"path": "notes/a.txt", "encoding": "base64", "max_bytes": 3})).await;
    assert_eq!((&wanted["content"], &wanted["encoding"]), (&json!("b25l"), &json!("base64")));
    for (arguments, words) in [
        (json!({"path": "notes"}), "list_files"),
        (json!({"path": "missing"}), "does not exist"),
        (json!({"path": "notes/a.txt/b"}), "folder"),
        (json!({}), "path is needed"),
        (json!({"path": "notes/a.txt", "offset": 1, "start_line": 1}), "offset"),
    ] {
        let error = bench.fail("read_file", arguments.clone()).await;
        assert!(error.message.contains(words), "{arguments}: {}", error.message);
    }
}

#[tokio::test]
async fn a_pipe_in_the_workspace_is_refused_and_not_waited_for() {
    let bench = Bench::local("http://127.0.0.1:1/");
    bench.write("a", "");
    let pipe = bench.workspace().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = bench.fail("read_file", json!({"path": "pipe"})).await;
    assert!(error.message.contains("is not a file"), "{}", error.message);
}

#[tokio::test]
async fn a_workspace_is_listed_by_pattern_depth_and_kind() {
    let bench = Bench::local("http://127.0.0.1:1/");
    for path in ["b.rs", "a/x.rs", "a/deep/y.rs", "a/z.txt"] {
        bench.write(path, "12345");
    }
    std::os::unix::fs::symlink("/etc", bench.workspace().join("link")).unwrap();
    let list = async |arguments: Value| bench.get("list_files", arguments).await;
    let top = list(json!({})).await;
    assert_eq!(paths(&top), ["a", "b.rs", "link"]);
    assert_eq!((&top["entries"][1]["size_bytes"], &top["entries"][2]["kind"]), (&json!(5), &json!("link")));
    assert_eq!(paths(&list(json!({"pattern": "**/*.rs"})).await), ["a/deep/y.rs", "a/x.rs", "b.rs"]);
    assert_eq!(
        paths(&list(json!({"path": "a", "pattern": "*.rs", "depth": 5})).await),
        ["deep/y.rs", "x.rs"]
    );
    assert_eq!(paths(&list(json!({"pattern": "a/*", "kind": "file"})).await), ["a/x.rs", "a/z.txt"]);
    let few = list(json!({"depth": 32, "max_entries": 2})).await;
    assert_eq!((paths(&few), &few["truncated"]), (vec!["a", "a/deep"], &json!(true)));
    assert!(bench.fail("list_files", json!({"path": "b.rs"})).await.message.contains("folder"));
    assert!(bench.fail("list_files", json!({"pattern": "[a"})).await.message.contains("pattern"));
}

/// Spellings of "up".
const UPS: [&str; 24] = [
    "..",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "%2e.",
    "%252e%252e",
    "%25252e%25252e",
    "%2525252525252e%2525252525252e",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%uff0e%uff0e",
    "%u002e%u002e",
    "．．",
    "‥",
    "․․",
    "﹒﹒",
    "..;",
    "..;x=y",
    "%2e%2e%3b",
    ".. ",
    " ..",
    "..%20",
    "..%00",
    ".\u{200b}.",
];

/// Ways up, from a folder that holds the place `link`.
fn ways_up() -> Vec<String> {
    let forms = |up: &str| {
        [
            format!("{up}/secret"),
            format!("a/{up}/{up}/secret"),
            format!("./{up}/secret"),
            format!("{up}\\secret"),
            format!("{up}%2fsecret"),
            format!("{up}%5csecret"),
            format!("a/{up}"),
        ]
    };
    UPS.iter().flat_map(|up| forms(up)).collect()
}

/// Paths that are absolute, in disguise, or links.
const OTHERS: [&str; 30] = [
    "/etc/passwd",
    "//etc/passwd",
    "///etc/passwd",
    "/./etc/passwd",
    "%2fetc/passwd",
    "%2Fetc%2Fpasswd",
    "%252fetc%252fpasswd",
    "\\etc\\passwd",
    "C:\\secret",
    "\\\\server\\share",
    "file:///etc/passwd",
    "a//secret",
    "a/./secret",
    "secret\0.txt",
    "secret%00.txt",
    "a\nb",
    "a%0ab",
    "a%0d%0ab",
    "／etc／passwd",
    "∕etc∕passwd",
    "＼etc＼passwd",
    "a⁄b",
    "%ff%fe",
    "%c1%9csecret",
    "a%5cb",
    "a\u{1b}b",
    "link",
    "link/secret",
    "link_to_secret",
    "link_up/secret",
];

#[tokio::test]
async fn no_spelling_of_a_path_leads_out_of_the_workspace() {
    let bench = Bench::local("http://127.0.0.1:1/");
    bench.write("a/inside", "");
    let secret = "t0psecret";
    for path in ["secret", "team/secret", "team/task/../secret"] {
        std::fs::write(bench.folder.path().join(path), secret).unwrap();
    }
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, bench.workspace().join(name)).unwrap();
    link(bench.folder.path(), "link");
    link(&bench.folder.path().join("secret"), "link_to_secret");
    link(Path::new(".."), "link_up");
    let corpus: Vec<String> = ways_up().into_iter().chain(OTHERS.map(str::to_owned)).collect();
    assert!(corpus.len() >= 100);
    for path in &corpus {
        for tool in ["read_file", "list_files"] {
            let error = bench.fail(tool, json!({ "path": path })).await;
            assert!(!error.message.contains(secret), "{tool} {path}: {}", error.message);
            assert_eq!(error.code, ToolErrorCode::ToolFailed, "{tool} {path}");
        }
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_out_of_a_repository_or_up_an_address() {
    let upstream = Upstream::new(|_| async { json_answer(200, "[]") }).await;
    let bench = Bench::local(&upstream.url);
    for path in ways_up() {
        for tool in ["read_file", "list_files"] {
            bench.fail(tool, json!({"source": "github", "repository": "o/n", "path": path})).await;
            bench.fail(tool, json!({"source": "http", "url": format!("{}/pub/{path}", upstream.url)})).await;
        }
    }
    for path in OTHERS.iter().filter(|path| !path.starts_with("link")) {
        bench.fail("read_file", json!({"source": "github", "repository": "o/n", "path": path})).await;
    }
    for repository in
        ["o", "o/..", "../n", "o/n/x", "o/n?x", "/n", "o/", "o%2fn/x", "o/n#", "ö/n", "./n", "o/."]
    {
        bench.fail("list_files", json!({"source": "github", "repository": repository})).await;
    }
    for name in
        ["../x", "a..b", "-x", "a b", "a?b", "%2e", "a\nb", "x~1", "a:b", "@{1}", "/a", "a/", "a//b", "a\\b"]
    {
        let arguments = json!({"source": "github", "repository": "o/n", "path": "a", "ref": name});
        bench.fail("read_file", arguments).await;
    }
    assert_eq!(upstream.hits(), 0, "{:?}", upstream.seen());
    // What only looks like a part of an address is a name.
    let odd = json!({"source": "github", "repository": "o/n", "path": "a?b#c/d e%/&f=g", "ref": "x&y=z"});
    bench.get("list_files", odd).await;
    assert_eq!(upstream.seen()[0].target, "/repos/o/n/contents/a%3Fb%23c/d%20e%25/&f=g?ref=x%26y%3Dz");
}

#[tokio::test]
async fn a_file_at_an_address_is_read_as_text_or_bytes_within_bounds() {
    let upstream = Upstream::new(|seen: Seen| async move {
        let of = |kind: &'static str, body: Vec<u8>| answer(200, &[("content-type", kind)], body);
        match seen.target.as_str() {
            "/latin" => of("text/plain; charset=ISO-8859-1", b"gr\xfc\xdfe".to_vec()),
            "/bytes" => of("application/octet-stream", vec![0xff, 0xfe]),
            "/large" => of("text/plain", b"0123456789\n".repeat(100_000)),
            "/huge" => of("text/plain", vec![b'x'; MAX_BYTES * 2]),
            "/moved" => answer(302, &[("location", "/text")], ""),
            "/gone" => answer(404, &[], "no such thing"),
            _ => of("text/plain", b"one\ntwo\n".to_vec()),
        }
    })
    .await;
    let bench = Bench::local("http://127.0.0.1:1/");
    let at = |path: &str| format!("{}{path}", upstream.url);
    let read = async |arguments: Value| bench.get("read_file", arguments).await;
    let text = read(json!({"source": "http", "url": at("/moved")})).await;
    assert_eq!((&text["content"], &text["location"]), (&json!("one\ntwo\n"), &json!(at("/text"))));
    assert_eq!((&text["size_bytes"], &text["media_type"]), (&json!(8), &json!("text/plain")));
    let latin = read(json!({"source": "http", "url": at("/latin")})).await;
    assert_eq!((&latin["content"], &latin["charset"]), (&json!("grüße"), &json!("iso-8859-1")));
    let raw = read(json!({"source": "http", "url": at("/latin"), "encoding": "base64"})).await;
    assert_eq!((&raw["content"], &raw["size_bytes"]), (&json!("Z3L832U="), &json!(5)));
    let bytes = read(json!({"source": "http", "url": at("/bytes")})).await;
    assert_eq!((&bytes["content"], &bytes["encoding"]), (&json!("//4="), &json!("base64")));
    let part = read(json!({"source": "http", "url": at("/large"), "start_line": 3, "line_count": 1})).await;
    assert_eq!((&part["content"], &part["truncated"]), (&json!("0123456789\n"), &json!(true)));
    let part = read(json!({"source": "http", "url": at("/huge"), "offset": 5, "max_bytes": 10})).await;
    assert_eq!((&part["content"], &part["truncated"]), (&json!("xxxxxxxxxx"), &json!(true)));
    let beyond = json!({"source": "http", "url": at("/huge"), "offset": MAX_BYTES + 1});
    assert_eq!(bench.fail("read_file", beyond).await.code, ToolErrorCode::ResultTooLarge);
    let gone = bench.fail("read_file", json!({"source": "http", "url": at("/gone")})).await;
    assert!(gone.message.contains("404"), "{}", gone.message);
}

#[tokio::test]
async fn a_folder_that_a_server_lists_is_listed_with_those_below() {
    let upstream = Upstream::new(|seen: Seen| async move {
        let page = |body: &'static str| answer(200, &[("content-type", "text/html")], body);
        match seen.target.as_str() {
            "/pub/" => page(r#"<a href="../">..</a><a href="sub/">s</a><a href="a.csv">a</a><a href="//127.0.0.1:1/pub/x/">x</a>"#),
            "/pub/sub/" => json_answer(200, r#"[{"name":"b.csv","type":"file","size":7},{"name":"..","type":"directory"}]"#),
            _ => answer(200, &[("content-type", "text/plain")], "text"),
        }
    })
    .await;
    let bench = Bench::local("http://127.0.0.1:1/");
    let url = format!("{}/pub/", upstream.url);
    let top = bench.get("list_files", json!({"source": "http", "url": url})).await;
    assert_eq!(paths(&top), ["a.csv", "sub"]);
    assert_eq!(top["entries"][0]["url"], format!("{url}a.csv"));
    let all = bench.get("list_files", json!({"source": "http", "url": url, "pattern": "**/*.csv"})).await;
    assert_eq!((paths(&all), &all["entries"][1]["size_bytes"]), (vec!["a.csv", "sub/b.csv"], &json!(7)));
    let targets: Vec<_> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/pub/", "/pub/", "/pub/sub/"]);
    let text =
        bench.fail("list_files", json!({"source": "http", "url": format!("{}/x", upstream.url)})).await;
    assert!(text.message.contains("read_file"), "{}", text.message);
}

/// As GitHub answers: files in the media type that was asked for, what is none as JSON.
async fn github(seen: Seen) -> Response<Body> {
    let raw = seen.headers["accept"] == "application/vnd.github.raw+json";
    let path = seen.target.strip_prefix("/repos/o/n/contents").unwrap_or("?");
    match (path, raw) {
        ("/src/main.rs?ref=v1", true) => answer(
            200,
            &[("content-type", "application/vnd.github.raw+json; charset=utf-8")],
            "fn main() {}\n",
        ),
        ("/src", true) => json_answer(200, "[]"),
        ("", false) => json_answer(
            200,
            r#"[{"name":"src","type":"dir","size":0},{"name":"README.md","type":"file","size":12},
                {"name":"../x","type":"file"},{"name":"dep","type":"submodule"},{"name":"l","type":"symlink"}]"#,
        ),
        ("/src", false) => json_answer(200, r#"[{"name":"main.rs","type":"file","size":13}]"#),
        ("/README.md", false) => json_answer(200, r#"{"name":"README.md","type":"file"}"#),
        ("/limited", _) => {
            answer(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9999999999")], "")
        }
        ("/denied", _) => answer(401, &[], format!("bad {:?}", seen.headers.get("authorization"))),
        _ => answer(404, &[], "{}"),
    }
}

#[tokio::test]
async fn a_repository_is_read_and_listed_as_github_gives_it() {
    let upstream = Upstream::new(github).await;
    let bench = Bench::new(false, &upstream.url, Some(TOKEN));
    let of = |more: Value| {
        let mut arguments = json!({"source": "github", "repository": "o/n"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let file = bench.get("read_file", of(json!({"path": "src/main.rs", "ref": "v1"}))).await;
    assert_eq!(
        (&file["content"], &file["location"]),
        (&json!("fn main() {}\n"), &json!("o/n/src/main.rs@v1"))
    );
    let sent = upstream.seen().remove(0).headers;
    let text = |name: &str| sent[name].to_str().unwrap().to_owned();
    assert_eq!(
        (&text("authorization"), &text("x-github-api-version")),
        (&format!("Bearer {TOKEN}"), &"2022-11-28".to_owned())
    );
    let root = bench.get("list_files", of(json!({}))).await;
    assert_eq!(paths(&root), ["README.md", "dep", "l", "src"]);
    let kinds: Vec<_> =
        root["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["file", "other", "link", "folder"]);
    assert_eq!(paths(&bench.get("list_files", of(json!({"pattern": "**/*.rs"}))).await), ["src/main.rs"]);

    let folder = bench.fail("read_file", of(json!({"path": "src"}))).await;
    assert!(folder.message.contains("list_files"), "{}", folder.message);
    let file = bench.fail("list_files", of(json!({"path": "README.md"}))).await;
    assert!(file.message.contains("read_file"), "{}", file.message);
    let missing = bench.fail("read_file", of(json!({"path": "missing"}))).await;
    assert!(missing.message.contains("does not exist"), "{}", missing.message);
    let limited = bench.fail("read_file", of(json!({"path": "limited"}))).await;
    assert_eq!((limited.code, limited.retry_after_ms), (ToolErrorCode::UpstreamRateLimited, 3_600_000));
    let denied = bench.fail("read_file", of(json!({"path": "denied"}))).await;
    assert_eq!(denied.code, ToolErrorCode::UpstreamAuth);
    assert!(!format!("{denied:?}").contains(TOKEN), "{denied:?}");
}

#[tokio::test]
async fn a_ping_tells_how_fast_a_server_answers_and_that_one_does_not() {
    let upstream =
        Upstream::new(
            |seen: Seen| async move { answer(if seen.target == "/down" { 503 } else { 204 }, &[], "") },
        )
        .await;
    let bench = Bench::local("http://127.0.0.1:1/");
    let ping = async |arguments: Value| bench.get("ping_server", arguments).await;
    let address = upstream.url.strip_prefix("http://").unwrap();
    let tcp = ping(json!({"target": address, "count": 3, "interval_ms": 0})).await;
    assert_eq!(
        (&tcp["mode"], &tcp["sent"], &tcp["received"], &tcp["loss_ratio"]),
        (&json!("tcp"), &json!(3), &json!(3), &json!(0.0))
    );
    assert!(
        tcp["min_ms"].as_f64() <= tcp["avg_ms"].as_f64() && tcp["avg_ms"].as_f64() <= tcp["max_ms"].as_f64(),
        "{tcp}"
    );
    assert_eq!((&tcp["address"], upstream.hits()), (&json!("127.0.0.1"), 0));

    let http = ping(json!({"target": format!("{}/up", upstream.url), "count": 2, "interval_ms": 0})).await;
    assert_eq!(
        (&http["mode"], &http["status"], &http["reachable"]),
        (&json!("http"), &json!(204), &json!(true))
    );
    assert_eq!(upstream.seen().iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(), ["HEAD", "HEAD"]);
    let down = ping(json!({"target": format!("{}/down", upstream.url), "count": 1, "method": "GET"})).await;
    assert_eq!((&down["status"], &down["received"]), (&json!(503), &json!(1)));

    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for arguments in [
        json!({"target": unused.to_string(), "count": 2, "interval_ms": 0}),
        json!({"target": format!("http://{unused}/"), "count": 2, "interval_ms": 0}),
        json!({"target": "no-such-name.example", "count": 2}),
    ] {
        let gone = ping(arguments.clone()).await;
        assert_eq!((&gone["reachable"], &gone["loss_ratio"]), (&json!(false), &json!(1.0)), "{arguments}");
        assert!(gone["error"].is_string() && gone.get("avg_ms").is_none(), "{gone}");
    }
    let slow = Raw::new(|_| vec![Step::Hold]).await;
    let slow = ping(json!({"target": slow.url(), "count": 1, "timeout_ms": 100})).await;
    assert_eq!(slow["received"], 0);
}

#[tokio::test]
async fn neither_a_ping_nor_a_file_reaches_an_address_that_is_not_public() {
    let inside = Raw::new(|_| Step::answer("200 OK", "inside")).await;
    let port = inside.address.port();
    let bench = Bench::new(false, "http://127.0.0.1:1/", None);
    bench.names.set("inner.example", &[&["127.0.0.1"], &["10.0.0.1"]]);
    let hosts = [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "inner.example",
        "10.0.0.1",
    ];
    for host in hosts {
        for target in [format!("{host}:{port}"), format!("http://{host}:{port}/")] {
            for mode in ["tcp", "http"] {
                let error =
                    bench.fail("ping_server", json!({"target": target, "mode": mode, "count": 1})).await;
                assert_eq!(error.code, ToolErrorCode::AddressRefused, "{target} {mode}: {}", error.message);
            }
        }
        for tool in ["read_file", "list_files"] {
            let url = format!("http://{host}:{port}/");
            let error = bench.fail(tool, json!({"source": "http", "url": url})).await;
            assert_eq!(error.code, ToolErrorCode::AddressRefused, "{tool} {host}: {}", error.message);
        }
    }
    assert_eq!(inside.connections(), 0);
    // 127.0.0.2 stands for the public internet.
    let outside = Raw::on("127.0.0.2:0", |_| Step::answer("200 OK", "outside")).await;
    bench.names.set("outer.example", &[&["10.0.0.1", "127.0.0.2"]]);
    let target = format!("outer.example:{}", outside.address.port());
    let reached = bench.get("ping_server", json!({"target": target, "count": 1})).await;
    assert_eq!((&reached["reachable"], &reached["addresses"]), (&json!(true), &json!(["127.0.0.2"])));
}

#[tokio::test]
async fn the_status_of_the_machine_keeps_to_its_schema_and_names_no_place_of_it() {
    let bench = Bench::local("http://127.0.0.1:1/");
    let told = bench.get("system_status", json!({"cpu_sample_ms": 50})).await;
    for section in ["host", "cpu", "memory", "disk", "process"] {
        assert!(told[section].is_object(), "{told}");
    }
    assert!((0.0..=1.0).contains(&told["cpu"]["use_ratio"].as_f64().unwrap()), "{told}");
    let text = told.to_string();
    for place in [bench.folder.path(), Path::new(env!("CARGO_MANIFEST_DIR"))] {
        assert!(!text.contains(place.to_str().unwrap()), "{text}");
    }
}
