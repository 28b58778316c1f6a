//! Tools are found by words and filters, and given to model APIs where the caller may call them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use ::rpc::{Call, ErrorReason, reason_of};
use proto::{
    permissions::v1::{
        AuthenticateApiKeyRequest, AuthenticateApiKeyResponse, AuthorizeRequest, AuthorizeResponse,
        BatchAuthorizeRequest, BatchAuthorizeResponse, BatchSettleReservationsRequest,
        BatchSettleReservationsResponse, CreateAgentRequest, CreateAgentResponse, GetBudgetRequest,
        GetBudgetResponse, GrantPermissionRequest, GrantPermissionResponse, IssueApiKeyRequest,
        IssueApiKeyResponse, ListGrantsRequest, ListGrantsResponse, RevokeApiKeyRequest,
        RevokeApiKeyResponse, RevokePermissionRequest, RevokePermissionResponse, SetBudgetRequest,
        SetBudgetResponse, SettleReservationRequest, SettleReservationResponse, ToolDecision, WhoAmIRequest,
        WhoAmIResponse,
        permissions_service_server::{PermissionsService, PermissionsServiceServer},
    },
    registry::v1::{
        ExportFormat, ExportToolsRequest, ExportToolsResponse, ListToolsRequest, SearchToolsRequest,
        SetToolStatusRequest, ToolStatus,
    },
};
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status, service::Routes};

use super::*;

/// A permissions service that refuses what it is told to.
#[derive(Debug, Clone, Default)]
struct Fake {
    /// Reason by name of tool.
    refused: Arc<Mutex<HashMap<String, String>>>,
    /// Agents that asked.
    asked: Arc<Mutex<Vec<String>>>,
}

macro_rules! not_asked {
    ($($method:ident($request:ty) -> $response:ty);+ $(;)?) => {
        #[tonic::async_trait]
        impl PermissionsService for Fake {
            async fn batch_authorize(
                &self,
                request: Request<BatchAuthorizeRequest>,
            ) -> Result<Response<BatchAuthorizeResponse>, Status> {
                let caller = Call::of(&request).map_err(|status| *status)?.caller;
                self.asked.lock().unwrap().push(caller.agent);
                let refused = self.refused.lock().unwrap();
                let decisions = request.into_inner().tools.into_iter().map(|tool| match refused.get(&tool.tool_name) {
                    Some(reason) => ToolDecision { allowed: false, reason: reason.clone() },
                    None => ToolDecision { allowed: true, reason: String::new() },
                });
                Ok(Response::new(BatchAuthorizeResponse { decisions: decisions.collect() }))
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("the registry has no business here"))
            })+
        }
    };
}

not_asked! {
    authorize(AuthorizeRequest) -> AuthorizeResponse;
    settle_reservation(SettleReservationRequest) -> SettleReservationResponse;
    batch_settle_reservations(BatchSettleReservationsRequest) -> BatchSettleReservationsResponse;
    set_budget(SetBudgetRequest) -> SetBudgetResponse;
    get_budget(GetBudgetRequest) -> GetBudgetResponse;
    grant_permission(GrantPermissionRequest) -> GrantPermissionResponse;
    revoke_permission(RevokePermissionRequest) -> RevokePermissionResponse;
    list_grants(ListGrantsRequest) -> ListGrantsResponse;
    create_agent(CreateAgentRequest) -> CreateAgentResponse;
    issue_api_key(IssueApiKeyRequest) -> IssueApiKeyResponse;
    revoke_api_key(RevokeApiKeyRequest) -> RevokeApiKeyResponse;
    authenticate_api_key(AuthenticateApiKeyRequest) -> AuthenticateApiKeyResponse;
    who_am_i(WhoAmIRequest) -> WhoAmIResponse;
}

fn permitting(fake: &Fake, database: &Database) -> Registry {
    let routes = Routes::new(PermissionsServiceServer::new(fake.clone()));
    registry_with(routes, mcp::Commands::any(), &config(), database)
}

async fn add(registry: &Registry, definition: ToolDefinition) {
    let request = request!(registry, "team", registration(definition));
    registry.client.clone().register_tool(request).await.unwrap();
}

fn described(name: &str, description: &str) -> ToolDefinition {
    ToolDefinition { description: description.into(), ..definition(name) }
}

