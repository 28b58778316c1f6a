//! Commands of the selector: what goes over the wire, and what is shown of the answer.

use std::sync::{Arc, Mutex};

use proto::selector::v1::{
    ActivatePolicyRequest, ActivatePolicyResponse, ListSelectionsRequest, ListSelectionsResponse,
    LoggedSelection, NearMiss, PinToolRequest, PinToolResponse, RecordFeedbackRequest,
    RecordFeedbackResponse, SelectToolsRequest, SelectToolsResponse,
    selector_service_server::{SelectorService, SelectorServiceServer},
};
use proto::types::v1::Category;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::run;

/// What the selector was asked, as Rust writes it.
#[derive(Debug, Clone, Default)]
struct Selector {
    selected: Arc<Mutex<Vec<SelectToolsRequest>>>,
    said: Arc<Mutex<Vec<RecordFeedbackRequest>>>,
    pinned: Arc<Mutex<Vec<PinToolRequest>>>,
}

#[tonic::async_trait]
impl SelectorService for Selector {
    async fn select_tools(
        &self,
        request: Request<SelectToolsRequest>,
    ) -> Result<Response<SelectToolsResponse>, Status> {
        self.selected.lock().unwrap().push(request.into_inner());
        let miss = NearMiss { name: "shredder".into(), reason: "cost".into(), ..NearMiss::default() };
        Ok(Response::new(SelectToolsResponse {
            nearest_misses: vec![miss],
            ..SelectToolsResponse::default()
        }))
    }

    async fn record_feedback(
        &self,
        request: Request<RecordFeedbackRequest>,
    ) -> Result<Response<RecordFeedbackResponse>, Status> {
        self.said.lock().unwrap().push(request.into_inner());
        Ok(Response::new(RecordFeedbackResponse { feedback_id: "f-1".into(), replaced: true }))
    }

    async fn list_selections(
        &self,
        request: Request<ListSelectionsRequest>,
    ) -> Result<Response<ListSelectionsResponse>, Status> {
        let request = request.into_inner();
        assert_eq!((request.followed, request.tool_name.as_str()), (Some(false), "shredder"));
        let one = |nth| LoggedSelection { selection_id: format!("s-{nth}"), ..LoggedSelection::default() };
        let selections = (0..request.page_size).map(one).collect();
        Ok(Response::new(ListSelectionsResponse { selections, next_page_token: "more".into() }))
    }

    async fn pin_tool(&self, request: Request<PinToolRequest>) -> Result<Response<PinToolResponse>, Status> {
        self.pinned.lock().unwrap().push(request.into_inner());
        Ok(Response::new(PinToolResponse::default()))
    }

    async fn activate_policy(
        &self,
        request: Request<ActivatePolicyRequest>,
    ) -> Result<Response<ActivatePolicyResponse>, Status> {
        match request.into_inner().version {
            0 => Ok(Response::new(ActivatePolicyResponse::default())),
            _ => Err(Status::not_found("there is no such version")),
        }
    }
}

async fn selector() -> (String, Selector) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let selector = Selector::default();
    let server = Server::builder()
        .add_service(SelectorServiceServer::new(selector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (address, selector)
}

#[tokio::test]
async fn every_option_of_a_selection_is_sent_and_no_tool_is_an_answer() {
    let (address, selector) = selector().await;
    let options = "--capability search,analyze --category file_io --max-cost 0.5 --max-latency-ms 9 \
        --available-time 7 --alternatives 0 --task t-1 --explore --model-help off --explain";
    let words: Vec<&str> = ["select", "shred it"].into_iter().chain(options.split_whitespace()).collect();
    let done = run(&address, &words).await;
    assert_eq!(done.exit_code(), 0, "{}", done.message());
    assert!(done.out.starts_with("no suitable tool") && done.out.contains("shredder"), "{}", done.out);
    let asked = selector.selected.lock().unwrap()[0].clone();
    let wanted = SelectToolsRequest {
        task: "shred it".into(),
        required_capabilities: vec!["search".into(), "analyze".into()],
        category: Category::FileIo.into(),
        max_latency_ms: 9,
        max_cost_micro_usd: Some(500_000),
        alternatives: Some(0),
        task_id: "t-1".into(),
        available_time_ms: 7,
        explore: true,
        model_help: Some(false),
        ..SelectToolsRequest::default()
    };
    assert_eq!(asked, wanted);
    run(&address, &["select", "shred it"]).await;
    let plain = selector.selected.lock().unwrap()[1].clone();
    assert_eq!((plain.model_help, plain.explore, plain.available_time_ms), (None, false, 0));
}

#[tokio::test]
async fn feedback_pins_and_weights_are_sent_as_they_are_said() {
    let (address, selector) = selector().await;
    let words = ["feedback", "s-1", "--quality", "0.25", "--tool", "shredder", "--comment", "jams"];
    let done = run(&address, &words).await;
    assert_eq!(done.out, "feedback f-1 is kept in place of the one before\n", "{}", done.message());
    let said = selector.said.lock().unwrap()[0].clone();
    assert_eq!((said.selection_id.as_str(), said.quality, said.followed), ("s-1", Some(0.25), None));
    assert_eq!((said.tool_name.as_str(), said.comment.as_str()), ("shredder", "jams"));
    assert!(!said.request_id.is_empty());
    run(&address, &["pins", "add", "shredder", "--agent", "scout", "--category", "file_io"]).await;
    let pinned = selector.pinned.lock().unwrap()[0].clone();
    assert_eq!((pinned.agent_id.as_str(), pinned.category()), ("scout", Category::FileIo));
    assert_eq!(run(&address, &["ranking", "use", "0"]).await.out, "version 0 ranks now\n");
    assert_eq!(run(&address, &["ranking", "use", "9"]).await.exit_code(), 2);
    let words = ["selections", "--tool", "shredder", "--followed", "false", "--limit", "3"];
    let listed = run(&address, &words).await;
    assert_eq!(listed.out.lines().count(), 4, "{}", listed.out);
    assert!(listed.err.contains("--limit"), "{}", listed.err);
}
