//! What every gRPC client may count on: health, both reflections, and readable errors, by grpcurl itself.

use std::process::{Command, Output};

use proto::executor::v1::ExecutionStatus;
use serde_json::{Value, json};
use tests::{HttpTool, Suite, Upstream};
use tokio_stream::once;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::{v1, v1alpha};

tests::scenarios! {
    every_service_reports_its_health,
    both_reflections_list_every_service,
    grpcurl_lists_describes_and_calls,
    grpcurl_shows_errors_in_words,
}

const SERVICES: [&str; 5] = [
    "toolcrib.audit.v1.AuditService",
    "toolcrib.executor.v1.ExecutorService",
    "toolcrib.permissions.v1.PermissionsService",
    "toolcrib.registry.v1.RegistryService",
    "toolcrib.selector.v1.SelectorService",
];

async fn every_service_reports_its_health(suite: &Suite) {
    let stranger = suite.stranger();
    for service in SERVICES.iter().chain(&[""]) {
        assert_eq!(stranger.health(service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    let unknown = stranger.health("toolcrib.nothing.v1.Nothing").await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    for (role, address) in &suite.addresses {
        let status = tests::Client::new(*address).health("").await.unwrap();
        assert_eq!(status, ServingStatus::Serving, "{}", role.as_str());
    }
}

macro_rules! listed_by {
    ($version:ident, $suite:ident) => {{
        use $version::{
            ServerReflectionRequest as Request, server_reflection_client::ServerReflectionClient as Client,
            server_reflection_request::MessageRequest as Asked,
            server_reflection_response::MessageResponse as Told,
        };
        let asked =
            Request { host: String::new(), message_request: Some(Asked::ListServices(String::new())) };
        let mut client = Client::new($suite.stranger().service());
        let mut answers = client.server_reflection_info(once(asked)).await.unwrap().into_inner();
        match answers.message().await.unwrap().unwrap().message_response.unwrap() {
            Told::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect()
            }
            other => panic!("{other:?}"),
        }
    }};
}

async fn both_reflections_list_every_service(suite: &Suite) {
    let new: Vec<String> = listed_by!(v1, suite);
    let old: Vec<String> = listed_by!(v1alpha, suite);
    for service in SERVICES {
        assert!(new.iter().any(|name| name == service), "{service} is not among {new:?}");
        assert!(old.iter().any(|name| name == service), "{service} is not among {old:?}");
    }
}

/// Runs grpcurl against the edge; `None` where it is not installed.
async fn grpcurl(suite: &Suite, key: Option<&str>, arguments: &[&str]) -> Option<Output> {
    let program = testkit::installed("bin/grpcurl", "scripts/install-grpc-tools")?;
    let mut command = Command::new(program);
    command.args(["-plaintext", "-max-time", "30"]);
    if let Some(key) = key {
        command.args(["-H", &format!("authorization: Bearer {key}")]);
    }
    // Options come first, then the address, then what is asked of it.
    let asked = arguments.iter().position(|word| !word.starts_with('-') && !word.starts_with('{')).unwrap();
    command.args(&arguments[..asked]).arg(suite.edge.to_string()).args(&arguments[asked..]);
    Some(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

async fn grpcurl_lists_describes_and_calls(suite: &Suite) {
    let Some(listed) = grpcurl(suite, None, &["list"]).await else { return };
    let listed = printed(&listed);
    for service in SERVICES {
        assert!(listed.lines().any(|line| line == service), "{listed}");
    }
    let methods = grpcurl(suite, None, &["list", "toolcrib.registry.v1.RegistryService"]).await.unwrap();
    assert!(printed(&methods).contains("toolcrib.registry.v1.RegistryService.WatchTools"));
    let described = grpcurl(suite, None, &["describe", "toolcrib.executor.v1.ExecuteRequest"]).await.unwrap();
    let described = printed(&described);
    assert!(described.contains(".google.protobuf.Struct arguments = 3;"), "{described}");
    let health = grpcurl(suite, None, &["grpc.health.v1.Health/Check"]).await.unwrap();
    assert!(printed(&health).contains("SERVING"));

    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("curled", upstream.url("/echo")).posting()).await;
    let asked =
        json!({"tool": "curled", "arguments": {"whole": 7, "part": 0.5, "deep": {"list": [1, "two", null]}}});
    let call = ["-d", &asked.to_string(), "toolcrib.executor.v1.ExecutorService/Execute"].map(str::to_owned);
    let call: Vec<&str> = call.iter().map(String::as_str).collect();
    let answer = grpcurl(suite, Some(&agent.key), &call).await.unwrap();
    let answer: Value = serde_json::from_str(&printed(&answer)).unwrap();
    assert_eq!(answer["execution"]["status"], ExecutionStatus::Succeeded.as_str_name(), "{answer}");
    let arrived: Value = serde_json::from_str(&upstream.hits()[0].body).unwrap();
    assert_eq!(arrived, json!({"whole": 7, "part": 0.5, "deep": {"list": [1, "two", null]}}));
}

async fn grpcurl_shows_errors_in_words(suite: &Suite) {
    let agent = suite.agent("Technical Executor").await;
    let asked = json!({"tool": "python_sandbox", "arguments": {"code": 7}}).to_string();
    let call = ["-d", &asked, "toolcrib.executor.v1.ExecutorService/Execute"];
    let Some(refused) = grpcurl(suite, Some(&agent.key), &call).await else { return };
    assert!(!refused.status.success());
    let told = text(&refused.stderr);
    for part in [
        "Code: InvalidArgument",
        "google.rpc.ErrorInfo",
        "INVALID_ARGUMENTS",
        "google.rpc.BadRequest",
        "arguments/code",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    let stranger =
        grpcurl(suite, None, &["toolcrib.permissions.v1.PermissionsService/WhoAmI"]).await.unwrap();
    let told = text(&stranger.stderr);
    assert!(
        told.contains("Code: Unauthenticated") && told.contains("\"reason\":\"UNAUTHENTICATED\""),
        "{told}"
    );
}
