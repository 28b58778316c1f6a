//! Erasures of data subjects in a whole suite: nothing of them is left anywhere, old proofs still hold, and the erasure
//! comes to its end though a process dies in the midst of it.

use std::time::Duration;

use proto::{
    audit::v1::{
        Action, EraseSubjectRequest, EraseSubjectResponse, GetCheckpointRequest, GetInclusionProofRequest,
        GetInclusionProofResponse, PayloadState, PlaceHoldRequest, QueryTrailRequest, ReleaseHoldRequest,
    },
    executor::v1::{ExecuteRequest, ExecutionStatus, StartExecutionRequest},
    permissions::v1::Grant,
    registry::v1::{CacheSettings, ToolSettings},
    selector::v1::{ListSelectionsRequest, RecordFeedbackRequest, SelectToolsRequest},
};
use rpc::ErrorReason;
use serde_json::json;
use sqlx::PgPool;
use tests::{
    Client, HttpTool, Suite, Upstream, block_on,
    chaos::{Crew, Plan},
    eventually, refused, request,
};
use tonic::Code;
use trail::{
    Hash, leaf_hash,
    note::{self, VerifierKey},
    verify_inclusion,
};

tests::scenarios! {
    nothing_of_an_erased_user_is_left_and_old_proofs_still_hold,
    a_hold_keeps_what_is_known_of_a_user_until_it_is_released,
}

/// Erases, as a person would: asks again until it is done.
async fn erase(admin: &Client, user: &str) -> EraseSubjectResponse {
    let request_id = types::new_id().to_string();
    eventually("the erasure is done", async || {
        let (user, reason) = (user.to_owned(), "GDPR Art. 17, ticket 12".to_owned());
        let request = EraseSubjectRequest { user, reason, request_id: request_id.clone() };
        let answer = admin.audit().erase_subject(request).await.unwrap().into_inner();
        answer.done.then_some(answer)
    })
    .await
}

/// Every column of every table of the suite that holds these bytes, as text or raw.
async fn holds(pool: &PgPool, what: &str) -> Vec<String> {
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT format('%I.%I', c.table_schema, c.table_name), c.column_name::text, c.data_type::text
         FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
         WHERE c.table_schema IN ('audit', 'executor', 'permissions', 'registry', 'selector')
           AND t.table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(columns.len() > 200, "every table is searched");
    let mut found = Vec::new();
    for (table, column, kind) in columns {
        let bytes = if kind == "bytea" {
            format!("{column:?}")
        } else {
            format!("convert_to({column:?}::text, 'UTF8')")
        };
        let asked = format!("SELECT count(*) FROM ONLY {table} WHERE position($1::bytea IN {bytes}) > 0");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(asked))
            .bind(what.as_bytes())
            .fetch_one(pool)
            .await
            .unwrap();
        if count > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

/// Whether a file below a folder holds these bytes.
fn stands_in_files(folder: &std::path::Path, what: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return stands_in_files(&path, what);
        }
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(what.len()).any(|window| window == what.as_bytes())
    })
}

fn caching() -> ToolSettings {
    let cache = CacheSettings { enabled: true, ..CacheSettings::default() };
    ToolSettings { cache: Some(cache), ..ToolSettings::default() }
}

/// Has a tool selected for the user, and tells what they thought of it.
async fn selected_for((agent, user): (&Client, &Client), said: &str) -> String {
    let task =
        SelectToolsRequest { task: "told, the tool of a test".into(), ..SelectToolsRequest::default() };
    // The selector hears of tools and grants a moment later; what is asked meanwhile is of nobody.
    eventually("a tool is offered", async || {
        agent.selector().select_tools(task.clone()).await.unwrap().into_inner().primary
    })
    .await;
    let answer = user.selector().select_tools(task).await.unwrap().into_inner();
    let selection_id = answer.selection_id;
    let feedback = RecordFeedbackRequest {
        selection_id: selection_id.clone(),
        quality: Some(0.9),
        comment: format!("just right for {said}"),
        ..RecordFeedbackRequest::default()
    };
    user.selector().record_feedback(feedback).await.unwrap();
    selection_id
}

