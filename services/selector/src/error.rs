//! What the selector service refuses, and why.

use ::rpc::{Details, ErrorReason, FieldViolation, ServiceError};
use types::Kind;
use uuid::Uuid;

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
    /// The team has no tool of this name.
    #[error("there is no tool {name:?}{}", proposed(nearest))]
    ToolNotFound {
        /// What was asked for.
        name: String,
        /// The names most like it.
        nearest: Vec<String>,
    },
    /// The team has nothing of this id.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The tools are not read from the registry yet.
    #[error("the tools are not read from the registry yet")]
    NotLoaded,
    /// The permissions service did not decide; without it no tool may be offered.
    #[error("permissions did not decide: {0}")]
    Undecided(String),
    /// Too few selections have an outcome to fit weights to.
    #[error("{found} selections of the last 30 days have an outcome; {needed} are needed to fit weights to")]
    TooFewOutcomes {
        /// How many there are.
        found: usize,
        /// How many it takes.
        needed: usize,
    },
    /// The team has no such version of the weights.
    #[error(
        "there is no version {version} of the weights; the newest is {newest}, and 0 are the built-in ones"
    )]
    NoSuchWeights {
        /// What was asked for.
        version: i32,
        /// What there is.
        newest: i32,
    },
    /// The version was judged no better than what ranked then.
    #[error("version {version} of the weights was refused when it was judged: {refusal}; fit a new one")]
    WeightsRefused {
        /// What was asked for.
        version: i32,
        /// Why.
        refusal: String,
    },
    /// The caller's team has no such selection, or it is another agent's.
    #[error("there is no selection {0}")]
    NoSuchSelection(Uuid),
    /// The request id came with other feedback before.
    #[error("request_id {0} was used before with other feedback")]
    RequestIdReused(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
    }
}

fn proposed(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; the nearest: {}", nearest.join(", ")) }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::ToolNotFound { .. }
            | Self::NotFound { .. }
            | Self::NoSuchWeights { .. }
            | Self::NoSuchSelection(_) => Kind::NotFound,
            Self::TooFewOutcomes { .. } | Self::WeightsRefused { .. } => Kind::Precondition,
            Self::RequestIdReused(_) => Kind::AlreadyExists,
            Self::NotLoaded | Self::Undecided(_) => Kind::Unavailable,
            Self::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid { .. } => ErrorReason::InvalidRequest,
            Self::ToolNotFound { .. } => ErrorReason::ToolNotFound,
            Self::NotFound { .. } | Self::NoSuchWeights { .. } | Self::NoSuchSelection(_) => {
                ErrorReason::NotFound
            }
            Self::RequestIdReused(_) => ErrorReason::RequestIdReused,
            Self::TooFewOutcomes { .. } => ErrorReason::TooFewOutcomes,
            Self::WeightsRefused { .. } => ErrorReason::WeightsRefused,
            Self::NotLoaded | Self::Undecided(_) => ErrorReason::ServiceUnavailable,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => ErrorReason::Internal,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid { .. }
            | Self::ToolNotFound { .. }
            | Self::NotFound { .. }
            | Self::NoSuchWeights { .. }
            | Self::TooFewOutcomes { .. }
            | Self::WeightsRefused { .. }
            | Self::NoSuchSelection(_)
            | Self::RequestIdReused(_) => self.to_string(),
            Self::NotLoaded => "the tools are not read from the registry yet; try again".into(),
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
            Self::ToolNotFound { .. }
            | Self::NotFound { .. }
            | Self::NotLoaded
            | Self::Undecided(_)
            | Self::Store(_)
            | Self::NoSuchWeights { .. }
            | Self::TooFewOutcomes { .. }
            | Self::WeightsRefused { .. }
            | Self::NoSuchSelection(_)
            | Self::RequestIdReused(_) => {}
        }
        details
    }
}
