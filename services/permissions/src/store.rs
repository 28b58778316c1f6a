//! The SQL of the permissions service, one file a table. The team's id is the first argument of every
//! function that reads or writes team data, and leads every condition; what a group commit writes names
//! its team row by row.

mod agent;
mod budget;
mod changes;
mod grant;
mod key;
mod listen;
mod reservation;
mod settlement;
mod take;

pub(crate) use sqlx::PgConnection as Connection;

pub(crate) use agent::{AgentRow, agent_get, agent_insert, team_bootstrap};
pub(crate) use budget::{Budget, budget_get, budget_set};
pub(crate) use changes::{Changes, changes_get, counters_used};
pub(crate) use grant::{GrantFilter, GrantRow, ListedGrant, grant_insert, grant_list, grant_revoke};
pub(crate) use key::{NewKeyRow, key_insert, key_owner_get, key_revoke};
pub(crate) use listen::{Listener, News};
pub(crate) use reservation::{Held, NewReservation, TakeRow, counters_make, reservations_insert};
pub(crate) use settlement::{Settlement, past_delete, reservations_expire, reservations_settle};
pub(crate) use take::places_take;

#[cfg(test)]
pub(crate) use agent::agent_disable;
#[cfg(test)]
pub(crate) use budget::spend_get;
#[cfg(test)]
pub(crate) use reservation::counter_get;

/// Channel of the notifications; the payload is a revision, a space and the team it is of.
const CHANNEL: &str = "toolcrib_permissions";
