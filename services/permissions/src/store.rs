//! The SQL of the permissions service, one file a table. The team's id is the first argument of every
//! function that reads or writes team data, and leads every condition; what a group commit writes names
//! its team row by row.

mod access_request;
mod agent;
mod budget;
mod budget_alert;
mod changes;
mod erasure;
mod grant;
mod key;
mod listen;
mod policy;
mod reservation;
mod settlement;
mod take;
mod tally;
mod usage;
mod webhook;

pub(crate) use sqlx::PgConnection as Connection;

pub(crate) use access_request::{
    AccessRequestFilter, AccessRequestRow, Conditions, DecisionRow, RevocationRow, access_request_complete,
    access_request_decide, access_request_end, access_request_find, access_request_get,
    access_request_insert, access_request_list, access_request_revoke, access_requests_count,
    access_requests_due, access_requests_expire, access_requests_purge, access_requests_use,
};
pub(crate) use agent::{
    AgentRow, agent_add, agent_get, agent_hold, agent_list, agent_update, other_admin_exists, revision_next,
    team_bootstrap, team_hold,
};
pub(crate) use budget::{Budget, budget_get, budget_set};
pub(crate) use budget_alert::{Alert, Spending, budget_alerts_insert, spending_list};
pub(crate) use changes::{Changes, changes_get};
pub(crate) use erasure::{
    Erased, ErasedRequest, Subject, is_in_outbox, user_deliveries_erase, user_requests_erase,
};
pub(crate) use grant::{GrantFilter, GrantRow, ListedGrant, grant_add, grant_end, grant_hold, grant_list};
pub(crate) use key::{
    HeldKey, KeyFilter, KeyOwner, KeyRow, NewKeyRow, key_hold, key_insert, key_is_live, key_list,
    key_owner_get, key_replace, key_revoke, key_uses_write,
};
pub(crate) use listen::{Decided, Listener, News, decided_tell};
pub(crate) use policy::{
    PolicyRow, policies_count, policy_end, policy_insert, policy_list, policy_newest, policy_versions,
};
pub(crate) use reservation::{
    Counter, Held, NewReservation, TakeRow, approved_hold, counters_make, reservations_insert,
};
pub(crate) use settlement::{Settlement, past_delete, reservations_expire, reservations_settle};
pub(crate) use take::places_take;
pub(crate) use tally::{Used, Windows, grants_used};
pub(crate) use usage::{
    GrantUse, ToolUse, UseKey, UseRow, use_add, use_by_grant, use_by_tool, use_delete, use_since,
};
pub(crate) use webhook::{
    Claimed, NewWebhook, WebhookKey, WebhookRow, deliveries_claim, deliveries_insert, deliveries_purge,
    delivery_failed, delivery_taken, webhook_disable, webhook_list, webhook_put, webhook_remove,
};

#[cfg(test)]
pub(crate) use budget::spend_get;
#[cfg(test)]
pub(crate) use reservation::counter_get;

/// Channel of the notifications; the payload is a revision, a space and the team it is of.
const CHANNEL: &str = "toolcrib_permissions";
/// Channel on which decisions on access requests are told; the payload is a `Decided` as JSON.
const DECIDED: &str = "toolcrib_permissions_decided";