/// The leaf is proven by what was told before the erasure, and by what is told after it.
fn holds_under_the_old_checkpoint(
    old: &GetInclusionProofResponse,
    again: &GetInclusionProofResponse,
    verifier: &VerifierKey,
) {
    let root = trail::Checkpoint::open(&old.checkpoint, std::slice::from_ref(verifier)).unwrap().root;
    for proof in [old, again] {
        let hashes: Vec<Hash> =
            proof.hashes.iter().map(|hash| Hash(hash.as_slice().try_into().unwrap())).collect();
        let (index, size) = (u64::try_from(proof.index).unwrap(), u64::try_from(proof.size).unwrap());
        verify_inclusion(&leaf_hash(&again.leaf), index, size, &hashes, &root).unwrap();
    }
}

async fn nothing_of_an_erased_user_is_left_and_old_proofs_still_hold(suite: &Suite) {
    let upstream = Upstream::start().await;
    let (user, canary) = ("ada.lovelace@example.com", "canary-diagnosis-4711");
    let echo = HttpTool::new("told", upstream.url("/echo")).posting().reading();
    let agent = suite.agent_with_settings(echo, caching()).await;
    suite.register(HttpTool::new("queued", upstream.url("/held"))).await;
    suite.grant(&agent, "queued").await;
    let of_ada = agent.with_header("on-behalf-of", user);
    let asked = ExecuteRequest { request_id: "erasure-1".into(), ..request("told", json!({"q": canary})) };
    of_ada.execute(asked).await.unwrap();
    agent.with_header("on-behalf-of", "bob").call("told", json!({"q": "of bob"})).await;
    let later = StartExecutionRequest {
        call: Some(request("queued", json!({"q": canary}))),
        not_before: Some(prost_types::Timestamp {
            seconds: chrono::Utc::now().timestamp() + 3_600,
            nanos: 0,
        }),
        ..StartExecutionRequest::default()
    };
    let queued = of_ada.accepted(later).await;
    let filter = QueryTrailRequest { tool_name: "told".into(), ..QueryTrailRequest::default() };
    let before = suite.trail(QueryTrailRequest { user: user.into(), ..filter.clone() }).await;
    assert!(!before.is_empty());
    let event_id = before[0].id.clone();
    let prove = |size| GetInclusionProofRequest { event_id: event_id.clone(), size };
    let old = eventually("the event is signed", async || {
        suite.admin.audit().get_inclusion_proof(prove(0)).await.ok().map(tonic::Response::into_inner)
    })
    .await;
    let selection = selected_for((&agent, &of_ada), canary).await;
    let pool = suite.database();
    let pool = pool.pool().unwrap();
    let found = holds(pool, canary).await;
    assert!(
        found.iter().any(|column| column == "selector.feedback.comment"),
        "what is there is found: {found:?}"
    );
    assert!(holds(pool, user).await.iter().any(|column| column == "selector.selection.user_id"));

    let done = erase(&suite.admin, user).await;
    for what in [user, canary] {
        assert_eq!(holds(pool, what).await, Vec::<String>::new(), "{what}");
        assert!(!stands_in_files(&suite.settings.executor.workspace_root, what));
    }
    let cancelled = agent.execution(&queued.id).await;
    assert_eq!((cancelled.status(), cancelled.erased), (ExecutionStatus::Cancelled, true));
    assert_eq!(upstream.hits().iter().filter(|hit| hit.target.contains("held")).count(), 0);
    // The leaf is what it was, and its old proof holds.
    let key = suite.admin.audit().get_checkpoint(GetCheckpointRequest::default()).await.unwrap().into_inner();
    let verifier = VerifierKey::parse(&key.verifier_key).unwrap();
    let again = suite.admin.audit().get_inclusion_proof(prove(old.size)).await.unwrap().into_inner();
    assert_eq!(again.leaf, old.leaf);
    holds_under_the_old_checkpoint(&old, &again, &verifier);
    let subject_id = before[0].subject_id.clone();
    let shown = suite.trail(QueryTrailRequest { subject_id: subject_id.clone(), ..filter }).await;
    assert!(shown.iter().all(|event| event.payload_state() == PayloadState::Erased && event.user.is_empty()));
    let told = QueryTrailRequest { action: Action::SubjectErased.into(), ..QueryTrailRequest::default() };
    let told = suite.trail(told).await;
    assert!(
        told.iter().any(|event| event.id == done.erasure_id && event.subject_id == subject_id),
        "{told:?}"
    );
    // The certificate is signed, and names no one.
    let text = note::open(&done.certificate, &[verifier]).unwrap();
    assert!(
        text.contains(&format!("subject: {subject_id}\n")) && text.contains("erased in executions: 2\n"),
        "{text}"
    );
    // The selection and the feedback on it.
    assert!(text.contains("erased in selections: 2\n"), "{text}");
    let listed =
        agent.selector().list_selections(ListSelectionsRequest::default()).await.unwrap().into_inner();
    assert!(listed.selections.iter().all(|row| row.selection_id != selection), "{listed:?}");
    assert!(text.split(|c: char| !c.is_alphanumeric()).all(|word| word != "ada"));
    // Who comes back is another pseudonym.
    of_ada.call("told", json!({"q": "new"})).await;
    let new = suite.trail(QueryTrailRequest { user: user.into(), ..QueryTrailRequest::default() }).await;
    assert!(!new.is_empty() && new.iter().all(|event| event.subject_id != subject_id), "{new:?}");
    // A user of whom nothing is known is told so, with a certificate.
    let nobody = erase(&suite.admin, "nobody-knows").await;
    assert!(
        nobody.parts.iter().filter(|part| part.part != "cache").all(|part| part.records == 0),
        "{nobody:?}"
    );
    assert!(!nobody.certificate.is_empty());
}

