//! Reports against a real PostgreSQL and a real sequencer: each has the rows that SQL counts on its own, in every format,
//! is complete by an export, and is refused over a gap.

use std::{collections::BTreeMap, time::Duration};

use ::rpc::{ErrorReason, ServiceError};
use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use serde_json::Value;
use trail::{
    export::{self, Verifier as ExportVerifier},
    note::VerifierKey,
    report::{Checked, Completeness, Format, Framework, Verifier},
};
use types::{Caller, Role};
use uuid::Uuid;

use super::{
    event, event_of, journal,
    peers::Fakes,
    records,
    trees::{Keys, Process, settings},
};
use crate::{
    Error,
    append::Journal,
    config::RetentionDays,
    payload::Draft,
    query::first_id_of,
    reconcile::Reconciler,
    report::{Asked, Reports},
    review::{self, Review},
    store::{self, Watermark},
};

const TEAM: &str = "team";

struct House {
    database: Database,
    journal: Journal,
    keys: Keys,
    process: Process,
    reports: Reports,
    fakes: Fakes,
    start: DateTime<Utc>,
}

fn auditor() -> Caller {
    Caller { team: TEAM.into(), agent: "auditor".into(), role: Role::Auditor, ..Caller::service("x") }
}

impl House {
    async fn new() -> Self {
        let database = testkit::database(&[crate::schema()]).await;
        let keys = Keys::new();
        let process = Process::start(&database, &keys.checkpoints(settings())).await;
        let (journal, fakes) = (journal(&database), Fakes::default());
        let times = (Duration::from_secs(1), Duration::from_hours(1));
        let reports = Reports {
            database: database.clone(),
            journal: journal.clone(),
            signer: keys.signer(),
            reconciler: Reconciler::new(database.clone(), fakes.peers(), journal.clone(), times),
            retention: RetentionDays { public: 30, internal: 365, confidential: 0, restricted: 2_555 },
        };
        let start = DateTime::from_timestamp(Utc::now().timestamp() - 7_200, 0).unwrap();
        let house = Self { database, journal, keys, process, reports, fakes, start };
        house.compared(Utc::now() + TimeDelta::hours(1)).await;
        house
    }

    /// As if executions had been compared with the trail up to this time.
    async fn compared(&self, until_time: DateTime<Utc>) {
        let watermark = Watermark {
            until_time,
            sequence: 0,
            executions: 0,
            reconcile_time: Utc::now(),
            failure: String::new(),
        };
        store::watermark_put(self.database.pool().unwrap(), TEAM, &watermark).await.unwrap();
    }

    fn draft(&self, second: i64, user: &str, action: &str, result: &str) -> Draft {
        let mut draft = if user.is_empty() { event(TEAM, "a") } else { event_of(TEAM, user) };
        let at = self.start + TimeDelta::seconds(second);
        draft.record.event_time = at;
        draft.record.intent_time = Some(at);
        let id = first_id_of(at).as_u128() | 0x7000_8000_0000_0000_0000 | u128::from(rand::random::<u32>());
        draft.record.id = Uuid::from_u128(id);
        draft.record.action = action.into();
        draft.record.result = result.into();
        draft.record.reason = if result == "denied" { "NO_GRANT".into() } else { String::new() };
        draft.record.task_id = format!("task-{}", second % 3);
        draft.record.classification =
            ["public", "internal", "confidential", "restricted"][usize::try_from(second % 4).unwrap()].into();
        draft.payload.arguments_digest = types::digest_bytes(b"x");
        draft
    }

    /// A trail with every action and some hostile texts, a second apart.
    async fn filled() -> Self {
        let mut house = Self::new().await;
        let actions = [
            "tool_invoked",
            "permission_checked",
            "error_occurred",
            "cache_hit",
            "retry_attempted",
            "fallback_used",
            "access_decided",
            "permission_changed",
            "identity_changed",
            "policy_changed",
            "authentication_failed",
            "cache_miss",
            "definition_changed",
            "credential_rotated",
            "subject_erased",
            "reviewed",
            "retention_applied",
            "hold_changed",
            "discrepancy_found",
            "report_generated",
        ];
        let mut drafts = Vec::new();
        for second in 0..1_300_i64 {
            let at = usize::try_from(second).unwrap();
            let user = ["ada", "bob", ""][at % 3];
            let result = ["success", "success", "failure", "denied", "unknown"][at % 5];
            let mut draft = house.draft(second, user, actions[at % 7 % actions.len()], result);
            draft.record.action = actions[(at / 2) % actions.len()].into();
            if ["authentication_failed", "reviewed", "policy_changed"].contains(&draft.record.action.as_str())
            {
                draft.record.tool_name = String::new();
            }
            draft.payload.message =
                ["=1+1", "a,\"b\"\r\nc", "<script>alert(1)</script>", "plain"][at % 4].into();
            draft.record.agent_id = ["a", "-b", "<b>x</b>"][at % 3].into();
            drafts.push(draft);
        }
        house.append(drafts).await;
        house
    }

