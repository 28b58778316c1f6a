//! The real binary: `toolcrib up` killed, robbed of its database, started again, and used from the command line.

use std::{process::Output, time::Duration};

use proto::{
    audit::v1::{Action, QueryTrailRequest, Result as AuditResult},
    executor::v1::{ExecutionStatus, ListExecutionsRequest, ToolErrorCode},
    permissions::v1::{Grant, GrantPermissionRequest, grant::Grantee},
    registry::v1::RegisterToolRequest,
};
use rpc::ErrorReason;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tests::{Client, HttpTool, Installation, Upstream, block_on, eventually, refused, request};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

/// Registers a tool and lets the first agent call it.
async fn register(client: &Client, tool: HttpTool) {
    let name = tool.definition.name.clone();
    let definition = Some(tool.into());
    let request = RegisterToolRequest { definition, ..RegisterToolRequest::default() };
    client.registry().register_tool(request).await.unwrap();
    let grantee = Some(Grantee::AgentId("dev".into()));
    let grant = Some(Grant { grantee, tool_name: name, ..Grant::default() });
    client.permissions().grant_permission(GrantPermissionRequest { grant }).await.unwrap();
}

#[test]
fn a_killed_process_leaves_an_unknown_outcome_and_no_second_effect() {
    block_on(async {
        let mut toolcrib = Installation::start().await;
        let upstream = Upstream::start().await;
        let client = toolcrib.client();
        register(&client, HttpTool::new("irrevocable", upstream.url("/held"))).await;
        let caller = client.clone();
        let call = tokio::spawn(async move { caller.execute(request("irrevocable", json!({}))).await });
        upstream.wait_for_hits(1).await;
        let family = toolcrib.descendants();
        assert!(!family.is_empty(), "PostgreSQL runs under it");
        toolcrib.kill();
        assert!(call.await.unwrap().is_err());

        toolcrib.start_again().await;
        let client = toolcrib.client();
        let execution = eventually("the intent is closed", async || {
            let filter =
                ListExecutionsRequest { tool_name: "irrevocable".into(), ..ListExecutionsRequest::default() };
            let executions = client.executions(filter).await;
            assert_eq!(executions.len(), 1, "{executions:?}");
            executions.into_iter().find(|execution| execution.status() != ExecutionStatus::Running)
        })
        .await;
        assert_eq!(execution.status(), ExecutionStatus::UnknownOutcome, "{execution:?}");
        assert_eq!(execution.error.as_ref().unwrap().code(), ToolErrorCode::OwnerDied);
        let of_call =
            QueryTrailRequest { execution_id: execution.id.clone(), ..QueryTrailRequest::default() };
        let event = eventually("the trail tells of it", async || {
            let answer = client.audit().query_trail(of_call.clone()).await.unwrap().into_inner();
            assert!(answer.events.len() <= 1, "{answer:?}");
            answer.events.into_iter().next()
        })
        .await;
        assert_eq!(
            (event.action(), event.result()),
            (Action::ToolInvoked, AuditResult::Unknown),
            "{event:?}"
        );
        upstream.release();
        client.call("irrevocable", json!({})).await;
        assert_eq!(upstream.hits().len(), 2, "one effect of the killed call, one of the new one");
        eventually("every process of the killed one is gone", async || {
            (!family.iter().any(tests::Process::is_alive)).then_some(())
        })
        .await;
        stop_whole(&mut toolcrib).await;
    });
}

#[test]
fn a_killed_database_is_said_so_and_comes_back() {
    block_on(async {
        let mut toolcrib = Installation::start().await;
        let client = toolcrib.client();
        let listing = json!({"operation": "list", "path": "."});
        let first = client.call("file_operations", listing.clone()).await;
        let postgres = toolcrib.postgres();
        // Without it no new server starts, and the outage lasts.
        let configuration = toolcrib.data().join("postgres/data/postgresql.conf");
        let aside = configuration.with_extension("aside");
        std::fs::rename(&configuration, &aside).unwrap();
        kill_process(postgres, Signal::KILL).unwrap();
        wait_for_health(&client, ServingStatus::NotServing).await;
        let call = client.try_call("file_operations", listing.clone());
        let answer = tokio::time::timeout(Duration::from_millis(1_500), call).await;
        refused(answer.expect("refused promptly"), Code::Unavailable, ErrorReason::StoreUnavailable);
        assert_eq!(toolcrib.cli(&["health"]).status.code(), Some(1));
        assert!(toolcrib.is_running(), "{}", toolcrib.log());

        std::fs::rename(&aside, &configuration).unwrap();
        wait_for_health(&client, ServingStatus::Serving).await;
        assert_ne!(toolcrib.postgres(), postgres);
        assert_eq!(client.execution(&first.id).await, first);
        client.call("file_operations", listing).await;
        stop_whole(&mut toolcrib).await;
    });
}

async fn wait_for_health(client: &Client, wanted: ServingStatus) {
    for service in ["executor.v1.ExecutorService", "permissions.v1.PermissionsService"] {
        eventually(&format!("health says {wanted:?} of {service}"), async || {
            let status = client.health(&format!("toolcrib.{service}")).await.unwrap();
            (status == wanted).then_some(())
        })
        .await;
    }
}