async fn a_hold_keeps_what_is_known_of_a_user_until_it_is_released(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("kept", upstream.url("/echo"))).await;
    agent.with_header("on-behalf-of", "held-user").call("kept", json!({})).await;
    suite.wait_until_delivered().await;
    let hold = PlaceHoldRequest {
        name: "matter-12".into(),
        reason: "litigation".into(),
        user: "held-user".into(),
        ..PlaceHoldRequest::default()
    };
    suite.admin.audit().place_hold(hold).await.unwrap();
    let request = EraseSubjectRequest {
        user: "held-user".into(),
        reason: "asked for".into(),
        request_id: String::new(),
    };
    let answer = suite.admin.audit().erase_subject(request.clone()).await;
    let refusal = refused(answer, Code::FailedPrecondition, ErrorReason::OnHold);
    assert!(refusal.message.contains("matter-12"), "{refusal:?}");
    refused(agent.audit().erase_subject(request).await, Code::PermissionDenied, ErrorReason::RoleRequired);
    let release = ReleaseHoldRequest { name: "matter-12".into(), reason: "settled".into() };
    suite.admin.audit().release_hold(release).await.unwrap();
    assert!(erase(&suite.admin, "held-user").await.done);
}

/// A real process is killed while it erases: the erasure goes on with the next one, and what was under way is not run
/// again and leaves no text.
#[test]
fn an_executor_killed_in_the_midst_of_an_erasure_leaves_nothing_behind() {
    block_on(async {
        let crew = Crew::start(&Plan { executors: 1, ..Plan::default() }).await;
        let upstream = Upstream::start().await;
        crew.admin.register(HttpTool::new("held", upstream.url("/held"))).await;
        let agent = crew.agent("scout", &["held"], &Grant::default()).await.remove(0);
        let (user, canary) = ("grace.hopper@example.com", "canary-of-grace");
        let of_grace = agent.with_header("on-behalf-of", user);
        let call = StartExecutionRequest {
            call: Some(request("held", json!({"q": canary}))),
            ..StartExecutionRequest::default()
        };
        let running = of_grace.accepted(call).await;
        upstream.wait_for_hits(1).await;
        let ask = EraseSubjectRequest {
            user: user.into(),
            reason: "GDPR Art. 17".into(),
            request_id: "kill-1".into(),
        };
        let begun = crew.admin.audit().erase_subject(ask.clone()).await.unwrap().into_inner();
        assert!(!begun.done, "a call of theirs runs");
        crew.executors[0].kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        crew.executors[0].start();
        crew.executors[0].wait_until_serving().await;
        let done = eventually("the erasure is done", async || {
            let answer = crew.admin.audit().erase_subject(ask.clone()).await.ok()?.into_inner();
            answer.done.then_some(answer)
        })
        .await;
        assert_eq!(done.erasure_id, begun.erasure_id);
        let ended = agent.execution(&running.id).await;
        assert!(ended.erased && ended.status() == ExecutionStatus::UnknownOutcome, "{ended:?}");
        for what in [user, canary] {
            assert_eq!(holds(crew.pool(), what).await, Vec::<String>::new(), "{what}");
        }
        assert_eq!(upstream.count(), 1, "it is not run again");
        upstream.release();
    });
}
