//! The built-in tools of operations through Execute: a server that is asked, files of every source, the machine, and
//! source that is examined. Every result keeps to the schema that its tool is registered with, or it would be none.

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use proto::{
    executor::v1::{ExecuteRequest, Execution, ExecutionStatus, ToolErrorCode},
    registry::v1::{GetToolRequest, get_tool_request::Key},
    types::v1::Effect,
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, Mode, Suite, Upstream, refused, request, result};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::Code;

tests::scenarios! {
    files_of_a_task_are_read_and_listed,
    no_path_leaves_its_source,
    private_addresses_are_neither_pinged_nor_read,
    the_machine_tells_how_it_does,
    source_is_examined_and_never_run,
    arguments_that_do_not_fit_are_named,
}

const TOOLS: [&str; 5] = ["ping_server", "read_file", "list_files", "system_status", "code_analysis"];

async fn operator(suite: &Suite) -> Client {
    let agent = suite.agent("").await;
    for tool in TOOLS.iter().chain(&["file_operations"]) {
        suite.grant(&agent, tool).await;
    }
    agent
}

async fn call_for(agent: &Client, tool: &str, arguments: Value) -> Execution {
    let asked = ExecuteRequest { task_id: "task".to_owned(), ..request(tool, arguments) };
    agent.execute(asked).await.unwrap().execution.unwrap()
}

/// The result of a call that succeeds.
async fn given(agent: &Client, tool: &str, arguments: Value) -> Value {
    let execution = call_for(agent, tool, arguments.clone()).await;
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{tool} {arguments}: {:?}", execution.error);
    result(&execution)
}

/// The error of a call that fails.
async fn failed(agent: &Client, tool: &str, arguments: Value) -> (ToolErrorCode, String) {
    let execution = call_for(agent, tool, arguments.clone()).await;
    assert_eq!(execution.status(), ExecutionStatus::Failed, "{tool} {arguments}: {execution:?}");
    let error = execution.error.unwrap();
    (error.code(), error.message)
}

async fn written(agent: &Client, path: &str, content: &str) {
    let arguments = json!({"operation": "write", "path": path, "content": content, "recursive": true});
    given(agent, "file_operations", arguments).await;
}

async fn files_of_a_task_are_read_and_listed(suite: &Suite) {
    let agent = operator(suite).await;
    written(&agent, "notes/a.txt", "one\ntwo\nthree\n").await;
    written(&agent, "notes/b.csv", "x,y\n").await;
    let lines =
        given(&agent, "read_file", json!({"path": "notes/a.txt", "start_line": 2, "line_count": 1})).await;
    assert_eq!(
        (&lines["content"], &lines["truncated"], &lines["size_bytes"]),
        (&json!("two\n"), &json!(true), &json!(14))
    );
    let listed = given(&agent, "list_files", json!({"pattern": "**/*.csv"})).await;
    assert_eq!(
        (&listed["entries"][0]["path"], &listed["entries"][0]["size_bytes"]),
        (&json!("notes/b.csv"), &json!(4))
    );
    let (code, message) = failed(&agent, "read_file", json!({"path": "notes/none"})).await;
    assert_eq!((code, message.as_str()), (ToolErrorCode::ToolFailed, "notes/none: does not exist"));
    // The same path of another task is another file.
    let elsewhere = agent.call("read_file", json!({"path": "notes/a.txt"})).await;
    assert_eq!(elsewhere.status(), ExecutionStatus::Failed);
}

async fn no_path_leaves_its_source(suite: &Suite) {
    let agent = operator(suite).await;
    written(&agent, "inside", "").await;
    std::fs::write(suite.settings.executor.workspace_root.join("secret.txt"), "t0psecret").unwrap();
    for path in
        ["../../secret.txt", "a/../../../secret.txt", "%2e%2e/%2e%2e/secret.txt", "/etc/passwd", "..\\secret"]
    {
        for tool in ["read_file", "list_files"] {
            let github = json!({"source": "github", "repository": "o/n", "path": path});
            for arguments in [json!({"path": path}), github] {
                let (code, message) = failed(&agent, tool, arguments).await;
                assert_eq!(code, ToolErrorCode::ToolFailed, "{tool} {path}: {message}");
                assert!(message.starts_with("path must"), "{tool} {path}: {message}");
            }
        }
        let (_, message) = failed(&agent, "code_analysis", json!({"paths": [path]})).await;
        assert!(message.starts_with("paths: ") || !Suite::has_python(), "{message}");
    }
}

