//! Exports and proofs of a real suite, checked without it: by the code that anybody has, and by the binary with no
//! database and no network.

use proto::audit::v1::{
    ExportTrailRequest, GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest,
    QueryTrailRequest,
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Suite, Upstream, eventually, refused};
use tonic::Code;
use trail::{
    Hash,
    export::{KnownCheckpoint, Report, Verifier},
    note::VerifierKey,
    statement,
};

tests::scenarios! {
    an_export_is_checked_offline_and_every_tampering_is_found,
    an_event_and_the_growth_of_the_trail_are_proven_by_files,
}

const CALLS: usize = 12;

async fn called(suite: &Suite, tool: &str) -> Client {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new(tool, upstream.url("/echo"))).await;
    let of_ada = agent.with_header("on-behalf-of", "ada@example.com");
    for number in 0..CALLS {
        of_ada.call(tool, json!({ "number": number })).await;
    }
    suite.wait_until_delivered().await;
    agent
}

/// The newest checkpoint, once every event written so far is under it, and the key.
async fn signed(suite: &Suite) -> (String, i64, VerifierKey) {
    let newest = suite.trail(QueryTrailRequest { page_size: 1, ..QueryTrailRequest::default() }).await;
    let head = newest[0].sequence;
    let signed = eventually("the trail is signed", async || {
        let checkpoint = suite.admin.audit().get_checkpoint(GetCheckpointRequest { size: 0 }).await.ok()?;
        Some(checkpoint.into_inner()).filter(|checkpoint| checkpoint.size >= head)
    });
    let signed = signed.await;
    (signed.checkpoint, signed.size, VerifierKey::parse(&signed.verifier_key).unwrap())
}

async fn exported(client: &Client, request: ExportTrailRequest) -> Vec<String> {
    let mut stream = client.audit().export_trail(request).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        assert!(part.lines.ends_with(b"\n"));
        lines.extend(part.lines);
    }
    String::from_utf8(lines).unwrap().split_inclusive('\n').map(str::to_owned).collect()
}

fn verify(lines: &[String], key: &VerifierKey, known: Vec<KnownCheckpoint>) -> Report {
    let mut verifier = Verifier::new(vec![key.clone()], known);
    for line in lines {
        verifier.read(line.as_bytes());
    }
    verifier.finish()
}

async fn an_export_is_checked_offline_and_every_tampering_is_found(suite: &Suite) {
    let agent = called(suite, "exported").await;
    let (checkpoint, size, key) = signed(suite).await;
    let lines = exported(&suite.admin, ExportTrailRequest::default()).await;
    let known = vec![KnownCheckpoint { name: "kept".into(), note: checkpoint }];
    let report = verify(&lines, &key, known);
    assert!(report.is_whole(), "{:?}", report.faults);
    assert!(report.proven >= u64::try_from(size).unwrap());
    assert_eq!(report.checkpoints, ["kept"]);
    assert!(lines.concat().contains("ada@example.com"));
    let at = lines.iter().position(|line| {
        line.contains("\"tool_name\":\"exported\"") && line.contains("\"action\":\"tool_invoked\"")
    });
    let at = at.unwrap();
    let index = report_index(&lines[at]);
    let tampered = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        let report = verify(&lines, &key, Vec::new());
        let fault = report.first().expect("it is found").clone();
        (fault.kind.name(), fault.index)
    };
    let edit = |from: &'static str, to: &'static str| {
        tampered(&move |lines| {
            assert!(lines[at].contains(from), "{}", lines[at]);
            lines[at] = lines[at].replacen(from, to, 1);
        })
    };
    assert_eq!(edit("\"tool_name\":\"exported\"", "\"tool_name\":\"exporter\""), ("ALTERED", Some(index)));
    assert_eq!(edit("ada@example.com", "eve@example.com"), ("PAYLOAD_ALTERED", Some(index)));
    assert_eq!(tampered(&|lines| drop(lines.remove(at))), ("MISSING", Some(index)));
    assert_eq!(tampered(&|lines| lines.insert(at, lines[at].clone())), ("REPEATED", Some(index)));
    assert_eq!(tampered(&|lines| lines.swap(at, at + 1)), ("MOVED", Some(index)));
    assert_eq!(tampered(&|lines| lines.truncate(at)), ("CUT", Some(index)));
    assert_eq!(tampered(&|lines| lines[0] = lines[0].replacen("crew", "crow", 1)).0, "UNSIGNED");
    let binary = |lines: &[String]| check(&lines.concat(), &key.to_string());
    let (code, told) = binary(&lines);
    assert!(code == 0 && told.starts_with("whole"), "{told}");
    let mut cut = lines.clone();
    cut.remove(at);
    let (code, told) = binary(&cut);
    assert!(code == 1 && told.contains(&format!("record {index} is missing")), "{told}");
    let headers =
        exported(&suite.admin, ExportTrailRequest { headers_only: true, ..Default::default() }).await;
    assert!(!headers.concat().contains("ada@example.com"));
    assert!(verify(&headers, &key, Vec::new()).is_whole());
    let answer = agent.audit().export_trail(ExportTrailRequest::default()).await;
    refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
}

/// Whether the binary finds a file whole, with no configuration, no server and no database; and what it says.
fn check(file: &str, key: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trail.jsonl");
    std::fs::write(&path, file).unwrap();
    let mut command = tests::command();
    let arguments = ["audit", "verify", path.to_str().unwrap(), "--key", key];
    let done = command.args(arguments).env_clear().current_dir(folder.path()).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
}

fn report_index(line: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["leaf"]["index"].as_u64().unwrap()
}

async fn an_event_and_the_growth_of_the_trail_are_proven_by_files(suite: &Suite) {
    let agent = called(suite, "proven").await;
    let (first, first_size, key) = signed(suite).await;
    let event = suite.trail_of(&agent).await.into_iter().next().unwrap();
    let request = GetInclusionProofRequest { event_id: event.id.clone(), size: 0 };
    let proof = suite.admin.audit().get_inclusion_proof(request).await.unwrap().into_inner();
    let hashes = |hashes: &[Vec<u8>]| -> Vec<Hash> {
        hashes.iter().map(|hash| Hash::try_from(hash.as_slice()).unwrap()).collect()
    };
    let index = u64::try_from(proof.index).unwrap();
    let file = statement::inclusion_file(
        &proof.checkpoint,
        &key.to_string(),
        index,
        Ok(&proof.leaf),
        &hashes(&proof.hashes),
    )
    .unwrap();
    let statement::Proven::Record { header: Some(header), .. } =
        statement::verify(&file, std::slice::from_ref(&key)).unwrap().proven
    else {
        panic!("the leaf is there");
    };
    assert_eq!((header.id, header.index), (event.id, event.sequence - 1));
    agent.call("proven", json!({})).await;
    let (_, size, _) = signed(suite).await;
    assert!(size > first_size);
    let request = GetConsistencyProofRequest { first_size, second_size: size };
    let proof = suite.admin.audit().get_consistency_proof(request).await.unwrap().into_inner();
    let checkpoint =
        suite.admin.audit().get_checkpoint(GetCheckpointRequest { size: 0 }).await.unwrap().into_inner();
    if checkpoint.size == size {
        let file = statement::consistency_file(
            &checkpoint.checkpoint,
            &first,
            &key.to_string(),
            &hashes(&proof.hashes),
        );
        statement::verify(&file, &[key]).unwrap();
    }
}
