//! Exports against a real PostgreSQL, checked by the code that reads them anywhere: whole ones, and those of a database
//! that somebody has meddled with.

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use proto::audit::v1::{Action, Result as Outcome};
use trail::export::{Ended, EndedDigest, Report, Verifier};
use types::{Caller, Role};
use uuid::Uuid;

use super::{
    event, event_of, journal,
    trees::{Keys, Process, settings},
};
use crate::{
    Error, Signer,
    append::Journal,
    export::{Asked, export},
    payload::Draft,
    store,
};

struct Trail {
    database: Database,
    journal: Journal,
    signer: Signer,
    process: Process,
}

impl Trail {
    async fn new() -> Self {
        let database = testkit::database(&[crate::schema()]).await;
        let keys = Keys::new();
        let process = Process::start(&database, &keys.checkpoints(settings())).await;
        Self { journal: journal(&database), signer: keys.signer(), database, process }
    }

    /// A trail with so many events, a second apart, every third for a user.
    async fn with(count: i64) -> Self {
        let mut trail = Self::new().await;
        let drafts = (0..count).map(|each| {
            let mut draft = if each % 3 == 0 { event_of("team", "ada") } else { event("team", "a") };
            draft.record.event_time = at(each);
            draft.record.id = id_at(each);
            draft
        });
        trail.append(drafts.collect()).await;
        trail
    }

    async fn append(&mut self, drafts: Vec<Draft>) {
        for some in drafts.chunks(500) {
            self.journal.append(some.to_vec()).await.unwrap();
        }
        self.process.sequence().await;
    }

    async fn export(&self, asked: Asked) -> Result<String, Error> {
        let caller = Caller {
            team: "team".into(),
            agent: "auditor".into(),
            role: Role::Auditor,
            ..Caller::service("x")
        };
        let parts = export(&self.database, &self.journal, &self.signer, &caller, asked).await?;
        let parts: Vec<_> = parts.try_collect().await?;
        let last = parts.last().unwrap();
        assert_eq!(last.records, last.total);
        let bytes: Vec<u8> = parts.into_iter().flat_map(|part| part.lines).collect();
        Ok(String::from_utf8(bytes).unwrap())
    }

    async fn verified(&self, asked: Asked) -> Report {
        self.verify(&self.export(asked).await.unwrap())
    }

    fn verify(&self, file: &str) -> Report {
        let key = trail::note::VerifierKey::parse(&self.signer.verifier_key()).unwrap();
        let mut verifier = Verifier::new(vec![key], Vec::new());
        for line in file.split_inclusive('\n') {
            verifier.read(line.as_bytes());
        }
        verifier.finish()
    }

