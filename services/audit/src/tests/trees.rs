//! Trails of records without the services that send them, for tests of what is made of them.

use std::path::Path;

use ::store::{Database, Kept};
use chrono::{DateTime, TimeDelta, Utc};
use reach::Authorities;
use trail::{Compact, Hash, leaf_hash, note::SigningKey};
use uuid::Uuid;

use crate::{
    Checkpoints, Signer,
    config::{CheckpointConfig, HttpMethod, OnFailure, S3Config},
    leaf,
    sequencer::{Sequencer, Turn},
    store::{self, Connection, RecordRow},
    subjects::Subjects,
};

/// Settings without a place.
pub(crate) fn settings() -> CheckpointConfig {
    CheckpointConfig {
        places: Vec::new(),
        copy_interval_s: 1,
        timeout_ms: 2_000,
        on_failure: OnFailure::Alarm,
        block_after_s: 5,
        http_method: HttpMethod::Put,
        http_token: None,
        accept_rollback: Vec::new(),
        s3: S3Config {
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            allow_http: true,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
        },
    }
}

/// The key of this test, the same for each of its processes.
pub(crate) struct Keys(String);

impl Keys {
    pub(crate) fn new() -> Self {
        Self(SigningKey::generate("toolcrib").unwrap().private_key())
    }

    pub(crate) fn signer(&self) -> Signer {
        Signer::of(SigningKey::parse(&self.0).unwrap(), Vec::new(), "toolcrib")
    }

    /// What a process of these settings has.
    pub(crate) fn checkpoints(&self, settings: CheckpointConfig) -> Checkpoints {
        Checkpoints::new(self.signer(), settings, &Authorities::default()).unwrap()
    }
}

/// One process that sequences when it is told to.
pub(crate) struct Process {
    pub sequencer: Sequencer,
    pub connection: Connection,
    pub epoch: i64,
}

impl Process {
    /// Takes the place, which must be free.
    pub(crate) async fn start(database: &Database, checkpoints: &Checkpoints) -> Self {
        let mut connection = Kept::durable(database).take().await.unwrap();
        let epoch = store::sequencer_take(&mut connection).await.unwrap().expect("nobody else sequences");
        checkpoints.begin_anew();
        Self { sequencer: sequencer(database, checkpoints), connection, epoch }
    }

    /// Turns until nothing more waits.
    pub(crate) async fn sequence(&mut self) {
        for _ in 0..100 {
            match self.sequencer.turn(&mut self.connection, self.epoch).await.unwrap() {
                Turn::Done => return,
                Turn::More => {}
                Turn::Fenced => panic!("fenced"),
            }
        }
        panic!("no end of turns");
    }
}

pub(crate) fn sequencer(database: &Database, checkpoints: &Checkpoints) -> Sequencer {
    Sequencer::new(
        database.clone(),
        checkpoints.clone(),
        Subjects::new(database.clone(), Path::new("")),
        (std::time::Duration::from_millis(50), 300),
    )
}

/// Adds so many records to a team's trail, as if they had been appended.
pub(crate) async fn append(database: &Database, team: &str, count: i64) {
    let pool = database.pool().unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let head: i64 = sqlx::query_scalar(
        "INSERT INTO audit.head AS h (team_id, sequence) VALUES ($1, $2)
         ON CONFLICT (team_id) DO UPDATE SET sequence = h.sequence + excluded.sequence RETURNING sequence",
    )
    .bind(team)
    .bind(count)
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    for sequence in head - count + 1..=head {
        record_insert(&mut transaction, &record(team, sequence)).await;
    }
    transaction.commit().await.unwrap();
}

pub(crate) fn record(team: &str, sequence: i64) -> RecordRow {
    let at = DateTime::<Utc>::from_timestamp_micros(1_800_000_000_000_000).unwrap();
    RecordRow {
        team_id: team.into(),
        id: types::new_id(),
        classification: "internal".into(),
        sequence,
        event_time: at + TimeDelta::microseconds(sequence),
        action: "tool_invoked".into(),
        result: "success".into(),
        agent_id: "a".into(),
        tool_name: "echo".into(),
        tool_version: "1.0.0".into(),
        tool_digest: "d".into(),
        execution_id: Some(Uuid::now_v7()),
        task_id: "t".into(),
        trace_id: String::new(),
        reason: String::new(),
        duration_us: 1_500,
        cost_micro_usd: 7,
        decision_id: None,
        intent_time: Some(at),
        subject_id: None,
        payload_hmac: vec![7; 32],
        payload: Some(vec![1]),
    }
}

async fn record_insert(connection: &mut Connection, record: &RecordRow) {
    sqlx::query(
        "INSERT INTO audit.record (team_id, id, classification, sequence, event_time, action, result, agent_id,
             tool_name, tool_version, tool_digest, execution_id, task_id, trace_id, reason, duration_us,
             cost_micro_usd, decision_id, intent_time, subject_id, payload_hmac, payload)
         VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22)",
    )
    .bind(&record.team_id)
    .bind(record.id)
    .bind(&record.classification)
    .bind(record.sequence)
    .bind(record.event_time)
    .bind(&record.action)
    .bind(&record.result)
    .bind(&record.agent_id)
    .bind(&record.tool_name)
    .bind(&record.tool_version)
    .bind(&record.tool_digest)
    .bind(record.execution_id)
    .bind(&record.task_id)
    .bind(&record.trace_id)
    .bind(&record.reason)
    .bind(record.duration_us)
    .bind(record.cost_micro_usd)
    .bind(record.decision_id)
    .bind(record.intent_time)
    .bind(record.subject_id)
    .bind(&record.payload_hmac)
    .bind(&record.payload)
    .execute(connection)
    .await
    .unwrap();
}

/// The leaves of a team, in order, and their hashes, out of the records alone.
pub(crate) async fn leaves(database: &Database, team: &str) -> Vec<(RecordRow, Hash)> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM audit.record WHERE team_id = $1 ORDER BY sequence")
            .bind(team)
            .fetch_all(database.pool().unwrap())
            .await
            .unwrap();
    let mut found = Vec::new();
    for id in ids {
        let record = store::record_by_id(database.pool().unwrap(), team, id).await.unwrap().unwrap();
        let hash = leaf_hash(&leaf::header(&record).leaf());
        found.push((record, hash));
    }
    found
}

/// The root over these leaves, computed without tiles.
pub(crate) fn root(leaves: &[(RecordRow, Hash)]) -> Hash {
    let mut compact = Compact::default();
    for (_, hash) in leaves {
        compact.push(*hash);
    }
    compact.root()
}

/// Rows that a condition counts.
pub(crate) async fn count(database: &Database, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(database.pool().unwrap()).await.unwrap()
}

/// Does something to the database behind the suite's back.
pub(crate) async fn meddle(database: &Database, statements: &'static str) {
    sqlx::raw_sql(statements).execute(database.pool().unwrap()).await.unwrap();
}
