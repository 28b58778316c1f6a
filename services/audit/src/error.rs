//! What the audit service refuses, and why.

use ::rpc::{Details, ErrorReason, FieldViolation, PageError, ServiceError};
use types::Kind;

/// A request that the audit service cannot fulfil.
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
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
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
            Self::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid { .. } => ErrorReason::InvalidRequest,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => ErrorReason::Internal,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid { .. } => self.to_string(),
            Self::Store(store::Error::Unavailable(_)) => "the database cannot be reached; try again".into(),
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => "internal error".into(),
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
