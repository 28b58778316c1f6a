//! What the audit service refuses, and why.

use std::time::Duration;

use ::rpc::{Details, ErrorReason, FieldViolation, PageError, ServiceError};
use keyring::KeysError;
use types::Kind;
use uuid::Uuid;

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
    /// There is no such thing.
    #[error("there is no {what}: {hint}")]
    NotFound {
        /// The thing.
        what: &'static str,
        /// Why that may be, or what to do.
        hint: &'static str,
    },
    /// It is not under a checkpoint yet.
    #[error("{0}; try again in a second")]
    NotSignedYet(String),
    /// No checkpoint has reached a second place for too long, and the settings say that nothing is taken then.
    #[error(
        "no signed checkpoint has reached a second place for too long, so that no event is taken \
         (audit.checkpoints.on_failure is block); GetTrailHealth says why"
    )]
    Blocked,
    /// What is kept is not what was signed.
    #[error("{0}")]
    Broken(String),
    /// There is none of this name.
    #[error("no {what} {name}; {hint}")]
    NotThere {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is such a thing already.
    #[error("there is a {what} {name} already; {hint}")]
    AlreadyExists {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// A legal hold keeps the records.
    #[error("hold {hold} keeps these records; release it first: toolcrib audit holds release {hold}")]
    OnHold {
        /// Its name.
        hold: String,
    },
    /// As many watches are open as may be.
    #[error("{whose} has {most} watches of the trail open")]
    TooManyWatches {
        /// Whose places are taken.
        whose: &'static str,
        /// How many there are.
        most: usize,
    },
    /// A watch has lasted as long as it may.
    #[error("the watch has lasted {longest:?}")]
    WatchTooLong {
        /// How long one may last.
        longest: Duration,
        /// Position after which to go on.
        after: i64,
    },
    /// The service is stopping.
    #[error("the service is stopping")]
    ShuttingDown,
    /// Another service did not answer.
    #[error("{service} did not answer: {message}")]
    Peer {
        /// Which one.
        service: &'static str,
        /// What it said.
        message: String,
    },
    /// Another service answered that it cannot, whoever asks again.
    #[error("{service} could not say: {message}")]
    PeerFailed {
        /// Which one.
        service: &'static str,
        /// What it said.
        message: String,
    },
    /// An event tells of an execution without its intent.
    #[error("events[{index}] ({id}) is refused: {why}; nothing of the request is taken")]
    NoIntent {
        /// Its place in the request, from 0.
        index: usize,
        /// The event.
        id: Uuid,
        /// What is missing.
        why: &'static str,
    },
    /// There are no wrapping keys, or not those that are needed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The wrapping key of this id is not the one that was used.
    #[error(
        "wrapping key {0} in audit.key_file is another one than the one that the trail was sealed under; \
         put the right one back"
    )]
    WrongKey(String),
    /// What was sealed of a record or a row cannot be opened: it was changed, or moved here from another one.
    #[error("what was sealed of {0} cannot be opened: it was changed")]
    Sealing(Uuid),
    /// Its data subjects were erased again and again meanwhile.
    #[error("the data subjects were erased meanwhile; try again")]
    Overtaken,
    /// The request id was used with another body.
    #[error("request_id {0:?} was used before with another user or reason")]
    RequestIdReused(String),
    /// The request id was used with another review.
    #[error("request_id {0:?} was used before with another review")]
    ReviewIdReused(String),
    /// The trail is not whole where a report would be.
    #[error("{0}; a report would not be complete; toolcrib audit health and audit verify tell more")]
    Gap(String),
    /// Something else has to end first.
    #[error("{0}")]
    Unready(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
    }

    /// Another service did not answer, or said no.
    pub(crate) fn peer(service: &'static str, status: &impl std::fmt::Display) -> Self {
        Self::Peer { service, message: status.to_string() }
    }

    /// A tile is not what the tree needs.
    pub(crate) fn broken(missing: trail::MissingTile) -> Self {
        Self::Broken(format!("the hashes of the tree are not all there: {missing}"))
    }
}

impl From<PageError> for Error {
    fn from(error: PageError) -> Self {
        Self::invalid(error.field(), error.to_string())
    }
}