async fn private_addresses_are_neither_pinged_nor_read(suite: &Suite) {
    let agent = operator(suite).await;
    let upstream = Upstream::start().await;
    let port = upstream.url("").rsplit_once(':').unwrap().1.to_owned();
    for host in ["127.0.0.1", "localhost", "2130706433", "[::1]"] {
        let url = format!("http://{host}:{port}/echo");
        for (tool, arguments) in [
            ("ping_server", json!({"target": format!("{host}:{port}"), "count": 1})),
            ("ping_server", json!({"target": url, "count": 1})),
            ("read_file", json!({"source": "http", "url": url})),
            ("list_files", json!({"source": "http", "url": url})),
        ] {
            let (code, message) = failed(&agent, tool, arguments).await;
            assert_eq!(code, ToolErrorCode::AddressRefused, "{tool} {host}: {message}");
        }
    }
    assert_eq!(upstream.connections(), 0);
}

async fn the_machine_tells_how_it_does(suite: &Suite) {
    let agent = operator(suite).await;
    let told = given(&agent, "system_status", json!({})).await;
    assert!(told["host"]["uptime_s"].as_f64() > Some(0.0), "{told}");
    assert!(told["memory"]["total_bytes"].as_u64() > Some(1 << 20), "{told}");
    assert!(
        told["cpu"]["use_ratio"].is_number() && told["process"]["open_files"].as_u64() > Some(0),
        "{told}"
    );
    let few = given(&agent, "system_status", json!({"sections": ["disk"]})).await;
    assert_eq!(few.as_object().unwrap().keys().collect::<Vec<_>>(), ["disk"]);
}

async fn source_is_examined_and_never_run(suite: &Suite) {
    if !Suite::has_python() {
        return;
    }
    let agent = operator(suite).await;
    let source = "import subprocess\nprint('ran')\nsubprocess.call(input(), shell=True)\n";
    let found = given(&agent, "code_analysis", json!({"code": source})).await;
    assert_eq!((&found["findings"][0]["rule"], &found["findings"][0]["line"]), (&json!("B602"), &json!(3)));
    assert_eq!(found["counts"]["high"], 1, "{found}");
    written(&agent, "src/broken.py", "def f(:\n").await;
    let broken = given(&agent, "code_analysis", json!({"paths": ["src"]})).await;
    let first = &broken["findings"][0];
    assert_eq!((&first["rule"], &first["path"]), (&json!("syntax-error"), &json!("src/broken.py")));
    written(&agent, "src/a.go", "package a\n").await;
    let (code, message) = failed(&agent, "code_analysis", json!({"paths": ["src/a.go"]})).await;
    assert_eq!(code, ToolErrorCode::ToolFailed);
    assert!(message.contains("supported are .py and .pyi"), "{message}");
}

async fn arguments_that_do_not_fit_are_named(suite: &Suite) {
    let agent = operator(suite).await;
    for (tool, arguments, place) in [
        ("ping_server", json!({}), "arguments"),
        ("ping_server", json!({"target": "example.com", "count": 11}), "arguments/count"),
        ("ping_server", json!({"target": "example.com", "ports": [1, 2]}), "arguments"),
        ("read_file", json!({}), "arguments"),
        ("read_file", json!({"source": "ftp", "path": "a"}), "arguments/source"),
        ("read_file", json!({"source": "http", "url": "file:///etc/passwd"}), "arguments/url"),
        ("read_file", json!({"path": "a\u{0}b"}), "arguments/path"),
        ("list_files", json!({"depth": 33}), "arguments/depth"),
        ("list_files", json!({"source": "github", "repository": "../x"}), "arguments/repository"),
        ("system_status", json!({"sections": ["environment"]}), "arguments/sections/0"),
        ("code_analysis", json!({"code": "x", "language": "go"}), "arguments/language"),
        ("code_analysis", json!({}), "arguments"),
    ] {
        let answer = agent.try_call(tool, arguments.clone()).await;
        let refusal = refused(answer, Code::InvalidArgument, ErrorReason::InvalidArguments);
        let fields: Vec<_> = refusal
            .details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|each| each.field.clone())
            .collect();
        assert!(fields.iter().any(|field| field == place), "{tool} {arguments}: {fields:?}");
    }
    for tool in TOOLS {
        let asked = GetToolRequest { key: Some(Key::Name(tool.to_owned())), version: String::new() };
        let tool = suite.admin.registry().get_tool(asked).await.unwrap().into_inner().tool.unwrap();
        let definition = tool.definition.unwrap();
        assert_eq!(definition.effect(), Effect::ReadOnly, "{}", definition.name);
        assert!(!definition.examples.is_empty(), "{}", definition.name);
    }
}

