//! Programs in the sandbox, files of a task, and the analysis of a table.

use std::{collections::BTreeMap, fmt::Write};

use proto::executor::v1::{ExecuteRequest, Execution, ExecutionStatus, ToolErrorCode};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, Suite, refused, request, result};
use tonic::Code;

tests::scenarios! {
    every_end_of_a_program_has_its_status_and_code,
    programs_reach_nothing_of_the_machine,
    files_belong_to_their_team_and_task,
    no_path_leaves_the_workspace,
    a_large_table_is_analysed,
    a_program_reads_the_files_of_its_task,
}

/// An agent that may call these tools without limit.
async fn agent_for(suite: &Suite, tools: &[&str]) -> Client {
    let agent = suite.agent("").await;
    for tool in tools {
        suite.grant(&agent, tool).await;
    }
    agent
}

async fn call_for(agent: &Client, task: &str, tool: &str, arguments: Value) -> Execution {
    let asked = ExecuteRequest { task_id: task.to_owned(), ..request(tool, arguments) };
    agent.execute(asked).await.unwrap().execution.unwrap()
}

async fn every_end_of_a_program_has_its_status_and_code(suite: &Suite) {
    if !Suite::has_python() {
        return;
    }
    let agent = agent_for(suite, &["python_sandbox"]).await;
    let printed = agent.call("python_sandbox", json!({"code": "print('one'); print('two')"})).await;
    assert_eq!(printed.status(), ExecutionStatus::Succeeded, "{printed:?}");
    assert_eq!(result(&printed)["stdout"], "one\ntwo\n");
    let cases = [
        ("while True: pass", ExecutionStatus::TimedOut, ToolErrorCode::Timeout),
        ("b = bytearray(4 << 30)", ExecutionStatus::Failed, ToolErrorCode::OutOfMemory),
        ("import socket; socket.socket()", ExecutionStatus::Failed, ToolErrorCode::SandboxDenied),
        ("open('/etc/passwd').read()", ExecutionStatus::Failed, ToolErrorCode::SandboxDenied),
        ("print('before'); raise ValueError('why')", ExecutionStatus::Failed, ToolErrorCode::ToolFailed),
        ("import sys; sys.exit(3)", ExecutionStatus::Failed, ToolErrorCode::ToolFailed),
    ];
    for (code, status, error_code) in cases {
        let execution = agent.call("python_sandbox", json!({"code": code, "timeout_s": 1})).await;
        let error = execution.error.clone().unwrap();
        assert_eq!((execution.status(), error.code()), (status, error_code), "{code}: {execution:?}");
        assert!(!error.message.is_empty(), "{code}");
        let recorded = agent.execution(&execution.id).await;
        assert_eq!((recorded.status(), &recorded.error), (status, &execution.error), "{code}");
        let given = result(&execution);
        match code.split_once("raise").map_or(code, |(before, _)| before) {
            "print('before'); " => {
                assert_eq!(
                    (given["stdout"].as_str(), given["exit_code"].as_i64()),
                    (Some("before\n"), Some(1))
                );
                assert!(given["stderr"].as_str().unwrap().contains("ValueError: why"), "{given}");
            }
            "import sys; sys.exit(3)" => assert_eq!(given["exit_code"], 3),
            _ => {}
        }
    }
    let mut told: Vec<_> = suite.trail_of(&agent).await.into_iter().map(|event| event.reason).collect();
    told.reverse();
    let expected =
        ["", "TIMEOUT", "OUT_OF_MEMORY", "SANDBOX_DENIED", "SANDBOX_DENIED", "TOOL_FAILED", "TOOL_FAILED"];
    assert_eq!(told, expected);
}

async fn programs_reach_nothing_of_the_machine(suite: &Suite) {
    if !Suite::has_python() {
        return;
    }
    let agent = agent_for(suite, &["python_sandbox"]).await;
    let environment =
        agent.call("python_sandbox", json!({"code": "import os; result = sorted(os.environ)"})).await;
    assert_eq!(
        result(&environment)["result"],
        json!(["HOME", "TMPDIR"]),
        "its own folder, and nothing of ours"
    );
    let curious = "import os\nseen = []\nfor path in ['/', '/root', '/home', '/tmp', '/proc/1/environ', '..', '../..']:\n    \
                   try:\n        os.listdir(path) if os.path.isdir(path) else open(path).read()\n        seen.append(path)\n    \
                   except OSError:\n        pass\nresult = seen";
    let looked = agent.call("python_sandbox", json!({ "code": curious })).await;
    assert_eq!(result(&looked)["result"], json!([]), "{looked:?}");
}

