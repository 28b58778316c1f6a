//! Checkpoints, proofs and their second places as an auditor sees them; and what the suite does when the trail cannot be
//! kept, or a second place is gone: the policy that the settings declare.

use std::{fs, time::Duration};

use node::config::Settings;
use proto::{
    audit::v1::{
        GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest, GetTrailHealthRequest,
        QueryTrailRequest,
    },
    permissions::v1::Role,
};
use rpc::ErrorReason;
use serde_json::json;
use testkit::folder;
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually, refused, request};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use trail::{Checkpoint, Hash, leaf_hash, note::VerifierKey, verify_consistency, verify_inclusion};

tests::scenarios_alone! {
    an_auditor_proves_an_event_and_the_growth_of_the_trail,
    what_the_trail_cannot_keep_stops_calls_and_nothing_is_lost,
}

/// Health under the name of the checkpoints.
const CHECKPOINTS: &str = "toolcrib.audit.v1.AuditService/checkpoints";
/// Health tells within 5 s; a busy machine takes a little longer.
const SOON: Duration = Duration::from_secs(8);

async fn an_auditor_proves_an_event_and_the_growth_of_the_trail(mode: Mode) {
    let suite = Suite::start(mode).await;
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("seen", upstream.url("/echo"))).await;
    agent.call("seen", json!({})).await;
    let auditor = suite.member("", Role::Auditor).await;
    let first = signed(&auditor, 1).await;
    agent.call("seen", json!({})).await;
    let event = suite.trail_of(&agent).await.remove(0);
    let second = signed(&auditor, event.sequence).await;
    let request = GetInclusionProofRequest { event_id: event.id.clone(), size: second.size };
    let proof = auditor.audit().get_inclusion_proof(request).await.unwrap().into_inner();
    assert_eq!(proof.index, event.sequence - 1);
    assert!(String::from_utf8(proof.leaf.clone()).unwrap().contains(&event.id));
    let (index, size) = (u64::try_from(proof.index).unwrap(), u64::try_from(proof.size).unwrap());
    verify_inclusion(&leaf_hash(&proof.leaf), index, size, &hashes(&proof.hashes), &second.root).unwrap();
    let request = GetConsistencyProofRequest { first_size: first.size, second_size: second.size };
    let proof = auditor.audit().get_consistency_proof(request).await.unwrap().into_inner();
    let first_size = u64::try_from(first.size).unwrap();
    verify_consistency(first_size, size, &first.root, &second.root, &hashes(&proof.hashes)).unwrap();

    let unknown = GetInclusionProofRequest { event_id: types::new_id().to_string(), size: 0 };
    refused(auditor.audit().get_inclusion_proof(unknown).await, Code::NotFound, ErrorReason::NotFound);
    let none = GetInclusionProofRequest { event_id: "seven".into(), size: 0 };
    refused(
        auditor.audit().get_inclusion_proof(none).await,
        Code::InvalidArgument,
        ErrorReason::InvalidRequest,
    );
    let beyond = GetConsistencyProofRequest { first_size: 1, second_size: 1_000_000 };
    let beyond = auditor.audit().get_consistency_proof(beyond).await;
    refused(beyond, Code::InvalidArgument, ErrorReason::InvalidRequest);
    let asked = agent.audit().get_checkpoint(GetCheckpointRequest { size: 0 }).await;
    assert_eq!(asked.unwrap_err().code(), Code::PermissionDenied, "an agent is no auditor");
    let health = auditor.audit().get_trail_health(GetTrailHealthRequest {}).await.unwrap().into_inner();
    assert!(health.faults.is_empty() && health.tree_size >= second.size, "{health:?}");
    assert_eq!(suite.stranger().health(CHECKPOINTS).await.unwrap(), ServingStatus::Serving);
    suite.stop().await;
}

/// A checkpoint that was verified.
struct Signed {
    size: i64,
    root: Hash,
}

