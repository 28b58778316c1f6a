//! The commands that start, watch, cancel and batch calls and tell figures, against an executor that keeps what
//! it is asked.

use proto::{
    executor::v1::{
        BatchItem, CacheStats, CallError, Heartbeat, Progress, ToolMetrics, batch_item::Outcome,
        watch_execution_response::Event,
    },
    registry::v1::Degradation,
};

use super::*;

/// What was asked, as the messages print themselves.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<ExecuteRequest>>>);

impl Desk {
    fn keep(&self, request: &impl std::fmt::Debug) {
        self.0.lock().unwrap().push(format!("{request:?}"));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn calls(&self) -> Vec<ExecuteRequest> {
        std::mem::take(&mut self.1.lock().unwrap())
    }
}

fn succeeded(id: &str) -> Execution {
    let status = ExecutionStatus::Succeeded as i32;
    Execution {
        id: id.into(),
        status,
        result_json: "{\"n\":1}".into(),
        duration_ms: 12.0,
        ..Execution::default()
    }
}

/// A tool called "broken" is refused, and "breaking" takes the server away.
fn item(call: &ExecuteRequest) -> BatchItem {
    let outcome = if call.tool == "broken" {
        let error = CallError {
            code: 7,
            reason: "NO_GRANT".into(),
            message: "no grant for this tool".into(),
            ..CallError::default()
        };
        Outcome::Error(error)
    } else {
        Outcome::Response(ExecuteResponse { execution: Some(succeeded(&call.request_id)), replayed: false })
    };
    BatchItem { outcome: Some(outcome) }
}

fn happened(sequence: i64, event: Event) -> WatchExecutionResponse {
    WatchExecutionResponse { sequence, event: Some(event), ..WatchExecutionResponse::default() }
}

#[tonic::async_trait]
impl ExecutorService for Desk {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        self.1.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExecuteResponse { execution: Some(succeeded("e-1")), replayed: false }))
    }

    async fn start_execution(
        &self,
        request: Request<StartExecutionRequest>,
    ) -> Result<Response<StartExecutionResponse>, Status> {
        self.keep(request.get_ref());
        let status = ExecutionStatus::Queued as i32;
        let execution = Execution { id: "e-9".into(), status, ..Execution::default() };
        Ok(Response::new(StartExecutionResponse { execution: Some(execution), replayed: false }))
    }

    async fn batch_execute(
        &self,
        request: Request<BatchExecuteRequest>,
    ) -> Result<Response<BatchExecuteResponse>, Status> {
        let request = request.into_inner();
        if request.calls.iter().any(|call| call.tool == "breaking") {
            return Err(Status::unavailable("away"));
        }
        let items: Vec<_> = request.calls.iter().map(item).collect();
        let is_answer = |item: &&BatchItem| matches!(item.outcome, Some(Outcome::Response(_)));
        let succeeded = i32::try_from(items.iter().filter(is_answer).count()).unwrap();
        self.1.lock().unwrap().extend(request.calls);
        Ok(Response::new(BatchExecuteResponse { items, succeeded }))
    }

    async fn watch_execution(
        &self,
        request: Request<WatchExecutionRequest>,
    ) -> Result<Response<tonic::codegen::BoxStream<WatchExecutionResponse>>, Status> {
        self.keep(request.get_ref());
        let status = ExecutionStatus::Running as i32;
        let progress = Progress { progress: 1.0, total: 4.0, message: "rows".into() };
        let mut events = vec![
            Ok(happened(1, Event::Status(Execution { status, ..Execution::default() }))),
            Ok(happened(1, Event::Heartbeat(Heartbeat {}))),
            Ok(happened(5, Event::Progress(progress))),
        ];
        let asked = request.get_ref();
        if asked.id == "lost" {
            events.push(Err(Status::unavailable("away")));
        } else if asked.id == "long" && asked.after_sequence == 0 {
            events.push(Err(Status::deadline_exceeded("go on with after_sequence 5")));
        } else {
            events.push(Ok(happened(6, Event::Status(succeeded("e-9")))));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }

    async fn cancel_execution(
        &self,
        request: Request<CancelExecutionRequest>,
    ) -> Result<Response<CancelExecutionResponse>, Status> {
        self.keep(request.get_ref());
        let message = "it has ended";
        Err(rpc::status_with_reason(Kind::Precondition, ErrorReason::NotCancellable, message))
    }

    async fn list_executions(
        &self,
        request: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        self.keep(request.get_ref());
        Ok(Response::new(ListExecutionsResponse::default()))
    }

    async fn list_tool_metrics(
        &self,
        request: Request<ListToolMetricsRequest>,
    ) -> Result<Response<ListToolMetricsResponse>, Status> {
        let request = request.into_inner();
        self.keep(&(request.refresh, &request.page_token));
        let (tool_name, next) = if request.page_token.is_empty() { ("a", "2") } else { ("b", "") };
        let metrics = ToolMetrics { tool_name: tool_name.into(), executions: 3, ..ToolMetrics::default() };
        let answer = ListToolMetricsResponse {
            metrics: vec![metrics],
            next_page_token: next.into(),
            ..ListToolMetricsResponse::default()
        };
        Ok(Response::new(answer))
    }

    async fn get_tool_metrics(
        &self,
        request: Request<GetToolMetricsRequest>,
    ) -> Result<Response<GetToolMetricsResponse>, Status> {
        let GetToolMetricsRequest { tool_name, .. } = request.into_inner();
        let metrics = Some(ToolMetrics { tool_name, executions: 3, ..ToolMetrics::default() });
        Ok(Response::new(GetToolMetricsResponse { metrics, as_of: None }))
    }

    async fn get_cache_stats(
        &self,
        _: Request<GetCacheStatsRequest>,
    ) -> Result<Response<GetCacheStatsResponse>, Status> {
        let stats = CacheStats { tool_name: "a".into(), hits: 3, hit_ratio: 0.75, ..CacheStats::default() };
        Ok(Response::new(GetCacheStatsResponse { stats: vec![stats], variant: "memory".into() }))
    }

    async fn invalidate_cache(
        &self,
        request: Request<InvalidateCacheRequest>,
    ) -> Result<Response<InvalidateCacheResponse>, Status> {
        self.keep(request.get_ref());
        Ok(Response::new(InvalidateCacheResponse {}))
    }
}

