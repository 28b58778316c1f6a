//! Sets and tells what a team's calls may cost on a day (UTC). What calls spend is written with their
//! reservations, never here.

use ::store::Database;
use chrono::{DateTime, Utc};

use crate::{
    Error, names,
    store::{self, Budget},
    teams::Teams,
};

/// Sets the budget, from the next decision on; 0 ends it.
pub(crate) async fn set_budget(
    database: &Database,
    teams: &Teams,
    team: &str,
    daily_micro_usd: i64,
    now: DateTime<Utc>,
) -> Result<Budget, Error> {
    names::cost("daily_micro_usd", daily_micro_usd)?;
    let revision = store::budget_set(database.pool()?, team, daily_micro_usd, now).await?;
    teams.changed(team, revision);
    get_budget(database, team, now).await
}

/// The budget and what is used of it today.
pub(crate) async fn get_budget(database: &Database, team: &str, now: DateTime<Utc>) -> Result<Budget, Error> {
    Ok(store::budget_get(database.pool()?, team, now.date_naive()).await?)
}
