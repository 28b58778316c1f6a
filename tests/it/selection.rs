//! Selection as agents and operators see it: what is chosen, what is learned from it, and what nobody may learn.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, http::StatusCode};
use proto::{
    executor::v1::{ExecuteRequest, Execution, ExecutionStatus},
    registry::v1::{CircuitBreaker, RetryPolicy, ToolSettings},
    selector::v1::{
        Effectiveness, GetEffectivenessRequest, ListRecommendationsRequest, ListSelectionsRequest,
        LoggedSelection, PinToolRequest, RecordFeedbackRequest, SelectToolsRequest, SelectToolsResponse,
        UnpinToolRequest,
    },
    types::v1::Category,
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Suite, Upstream, eventually, refused, request};
use tonic::Code;

tests::scenarios! {
    a_selection_is_followed_by_its_call_and_what_is_thought_of_it,
    a_tool_without_a_grant_is_in_no_answer,
    a_tool_that_turns_bad_falls_and_comes_back_when_it_recovers,
    a_pinned_tool_is_offered_to_whom_it_is_pinned_for,
    what_follows_is_foretold_after_three_tasks,
    a_task_of_any_length_is_answered_and_what_makes_no_sense_refused,
    that_nothing_is_suitable_is_an_answer,
}

/// A task in words, and nothing else.
pub(crate) fn task(words: &str) -> SelectToolsRequest {
    SelectToolsRequest { task: words.to_owned(), ..SelectToolsRequest::default() }
}

/// Asks for a tool; the question must make sense.
pub(crate) async fn select(agent: &Client, request: SelectToolsRequest) -> SelectToolsResponse {
    agent.selector().select_tools(request).await.unwrap().into_inner()
}

/// The answer once its first tool is this one: the selector hears of tools and grants a moment later.
pub(crate) async fn selected(
    agent: &Client,
    request: SelectToolsRequest,
    first: &str,
) -> SelectToolsResponse {
    eventually(&format!("{first} is selected"), async || {
        let answer = select(agent, request.clone()).await;
        answer.primary.as_ref().is_some_and(|tool| tool.name == first).then_some(answer)
    })
    .await
}

/// Calls a tool as the answer of a selection.
pub(crate) async fn follow(agent: &Client, selection: &SelectToolsResponse, tool: &str) -> Execution {
    let selection_id = selection.selection_id.clone();
    let asked = ExecuteRequest { selection_id, ..request(tool, json!({})) };
    agent.execute(asked).await.unwrap().execution.unwrap()
}

/// Every name in an answer, but for the nearest misses.
fn names(answer: &SelectToolsResponse) -> Vec<&str> {
    let ranked = answer.primary.iter().chain(&answer.alternatives).chain(&answer.pinned);
    ranked
        .map(|tool| tool.name.as_str())
        .chain(answer.next_tools.iter().map(|tool| tool.name.as_str()))
        .collect()
}

fn described(name: &str, url: String, description: &str) -> HttpTool {
    let mut tool = HttpTool::new(name, url);
    description.clone_into(&mut tool.definition.description);
    tool
}

/// Neither retried nor left alone when it fails: each call is one outcome.
fn plain() -> ToolSettings {
    ToolSettings {
        retry: Some(RetryPolicy { max_retries: Some(0), ..RetryPolicy::default() }),
        circuit_breaker: Some(CircuitBreaker { disabled: true, ..CircuitBreaker::default() }),
        ..ToolSettings::default()
    }
}

/// A server that does well or fails as it is told. It ends with this value.
struct Moody {
    url: String,
    is_well: Arc<AtomicBool>,
    server: tokio::task::JoinHandle<()>,
}

