//! Tools are given to model APIs where the caller may call them.

use super::*;

async fn exported(registry: &Registry, request: ExportToolsRequest) -> Result<ExportToolsResponse, Status> {
    let request = request!(registry, "team", request);
    registry.client.clone().export_tools(request).await.map(Response::into_inner)
}

fn export(format: ExportFormat, names: &[&str]) -> ExportToolsRequest {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    ExportToolsRequest { format: format.into(), names, ..ExportToolsRequest::default() }
}

#[tokio::test]
async fn an_export_holds_what_the_caller_may_call_and_nothing_else() {
    let (fake, database) = (Fake::default(), database().await);
    let registry = permitting(&fake, &database);
    shop(&registry).await;
    let request = SetToolStatusRequest { name: "warehouse".into(), status: ToolStatus::Disabled.into() };
    registry.client.clone().set_tool_status(request!(registry, "team", request)).await.unwrap();
    sqlx::raw_sql("UPDATE registry.tool SET approved = false WHERE name = 'getinvoice'")
        .execute(database.pool().unwrap())
        .await
        .unwrap();
    fake.refused.lock().unwrap().insert("meteo".into(), "NO_GRANT".into());

    let answer = exported(&registry, export(ExportFormat::Openai, &[])).await.unwrap();
    let tools: Value = serde_json::from_str(&answer.tools_json).unwrap();
    let names: Vec<&str> =
        tools.as_array().unwrap().iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop__cancel-order", "shop__list_orders"]);
    let behind: Vec<_> =
        answer.tools.iter().map(|tool| (tool.exported_name.as_str(), tool.name.as_str())).collect();
    assert_eq!(
        behind,
        [("shop__cancel-order", "shop.cancel-order"), ("shop__list_orders", "shop.list_orders")]
    );
    let stored = registry.get("shop.list_orders").await.unwrap();
    assert_eq!((&answer.tools[1].digest, answer.tools[1].version.as_str()), (&stored.digest, "1.0.0"));
    assert_eq!(
        (answer.skipped.len(), answer.next_page_token.as_str()),
        (0, ""),
        "what is not theirs is not told"
    );
    assert!(fake.asked.lock().unwrap().iter().all(|agent| agent == "tester"));

    let all = ["shop.list_orders", "meteo", "warehouse", "getinvoice", "nothing", "zero", "a", "meteo"];
    let answer = exported(&registry, export(ExportFormat::Anthropic, &all)).await.unwrap();
    assert_eq!(answer.tools.iter().map(|tool| &tool.name).collect::<Vec<_>>(), ["shop.list_orders"]);
    let skipped: HashMap<&str, &str> =
        answer.skipped.iter().map(|tool| (tool.name.as_str(), tool.reason.as_str())).collect();
    assert_eq!(skipped.len(), answer.skipped.len());
    for (name, says) in [
        ("meteo", "NO_GRANT"),
        ("warehouse", "disabled"),
        ("getinvoice", "approved"),
        ("nothing", "no such tool"),
        ("zero", "no such tool"),
        ("a", "no such tool"),
    ] {
        assert!(skipped[name].contains(says), "{skipped:?}");
    }
    registry.stop().await;
}

#[tokio::test]
async fn exports_are_paged_and_each_tool_is_in_one_page() {
    let (fake, database) = (Fake::default(), database().await);
    let registry = permitting(&fake, &database);
    for number in 0..25 {
        add(&registry, definition(&format!("tool.{number:02}"))).await;
        if number % 5 == 0 {
            fake.refused.lock().unwrap().insert(format!("tool.{number:02}"), "NO_GRANT".into());
        }
    }
    let asked: Vec<String> = (0..30).rev().map(|number| format!("tool.{number:02}")).collect();
    for (names, skips) in [(vec![], 0), (asked, 10)] {
        let mut request = ExportToolsRequest { names, page_size: 3, ..export(ExportFormat::Mcp, &[]) };
        let (mut found, mut skipped, mut pages) = (Vec::new(), 0, 0);
        loop {
            let page = exported(&registry, request.clone()).await.unwrap();
            let tools: Vec<Value> = serde_json::from_str(&page.tools_json).unwrap();
            assert!(tools.len() <= 3 && tools.len() == page.tools.len());
            found.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            skipped += page.skipped.len();
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let expected: Vec<String> =
            (0..25).filter(|number| number % 5 != 0).map(|number| format!("tool.{number:02}")).collect();
        assert_eq!((found, skipped), (expected, skips), "in {pages} pages");
        let other = ExportToolsRequest { format: ExportFormat::Openai.into(), ..request };
        if !other.page_token.is_empty() {
            assert_eq!(exported(&registry, other).await.unwrap_err().code(), Code::InvalidArgument);
        }
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_wrong_export_is_told_and_without_permissions_there_is_none() {
    let database = database().await;
    let alone = registry(&config(), &database);
    shop(&alone).await;
    let status = exported(&alone, export(ExportFormat::Mcp, &[])).await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::Unavailable, Some(ErrorReason::ServiceUnavailable))
    );
    alone.stop().await;

    let registry = permitting(&Fake::default(), &database);
    let many: Vec<String> = (0..1_001).map(|number| format!("n{number}")).collect();
    let both = ExportToolsRequest { provider: "x".into(), ..export(ExportFormat::Mcp, &["meteo"]) };
    for (request, says) in [
        (export(ExportFormat::Unspecified, &[]), "format"),
        (export(ExportFormat::Mcp, &["meteo", "No Name"]), "names[1]"),
        (ExportToolsRequest { names: many, ..export(ExportFormat::Mcp, &[]) }, "1,000"),
        (both, "filter"),
        (ExportToolsRequest { page_size: -1, ..export(ExportFormat::Mcp, &[]) }, "page_size"),
        (ExportToolsRequest { format: 99, ..ExportToolsRequest::default() }, "format"),
    ] {
        let status = exported(&registry, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(says), "{}", status.message());
    }
    // What the form cannot tell is told to be left out, even where nobody named it.
    let odd = json!({"type": "object", "properties": {"filter[name]": {}}}).to_string();
    add(&registry, ToolDefinition { input_schema_json: odd, ..definition("odd") }).await;
    let answer = exported(&registry, export(ExportFormat::Anthropic, &[])).await.unwrap();
    assert!(
        answer.skipped.len() == 1 && answer.skipped[0].reason.contains("filter[name]"),
        "{:?}",
        answer.skipped
    );
    assert_eq!(answer.tools.len(), 5);
    let answer = exported(&registry, export(ExportFormat::Openai, &["odd"])).await.unwrap();
    assert_eq!((answer.tools.len(), answer.skipped.len()), (1, 0));
    registry.stop().await;
}