impl ServiceError for Error {
    #[allow(clippy::match_same_arms, reason = "each with its own reason")]
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::NotThere { .. } => Kind::NotFound,
            Self::AlreadyExists { .. } => Kind::AlreadyExists,
            Self::OnHold { .. } => Kind::Precondition,
            Self::TooManyWatches { .. } => Kind::Exhausted,
            Self::WatchTooLong { .. } => Kind::Deadline,
            Self::ShuttingDown | Self::Peer { .. } | Self::PeerFailed { .. } => Kind::Unavailable,
            Self::NotFound { .. } => Kind::NotFound,
            Self::RequestIdReused(_) | Self::ReviewIdReused(_) => Kind::AlreadyExists,
            Self::Gap(_) => Kind::Precondition,
            Self::Unready(_) => Kind::Unavailable,
            Self::NotSignedYet(_) | Self::Blocked => Kind::Unavailable,
            Self::Broken(_) => Kind::Internal,
            Self::NoIntent { .. } => Kind::Precondition,
            // One key of many: what needs it is refused, and stays with its sender until the operator has mended it;
            // the rest of what came with it is taken.
            Self::Keys(KeysError::Missing { .. }) | Self::WrongKey(_) => Kind::Internal,
            // Nothing can be taken: whoever has events keeps them.
            Self::Keys(KeysError::NotSet(_) | KeysError::File(_)) | Self::Overtaken => Kind::Unavailable,
            Self::Sealing(_) => Kind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    #[allow(clippy::match_same_arms, reason = "each with its own reason")]
    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid { .. } => ErrorReason::InvalidRequest,
            Self::NotThere { .. } => ErrorReason::NotFound,
            Self::AlreadyExists { .. } => ErrorReason::AlreadyExists,
            Self::OnHold { .. } => ErrorReason::OnHold,
            Self::TooManyWatches { .. } => ErrorReason::Overloaded,
            Self::WatchTooLong { .. } => ErrorReason::DeadlineExceeded,
            Self::ShuttingDown => ErrorReason::ShuttingDown,
            Self::Peer { .. } | Self::PeerFailed { .. } => ErrorReason::ServiceUnavailable,
            Self::NotFound { .. } => ErrorReason::NotFound,
            Self::RequestIdReused(_) | Self::ReviewIdReused(_) => ErrorReason::RequestIdReused,
            Self::Gap(_) => ErrorReason::TrailGap,
            Self::Unready(_) => ErrorReason::ServiceUnavailable,
            Self::NotSignedYet(_) => ErrorReason::NotSignedYet,
            Self::Blocked => ErrorReason::TrailBlocked,
            Self::Broken(_) => ErrorReason::Internal,
            Self::NoIntent { .. } => ErrorReason::NoIntent,
            Self::Keys(KeysError::Missing { .. }) | Self::WrongKey(_) => ErrorReason::Internal,
            Self::Keys(KeysError::NotSet(_) | KeysError::File(_)) | Self::Overtaken => {
                ErrorReason::ServiceUnavailable
            }
            Self::Sealing(_) => ErrorReason::Internal,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) => ErrorReason::Internal,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid { .. }
            | Self::NotThere { .. }
            | Self::AlreadyExists { .. }
            | Self::OnHold { .. }
            | Self::NotFound { .. }
            | Self::RequestIdReused(_)
            | Self::ReviewIdReused(_)
            | Self::Gap(_)
            | Self::Unready(_)
            | Self::NotSignedYet(_)
            | Self::Blocked
            | Self::NoIntent { .. }
            | Self::Keys(KeysError::NotSet(_) | KeysError::Missing { .. })
            | Self::WrongKey(_)
            | Self::Sealing(_)
            | Self::Overtaken
            | Self::Broken(_) => self.to_string(),
            // Where the file is concerns the operator alone.
            Self::Keys(KeysError::File(_)) => {
                "the wrapping keys (audit.key_file) cannot be read; the log of the audit service says why"
                    .into()
            }
            Self::TooManyWatches { whose, most } => {
                format!(
                    "{whose} has {most} watches of the trail open, all that it may have; end one, or try again"
                )
            }
            Self::WatchTooLong { longest, after } => {
                format!("a watch lasts at most {} s; go on with after_sequence = {after}", longest.as_secs())
            }
            Self::ShuttingDown => "the service is stopping; try again".into(),
            Self::Peer { service, .. } => format!("{service} did not answer; try again"),
            Self::PeerFailed { service, .. } => {
                format!("{service} could not say; the log of the audit service says why")
            }
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
        if let Self::NoIntent { id, why, .. } = self {
            details.precondition = Some(("EVENT".into(), id.to_string(), (*why).into()));
        }
        if let Self::Gap(gap) = self {
            details.precondition = Some(("TRAIL".into(), gap.clone(), "it is not in the trail".into()));
        }
        if let Self::OnHold { hold } = self {
            details.precondition = Some(("HOLD".into(), hold.clone(), "it is in force".into()));
        }
        details
    }
}
