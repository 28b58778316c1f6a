//! What the permissions service refuses, and why. A denied call is no error: it is an answer.

use ::rpc::{Details, ErrorReason, FieldViolation, PageError, ServiceError};
use types::Kind;

/// A request that the permissions service cannot fulfil.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is wrong.
    #[error("invalid {field}: {description}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong and what is expected.
        description: String,
    },
    /// The named thing does not exist in the team.
    #[error("there is no {what} {name:?}; {hint}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its id or name.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// An agent of this name is there already, and is another one.
    #[error("agent {agent:?} exists with another specialization or role; choose another name")]
    AgentExists {
        /// Its name.
        agent: String,
    },
    /// The execution holds a place for another call: a decision is for one call alone.
    #[error(
        "execution {execution} was authorized for another call; give each call an execution id of its own"
    )]
    ExecutionReused {
        /// The execution.
        execution: uuid::Uuid,
    },
    /// The key or token does not tell who calls. It is never said why.
    #[error("the API key or token is missing or not valid")]
    Unauthenticated,
    /// What is asked for is for a higher role than the caller has, as it is asked.
    #[error("{what} needs role {}, or a higher one", needed.as_str())]
    RoleRequired {
        /// What it is.
        what: &'static str,
        /// The role that it takes.
        needed: types::Role,
    },
    /// What is asked for is for a higher role than the caller has.
    #[error(
        "that is for role {needed}, and nobody gives out a higher role than their own; an agent of that role can"
    )]
    RoleExceeded {
        /// The role that it takes.
        needed: String,
    },
    /// What is asked for would open more than the caller's own key does.
    #[error(
        "the presented key does not have scopes {missing}, and no key gives out more than it has; name some of {own}, \
         or present a key without scopes"
    )]
    ScopesExceeded {
        /// The scopes that it lacks.
        missing: String,
        /// Those that it has.
        own: String,
    },
    /// The change would leave the team to nobody.
    #[error("agent {agent:?} is the last enabled admin of the team; make or enable another one first")]
    LastAdmin {
        /// Its name.
        agent: String,
    },
    /// The key cannot be rotated.
    #[error("key {key_id:?} {why}")]
    NotRotatable {
        /// Its id.
        key_id: String,
        /// What became of it, and what to do.
        why: String,
    },
    /// What is asked for was given out by nobody that this process can read.
    #[error("the team is known up to revision {known} and revision {asked} was asked for; try again")]
    Behind {
        /// The revision that was asked for.
        asked: i64,
        /// The latest one that the database has.
        known: i64,
    },
    /// A secret cannot be sealed or opened.
    #[error("a secret cannot be sealed")]
    Sealing,
    /// An access request that is not taken, or a decision on one.
    #[error(transparent)]
    AccessRequest(#[from] crate::access_requests::Refusal),
    /// A policy that is not taken.
    #[error(transparent)]
    Policy(#[from] crate::put_policy::Refusal),
    /// Another service cannot be reached, or failed.
    #[error("{service} failed: {status}")]
    Peer {
        /// The service.
        service: &'static str,
        /// Its answer.
        status: String,
    },
    /// The settings of an issuer of tokens cannot be used.
    #[error("permissions.issuers: {name:?} cannot be used: {fault}")]
    Issuer {
        /// Its name.
        name: String,
        /// What is wrong.
        fault: String,
    },
    /// The embedded policies cannot be used.
    #[error("the platform's policies cannot be used: {0}")]
    Policies(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
    }

    pub(crate) fn peer(service: &'static str, status: impl std::fmt::Display) -> Self {
        Self::Peer { service, status: status.to_string() }
    }

    pub(crate) fn no_key(key_id: &str) -> Self {
        let hint = "its id is the third part of the key; see them with: toolcrib keys list --ended";
        Self::NotFound { what: "API key", name: key_id.to_owned(), hint }
    }

    pub(crate) fn no_agent(agent: &str) -> Self {
        let hint = "an admin can make it: toolcrib agents create";
        Self::NotFound { what: "agent", name: agent.to_owned(), hint }
    }
}

impl From<PageError> for Error {
    fn from(error: PageError) -> Self {
        Self::invalid(error.field(), error.to_string())
    }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::AgentExists { .. } => Kind::AlreadyExists,
            Self::ExecutionReused { .. } | Self::LastAdmin { .. } | Self::NotRotatable { .. } => {
                Kind::Precondition
            }
            Self::RoleRequired { .. } | Self::RoleExceeded { .. } | Self::ScopesExceeded { .. } => {
                Kind::Denied
            }
            Self::Unauthenticated => Kind::Unauthenticated,
            Self::Behind { .. } | Self::Peer { .. } => Kind::Unavailable,
            Self::AccessRequest(refusal) => refusal.kind(),
            Self::Policy(refusal) => refusal.kind(),
            Self::Policies(_) | Self::Issuer { .. } | Self::Sealing => Kind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid { .. } => ErrorReason::InvalidRequest,
            Self::NotFound { .. } => ErrorReason::NotFound,
            Self::AgentExists { .. } => ErrorReason::AlreadyExists,
            Self::ExecutionReused { .. } => ErrorReason::RequestIdReused,
            Self::Unauthenticated => ErrorReason::Unauthenticated,
            Self::Behind { .. } | Self::Peer { .. } => ErrorReason::ServiceUnavailable,
            Self::AccessRequest(refusal) => refusal.reason(),
            Self::Policy(refusal) => refusal.reason(),
            Self::RoleRequired { .. } | Self::RoleExceeded { .. } => ErrorReason::RoleRequired,
            Self::ScopesExceeded { .. } => ErrorReason::ScopeRequired,
            Self::LastAdmin { .. } => ErrorReason::LastAdmin,
            Self::NotRotatable { .. } => ErrorReason::KeyNotRotatable,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Policies(_)
            | Self::Issuer { .. }
            | Self::Sealing
            | Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => ErrorReason::Internal,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid { .. }
            | Self::AccessRequest(_)
            | Self::Policy(_)
            | Self::NotFound { .. }
            | Self::AgentExists { .. }
            | Self::ExecutionReused { .. }
            | Self::RoleRequired { .. }
            | Self::RoleExceeded { .. }
            | Self::ScopesExceeded { .. }
            | Self::LastAdmin { .. }
            | Self::NotRotatable { .. }
            | Self::Behind { .. }
            | Self::Unauthenticated => self.to_string(),
            Self::Peer { service, .. } => format!("the {service} service cannot be reached; try again"),
            Self::Store(store::Error::Unavailable(_)) => "the database cannot be reached; try again".into(),
            Self::Policies(_)
            | Self::Issuer { .. }
            | Self::Sealing
            | Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => "internal error".into(),
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::Invalid { field, description } => {
                let violation = FieldViolation { field: field.clone(), description: description.clone() };
                details.violations.push(violation);
            }
            Self::AccessRequest(refusal) => return refusal.details(),
            Self::Policy(refusal) => return refusal.details(),
            _ => {}
        }
        details
    }
}