/// Serves an executor on a free port until the test's runtime ends.
async fn desk() -> (String, Desk) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let desk = Desk::default();
    let server = Server::builder()
        .add_service(ExecutorServiceServer::new(desk.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (address, desk)
}

#[tokio::test]
async fn a_call_overrides_the_tools_settings() {
    let (address, desk) = desk().await;
    let words =
        ["call", "t", "--retries", "0", "--max-age", "60", "--no-fallbacks", "--on-failure", "cached"];
    assert_eq!(run(&address, &words).await.exit_code(), 0);
    run(&address, &["call", "t"]).await;
    let calls = desk.calls();
    let options = calls[0].options.unwrap();
    assert_eq!((options.max_retries, options.max_age_s, options.skip_cache), (Some(0), 60, false));
    assert_eq!((options.no_fallbacks, options.degradation()), (true, Degradation::Cached));
    assert_eq!(calls[1].options, None);
    let words = ["toolcrib", "call", "t", "--no-cache", "--max-age", "60"];
    assert!(help::command().try_get_matches_from(words).is_err(), "one of them has no sense");
}

#[tokio::test]
async fn a_started_call_prints_its_id_and_nothing_else_to_standard_output() {
    let (address, desk) = desk().await;
    let words = ["start", "t", "id:=7", "--priority", "-3", "--not-before", "+10m", "--max-deliveries", "2"];
    let done = run(&address, &words).await;
    assert_eq!((done.exit_code(), done.out.as_str()), (0, "e-9\n"), "{}", done.message());
    assert!(done.err.contains("queued; follow it with: toolcrib executions watch e-9"), "{}", done.err);
    let asked = &desk.asked()[0];
    for part in ["priority: -3", "max_deliveries: 2", "{\\\"id\\\":7}", "not_before: Some("] {
        assert!(asked.contains(part), "{part} is missing in {asked}");
    }
}

#[tokio::test]
async fn watching_ends_with_the_execution_and_tells_where_to_go_on_when_it_breaks() {
    let (address, desk) = desk().await;
    let done = run(&address, &["executions", "watch", "e-9", "--after", "0"]).await;
    assert_eq!(done.exit_code(), 0, "{}", done.message());
    let lines: Vec<_> = done.out.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 6, "three lines and the result: {}", done.out);
    assert!(lines[1].starts_with("progress  ██") && lines[1].ends_with("25 % rows"), "{}", done.out);
    assert!(done.err.ends_with("succeeded · 12ms · $0 · e-9\n"), "{}", done.err);
    let json = run(&address, &["executions", "watch", "e-9", "-o", "json"]).await;
    let events: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((events.len(), &events[3]["status"]["id"]), (4, &"e-9".into()));
    let long = run(&address, &["executions", "watch", "long"]).await;
    assert_eq!(long.exit_code(), 0, "{}", long.err);
    let asked = desk.asked();
    assert!(asked.len() == 4 && asked[3].contains("after_sequence: 5"), "{asked:?}");
    let lost = run(&address, &["executions", "watch", "lost"]).await;
    assert_ne!(lost.exit_code(), 0);
    assert!(lost.err.contains("toolcrib executions watch lost --after 5"), "{}", lost.err);
    assert_eq!(desk.asked().len(), 1);
}

