//! Watching: everything once and in order, from any replica, late or again, and the end whole.

use std::time::Duration;

use ::rpc::{ErrorReason, reason_of};
use chrono::Utc;
use proto::{
    executor::v1::{
        CancelExecutionRequest, Execution, ExecutionStatus, StartExecutionRequest, WatchExecutionRequest,
        WatchExecutionResponse, watch_execution_response::Event,
    },
    registry::v1::{
        McpBinding, McpTransport, StdioTransport, ToolDefinition, ToolSettings, binding, mcp_transport::Kind,
    },
    types::v1::Effect,
};
use tonic::{Code, Status, Streaming};
use types::Caller;

use super::{
    fakes::Fakes,
    house::{
        House, Outage, PATIENCE, TEAM, agent, bound, builtin, execution, posting, request, retries, until,
    },
    ledger::{intent, ledger},
    upstream::{Held, Upstream, json},
};
use crate::{
    outcome::{self, Finished},
    progress::Sink,
    store,
};

type Watched = Streaming<WatchExecutionResponse>;

async fn watch_as(house: &House, caller: &Caller, id: &str, after: i64) -> Result<Watched, Status> {
    let request = WatchExecutionRequest { id: id.into(), after_sequence: after };
    let answer = house.client.clone().watch_execution(house.asking(caller, request)).await;
    answer.map(tonic::Response::into_inner)
}

async fn watch(house: &House, id: &str, after: i64) -> Watched {
    watch_as(house, &agent("agent"), id, after).await.unwrap()
}

async fn next(watched: &mut Watched) -> Result<Option<WatchExecutionResponse>, Status> {
    tokio::time::timeout(PATIENCE, watched.message()).await.expect("something is told in time")
}

/// What is left of a stream, without heartbeats.
async fn rest(watched: &mut Watched) -> Vec<(i64, Event)> {
    let mut events = Vec::new();
    while let Some(told) = next(watched).await.unwrap() {
        let event = told.event.unwrap();
        if !matches!(event, Event::Heartbeat(_)) {
            events.push((told.sequence, event));
        }
    }
    events
}

async fn all(house: &House, id: &str, after: i64) -> Vec<(i64, Event)> {
    rest(&mut watch(house, id, after).await).await
}

fn status(event: &Event) -> Option<ExecutionStatus> {
    if let Event::Status(execution) = event { Some(execution.status()) } else { None }
}

fn named(events: &[(i64, Event)]) -> Vec<(i64, String)> {
    let name = |event: &Event| match event {
        Event::Progress(progress) => format!("progress {}/{}", progress.progress, progress.total),
        Event::Log(line) => format!("{} {}: {}", line.level, line.logger, line.text),
        Event::Attempt(attempt) => format!("attempt {}", attempt.number),
        Event::Status(execution) => execution.status().as_str_name().replace("EXECUTION_STATUS_", ""),
        Event::Heartbeat(_) => "heartbeat".into(),
    };
    events.iter().map(|(sequence, event)| (*sequence, name(event))).collect()
}

async fn only_id(house: &House) -> String {
    let ids = async || house.texts("SELECT id::text FROM executor.execution").await;
    until(async || ids().await.len() == 1).await;
    ids().await.remove(0)
}

/// Two replicas.
async fn houses() -> (House, House) {
    let database = testkit::database(&[crate::schema()]).await;
    let fakes = Fakes::default();
    (House::on(&database, fakes.clone(), |_| {}), House::on(&database, fakes, |_| {}))
}

fn telling() -> ToolDefinition {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/mcp_server.py").to_owned();
    let stdio = StdioTransport { command: "python3".into(), args: vec![script], env: [].into() };
    let transport = Some(McpTransport { kind: Some(Kind::Stdio(stdio)), ..McpTransport::default() });
    bound(
        "tells",
        binding::Kind::Mcp(McpBinding { server: "server".into(), tool: "tells".into(), transport }),
    )
}

