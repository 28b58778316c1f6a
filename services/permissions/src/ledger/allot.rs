//! What a batch's rows mean for each of its calls. Pure. A refusal is told only when it holds after all
//! that the batch granted: then it would hold one call at a time too.

use std::collections::HashMap;

use chrono::NaiveDate;

use crate::store::{Counter, Held, NewReservation, TakeRow, Used};

/// What became of a call's wish.
#[derive(Debug, Clone)]
pub(crate) enum Taken {
    /// All of it was taken: places and micro USD used, this call included.
    Granted { used: Used, budget_used: i64 },
    /// The execution holds this already; nothing more was taken.
    Held(Box<Held>),
    /// Of some counters no place is left.
    NoPlace(Full),
    /// The cost does not fit into the budget: so many micro USD are spent or reserved.
    NoBudget { used: i64 },
}

/// Places used of counters that are full; `None` of those that are not, or were not asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Full {
    pub hour: Option<i64>,
    pub day: Option<i64>,
    pub total: Option<i64>,
    /// Whether the approval for one call serves another one.
    pub approval: bool,
}

type Day<'a> = (&'a str, NaiveDate);
/// Places that a batch took, of each kind of counter.
type Places<'a> = [HashMap<Counter<'a>, i64>; 4];

fn day(wanted: &NewReservation) -> Option<Day<'_>> {
    Some((wanted.team_id.as_str(), wanted.day?))
}

/// Those that wait for a counter or a day that is not there yet.
pub(super) fn missing<'a>(batch: &[&'a NewReservation], rows: &[TakeRow]) -> Vec<&'a NewReservation> {
    let waits = |(wanted, row): &(&&NewReservation, &TakeRow)| {
        let no_counter =
            wanted.counters().iter().zip(row.before).any(|(of, before)| of.is_some() && before.is_none());
        let no_day = wanted.day.is_some() && row.budget_before.is_none();
        row.held.is_none() && (no_counter || no_day)
    };
    batch.iter().zip(rows).filter(waits).map(|(wanted, _)| *wanted).collect()
}

/// The answers in the order of the batch; `None` where the call must be asked for again.
pub(super) fn answers(batch: &[&NewReservation], rows: Vec<TakeRow>) -> Vec<Option<Taken>> {
    let (mut places, mut costs) = (Places::default(), HashMap::<Day, i64>::new());
    for (wanted, _) in batch.iter().zip(&rows).filter(|(_, row)| row.granted) {
        for (taken, counter) in places.iter_mut().zip(wanted.counters()) {
            if let Some((counter, _)) = counter {
                *taken.entry(counter).or_default() += 1;
            }
        }
        if let Some(day) = day(wanted) {
            *costs.entry(day).or_default() += wanted.cost_micro_usd;
        }
    }
    let cost_of = |wanted: &NewReservation| day(wanted).and_then(|key| costs.get(&key)).copied().unwrap_or(0);
    let answer = |(wanted, row): (&&NewReservation, TakeRow)| {
        if let Some(held) = row.held {
            return Some(Taken::Held(Box::new(held)));
        }
        if row.granted {
            return Some(Taken::Granted { used: row.used, budget_used: row.budget_used });
        }
        let full = full(wanted, &row, &places);
        if full != Full::default() {
            return Some(Taken::NoPlace(full));
        }
        let used = row.budget_before.map(|before| before + cost_of(wanted));
        let exceeds = |used: &i64| {
            wanted.cost_micro_usd > 0 && used.saturating_add(wanted.cost_micro_usd) > wanted.budget_limit
        };
        used.filter(exceeds).map(|used| Taken::NoBudget { used })
    };
    batch.iter().zip(rows).map(answer).collect()
}

fn full(wanted: &NewReservation, row: &TakeRow, places: &Places<'_>) -> Full {
    let mut used = [None; 4];
    for (kind, counter) in wanted.counters().into_iter().enumerate() {
        if let (Some((counter, most)), Some(before)) = (counter, row.before[kind]) {
            let now = before + places[kind].get(&counter).copied().unwrap_or(0);
            used[kind] = (now >= most).then_some(now);
        }
    }
    let [hour, day, total, approval] = used;
    Full { hour, day, total, approval: approval.is_some() }
}

#[cfg(test)]
mod tests;
