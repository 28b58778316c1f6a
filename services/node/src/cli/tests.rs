//! Whole commands against an edge that answers by the contracts: what goes over the wire, what is shown,
//! and the exit code.

mod executions;
mod selection;
mod settings;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use clap::FromArgMatches;
use proto::{
    executor::v1::{
        BatchExecuteRequest, BatchExecuteResponse, CancelExecutionRequest, CancelExecutionResponse,
        ExecuteRequest, ExecuteResponse, Execution, ExecutionStatus, GetCacheStatsRequest,
        GetCacheStatsResponse, GetExecutionRequest, GetExecutionResponse, GetToolMetricsRequest,
        GetToolMetricsResponse, InvalidateCacheRequest, InvalidateCacheResponse, ListExecutionsRequest,
        ListExecutionsResponse, ListToolMetricsRequest, ListToolMetricsResponse, StartExecutionRequest,
        StartExecutionResponse, ToolError, ToolErrorCode, WatchExecutionRequest, WatchExecutionResponse,
        execute_request,
        executor_service_server::{ExecutorService, ExecutorServiceServer},
    },
    selector::v1::{
        RecordOutcomesRequest, RecordOutcomesResponse, SelectToolsRequest, SelectToolsResponse,
        selector_service_server::{SelectorService, SelectorServiceServer},
    },
};
use rpc::ErrorReason;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use types::Kind;

use super::{Cli, Error, Output, Target, ask, error::Context, help, output::Format};

/// What the edge was asked: the authorization and the arguments.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

#[derive(Clone)]
struct Edge(Asked);

#[tonic::async_trait]
impl ExecutorService for Edge {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        let authorization =
            request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        assert!(request.metadata().contains_key("grpc-timeout"));
        let request = request.into_inner();
        let Some(execute_request::Input::ArgumentsJson(arguments)) = request.input else {
            return Err(Status::invalid_argument("no arguments"));
        };
        self.0.lock().unwrap().push((authorization.unwrap_or_default(), arguments));
        let mut execution = Execution { id: "e-1".into(), duration_ms: 12.0, ..Execution::default() };
        match request.tool.as_str() {
            "printer" => {
                execution.status = ExecutionStatus::Succeeded as i32;
                execution.result_json = r#"{"stdout":"42\n","exit_code":0}"#.into();
            }
            "broken" => {
                execution.status = ExecutionStatus::Failed as i32;
                let code = ToolErrorCode::ToolFailed as i32;
                execution.error =
                    Some(ToolError { code, message: "it broke".into(), ..ToolError::default() });
            }
            _ => {
                return Err(rpc::status_with_reason(
                    Kind::Denied,
                    ErrorReason::NoGrant,
                    "no grant for this tool",
                ));
            }
        }
        Ok(Response::new(ExecuteResponse { execution: Some(execution), replayed: false }))
    }

    async fn get_execution(
        &self,
        _: Request<GetExecutionRequest>,
    ) -> Result<Response<GetExecutionResponse>, Status> {
        // The client gives up first: its deadline is what is tested.
        std::future::pending().await
    }

    async fn list_executions(
        &self,
        request: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        let request = request.into_inner();
        let start: i32 = request.page_token.parse().unwrap_or_default();
        let ids = start..(start + request.page_size).min(300);
        let next_page_token = if ids.end == 300 { String::new() } else { ids.end.to_string() };
        let executions =
            ids.map(|id| Execution { id: format!("e-{id:03}"), ..Execution::default() }).collect();
        Ok(Response::new(ListExecutionsResponse { executions, next_page_token }))
    }
}

#[tonic::async_trait]
impl SelectorService for Edge {
    async fn select_tools(
        &self,
        _: Request<SelectToolsRequest>,
    ) -> Result<Response<SelectToolsResponse>, Status> {
        Err(Status::not_found("nothing"))
    }

    async fn record_outcomes(
        &self,
        _: Request<RecordOutcomesRequest>,
    ) -> Result<Response<RecordOutcomesResponse>, Status> {
        Err(Status::permission_denied("for services"))
    }
}

/// A place to write that the test can read.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a command left behind.
struct Done {
    out: String,
    err: String,
    error: Option<Error>,
    context: Context,
}

impl Done {
    fn exit_code(&self) -> u8 {
        self.error.as_ref().map_or(0, Error::exit_code)
    }

    fn message(&self) -> String {
        self.error.as_ref().and_then(|error| error.report(&self.context)).unwrap_or_default().message
    }
}

