//! Compares executions with the trail, and the trail with executions: every intent has one outcome there, or is explained,
//! and nothing is told of that nobody recorded. One process at a time, every minute, page by page; on demand as well.
//! Never mends anything: what is found is noted once, told in the trail, the log and health, and explained by what comes
//! later. Says nothing where the executor could not be asked.

mod demand;
mod look_again;
mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use opentelemetry::{KeyValue, metrics::Counter};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use demand::reconcile;
pub(crate) use standing::standing;

use crate::{
    Error,
    append::Journal,
    own,
    peers::{Intent, Peers, Range},
    store::{self, FindingRow, Watermark},
    verdict::{Kind, Verdict, verdict},
};

/// Intents, and records, compared at once.
const PAGE: i32 = 1_000;
/// Most executions of a team that are looked at again and again. With more of them the comparison waits where it is until
/// some have ended.
const MAX_UNENDED: i64 = 100_000;
/// How much older than its execution's id an event's id may seem, by clocks that differ.
const SKEW_MS: u64 = 10 * 60 * 1_000;

/// Compares, with what it needs for that. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(crate) struct Reconciler {
    pub database: Database,
    pub peers: Peers,
    pub journal: Journal,
    /// What is younger may be on its way.
    pub grace: TimeDelta,
    pub interval: Duration,
    found: Counter<u64>,
}

/// What a page of intents comes to.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Their events in the trail.
    pub events: i64,
    /// Executions to be looked at again.
    pub waiting: Vec<Uuid>,
    pub found: Vec<(Uuid, Kind, String)>,
}

impl Reconciler {
    pub(crate) fn new(
        database: Database,
        peers: Peers,
        journal: Journal,
        (grace, interval): (Duration, Duration),
    ) -> Self {
        let grace = TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
        let description = "What executions and trail do not agree on, as it was found";
        let meter = opentelemetry::global::meter("toolcrib");
        let found = meter.u64_counter("toolcrib.audit.findings").with_description(description).build();
        Self { database, peers, journal, grace, interval, found }
    }

