//! Makes the first team, agent, grants and key, so that a fresh installation can be called. May run at
//! every start: it adds what is missing, and never brings back a grant that someone revoked.

use ::store::Database;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use types::{Caller, Role};

use crate::{
    Error, Keys,
    issue_key::{WantedKey, issue_key},
    names,
    store::{self, AgentRow, GrantRow},
};

/// Who made what is made here.
const MADE_BY: &str = "bootstrap";

/// What the specializations may call from the first day: calls an agent and clock hour.
const SEEDED: [(&str, &str, i64); 7] = [
    ("Researcher", "brave_web_search", 30),
    ("Researcher", "pandas_analyzer", 15),
    ("Analyzer", "brave_web_search", 30),
    ("Analyzer", "pandas_analyzer", 15),
    ("Technical Executor", "python_sandbox", 20),
    ("Technical Executor", "file_operations", 50),
    ("Content Creator", "file_operations", 50),
];

/// The first team and its first agent, an admin.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The team's name.
    pub team: String,
    /// The agent's name.
    pub agent: String,
    /// The agent's specialization.
    pub specialization: String,
    /// Tools that the agent may call without limit.
    pub tools: Vec<String>,
}

/// Makes what is missing and issues an API key for the agent, without end.
pub async fn bootstrap(database: &Database, keys: &Keys, wanted: &Bootstrap) -> Result<SecretString, Error> {
    names::name("team", &wanted.team)?;
    names::name("agent", &wanted.agent)?;
    names::specialization("specialization", &wanted.specialization)?;
    let now = Utc::now();
    let agent = AgentRow {
        agent_id: wanted.agent.clone(),
        specialization: wanted.specialization.clone(),
        role: Role::Admin.as_str().to_owned(),
        disabled: false,
        create_time: now,
    };
    let mut grants = Vec::new();
    for (specialization, tool, limit) in SEEDED {
        grants.push(grant(wanted, (None, Some(specialization.to_owned())), tool, limit, now));
    }
    for tool in &wanted.tools {
        names::tool("tools", tool)?;
        grants.push(grant(wanted, (Some(wanted.agent.clone()), None), tool, 0, now));
    }
    store::team_bootstrap(database.pool()?, &wanted.team, &agent, &grants).await?;
    let by = Caller {
        team: wanted.team.clone(),
        agent: MADE_BY.to_owned(),
        role: Role::Admin,
        ..Caller::service("permissions")
    };
    let key = WantedKey { agent: wanted.agent.clone(), ..WantedKey::default() };
    let issued = issue_key(database, keys, &by, key, now).await?;
    Ok(issued.key)
}

fn grant(
    wanted: &Bootstrap,
    holder: (Option<String>, Option<String>),
    tool: &str,
    max_per_hour: i64,
    now: DateTime<Utc>,
) -> GrantRow {
    let plain = GrantRow::plain(&wanted.team, holder, tool, (MADE_BY, now));
    GrantRow { max_per_hour, ..plain }
}
