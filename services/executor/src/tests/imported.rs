//! HTTP tools as imports make them: what their parameters and bodies are on the wire, how they are paged, and what
//! the limits of the servers behind them mean.

use proto::{
    executor::v1::{ExecutionStatus, Source},
    registry::v1::{
        CacheSettings, CredentialUse, HttpBinding, HttpBody, HttpBodyFormat, HttpLocation, HttpParameter,
        HttpStyle, Pagination, ToolDefinition, ToolSettings, binding::Kind, credential_use,
        idempotency_key::Place, pagination::Next,
    },
    types::v1::Effect,
};
use serde_json::{Value, json};

use super::{
    cache::{keeping, read_only},
    drive::Drive,
    house::{House, PATIENCE, bound, ended, execution, request, retries, until},
    upstream::{Raw, Step, Upstream, answer},
};
use crate::outcome::{Reached, ToolErrorCode};

const OK: &str = "200 OK\r\ncontent-type: application/json";

fn parameter(argument: &str, name: &str, location: HttpLocation) -> HttpParameter {
    HttpParameter {
        argument: argument.into(),
        name: name.into(),
        location: location.into(),
        ..HttpParameter::default()
    }
}

fn http(method: &str, url: &str) -> HttpBinding {
    HttpBinding {
        method: method.into(),
        url: url.into(),
        allow_private_network: true,
        ..HttpBinding::default()
    }
}

fn tool(binding: HttpBinding) -> ToolDefinition {
    bound("imported", Kind::Http(binding))
}

/// The line and the headers of a request, in lower case but for the line, and its body.
fn parts(request: &str) -> (String, Vec<String>, String) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned);
    (lines.next().unwrap(), lines.collect(), body.to_owned())
}

async fn well() -> Raw {
    Raw::new(|_| Step::answer(OK, "{}")).await
}

#[tokio::test]
async fn each_argument_stands_where_its_parameter_says() {
    let server = well().await;
    let styled = |argument: &str, location, style: HttpStyle, explode| HttpParameter {
        style: style.into(),
        explode,
        ..parameter(argument, "", location)
    };
    let binding = HttpBinding {
        headers: [("cookie", "fixed=1"), ("x-kind", "default")].map(|(n, v)| (n.into(), v.into())).into(),
        query_arguments: vec!["q".into()],
        parameters: vec![
            styled("ids", HttpLocation::Path, HttpStyle::Matrix, true),
            styled("filter", HttpLocation::Query, HttpStyle::DeepObject, true),
            styled("tags", HttpLocation::Query, HttpStyle::PipeDelimited, false),
            HttpParameter { json: true, ..parameter("where", "w", HttpLocation::Query) },
            parameter("none", "", HttpLocation::Query),
            parameter("absent", "", HttpLocation::Header),
            parameter("list", "X-List", HttpLocation::Header),
            parameter("kind", "X-Kind", HttpLocation::Header),
            parameter("session", "sid", HttpLocation::Cookie),
        ],
        ..http("GET", &format!("{}/things{{ids}}/{{part}}?fixed=1", server.url()))
    };
    let given = json!({
        "ids": [1, 2], "part": "a/b", "q": "x y", "filter": {"a": {"b": 1}, "c": "é"}, "tags": ["u", "v"],
        "where": {"n": [1]}, "none": null, "list": ["r", "s"], "session": "a;b=c",
    });
    Drive::new().run(&tool(binding.clone()), &given).await.unwrap();
    let (line, headers, body) = parts(&server.requests()[0]);
    let query =
        "fixed=1&q=x+y&filter%5Ba%5D%5Bb%5D=1&filter%5Bc%5D=%C3%A9&tags=u%7Cv&w=%7B%22n%22%3A%5B1%5D%7D";
    assert_eq!(line, format!("GET /things;ids=1;ids=2/a%2Fb?{query} HTTP/1.1"));
    for header in ["x-list: r,s", "cookie: fixed=1; sid=a%3Bb%3Dc", "x-kind: default"] {
        assert!(headers.iter().any(|line| line == header), "{header}: {headers:?}");
    }
    assert!(!headers.iter().any(|line| line.starts_with("absent")) && body.is_empty(), "{headers:?} {body}");
    let own = json!({"ids": 1, "part": "p", "kind": "own"});
    Drive::new().run(&tool(binding), &own).await.unwrap();
    let (line, headers, _) = parts(&server.requests()[1]);
    assert_eq!(line, "GET /things;ids=1/p?fixed=1 HTTP/1.1");
    assert!(
        headers.contains(&"x-kind: own".into()) && headers.contains(&"cookie: fixed=1".into()),
        "{headers:?}"
    );
}