pub(super) fn start(tool: &str) -> StartExecutionRequest {
    StartExecutionRequest { call: Some(request(tool, "{}")), ..StartExecutionRequest::default() }
}

pub(super) async fn started(house: &House, request: StartExecutionRequest) -> Execution {
    let answer = house.client.clone().start_execution(house.asking(&agent("agent"), request)).await;
    answer.unwrap().into_inner().execution.unwrap()
}

#[tokio::test]
async fn what_a_tool_says_is_told_once_in_order_and_can_be_resumed_anywhere_on_any_replica() {
    let (here, there) = houses().await;
    here.add(telling());
    let done = execution(here.execute(request("tells", "{}")).await);
    let events = all(&there, &done.id, 0).await;
    let names = named(&events);
    assert_eq!(names.first().unwrap(), &(1_000_000, "RUNNING".to_owned()));
    assert_eq!(names.last().unwrap(), &(1_999_999, "SUCCEEDED".to_owned()));
    let mut between: Vec<_> = names[1..names.len() - 1].iter().map(|(_, name)| name.as_str()).collect();
    between.sort_unstable();
    assert_eq!(between, ["info small: at work", "progress 1/2"]);
    assert!(!format!("{events:?}").contains("hunter2"), "{events:?}");
    assert!(events.windows(2).all(|pair| pair[0].0 < pair[1].0), "{names:?}");
    for (at, (sequence, _)) in events.iter().enumerate() {
        for house in [&here, &there] {
            assert_eq!(all(house, &done.id, *sequence).await, events[at + 1..]);
        }
    }
    let last = events.last().unwrap();
    assert!(matches!(&last.1, Event::Status(whole) if whole.result_json == done.result_json));
    here.begin_stop().await;
}

