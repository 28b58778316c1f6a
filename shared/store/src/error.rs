//! What can go wrong with the database, told apart as far as a service needs it.

use types::Kind;

/// A failed database operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is shutting down or starting, or broke off in the midst of an answer.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Option<sqlx::Error>),
    /// A unique constraint refused the row.
    #[error("constraint {constraint} refused the row")]
    Conflict {
        /// Name of the constraint.
        constraint: String,
    },
    /// Anything else: a fault of ours.
    #[error("database operation failed")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            // What an end in the midst of a message leaves: the connection cannot be used any more.
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(Some(error)),
            sqlx::Error::Database(cause) if cause.is_unique_violation() => {
                Self::Conflict { constraint: cause.constraint().unwrap_or_default().to_owned() }
            }
            // Class 57P: the server is stopped, crashed or cannot take connections; class 08 and 53: the
            // connection broke or there are too many; 25006: it is a standby, as in the midst of a failover; 25P03:
            // it ended a session that was silent in a transaction (PostgreSQL, appendix A).
            sqlx::Error::Database(cause)
                if cause.code().is_some_and(|code| {
                    code.starts_with("57P")
                        || code.starts_with("08")
                        || code.starts_with("53")
                        || code == "25006"
                        || code == "25P03"
                }) =>
            {
                Self::Unavailable(Some(error))
            }
            _ => Self::Failed(error),
        }
    }
}

impl Error {
    /// The kind of failure. A conflict that a service did not expect is its own fault.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unavailable(_) => Kind::Unavailable,
            Self::Conflict { .. } | Self::Failed(_) => Kind::Internal,
        }
    }
}
