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
    /// The key does not tell who calls. It is never said why.
    #[error("the API key is missing or not valid")]
    Unauthenticated,
    /// A part that is not there yet.
    #[error("this is not there yet")]
    NotBuilt,
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
            Self::ExecutionReused { .. } => Kind::Precondition,
            Self::Unauthenticated => Kind::Unauthenticated,
            Self::Policies(_) | Self::NotBuilt => Kind::Internal,
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
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Policies(_)
            | Self::NotBuilt
            | Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => {
                ErrorReason::Internal
            }
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid { .. }
            | Self::NotFound { .. }
            | Self::AgentExists { .. }
            | Self::ExecutionReused { .. }
            | Self::Unauthenticated => self.to_string(),
            Self::Store(store::Error::Unavailable(_)) => "the database cannot be reached; try again".into(),
            Self::Policies(_)
            | Self::NotBuilt
            | Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => {
                "internal error".into()
            }
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        if let Self::Invalid { field, description } = self {
            let violation = FieldViolation { field: field.clone(), description: description.clone() };
            details.violations.push(violation);
        }
        details
    }
}
