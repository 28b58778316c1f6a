//! Definitions of MCP servers are looked at before they serve.

use ::rpc::{ErrorReason, reason_of};
use proto::registry::v1::{
    ApproveDefinitionRequest, ApproveDefinitionResponse, ChangeKind, ListToolVersionsRequest,
    ListToolsRequest, RemoveServerRequest, ToolStatus,
};
use serde_json::{Value, json};

use super::{
    servers::{Program, listing, tool},
    *,
};

const ACTIVE: ToolStatus = ToolStatus::Active;
const QUARANTINED: ToolStatus = ToolStatus::Quarantined;

/// A listing of one tool with this description.
fn told(description: &str) -> Value {
    let mut tool = tool("a");
    tool["description"] = description.into();
    json!({"tools": [tool]})
}

impl Registry {
    async fn decide(&self, digest: &str, reject: bool) -> Result<ApproveDefinitionResponse, tonic::Status> {
        let (name, digest, note) = ("srv.a".to_owned(), digest.to_owned(), "seen".to_owned());
        let request = request!(self, "team", ApproveDefinitionRequest { name, digest, reject, note });
        self.client.clone().approve_definition(request).await.map(tonic::Response::into_inner)
    }

    async fn show(&self) -> ApproveDefinitionResponse {
        self.decide("", false).await.unwrap()
    }

    /// Version and status of every version, newest first.
    async fn versions(&self) -> Vec<(String, ToolStatus)> {
        let request = request!(self, "team", ListToolVersionsRequest { name: "srv.a".into() });
        let tools = self.client.clone().list_tool_versions(request).await.unwrap().into_inner().tools;
        tools.into_iter().map(|tool| (tool.definition.clone().unwrap().version, tool.status())).collect()
    }

    async fn by_id(&self, id: &str) -> Tool {
        let request =
            request!(self, "team", GetToolRequest { key: Some(Key::Id(id.into())), version: String::new() });
        self.client.clone().get_tool(request).await.unwrap().into_inner().tool.unwrap()
    }

    async fn pending(&self) -> Vec<String> {
        let request =
            request!(self, "team", ListToolsRequest { pending: true, ..ListToolsRequest::default() });
        let tools = self.client.clone().list_tools(request).await.unwrap().into_inner().tools;
        tools.into_iter().map(|tool| tool.definition.unwrap().name).collect()
    }
}

fn reason<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> (ErrorReason, String) {
    let status = answer.unwrap_err();
    (reason_of(&status).unwrap(), status.message().to_owned())
}