    async fn meddle(&self, sql: &'static str) {
        let done = sqlx::query(sql).execute(self.database.pool().unwrap()).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn id_at(second: i64) -> Uuid {
    let milliseconds = u64::try_from(at(second).timestamp_millis()).unwrap();
    Uuid::from_u64_pair(milliseconds << 16 | 0x7000, 0x8000_0000_0000_0000 | rand::random::<u64>() >> 2)
}

#[tokio::test]
async fn an_export_is_whole_and_holds_no_more_than_it_must() {
    let trail = Trail::with(600).await;
    let file = trail.export(Asked::default()).await.unwrap();
    let report = trail.verify(&file);
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!((report.proven, report.payloads, report.erased), (600, 600, 0));
    assert!(file.contains("\"user\":\"ada\""));
    // That it was made is an event of the trail itself.
    let head = store::head_get(trail.database.pool().unwrap(), "team").await.unwrap();
    assert_eq!(head, 601);
    let file = trail.export(Asked { headers_only: true, ..Asked::default() }).await.unwrap();
    let report = trail.verify(&file);
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!((report.proven, report.payloads), (600, 0));
    assert!(!file.contains("\"payload\"") && !file.contains("\"salt\""));
}

#[tokio::test]
async fn a_time_is_exported_from_its_first_event_to_its_last() {
    let trail = Trail::with(600).await;
    for (start, end, range) in [
        (Some(100), Some(300), 100..300),
        (Some(599), None, 599..600),
        (None, Some(1), 0..1),
        (Some(700), None, 600..600),
        (None, Some(0), 600..600),
    ] {
        let asked = Asked { start_time: start.map(at), end_time: end.map(at), headers_only: false };
        let report = trail.verified(asked).await;
        assert!(report.is_whole(), "{:?}", report.faults);
        let manifest = report.manifest.unwrap();
        assert_eq!(manifest.begin..manifest.end, range);
        assert_eq!(report.proven, range.end - range.start);
    }
    let backwards = Asked { start_time: Some(at(2)), end_time: Some(at(2)), headers_only: false };
    let refused = trail.export(backwards).await.unwrap_err();
    assert!(matches!(&refused, Error::Invalid { field, .. } if field == "end_time"), "{refused:?}");
}

#[tokio::test]
async fn without_a_checkpoint_there_is_nothing_to_export() {
    let mut trail = Trail::new().await;
    let none = trail.export(Asked::default()).await.unwrap_err();
    assert!(matches!(none, Error::NotFound { .. }), "{none:?}");
    trail.journal.append(vec![event("team", "a")]).await.unwrap();
    let early = trail.export(Asked::default()).await.unwrap_err();
    assert!(matches!(early, Error::NotSignedYet(_)), "{early:?}");
    trail.process.sequence().await;
    assert_eq!(trail.verified(Asked::default()).await.proven, 1);
}

#[tokio::test]
async fn what_somebody_changed_in_the_database_is_found_in_the_file() {
    let trail = Trail::with(600).await;
    let first = |report: &Report| {
        let fault = report.first().unwrap();
        (fault.kind.name(), fault.index, report.fault_count)
    };
    trail.meddle("UPDATE audit.record SET result = 'denied' WHERE sequence = 101").await;
    assert_eq!(first(&trail.verified(Asked::default()).await), ("ALTERED", Some(100), 1));
    trail.meddle("UPDATE audit.record SET result = 'success' WHERE sequence = 101").await;
    assert!(trail.verified(Asked::default()).await.is_whole());
    trail.meddle("UPDATE audit.record SET payload = set_byte(payload, 60, get_byte(payload, 60) # 1) WHERE sequence = 102").await;
    assert_eq!(first(&trail.verified(Asked::default()).await), ("PAYLOAD_UNEXPECTED", Some(101), 1));
    trail.meddle("DELETE FROM audit.record WHERE sequence = 102").await;
    assert_eq!(first(&trail.verified(Asked::default()).await), ("MISSING", Some(101), 1));
    trail
        .meddle(
            "UPDATE audit.tile SET hashes = set_byte(hashes, 300, get_byte(hashes, 300) # 1)
                  WHERE level = 0 AND tile_index = 1",
        )
        .await;
    let report = trail.verified(Asked::default()).await;
    assert_eq!((report.faults[1].kind.name(), report.faults[1].index), ("HASHES_ALTERED", Some(256)));
    assert_eq!(report.proven, 599 - 256);
}

#[tokio::test]
async fn what_was_erased_or_has_ended_leaves_its_hash_and_is_told() {
    let mut trail = Trail::with(300).await;
    let subject: Uuid = sqlx::query_scalar("SELECT subject_id FROM audit.record WHERE sequence = 1")
        .fetch_one(trail.database.pool().unwrap())
        .await
        .unwrap();
    sqlx::query("UPDATE audit.record SET payload = NULL WHERE subject_id = $1")
        .bind(subject)
        .execute(trail.database.pool().unwrap())
        .await
        .unwrap();
    let report = trail.verified(Asked::default()).await;
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!((report.proven, report.payloads, report.erased, report.erased_unshown), (300, 200, 100, 100));
    let mut erased = Draft::own("team", "admin", Action::SubjectErased, Outcome::Success, String::new());
    erased.record.subject_id = Some(subject);
    let positions = [11, 12, 14];
    let mut digest = EndedDigest::new();
    for position in positions {
        digest.push(position);
    }
    let told = Ended {
        classification: "internal".into(),
        month: "2026-01".into(),
        records: 3,
        digest: digest.finish(),
    };
    let ended = Draft::own("team", "", Action::RetentionApplied, Outcome::Success, told.message());
    let event_id = ended.record.id;
    sqlx::query("DELETE FROM audit.record WHERE sequence IN (11, 12, 14)")
        .execute(trail.database.pool().unwrap())
        .await
        .unwrap();
    sqlx::query("INSERT INTO audit.ended (team_id, first_sequence, last_sequence, event_id) VALUES ('team', 11, 12, $1), ('team', 14, 14, $1)")
        .bind(event_id)
        .execute(trail.database.pool().unwrap())
        .await
        .unwrap();
    trail.journal.append(vec![erased, ended]).await.unwrap();
    let meanwhile = trail.export(Asked::default()).await.unwrap_err();
    assert!(matches!(meanwhile, Error::Unready(_)), "the event is in no tree yet: {meanwhile:?}");
    trail.process.sequence().await;
    let report = trail.verified(Asked::default()).await;
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!((report.erased_unshown, report.ended, report.ended_unshown), (0, 3, 0));
    sqlx::query("UPDATE audit.ended SET last_sequence = 15 WHERE first_sequence = 14")
        .execute(trail.database.pool().unwrap())
        .await
        .unwrap();
    trail.meddle("DELETE FROM audit.record WHERE sequence = 15").await;
    let report = trail.verified(Asked::default()).await;
    assert_eq!(report.first().unwrap().kind.name(), "NOT_ENDED", "one more than its event tells of");
    let later = Asked { start_time: Some(at(100) + TimeDelta::milliseconds(1)), ..Asked::default() };
    assert!(trail.verified(later).await.is_whole());
}