    async fn append(&mut self, drafts: Vec<Draft>) {
        for some in drafts.chunks(500) {
            self.journal.append(some.to_vec()).await.unwrap();
        }
        self.process.sequence().await;
    }

    fn asked(&self, framework: Framework, format: Format) -> Asked {
        let user = if framework.needs_subject() { "ada" } else { "" };
        let (start, end) = (self.start + TimeDelta::seconds(100), self.start + TimeDelta::seconds(1_200));
        Asked { framework, start, end, user: user.into(), format }.check(Utc::now()).unwrap()
    }

    async fn report(&self, asked: Asked) -> Result<String, Error> {
        let made = Box::pin(self.reports.generate(&auditor(), asked)).await?;
        let parts: Vec<_> = made.try_collect().await?;
        let bytes: Vec<u8> = parts.into_iter().flat_map(|part| part.content).collect();
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::parse(&self.keys.signer().verifier_key()).unwrap()
    }

    fn verify(&self, file: &str) -> Result<Checked, String> {
        let mut verifier = Verifier::new(vec![self.key()]);
        file.split_inclusive('\n').for_each(|line| verifier.read(line.as_bytes()));
        verifier.finish()
    }

    async fn export(&self) -> String {
        let asked = crate::export::Asked { headers_only: true, ..Default::default() };
        let signer = self.keys.signer();
        let parts =
            crate::export::export(&self.database, &self.journal, &signer, &auditor(), asked).await.unwrap();
        let parts: Vec<_> = parts.try_collect().await.unwrap();
        String::from_utf8(parts.into_iter().flat_map(|part| part.lines).collect()).unwrap()
    }

    /// Whether a report is complete by an export.
    fn complete(&self, report: &Checked, file: &str) -> Result<(), String> {
        let mut completeness = Completeness::new(report)?;
        let mut verifier = ExportVerifier::new(vec![self.key()], Vec::new());
        for line in file.split_inclusive('\n') {
            verifier.read(line.as_bytes());
            completeness.read(line.as_bytes(), &verifier);
        }
        let report: export::Report = verifier.finish();
        completeness.finish(&report)
    }

    /// Counts on its own, by SQL that shares nothing with the service's.
    async fn counted(&self, condition: &str, user: &str) -> i64 {
        let subject = self.journal.subjects.find(TEAM, user).await.unwrap();
        let sql = format!(
            "SELECT count(*) FROM audit.record WHERE team_id = 'team' AND event_time >= $1 AND event_time < $2
               AND $3::uuid IS NOT DISTINCT FROM $3 AND ({condition})"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(self.start + TimeDelta::seconds(100))
            .bind(self.start + TimeDelta::seconds(1_200))
            .bind(subject)
            .fetch_one(self.database.pool().unwrap())
            .await
            .unwrap()
    }

    async fn run(&self, sql: &str) {
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(self.database.pool().unwrap())
            .await
            .unwrap();
    }
}

/// What a report must count, as the law has it, in SQL.
const CONDITIONS: [(Framework, &str); 6] = [
    (Framework::GdprAccess, "subject_id = $3"),
    (Framework::GdprErasure, "action = 'subject_erased'"),
    (
        Framework::HipaaAuditControls,
        "action IN ('tool_invoked', 'cache_hit', 'retry_attempted', 'fallback_used', 'error_occurred',
                    'permission_checked', 'authentication_failed', 'access_decided', 'report_generated', 'reviewed',
                    'subject_erased')",
    ),
    (
        Framework::HipaaDisclosures,
        "subject_id = $3 AND tool_name <> '' AND action IN ('tool_invoked', 'retry_attempted', 'fallback_used')",
    ),
    (
        Framework::Soc2Cc7,
        "result <> 'success' OR action NOT IN ('tool_invoked', 'cache_hit', 'cache_miss', 'retry_attempted',
                                               'fallback_used', 'access_decided')",
    ),
    (
        Framework::EuAiActRecords,
        "action IN ('tool_invoked', 'cache_hit', 'retry_attempted', 'fallback_used', 'error_occurred',
                    'permission_checked', 'access_decided', 'reviewed')",
    ),
];