mod alone {
    use super::*;

    tests::scenarios_alone! { servers_addresses_and_repositories_are_reached_where_they_may_be }

    /// A web server with a folder, and the part of GitHub's interface that is used.
    async fn outside() -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let raw = [(CONTENT_TYPE, "application/vnd.github.raw+json; charset=utf-8")];
        let json = [(CONTENT_TYPE, "application/json")];
        let html = [(CONTENT_TYPE, "text/html")];
        let routes = Router::new()
            .route(
                "/pub/",
                get(move || async move { (html, r#"<a href="../">up</a> <a href="a.txt">a</a>"#) }),
            )
            .route("/pub/a.txt", get(|| async { "one\ntwo\n" }))
            .route("/repos/o/n/contents/a.rs", get(move || async move { (raw, "fn main() {}\n") }))
            .route(
                "/repos/o/n/contents",
                get(move || async move { (json, r#"[{"name":"a.rs","type":"file","size":13}]"#) }),
            )
            .route("/down", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (url, task)
    }

    async fn servers_addresses_and_repositories_are_reached_where_they_may_be(mode: Mode) {
        let (url, server) = outside().await;
        let suite = Suite::start_with(mode, |settings| {
            settings.executor.http.allow_private_network = true;
            settings.executor.github.url.clone_from(&url);
        })
        .await;
        let agent = operator(&suite).await;
        let host = url.strip_prefix("http://").unwrap();
        let tcp = given(&agent, "ping_server", json!({"target": host, "count": 2, "interval_ms": 0})).await;
        assert_eq!((&tcp["received"], &tcp["loss_ratio"]), (&json!(2), &json!(0.0)));
        let down = given(&agent, "ping_server", json!({"target": format!("{url}/down"), "count": 1})).await;
        assert_eq!((&down["reachable"], &down["status"]), (&json!(true), &json!(503)));
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let gone = given(&agent, "ping_server", json!({"target": unused, "count": 1})).await;
        assert_eq!(gone["reachable"], false);

        let read = json!({"source": "http", "url": format!("{url}/pub/a.txt"), "start_line": 2});
        assert_eq!(given(&agent, "read_file", read).await["content"], "two\n");
        let list = json!({"source": "http", "url": format!("{url}/pub/")});
        assert_eq!(given(&agent, "list_files", list).await["entries"][0]["path"], "a.txt");
        let (code, _) =
            failed(&agent, "read_file", json!({"source": "http", "url": format!("{url}/none")})).await;
        assert_eq!(code, ToolErrorCode::ToolFailed);

        let read = json!({"source": "github", "repository": "o/n", "path": "a.rs"});
        assert_eq!(given(&agent, "read_file", read).await["content"], "fn main() {}\n");
        let list = given(&agent, "list_files", json!({"source": "github", "repository": "o/n"})).await;
        assert_eq!(list["entries"], json!([{"path": "a.rs", "kind": "file", "size_bytes": 13}]));
        let none = json!({"source": "github", "repository": "o/n", "path": "b.rs"});
        assert!(failed(&agent, "read_file", none).await.1.contains("does not exist on GitHub"));
        server.abort();
        suite.stop().await;
    }
}