/// Serves an edge on a free port until the test's runtime ends.
async fn edge() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let edge = Edge(asked.clone());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ExecutorServiceServer<Edge>>().await;
    let server = Server::builder()
        .add_service(health)
        .add_service(ExecutorServiceServer::new(edge.clone()))
        .add_service(SelectorServiceServer::new(edge))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (address, asked)
}

async fn run(address: &str, words: &[&str]) -> Done {
    let words = [&["toolcrib", "--address", address], words].concat();
    let cli = Cli::from_arg_matches(&help::command().try_get_matches_from(words).unwrap()).unwrap();
    let target = Target::find(&cli.client, None);
    let (out, err) = (Page::default(), Page::default());
    let mut output = Output::to(cli.client.output, Box::new(out.clone()), Box::new(err.clone()));
    let error = ask(cli.command, &target, &mut output).await.err();
    Done { out: out.text(), err: err.text(), error, context: target.context() }
}

#[tokio::test]
async fn a_call_brings_the_key_and_shows_what_the_tool_printed() {
    let (address, asked) = edge().await;
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "tc_dev_1_secret_2\n").unwrap();
    let file = key.path().to_str().unwrap();
    let words = ["call", "printer", "--api-key-file", file, "id:=9007199254740993123"];
    let done = run(&address, &words).await;
    assert_eq!((done.exit_code(), done.out.as_str()), (0, "42\n"), "{}", done.message());
    assert_eq!(done.err, "succeeded · 12ms · $0 · e-1\n");
    let expected = ("Bearer tc_dev_1_secret_2".to_owned(), "{\"id\":9007199254740993123}".to_owned());
    assert_eq!(*asked.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn the_exit_code_tells_failed_from_refused_from_unreachable() {
    let (address, _) = edge().await;
    let failed = run(&address, &["call", "broken"]).await;
    assert_eq!(failed.exit_code(), 1);
    assert!(failed.err.starts_with("tool_failed: it broke\nfailed · "), "{}", failed.err);
    let refused = run(&address, &["call", "secret"]).await;
    assert_eq!((refused.exit_code(), refused.message().as_str()), (2, "no grant for this tool"));
    let late = run(&address, &["executions", "show", "x", "--timeout", "1"]).await;
    assert_eq!(late.exit_code(), 3);
    assert!(late.message().contains("within 1 s"), "{}", late.message());
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let unreachable = run(&format!("http://{nobody}"), &["whoami"]).await;
    assert_eq!(unreachable.exit_code(), 3);
    assert!(unreachable.message().starts_with("cannot reach http://127.0.0.1:"), "{}", unreachable.message());
    assert_eq!(run("not an address", &["whoami"]).await.exit_code(), 2);
}

#[tokio::test]
async fn a_list_is_fetched_page_after_page_and_written_as_one_response() {
    let (address, _) = edge().await;
    let done = run(&address, &["executions", "list", "--limit", "250", "-o", "json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(answer["executions"].as_array().unwrap().len(), 250);
    assert_eq!(answer["executions"][249]["id"], "e-249");
    assert_eq!(answer["next_page_token"], "250");
    let table = run(&address, &["executions", "list", "--limit", "2"]).await;
    assert_eq!(table.out.lines().count(), 3, "{}", table.out);
    assert!(table.err.contains("--limit"), "{}", table.err);
}

#[tokio::test]
async fn health_fails_unless_every_service_serves() {
    let (address, _) = edge().await;
    let done = run(&address, &["health"]).await;
    assert_eq!(done.exit_code(), 1);
    let line =
        |name: &str| done.out.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("edge").ends_with("serving"), "{}", done.out);
    assert!(line("toolcrib.executor.v1.ExecutorService").ends_with("  serving"), "{}", done.out);
    assert!(line("toolcrib.audit.v1.AuditService").ends_with("unknown"), "{}", done.out);
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_command_quietly() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (address, _) = edge().await;
    let words = ["toolcrib", "--address", &address, "executions", "list"];
    let cli = Cli::from_arg_matches(&help::command().try_get_matches_from(words).unwrap()).unwrap();
    let target = Target::find(&cli.client, None);
    let mut output = Output::to(Format::Table, Box::new(Gone), Box::new(io::sink()));
    let error = ask(cli.command, &target, &mut output).await.unwrap_err();
    assert_eq!((error.exit_code(), error.report(&target.context())), (0, None));
}