#[tokio::test]
async fn every_report_has_what_sql_counts_in_each_format_and_is_complete_by_an_export() {
    let house = House::filled().await;
    let export = house.export().await;
    for (framework, condition) in CONDITIONS {
        let counted = house.counted(condition, "ada").await;
        assert!(counted > 20, "{framework:?} {counted}");
        let file = house.report(house.asked(framework, Format::Jsonl)).await.unwrap();
        let checked = house.verify(&file).unwrap();
        assert_eq!(i64::try_from(checked.summary.rows).unwrap(), counted, "{framework:?}");
        house.complete(&checked, &export).unwrap();
        let csv = house.report(house.asked(framework, Format::Csv)).await.unwrap();
        let of_csv = house.verify(&csv).unwrap();
        assert_eq!(of_csv.summary.rows, checked.summary.rows);
        house.complete(&of_csv, &export).unwrap();
        assert_eq!(rows_of_csv(&csv), rows_of_jsonl(&file), "{framework:?}");
        // Nothing that a spreadsheet would run.
        let cells = csv.split(['\n', ',']).filter(|cell| cell.starts_with(['=', '+', '@']));
        assert_eq!(cells.count(), 0, "{framework:?}");
    }
}

#[tokio::test]
async fn processing_has_a_row_for_each_tool_and_classification_with_its_records() {
    let house = House::filled().await;
    let file = house.report(house.asked(Framework::GdprProcessing, Format::Jsonl)).await.unwrap();
    let checked = house.verify(&file).unwrap();
    house.complete(&checked, &house.export().await).unwrap();
    let rows: Vec<Value> = lines(&file).collect();
    let of = |name: &str| rows.iter().map(|row| row[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!((rows.len(), of("records")), (4, house.counted("tool_name <> ''", "ada").await));
    let of_class: BTreeMap<&str, &str> = rows
        .iter()
        .map(|row| (row["classification"].as_str().unwrap(), row["retention_days"].as_str().unwrap()))
        .collect();
    assert_eq!(
        of_class,
        [("confidential", "without limit"), ("internal", "365"), ("public", "30"), ("restricted", "2555")]
            .into()
    );
    assert_eq!(rows[0]["purposes"], "task-0; task-1; task-2");
    assert_eq!(rows[0]["data_subjects"], 2);
    let csv = house.report(house.asked(Framework::GdprProcessing, Format::Csv)).await.unwrap();
    house.complete(&house.verify(&csv).unwrap(), &house.export().await).unwrap();
    assert_eq!(rows_of_csv(&csv), rows_of_jsonl(&file));
}

#[tokio::test]
async fn a_page_is_signed_and_nothing_in_it_is_markup_of_others() {
    let mut house = House::filled().await;
    let mut hostile = house.draft(1_150, "", "tool_invoked", "denied");
    hostile.record.tool_name = "\"><img src=x onerror=alert(1)>".into();
    house.append(vec![hostile]).await;
    for framework in Framework::ALL {
        let page = house.report(house.asked(framework, Format::Html)).await.unwrap();
        let checked = house.verify(&page).unwrap();
        assert_eq!(
            page.matches("<script").count() + page.matches("<img").count() + page.matches("<b>").count(),
            0
        );
        assert!(page.contains("<svg") && page.contains(&house.keys.signer().verifier_key()));
        assert!(!page.contains("http://") && !page.contains("url("), "nothing from outside");
        assert!(page.contains(&format!("<dt>Rows</dt><dd>{}</dd>", checked.summary.rows)));
        let changed = page.replacen("<dt>Rows</dt>", "<dt>Row</dt>", 1);
        assert!(house.verify(&changed).unwrap_err().contains("digest"));
    }
}

#[tokio::test]
async fn whatever_is_changed_in_a_report_or_left_out_is_found() {
    let house = House::filled().await;
    let export = house.export().await;
    let file = house.report(house.asked(Framework::Soc2Cc7, Format::Jsonl)).await.unwrap();
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    for (what, changed) in [
        ("digest", file.replacen("\"result\":\"failure\"", "\"result\":\"success\"", 1)),
        ("digest", without(3)),
        ("digest", file.replacen("CC7.1 to CC7.5", "CC7.1 to CC7.4", 1)),
        ("no end", without(lines.len() - 1)),
        ("no end", format!("{file}{{}}\n")),
        ("signed", file.replacen("\\\"rows\\\":", "\\\"rows\\\":1", 1)),
        ("rows", file.replacen(",\"rows\":", ",\"rows\":1", 1)),
    ] {
        assert_ne!(changed, file);
        let wrong = house.verify(&changed).unwrap_err();
        assert!(wrong.contains(what) || what == "signed" && wrong.contains("signature"), "{what}: {wrong}");
    }
    let other = trail::note::SigningKey::generate("toolcrib").unwrap().verifier();
    let mut verifier = Verifier::new(vec![other]);
    for line in &lines {
        verifier.read(line.as_bytes());
    }
    assert!(verifier.finish().unwrap_err().contains("none of the keys"));
    // A report that was signed with a row too few is not complete by the export.
    let checked = house.verify(&file).unwrap();
    house.complete(&checked, &export).unwrap();
    house.run("UPDATE audit.record SET result = 'success', action = 'cache_miss' WHERE sequence = 203").await;
    let short = house.report(house.asked(Framework::Soc2Cc7, Format::Jsonl)).await.unwrap();
    let short = house.verify(&short).unwrap();
    assert!(house.complete(&short, &export).unwrap_err().contains("no row of record 202"));
}

#[tokio::test]
async fn a_gap_refuses_a_report_and_names_itself() {
    let house = House::filled().await;
    let soc2 = || house.asked(Framework::Soc2Cc7, Format::Jsonl);
    house.report(soc2()).await.unwrap();
    house.run("CREATE TABLE kept AS SELECT * FROM audit.record WHERE sequence IN (500, 501, 700)").await;
    house.run("DELETE FROM audit.record WHERE sequence IN (500, 501, 700)").await;
    let refused = house.report(soc2()).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::TrailGap, "{refused}");
    assert!(refused.to_string().contains("positions 500 to 501, 700"), "{refused}");
    // Ended retention is no gap; the header says what is left.
    house
        .run(
            "INSERT INTO audit.ended (team_id, first_sequence, last_sequence, event_id)
              SELECT 'team', a, b, gen_random_uuid() FROM (VALUES (500, 501), (700, 700)) AS t (a, b)",
        )
        .await;
    house.run("INSERT INTO audit.kept_since SELECT 'team', 'public', now() - interval '100 minutes'").await;
    let file = house.report(soc2()).await.unwrap();
    let head: Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
    assert_eq!(head["retention_ended"][0]["classification"], "public");
    assert_eq!(
        house.verify(&file).unwrap().summary.available_start_time,
        head["available_start_time"].as_str().unwrap()
    );
    // An execution that ended without an outcome.
    let execution = Uuid::from_u128(first_id_of(house.start + TimeDelta::seconds(300)).as_u128() | 7 << 76);
    store::finding_open(
        house.database.pool().unwrap(),
        TEAM,
        ("OUTCOME_MISSING", execution),
        "it ended, and the trail has no event",
    )
    .await
    .unwrap();
    let refused = house.report(soc2()).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::TrailGap);
    assert!(refused.to_string().contains(&execution.to_string()), "{refused}");
    house.run("UPDATE audit.finding SET resolve_time = now()").await;
    house.report(soc2()).await.unwrap();
    // One that the last comparison has not seen yet.
    house.run("DELETE FROM audit.kept_since").await;
    let unseen = Uuid::from_u128(first_id_of(house.start + TimeDelta::seconds(400)).as_u128() | 7 << 76);
    house.fakes.intent(TEAM, unseen, Some(house.start + TimeDelta::seconds(401)), None);
    house.compared(house.start).await;
    let refused = house.report(soc2()).await.unwrap_err();
    assert!(refused.to_string().contains(&unseen.to_string()), "{refused}");
    house.compared(Utc::now() + TimeDelta::hours(1)).await;
    house.run("UPDATE audit.finding SET resolve_time = now()").await;
    // What is not signed yet is waited for, and not left out.
    let late = house.draft(150, "", "policy_changed", "success");
    house.journal.append(vec![late]).await.unwrap();
    let refused = house.report(soc2()).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::NotSignedYet, "{refused}");
}