#[tokio::test]
async fn progress_of_a_real_server_arrives_on_another_replica_while_it_works() {
    let program = "mcp/node/node_modules/.bin/mcp-server-everything";
    let Some(program) = testkit::installed(program, "scripts/install-mcp-servers") else { return };
    let (here, there) = houses().await;
    let command = program.to_string_lossy().into_owned();
    let stdio = StdioTransport { command, args: vec!["stdio".into()], env: [].into() };
    let transport = Some(McpTransport { kind: Some(Kind::Stdio(stdio)), ..McpTransport::default() });
    let (server, tool) = ("everything".to_owned(), "trigger-long-running-operation".to_owned());
    here.add(bound("long", binding::Kind::Mcp(McpBinding { server, tool, transport })));
    let call = here.spawn(PATIENCE, request("long", r#"{"duration":2,"steps":4}"#));
    let mut watched = watch(&there, &only_id(&here).await, 0).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = next(&mut watched).await.unwrap().unwrap().event.unwrap();
        if matches!(event, Event::Progress(_)) {
            told.push(event);
        }
    }
    assert!(!call.is_finished());
    let done = execution(call.await.unwrap());
    assert_eq!(done.status(), ExecutionStatus::Succeeded, "{done:?}");
    let names: Vec<_> = named(&all(&there, &done.id, 0).await).into_iter().map(|(_, name)| name).collect();
    let steps = ["progress 1/4", "progress 2/4", "progress 3/4", "progress 4/4"];
    assert_eq!(names, [&["RUNNING"], &steps[..], &["SUCCEEDED"]].concat());
    here.begin_stop().await;
}

#[tokio::test]
async fn what_a_program_prints_arrives_while_it_runs() {
    let Some(python) = testkit::installed("python/bin/python", "make setup") else { return };
    let folder = testkit::folder();
    let work_root = folder.path().to_owned();
    let house = House::with(|config| {
        config.sandbox.python = python;
        config.sandbox.work_root = work_root;
    })
    .await;
    house.add(builtin("python_sandbox"));
    let code = "import sys, time\nprint('password=hunter2-canary', flush=True)\ntime.sleep(2)\n\
                print('two', file=sys.stderr, flush=True)\nprint('three')\n";
    let arguments = serde_json::json!({ "code": code }).to_string();
    let call = house.spawn(PATIENCE, request("python_sandbox", &arguments));
    let mut watched = watch(&house, &only_id(&house).await, 0).await;
    let first = loop {
        if let Event::Log(line) = next(&mut watched).await.unwrap().unwrap().event.unwrap() {
            break line;
        }
    };
    assert!(!call.is_finished());
    assert_eq!((first.level.as_str(), first.logger.as_str()), ("info", "stdout"));
    assert!(!first.text.contains("hunter2"), "{first:?}");
    execution(call.await.unwrap());
    let mut left: Vec<_> = named(&rest(&mut watched).await).into_iter().map(|(_, name)| name).collect();
    assert_eq!(left.pop().unwrap(), "SUCCEEDED");
    left.sort_unstable();
    assert_eq!(left, ["info stderr: two", "info stdout: three"]);
    house.begin_stop().await;
}

#[tokio::test]
async fn a_run_elsewhere_is_told_while_it_runs_with_heartbeats_and_its_end_whole() {
    let ((here, there), held) = (houses().await, Held::new().await);
    here.add(posting("tool", &held.upstream.url));
    let call = here.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let id = only_id(&here).await;
    for house in [&here, &there] {
        let mut watched = watch(house, &id, 0).await;
        let first = next(&mut watched).await.unwrap().unwrap();
        assert_eq!(
            (first.sequence, status(&first.event.unwrap())),
            (1_000_000, Some(ExecutionStatus::Running))
        );
        let second = next(&mut watched).await.unwrap().unwrap();
        assert!(matches!(second.event, Some(Event::Heartbeat(_))), "{second:?}");
        assert_eq!(second.sequence, 1_000_000);
    }
    let (mut near, mut far) = (watch(&here, &id, 1_000_000).await, watch(&there, &id, 1_000_000).await);
    held.go();
    let done = execution(call.await.unwrap());
    for events in [rest(&mut near).await, rest(&mut far).await] {
        let [(1_999_999, Event::Status(whole))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((whole.status(), &whole.result_json), (ExecutionStatus::Succeeded, &done.result_json));
    }
}

#[tokio::test]
async fn an_attempt_that_failed_is_told_before_the_next_ends() {
    let house = House::new().await;
    let upstream = Upstream::new(|_| async { json(503, "{}") }).await;
    let definition = ToolDefinition { effect: Effect::Idempotent.into(), ..posting("tool", &upstream.url) };
    house.add_with(definition, ToolSettings { retry: Some(retries(2)), ..ToolSettings::default() });
    let done = execution(house.execute(request("tool", "{}")).await);
    let events = all(&house, &done.id, 0).await;
    let expected = ["RUNNING", "attempt 1", "attempt 2", "FAILED"];
    assert_eq!(named(&events).iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), expected);
    let Event::Attempt(first) = &events[1].1 else { panic!("{events:?}") };
    assert_eq!(Some(first), done.attempts.first());
}

#[tokio::test]
async fn an_outcome_is_written_after_everything_that_was_said_before_it() {
    let (ledger, database) = ledger().await;
    for _ in 0..5 {
        let intent = intent(uuid::Uuid::new_v4(), "");
        let execution = intent.execution.clone();
        assert!(ledger.intent(intent, true).await.unwrap());
        let sink = Sink::new(&ledger, &execution, std::sync::Arc::default());
        (0..1_500).for_each(|number| sink.log("info", "stdout", &format!("line {number}")));
        sink.flush().await;
        let finished = Finished::without_attempt(Ok("{}".into()));
        let outcome = outcome::outcome(&execution, &finished, String::new(), Utc::now());
        assert!(ledger.outcome(outcome, true).await.unwrap());
        let rows =
            store::progress_list(database.pool().unwrap(), TEAM, execution.id, 0, 9_999).await.unwrap();
        assert_eq!(rows.len(), 1_500);
        // Nothing follows an end.
        sink.log("info", "stdout", "too late");
        sink.flush().await;
        let rows =
            store::progress_list(database.pool().unwrap(), TEAM, execution.id, 0, 9_999).await.unwrap();
        assert_eq!(rows.last().unwrap().sequence, 1_001_500);
    }
}

#[tokio::test]
async fn a_tool_that_says_too_much_is_cut_off_and_its_texts_are_made_fit() {
    let (ledger, database) = ledger().await;
    let intent = intent(uuid::Uuid::new_v4(), "");
    let execution = intent.execution.clone();
    assert!(ledger.intent(intent, true).await.unwrap());
    let sink = Sink::new(&ledger, &execution, std::sync::Arc::default());
    sink.log("info", "\0", &"\0x".repeat(5_000));
    sink.progress(f64::NAN, f64::INFINITY, "token=hunter2-canary-0123456789");
    (0..3_000).for_each(|_| sink.progress(1.0, 0.0, ""));
    sink.flush().await;
    let rows = store::progress_list(database.pool().unwrap(), TEAM, execution.id, 0, 9_999).await.unwrap();
    assert_eq!(rows.len(), 2_000);
    assert!(
        rows[0].body_json.len() < 2_200 && !rows[0].body_json.contains("\\u0000"),
        "{}",
        rows[0].body_json
    );
    assert!(!rows[1].body_json.contains("hunter2"), "{}", rows[1].body_json);
    assert!(rows[1].body_json.contains(r#""done":0.0,"total":0.0"#), "{}", rows[1].body_json);
}

#[tokio::test]
async fn a_long_tale_comes_page_by_page_without_a_gap() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let id = only_id(&house).await;
    house
        .run(
            r#"INSERT INTO executor.progress SELECT team_id, id, 1000000 + n, 'log',
               '{"level":"info","logger":"","text":"' || n || '"}', now()
               FROM executor.execution, generate_series(1, 350) n"#,
        )
        .await;
    let mut watched = watch(&house, &id, 0).await;
    for expected in 1_000_000..1_000_120 {
        assert_eq!(next(&mut watched).await.unwrap().unwrap().sequence, expected);
    }
    held.go();
    execution(call.await.unwrap());
    let sequences: Vec<_> = rest(&mut watched).await.into_iter().map(|(sequence, _)| sequence).collect();
    let expected: Vec<_> = (1_000_120..=1_000_350).chain([1_999_999]).collect();
    assert_eq!(sequences, expected);
}

#[tokio::test]
async fn one_that_waits_is_told_as_waiting_until_it_runs_or_is_cancelled() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let in_an_hour = prost_types::Timestamp { seconds: Utc::now().timestamp() + 3_600, nanos: 0 };
    let waits =
        started(&house, StartExecutionRequest { not_before: Some(in_an_hour), ..start("tool") }).await;
    let mut watched = watch(&house, &waits.id, 0).await;
    let first = next(&mut watched).await.unwrap().unwrap();
    assert_eq!((first.sequence, status(&first.event.unwrap())), (500_000, Some(ExecutionStatus::Queued)));
    let cancel = CancelExecutionRequest { id: waits.id.clone() };
    house.client.clone().cancel_execution(house.asking(&agent("agent"), cancel)).await.unwrap();
    assert_eq!(named(&rest(&mut watched).await), [(999_999, "CANCELLED".to_owned())]);
    let runs = started(&house, start("tool")).await;
    let mut watched = watch(&house, &runs.id, 0).await;
    held.reached().await;
    held.go();
    let events = named(&rest(&mut watched).await);
    let expected = [(500_000, "QUEUED"), (1_000_000, "RUNNING"), (1_999_999, "SUCCEEDED")];
    assert_eq!(events, expected.map(|(sequence, name)| (sequence, name.to_owned())));
    // Whoever comes late is told the same.
    assert_eq!(named(&all(&house, &runs.id, 0).await), events);
}

#[tokio::test]
async fn nobody_watches_what_is_not_his() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let done = execution(house.execute(request("tool", "{}")).await);
    let of_another_team = Caller { team: "other".into(), ..agent("agent") };
    for caller in [of_another_team, agent("another")] {
        let status = watch_as(&house, &caller, &done.id, 0).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::NotFound, Some(ErrorReason::NotFound)));
    }
    let status = watch_as(&house, &agent("agent"), &done.id, -1).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(all(&house, &done.id, 1_999_999).await.is_empty());
}

