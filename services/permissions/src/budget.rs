//! Sets and tells what a team's calls may cost on a day (UTC). What calls spend is written with their
//! reservations, never here.

use ::store::Database;
use chrono::{DateTime, Utc};
use types::Caller;

use crate::{
    Error, names,
    store::{self, Budget},
    teams::Teams,
    trail::{self, Action},
};

/// Sets the budget, from the next decision on; 0 ends it.
pub(crate) async fn set_budget(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    daily_micro_usd: i64,
    now: DateTime<Utc>,
) -> Result<Budget, Error> {
    names::cost("daily_micro_usd", daily_micro_usd)?;
    let team = caller.team.as_str();
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    let revision = store::budget_set(&mut transaction, team, daily_micro_usd, now).await?;
    let told = match daily_micro_usd {
        0 => "the team has no budget any more".to_owned(),
        daily => format!("the team's calls may cost {daily} millionths of a US dollar a day"),
    };
    trail::record(&mut transaction, &trail::event(Action::PermissionChanged, caller, told)).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(team, revision);
    get_budget(database, team, now).await
}

/// The budget and what is used of it today.
pub(crate) async fn get_budget(database: &Database, team: &str, now: DateTime<Utc>) -> Result<Budget, Error> {
    Ok(store::budget_get(database.pool()?, team, now.date_naive()).await?)
}
