//! Tools made of gRPC servers by reflection: a server in Python, and toolcrib itself.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use proto::{
    executor::v1::{ExecutionStatus, Reached, ToolErrorCode},
    registry::v1::{
        CredentialSecret, CredentialUse, GetToolRequest, IdempotencyKey, ImportDefaults, ImportGrpcRequest,
        ImportGrpcResponse, ImportResult, PutCredentialRequest, RetryPolicy, Tool, ToolSettings,
        binding::Kind, credential_secret, get_tool_request::Key, idempotency_key::Place,
    },
    types::v1::Effect,
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, Suite, eventually, refused, result};
use tonic::{Code, Status};

tests::scenarios! {
    a_server_in_another_language_is_imported_and_called,
    its_refusals_deadlines_and_keys_are_carried_both_ways,
    what_cannot_be_imported_is_refused_with_the_reason,
    toolcrib_calls_itself,
}

const INSTALL: &str = "scripts/install-sample-servers";
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/grpc/server.py");

/// The sample server on a port of its own; it ends with this value.
struct Library {
    process: Child,
    endpoint: String,
}

impl Library {
    fn start() -> Option<Self> {
        let python = testkit::installed("grpc-server/bin/python", INSTALL)?;
        let mut command = Command::new(python);
        let mut process = command.arg(SERVER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { process, endpoint: format!("http://127.0.0.1:{}", port.trim()) })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn of(endpoint: &str, provider: &str) -> ImportGrpcRequest {
    ImportGrpcRequest {
        endpoint: endpoint.to_owned(),
        provider: provider.to_owned(),
        defaults: Some(ImportDefaults { trust_effects: true, ..ImportDefaults::default() }),
        allow_private_network: true,
        ..ImportGrpcRequest::default()
    }
}

async fn import(client: &Client, request: ImportGrpcRequest) -> Result<ImportGrpcResponse, Status> {
    client.registry().import_grpc(request).await.map(tonic::Response::into_inner)
}

async fn tool(client: &Client, name: &str) -> Option<Tool> {
    let request = GetToolRequest { key: Some(Key::Name(name.to_owned())), ..GetToolRequest::default() };
    client.registry().get_tool(request).await.ok()?.into_inner().tool
}

fn counts(answer: &ImportGrpcResponse) -> [i32; 4] {
    let counts = answer.counts.unwrap();
    [counts.created, counts.updated, counts.unchanged, counts.refused]
}

/// An agent that may call every method of the library, imported under a name of the test's own.
async fn reader(suite: &Suite, library: &Library, provider: &str) -> Client {
    import(&suite.admin, of(&library.endpoint, provider)).await.unwrap();
    let agent = suite.agent("").await;
    for method in ["getbook", "copy", "fail", "wait", "fill", "inspect"] {
        suite.grant(&agent, &format!("{provider}.library.{method}")).await;
    }
    agent
}

async fn a_server_in_another_language_is_imported_and_called(suite: &Suite) {
    let Some(library) = Library::start() else { return };
    let request = of(&library.endpoint, "py");
    let tried = ImportGrpcRequest { validate_only: true, ..request.clone() };
    assert_eq!(counts(&import(&suite.admin, tried).await.unwrap()), [6, 0, 0, 2]);
    assert!(tool(&suite.admin, "py.library.copy").await.is_none(), "nothing was kept");
    let answer = import(&suite.admin, request.clone()).await.unwrap();
    assert_eq!(counts(&answer), [6, 0, 0, 2], "{answer:?}");
    let watch = answer.tools.iter().find(|tool| tool.source == "library.v1.Library/WatchBooks").unwrap();
    assert_eq!(watch.result(), ImportResult::Refused);
    assert!(watch.note.contains("streams its answers"), "{watch:?}");
    assert_eq!(counts(&import(&suite.admin, request).await.unwrap()), [0, 0, 6, 2]);

    let book = tool(&suite.admin, "py.library.getbook").await.unwrap().definition.unwrap();
    assert_eq!((book.effect(), book.provider.as_str()), (Effect::ReadOnly, "py"));
    let Some(Kind::Grpc(binding)) = book.binding.unwrap().kind else { panic!("a gRPC tool") };
    assert!(binding.descriptor_set.len() < 1_000, "{}", binding.descriptor_set.len());

    let agent = reader(suite, &library, "py").await;
    let execution = agent.call("py.library.getbook", json!({"isbn": "9007199254740993"})).await;
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    let authors = json!(["A. Author", "B. Writer"]);
    let sand = json!({"isbn": "9007199254740993", "title": "Sand", "authors": authors, "publishTime": "2020-02-29T12:00:00Z"});
    assert_eq!(result(&execution), sand);

    let given = json!({
        "small": -5, "large": "-9223372036854775808", "larger": "18446744073709551615", "ratio": "Infinity", "flag": true,
        "rawBytes": "AAH/", "shelf": "SHELF_TOP", "numbers": [1, -2], "counts": {"a": "1"},
        "booksByNumber": {"-7": {"isbn": "1", "title": "", "authors": []}}, "phone": "42", "nickname": "",
        "atTime": "2026-11-23T01:02:03.500Z", "lasting": "1.500s", "extra": {"a": [1.0, null, {"b": "c"}]},
        "anything": null, "wrapped": "7",
    });
    let copied = agent.call("py.library.copy", given.clone()).await;
    assert_eq!(copied.status(), ExecutionStatus::Succeeded, "{copied:?}");
    let copied = result(&copied);
    for (name, value) in given.as_object().unwrap() {
        assert_eq!(&copied[name], value, "{name}");
    }
    let nested = agent.call("py.library.copy", json!({"inner": {"inner": {"small": 3, "shelf": 9}}})).await;
    assert_eq!(result(&nested).pointer("/inner/inner/shelf"), Some(&json!(9)));
    assert_eq!(result(&nested)["large"], "0", "what is not set has its default");
    for wrong in [json!({"small": 1_i64 << 40}), json!({"nobody": 1}), json!({"email": "a", "phone": "1"})] {
        let answer = agent.try_call("py.library.copy", wrong).await;
        refused(answer, Code::InvalidArgument, ErrorReason::InvalidArguments);
    }
    let filled = agent.call("py.library.fill", json!({"size": 400_000})).await;
    assert_eq!(filled.status(), ExecutionStatus::Succeeded, "{:?}", filled.error);
}

async fn its_refusals_deadlines_and_keys_are_carried_both_ways(suite: &Suite) {
    let Some(library) = Library::start() else { return };
    let agent = reader(suite, &library, "far").await;
    let missing = agent.call("far.library.getbook", json!({"isbn": 0})).await;
    let error = missing.error.clone().unwrap();
    assert_eq!((missing.status(), error.code()), (ExecutionStatus::Failed, ToolErrorCode::ToolFailed));
    assert!(error.message.contains("NOT_FOUND: there is no book 0"), "{error:?}");
    let fail = async |arguments: Value| agent.call("far.library.fail", arguments).await.error.unwrap();
    let denied = fail(json!({"code": 16, "message": "who?"})).await;
    assert_eq!((denied.code(), denied.reached()), (ToolErrorCode::UpstreamAuth, Reached::No));
    let in_doubt = fail(json!({"code": 14, "message": "gone"})).await;
    assert_eq!((in_doubt.code(), in_doubt.reached()), (ToolErrorCode::ToolFailed, Reached::Maybe));

    let key = IdempotencyKey { place: Some(Place::Header("idempotency-key".into())) };
    let quick = ToolSettings {
        timeout_ms: 1_000,
        retry: Some(RetryPolicy { max_retries: Some(0), ..RetryPolicy::default() }),
        ..ToolSettings::default()
    };
    suite.update("far.library.wait", quick, &["timeout_ms", "retry.max_retries"]).await;
    let keyed = ToolSettings { idempotency_key: Some(key), ..ToolSettings::default() };
    suite.update("far.library.inspect", keyed, &["idempotency_key"]).await;
    let late = eventually("executors know the timeout", async || {
        let late = agent.call("far.library.wait", json!({"milliseconds": 5_000})).await;
        (late.status() == ExecutionStatus::TimedOut).then_some(late)
    })
    .await;
    assert_eq!(late.error.unwrap().code(), ToolErrorCode::Timeout);
    let seen = eventually("the server hears that the call is given up", async || {
        let seen = result(&agent.call("far.library.inspect", json!({})).await);
        let is_told = seen["cancelled"] == 1 && seen["metadata"].get("idempotency-key").is_some();
        is_told.then_some(seen)
    })
    .await;
    assert!(seen["metadata"]["user-agent"].as_str().unwrap().starts_with("toolcrib/"), "{seen}");
    let told = agent.call("far.library.wait", json!({})).await;
    let remaining: u64 = result(&told)["remainingMs"].as_str().unwrap().parse().unwrap();
    assert!(remaining <= 1_000, "{remaining}");
}

async fn what_cannot_be_imported_is_refused_with_the_reason(suite: &Suite) {
    let asked = async |request: ImportGrpcRequest| import(&suite.admin, request).await;
    let Some(library) = Library::start() else { return };
    let private = ImportGrpcRequest { allow_private_network: false, ..of(&library.endpoint, "x") };
    let refusal = refused(asked(private).await, Code::InvalidArgument, ErrorReason::InvalidRequest);
    assert!(refusal.violations()[0].1.contains("allow_private_network"), "{refusal:?}");
    refused(asked(of("http://127.0.0.1:1", "x")).await, Code::Unavailable, ErrorReason::ServerUnreachable);
    for (request, field) in [
        (of("127.0.0.1:1", "x"), "endpoint"),
        (of(&library.endpoint, "Not A Word"), "provider"),
        (
            ImportGrpcRequest { services: vec!["library.v1.Nobody".into()], ..of(&library.endpoint, "x") },
            "services[0]",
        ),
        (ImportGrpcRequest { methods: vec!["Burn".into()], ..of(&library.endpoint, "x") }, "methods[0]"),
    ] {
        let refusal = refused(asked(request).await, Code::InvalidArgument, ErrorReason::InvalidRequest);
        assert_eq!(refusal.violations()[0].0, field, "{refusal:?}");
    }
    let one = ImportGrpcRequest { methods: vec!["GetBook".into()], ..of(&library.endpoint, "one") };
    assert_eq!(counts(&asked(one.clone()).await.unwrap()), [1, 0, 0, 0]);
    let trust = ImportGrpcRequest { defaults: None, provider: "own".into(), ..one };
    assert_eq!(counts(&asked(trust).await.unwrap()), [1, 0, 0, 0]);
    let unproven = tool(&suite.admin, "own.library.getbook").await.unwrap().definition.unwrap();
    assert_eq!(unproven.effect(), Effect::SideEffect, "what a server says of itself proves nothing");
    let agent = suite.agent("").await;
    let answer = import(&agent, of(&library.endpoint, "x")).await;
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
}

async fn toolcrib_calls_itself(suite: &Suite) {
    let secret = CredentialSecret { kind: Some(credential_secret::Kind::ApiKey(suite.admin.key.clone())) };
    let put =
        PutCredentialRequest { name: "own".into(), secret: Some(secret), ..PutCredentialRequest::default() };
    suite.admin.registry().put_credential(put).await.unwrap();
    let request = ImportGrpcRequest {
        services: vec!["toolcrib.registry.v1.RegistryService".into()],
        credentials: vec![CredentialUse { credential: "own".into(), ..CredentialUse::default() }],
        ..of(&format!("http://{}", suite.edge), "self")
    };
    let answer = import(&suite.admin, request).await.unwrap();
    let taken = answer.tools.iter().filter(|tool| tool.result() == ImportResult::Created).count();
    assert!(taken > 20, "{answer:?}");
    let streams = answer.tools.iter().find(|tool| tool.source.ends_with("/WatchTools")).unwrap();
    assert_eq!(streams.result(), ImportResult::Refused);

    let list = tool(&suite.admin, "self.registryservice.listtools").await.unwrap().definition.unwrap();
    assert!(list.description.starts_with("Lists the newest version of each tool"), "{}", list.description);
    let agent = suite.agent("").await;
    for name in ["self.registryservice.listtools", "self.registryservice.gettool"] {
        suite.grant(&agent, name).await;
    }
    let listed =
        agent.call("self.registryservice.listtools", json!({"provider": "toolcrib", "pageSize": 50})).await;
    assert_eq!(listed.status(), ExecutionStatus::Succeeded, "{listed:?}");
    let tools = result(&listed)["tools"].as_array().unwrap().len();
    assert!(tools >= 5, "{listed:?}");
    let got = agent.call("self.registryservice.gettool", json!({"name": "echo"})).await;
    assert_eq!(result(&got).pointer("/tool/definition/name"), Some(&json!("echo")), "{got:?}");
    let missing = agent.call("self.registryservice.gettool", json!({"name": "nobody"})).await;
    assert!(missing.error.unwrap().message.contains("NOT_FOUND"));
}