#[tokio::test]
async fn a_stop_ends_the_watch_of_what_does_not_run_here_and_not_of_what_does() {
    let ((here, there), held) = (houses().await, Held::new().await);
    here.add(posting("tool", &held.upstream.url));
    let call = here.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let id = only_id(&here).await;
    let (mut near, mut far) = (watch(&here, &id, 0).await, watch(&there, &id, 0).await);
    for watched in [&mut near, &mut far] {
        next(watched).await.unwrap();
    }
    let stops = (tokio::spawn(here.begin_stop()), tokio::spawn(there.begin_stop()));
    let cut_off = async {
        loop {
            match next(&mut far).await {
                Ok(told) => assert!(matches!(told.unwrap().event, Some(Event::Heartbeat(_)))),
                Err(status) => return status,
            }
        }
    };
    let status = cut_off.await;
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::ShuttingDown)));
    held.go();
    execution(call.await.unwrap());
    assert_eq!(named(&rest(&mut near).await), [(1_999_999, "SUCCEEDED".to_owned())]);
    stops.0.await.unwrap();
    stops.1.await.unwrap();
}

#[tokio::test]
async fn a_watch_outlives_a_database_that_is_away_for_a_while() {
    let (mut outage, database) = Outage::new().await;
    let (house, held) = (House::on(&database, Fakes::default(), |_| {}), Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let id = only_id(&house).await;
    let mut watched = watch(&house, &id, 0).await;
    next(&mut watched).await.unwrap();
    outage.begin().await;
    let told = tokio::spawn(async move { rest(&mut watched).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    outage.end(&database).await;
    held.go();
    execution(call.await.unwrap());
    assert_eq!(named(&told.await.unwrap()), [(1_999_999, "SUCCEEDED".to_owned())]);
}

#[tokio::test]
async fn a_team_has_so_many_watches_and_those_that_end_make_room() {
    let database = testkit::database(&[crate::schema()]).await;
    let house = House::on(&database, Fakes::default(), |config| {
        config.max_watches = 3;
        config.max_watches_per_team = 2;
    });
    let held = Held::new().await;
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let id = only_id(&house).await;
    let (first, _second) = (watch(&house, &id, 0).await, watch(&house, &id, 0).await);
    let refusal = watch_as(&house, &agent("agent"), &id, 0).await.unwrap_err();
    let told = (refusal.code(), reason_of(&refusal));
    assert_eq!(told, (Code::ResourceExhausted, Some(ErrorReason::Overloaded)), "{refusal:?}");
    let details = tonic_types::StatusExt::get_error_details(&refusal);
    assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{refusal:?}");
    drop(first);
    until(async || watch_as(&house, &agent("agent"), &id, 0).await.is_ok()).await;
    held.go();
    execution(call.await.unwrap());
}

#[tokio::test]
async fn a_watch_ends_after_its_longest_time_and_says_where_to_go_on() {
    let house = House::with(|config| config.watch_timeout_s = 1).await;
    let held = Held::new().await;
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let id = only_id(&house).await;
    let mut watched = watch(&house, &id, 0).await;
    let ended = loop {
        match next(&mut watched).await {
            Ok(told) => assert_eq!(told.unwrap().sequence, 1_000_000),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (ended.code(), reason_of(&ended)),
        (Code::DeadlineExceeded, Some(ErrorReason::DeadlineExceeded))
    );
    let details = tonic_types::StatusExt::get_error_details(&ended);
    assert_eq!(details.error_info().unwrap().metadata["after_sequence"], "1000000");
    held.go();
    execution(call.await.unwrap());
    assert_eq!(named(&all(&house, &id, 1_000_000).await), [(1_999_999, "SUCCEEDED".to_owned())]);
}