async fn files_belong_to_their_team_and_task(suite: &Suite) {
    let agent = agent_for(suite, &["file_operations"]).await;
    let write =
        json!({"operation": "write", "path": "notes/one.txt", "content": "first\n", "recursive": true});
    let written = call_for(&agent, "task-a", "file_operations", write).await;
    assert_eq!(written.status(), ExecutionStatus::Succeeded, "{written:?}");
    let append = json!({"operation": "append", "path": "notes/one.txt", "content": "zweite Zeile: ü\n"});
    call_for(&agent, "task-a", "file_operations", append).await;

    let read = json!({"operation": "read", "path": "notes/one.txt"});
    let given = result(&call_for(&agent, "task-a", "file_operations", read.clone()).await);
    assert_eq!(
        (given["content"].as_str(), given["truncated"].as_bool()),
        (Some("first\nzweite Zeile: ü\n"), Some(false))
    );
    let part = json!({"operation": "read", "path": "notes/one.txt", "offset": 6, "max_bytes": 6});
    let given = result(&call_for(&agent, "task-a", "file_operations", part).await);
    assert_eq!((given["content"].as_str(), given["truncated"].as_bool()), (Some("zweite"), Some(true)));
    let list = json!({"operation": "list", "path": ".", "recursive": true});
    let listed = call_for(&agent, "task-a", "file_operations", list.clone()).await;
    assert_eq!(listed.status(), ExecutionStatus::Succeeded, "{listed:?}");
    let entries = json!([
        {"path": "notes", "kind": "folder"},
        {"path": "notes/one.txt", "kind": "file", "size_bytes": 23},
    ]);
    assert_eq!(result(&listed)["entries"], entries);
    let stat = json!({"operation": "stat", "path": "notes/one.txt"});
    let found = call_for(&agent, "task-a", "file_operations", stat).await;
    assert_eq!(found.status(), ExecutionStatus::Succeeded, "{found:?}");
    assert_eq!((&result(&found)["kind"], &result(&found)["size_bytes"]), (&json!("file"), &json!(23)));

    let elsewhere = call_for(&agent, "task-b", "file_operations", read.clone()).await;
    assert_eq!(elsewhere.error.unwrap().code(), ToolErrorCode::ToolFailed);
    let empty = call_for(&agent, "task-b", "file_operations", list).await;
    assert_eq!(result(&empty)["entries"], json!([]));
    let rivals = suite.other_team("rivals").await;
    let foreign = call_for(&rivals, "task-a", "file_operations", read).await;
    assert_eq!(foreign.error.unwrap().code(), ToolErrorCode::ToolFailed);
}

async fn no_path_leaves_the_workspace(suite: &Suite) {
    let agent = agent_for(suite, &["file_operations"]).await;
    let secret = suite.settings.executor.workspace_root.join("secret.txt");
    std::fs::write(&secret, "secret").unwrap();
    let absolute = secret.to_str().unwrap().to_owned();
    for path in
        ["../../secret.txt", "a/../../../secret.txt", "./../../secret.txt", absolute.as_str(), "/etc/passwd"]
    {
        for operation in ["read", "write", "append", "delete", "stat", "list", "mkdir"] {
            let arguments = match operation {
                "write" | "append" => json!({"operation": operation, "path": path, "content": "x"}),
                _ => json!({"operation": operation, "path": path}),
            };
            let execution = agent.call("file_operations", arguments).await;
            assert_eq!(execution.status(), ExecutionStatus::Failed, "{operation} {path}");
            assert_eq!(execution.error.unwrap().code(), ToolErrorCode::ToolFailed, "{operation} {path}");
        }
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    for task in ["..", "a/b", "/"] {
        let list = json!({"operation": "list", "path": "."});
        let asked = ExecuteRequest { task_id: task.into(), ..request("file_operations", list) };
        refused(agent.execute(asked).await, Code::InvalidArgument, ErrorReason::InvalidRequest);
    }
}

const ROWS: u32 = 120_000;
/// Largest part that is written at once, bytes.
const PART: usize = 1_000_000;
const REGIONS: [&str; 4] = ["east", "north", "south", "west"];

struct Sale {
    region: &'static str,
    quantity: u32,
    cents: u32,
}

/// Rows that any two runs agree on: a linear congruential generator (Knuth, MMIX).
fn sales() -> Vec<Sale> {
    let mut state = 42_u64;
    let mut next = |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 40).unwrap() % below
    };
    let mut sale = |_| {
        let quantity = 1 + next(100);
        Sale { region: REGIONS[next(4) as usize], quantity, cents: quantity * 100 + next(10_000) }
    };
    (0..ROWS).map(&mut sale).collect()
}

