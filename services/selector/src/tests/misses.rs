//! What is refused with a remedy, and what is answered though no tool is suitable.

use ::rpc::{ErrorReason, reason_of};
use proto::{
    selector::v1::{SelectToolsRequest, SelectToolsResponse},
    types::v1::Category,
};
use tonic::{Code, Status};

use super::{
    house::{House, config, outcome, task, tool},
    searchers,
};

fn reasons(answer: &SelectToolsResponse) -> Vec<(&str, &str)> {
    answer.nearest_misses.iter().map(|miss| (miss.name.as_str(), miss.reason.as_str())).collect()
}

#[tokio::test]
async fn no_suitable_tool_is_an_answer_with_the_nearest_misses_and_what_would_change_them() {
    let house = searchers().await;
    house.refuse("alpha_search", "NO_GRANT");
    house.refuse("beta_search", "QUOTA_EXHAUSTED");
    let request = SelectToolsRequest { required_capabilities: vec!["search".into()], ..task("search pages") };
    let answer = house.select(request).await.unwrap();
    assert!(answer.primary.is_none() && answer.alternatives.is_empty(), "{answer:?}");
    assert_eq!(
        reasons(&answer),
        [("alpha_search", "NO_GRANT"), ("beta_search", "QUOTA_EXHAUSTED"), ("painter", "capability")]
    );
    assert!(answer.unsuitable_reason.contains("none of 3 tools"), "{}", answer.unsuitable_reason);
    assert!(answer.nearest_misses[2].explanation.contains("lacks search"), "{:?}", answer.nearest_misses);
    assert!(answer.nearest_misses[0].explanation.contains("ask for access"), "{:?}", answer.nearest_misses);
    assert_eq!((answer.candidate_count, answer.confidence.to_bits()), (0, 0.0_f64.to_bits()));
    assert!(!answer.selection_id.is_empty());
    let empty = house.select_as("empty", "scout", task("search")).await.unwrap();
    assert!(empty.primary.is_none() && empty.unsuitable_reason.contains("has no tools"), "{empty:?}");
}

#[tokio::test]
async fn each_constraint_that_nobody_meets_is_the_reason_of_the_misses() {
    let house = House::new().await;
    house.add(proto::registry::v1::ToolDefinition {
        category: Category::WebSearch.into(),
        cost_micro_usd: 100,
        ..tool("search", "Searches the web.", &["search"])
    });
    let slow = |count| (0..count).map(|_| outcome("scout", "search", true, 900.0)).collect::<Vec<_>>();
    house.record(slow(1)).await.unwrap();
    let quick = SelectToolsRequest { max_latency_ms: 899, available_time_ms: 100, ..task("search") };
    assert!(house.select(quick).await.unwrap().primary.is_some(), "one call says too little");
    house.record(slow(5)).await.unwrap();
    let constraints = [
        (SelectToolsRequest { category: Category::FileIo.into(), ..task("search") }, "category"),
        (SelectToolsRequest { max_cost_micro_usd: Some(99), ..task("search") }, "cost"),
        (SelectToolsRequest { max_latency_ms: 899, ..task("search") }, "latency"),
        (SelectToolsRequest { available_time_ms: 100, ..task("search") }, "time"),
        (
            SelectToolsRequest { required_capabilities: vec!["execute".into()], ..task("search") },
            "capability",
        ),
        (SelectToolsRequest { max_sensitivity: 1, ..task("search") }, "sensitivity"),
    ];
    for (request, reason) in constraints {
        let answer = house.select(request).await.unwrap();
        assert!(answer.primary.is_none());
        assert_eq!(reasons(&answer), [("search", reason)]);
        assert_eq!(answer.excluded, [(reason.to_owned(), 1)].into());
    }
}

