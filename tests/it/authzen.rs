//! What may be called, asked beforehand: by `Explain`, and over plain HTTP as AuthZEN has it; and afterwards, what was
//! used. What is told must be what then happens.

use proto::{
    permissions::v1::{
        ArgumentCondition, ExplainRequest, ExplainResponse, GetUsageReportRequest, GetUsageReportResponse,
        Grant, GrantUsage, Role, TextSet, argument_condition::Test, grant::Grantee,
    },
    types::v1::Sensitivity,
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, HttpTool, Suite, Upstream, eventually, refused};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

tests::scenarios! {
    what_is_explained_is_what_happens,
    a_client_of_authzen_gets_the_same_decisions,
    the_report_tells_what_was_used_and_the_least_that_would_have_done,
}

/// A grant of a tool whose `path` stays below `/reports`.
fn below_reports() -> Grant {
    let reports = Test::Within(TextSet { values: vec!["/reports".into()] });
    let condition = ArgumentCondition { pointer: "/path".into(), test: Some(reports) };
    Grant { conditions: vec![condition], max_per_hour: 1_000, ..Grant::default() }
}

async fn explain(client: &Client, agent: &str, tool: &str, arguments: &Value) -> ExplainResponse {
    let request = ExplainRequest {
        agent_id: agent.to_owned(),
        tool_name: tool.to_owned(),
        arguments_json: arguments.to_string(),
        ..ExplainRequest::default()
    };
    client.permissions().explain(request).await.unwrap().into_inner()
}

