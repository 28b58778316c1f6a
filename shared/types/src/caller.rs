//! Who calls. Made by the edge from a verified credential; never from anything a client may write itself.

use serde::{Deserialize, Serialize};

use crate::UnknownWord;

/// The authenticated team and agent behind a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The tenant: every row and every query has it.
    pub team: String,
    /// The agent's name, unique in the team.
    pub agent: String,
    /// The agent's specialization, such as `Researcher`; may be empty.
    pub specialization: String,
    /// What the agent may do with the suite itself.
    pub role: Role,
    /// Id of the API key that was presented, or issuer and id of the token; empty for a service's own calls.
    pub key_id: String,
    /// What the key may be used for; empty: all that the role may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// The end user that the agent acts for, as its token or the agent itself says; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The service that calls, on its own behalf or the agent's; `None` for a call from outside.
    pub service: Option<String>,
}

impl Caller {
    /// The same caller, with a service of the suite speaking on its behalf.
    #[must_use]
    pub fn through(&self, service: &str) -> Self {
        Self { service: Some(service.to_owned()), ..self.clone() }
    }

    /// A service of the suite that speaks for itself, for every team.
    pub fn service(service: &str) -> Self {
        Self {
            team: String::new(),
            agent: String::new(),
            specialization: String::new(),
            role: Role::Agent,
            key_id: String::new(),
            scopes: Vec::new(),
            user: String::new(),
            service: Some(service.to_owned()),
        }
    }

    /// Whether what the caller presented may be used for this; a service's own calls may.
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.scopes.is_empty() || self.scopes.contains(&scope)
    }

    /// Whether a service of the suite made this call.
    pub fn is_service(&self) -> bool {
        self.service.is_some()
    }
}

/// What a caller may do with the suite itself; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Selects and calls tools.
    Agent,
    /// Reads every trail of the team.
    Auditor,
    /// Registers tools and servers.
    Operator,
    /// Grants and keys.
    Admin,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Auditor, Self::Operator, Self::Admin];

    /// The role's name, as stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| UnknownWord::new("role", word))
    }
}

/// A part of what a role may do, to which a key may be held. Each RPC that is not for services belongs to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Finds and reads tools and servers, and asks which may be called.
    ToolsRead,
    /// Selects and calls tools, asks for access, and follows its own calls.
    ToolsCall,
    /// Registers, changes and approves tools and servers.
    ToolsWrite,
    /// Reads executions and metrics.
    ExecutionsRead,
    /// Reads the trail, with its proofs, reports, use and costs.
    AuditRead,
    /// Puts reviews on record, erases data subjects, places and releases holds.
    AuditWrite,
    /// Reads agents, keys, grants, policies, access requests and budgets.
    PermissionsRead,
    /// Changes them, and decides access requests.
    PermissionsWrite,
    /// Puts, rotates and revokes credentials.
    CredentialsWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 9] = [
        Self::ToolsRead,
        Self::ToolsCall,
        Self::ToolsWrite,
        Self::ExecutionsRead,
        Self::AuditRead,
        Self::AuditWrite,
        Self::PermissionsRead,
        Self::PermissionsWrite,
        Self::CredentialsWrite,
    ];

    /// The scope's name, as stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToolsRead => "tools_read",
            Self::ToolsCall => "tools_call",
            Self::ToolsWrite => "tools_write",
            Self::ExecutionsRead => "executions_read",
            Self::AuditRead => "audit_read",
            Self::AuditWrite => "audit_write",
            Self::PermissionsRead => "permissions_read",
            Self::PermissionsWrite => "permissions_write",
            Self::CredentialsWrite => "credentials_write",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|scope| scope.as_str() == word);
        known.ok_or_else(|| UnknownWord::new("scope", word))
    }
}
