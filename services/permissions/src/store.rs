//! The SQL of the permissions service, one file a table. The team's id is the first argument of every
//! function that reads or writes team data, and leads every condition.

mod agent;
mod grant;
mod key;
mod reservation;
mod standing;

pub(crate) use agent::{AgentRow, agent_get, agent_insert, team_bootstrap};
pub(crate) use grant::{GrantFilter, GrantRow, ListedGrant, grant_insert, grant_list, grant_revoke};
pub(crate) use key::{NewKeyRow, key_insert, key_owner_get, key_revoke};
pub(crate) use reservation::{
    NewReservation, past_delete, reservation_insert, reservation_settle, reservations_expire,
};
pub(crate) use standing::{Held, Standing, standing_get};

#[cfg(test)]
pub(crate) use agent::agent_disable;
#[cfg(test)]
pub(crate) use reservation::counter_get;