#[tokio::test]
async fn a_change_waits_until_somebody_approves_what_they_saw() {
    let program = Program::new(&told("Old."));
    let database = database().await;
    let registry = registry(&config(), &database);
    registry.add(program.request("srv")).await;
    let first = registry.get("srv.a").await.unwrap();
    assert_eq!((first.server.as_str(), first.pending.clone()), ("srv", None));
    assert_eq!(reason(registry.decide("", false).await).0, ErrorReason::NothingPending);

    program.write(&told("New."));
    registry.refresh("srv").await;
    let waiting = registry.get("srv.a").await.unwrap();
    assert_eq!((waiting.id.as_str(), waiting.status()), (first.id.as_str(), ACTIVE), "the old one serves");
    assert!(waiting.revision > first.revision, "watchers are told");
    let pending = waiting.pending.clone().unwrap();
    assert_eq!((pending.version.as_str(), registry.pending().await), ("1.0.1", vec!["srv.a".to_owned()]));
    assert_eq!(registry.by_id(&pending.id).await.status(), QUARANTINED);
    let revision = crate::store::revision(database.pool().unwrap()).await.unwrap();
    registry.refresh("srv").await;
    assert_eq!(crate::store::revision(database.pool().unwrap()).await.unwrap(), revision, "it is known");

    let shown = registry.show().await;
    assert!(!shown.decided);
    assert_eq!(shown.pending.clone().unwrap().digest, pending.digest);
    let change = &shown.changes[0];
    assert_eq!((change.kind(), change.path.as_str()), (ChangeKind::Patch, "/description"));
    assert_eq!((change.before_json.as_str(), change.after_json.as_str()), ("\"Old.\"", "\"New.\""));

    // What changed since somebody looked is not approved.
    program.write(&told("Newer."));
    registry.refresh("srv").await;
    let newer = registry.show().await.pending.unwrap();
    let (mismatch, message) = reason(registry.decide(&pending.digest, false).await);
    assert_eq!(mismatch, ErrorReason::DigestMismatch);
    assert!(message.contains(&newer.digest), "{message}");
    let statuses = [("1.0.2", QUARANTINED), ("1.0.1", QUARANTINED), ("1.0.0", ACTIVE)];
    assert_eq!(registry.versions().await, statuses.map(|(version, status)| (version.to_owned(), status)));

    // Of two who approve at once, one does.
    let (one, two) =
        tokio::join!(registry.decide(&newer.digest, false), registry.decide(&newer.digest, false));
    let (done, late) = if one.is_ok() { (one, two) } else { (two, one) };
    let done = done.unwrap();
    assert!(done.decided && done.pending.unwrap().status() == ACTIVE);
    assert_eq!(reason(late).0, ErrorReason::NothingPending);
    let now = registry.get("srv.a").await.unwrap();
    assert_eq!((now.id, now.digest, now.pending), (newer.id, newer.digest, None));
    assert_eq!(registry.pending().await, Vec::<String>::new());
    let review: (String, String, String) =
        sqlx::query_as("SELECT state, reviewer, note FROM registry.review WHERE state = 'approved'")
            .fetch_one(database.pool().unwrap())
            .await
            .unwrap();
    assert_eq!(review, ("approved".into(), "tester".into(), "seen".into()));

    // The one before it comes back: it waits like any other.
    program.write(&told("Old."));
    registry.refresh("srv").await;
    assert_eq!(registry.get("srv.a").await.unwrap().pending.unwrap().version, "1.0.3");
    registry.stop().await;
}

#[tokio::test]
async fn what_is_rejected_is_not_asked_again_and_what_is_taken_back_waits_no_more() {
    let program = Program::new(&told("Old."));
    let registry = registry(&config(), &database().await);
    registry.add(program.request("srv")).await;
    program.write(&told("Bad."));
    registry.refresh("srv").await;
    let bad = registry.show().await.pending.unwrap();
    assert_eq!(reason(registry.decide("", true).await).0, ErrorReason::InvalidRequest);
    let rejected = registry.decide(&bad.digest, true).await.unwrap();
    assert!(rejected.decided && rejected.pending.unwrap().status() == QUARANTINED);
    for _ in 0..2 {
        let server = registry.refresh("srv").await;
        assert!(server.rejected_tools[0].contains("1.0.1 was rejected"), "{:?}", server.rejected_tools);
        assert_eq!(registry.tool("srv.a").await, ("1.0.0".into(), ACTIVE));
        assert_eq!(registry.get("srv.a").await.unwrap().pending, None);
    }
    assert_eq!(reason(registry.decide(&bad.digest, true).await).0, ErrorReason::NothingPending);

    program.write(&told("Good."));
    registry.refresh("srv").await;
    assert_eq!(registry.show().await.pending.unwrap().definition.unwrap().version, "1.0.2");
    program.write(&told("Old."));
    registry.refresh("srv").await;
    assert_eq!(registry.get("srv.a").await.unwrap().pending, None, "what serves is offered again");
    program.write(&told("Good."));
    registry.refresh("srv").await;
    assert_eq!(registry.versions().await.len(), 3, "no version twice");
    assert_eq!(registry.show().await.pending.unwrap().definition.unwrap().version, "1.0.2");

    // A mind may be changed.
    let approved = registry.decide(&bad.digest, false).await.unwrap();
    assert_eq!(approved.tool.unwrap().definition.unwrap().description, "Bad.");
    let status =
        request!(registry, "team", ApproveDefinitionRequest { name: "srv.b".into(), ..Default::default() });
    let unknown = registry.client.clone().approve_definition(status).await;
    let (unknown, message) = reason(unknown);
    assert_eq!(unknown, ErrorReason::ToolNotFound);
    assert!(message.contains("did you mean srv.a?"), "{message}");
    registry.stop().await;
}

