//! What the registry refuses, and why.

use std::time::Duration;

use ::rpc::{Details, ErrorReason, FieldViolation, Full, PageError, ServiceError};
use types::Kind;

use crate::credentials::KeysError;

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
    /// The program, or a variable of it, is not allowed.
    #[error(transparent)]
    NotAllowed(#[from] mcp::NotAllowed),
    /// A server that was to be verified does not answer.
    #[error("MCP server {name} does not answer and is not kept: {reason}")]
    Unreachable {
        /// The server.
        name: String,
        /// Why.
        reason: String,
    },
    /// A gRPC server whose methods were to be imported cannot be asked.
    #[error("the gRPC server at {endpoint} cannot be asked what it offers: {reason}")]
    GrpcServer {
        /// Its address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The tool is kept by the discovery of a server.
    #[error(
        "tool {name} is kept by MCP server {server}, and {provider} cannot provide one of the same name: \
         register it under another"
    )]
    Kept {
        /// The tool.
        name: String,
        /// Who would have provided it.
        provider: String,
        /// The server.
        server: String,
    },
    /// The digest is not that of the definition that waits.
    #[error(
        "the definition of tool {name} that waits for approval has another digest: {digest}; look at it again, \
         then decide"
    )]
    DigestMismatch {
        /// The tool.
        name: String,
        /// The digest of the one that waits.
        digest: String,
    },
    /// There is nothing to decide.
    #[error("no definition of tool {0} waits for approval")]
    NothingPending(String),
    /// The settings changed since the caller read them.
    #[error("the settings of tool {0} changed since they were read; read the tool again, then change them")]
    EtagMismatch(String),
    /// The permissions service did not decide; said to the log only.
    #[error("permissions gave no decision: {0}")]
    Undecided(String),
    /// No such credential.
    #[error("there is no credential {0:?}; ListCredentials names those there are")]
    CredentialNotFound(String),
    /// The credential has no such version.
    #[error("credential {name} has no version {version}; ListCredentials shows those it has")]
    CredentialVersionNotFound {
        /// The credential.
        name: String,
        /// The version asked for.
        version: i32,
    },
    /// The credential cannot be used now.
    #[error("credential {name} {why}")]
    CredentialUnavailable {
        /// The credential.
        name: String,
        /// Why; never with a secret.
        why: String,
        /// When it may be asked for again; `None`: when someone has mended it.
        retry_after: Option<Duration>,
    },
    /// The keys that credentials are kept under cannot be used.
    #[error(transparent)]
    CredentialKeys(#[from] KeysError),
    /// A secret cannot be sealed, or what is sealed does not open.
    #[error("a credential cannot be sealed or opened")]
    Sealing,
    /// As many watches are open as may be.
    #[error("{whose} has {most} watches open, as many as it may; end one, or try again")]
    TooManyWatches {
        /// The team or the process.
        whose: &'static str,
        /// So many may be.
        most: usize,
    },
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

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        match full {
            Full::One(most) => Self::TooManyWatches { whose: "this team", most },
            Full::All(most) => Self::TooManyWatches { whose: "this process", most },
        }
    }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::Invalid,
            Self::ToolNotFound { .. } | Self::VersionNotFound { .. } | Self::ServerNotFound(_) => {
                Kind::NotFound
            }
            Self::CredentialNotFound(_) | Self::CredentialVersionNotFound { .. } => Kind::NotFound,
            Self::CredentialUnavailable { retry_after: None, .. } | Self::CredentialKeys(_) => {
                Kind::Precondition
            }
            Self::VersionExists { .. } | Self::ServerExists(_) => Kind::AlreadyExists,
            Self::NotAllowed(_) => Kind::Denied,
            Self::CredentialUnavailable { retry_after: Some(_), .. }
            | Self::Unreachable { .. }
            | Self::GrpcServer { .. }
            | Self::Undecided(_) => Kind::Unavailable,
            Self::Kept { .. }
            | Self::EtagMismatch(_)
            | Self::DigestMismatch { .. }
            | Self::NothingPending(_) => Kind::Precondition,
            Self::TooManyWatches { .. } => Kind::Exhausted,
            Self::Store(error) => error.kind(),
            Self::Sealing | Self::Encoding(_) | Self::Task(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid(_) => ErrorReason::InvalidRequest,
            Self::ToolNotFound { .. } | Self::VersionNotFound { .. } => ErrorReason::ToolNotFound,
            Self::ServerNotFound(_)
            | Self::CredentialNotFound(_)
            | Self::CredentialVersionNotFound { .. } => ErrorReason::NotFound,
            Self::CredentialUnavailable { .. } | Self::CredentialKeys(_) => {
                ErrorReason::CredentialUnavailable
            }
            Self::VersionExists { .. } | Self::ServerExists(_) | Self::Kept { .. } => {
                ErrorReason::AlreadyExists
            }
            Self::NotAllowed(_) => ErrorReason::CommandNotAllowed,
            Self::Unreachable { .. } | Self::GrpcServer { .. } => ErrorReason::ServerUnreachable,
            Self::EtagMismatch(_) => ErrorReason::EtagMismatch,
            Self::DigestMismatch { .. } => ErrorReason::DigestMismatch,
            Self::NothingPending(_) => ErrorReason::NothingPending,
            Self::Undecided(_) => ErrorReason::ServiceUnavailable,
            Self::TooManyWatches { .. } => ErrorReason::Overloaded,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_))
            | Self::Sealing
            | Self::Encoding(_)
            | Self::Task(_) => ErrorReason::Internal,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid(_)
            | Self::ToolNotFound { .. }
            | Self::VersionNotFound { .. }
            | Self::CredentialNotFound(_)
            | Self::CredentialVersionNotFound { .. }
            | Self::CredentialUnavailable { .. }
            | Self::CredentialKeys(KeysError::NotSet(_) | KeysError::Missing { .. })
            | Self::ServerNotFound(_)
            | Self::VersionExists { .. }
            | Self::ServerExists(_)
            | Self::NotAllowed(_)
            | Self::Unreachable { .. }
            | Self::GrpcServer { .. }
            | Self::Kept { .. }
            | Self::DigestMismatch { .. }
            | Self::NothingPending(_)
            | Self::TooManyWatches { .. }
            | Self::EtagMismatch(_) => self.to_string(),
            Self::Undecided(_) => {
                "the permissions service cannot be reached, and no tool is given without it; try again".into()
            }
            // Where the operator keeps them is nobody else's business.
            Self::CredentialKeys(KeysError::File(_)) => {
                "the keys that credentials are kept under cannot be read; the registry's log says why".into()
            }
            Self::Store(store::Error::Unavailable(_)) => "the database cannot be reached; try again".into(),
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_))
            | Self::Sealing
            | Self::Encoding(_)
            | Self::Task(_) => "internal error".into(),
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::Invalid(violations) => details.violations.clone_from(violations),
            Self::DigestMismatch { name, digest } => {
                details.precondition = Some(("DIGEST_MISMATCH".into(), name.clone(), digest.clone()));
            }
            Self::NothingPending(name) => {
                let told = "no definition of it waits";
                details.precondition = Some(("NOTHING_PENDING".into(), name.clone(), told.into()));
            }
            Self::Kept { name, server, .. } => {
                details.precondition = Some(("KEPT_BY_SERVER".into(), name.clone(), server.clone()));
            }
            Self::EtagMismatch(name) => {
                let told = "its etag is another now";
                details.precondition = Some(("ETAG_MISMATCH".into(), name.clone(), told.into()));
            }
            Self::CredentialUnavailable { name, retry_after: None, .. } => {
                let told = "it has no version that may be used";
                details.precondition = Some(("CREDENTIAL_UNAVAILABLE".into(), name.clone(), told.into()));
            }
            Self::CredentialUnavailable { retry_after, .. } => details.retry_after = *retry_after,
            Self::TooManyWatches { .. } => details.retry_after = Some(Duration::from_secs(1)),
            Self::ToolNotFound { .. }
            | Self::VersionNotFound { .. }
            | Self::ServerNotFound(_)
            | Self::VersionExists { .. }
            | Self::ServerExists(_)
            | Self::NotAllowed(_)
            | Self::Unreachable { .. }
            | Self::GrpcServer { .. }
            | Self::Undecided(_)
            | Self::Store(_)
            | Self::CredentialNotFound(_)
            | Self::CredentialVersionNotFound { .. }
            | Self::CredentialKeys(_)
            | Self::Sealing
            | Self::Encoding(_)
            | Self::Task(_) => {}
        }
        details
    }
}