    /// Compares until told to stop.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = stop.cancelled() => return,
            }
            let turn = async {
                if let Err(error) = self.turn().await {
                    tracing::warn!(%error, "executions cannot be compared with the trail; tried again later");
                }
            };
            tokio::select! {
                () = turn => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One turn over all teams, unless another process has it.
    pub(crate) async fn turn(&self) -> Result<(), Error> {
        let pool = self.database.pool()?;
        let mut lock = pool.begin().await.map_err(::store::Error::from)?;
        if !store::reconciliation_lock(&mut lock).await? {
            return Ok(());
        }
        let done = self.all().await;
        let failure = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let before = store::watermark_get(pool, "").await?;
        let now = Utc::now();
        let reconcile_time = match before {
            Some(before) if !failure.is_empty() => before.reconcile_time,
            _ => now,
        };
        let turn = Watermark { until_time: now, sequence: 0, executions: 0, reconcile_time, failure };
        store::watermark_put(pool, "", &turn).await?;
        done
    }

    /// Compares all, and tells of what was found so far, however that ended.
    async fn all(&self) -> Result<(), Error> {
        let compared = self.teams().await;
        let told = self.tell().await;
        compared.and(told)
    }

    /// A team that cannot be compared does not hold up the next, but a database or an executor that is away ends the turn.
    async fn teams(&self) -> Result<(), Error> {
        let to = Utc::now() - self.grace;
        let mut teams: BTreeSet<String> =
            store::trail_teams(self.database.pool()?).await?.into_iter().collect();
        teams.extend(self.peers.teams(to).await?);
        let mut failed = None;
        for team in teams {
            match self.team(&team, to).await {
                Ok(()) => {}
                Err(error @ (Error::Peer { .. } | Error::Store(::store::Error::Unavailable(_)))) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(team.id = team, %error, "this team's executions cannot be compared with its trail");
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn team(&self, team: &str, to: DateTime<Utc>) -> Result<(), Error> {
        let mut watermark = self.watermark(team).await?;
        self.look_again(team).await?;
        self.forward(team, to, &mut watermark).await?;
        self.backward(team, &mut watermark).await?;
        watermark.reconcile_time = Utc::now();
        Ok(store::watermark_put(self.database.pool()?, team, &watermark).await?)
    }

    /// How far the team is; one that is new begins with its first execution whose records are still there.
    async fn watermark(&self, team: &str) -> Result<Watermark, Error> {
        let pool = self.database.pool()?;
        if let Some(watermark) = store::watermark_get(pool, team).await? {
            return Ok(watermark);
        }
        let until_time = store::records_kept_since(pool, team).await?.unwrap_or(DateTime::UNIX_EPOCH);
        let reconcile_time = DateTime::UNIX_EPOCH;
        let failure = String::new();
        Ok(Watermark { until_time, sequence: 0, executions: 0, reconcile_time, failure })
    }

    /// From executions to the trail: each has its outcome there.
    async fn forward(&self, team: &str, to: DateTime<Utc>, watermark: &mut Watermark) -> Result<(), Error> {
        let pool = self.database.pool()?;
        let mut range = Range { after: None, from: watermark.until_time, to };
        let mut more = watermark.until_time < to;
        while more {
            if store::unended_add(pool, team, &[]).await? >= MAX_UNENDED {
                // Every team's health shows it: no team is named.
                let wait = format!("{MAX_UNENDED} executions of one team have not ended yet");
                return Err(Error::Unready(wait));
            }
            let (intents, rest) = self.peers.intents(team, &range, PAGE).await?;
            let compared = self.compare(team, &intents).await?;
            self.note(team, &compared.found).await?;
            store::unended_add(pool, team, &compared.waiting).await?;
            range.after = intents.last().map(|last| last.id);
            more = rest && range.after.is_some();
            watermark.executions += i64::try_from(intents.len()).unwrap_or(0);
            watermark.until_time = range.after.filter(|_| more).map_or(to, made);
            store::watermark_put(pool, team, watermark).await?;
        }
        Ok(())
    }

    /// From the trail to executions: each that it tells of is on record.
    async fn backward(&self, team: &str, watermark: &mut Watermark) -> Result<(), Error> {
        let pool = self.database.pool()?;
        while let Some(next) = self.known(team, watermark.sequence).await? {
            watermark.sequence = next;
            store::watermark_put(pool, team, watermark).await?;
        }
        Ok(())
    }

    /// Looks up the executions of the next records, and gives the last position; `None`: there are none. What an older
    /// version wrote is waited for until it is moved, to its own positions: it may do so at any time.
    async fn known(&self, team: &str, after: i64) -> Result<Option<i64>, Error> {
        let pool = self.database.pool()?;
        let ends = store::ends_get(pool, &[team.to_owned()]).await?;
        let Some((_, until)) = ends.first() else { return Ok(None) };
        let records = store::records_to_compare(pool, team, (after, *until), PAGE.into()).await?;
        let ids: BTreeSet<Uuid> = records.iter().filter_map(|record| record.execution_id).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let missing = self.missing(team, &ids).await?;
        self.note(team, &missing).await?;
        Ok(records.last().map(|last| last.sequence))
    }

    async fn missing(&self, team: &str, ids: &[Uuid]) -> Result<Vec<(Uuid, Kind, String)>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let known: BTreeSet<Uuid> =
            self.peers.intents_of(team, ids).await?.into_iter().map(|intent| intent.id).collect();
        let missing: Vec<Uuid> = ids.iter().copied().filter(|id| !known.contains(id)).collect();
        let Some(first) = missing.first() else { return Ok(Vec::new()) };
        let traces = store::traces_get(self.database.pool()?, team, &missing, floor(*first)).await?;
        let found = missing.iter().filter_map(|id| {
            let traces = traces.get(id).copied().unwrap_or_default();
            match verdict(None, traces, Utc::now(), self.grace) {
                Verdict::Found(kind, told) => Some((*id, kind, told)),
                Verdict::Sound | Verdict::Wait => None,
            }
        });
        Ok(found.collect())
    }

    /// Compares intents with what the trail tells of them.
    pub(crate) async fn compare(&self, team: &str, intents: &[Intent]) -> Result<Compared, Error> {
        let mut compared = Compared::default();
        let Some(first) = intents.iter().map(|intent| intent.id).min() else { return Ok(compared) };
        let ids: Vec<Uuid> = intents.iter().map(|intent| intent.id).collect();
        let traces = store::traces_get(self.database.pool()?, team, &ids, floor(first)).await?;
        let now = Utc::now();
        for Intent { id, known } in intents {
            let traces = traces.get(id).copied().unwrap_or_default();
            compared.events += traces.events;
            match verdict(Some(*known), traces, now, self.grace) {
                Verdict::Sound => {}
                Verdict::Wait => compared.waiting.push(*id),
                Verdict::Found(kind, told) => compared.found.push((*id, kind, told)),
            }
        }
        Ok(compared)
    }

    /// Notes what was found; what stands already is left as it is.
    pub(crate) async fn note(&self, team: &str, found: &[(Uuid, Kind, String)]) -> Result<(), Error> {
        let pool = self.database.pool()?;
        for (execution, kind, told) in found {
            let kind = kind.as_str();
            let message = format!("execution {execution}: {told}");
            if store::finding_open(pool, team, (kind, *execution), &message).await?.is_some() {
                self.found.add(1, &[KeyValue::new("kind", kind)]);
                tracing::error!(team.id = team, execution.id = %execution, kind, "executions and trail do not agree: {told}");
            }
        }
        let ids: Vec<Uuid> = found.iter().map(|(id, ..)| *id).collect();
        if !ids.is_empty() {
            store::unended_remove(pool, team, &ids).await?;
        }
        Ok(())
    }

    /// Tells the trail of what was found: the event has the id of the finding, and so is there once, however often it
    /// is told.
    pub(crate) async fn tell(&self) -> Result<(), Error> {
        let pool = self.database.pool()?;
        let untold = store::findings_untold(pool, PAGE.into()).await?;
        let mut by_team: BTreeMap<String, Vec<FindingRow>> = BTreeMap::new();
        for finding in untold {
            by_team.entry(finding.team_id.clone()).or_default().push(finding);
        }
        // A team whose trail takes nothing does not keep the others' from being told.
        let mut told = Ok(());
        for findings in by_team.into_values() {
            let ids: Vec<Uuid> = findings.iter().map(|finding| finding.id).collect();
            match self.journal.append(findings.into_iter().map(own::discrepancy).collect()).await {
                Ok(_) => store::findings_told(pool, &ids).await?,
                Err(error) => told = told.and(Err(error)),
            }
        }
        told
    }
}

/// When an id was made (RFC 9562, 5.7: the first 48 bits, in milliseconds).
fn made(id: Uuid) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(i64::try_from(id.as_u128() >> 80).unwrap_or(0)).unwrap_or_default()
}

/// The least id that an event of an execution can have.
fn floor(execution: Uuid) -> Uuid {
    let millis = (execution.as_u128() >> 80).saturating_sub(SKEW_MS.into());
    Uuid::from_u128(millis << 80)
}

/// The least id that is made at or after a time.
fn floor_at(at: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}