async fn a_large_table_is_analysed(suite: &Suite) {
    if !Suite::has_python() {
        return;
    }
    let agent = agent_for(suite, &["file_operations", "pandas_analyzer"]).await;
    let sales = sales();
    upload(&agent, &sales).await;
    let aggregations = json!({"quantity": ["sum", "max"], "price": ["mean", "std"]});
    let question =
        json!({"path": "sales.csv", "operation": "groupby", "by": "region", "aggregations": aggregations});
    let execution = call_for(&agent, "sales", "pandas_analyzer", question).await;
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{:?}", execution.error);
    let answer = result(&execution);
    assert_eq!(
        (&answer["rows"], &answer["columns"]),
        (&json!(ROWS), &json!(["region", "quantity", "price"]))
    );
    let mut groups: BTreeMap<&str, Vec<&Sale>> = BTreeMap::new();
    for sale in &sales {
        groups.entry(sale.region).or_default().push(sale);
    }
    let rows = answer["result"].as_array().unwrap();
    assert_eq!(rows.len(), REGIONS.len());
    for (row, (region, sales)) in rows.iter().zip(groups) {
        let prices: Vec<f64> = sales.iter().map(|sale| f64::from(sale.cents) / 100.0).collect();
        let mean = mean(&prices);
        let count = f64::from(u32::try_from(prices.len()).unwrap());
        let variance = prices.iter().map(|price| (price - mean).powi(2)).sum::<f64>() / (count - 1.0);
        assert_eq!((&row["region"], &row["rows"]), (&json!(region), &json!(sales.len())));
        assert_eq!(row["quantity_sum"], json!(sales.iter().map(|sale| sale.quantity).sum::<u32>()));
        assert_eq!(row["quantity_max"], json!(sales.iter().map(|sale| sale.quantity).max()));
        near(&row["price_mean"], mean);
        near(&row["price_std"], variance.sqrt());
    }

    let question = json!({"path": "sales.csv", "operation": "correlation", "columns": ["quantity", "price"]});
    let answer = result(&call_for(&agent, "sales", "pandas_analyzer", question).await);
    let quantities: Vec<f64> = sales.iter().map(|sale| f64::from(sale.quantity)).collect();
    let prices: Vec<f64> = sales.iter().map(|sale| f64::from(sale.cents) / 100.0).collect();
    near(&answer["result"][0]["correlation"], pearson(&quantities, &prices));
}

/// Writes the table in parts, each below what one message may hold.
async fn upload(agent: &Client, sales: &[Sale]) {
    let mut part = String::from("region,quantity,price\n");
    let mut operation = "write";
    for (number, sale) in sales.iter().enumerate() {
        let (whole, part_of_one) = (sale.cents / 100, sale.cents % 100);
        writeln!(part, "{},{},{whole}.{part_of_one:02}", sale.region, sale.quantity).unwrap();
        let is_last = number + 1 == sales.len();
        if part.len() > PART || is_last {
            let content = std::mem::take(&mut part);
            let arguments = json!({"operation": operation, "path": "sales.csv", "content": content});
            let written = call_for(agent, "sales", "file_operations", arguments).await;
            assert_eq!(written.status(), ExecutionStatus::Succeeded, "{:?}", written.error);
            operation = "append";
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / f64::from(u32::try_from(values.len()).unwrap())
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let spread = |x: &[f64], mean_x: f64, y: &[f64], mean_y: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum()
    };
    spread(a, mean_a, b, mean_b) / (spread(a, mean_a, a, mean_a) * spread(b, mean_b, b, mean_b)).sqrt()
}

fn near(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found} is not {expected}");
}

async fn a_program_reads_the_files_of_its_task(suite: &Suite) {
    if !Suite::has_python() {
        return;
    }
    let agent = agent_for(suite, &["file_operations", "python_sandbox"]).await;
    let write = json!({"operation": "write", "path": "in.txt", "content": "seven"});
    call_for(&agent, "shared", "file_operations", write).await;
    let program = json!({"code": "result = open(workspace + '/in.txt').read()"});
    let read = call_for(&agent, "shared", "python_sandbox", program.clone()).await;
    assert_eq!(result(&read)["result"], "seven");
    let elsewhere = call_for(&agent, "other", "python_sandbox", program).await;
    assert_eq!(elsewhere.status(), ExecutionStatus::Failed, "{elsewhere:?}");
}
