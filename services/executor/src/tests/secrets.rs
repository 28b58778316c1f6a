//! A secret may pass through a call; it may stand in no table, in no event and in no message.

use proto::{executor::v1::ExecutionStatus, registry::v1::ToolDefinition};

use super::{
    fakes::{Fakes, Mood},
    house::{House, agent, ended, execution, posting, request},
    upstream::{Upstream, json},
};

const CANARY: &str = "C4NARYvalue9x7";

/// Fails when any column of any table of the schema has the text, in the clear or as bytes.
async fn assert_nowhere(house: &House, secret: &str) {
    let tables = house
        .texts("SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'executor' AND table_type = 'BASE TABLE'")
        .await;
    assert!(tables.len() > 5, "{tables:?}");
    // As `bytea` is printed.
    let hex = secret.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let mut rows = 0;
    for table in tables {
        let query = format!("SELECT t::text FROM executor.\"{table}\" t");
        let found: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_all(house.database.pool().unwrap())
            .await
            .unwrap();
        rows += found.len();
        for row in found {
            assert!(!row.contains(secret) && !row.contains(&hex), "{table}: {row}");
        }
    }
    assert!(rows > 3, "the scan saw {rows} rows");
}

/// A house whose events stay where they are written.
async fn house() -> House {
    let house = House::new().await;
    Fakes::set(&house.fakes.audit, Mood::Down);
    Fakes::set(&house.fakes.selector, Mood::Down);
    house
}

#[tokio::test]
async fn secrets_of_arguments_and_results_are_not_stored() {
    let house = house().await;
    let upstream = Upstream::new(|_| async {
        json(
            200,
            &serde_json::json!({ "token": CANARY, "deep": [{ "note": format!("api_key={CANARY}") }] })
                .to_string(),
        )
    })
    .await;
    let schema = r#"{"type":"object","properties":{"pin":{"anyOf":[{"writeOnly":true},{"type":"null"}]}}}"#;
    house.add(ToolDefinition { input_schema_json: schema.into(), ..posting("tool", &upstream.url) });
    let arguments = serde_json::json!({
        "pin": CANARY,
        "db_password": CANARY,
        "headers": { "Authorization": format!("Token {CANARY}"), "X-Api-Key": CANARY },
        "url": format!("https://user:{CANARY}@example.com/?access_token={CANARY}"),
        "json": serde_json::json!({ "client_secret": CANARY }).to_string(),
        "text": format!("Authorization: Bearer {CANARY}"),
    });
    let answer = execution(house.execute(request("tool", &arguments.to_string())).await);
    // The tool and its caller have it in full.
    assert!(upstream.seen()[0].body.matches(CANARY).count() >= 7 && answer.result_json.contains(CANARY));
    assert!(!answer.arguments_json.contains(CANARY), "{}", answer.arguments_json);
    assert_nowhere(&house, CANARY).await;
}

#[tokio::test]
async fn secrets_in_a_tools_error_and_a_refusal_are_not_stored_nor_told() {
    let house = house().await;
    let upstream = Upstream::new(|_| async {
        let body =
            serde_json::json!({ "error": "bad", "password": CANARY, "sent": format!("Bearer {CANARY}") });
        json(400, &body.to_string())
    })
    .await;
    house.add(posting("tool", &upstream.url));
    let (_, message) = ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Failed);
    assert!(message.contains("400") && !message.contains(CANARY), "{message}");
    let strict =
        r#"{"type":"object","additionalProperties":false,"properties":{"password":{"type":"integer"}}}"#;
    house.add(ToolDefinition { input_schema_json: strict.into(), ..posting("strict", &upstream.url) });
    let arguments = serde_json::json!({ "password": CANARY }).to_string();
    let refused =
        house.execute_as(&agent("agent"), super::house::PATIENCE, request("strict", &arguments)).await;
    assert!(!format!("{:?}", refused.unwrap_err()).contains(CANARY));
    // The name of a tool that does not exist may be a key pasted into the wrong field.
    let pasted = format!("ghp_{CANARY}{}", "a".repeat(30));
    house.execute(request(&pasted, "{}")).await.unwrap_err();
    assert_nowhere(&house, CANARY).await;
}