/// An agent that may call a new tool below `/reports`.
async fn reader(suite: &Suite, upstream: &Upstream, tool: &str) -> Client {
    suite.register(HttpTool::new(tool, upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    suite.grant_with(&agent, tool, below_reports()).await;
    agent
}

async fn what_is_explained_is_what_happens(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = reader(suite, &upstream, "explained.read").await;
    let (inside, outside) = (json!({"path": "/reports/a"}), json!({"path": "/reports/../secret"}));
    let told = explain(&agent, "", "explained.read", &inside).await;
    assert!(told.allowed && told.reason.is_empty() && told.policy_ids == ["grant-to-agent"], "{told:?}");
    let [grant] = &told.grants[..] else { panic!("{told:?}") };
    let [quota] = &grant.quotas[..] else { panic!("{told:?}") };
    assert_eq!((grant.allowed, quota.limit, quota.used), (true, 1_000, 0), "{told:?}");
    assert_eq!(told.agent.unwrap().id, agent.agent);
    agent.call("explained.read", inside.clone()).await;

    let told = explain(&agent, "", "explained.read", &outside).await;
    assert_eq!((told.allowed, told.reason.as_str()), (false, "ARGUMENT_CONDITION"), "{told:?}");
    let [grant] = &told.grants[..] else { panic!("{told:?}") };
    assert_eq!(grant.quotas[0].used, 1, "{told:?}");
    let [unmet] = &grant.unmet_conditions[..] else { panic!("{told:?}") };
    assert!(unmet.contains("/path") && !unmet.contains("secret"), "{unmet}");
    let answer = agent.try_call("explained.read", outside).await;
    refused(answer, Code::PermissionDenied, ErrorReason::ArgumentCondition);

    // Of oneself everybody may ask, of others auditors alone; and of what there is.
    let auditor = suite.member("", Role::Auditor).await;
    assert!(explain(&auditor, &agent.agent, "explained.read", &inside).await.allowed);
    let told = explain(&auditor, "", "explained.read", &inside).await;
    assert_eq!((told.reason.as_str(), told.grants.len()), ("NO_GRANT", 0), "{told:?}");
    let ask = async |client: &Client, agent: &str, tool: &str| {
        let request =
            ExplainRequest { agent_id: agent.into(), tool_name: tool.into(), ..ExplainRequest::default() };
        client.permissions().explain(request).await
    };
    refused(
        ask(&agent, &auditor.agent, "explained.read").await,
        Code::PermissionDenied,
        ErrorReason::RoleRequired,
    );
    for (client, agent, tool) in [(&auditor, "nobody", "explained.read"), (&auditor, "", "explained.nothing")]
    {
        let refusal = refused(ask(client, agent, tool).await, Code::NotFound, ErrorReason::NotFound);
        assert!(
            refusal.message.contains("nobody") || refusal.message.contains("explained.nothing"),
            "{refusal:?}"
        );
    }
}

/// Sends one request of HTTP/1.1, as any client does, and reads the answer.
async fn http(suite: &Suite, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         X-Request-ID: r-1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        suite.edge,
        body.len()
    );
    let mut stream = TcpStream::connect(suite.edge).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_ascii_lowercase().contains("\r\nx-request-id: r-1"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
}

async fn a_client_of_authzen_gets_the_same_decisions(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = reader(suite, &upstream, "zen.read").await;
    let question = |path: &str| {
        json!({
            "subject": {"type": "agent", "id": agent.agent},
            "action": {"name": "call"},
            "resource": {"type": "tool", "id": "zen.read"},
            "context": {"arguments": {"path": path}, "time": "2031-05-27T18:03-07:00"},
        })
    };
    let (status, answer) = http(suite, "/access/v1/evaluation", &agent.key, &question("/reports/a")).await;
    assert_eq!((status, &answer["decision"]), (200, &json!(true)), "{answer}");
    assert_eq!(answer["context"]["policies"], json!(["grant-to-agent"]), "{answer}");
    let mut many = question("/reports/a");
    many["evaluations"] = json!([
        {}, {"context": {"arguments": {"path": "/secret"}}}, {"context": {}}, {"resource": {"type": "tool", "id": "zen.none"}},
        {"subject": {"type": "agent", "id": suite.admin.agent}},
    ]);
    let (status, answer) = http(suite, "/access/v1/evaluations", &agent.key, &many).await;
    let told: Vec<_> = answer["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| {
            let context = &each["context"];
            let why = context["reason"].as_str().map(str::to_owned);
            let why = why.or_else(|| context["error"]["status"].as_u64().map(|status| status.to_string()));
            (each["decision"].as_bool().unwrap(), why.unwrap_or_default())
        })
        .collect();
    let condition = || "ARGUMENT_CONDITION".to_owned();
    let expected = [
        (true, String::new()),
        (false, condition()),
        (false, condition()),
        (false, "404".into()),
        (false, "403".into()),
    ];
    assert_eq!((status, told), (200, expected.to_vec()), "{answer}");
    let (status, answer) =
        http(suite, "/access/v1/evaluation", "tc_dev_none_none_0", &question("/reports/a")).await;
    assert!(status == 401 && answer.is_string(), "{status} {answer}");
    assert_eq!(upstream.connections(), 0, "nothing is called");
}

async fn the_report_tells_what_was_used_and_the_least_that_would_have_done(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("used.read", upstream.url("/echo")).reading();
    tool.definition.sensitivity = Sensitivity::Internal.into();
    suite.register(tool).await;
    let agent = suite.agent("").await;
    let used = suite.grant_with(&agent, "used.*", Grant::default()).await;
    let unused = suite.grant_with(&agent, "used.read", below_reports()).await;
    for number in 0..3 {
        agent.call("used.read", json!({ "number": number })).await;
    }
    let auditor = suite.member("", Role::Auditor).await;
    let request = GetUsageReportRequest { days: 1, agent_id: agent.agent.clone() };
    let report: GetUsageReportResponse = eventually("the calls are in the report", async || {
        let report = auditor.permissions().get_usage_report(request.clone()).await.unwrap().into_inner();
        let calls: i64 = report.grants.iter().map(|usage| usage.calls).sum();
        (calls == 3).then_some(report)
    })
    .await;
    let of = |id: &str| -> &GrantUsage {
        report.grants.iter().find(|usage| usage.grant.as_ref().unwrap().id == id).unwrap()
    };
    assert_eq!(
        (of(&used.id).calls, &of(&used.id).tools[..]),
        (3, &["used.read".to_owned()][..]),
        "{report:?}"
    );
    assert_eq!((of(&unused.id).calls, of(&unused.id).last_use_time), (0, None), "{report:?}");
    let [least] = &report.least_grants[..] else { panic!("{report:?}") };
    assert_eq!(least.grantee, Some(Grantee::AgentId(agent.agent.clone())));
    let limits = (least.read_only, least.max_sensitivity(), least.max_per_hour, least.max_per_day);
    assert!(least.tool_name == "used.read" && limits.0 && limits.1 == Sensitivity::Internal, "{least:?}");
    // Three calls within an hour, unless the hour ended between them.
    assert!((1..=5).contains(&limits.2) && (2..=5).contains(&limits.3) && least.id.is_empty(), "{least:?}");
    let refusal = agent.permissions().get_usage_report(request).await;
    refused(refusal, Code::PermissionDenied, ErrorReason::RoleRequired);
    let wrong = GetUsageReportRequest { days: 91, ..GetUsageReportRequest::default() };
    let refusal = auditor.permissions().get_usage_report(wrong).await;
    let refusal = refused(refusal, Code::InvalidArgument, ErrorReason::InvalidRequest);
    assert_eq!(refusal.violations()[0].0, "days");
}