/// What a registry finds, page by page: names and scores.
async fn found(registry: &Registry, team: &str, mut request: SearchToolsRequest) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    loop {
        let asked = request!(registry, team, request.clone());
        let page = registry.client.clone().search_tools(asked).await.unwrap().into_inner();
        let named = |tool: Option<Tool>| tool.unwrap().definition.unwrap().name;
        found.extend(page.tools.into_iter().map(|found| (named(found.tool), found.score)));
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

async fn names(registry: &Registry, text: &str) -> Vec<String> {
    let request = SearchToolsRequest { text: text.into(), ..SearchToolsRequest::default() };
    found(registry, "team", request).await.into_iter().map(|(name, _)| name).collect()
}

async fn shop(registry: &Registry) {
    for (name, description) in [
        ("shop.list_orders", "Gives the purchases of a customer."),
        ("shop.cancel-order", "Ends a purchase before it is shipped."),
        ("warehouse", "Tells where the goods of orders are stored."),
        ("getInvoice".to_lowercase().as_str(), "Fetches a bill."),
    ] {
        add(registry, described(name, description)).await;
    }
    let odd = ToolDefinition {
        title: "Wetter für Zürich".into(),
        capabilities: vec!["forecasting".into()],
        input_schema_json:
            json!({"type": "object", "properties": {"zipCode": {"description": "Postal area"}}}).to_string(),
        ..described("meteo", "Says what falls from the sky.")
    };
    add(registry, odd).await;
}

#[tokio::test]
async fn tools_are_found_by_words_of_every_part_best_first() {
    let registry = registry(&config(), &database().await);
    shop(&registry).await;
    for (text, expected) in [
        // In the name weighs more than in the description, and stems are alike.
        ("order", &["shop.cancel-order", "shop.list_orders", "warehouse"][..]),
        ("Listing ORDERS", &["shop.list_orders"]),
        ("purchases", &["shop.cancel-order", "shop.list_orders"]),
        ("canc", &["shop.cancel-order"]),
        ("the purchase of customers", &["shop.list_orders"]),
        ("zürich", &["meteo"]),
        ("ZÜR", &["meteo"]),
        ("forecast", &["meteo"]),
        ("zip", &["meteo"]),
        ("zipCode postal", &["meteo"]),
        ("shop.list_orders", &["shop.list_orders"]),
        // No tool has both: any will do.
        ("sky goods", &["meteo", "warehouse"]),
        ("the", &[]),
        ("nothing", &[]),
    ] {
        let mut found = names(&registry, text).await;
        if ["order", "purchases", "sky goods"].contains(&text) {
            // Which of two that match alike comes first says nothing; the third matches less.
            let alike = found.len().min(2);
            found[..alike].sort_unstable();
        }
        assert_eq!(found, expected, "{text}");
    }
    let exact = SearchToolsRequest { text: "warehouse".into(), ..SearchToolsRequest::default() };
    assert!(found(&registry, "team", exact.clone()).await[0].1 > 1.0);
    assert_eq!(found(&registry, "other", exact).await, []);

    // Another version is found by its own words.
    add(&registry, described("warehouse", "Keeps crates.")).await;
    assert_eq!(names(&registry, "goods").await, Vec::<String>::new());
    assert_eq!(names(&registry, "crate").await, ["warehouse"]);
    registry.stop().await;
}

#[tokio::test]
async fn filters_narrow_and_no_text_means_all_in_order_of_name() {
    let registry = registry(&config(), &database().await);
    shop(&registry).await;
    let all = ["getinvoice", "meteo", "shop.cancel-order", "shop.list_orders", "warehouse"];
    let filter = |edit: fn(&mut SearchToolsRequest)| {
        let mut request = SearchToolsRequest { page_size: 2, ..SearchToolsRequest::default() };
        edit(&mut request);
        request
    };
    let cases: [(SearchToolsRequest, &[&str]); 8] = [
        (filter(|_| ()), &all),
        (filter(|r| r.name = "Shop.".into()), &all[2..4]),
        (filter(|r| r.name = "o%_".into()), &[]),
        (filter(|r| r.capability = "forecasting".into()), &all[1..2]),
        (filter(|r| r.provider = "toolcrib".into()), &all),
        (filter(|r| r.status = ToolStatus::Disabled.into()), &[]),
        (filter(|r| (r.text, r.name) = ("orders".into(), "list".into())), &all[3..4]),
        (filter(|r| (r.text, r.category) = ("orders".into(), Category::WebSearch.into())), &[]),
    ];
    for (request, expected) in cases {
        let found = found(&registry, "team", request.clone()).await;
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected, "{request:?}");
        assert!(found.iter().all(|(_, score)| (*score == 0.0) == request.text.is_empty()));
    }
    let first = request!(registry, "team", filter(|_| ()));
    let token = registry.client.clone().search_tools(first).await.unwrap().into_inner().next_page_token;
    for other in [filter(|r| r.text = "x".into()), filter(|r| r.name = "x".into())] {
        let request = request!(registry, "team", SearchToolsRequest { page_token: token.clone(), ..other });
        let status = registry.client.clone().search_tools(request).await.unwrap_err();
        assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest), "a token is bound to its filter");
    }
    let listed =
        request!(registry, "team", ListToolsRequest { capability: "retrieve".into(), ..Default::default() });
    assert_eq!(registry.client.clone().list_tools(listed).await.unwrap().into_inner().tools.len(), 4);
    registry.stop().await;
}

