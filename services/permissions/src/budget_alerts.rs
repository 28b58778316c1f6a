//! Tells once a day that a threshold of a team's budget was passed: an event in the trail, and a message to the team's
//! webhooks. What a reservation reaches is seen as it is written; what ended reservations and dead processes leave is
//! found by looking at the sums once a second. Whoever adds the alert's row tells of it in the same transaction, so that
//! no two processes do. Must never hold up a reservation.

use std::{collections::HashMap, time::Duration};

use ::store::{Database, Error as StoreError};
use chrono::{DateTime, Days, NaiveDate, SecondsFormat, Utc};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::Caller;

use crate::{
    Error,
    store::{self, Alert, NewReservation, Spending, TakeRow},
    trail::{self, Action, Event},
};

/// Percent of a day's budget.
const THRESHOLDS: [i32; 3] = [50, 80, 100];
/// Reason of the event.
const REASON: &str = "BUDGET_THRESHOLD";
/// How often sums are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Passings that may wait to be told; what does not fit is found by the sums.
const QUEUE: usize = 1_024;

/// Sees what reservations reach. Of each team it remembers the day and the highest threshold that it passed on.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    seen: HashMap<String, (NaiveDate, i32)>,
    /// `None`: nobody is told.
    passed: Option<mpsc::Sender<Spending>>,
}

/// What was seen, on its way to be told.
pub(crate) type Passed = mpsc::Receiver<Spending>;

impl Witness {
    /// One that tells, and where that arrives.
    pub(crate) fn new() -> (Self, Passed) {
        let (sender, passed) = mpsc::channel(QUEUE);
        (Self { passed: Some(sender), ..Self::default() }, passed)
    }

    /// Looks at what a batch reserved.
    pub(crate) fn see(&mut self, batch: &[&NewReservation], rows: &[TakeRow]) {
        let Some(passed) = &self.passed else { return };
        for (wanted, row) in batch.iter().zip(rows).filter(|(_, row)| row.granted) {
            let Some(day) = wanted.day else { continue };
            let level = highest(row.budget_used, wanted.budget_limit);
            let seen =
                self.seen.get(&wanted.team_id).filter(|(of, _)| *of == day).map_or(0, |(_, level)| *level);
            if level <= seen {
                continue;
            }
            let (team_id, used, limit) = (wanted.team_id.clone(), row.budget_used, wanted.budget_limit);
            if passed.try_send(Spending { team_id: team_id.clone(), day, used, limit }).is_ok() {
                self.seen.insert(team_id, (day, level));
            }
        }
    }
}

/// The highest threshold that so much of a limit has reached; 0: none.
fn highest(used: i64, limit: i64) -> i32 {
    reached(used, limit).last().unwrap_or(0)
}

fn reached(used: i64, limit: i64) -> impl Iterator<Item = i32> {
    let is_reached =
        move |percent: &i32| limit > 0 && i128::from(used) * 100 >= i128::from(limit) * i128::from(*percent);
    THRESHOLDS.into_iter().filter(is_reached)
}

/// Tells until told to stop.
pub(crate) async fn keep_told(database: Database, mut passed: Passed, stop: CancellationToken) {
    let mut was_away = false;
    loop {
        let seen = tokio::select! {
            () = stop.cancelled() => return,
            Some(spending) = passed.recv() => Some(spending),
            () = tokio::time::sleep(INTERVAL) => None,
        };
        let told = match seen {
            Some(spending) => tell(&database, &[spending], Utc::now()).await,
            None => sweep(&database, Utc::now()).await,
        };
        match told {
            Ok(_) => was_away = false,
            Err(error) if !std::mem::replace(&mut was_away, true) => {
                tracing::warn!(%error, "thresholds of budgets cannot be told; tried again later");
            }
            Err(_) => {}
        }
    }
}

/// Tells of what the sums of today and yesterday have reached, and gives how many thresholds that were: a call of
/// yesterday may end today.
pub(crate) async fn sweep(database: &Database, now: DateTime<Utc>) -> Result<usize, Error> {
    let since = now.date_naive() - Days::new(1);
    let spending = store::spending_list(database.pool()?, since).await?;
    if spending.is_empty() { Ok(0) } else { tell(database, &spending, now).await }
}

/// Tells of the thresholds that were not told yet, and gives how many those were.
async fn tell(database: &Database, spending: &[Spending], now: DateTime<Utc>) -> Result<usize, Error> {
    let alerts: Vec<Alert> = spending.iter().flat_map(alerts).collect();
    let mut transaction = database.pool()?.begin().await.map_err(StoreError::from)?;
    let new = store::budget_alerts_insert(&mut transaction, &alerts, now).await?;
    if new.is_empty() {
        return Ok(0);
    }
    let events: Vec<Event> = new.iter().map(event).collect();
    trail::record_all(&mut transaction, &events).await?;
    for alert in &new {
        store::deliveries_insert(&mut transaction, &alert.team_id, &body(alert, now), now).await?;
    }
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(new.len())
}

fn alerts(spending: &Spending) -> impl Iterator<Item = Alert> {
    let Spending { team_id, day, used, limit } = spending.clone();
    reached(used, limit).map(move |threshold_percent| Alert {
        team_id: team_id.clone(),
        day,
        threshold_percent,
        used,
        limit,
    })
}

fn event(alert: &Alert) -> Event {
    let own = Caller { team: alert.team_id.clone(), ..Caller::service("permissions") };
    let Alert { day, threshold_percent, used, limit, .. } = alert;
    let told = format!(
        "{threshold_percent} % of the team's budget of {day} are spent or reserved: {used} of {limit} millionths of a \
         US dollar"
    );
    Event { reason: REASON.to_owned(), ..trail::event(Action::PermissionChanged, &own, told) }
}

/// What webhooks are told (Standard Webhooks, "Payload structure").
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    team_id: &'a str,
    day: NaiveDate,
    threshold_percent: i32,
    used_micro_usd: i64,
    limit_micro_usd: i64,
}

fn body(alert: &Alert, now: DateTime<Utc>) -> String {
    let data = Data {
        team_id: &alert.team_id,
        day: alert.day,
        threshold_percent: alert.threshold_percent,
        used_micro_usd: alert.used,
        limit_micro_usd: alert.limit,
    };
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    // Texts, numbers and days are always JSON.
    serde_json::to_string(&Body { r#type: "budget.threshold", timestamp, data }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_reached_at_its_percent_and_not_before() {
        for (used, limit, expected) in [
            (0, 100, 0),
            (49, 100, 0),
            (50, 100, 50),
            (79, 100, 50),
            (80, 100, 80),
            (100, 100, 100),
            (999, 100, 100),
        ] {
            assert_eq!(highest(used, limit), expected, "{used} of {limit}");
        }
        assert_eq!((highest(1, 3), highest(2, 3), highest(5, 0)), (0, 50, 0));
        assert_eq!(highest(i64::MAX, i64::MAX), 100);
    }
}
