//! What a batch's rows mean for each of its calls. Pure. A refusal is told only when it holds after all
//! that the batch granted: then it would hold one call at a time too.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use crate::store::{Held, NewReservation, TakeRow};

/// What became of a call's wish.
#[derive(Debug, Clone)]
pub(crate) enum Taken {
    /// All of it was taken: places and micro USD used, this call included.
    Granted { used: i64, budget_used: i64 },
    /// The execution holds this already; nothing more was taken.
    Held(Box<Held>),
    /// No place is left: so many are used.
    NoPlace { used: i64 },
    /// The cost does not fit into the budget: so many micro USD are spent or reserved.
    NoBudget { used: i64 },
}

type Counter<'a> = (&'a str, Uuid, &'a str, DateTime<Utc>);
type Day<'a> = (&'a str, NaiveDate);

fn counter(wanted: &NewReservation) -> Option<Counter<'_>> {
    let key = (wanted.team_id.as_str(), wanted.grant_id, wanted.agent_id.as_str(), wanted.window_start);
    (wanted.quota_limit > 0).then_some(key)
}

fn day(wanted: &NewReservation) -> Option<Day<'_>> {
    Some((wanted.team_id.as_str(), wanted.day?))
}

/// Those that wait for a counter or a day that is not there yet.
pub(super) fn missing<'a>(batch: &[&'a NewReservation], rows: &[TakeRow]) -> Vec<&'a NewReservation> {
    let waits = |(wanted, row): &(&&NewReservation, &TakeRow)| {
        let no_counter = wanted.quota_limit > 0 && row.counter_used.is_none();
        let no_day = wanted.day.is_some() && row.budget_before.is_none();
        row.held.is_none() && (no_counter || no_day)
    };
    batch.iter().zip(rows).filter(waits).map(|(wanted, _)| *wanted).collect()
}

/// The answers in the order of the batch; `None` where the call must be asked for again.
pub(super) fn answers(batch: &[&NewReservation], rows: Vec<TakeRow>) -> Vec<Option<Taken>> {
    let (mut places, mut costs) = (HashMap::<Counter, i64>::new(), HashMap::<Day, i64>::new());
    for (wanted, _) in batch.iter().zip(&rows).filter(|(_, row)| row.granted) {
        if let Some(counter) = counter(wanted) {
            *places.entry(counter).or_default() += 1;
        }
        if let Some(day) = day(wanted) {
            *costs.entry(day).or_default() += wanted.cost_micro_usd;
        }
    }
    let taken_of =
        |wanted: &NewReservation| counter(wanted).and_then(|key| places.get(&key)).copied().unwrap_or(0);
    let cost_of = |wanted: &NewReservation| day(wanted).and_then(|key| costs.get(&key)).copied().unwrap_or(0);
    let answer = |(wanted, row): (&&NewReservation, TakeRow)| {
        if let Some(held) = row.held {
            return Some(Taken::Held(Box::new(held)));
        }
        if row.granted {
            return Some(Taken::Granted { used: row.used, budget_used: row.budget_used });
        }
        let used = row.counter_used.map(|before| before + taken_of(wanted));
        if let Some(used) = used.filter(|used| counter(wanted).is_some() && *used >= wanted.quota_limit) {
            return Some(Taken::NoPlace { used });
        }
        let used = row.budget_before.map(|before| before + cost_of(wanted));
        let full = |used: &i64| {
            wanted.cost_micro_usd > 0 && used.saturating_add(wanted.cost_micro_usd) > wanted.budget_limit
        };
        used.filter(full).map(|used| Taken::NoBudget { used })
    };
    batch.iter().zip(rows).map(answer).collect()
}

#[cfg(test)]
mod tests;