#[tokio::test]
async fn no_value_adds_a_header_or_sets_what_is_not_its_own() {
    let (server, drive) = (well().await, Drive::new());
    let exploded = |location| HttpParameter { explode: true, ..parameter("rest", "", location) };
    let url = format!("{}/?fixed=1", server.url());
    let binding = HttpBinding {
        headers: [("cookie".into(), "fixed=1".into())].into(),
        query_arguments: vec!["q".into()],
        parameters: vec![parameter("h", "X-H", HttpLocation::Header), exploded(HttpLocation::Query)],
        credentials: vec![CredentialUse {
            credential: "key".into(),
            place: Some(credential_use::Place::Query("api_key".into())),
            ..CredentialUse::default()
        }],
        ..http("GET", &url)
    };
    let mut in_cookies = binding.clone();
    in_cookies.parameters = vec![parameter("h", "X-H", HttpLocation::Cookie), exploded(HttpLocation::Cookie)];
    let mut refusals = vec![];
    for value in ["a\r\nX-Evil: 1", "a\nb", "a\0b", "a\u{7f}b"] {
        refusals.push((&binding, json!({ "h": value })));
    }
    for name in ["fixed", "q", "api_key"] {
        refusals.push((&binding, json!({"rest": {name: "1"}})));
    }
    refusals.push((&in_cookies, json!({"rest": {"fixed": "1"}})));
    for (binding, given) in refusals {
        let error = drive.failure(&tool(binding.clone()), &given).await;
        assert_eq!(
            (error.code, error.reached),
            (ToolErrorCode::ToolFailed, Reached::No),
            "{given}: {error:?}"
        );
        assert!(error.message.starts_with("argument ") && error.is_deterministic, "{error:?}");
    }
    assert_eq!(server.connections(), 0);
    let mut plain = in_cookies;
    plain.credentials.clear();
    let sly = json!({"h": "a\r\nX-Evil: 1; b=c", "rest": {"ok": 2, "x\r\ny": "1"}});
    drive.run(&tool(plain), &sly).await.unwrap();
    let (_, headers, _) = parts(&server.requests()[0]);
    let cookies = "cookie: fixed=1; X-H=a%0D%0AX-Evil%3A%201%3B%20b%3Dc; ok=2; x%0D%0Ay=1";
    assert!(headers.contains(&cookies.into()), "{headers:?}");
}

#[tokio::test]
async fn a_binding_that_cannot_be_kept_sends_nothing() {
    let (server, drive) = (well().await, Drive::new());
    let by = |parameters: Vec<HttpParameter>| HttpBinding {
        parameters,
        ..http("POST", &format!("{}/{{id}}", server.url()))
    };
    let query = |argument: &str| parameter(argument, "", HttpLocation::Query);
    let twice = HttpBinding { query_arguments: vec!["a".into()], ..by(vec![query("a")]) };
    let body = HttpBody { format: HttpBodyFormat::Json.into(), argument: "a".into(), ..HttpBody::default() };
    let also_body = HttpBinding { body: Some(body), ..by(vec![query("a")]) };
    let paged = HttpBinding { pagination: Some(Pagination::default()), ..by(vec![]) };
    for (case, binding) in [
        ("query twice", twice),
        ("query and body", also_body),
        ("query and path", by(vec![query("id")])),
        ("no placeholder", by(vec![parameter("a", "nobody", HttpLocation::Path)])),
        ("connection", by(vec![parameter("a", "Host", HttpLocation::Header)])),
        ("no header", by(vec![parameter("a", "x y", HttpLocation::Header)])),
        ("no location", by(vec![parameter("a", "", HttpLocation::Unspecified)])),
        ("no page", paged),
    ] {
        let error = drive.failure(&tool(binding), &json!({"id": 1, "a": "x"})).await;
        assert_eq!(
            (error.code, error.reached),
            (ToolErrorCode::NotConfigured, Reached::No),
            "{case}: {error:?}"
        );
    }
    assert_eq!(server.connections(), 0);
    let long = drive.failure(&tool(by(vec![query("a")])), &json!({"id": 1, "a": "x".repeat(70_000)})).await;
    assert!(long.message.contains("address") && long.reached == Reached::No, "{long:?}");
}