#[tokio::test]
async fn a_report_is_told_in_the_trail_without_the_name_and_an_unknown_user_has_none() {
    let mut house = House::filled().await;
    let mut asked = house.asked(Framework::GdprAccess, Format::Jsonl);
    house.report(asked.clone()).await.unwrap();
    asked.user = "eve".into();
    let file = house.report(asked).await.unwrap();
    assert_eq!(house.verify(&file).unwrap().summary.rows, 0);
    house.process.sequence().await;
    let told = super::trail(&house.database, &house.journal, TEAM).await;
    let of = &told[told.len() - 2];
    assert_eq!((of.action().as_str_name(), of.agent_id.as_str()), ("ACTION_REPORT_GENERATED", "auditor"));
    let subject = house.journal.subjects.find(TEAM, "ada").await.unwrap().unwrap();
    assert!(
        of.message.starts_with("report gdpr-access (jsonl) from ")
            && of.message.contains(&subject.to_string())
    );
    assert!(
        of.message.contains(" rows")
            && of.message.split(|c: char| !c.is_alphanumeric()).all(|word| word != "ada"),
        "{}",
        of.message
    );
}

#[tokio::test]
async fn a_review_is_on_record_once_and_names_what_is_not_there() {
    let mut house = House::filled().await;
    let ids: Vec<Uuid> = records(&house.database, TEAM).await.iter().take(3).map(|row| row.id).collect();
    let review = |event_ids: Vec<Uuid>, conclusion: &str| Review {
        event_ids,
        conclusion: conclusion.into(),
        follow_up: true,
        request_id: "r1".into(),
        ..Review::default()
    };
    let (database, journal) = (house.database.clone(), house.journal.clone());
    let record =
        async |review: Review| review::record(&database, &journal, &auditor(), review, Utc::now()).await;
    let unknown = types::new_id();
    let refused = record(review(vec![ids[0], unknown], "nothing")).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::NotFound);
    assert!(refused.to_string().contains(&unknown.to_string()), "{refused}");
    assert!(!refused.to_string().contains(&ids[0].to_string()));
    let first = record(review(ids.clone(), "odd")).await.unwrap();
    assert_eq!(record(review(ids.clone(), "odd")).await.unwrap().0, first.0);
    let other = record(review(ids.clone(), "even")).await.unwrap_err();
    assert_eq!(other.reason(), ErrorReason::RequestIdReused);
    for (field, wrong) in [
        ("event_ids", Review { conclusion: "x".into(), ..Review::default() }),
        ("conclusion", Review { event_ids: ids.clone(), ..Review::default() }),
        ("end_time", Review { conclusion: "x".into(), start_time: Some(house.start), ..Review::default() }),
        ("event_ids", Review { start_time: Some(house.start), ..review(ids.clone(), "x") }),
    ] {
        let refused = record(wrong).await.unwrap_err();
        assert!(matches!(&refused, Error::Invalid { field: of, .. } if of == field), "{refused:?}");
    }
    house.process.sequence().await;
    let told = super::trail(&house.database, &house.journal, TEAM).await;
    let reviewed: Vec<_> = told.iter().filter(|event| event.id == first.0.to_string()).collect();
    assert_eq!(
        (reviewed.len(), reviewed[0].message.as_str(), reviewed[0].reason.as_str()),
        (1, "odd", "FOLLOW_UP")
    );
    assert!(reviewed[0].arguments_json.contains(&ids[2].to_string()));
    for framework in [Framework::Soc2Cc7, Framework::EuAiActRecords] {
        house.process.sequence().await;
        let mut asked = house.asked(framework, Format::Jsonl);
        (asked.start, asked.end) = (asked.end, Utc::now());
        let file = house.report(asked).await.unwrap();
        assert!(lines(&file).any(|row| row["event_id"] == first.0.to_string()), "{framework:?}");
    }
}

/// The rows of JSON Lines.
fn lines(file: &str) -> impl Iterator<Item = Value> + '_ {
    let count = file.lines().count();
    file.lines().take(count - 1).skip(1).map(|line| serde_json::from_str(line).unwrap())
}

fn rows_of_jsonl(file: &str) -> Vec<Vec<String>> {
    let head: Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
    let names: Vec<String> = head["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap().into())
        .collect();
    lines(file)
        .map(|row| {
            let text = |name: &String| match &row[name.as_str()] {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            names.iter().map(text).collect()
        })
        .collect()
}

/// Reads CSV as RFC 4180 has it, and takes the apostrophe before formulas away.
fn rows_of_csv(file: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = file.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            other => field.push(other),
        }
    }
    let plain = |text: String| match text.strip_prefix('\'') {
        Some(formula) if formula.starts_with(['=', '+', '-', '@']) => formula.to_owned(),
        _ => text,
    };
    // Neither header, names nor end; the header's quotes are balanced.
    let count = rows.len();
    rows.into_iter().take(count - 1).skip(2).map(|row| row.into_iter().map(plain).collect()).collect()
}