impl Moody {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let is_well = Arc::new(AtomicBool::new(true));
        let mood = Arc::clone(&is_well);
        let routes = Router::new().fallback(move || {
            let is_well = mood.load(Ordering::Acquire);
            async move { if is_well { (StatusCode::OK, "{}") } else { (StatusCode::NOT_FOUND, "gone") } }
        });
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, is_well, server }
    }

    fn feels(&self, is_well: bool) {
        self.is_well.store(is_well, Ordering::Release);
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn selections(client: &Client, filter: ListSelectionsRequest) -> Vec<LoggedSelection> {
    client.selector().list_selections(filter).await.unwrap().into_inner().selections
}

/// How well a tool has done, by the team.
async fn effectiveness(client: &Client, tool: &str) -> Option<Effectiveness> {
    let question =
        GetEffectivenessRequest { tool_name: tool.to_owned(), ..GetEffectivenessRequest::default() };
    client.selector().get_effectiveness(question).await.unwrap().into_inner().tools.into_iter().next()
}

fn feedback(selection_id: &str, quality: f64) -> RecordFeedbackRequest {
    RecordFeedbackRequest {
        selection_id: selection_id.to_owned(),
        quality: Some(quality),
        request_id: types::new_id().to_string(),
        ..RecordFeedbackRequest::default()
    }
}

async fn a_selection_is_followed_by_its_call_and_what_is_thought_of_it(suite: &Suite) {
    let upstream = Upstream::start().await;
    let tool = described("tide_table", upstream.url("/echo"), "Tells when the tide is high at a harbour.");
    let agent = suite.agent_with(tool).await;
    let task_id = types::new_id().to_string();
    let asked =
        SelectToolsRequest { task_id: task_id.clone(), ..task("when is the tide high at the harbour?") };
    let answer = selected(&agent, asked, "tide_table").await;
    let first = answer.primary.clone().unwrap();
    assert!((first.suitability_score - 0.5).abs() < 1e-9 && first.success_rate.is_none(), "{first:?}");
    assert!((0.0..=1.0).contains(&answer.confidence) && first.semantic_score > 0.0, "{answer:?}");
    assert_eq!(follow(&agent, &answer, "tide_table").await.status(), ExecutionStatus::Succeeded);

    let filter =
        ListSelectionsRequest { task_id: task_id.clone(), followed: Some(true), ..Default::default() };
    let logged = eventually("the selection is known to be followed", async || {
        selections(&agent, filter.clone()).await.into_iter().find(|each| each.succeeded.is_some())
    })
    .await;
    assert_eq!((&logged.selection_id, &logged.agent_id), (&answer.selection_id, &agent.agent));
    assert_eq!((logged.followed_tool.as_str(), logged.followed_rank), ("tide_table", 1));
    assert_eq!((logged.succeeded, logged.offered[0].name.as_str()), (Some(true), "tide_table"));
    assert_eq!(logged.task_length, 37, "the length is kept and the words are not");
    assert!(!format!("{logged:?}").contains("harbour"), "{logged:?}");

    let given =
        agent.selector().record_feedback(feedback(&answer.selection_id, 0.9)).await.unwrap().into_inner();
    let again = feedback(&answer.selection_id, 0.4);
    let second = agent.selector().record_feedback(again.clone()).await.unwrap().into_inner();
    assert!(!given.replaced && second.replaced, "{given:?} {second:?}");
    let repeated = agent.selector().record_feedback(again).await.unwrap().into_inner();
    assert_eq!(repeated.feedback_id, second.feedback_id);
    let known = eventually("the feedback is known", async || {
        effectiveness(&agent, "tide_table").await.filter(|tool| tool.feedbacks > 0)
    })
    .await;
    assert_eq!((known.executions, known.successes, known.feedbacks), (1, 1, 1), "{known:?}");
    assert!(known.suitability_score > 0.5 - 0.15 && known.success_rate > 0.99, "{known:?}");
    let logged = selections(&suite.admin, filter).await;
    assert_eq!(logged[0].feedback.len(), 1, "{logged:?}");
    assert_eq!(logged[0].feedback[0].quality, Some(0.4));

    let stranger = suite.other_team(&types::new_id().to_string()).await;
    let theirs = stranger.selector().record_feedback(feedback(&answer.selection_id, 0.0)).await;
    assert_eq!(theirs.unwrap_err().code(), Code::NotFound);
    assert!(selections(&stranger, ListSelectionsRequest::default()).await.is_empty());
    assert!(effectiveness(&stranger, "tide_table").await.is_none_or(|tool| tool.executions == 0));
    for quality in [1.5, -0.1, f64::NAN] {
        let wrong = agent.selector().record_feedback(feedback(&answer.selection_id, quality)).await;
        assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
    }
    let colleague = suite.agent("").await;
    assert!(colleague.selector().record_feedback(feedback(&answer.selection_id, 0.0)).await.is_err());
    let of_agent = ListSelectionsRequest { task_id, ..ListSelectionsRequest::default() };
    assert!(selections(&colleague, of_agent).await.is_empty(), "an agent sees its own only");
}

async fn a_tool_without_a_grant_is_in_no_answer(suite: &Suite) {
    let upstream = Upstream::start().await;
    let open = described("ledger_reader", upstream.url("/echo"), "Reads the ledger of the treasury.");
    let secret =
        described("treasury_vault", upstream.url("/echo"), "Reads the secret ledger of the treasury.");
    let insider = suite.agent_with(secret).await;
    let outsider = suite.agent_with(open).await;
    let wanted =
        || SelectToolsRequest { alternatives: Some(20), ..task("read the secret ledger of the treasury") };
    for _ in 0..6 {
        let answer = selected(&insider, wanted(), "treasury_vault").await;
        follow(&insider, &answer, "treasury_vault").await;
    }
    let pin = PinToolRequest { tool_name: "treasury_vault".into(), ..PinToolRequest::default() };
    let pin = suite.admin.selector().pin_tool(pin).await.unwrap().into_inner().pin.unwrap();
    suite.wait_until_delivered().await;
    let pinned = eventually("the pin is known", async || {
        let answer = select(&insider, wanted()).await;
        (!answer.pinned.is_empty()).then_some(answer)
    })
    .await;
    assert_eq!(pinned.pinned[0].name, "treasury_vault");
    let answer = selected(&outsider, wanted(), "ledger_reader").await;
    assert!(!names(&answer).contains(&"treasury_vault"), "{answer:?}");
    assert!(answer.excluded.contains_key("NO_GRANT"), "{answer:?}");
    assert!(!format!("{answer:?}").contains("treasury_vault"), "{answer:?}");
    for category in [Category::Unspecified, Category::ApiIntegration, Category::DataRetrieval] {
        let question =
            ListRecommendationsRequest { category: category.into(), ..ListRecommendationsRequest::default() };
        let told = outsider.selector().list_recommendations(question).await.unwrap().into_inner();
        assert!(!format!("{told:?}").contains("treasury_vault"), "{told:?}");
    }
    suite.admin.selector().unpin_tool(UnpinToolRequest { pin_id: pin.pin_id }).await.unwrap();
}

async fn a_tool_that_turns_bad_falls_and_comes_back_when_it_recovers(suite: &Suite) {
    let (moody, upstream) = (Moody::start().await, Upstream::start().await);
    let says = "Measures how much rain fell at the station.";
    suite.register_with(described("rain_gauge_a", moody.url.clone(), says), plain()).await;
    suite.register_with(described("rain_gauge_b", upstream.url("/echo"), says), plain()).await;
    let agent = suite.agent("").await;
    suite.grant(&agent, "rain_gauge_a").await;
    suite.grant(&agent, "rain_gauge_b").await;
    let wanted = task("how much rain fell at the station?");
    let first = async || {
        suite.wait_until_delivered().await;
        select(&agent, wanted.clone()).await.primary.unwrap().name
    };
    selected(&agent, wanted.clone(), "rain_gauge_a").await;
    for _ in 0..8 {
        assert_eq!(agent.call("rain_gauge_a", json!({})).await.status(), ExecutionStatus::Succeeded);
    }
    assert_eq!(first().await, "rain_gauge_a");
    moody.feels(false);
    let fell = turn(&agent, ExecutionStatus::Failed, "rain_gauge_b", &first).await;
    moody.feels(true);
    let rose = turn(&agent, ExecutionStatus::Succeeded, "rain_gauge_a", &first).await;
    println!("fell behind after {fell} failures, came back after {rose} successes");
}

/// Calls the moody tool until another one comes first, and gives how many outcomes that took: at most 20.
async fn turn(
    agent: &Client,
    status: ExecutionStatus,
    then_first: &str,
    first: &impl AsyncFn() -> String,
) -> usize {
    for calls in 1..=20 {
        assert_eq!(agent.call("rain_gauge_a", json!({})).await.status(), status);
        if first().await == then_first {
            return calls;
        }
    }
    panic!("{then_first} did not come first within 20 outcomes");
}

async fn a_pinned_tool_is_offered_to_whom_it_is_pinned_for(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(described("night_watch", upstream.url("/echo"), "Wakes a person.")).await;
    let colleague = suite.agent("").await;
    suite.grant(&colleague, "night_watch").await;
    let wanted = || task("translate a poem into Latin");
    select(&agent, wanted()).await;
    let unknown = PinToolRequest { tool_name: "night_wotch".into(), ..PinToolRequest::default() };
    let refusal = suite.admin.selector().pin_tool(unknown).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
    assert!(refusal.message().contains("night_watch"), "the nearest is told: {refusal:?}");
    let pin = PinToolRequest {
        tool_name: "night_watch".into(),
        agent_id: agent.agent.clone(),
        note: "until the runbook is in".into(),
        ..PinToolRequest::default()
    };
    assert_eq!(agent.selector().pin_tool(pin.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let pin = suite.admin.selector().pin_tool(pin).await.unwrap().into_inner().pin.unwrap();
    let answer = eventually("the pinned tool is offered", async || {
        let answer = select(&agent, wanted()).await;
        (!answer.pinned.is_empty()).then_some(answer)
    })
    .await;
    assert!(answer.pinned[0].pinned && answer.pinned[0].name == "night_watch", "{answer:?}");
    assert!(select(&colleague, wanted()).await.pinned.is_empty(), "it is for one agent");
    suite.admin.selector().unpin_tool(UnpinToolRequest { pin_id: pin.pin_id.clone() }).await.unwrap();
    eventually("the pin is gone", async || select(&agent, wanted()).await.pinned.is_empty().then_some(()))
        .await;
    let twice = suite.admin.selector().unpin_tool(UnpinToolRequest { pin_id: pin.pin_id }).await;
    assert_eq!(twice.unwrap_err().code(), Code::NotFound);
}

async fn what_follows_is_foretold_after_three_tasks(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(described("draft_letter", upstream.url("/echo"), "Drafts a letter.")).await;
    suite.register(described("stamp_letter", upstream.url("/echo"), "Puts a stamp on it.")).await;
    suite.grant(&agent, "stamp_letter").await;
    let wanted = task("draft a letter");
    let before = selected(&agent, wanted.clone(), "draft_letter").await;
    assert!(before.next_tools.is_empty(), "{before:?}");
    for _ in 0..3 {
        let task_id = types::new_id().to_string();
        for tool in ["draft_letter", "stamp_letter"] {
            let asked = ExecuteRequest { task_id: task_id.clone(), ..request(tool, json!({})) };
            agent.execute(asked).await.unwrap();
            suite.wait_until_delivered().await;
        }
    }
    let next = eventually("what follows is known", async || {
        select(&agent, wanted.clone()).await.next_tools.into_iter().next()
    })
    .await;
    assert_eq!((next.name.as_str(), next.count), ("stamp_letter", 3), "{next:?}");
    assert!((0.5..=1.0).contains(&next.probability), "{next:?}");
}

async fn a_task_of_any_length_is_answered_and_what_makes_no_sense_refused(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = described("kiln_control", upstream.url("/echo"), "Sets the heat of the pottery kiln.");
    tool.definition.capabilities = vec!["firing".to_owned()];
    let agent = suite.agent_with(tool).await;
    selected(&agent, task("set the heat of the kiln"), "kiln_control").await;
    for (filler, bytes) in
        [("ä", 100 * 1024), ("heat the kiln. ", 3_000_000), ("\u{0}\u{1b}\u{202e}", 40_000)]
    {
        let mut words = "set the heat of the pottery kiln. ".to_owned();
        while words.len() < bytes {
            words += filler;
        }
        let answer = select(&agent, task(&words)).await;
        let cut_at = usize::try_from(answer.task_cut_at).unwrap();
        assert!((32_760..=32_768).contains(&cut_at) && words.is_char_boundary(cut_at), "{cut_at}");
        assert_eq!(answer.primary.unwrap().name, "kiln_control");
    }
    let capability = |word: &str| SelectToolsRequest {
        required_capabilities: vec![word.to_owned()],
        ..task("set the heat")
    };
    let near = agent.selector().select_tools(capability("fireing")).await;
    let refusal = refused(near, Code::InvalidArgument, ErrorReason::InvalidRequest);
    assert!(format!("{refusal:?}").contains("firing"), "the nearest is told: {refusal:?}");
    assert_eq!(select(&agent, capability("firing")).await.primary.unwrap().name, "kiln_control");
    let wrong = [
        SelectToolsRequest::default(),
        task(" \n\t"),
        SelectToolsRequest { category: 77, ..task("set the heat") },
        SelectToolsRequest { alternatives: Some(-1), ..task("set the heat") },
        SelectToolsRequest { alternatives: Some(21), ..task("set the heat") },
        SelectToolsRequest { available_time_ms: -5, ..task("set the heat") },
        SelectToolsRequest { max_latency_ms: -5, ..task("set the heat") },
        SelectToolsRequest { task_id: "\u{0}".into(), ..task("set the heat") },
    ];
    for request in wrong {
        let refusal = agent.selector().select_tools(request.clone()).await;
        let refusal = refused(refusal, Code::InvalidArgument, ErrorReason::InvalidRequest);
        assert!(!refusal.violations().is_empty(), "the field is named: {request:?}");
    }
}

async fn that_nothing_is_suitable_is_an_answer(suite: &Suite) {
    let upstream = Upstream::start().await;
    let dear = described("gold_assay", upstream.url("/echo"), "Assays how pure gold is.").costing(2_000_000);
    let agent = suite.agent_with(dear).await;
    let wanted = task("assay how pure this gold is");
    selected(&agent, wanted.clone(), "gold_assay").await;
    let poor = SelectToolsRequest { max_cost_micro_usd: Some(1_000), ..wanted.clone() };
    let answer = select(&agent, poor).await;
    assert!(answer.primary.is_none() && answer.alternatives.is_empty(), "{answer:?}");
    assert!(!answer.unsuitable_reason.is_empty() && !answer.selection_id.is_empty(), "{answer:?}");
    let miss = answer.nearest_misses.iter().find(|miss| miss.name == "gold_assay");
    let miss = miss.unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(miss.reason, "cost");
    assert!(miss.semantic_score > 0.0 && !miss.explanation.is_empty(), "{miss:?}");
    assert!(answer.nearest_misses.len() <= 5 && answer.excluded.contains_key("cost"), "{answer:?}");
    let nobody = suite.agent("").await;
    let answer = select(&nobody, wanted).await;
    assert!(answer.primary.is_none() && answer.excluded.contains_key("NO_GRANT"), "{answer:?}");
}
