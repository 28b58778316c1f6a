//! The service against a real PostgreSQL: limits under concurrency, reservations, keys and grants.

mod access_requests;
mod authorize;
mod budget;
mod budget_alerts;
mod dry_run;
mod explaining;
mod follow;
mod grants;
mod identities;
mod keys;
mod limits;
mod matrix;
mod measure;
mod model;
mod policies;
mod registry;
mod repeat;
mod service;
mod settle;
mod tokens;
mod trail;
mod usage;
mod webhooks;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::rpc::ErrorReason;
use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use types::{Caller, Effect, Role, Sensitivity};
use uuid::Uuid;

use crate::{
    Error,
    access_requests::Registry,
    authorize::{ArgumentsText, Asked, Decision, Desk},
    create_agent::create_agent,
    grant_permission::{Grantee, NewGrant},
    ledger::Ledger,
    policies::{Policies, ToolFacts},
    store::{self, ListedGrant, Settlement},
    teams::Teams,
    update_agent::{AgentChange, update_agent},
};

const TTL: Duration = Duration::from_mins(15);

/// Half past noon of a day.
fn noon() -> DateTime<Utc> {
    "2026-11-22T12:30:00Z".parse().unwrap()
}

fn caller(agent: &str, role: Role) -> Caller {
    Caller { team: "t".into(), agent: agent.into(), role, service: None, ..Caller::service("x") }
}

/// A database with team `t`: `root` (admin), `scout` and `second` (Researcher) and `writer` (none).
async fn team() -> Database {
    let database = testkit::database(&[crate::schema()]).await;
    people(&database, "t").await;
    database
}

async fn people(database: &Database, team: &str) {
    let root = store::AgentRow {
        agent_id: "root".into(),
        specialization: String::new(),
        role: "admin".into(),
        disabled: false,
        create_time: noon(),
    };
    store::team_bootstrap(database.pool().unwrap(), team, &root, &[]).await.unwrap();
    let by = Caller { team: team.into(), ..caller("root", Role::Admin) };
    for (name, specialization) in [("scout", "Researcher"), ("second", "Researcher"), ("writer", "")] {
        let agent = (name, specialization, Role::Agent);
        create_agent(database, &Teams::new(database), &by, agent, noon()).await.unwrap();
    }
}

fn new_grant(grantee: Grantee, max_per_hour: i64) -> NewGrant {
    NewGrant {
        grantee: Some(grantee),
        tool_name: "python_sandbox".into(),
        max_per_hour,
        max_per_day: 0,
        max_total: 0,
        read_only: false,
        max_sensitivity: None,
        expire_time: None,
        hours: None,
        conditions: Vec::new(),
        approver_role: None,
        note: String::new(),
    }
}

fn to_agent(name: &str) -> Grantee {
    Grantee::Agent(name.into())
}

fn to_researchers() -> Grantee {
    Grantee::Specialization("Researcher".into())
}

async fn grant(database: &Database, grantee: Grantee, max_per_hour: i64) -> ListedGrant {
    let root = caller("root", Role::Admin);
    grant_permission(database, &root, new_grant(grantee, max_per_hour), noon()).await.unwrap()
}

fn asked(agent: &str) -> Asked {
    Asked {
        team: "t".into(),
        agent: agent.into(),
        tool: ToolFacts {
            name: "python_sandbox".into(),
            effect: Effect::SideEffect,
            sensitivity: Sensitivity::Internal,
        },
        tool_digest: "d".into(),
        user: String::new(),
        arguments: ArgumentsText::default(),
        arguments_digest: "a".into(),
        execution_id: types::new_id(),
        cost_micro_usd: 0,
        at_least_revision: 0,
    }
}

async fn authorize(database: &Database, asked: &Asked, now: DateTime<Utc>) -> Result<Decision, Error> {
    desk(database).authorize(asked, now).await
}

/// A process of its own: knows nothing yet, and hears of no changes.
fn desk(database: &Database) -> Desk {
    static POLICIES: OnceLock<Arc<Policies>> = OnceLock::new();
    let policies = POLICIES.get_or_init(|| Arc::new(Policies::load().unwrap()));
    Desk {
        policies: Arc::clone(policies),
        teams: Arc::new(Teams::new(database)),
        ledger: Ledger::start(database),
        reservation_ttl: TTL,
        usage: Arc::default(),
    }
}

async fn grant_permission(
    database: &Database,
    caller: &Caller,
    new: NewGrant,
    now: DateTime<Utc>,
) -> Result<ListedGrant, Error> {
    grant_with(database, &Teams::new(database), caller, new, now).await
}

/// The same by a process that knows these teams.
async fn grant_with(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    new: NewGrant,
    now: DateTime<Utc>,
) -> Result<ListedGrant, Error> {
    let (link, outgoing) = (registry::link(), registry::outgoing());
    let registry = Registry { link: &link, outgoing: &outgoing };
    crate::grant_permission::grant_permission(database, teams, &registry, caller, new, now).await
}

async fn revoke_permission(
    database: &Database,
    team: &str,
    grant: Uuid,
    now: DateTime<Utc>,
) -> Result<ListedGrant, Error> {
    let by = Caller { team: team.into(), ..caller("root", Role::Admin) };
    crate::grant_permission::revoke_permission(database, &Teams::new(database), &by, grant, now).await
}

/// Disables an agent of team `t`.
async fn disable(database: &Database, agent: &str) {
    let (root, teams) = (caller("root", Role::Admin), Teams::new(database));
    let change = AgentChange { disabled: Some(true), ..AgentChange::default() };
    update_agent(database, &teams, &root, agent, change, noon()).await.unwrap();
}

async fn settle(database: &Database, team: &str, decision: Uuid, committed: bool) -> Result<(), Error> {
    settle_at(database, team, decision, committed, 0).await
}

/// Settles a call that did cost so many micro USD.
async fn settle_at(
    database: &Database,
    team: &str,
    decision: Uuid,
    committed: bool,
    cost_micro_usd: i64,
) -> Result<(), Error> {
    let settlement =
        Settlement { team_id: team.to_owned(), decision_id: decision, committed, cost_micro_usd };
    crate::settle::settle(&Ledger::start(database), settlement).await
}

async fn reason(database: &Database, asked: &Asked, now: DateTime<Utc>) -> Option<ErrorReason> {
    authorize(database, asked, now).await.unwrap().reason
}

async fn used(database: &Database, grant: &ListedGrant, now: DateTime<Utc>) -> i64 {
    let window = crate::authorize::window_start(now);
    store::counter_get(database.pool().unwrap(), "t", grant.grant.grant_id, window).await
}

fn hour() -> TimeDelta {
    TimeDelta::hours(1)
}

fn random() -> Uuid {
    types::new_id()
}
