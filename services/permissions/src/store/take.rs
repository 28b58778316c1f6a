//! Places in counters alone, taken for many calls in one statement: the common case, which asks less of the
//! database than `reservation.rs`. Nothing is taken here for a call that would cost a part of a budget.

use std::collections::HashMap;

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{NewReservation, TakeRow, Used};

/// Takes places for calls of different executions that ask for a place of an hour and nothing else, and answers in the order of the
/// batch, as `reservations_insert` does. `None` when one of the executions holds a place already: then
/// nothing was taken, and `reservations_insert` is to be asked.
pub(crate) async fn places_take(
    connection: &mut PgConnection,
    batch: &[&NewReservation],
) -> Result<Option<Vec<TakeRow>>, Error> {
    let Columns { counters, keys, places } = Columns::of(batch);
    let rows = sqlx::query_file!(
        "src/store/places_take.sql",
        &keys,
        &places,
        &column(batch, |wanted| wanted.decision_id) as &[Uuid],
        &column(batch, |wanted| wanted.execution_id) as &[Uuid],
        &column(batch, |wanted| wanted.tool_name.as_str()) as &[&str],
        &column(batch, |wanted| wanted.tool_digest.as_str()) as &[&str],
        &column(batch, |wanted| wanted.arguments_digest.as_str()) as &[&str],
        &column(batch, |wanted| wanted.quota_limit) as &[i64],
        &column(batch, |wanted| wanted.expire_time) as &[DateTime<Utc>],
        &column(&counters, |wanted| wanted.team_id.as_str()) as &[&str],
        &column(&counters, |wanted| wanted.grant_id) as &[Uuid],
        &column(&counters, |wanted| wanted.agent_id.as_str()) as &[&str],
        &column(&counters, |wanted| wanted.window_start) as &[DateTime<Utc>],
        i64::try_from(batch.len()).unwrap_or(i64::MAX),
    )
    .fetch_all(connection)
    .await?;
    let answers = rows.into_iter().map(|row| TakeRow {
        held: None,
        granted: row.granted,
        before: [row.counter_used, None, None, None],
        used: Used { hour: row.used, ..Used::default() },
        budget_before: None,
        budget_used: 0,
    });
    let answers: Vec<_> = answers.collect();
    Ok((answers.len() == batch.len()).then_some(answers))
}

fn column<'a, T>(batch: &[&'a NewReservation], field: impl Fn(&'a NewReservation) -> T) -> Vec<T> {
    batch.iter().map(|wanted| field(wanted)).collect()
}

/// A batch, arranged by the counters that it asks of.
struct Columns<'a> {
    /// One call of each counter.
    counters: Vec<&'a NewReservation>,
    /// The counter of each call, from 1.
    keys: Vec<i32>,
    /// How many calls of the batch ask of the same counter up to each, itself included.
    places: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(batch: &[&'a NewReservation]) -> Self {
        let mut columns = Self { counters: Vec::new(), keys: Vec::new(), places: Vec::new() };
        let mut known: HashMap<_, (i32, i64)> = HashMap::new();
        for wanted in batch {
            let counter = (&wanted.team_id, wanted.grant_id, &wanted.agent_id, wanted.window_start);
            let (key, place) = known.entry(counter).or_insert_with(|| {
                columns.counters.push(wanted);
                (i32::try_from(columns.counters.len()).unwrap_or(i32::MAX), 0)
            });
            *place += 1;
            columns.keys.push(*key);
            columns.places.push(*place);
        }
        columns
    }
}