/// The newest checkpoint, once it covers a position.
async fn signed(auditor: &Client, position: i64) -> Signed {
    let newest = eventually("the checkpoint is there", async || {
        let newest =
            auditor.audit().get_checkpoint(GetCheckpointRequest { size: 0 }).await.ok()?.into_inner();
        (newest.size >= position).then_some(newest)
    })
    .await;
    let key = VerifierKey::parse(&newest.verifier_key).unwrap();
    let opened = Checkpoint::open(&newest.checkpoint, &[key]).unwrap();
    assert_eq!(opened.origin, "toolcrib/crew");
    assert_eq!(
        (i64::try_from(opened.size).unwrap(), opened.root.as_bytes().as_slice()),
        (newest.size, &*newest.root)
    );
    Signed { size: newest.size, root: opened.root }
}

fn hashes(bytes: &[Vec<u8>]) -> Vec<Hash> {
    bytes.iter().map(|hash| Hash::try_from(hash.as_slice()).unwrap()).collect()
}

async fn what_the_trail_cannot_keep_stops_calls_and_nothing_is_lost(mode: Mode) {
    let places = folder();
    let (place, away) = (places.path().join("place"), places.path().join("away"));
    fs::create_dir(&place).unwrap();
    let edit = |settings: &mut Settings| {
        settings.audit.checkpoints.places = vec![format!("dir:{}", place.display())];
        settings.audit.checkpoints.copy_interval_s = 1;
        settings.audit.checkpoints.on_failure = audit::OnFailure::Block;
        settings.audit.checkpoints.block_after_s = 5;
        settings.executor.audit_backlog_max_age_s = 5;
    };
    let suite = Suite::start_with(mode, edit).await;
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("kept", upstream.url("/echo"));
    // It is called again and again until it stops.
    tool.definition.rate_limit_per_minute = 100_000;
    let agent = suite.agent_with(tool).await;
    agent.call("kept", json!({})).await;
    suite.wait_until_delivered().await;

    // The disk of the database is full for the trail (SQLSTATE 53100, disk_full).
    let full = "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER disk_full BEFORE INSERT ON audit.record EXECUTE FUNCTION public.full()";
    meddle(&suite, full).await;
    stops_by_the_backlog(&agent).await;
    meddle(&suite, "DROP TRIGGER disk_full ON audit.record").await;
    goes_on(&suite, &agent).await;

    fs::rename(&place, &away).unwrap();
    let told = tokio::time::timeout(SOON, async {
        while suite.stranger().health(CHECKPOINTS).await.unwrap() == ServingStatus::Serving {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    told.await.expect("health tells soon");
    let health = suite.admin.audit().get_trail_health(GetTrailHealthRequest {}).await.unwrap().into_inner();
    assert!(!health.healthy && health.faults.join("\n").contains("not there"), "{health:?}");
    assert!(!health.places[0].failure.is_empty(), "{health:?}");
    stops_by_the_backlog(&agent).await;
    let health = suite.admin.audit().get_trail_health(GetTrailHealthRequest {}).await.unwrap().into_inner();
    assert!(health.faults.join("\n").contains("Events are refused"), "{health:?}");
    fs::rename(&away, &place).unwrap();
    goes_on(&suite, &agent).await;
    eventually("health is well again", async || {
        let status = suite.stranger().health(CHECKPOINTS).await.ok()?;
        (status == ServingStatus::Serving).then_some(())
    })
    .await;

    let made = upstream.hits().len();
    let filter = QueryTrailRequest { agent_id: agent.agent.clone(), page_size: 1_000, ..Default::default() };
    let told = suite.trail(filter).await.into_iter().filter(|event| event.tool_name == "kept");
    let told = told.filter(|event| event.reason.is_empty()).count();
    assert_eq!(told, made, "every call that was made is in the trail, once");
    suite.stop().await;
}

/// Calls go on until their events have waited too long, and then no more.
async fn stops_by_the_backlog(agent: &Client) {
    eventually("calls stop", async || agent.execute(request("kept", json!({}))).await.err().map(|_| ()))
        .await;
    let refusal = agent.execute(request("kept", json!({}))).await;
    refused(refusal, Code::Unavailable, ErrorReason::AuditBacklog);
}

async fn goes_on(suite: &Suite, agent: &Client) {
    eventually("calls go on", async || agent.execute(request("kept", json!({}))).await.ok()).await;
    suite.wait_until_delivered().await;
}

async fn meddle(suite: &Suite, statements: &'static str) {
    sqlx::raw_sql(statements).execute(suite.database().pool().unwrap()).await.unwrap();
}