/// Stops it; no process that it ever started may be left.
async fn stop_whole(toolcrib: &mut Installation) {
    let family = toolcrib.descendants();
    assert!(!family.is_empty(), "PostgreSQL runs under it");
    assert!(toolcrib.stop().await.success(), "{}", toolcrib.log());
    let left: Vec<_> = family.iter().filter(|process| process.is_alive()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_folder_serves_one_process() {
    block_on(async {
        let mut toolcrib = Installation::start().await;
        let second = toolcrib.second_up();
        assert_eq!(second.status.code(), Some(1), "{second:?}");
        assert!(text(&second.stderr).contains("another toolcrib runs the database"), "{second:?}");
        assert!(printed(&toolcrib.cli(&["health"]), 0).contains("serving"));
        stop_whole(&mut toolcrib).await;
    });
}

/// What a command printed, which must have ended with this code.
fn printed(output: &Output, code: i32) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn parsed(output: &Output, code: i32) -> Value {
    let out = printed(output, code);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn the_command_line_does_everything_and_a_second_start_keeps_it() {
    block_on(async {
        let mut toolcrib = Installation::start().await;
        let mut outputs = Vec::new();
        let mut run = |toolcrib: &Installation, arguments: &[&str]| {
            let output = toolcrib.cli(arguments);
            outputs.push(output.clone());
            output
        };
        assert!(printed(&run(&toolcrib, &["tools", "list"]), 0).contains("python_sandbox"));
        assert!(printed(&run(&toolcrib, &["health"]), 0).contains("serving"));
        let write =
            ["call", "file_operations", "operation=write", "path=a.txt", "content=hello", "--task", "demo"];
        printed(&run(&toolcrib, &write), 0);
        let missing = ["call", "file_operations", "operation=read", "path=b.txt", "--task", "demo"];
        printed(&run(&toolcrib, &missing), 1);
        let wrong = run(&toolcrib, &["call", "file_operations", "operation=burn", "path=a.txt"]);
        printed(&wrong, 2);
        assert!(text(&wrong.stderr).contains("INVALID_ARGUMENTS"), "{wrong:?}");

        let listed = parsed(&run(&toolcrib, &["executions", "list", "-o", "json"]), 0);
        let executions = listed["executions"].as_array().unwrap();
        let statuses: Vec<_> =
            executions.iter().map(|execution| execution["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["EXECUTION_STATUS_FAILED", "EXECUTION_STATUS_SUCCEEDED"]);
        // Beside them stand the first key and agent, and the tools that come along, which nobody called for.
        eventually("the trail has all three", async || {
            let trail = parsed(&toolcrib.cli(&["audit", "trail", "-o", "json"]), 0);
            let made = ["ACTION_IDENTITY_CHANGED", "ACTION_DEFINITION_CHANGED"].map(Value::from);
            let called = |event: &&Value| !made.contains(&event["action"]);
            (trail["events"].as_array().unwrap().iter().filter(called).count() == 3).then_some(())
        })
        .await;

        printed(&run(&toolcrib, &["agents", "add", "helper", "--specialization", "Helper"]), 0);
        let issued = toolcrib.cli(&["keys", "issue", "helper", "-o", "json"]);
        let issued = parsed(&issued, 0);
        let key_file = toolcrib.beside("helper.key");
        std::fs::write(&key_file, issued["api_key"].as_str().unwrap()).unwrap();
        let call = ["call", "file_operations", "operation=list", "path=."];
        let denied = toolcrib.cli_with_key(&key_file, &call);
        printed(&denied, 2);
        assert!(text(&denied.stderr).contains("NO_GRANT"), "{denied:?}");
        let grant = parsed(
            &run(&toolcrib, &["grants", "add", "file_operations", "--agent", "helper", "-o", "json"]),
            0,
        );
        let grant = grant["grant"]["id"].as_str().unwrap().to_owned();
        printed(&toolcrib.cli_with_key(&key_file, &call), 0);
        printed(&run(&toolcrib, &["grants", "revoke", &grant]), 0);
        printed(&toolcrib.cli_with_key(&key_file, &call), 2);
        printed(&run(&toolcrib, &["keys", "revoke", issued["key_id"].as_str().unwrap()]), 0);
        eventually("the key is revoked", async || {
            let refused = toolcrib.cli_with_key(&key_file, &["whoami"]);
            (refused.status.code() == Some(2)).then_some(refused)
        })
        .await;

        let (key, before) =
            (toolcrib.key(), parsed(&run(&toolcrib, &["executions", "list", "-o", "json"]), 0));
        stop_whole(&mut toolcrib).await;
        toolcrib.start_again().await;
        assert_eq!(toolcrib.key(), key);
        assert_eq!(parsed(&run(&toolcrib, &["executions", "list", "-o", "json"]), 0), before);
        let read = ["call", "file_operations", "operation=read", "path=a.txt", "--task", "demo"];
        assert!(printed(&run(&toolcrib, &read), 0).contains("hello"));
        assert!(toolcrib.stop().await.success(), "{}", toolcrib.log());
        let unreachable = toolcrib.cli_at("127.0.0.1:1", &["whoami"]);
        printed(&unreachable, 3);

        let secrets: Value =
            serde_json::from_str(&std::fs::read_to_string(toolcrib.data().join("secrets.json")).unwrap())
                .unwrap();
        let mut secrets: Vec<_> =
            secrets.as_object().unwrap().values().map(|secret| secret.as_str().unwrap().to_owned()).collect();
        secrets.extend([key, issued["api_key"].as_str().unwrap().to_owned()]);
        let told = outputs.iter().flat_map(|output| [text(&output.stdout), text(&output.stderr)]);
        for told in told.chain([toolcrib.log()]) {
            let leaked = secrets.iter().any(|secret| told.contains(secret));
            assert!(!leaked, "a secret stands in:\n{told}");
        }
    });
}
