//! Ends the retention of records, month by month and classification by classification: the table of a month is dropped
//! once its newest possible record is old enough, or, where a legal hold is about some of it, or some of it is not signed,
//! all but those is deleted.
//! What ends is told first, in the same transaction: an event a team that names the positions by a digest, which itself
//! becomes a leaf. Hashes of leaves stay, so that old proofs verify, and so do sums of use and costs, which hold no
//! personal data. Must never take away a record that is not under a signed checkpoint.
//!
//! How long is kept is the operator's to say, by the law that binds them. HIPAA asks for six years (45 CFR
//! 164.316(b)(2)(i)), which is why RESTRICTED has seven; the EU AI Act for six months at least (Regulation 2024/1689,
//! Art. 19(1) and 26(6)).

use std::{collections::BTreeMap, time::Duration};

use ::store::Database;
use chrono::{DateTime, Months, TimeDelta, Utc};
use proto::audit::v1::{Action, Result as Outcome};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    append::Journal,
    config::RetentionDays,
    payload::Draft,
    query::{EARLY, first_id_of},
    store::{self, EndingRow, MonthRow, Span},
};

/// How often it is looked for months that end.
const INTERVAL: Duration = Duration::from_hours(24);
/// The same after a failure.
const SOON: Duration = Duration::from_mins(1);

/// What ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub month: String,
    pub classification: &'static str,
    pub records: i64,
    /// Records that stay: holds keep them, their time is not over though that of their ids is, or they are not signed.
    pub held: i64,
}

/// What a leaf tells of the records whose retention has ended: as JSON, in the message of its payload.
#[derive(Debug, Serialize)]
struct Told<'a> {
    classification: &'a str,
    month: &'a str,
    records: i64,
    /// SHA-256 of their positions in order, 8 bytes each, big-endian; in hex.
    digest: String,
}

