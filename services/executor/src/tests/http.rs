//! HTTP tools against real servers: redirects, bombs, and what each answer means.

use std::process::Command;

use proto::executor::v1::ExecutionStatus;
use serde_json::{Value, json};

use super::{
    house::{House, builtin, ended, execution, posting, request},
    upstream::{Upstream, answer},
};

fn redirecting(to: String) -> impl Future<Output = Upstream> {
    Upstream::new(move |_| {
        let to = to.clone();
        async move { answer(302, &[("location", &to)], "") }
    })
}

#[tokio::test]
async fn no_key_follows_a_redirect_to_another_origin() {
    let house = House::new().await;
    house.add(builtin("http_request"));
    let target = Upstream::well().await;
    let elsewhere = redirecting(format!("{}/elsewhere", target.url)).await;
    let headers = json!({
        "Authorization": "Bearer k", "Cookie": "k", "X-Api-Key": "k", "PRIVATE-TOKEN": "k", "Accept": "text/plain",
    });
    let arguments = json!({ "url": format!("{}/start", elsewhere.url), "method": "POST", "json": {"a": 1}, "headers": headers });
    execution(house.execute(request("http_request", &arguments.to_string())).await);
    let first = elsewhere.seen().remove(0);
    assert!(
        ["authorization", "cookie", "x-api-key", "private-token"]
            .iter()
            .all(|name| first.headers.contains_key(*name))
    );
    let second = target.seen().remove(0);
    assert_eq!(
        (second.method.as_str(), second.target.as_str(), second.body.as_str()),
        ("GET", "/elsewhere", "")
    );
    assert!(
        !format!("{:?}", second.headers).contains('k')
            || second.headers.values().all(|value| value != "k" && value != "Bearer k")
    );
    assert_eq!(second.headers["accept"], "text/plain");
    assert!(!second.headers.contains_key("content-type"));
}

#[tokio::test]
async fn keys_stay_on_a_redirect_within_the_origin() {
    let house = House::new().await;
    house.add(builtin("http_request"));
    let upstream = Upstream::new(|seen| async move {
        if seen.target == "/a" { answer(307, &[("location", "/b")], "") } else { answer(200, &[], "done") }
    })
    .await;
    let arguments = json!({ "url": format!("{}/a", upstream.url), "headers": {"X-Api-Key": "k"} });
    let done = execution(house.execute(request("http_request", &arguments.to_string())).await);
    assert!(done.result_json.contains("done"));
    assert_eq!(upstream.seen()[1].headers["x-api-key"], "k");
}

#[tokio::test]
async fn a_private_address_and_an_endless_redirect_are_refused() {
    let house = House::with(|config| config.http.allow_private_network = false).await;
    house.add(builtin("http_request"));
    let upstream = Upstream::well().await;
    let arguments = json!({ "url": upstream.url }).to_string();
    let (code, _) = ended(house.execute(request("http_request", &arguments)).await, ExecutionStatus::Failed);
    assert_eq!((code.as_str(), upstream.hits()), ("ADDRESS_REFUSED", 0));
    let circle = redirecting("/".into()).await;
    house.add(posting("circle", &circle.url));
    let (_, message) = ended(house.execute(request("circle", "{}")).await, ExecutionStatus::UnknownOutcome);
    assert!(message.contains("redirects") && circle.hits() < 10, "{message} {}", circle.hits());
}

#[tokio::test]
async fn a_bomb_is_read_up_to_the_limit_and_no_further() {
    let program = "import gzip, sys; sys.stdout.buffer.write(gzip.compress(bytes(256 << 20), 9))";
    let bomb = Command::new("python3").args(["-c", program]).output().unwrap().stdout;
    assert!(bomb.len() < 1 << 20 && bomb.len() > 1 << 10);
    let upstream = Upstream::new(move |_| {
        let bomb = bomb.clone();
        async move { answer(200, &[("content-encoding", "gzip"), ("content-type", "text/plain")], bomb) }
    })
    .await;
    let house = House::new().await;
    house.add(posting("bomb", &upstream.url));
    house.add(builtin("http_request"));
    let (code, message) = ended(house.execute(request("bomb", "{}")).await, ExecutionStatus::Failed);
    assert_eq!(code, "RESULT_TOO_LARGE", "{message}");
    let arguments = json!({ "url": upstream.url, "max_bytes": 1_000 }).to_string();
    let done = execution(house.execute(request("http_request", &arguments)).await);
    let result: Value = serde_json::from_str(&done.result_json).unwrap();
    assert_eq!((result["body"].as_str().unwrap().len(), &result["truncated"]), (1_000, &json!(true)));
}

#[tokio::test]
async fn each_answer_of_the_server_has_its_meaning() {
    let upstream = Upstream::new(|seen| async move {
        let status = seen.target.trim_start_matches('/').parse().unwrap_or(200);
        match seen.target.as_str() {
            "/text" => answer(200, &[("content-type", "text/html")], "<p>"),
            "/bytes" => answer(200, &[("content-type", "application/json")], vec![0xff, 0xfe]),
            "/empty" => answer(200, &[], ""),
            _ => answer(status, &[("retry-after", "7")], "sorry"),
        }
    })
    .await;
    let house = House::new().await;
    let call = async |path: &str| {
        house.add(posting(path, &format!("{}/{path}", upstream.url)));
        execution(house.execute(request(path, "{}")).await)
    };
    assert_eq!(call("text").await.result_json, r#"{"text":"<p>"}"#);
    assert_eq!(call("empty").await.result_json, r#"{"status":200}"#);
    for (path, code, retryable, after) in [
        ("bytes", "INVALID_RESULT", false, 0),
        ("401", "UPSTREAM_AUTH", false, 7_000),
        ("403", "UPSTREAM_RATE_LIMITED", true, 7_000),
        ("404", "TOOL_FAILED", false, 7_000),
        ("429", "UPSTREAM_RATE_LIMITED", true, 7_000),
        ("500", "TOOL_FAILED", true, 7_000),
        ("503", "TOOL_FAILED", true, 7_000),
    ] {
        let error = call(path).await.error.unwrap();
        let found = error.code().as_str_name().replace("TOOL_ERROR_CODE_", "");
        assert_eq!(
            (found.as_str(), error.retryable, error.retry_after_ms),
            (code, retryable, after),
            "{path}"
        );
    }
    house.add(posting("nobody", "http://127.0.0.1:1/?api_key=hunter2"));
    let answer = house.execute(request("nobody", "{}")).await;
    assert_eq!(answer.as_ref().unwrap().execution.as_ref().unwrap().cost_micro_usd, 0);
    let (code, message) = ended(answer, ExecutionStatus::Failed);
    assert!(code == "UNREACHABLE" && !message.contains("hunter2"), "{message}");
}