#[tokio::test]
async fn pages_lose_and_repeat_nothing_where_scores_tie() {
    let registry = registry(&config(), &database().await);
    for number in 0..30 {
        let words = if number % 3 == 0 { "Finds beetles and more beetles." } else { "Finds beetles." };
        add(&registry, described(&format!("tool_{number:02}"), words)).await;
    }
    let asked =
        |text: &str, page_size| SearchToolsRequest { text: text.into(), page_size, ..Default::default() };
    for text in ["beetles", "finds beetle", "beetles spiders"] {
        let whole = found(&registry, "team", asked(text, 100)).await;
        assert_eq!(whole.len(), 30, "{text}");
        let is_ordered = |pair: &[(String, f64)]| {
            pair[0].1 > pair[1].1 || (pair[0].1.to_bits() == pair[1].1.to_bits() && pair[0].0 < pair[1].0)
        };
        assert!(whole.windows(2).all(is_ordered), "{whole:?}");
        for size in [1, 7, 10, 29, 30] {
            assert_eq!(found(&registry, "team", asked(text, size)).await, whole, "{text} by {size}");
        }
    }
    registry.stop().await;
}

#[tokio::test]
async fn no_text_is_an_error() {
    let registry = registry(&config(), &database().await);
    shop(&registry).await;
    let long = "order ".repeat(2_000);
    for text in [
        "'",
        "\"",
        "\\",
        "a'b'':*|!c&d<->e",
        "(((",
        "order:*",
        "!order",
        "order | ",
        "<2>",
        "it's o'clock",
        "%_",
        "\u{0}",
        "🦀",
        "🦀 order",
        "\u{202e}",
        "क्या",
        "注文",
        "é\u{301}",
        "NULL; DROP TABLE",
        "x:1A,2B",
        "-",
        "   ",
        &long,
        &"x".repeat(10_000),
        &"é ".repeat(5_000),
        &"'".repeat(10_000),
        &"a-".repeat(5_000),
    ] {
        let request = SearchToolsRequest { text: text.into(), ..SearchToolsRequest::default() };
        found(&registry, "team", request).await;
        let request =
            SearchToolsRequest { name: text.replace('\0', ""), capability: "'".into(), ..Default::default() };
        found(&registry, "team", request).await;
    }
    assert_eq!(names(&registry, "🦀 ORDER's (:*").await.len(), 3);
    registry.stop().await;
}

#[tokio::test]
async fn tools_that_were_there_before_are_found_too() {
    let database = database().await;
    let registry = registry(&config(), &database);
    shop(&registry).await;
    let strange = ToolDefinition {
        input_schema_json: r#"{"type":"object","properties":{"a":{"description":"\u0000 nul"}}}"#.into(),
        ..described("strange", "Holds what jsonb cannot.")
    };
    add(&registry, strange).await;
    let texts =
        ["order", "listing orders", "purchases", "forecast", "zip", "postal", "zürich", "strange", "jsonb"];
    let mut before = Vec::new();
    for text in texts {
        before.push(names(&registry, text).await);
    }
    let migration = include_str!("../../../../migrations/registry/0007_search_tools.sql");
    let begin = migration.find("-- The same telling apart").unwrap();
    let end = migration.find("CREATE INDEX").unwrap();
    let pool = database.pool().unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE registry.tool SET search = ''").execute(&mut *transaction).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(&migration[begin..end])).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    for (text, expected) in texts.into_iter().zip(before) {
        assert!(!expected.is_empty(), "{text}");
        assert_eq!(names(&registry, text).await, expected, "{text}");
    }
    registry.stop().await;
}

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
