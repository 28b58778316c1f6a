//! Reports and reviews of a real suite: each is checked without it, by the code that anybody has and by the binary with no
//! database and no network.

use chrono::{DateTime, TimeDelta, Utc};
use proto::audit::v1::{
    Action, ExportTrailRequest, Framework, GenerateReportRequest, QueryTrailRequest, RecordReviewRequest,
    ReportFormat,
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, HttpTool, Suite, Upstream, refused};
use tonic::Code;

tests::scenarios! {
    every_report_is_signed_and_complete_and_checked_offline,
    a_review_is_evidence_in_reports,
    what_cannot_be_reported_is_refused,
}

fn wire(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: 0 }
}

fn request(framework: Framework, user: &str) -> GenerateReportRequest {
    let now = Utc::now();
    GenerateReportRequest {
        framework: framework.into(),
        start_time: Some(wire(now - TimeDelta::hours(1))),
        end_time: Some(wire(now + TimeDelta::seconds(1))),
        user: user.to_owned(),
        format: ReportFormat::Jsonl.into(),
    }
}

async fn report(client: &Client, request: GenerateReportRequest) -> Result<String, tonic::Status> {
    let mut stream = client.audit().generate_report(request).await?.into_inner();
    let mut file = Vec::new();
    while let Some(part) = stream.message().await? {
        file.extend(part.content);
    }
    Ok(String::from_utf8(file).unwrap())
}

async fn export(client: &Client) -> String {
    let request = ExportTrailRequest { headers_only: true, ..ExportTrailRequest::default() };
    let mut stream = client.audit().export_trail(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        file.extend(part.lines);
    }
    String::from_utf8(file).unwrap()
}

async fn called(suite: &Suite, tool: &str) -> Client {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new(tool, upstream.url("/echo"))).await;
    let of_ada = agent.with_header("on-behalf-of", "ada@example.com");
    for number in 0..4 {
        of_ada.call(tool, json!({ "number": number })).await;
    }
    suite.wait_until_delivered().await;
    agent
}

/// What the binary says of a report, with no configuration, no server and no database.
fn check(report: &str, export: &str, key: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("report"), report).unwrap();
    std::fs::write(path("trail.jsonl"), export).unwrap();
    let (report, export) = (path("report"), path("trail.jsonl"));
    let arguments = ["audit", "verify", &report, "--key", key, "--export", &export];
    let done = tests::command().args(arguments).env_clear().current_dir(folder.path()).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
}

async fn every_report_is_signed_and_complete_and_checked_offline(suite: &Suite) {
    let agent = called(suite, "reported").await;
    let mut key = String::new();
    for (framework, user) in [
        (Framework::GdprAccess, "ada@example.com"),
        (Framework::GdprErasure, ""),
        (Framework::GdprProcessing, ""),
        (Framework::HipaaAuditControls, ""),
        (Framework::HipaaDisclosures, "ada@example.com"),
        (Framework::Soc2Cc7, ""),
        (Framework::EuAiActRecords, ""),
    ] {
        for format in [ReportFormat::Jsonl, ReportFormat::Csv] {
            let asked = GenerateReportRequest { format: format.into(), ..request(framework, user) };
            let file = report(&suite.admin, asked).await.unwrap();
            if key.is_empty() {
                let head: Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
                head["verifier_key"].as_str().unwrap().clone_into(&mut key);
                assert!(file.contains("\"arguments\":\"{\\\"number\\\":3}\""), "the data themselves");
            }
            let (code, told) = check(&file, &export(&suite.admin).await, &key);
            assert!(code == 0 && told.contains("every row that it must have"), "{framework:?}: {told}");
            let (code, told) = check(&file.replacen("reported", "reportet", 1), "", &key);
            assert!(code != 0 || !file.contains("reported"), "{framework:?}: {told}");
        }
    }
    let status = report(&agent, request(Framework::Soc2Cc7, "")).await.unwrap_err();
    refused(Err::<(), _>(status), Code::PermissionDenied, ErrorReason::RoleRequired);
}

async fn a_review_is_evidence_in_reports(suite: &Suite) {
    let agent = called(suite, "reviewed").await;
    let event = suite.trail_of(&agent).await.into_iter().next().unwrap();
    let review = RecordReviewRequest {
        event_ids: vec![event.id.clone()],
        conclusion: "looked at, and found in order".into(),
        request_id: types::new_id().to_string(),
        ..RecordReviewRequest::default()
    };
    let first = suite.admin.audit().record_review(review.clone()).await.unwrap().into_inner();
    let again = suite.admin.audit().record_review(review).await.unwrap().into_inner();
    assert_eq!(first.event_id, again.event_id);
    let filter = QueryTrailRequest { action: Action::Reviewed.into(), ..QueryTrailRequest::default() };
    let told = suite.trail(filter).await;
    assert_eq!(told.iter().filter(|event| event.id == first.event_id).count(), 1);
    assert!(told[0].arguments_json.contains(&event.id));
    for framework in [Framework::Soc2Cc7, Framework::EuAiActRecords] {
        let file = report(&suite.admin, request(framework, "")).await.unwrap();
        let row = file.lines().find(|line| line.contains(&first.event_id)).unwrap();
        assert!(row.contains("looked at, and found in order"), "{row}");
    }
    let unknown = types::new_id().to_string();
    let review = RecordReviewRequest {
        event_ids: vec![unknown.clone()],
        conclusion: "x".into(),
        ..RecordReviewRequest::default()
    };
    let status = suite.admin.audit().record_review(review).await.unwrap_err();
    assert!(status.message().contains(&unknown));
    refused(Err::<(), _>(status), Code::NotFound, ErrorReason::NotFound);
}

async fn what_cannot_be_reported_is_refused(suite: &Suite) {
    called(suite, "refusing").await;
    let good = request(Framework::Soc2Cc7, "");
    for (field, wrong) in [
        ("framework", GenerateReportRequest { framework: 0, ..good.clone() }),
        ("format", GenerateReportRequest { format: 9, ..good.clone() }),
        ("start_time", GenerateReportRequest { start_time: None, ..good.clone() }),
        ("end_time", GenerateReportRequest { end_time: None, ..good.clone() }),
        ("end_time", GenerateReportRequest { end_time: good.start_time, ..good.clone() }),
        (
            "end_time",
            GenerateReportRequest { end_time: Some(wire(Utc::now() + TimeDelta::days(1))), ..good.clone() },
        ),
        ("user", GenerateReportRequest { framework: Framework::GdprAccess.into(), ..good.clone() }),
    ] {
        let status = report(&suite.admin, wrong).await.unwrap_err();
        assert!(status.message().contains(field), "{field}: {}", status.message());
        refused(Err::<(), _>(status), Code::InvalidArgument, ErrorReason::InvalidRequest);
    }
}