#[tokio::test]
async fn a_task_that_fits_nothing_is_told_so() {
    let strict = crate::Config { min_semantic_score: 0.6, ..config() };
    let house = House::configured(testkit::database(&[crate::schema()]).await, strict).await;
    house.add(tool("painter", "Paints pictures of animals.", &[]));
    for (words, why) in
        [("reconcile quarterly invoices", "has no word of the task"), ("feed the animals", "fits by 0.")]
    {
        let answer = house.select(task(words)).await.unwrap();
        assert!(answer.primary.is_none() && answer.next_tools.is_empty(), "{answer:?}");
        assert_eq!((reasons(&answer), answer.candidate_count), (vec![("painter", "fit")], 1));
        assert!(answer.nearest_misses[0].explanation.starts_with(why), "{:?}", answer.nearest_misses);
    }
    let lenient = House::configured(house.database.clone(), config()).await;
    lenient.add(tool("painter", "Paints pictures of animals.", &[]));
    assert!(lenient.select(task("feed the animals")).await.unwrap().primary.is_some());
    assert!(lenient.select(task("reconcile quarterly invoices")).await.unwrap().primary.is_none());
    // Without words there is nothing to fit.
    let by_category =
        SelectToolsRequest { category: Category::Custom.into(), ..SelectToolsRequest::default() };
    assert!(house.select(by_category).await.unwrap().primary.is_some());
}

async fn refused(house: &House, request: SelectToolsRequest) -> Status {
    let refusal = house.select(request.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{request:?}");
    assert_eq!(reason_of(&refusal), Some(ErrorReason::InvalidRequest));
    refusal
}

#[tokio::test]
async fn a_wrong_request_is_refused_before_permission_is_asked() {
    let house = searchers().await;
    let wrong = [
        (task("  "), "task"),
        (SelectToolsRequest { alternatives: Some(21), ..task("x") }, "alternatives"),
        (SelectToolsRequest { alternatives: Some(-1), ..task("x") }, "alternatives"),
        (SelectToolsRequest { category: 99, ..task("x") }, "category"),
        (SelectToolsRequest { max_sensitivity: 99, ..task("x") }, "max_sensitivity"),
        (SelectToolsRequest { max_latency_ms: -1, ..task("x") }, "max_latency_ms"),
        (SelectToolsRequest { available_time_ms: i64::MIN, ..task("x") }, "available_time_ms"),
        (SelectToolsRequest { max_cost_micro_usd: Some(-1), ..task("x") }, "max_cost_micro_usd"),
        (
            SelectToolsRequest { required_capabilities: vec![" ".into()], ..task("x") },
            "required_capabilities",
        ),
        (SelectToolsRequest { task_id: "a\0b".into(), ..task("x") }, "task_id"),
    ];
    for (request, field) in wrong {
        let refusal = refused(&house, request).await;
        assert!(refusal.message().contains(field), "{field}: {}", refusal.message());
    }
    assert!(house.fake.asked.lock().unwrap().is_empty());
    let by_category =
        SelectToolsRequest { category: Category::Custom.into(), ..SelectToolsRequest::default() };
    house.select(by_category).await.unwrap();
}

#[tokio::test]
async fn an_unknown_capability_is_refused_with_the_nearest() {
    let house = searchers().await;
    house.add(tool("ocr", "Reads text in pictures.", &["recognize"]));
    let asking = |word: &str| SelectToolsRequest { required_capabilities: vec![word.into()], ..task("x") };
    for (slip, nearest) in [("serach", "search"), ("Recognizing", "recognize"), ("recognise", "recognize")] {
        let refusal = refused(&house, asking(slip)).await;
        assert!(refusal.message().contains(nearest), "{slip}: {}", refusal.message());
    }
    let refusal = refused(&house, asking("zzzz")).await;
    assert!(refusal.message().contains("transform"), "the canonical ones: {}", refusal.message());
    assert!(refused(&house, asking(&"x".repeat(100_000))).await.message().len() < 500);
    // What is canonical may be asked for though no tool has it.
    assert!(house.select(asking("integrate")).await.unwrap().primary.is_none());
}

#[tokio::test]
async fn a_task_of_any_size_and_of_any_characters_is_answered_and_its_cut_is_said() {
    let house = searchers().await;
    let whole = house.select(task(&"search ".repeat(4_681))).await.unwrap();
    assert_eq!(whole.task_cut_at, 0);
    for size in [100_000, 3_000_000] {
        let answer = house.select(task(&"search ü ".repeat(size / 10))).await.unwrap();
        assert!(answer.primary.is_some_and(|tool| tool.name == "alpha_search"));
        assert!((32_765..=32_768).contains(&answer.task_cut_at), "{}", answer.task_cut_at);
    }
    let odd = house.select(task("search\0\u{7}\u{1b}[31m \u{202e}web\r\n\u{feff}")).await.unwrap();
    assert_eq!(odd.primary.unwrap().name, "alpha_search");
}