/// Ends what is over, at once and then once a day, until told to stop.
pub(crate) async fn keep_applied(
    database: Database,
    journal: Journal,
    days: RetentionDays,
    stop: CancellationToken,
) {
    loop {
        let pause = match apply(&database, &journal, days, Utc::now()).await {
            Ok(ended) => {
                for Ended { month, classification, records, held } in ended {
                    tracing::info!(month, classification, records, held, "retention of records has ended");
                }
                INTERVAL
            }
            Err(error) => {
                tracing::warn!(%error, "the retention of records cannot be ended; tried again later");
                SOON
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Ends every month that is over at this time.
pub(crate) async fn apply(
    database: &Database,
    journal: &Journal,
    days: RetentionDays,
    now: DateTime<Utc>,
) -> Result<Vec<Ended>, Error> {
    let mut ended = Vec::new();
    let signed = store::tree_sizes(database.pool()?).await?;
    for (classification, days) in days.by_classification() {
        let Some(cutoff) = cutoff(days, now) else { continue };
        let months =
            store::months_list(database.pool()?, classification, (cutoff, first_id_of(cutoff))).await?;
        for month in months {
            let Some(end) = month.start.checked_add_months(Months::new(1)) else { continue };
            if end + EARLY <= cutoff {
                let span = Span {
                    classification: classification.to_owned(),
                    from: first_id_of(month.start),
                    before: first_id_of(end),
                    until: end + EARLY,
                    signed: signed.clone(),
                };
                ended.extend(end_month(database, journal, &month, (&span, classification)).await?);
            }
        }
    }
    Ok(ended)
}

/// What happened before this has been kept for long enough; `None`: nothing ever has.
fn cutoff(days: u32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if days == 0 { None } else { now.checked_sub_signed(TimeDelta::days(days.into())) }
}

/// Ends one month of one classification. Nothing: there is nothing to end, or it must wait.
async fn end_month(
    database: &Database,
    journal: &Journal,
    month: &MonthRow,
    (span, classification): (&Span, &'static str),
) -> Result<Option<Ended>, Error> {
    let pool = database.pool()?;
    let mut transaction = pool.begin().await.map_err(::store::Error::from)?;
    // One process at a time, and no hold in between: what is counted now is what ends.
    if !store::retention_lock_in_txn(&mut transaction).await? {
        return Ok(None);
    }
    store::plan_anew_in_txn(&mut transaction).await?;
    store::holds_lock_in_txn(&mut transaction).await?;
    let mut ending = Ending::default();
    store::records_ending(&mut transaction, span, |row| ending.add(&row)).await?;
    if let Some(team) = &ending.unsigned_team {
        tracing::warn!(team, classification, "records are not signed; their retention ends when they are");
    }
    if ending.count() == 0 && (ending.held > 0 || !month.is_own) {
        return Ok(None);
    }
    let name = month.start.format("%Y-%m").to_string();
    let mut drafts = Vec::with_capacity(ending.teams.len());
    for (team, of_team) in &ending.teams {
        if of_team.records > 0 {
            let since = span.until - EARLY;
            store::kept_since_set_in_txn(&mut transaction, team, classification, since).await?;
            let draft = of_team.told(team, classification, &name);
            store::ended_insert_in_txn(&mut transaction, team, &of_team.ranges, draft.record.id).await?;
            drafts.push(draft);
        }
    }
    // A record that came late into a month that is over shows as a difference: then all is done again, another time.
    let is_whole = month.is_own && ending.held == 0;
    let there = if is_whole {
        store::month_lock_in_txn(&mut transaction, month.start, span).await?
    } else {
        store::records_delete_in_txn(&mut transaction, span).await?
    };
    if there != (ending.count(), ending.sum) {
        return Ok(None);
    }
    if is_whole {
        store::month_drop_in_txn(&mut transaction, month.start, classification).await?;
    }
    // Not before the lock of the drop: writers wait for the head of their team with a lock of the trail, so that whoever
    // holds the head and waits for the trail would never get it.
    if !drafts.is_empty() {
        journal.append_in_txn(&mut transaction, &drafts).await?;
    }
    transaction.commit().await.map_err(::store::Error::from)?;
    let (records, held) = (ending.count(), ending.held);
    let is_news = records > 0 || month.is_own && held == 0;
    Ok(is_news.then_some(Ended { month: name, classification, records, held }))
}

/// What ends, by team.
#[derive(Debug, Default)]
struct Ending {
    teams: BTreeMap<String, OfTeam>,
    held: i64,
    /// Of all positions.
    sum: i64,
    /// A team of which records stay since they are not signed.
    unsigned_team: Option<String>,
}

#[derive(Debug, Default)]
struct OfTeam {
    records: i64,
    digest: Sha256,
    /// First and last positions.
    ranges: Vec<(i64, i64)>,
}

impl Ending {
    /// Adds a record: teams and positions come in order.
    fn add(&mut self, row: &EndingRow) {
        if row.is_unsigned && self.unsigned_team.is_none() {
            self.unsigned_team = Some(row.team_id.clone());
        }
        if row.is_held {
            self.held += 1;
            return;
        }
        let of_team = self.teams.entry(row.team_id.clone()).or_default();
        self.sum += row.sequence;
        of_team.records += 1;
        of_team.digest.update(row.sequence.to_be_bytes());
        match of_team.ranges.last_mut() {
            Some((_, last)) if *last + 1 == row.sequence => *last = row.sequence,
            _ => of_team.ranges.push((row.sequence, row.sequence)),
        }
    }

    fn count(&self) -> i64 {
        self.teams.values().map(|of_team| of_team.records).sum()
    }
}

impl OfTeam {
    fn told(&self, team: &str, classification: &str, month: &str) -> Draft {
        let digest = hex::encode(self.digest.clone().finalize());
        let told = Told { classification, month, records: self.records, digest };
        // Texts and numbers are always JSON.
        let message = serde_json::to_string(&told).unwrap_or_default();
        Draft::own(team, "", Action::RetentionApplied, Outcome::Success, message)
    }
}

/// The id of the event that tells of a position is found by `audit.ended`; this is how the digest there is made.
#[cfg(test)]
pub(crate) fn digest_of(positions: &[i64]) -> String {
    let bytes: Vec<u8> = positions.iter().flat_map(|position| position.to_be_bytes()).collect();
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(team: &str, sequence: i64, is_held: bool) -> EndingRow {
        EndingRow { team_id: team.into(), sequence, is_held, is_unsigned: false }
    }

    #[test]
    fn positions_become_ranges_and_a_digest_and_held_ones_neither() {
        let mut ending = Ending::default();
        for row in
            [row("a", 3, false), row("a", 4, false), row("a", 5, true), row("a", 7, false), row("b", 1, true)]
        {
            ending.add(&row);
        }
        assert_eq!((ending.count(), ending.held, ending.sum), (3, 2, 14));
        let a = &ending.teams["a"];
        assert_eq!(a.ranges, [(3, 4), (7, 7)]);
        let told: serde_json::Value =
            serde_json::from_str(&a.told("a", "internal", "2026-01").payload.message).unwrap();
        let expected = serde_json::json!({
            "classification": "internal", "month": "2026-01", "records": 3, "digest": digest_of(&[3, 4, 7])
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn no_days_are_for_ever() {
        let now = Utc::now();
        assert_eq!((cutoff(0, now), cutoff(1, now)), (None, Some(now - TimeDelta::days(1))));
    }
}