#[tokio::test]
async fn what_has_ended_is_not_cancelled_and_it_is_told_how_to_see_it() {
    let (address, _) = desk().await;
    let done = run(&address, &["executions", "cancel", "e-1"]).await;
    assert_eq!(done.exit_code(), 2);
    let report = done.error.unwrap().report(&done.context).unwrap();
    assert_eq!(report.reason, "NOT_CANCELLABLE");
    assert!(report.hint.contains("executions show"), "{report:?}");
}

#[tokio::test]
async fn every_filter_of_the_list_is_sent() {
    let (address, desk) = desk().await;
    let words = [
        "executions",
        "list",
        "--status",
        "failed",
        "--error",
        "timeout",
        "--request-id",
        "r-1",
        "--since",
        "1h",
    ];
    let done = run(&address, &words).await;
    assert_eq!((done.exit_code(), done.out.as_str()), (0, "no execution fits\n"));
    let asked = &desk.asked()[0];
    for part in ["status: Failed", "error_code: Timeout", "request_id: \"r-1\"", "created_after: Some("] {
        assert!(asked.contains(part), "{part} is missing in {asked}");
    }
}

/// A file of so many calls, of which one is of this tool.
fn file(calls: usize, at: usize, tool: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for nth in 0..calls {
        let tool = if nth == at { tool } else { "well" };
        writeln!(file, r#"{{"tool":"{tool}","arguments":{{"n":{nth}}},"request_id":"r-{nth}"}}"#).unwrap();
    }
    file
}

#[tokio::test]
async fn a_batch_is_shown_in_order_and_fails_when_any_call_did() {
    let (address, desk) = desk().await;
    let calls = file(45, 44, "broken");
    let words = ["batch", calls.path().to_str().unwrap(), "--parallel", "2"];
    let done = run(&address, &words).await;
    assert_eq!(done.exit_code(), 1);
    let rows: Vec<_> = done.out.lines().skip(1).collect();
    assert_eq!(rows.len(), 45, "{}", done.out);
    assert!(rows[7].contains("succeeded") && rows[7].contains("r-7"), "{}", rows[7]);
    assert!(rows[44].contains("refused") && rows[44].contains("NO_GRANT: no grant"), "{}", rows[44]);
    assert_eq!(done.err, "44 of 45 succeeded\n");
    assert_eq!(desk.calls().len(), 45);
    let well = file(3, 9, "");
    let done = run(&address, &["batch", well.path().to_str().unwrap(), "-o", "json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((done.exit_code(), &answer["succeeded"]), (0, &3.into()));
}

#[tokio::test]
async fn a_batch_stops_at_a_failure_when_asked_to() {
    let (address, desk) = desk().await;
    let calls = file(30, 2, "broken");
    let words = ["batch", calls.path().to_str().unwrap(), "--parallel", "1", "--stop-on-failure"];
    let done = run(&address, &words).await;
    assert_eq!(desk.calls().len(), 4, "the first request of four, and no other");
    assert_eq!(done.out.lines().count(), 31);
    assert_eq!(done.out.matches("left out: call 3 of the batch").count(), 26, "{}", done.out);
}

#[tokio::test]
async fn what_was_answered_before_the_connection_broke_is_shown() {
    let (address, _) = desk().await;
    let calls = file(30, 25, "breaking");
    let done = run(&address, &["batch", calls.path().to_str().unwrap()]).await;
    assert_eq!((done.exit_code(), done.message().as_str()), (2, "away"));
    assert_eq!(done.out.lines().count(), 21, "{}", done.out);
    assert!(done.err.contains("20 of 30 calls have an answer"), "{}", done.err);
}

#[tokio::test]
async fn figures_are_made_anew_once_and_fetched_to_the_end() {
    let (address, desk) = desk().await;
    let done = run(&address, &["metrics", "--refresh"]).await;
    assert_eq!(done.out.lines().filter(|line| line.starts_with(['a', 'b'])).count(), 2, "{}", done.out);
    assert_eq!(desk.asked(), ["(true, \"\")", "(false, \"2\")"]);
    let one = run(&address, &["metrics", "adder"]).await;
    assert!(one.out.starts_with("tool            adder\nruns            3\n"), "{}", one.out);
}

#[tokio::test]
async fn the_cache_is_told_and_cleared_of_one_answer_or_of_all() {
    let (address, desk) = desk().await;
    let stats = run(&address, &["cache", "stats"]).await;
    assert!(stats.out.contains("75.0 %") && stats.out.ends_with("cache: memory\n"), "{}", stats.out);
    let done = run(&address, &["cache", "clear", "a", "--arguments", "{\"n\":7}"]).await;
    assert_eq!(done.out, "dropped the answer to these arguments of a\n");
    assert_eq!(run(&address, &["cache", "clear", "a"]).await.out, "dropped every answer of a\n");
    let asked = desk.asked();
    assert!(asked[0].contains(r#"arguments_json: "{\"n\":7}""#), "{asked:?}");
    assert!(asked[1].contains(r#"arguments_json: """#), "{asked:?}");
}
