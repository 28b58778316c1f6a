//! The web search tools against local servers that answer as Brave and Google do.

use proto::executor::v1::ExecutionStatus;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    house::{House, builtin, ended, execution, request, until},
    upstream::{Upstream, answer, json as json_answer},
};

const KEY: &str = "s3archkeyC4NARY";

async fn house(url: String) -> House {
    let house = House::with(|config| {
        let search = &mut config.web_search;
        (search.brave_api_key, search.brave_url) = (Some(SecretString::from(KEY)), format!("{url}/brave"));
        (search.google_api_key, search.google_url) = (Some(SecretString::from(KEY)), format!("{url}/google"));
        search.google_engine_id = Some("engine".into());
    })
    .await;
    house.add(builtin("brave_web_search"));
    house.add(builtin("google_web_search"));
    house
}

#[tokio::test]
async fn both_providers_give_one_shape() {
    let upstream = Upstream::new(|seen| async move {
        let brave = json!({"web": {"results": [{"title": "T", "url": "https://t", "description": "D", "age": "1 day", "extra": 1}]}});
        let google = json!({"items": [{"title": "T", "link": "https://t", "snippet": "D"}], "searchInformation": {"totalResults": "42"}});
        json_answer(200, &if seen.target.starts_with("/brave") { brave } else { google }.to_string())
    })
    .await;
    let house = house(upstream.url.clone()).await;
    let arguments = r#"{"query":"rust & gRPC","count":5,"offset":1,"safe_search":"off"}"#;
    let result = async |tool: &str| -> Value {
        serde_json::from_str(&execution(house.execute(request(tool, arguments)).await).result_json).unwrap()
    };
    let one = json!({"title": "T", "url": "https://t", "description": "D"});
    assert_eq!(result("google_web_search").await, json!({"results": [one], "total": 42}));
    let aged = json!({"title": "T", "url": "https://t", "description": "D", "age": "1 day"});
    assert_eq!(result("brave_web_search").await, json!({"results": [aged]}));
    let seen = upstream.seen();
    assert!(seen[0].target.contains(&format!("key={KEY}")) && seen[0].target.contains("cx=engine"));
    assert!(seen[0].target.contains("num=5&start=6&safe=off"), "{}", seen[0].target);
    assert_eq!(seen[1].headers["x-subscription-token"], KEY);
    assert!(seen[1].target.contains("q=rust+%26+gRPC&count=5&offset=1"), "{}", seen[1].target);
}

#[tokio::test]
async fn a_key_is_in_no_error_whatever_the_provider_does() {
    let upstream = Upstream::new(|seen| async move {
        match seen.target.contains("q=redirect") {
            true => answer(302, &[("location", "http://127.0.0.1:1/")], ""),
            false if seen.target.contains("q=garbage") => answer(200, &[], "not json"),
            false => {
                let status = if seen.target.contains("q=limited") { 429 } else { 401 };
                answer(status, &[("retry-after", "3")], format!("no: {} {:?}", seen.target, seen.headers))
            }
        }
    })
    .await;
    let house = house(upstream.url.clone()).await;
    for tool in ["brave_web_search", "google_web_search"] {
        for (query, code) in [
            ("denied", "UPSTREAM_AUTH"),
            ("limited", "UPSTREAM_RATE_LIMITED"),
            ("garbage", "PROTOCOL"),
            ("redirect", "UNREACHABLE"),
        ] {
            let asked = request(tool, &json!({ "query": query }).to_string());
            // What came before a redirect may have been acted on.
            let in_doubt = query == "redirect";
            let status = if in_doubt { ExecutionStatus::UnknownOutcome } else { ExecutionStatus::Failed };
            let (found, message) = ended(house.execute(asked).await, status);
            assert_eq!(found, code, "{tool} {message}");
            assert!(!message.contains(KEY), "{message}");
        }
    }
    until(async || house.fakes.trail().len() == 8).await;
    assert!(!format!("{:?}", house.fakes.trail()).contains(KEY));
    assert_eq!(
        house.number("SELECT count(*) FROM executor.execution e WHERE e::text LIKE '%s3archkey%'").await,
        0
    );
}

#[tokio::test]
async fn without_a_key_the_setting_to_make_is_named() {
    let house = House::new().await;
    for (tool, setting) in [("brave_web_search", "BRAVE_API_KEY"), ("google_web_search", "GOOGLE_API_KEY")] {
        house.add(builtin(tool));
        let answer = house.execute(request(tool, r#"{"query":"x"}"#)).await;
        let (code, message) = ended(answer, ExecutionStatus::Failed);
        assert!(code == "NOT_CONFIGURED" && message.contains(setting), "{message}");
    }
}