#[tokio::test]
async fn bodies_are_what_their_format_says() {
    let (server, drive) = (well().await, Drive::new());
    let by = |format: HttpBodyFormat, argument: &str, content_type: &str| {
        let body =
            HttpBody { format: format.into(), argument: argument.into(), content_type: content_type.into() };
        let schema = json!({"type": "object", "properties": {"body": {"$ref": "#/$defs/B"}},
            "$defs": {"B": {"properties": {"file": {"type": "string", "format": "binary"}}}}});
        let binding = HttpBinding {
            body: Some(body),
            query_arguments: vec!["q".into()],
            ..http("POST", &server.url())
        };
        ToolDefinition { input_schema_json: schema.to_string(), ..tool(binding) }
    };
    let sent = async |tool: ToolDefinition, given: Value| {
        drive.run(&tool, &given).await.unwrap();
        let (_, headers, body) = parts(&server.requests().pop().unwrap());
        let kind = headers.iter().find_map(|line| line.strip_prefix("content-type: ").map(str::to_owned));
        (kind.unwrap_or_default(), body)
    };
    let given = json!({"q": 1, "body": {"a": [1, "x y"], "b": {"c": true}}});
    let merge = by(HttpBodyFormat::Json, "body", "application/merge-patch+json");
    let (kind, body) = sent(merge, given.clone()).await;
    assert_eq!(
        (kind.as_str(), body.as_str()),
        ("application/merge-patch+json", r#"{"a":[1,"x y"],"b":{"c":true}}"#)
    );
    let (_, body) =
        sent(by(HttpBodyFormat::Json, "", ""), json!({"q": 1, "a": 9_007_199_254_740_993_u64})).await;
    assert_eq!(body, r#"{"a":9007199254740993}"#);
    let (kind, body) = sent(by(HttpBodyFormat::Form, "body", ""), given).await;
    assert_eq!(
        (kind.as_str(), body.as_str()),
        ("application/x-www-form-urlencoded", "a=1&a=x+y&b=%7B%22c%22%3Atrue%7D")
    );
    let form = json!({"body": {"file": "aGVsbG8=", "note": "n"}});
    let (kind, body) = sent(by(HttpBodyFormat::Multipart, "body", ""), form).await;
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
         Content-Type: application/octet-stream\r\n\r\nhello\r\n--{boundary}\r\n\
         Content-Disposition: form-data; name=\"note\"\r\n\r\nn\r\n--{boundary}--\r\n"
    );
    assert_eq!(body, expected);
    let (kind, body) = sent(by(HttpBodyFormat::Base64, "body", "text/csv"), json!({"body": "YSxi"})).await;
    assert_eq!((kind.as_str(), body.as_str()), ("text/csv", "a,b"));
    let (kind, body) = sent(by(HttpBodyFormat::Text, "body", ""), json!({"q": 1})).await;
    assert_eq!((kind.as_str(), body.as_str()), ("", ""));
}

#[tokio::test]
async fn the_idempotency_key_is_a_parameter_or_the_body_or_the_call_fails() {
    let (server, drive) = (well().await, Drive::new());
    let (argument, header) = (Place::Argument("key".into()), Place::Header("X-Key".into()));
    let placed = |location, name: &str| HttpBinding {
        parameters: vec![parameter("key", name, location)],
        ..http("POST", &format!("{}/", server.url()))
    };
    let body = |argument: &str| HttpBinding {
        body: Some(HttpBody {
            format: HttpBodyFormat::Json.into(),
            argument: argument.into(),
            ..HttpBody::default()
        }),
        ..http("POST", &format!("{}/", server.url()))
    };
    let in_path = HttpBinding {
        parameters: vec![parameter("key", "k", HttpLocation::Path)],
        ..http("POST", &format!("{}/{{k}}", server.url()))
    };
    let run = async |binding: HttpBinding, place: &Place, given: Value| {
        drive.run_within(PATIENCE, &tool(binding), &given, Some((place, "key-1"))).await
    };
    for (binding, place, given, expected) in [
        (placed(HttpLocation::Query, "k"), &argument, json!({}), "POST /?k=key-1 "),
        (placed(HttpLocation::Header, "X-Key"), &argument, json!({}), "\r\nx-key: key-1\r\n"),
        (placed(HttpLocation::Cookie, "k"), &argument, json!({}), "\r\ncookie: k=key-1\r\n"),
        (in_path, &argument, json!({}), "POST /key-1 "),
        (body(""), &argument, json!({"a": 1}), r#"{"a":1,"key":"key-1"}"#),
        (body("key"), &argument, json!({}), "\r\n\r\n\"key-1\""),
        // A caller that gave the header keeps its own.
        (placed(HttpLocation::Header, "X-Key"), &header, json!({"key": "own"}), "\r\nx-key: own\r\n"),
        (placed(HttpLocation::Header, "X-Key"), &header, json!({}), "\r\nx-key: key-1\r\n"),
    ] {
        run(binding, place, given).await.unwrap();
        let last = server.requests().pop().unwrap();
        assert!(last.contains(expected), "{expected} in {last}");
    }
    let before = server.connections();
    for binding in [body("other"), http("POST", &server.url())] {
        let error = run(binding, &argument, json!({"other": 1})).await.unwrap_err();
        assert_eq!((error.code, error.reached), (ToolErrorCode::NotConfigured, Reached::No), "{error:?}");
    }
    assert_eq!(server.connections(), before);
}

/// A server of three pages, which tells of the next one in a Link header and by a cursor.
async fn pages() -> Upstream {
    Upstream::new(|seen| async move {
        let page: u32 = seen.target.rsplit('=').next().and_then(|page| page.parse().ok()).unwrap_or(1);
        let cursor = if page < 3 { (page + 1).to_string() } else { String::new() };
        let body = format!(r#"{{"items":[{page}.0],"meta":{{"cursor":"{cursor}"}}}}"#);
        let link =
            format!("</items?page={}>; rel=\"prev\", </items?page={}>; rel=\"next\"", page - 1, page + 1);
        let headers = [("content-type", "application/json"), ("link", link.as_str())];
        answer(200, &headers[..if page < 3 { 2 } else { 1 }], body)
    })
    .await
}

fn paged(url: &str, next: Next, kind: &str) -> ToolDefinition {
    let binding = HttpBinding {
        parameters: vec![parameter("page", "", HttpLocation::Query)],
        pagination: Some(Pagination { next: Some(next), argument: "page".into() }),
        ..http("GET", &format!("{url}/items"))
    };
    let input =
        json!({"type": "object", "properties": {"page": {"type": kind}}, "additionalProperties": false});
    let output = json!({"type": "object", "required": ["result", "next_arguments"], "properties":
        {"result": {"type": "object", "required": ["items"]}, "next_arguments": {"type": ["object", "null"]}}});
    ToolDefinition {
        input_schema_json: input.to_string(),
        output_schema_json: output.to_string(),
        ..tool(binding)
    }
}

#[tokio::test]
async fn next_arguments_lead_through_every_page() {
    let upstream = pages().await;
    for (next, kind, second) in [
        (Next::LinkParameter("page".into()), "integer", json!({"page": 2})),
        (Next::CursorPointer("/meta/cursor".into()), "string", json!({"page": "2"})),
    ] {
        let house = House::new().await;
        house.add(paged(&upstream.url, next, kind));
        let (mut given, mut items, mut calls) = (json!({}), vec![], 0);
        while !given.is_null() {
            let done = execution(house.execute(request("imported", &given.to_string())).await);
            assert_eq!(done.status(), ExecutionStatus::Succeeded, "{done:?}");
            // The answer itself is untouched.
            assert!(done.result_json.contains(".0]"), "{}", done.result_json);
            let result: Value = serde_json::from_str(&done.result_json).unwrap();
            items.push(result["result"]["items"][0].clone());
            given = result["next_arguments"].clone();
            calls += 1;
            assert!(calls == 1 || calls == 2 || given.is_null(), "{given}");
            assert!(calls != 1 || given == second, "{given}");
        }
        assert_eq!(json!(items), json!([1.0, 2.0, 3.0]));
    }
}

#[tokio::test]
async fn a_kept_page_is_the_whole_page_and_one_that_breaks_its_promise_is_none() {
    let upstream = pages().await;
    let house = super::cache::house().await;
    let page = read_only(paged(&upstream.url, Next::LinkParameter("page".into()), "integer"));
    house.add_with(page.clone(), keeping(CacheSettings::default()));
    let fresh = execution(house.execute(request("imported", r#"{"page":2}"#)).await).result_json;
    assert!(fresh.ends_with(r#""next_arguments":{"page":3}}"#), "{fresh}");
    until(async || {
        let again = execution(house.execute(request("imported", r#"{"page":2}"#)).await);
        assert_eq!(again.result_json, fresh);
        again.source() == Source::Cache
    })
    .await;
    let other = page.output_schema_json.replace("items", "nothing");
    house.add(ToolDefinition { name: "other".into(), output_schema_json: other, ..page });
    let (code, message) = ended(house.execute(request("other", "{}")).await, ExecutionStatus::Failed);
    assert_eq!(code, "INVALID_RESULT", "{message}");
}

#[tokio::test]
async fn the_limits_of_a_server_are_kept_however_it_tells_of_them() {
    let drive = Drive::new();
    for (head, code, retryable, after) in [
        ("403 Forbidden\r\nretry-after: 60", ToolErrorCode::UpstreamRateLimited, true, 60_000),
        (
            "403 Forbidden\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 30",
            ToolErrorCode::UpstreamRateLimited,
            true,
            30_000,
        ),
        (
            "403 Forbidden\r\nx-ratelimit-remaining: 12\r\nx-ratelimit-reset: 30",
            ToolErrorCode::UpstreamAuth,
            false,
            0,
        ),
        ("429 Too Many\r\nratelimit: \"d\";r=0;t=9", ToolErrorCode::UpstreamRateLimited, true, 9_000),
        (
            "429 Too Many\r\nretry-after: 5\r\nx-ratelimit-reset: 30",
            ToolErrorCode::UpstreamRateLimited,
            true,
            5_000,
        ),
        (
            "404 Not Found\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 30",
            ToolErrorCode::ToolFailed,
            false,
            0,
        ),
    ] {
        let server = Raw::new(move |_| Step::answer(head, "")).await;
        let error = drive.failure(&tool(http("GET", &server.url())), &json!({})).await;
        assert_eq!((error.code, error.retryable, error.retry_after_ms), (code, retryable, after), "{head}");
    }
}

#[tokio::test]
async fn a_call_comes_back_when_the_servers_limit_is_whole_again() {
    let upstream = Upstream::new(|seen| async move {
        let is_first = !seen.headers.contains_key("x-again") && seen.target == "/";
        if is_first {
            answer(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")], "")
        } else {
            answer(200, &[], "")
        }
    })
    .await;
    let house = House::new().await;
    let limited = ToolDefinition { effect: Effect::ReadOnly.into(), ..tool(http("GET", &upstream.url)) };
    house.add_with(limited, ToolSettings { retry: Some(retries(1)), ..ToolSettings::default() });
    let done = execution(house.execute(request("imported", "{}")).await);
    assert_eq!((done.attempts.len(), upstream.hits()), (2, 2), "{done:?}");
    assert!(done.attempts[1].backoff_ms >= 900.0, "{:?}", done.attempts);
}