#[tokio::test]
async fn under_approve_everything_a_new_tool_is_quarantined() {
    let program = Program::new(&told("First."));
    let database = database().await;
    let strict = Config { trust_policy: TrustPolicy::ApproveEverything, ..config() };
    let watchful = registry(&strict, &database);
    watchful.add(program.request("srv")).await;
    assert_eq!(watchful.tool("srv.a").await, ("1.0.0".into(), QUARANTINED));
    assert_eq!(watchful.pending().await, ["srv.a"]);
    program.write(&told("Second."));
    watchful.refresh("srv").await;
    assert_eq!(watchful.tool("srv.a").await, ("1.0.1".into(), QUARANTINED));
    let shown = watchful.show().await;
    assert!(shown.changes.is_empty(), "none served");
    let digest = shown.pending.unwrap().digest;
    watchful.decide(&digest, true).await.unwrap();
    watchful.refresh("srv").await;
    assert_eq!(watchful.tool("srv.a").await, ("1.0.1".into(), QUARANTINED));
    assert_eq!(watchful.pending().await, Vec::<String>::new());
    assert!(watchful.decide(&digest, false).await.unwrap().decided);
    assert_eq!(watchful.tool("srv.a").await, ("1.0.1".into(), ACTIVE));

    program.write(&listing(&["a", "b"]));
    watchful.refresh("srv").await;
    assert_eq!(watchful.tool("srv.b").await, ("1.0.0".into(), QUARANTINED));
    assert_eq!(watchful.pending().await, ["srv.a", "srv.b"]);
    watchful.stop().await;
    // An operator who trusts all from now on has what waits serve.
    let trusting = registry(&Config { trust_policy: TrustPolicy::ApproveAll, ..config() }, &database);
    trusting.refresh("srv").await;
    assert_eq!(trusting.tool("srv.a").await, ("1.0.3".into(), ACTIVE));
    assert_eq!(trusting.tool("srv.b").await, ("1.0.0".into(), ACTIVE));
    assert_eq!(trusting.pending().await, Vec::<String>::new());
    trusting.stop().await;
}

#[tokio::test]
async fn a_server_that_moves_serves_from_its_new_place_at_once() {
    let (before, after) = (Program::new(&told("Old.")), Program::new(&told("New.")));
    let registry = registry(&config(), &database().await);
    registry.add(before.request("srv")).await;
    let request = request!(registry, "team", RemoveServerRequest { name: "srv".into() });
    registry.client.clone().remove_server(request).await.unwrap();
    let moved = after.request("srv");
    registry.add(moved.clone()).await;
    let tool = registry.get("srv.a").await.unwrap();
    let definition = tool.definition.clone().unwrap();
    let Some(Kind::Mcp(binding)) = definition.binding.unwrap().kind else { panic!("not mcp") };
    assert_eq!((tool.status(), binding.transport), (ACTIVE, moved.transport));
    assert_eq!((definition.description.as_str(), definition.version.as_str()), ("Old.", "2.0.0"));
    assert_eq!(tool.pending.unwrap().version, "2.0.1");

    // Made with the one that serves, it may still be rejected, and approved after all.
    let shown = registry.show().await.pending.unwrap();
    registry.decide(&shown.digest, true).await.unwrap();
    assert_eq!(registry.tool("srv.a").await, ("2.0.0".into(), ACTIVE));
    let versions: Vec<String> = registry.versions().await.into_iter().map(|(version, _)| version).collect();
    assert_eq!(versions, ["2.0.1", "2.0.0", "1.0.0"]);
    assert!(registry.decide(&shown.digest, false).await.unwrap().decided);
    assert_eq!(registry.tool("srv.a").await, ("2.0.1".into(), ACTIVE));
    registry.stop().await;
}

