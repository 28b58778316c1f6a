//! What the registry refuses, and why.

use ::rpc::{Details, ErrorReason, FieldViolation, PageError, ServiceError};
use types::Kind;

/// A request that the registry cannot fulfil.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields are wrong: all of them are named.
    #[error("{}", sentence(.0))]
    Invalid(Vec<FieldViolation>),
    /// No such tool.
    #[error("there is no tool {key:?}{}", suggestion(.nearest))]
    ToolNotFound {
        /// The name or id asked for.
        key: String,
        /// Names that come near it, nearest first.
        nearest: Vec<String>,
    },
    /// The tool has no such version.
    #[error("tool {name} has no version {version:?}; its newest is {newest}")]
    VersionNotFound {
        /// The tool.
        name: String,
        /// The version asked for.
        version: String,
        /// The newest there is.
        newest: String,
    },
    /// No such MCP server.
    #[error("there is no MCP server {0:?}; ListServers names those there are")]
    ServerNotFound(String),
    /// The version exists with another definition.
    #[error(
        "tool {name} {version} is registered with another definition, and the definition of a version \
         never changes: give a greater version, or none"
    )]
    VersionExists {
        /// The tool.
        name: String,
        /// The version.
        version: String,
    },
    /// The server exists with another transport or other defaults.
    #[error("MCP server {0} is registered with another transport or other defaults; remove it first")]
    ServerExists(String),
    /// The tool is kept by the discovery of a server.
    #[error("tool {name} is kept by MCP server {server}; register it under another name")]
    Kept {
        /// The tool.
        name: String,
        /// The server.
        server: String,
    },
    /// The settings changed since the caller read them.
    #[error("the settings of tool {0} changed since they were read; read the tool again, then change them")]
    EtagMismatch(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What is stored cannot be read, or what was checked cannot be written.
    #[error("a definition cannot be encoded")]
    Encoding(#[from] serde_json::Error),
    /// A blocking task of our own did not end.
    #[error("a background task failed")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), description: description.into() }])
    }
}

fn sentence(violations: &[FieldViolation]) -> String {
    let each: Vec<String> = violations.iter().map(|v| format!("{} {}", v.field, v.description)).collect();
    format!("invalid: {}", each.join("; "))
}

fn suggestion(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; did you mean {}?", nearest.join(", ")) }
}

impl From<PageError> for Error {
    fn from(error: PageError) -> Self {
        Self::invalid(error.field(), error.to_string())
    }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::Invalid,
            Self::ToolNotFound { .. } | Self::VersionNotFound { .. } | Self::ServerNotFound(_) => {
                Kind::NotFound
            }
            Self::VersionExists { .. } | Self::ServerExists(_) => Kind::AlreadyExists,
            Self::Kept { .. } | Self::EtagMismatch(_) => Kind::Precondition,
            Self::Store(error) => error.kind(),
            Self::Encoding(_) | Self::Task(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid(_) => ErrorReason::InvalidRequest,
            Self::ToolNotFound { .. } | Self::VersionNotFound { .. } => ErrorReason::ToolNotFound,
            Self::ServerNotFound(_) => ErrorReason::NotFound,
            Self::VersionExists { .. } | Self::ServerExists(_) | Self::Kept { .. } => {
                ErrorReason::AlreadyExists
            }
            Self::EtagMismatch(_) => ErrorReason::EtagMismatch,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_))
            | Self::Encoding(_)
            | Self::Task(_) => ErrorReason::Internal,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid(_)
            | Self::ToolNotFound { .. }
            | Self::VersionNotFound { .. }
            | Self::ServerNotFound(_)
            | Self::VersionExists { .. }
            | Self::ServerExists(_)
            | Self::Kept { .. }
            | Self::EtagMismatch(_) => self.to_string(),
            Self::Store(store::Error::Unavailable(_)) => "the database cannot be reached; try again".into(),
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_))
            | Self::Encoding(_)
            | Self::Task(_) => "internal error".into(),
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::Invalid(violations) => details.violations.clone_from(violations),
            Self::Kept { name, server } => {
                details.precondition = Some(("KEPT_BY_SERVER".into(), name.clone(), server.clone()));
            }
            Self::EtagMismatch(name) => {
                let told = "its etag is another now";
                details.precondition = Some(("ETAG_MISMATCH".into(), name.clone(), told.into()));
            }
            Self::ToolNotFound { .. }
            | Self::VersionNotFound { .. }
            | Self::ServerNotFound(_)
            | Self::VersionExists { .. }
            | Self::ServerExists(_)
            | Self::Store(_)
            | Self::Encoding(_)
            | Self::Task(_) => {}
        }
        details
    }
}
