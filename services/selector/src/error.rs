//! What the selector service refuses, and why.

use std::collections::BTreeMap;

use ::rpc::{Details, ErrorReason, FieldViolation, ServiceError};
use types::Kind;

/// A request that the selector service cannot fulfil.
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
    /// No permitted tool satisfies the request.
    #[error("{message}")]
    NoSuitableTool {
        /// Names the nearest misses and why each was left out.
        message: String,
        /// How many tools were left out, by reason.
        excluded: BTreeMap<String, i32>,
    },
    /// The permissions service did not decide; without it no tool may be offered.
    #[error("permissions did not decide: {0}")]
    Undecided(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
    }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::NoSuitableTool { .. } => Kind::NotFound,
            Self::Undecided(_) => Kind::Unavailable,
            Self::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid { .. } => ErrorReason::InvalidRequest,
            Self::NoSuitableTool { .. } => ErrorReason::NoSuitableTool,
            Self::Undecided(_) => ErrorReason::ServiceUnavailable,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => ErrorReason::Internal,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid { .. } | Self::NoSuitableTool { .. } => self.to_string(),
            Self::Undecided(_) => {
                "the permissions service cannot be reached, and no tool is offered without it; try again"
                    .into()
            }
            Self::Store(store::Error::Unavailable(_)) => "the database cannot be reached; try again".into(),
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => "internal error".into(),
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::Invalid { field, description } => {
                let violation = FieldViolation { field: field.clone(), description: description.clone() };
                details.violations.push(violation);
            }
            Self::NoSuitableTool { excluded, .. } => {
                let counts =
                    excluded.iter().map(|(reason, count)| (format!("excluded.{reason}"), count.to_string()));
                details.metadata.extend(counts);
            }
            Self::Undecided(_) | Self::Store(_) => {}
        }
        details
    }
}