#[tokio::test]
async fn what_was_rejected_is_bound_to_where_its_server_is_now_when_it_is_approved_after_all() {
    let (before, after) = (Program::new(&told("Old.")), Program::new(&json!({"mode": "exit", "tools": []})));
    let registry = registry(&config(), &database().await);
    registry.add(before.request("srv")).await;
    before.write(&told("Bad."));
    registry.refresh("srv").await;
    let bad = registry.show().await.pending.unwrap();
    registry.decide(&bad.digest, true).await.unwrap();

    // It moves to where nobody answers yet: no discovery has brought its tools there.
    let request = request!(registry, "team", RemoveServerRequest { name: "srv".into() });
    registry.client.clone().remove_server(request).await.unwrap();
    let moved = after.request("srv");
    registry.add(moved.clone()).await;
    let approved = registry.decide(&bad.digest, false).await.unwrap();
    assert_eq!(approved.pending.unwrap().id, bad.id);
    let changed: Vec<&str> = approved.changes.iter().map(|change| change.path.as_str()).collect();
    assert!(changed.contains(&"/description") && !changed.contains(&"/binding/mcp/server"), "{changed:?}");
    let tool = registry.get("srv.a").await.unwrap();
    let definition = tool.definition.clone().unwrap();
    let Some(Kind::Mcp(binding)) = definition.binding.unwrap().kind else { panic!("not mcp") };
    assert_eq!((definition.description.as_str(), binding.transport), ("Bad.", moved.transport));
    assert_eq!((definition.version.as_str(), tool.status()), ("2.0.0", ToolStatus::Disabled));
    assert_eq!(registry.by_id(&bad.id).await.definition, bad.definition, "a version never changes");

    // Once it answers there, and says the same, nothing is left to decide.
    after.write(&told("Bad."));
    registry.refresh("srv").await;
    assert_eq!(registry.tool("srv.a").await, ("2.0.0".into(), ACTIVE));
    assert_eq!(registry.get("srv.a").await.unwrap().pending, None);
    registry.stop().await;
}

#[tokio::test]
async fn a_server_that_changed_too_often_is_asked_at_its_new_place_once_it_moved() {
    let (before, after) = (Program::new(&told("Old.")), Program::new(&told("New.")));
    let database = database().await;
    let registry = registry(&config(), &database);
    registry.add(before.request("srv")).await;
    sqlx::query(
        "INSERT INTO registry.version (team_id, id, name, version, revision, digest, content_digest, definition)
         SELECT team_id, gen_random_uuid(), name, '1.0.' || n, revision, n, n, definition
         FROM registry.version, generate_series(1, 50) AS n",
    )
    .execute(database.pool().unwrap())
    .await
    .unwrap();
    let request = request!(registry, "team", RemoveServerRequest { name: "srv".into() });
    registry.client.clone().remove_server(request).await.unwrap();
    let moved = after.request("srv");
    let server = registry.add(moved.clone()).await.server.unwrap();
    assert!(server.rejected_tools[0].contains("50 times within a day"), "{:?}", server.rejected_tools);
    let tool = registry.get("srv.a").await.unwrap();
    let definition = tool.definition.clone().unwrap();
    let Some(Kind::Mcp(binding)) = definition.binding.unwrap().kind else { panic!("not mcp") };
    assert_eq!((tool.status(), binding.transport), (ACTIVE, moved.transport));
    assert_eq!((definition.description.as_str(), tool.pending), ("Old.", None));
    registry.stop().await;
}
