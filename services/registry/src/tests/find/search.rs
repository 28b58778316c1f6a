//! Tools are found by words and filters.

use super::*;

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
    let migration = include_str!("../../../../../migrations/registry/0007_search_tools.sql");
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
