//! What the executor refuses, and why. A tool's own failure is no error here: it is an execution's end.

use std::time::Duration;

use ::rpc::{Details, ErrorReason, FieldViolation, PageError, ServiceError};
use types::Kind;

use crate::{
    failure::{ToolError, ToolErrorCode},
    validate::Violation,
};

/// A request that the executor cannot fulfil.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields are wrong.
    #[error("invalid request")]
    Invalid(Vec<FieldViolation>),
    /// The arguments break the tool's input schema.
    #[error("the arguments of {tool} are not valid")]
    Arguments {
        /// The tool.
        tool: String,
        /// Every place where they do.
        violations: Vec<Violation>,
    },
    /// No such tool.
    #[error("no tool {name}")]
    ToolNotFound {
        /// As asked for.
        name: String,
        /// Names like it.
        nearest: Vec<String>,
    },
    /// The tool may not be called now.
    #[error("tool {tool} is {status}")]
    ToolUnavailable {
        /// The tool.
        tool: String,
        /// Its status.
        status: &'static str,
    },
    /// The permissions service said no.
    #[error("denied: {message}")]
    Denied {
        /// Why.
        reason: ErrorReason,
        /// For people.
        message: String,
        /// The limit that is used up, and when it resets.
        quota: Option<(String, Duration)>,
    },
    /// The call needs an approval.
    #[error("not approved: {message}")]
    Unapproved {
        /// For people.
        message: String,
        /// Who may approve it, a `toolcrib.permissions.v1.Role`.
        approver_role: i32,
        /// The access request that was made for it.
        access_request_id: Option<uuid::Uuid>,
    },
    /// The request id was used with another body.
    #[error("request_id {0:?} was used before with another body")]
    RequestIdReused(String),
    /// No such execution.
    #[error("no execution {0}")]
    NotFound(String),
    /// The service is stopping.
    #[error("the service is stopping")]
    ShuttingDown,
    /// Audit events wait too long.
    #[error("audit events wait since {0:?}")]
    AuditBacklog(Duration),
    /// The tool was not called: toolcrib holds it back for now.
    #[error("held back: {message}")]
    HeldBack {
        /// The tool.
        tool: String,
        /// Why: its rate, its circuit breaker, or no place.
        reason: ErrorReason,
        /// For people.
        message: String,
        /// When to come again.
        retry_after: Duration,
        /// The execution that records it.
        execution_id: String,
    },
    /// A call of a batch that was not begun.
    #[error("not begun: {0}")]
    NotBegun(String),
    /// The result of a call does not fit beside the others of its batch.
    #[error("the result of {execution_id} does not fit")]
    ResultLeftOut {
        /// The execution that has it.
        execution_id: String,
    },
    /// As many watches are open as may be.
    #[error("{whose} has {most} watches open")]
    TooManyWatches {
        /// The team or the process.
        whose: &'static str,
        /// So many may be.
        most: usize,
    },
    /// A watch has lasted as long as it may.
    #[error("the watch has lasted {longest:?}")]
    WatchTooLong {
        /// So long may it.
        longest: Duration,
        /// Sequence number of the last event that was sent.
        after: i64,
    },
    /// A call of the same request id was held back while this one waited for it.
    #[error("the call that this one joined was held back")]
    Overtaken,
    /// The execution has ended.
    #[error("execution {id} is {status}")]
    NotCancellable {
        /// The execution.
        id: String,
        /// Where it stands.
        status: String,
    },
    /// The caller's deadline passed; the call goes on.
    #[error("the deadline passed while the tool runs")]
    Deadline {
        /// The execution to look at later.
        execution_id: String,
    },
    /// The outcome of a call could not be recorded: the database lost its intent, or another process has closed the
    /// execution.
    #[error("the outcome of {execution_id} touched no row")]
    OutcomeLost {
        /// The execution.
        execution_id: String,
    },
    /// Another service cannot be reached, or failed.
    #[error("{service} failed: {status}")]
    Peer {
        /// The service.
        service: &'static str,
        /// Its answer.
        status: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A fault of our own.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A call of this tool that toolcrib holds back for now, as this failure says.
    pub(crate) fn held_back(tool: String, error: &ToolError, execution_id: String) -> Self {
        let reason = match error.code {
            ToolErrorCode::RateLimited => ErrorReason::RateLimited,
            ToolErrorCode::CircuitOpen => ErrorReason::CircuitOpen,
            _ => ErrorReason::ToolBusy,
        };
        let retry_after = error.retry_after().unwrap_or(Duration::from_secs(1));
        Self::HeldBack { tool, reason, message: error.message.clone(), retry_after, execution_id }
    }

    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), description: description.into() }])
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
            Self::Invalid(_) | Self::Arguments { .. } => Kind::Invalid,
            Self::ToolNotFound { .. } | Self::NotFound(_) => Kind::NotFound,
            Self::ToolUnavailable { .. }
            | Self::RequestIdReused(_)
            | Self::NotCancellable { .. }
            | Self::NotBegun(_) => Kind::Precondition,
            Self::Denied { reason: ErrorReason::QuotaExhausted | ErrorReason::BudgetExhausted, .. }
            | Self::HeldBack { reason: ErrorReason::RateLimited, .. }
            | Self::ResultLeftOut { .. }
            | Self::TooManyWatches { .. } => Kind::Exhausted,
            Self::Denied { .. } | Self::Unapproved { .. } => Kind::Denied,
            Self::HeldBack { .. }
            | Self::Overtaken
            | Self::ShuttingDown
            | Self::AuditBacklog(_)
            | Self::OutcomeLost { .. }
            | Self::Peer { .. } => Kind::Unavailable,
            Self::Deadline { .. } | Self::WatchTooLong { .. } => Kind::Deadline,
            Self::Store(error) => error.kind(),
            Self::Internal(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid(_) => ErrorReason::InvalidRequest,
            Self::Arguments { .. } => ErrorReason::InvalidArguments,
            Self::ToolNotFound { .. } => ErrorReason::ToolNotFound,
            Self::ToolUnavailable { .. } => ErrorReason::ToolUnavailable,
            Self::Denied { reason, .. } | Self::HeldBack { reason, .. } => *reason,
            Self::Unapproved { .. } => ErrorReason::ApprovalRequired,
            Self::Overtaken => ErrorReason::ToolBusy,
            Self::NotBegun(_) => ErrorReason::NotBegun,
            Self::ResultLeftOut { .. } => ErrorReason::MessageTooLarge,
            Self::NotCancellable { .. } => ErrorReason::NotCancellable,
            Self::RequestIdReused(_) => ErrorReason::RequestIdReused,
            Self::NotFound(_) => ErrorReason::NotFound,
            Self::ShuttingDown => ErrorReason::ShuttingDown,
            Self::AuditBacklog(_) => ErrorReason::AuditBacklog,
            Self::Deadline { .. } | Self::WatchTooLong { .. } => ErrorReason::DeadlineExceeded,
            Self::TooManyWatches { .. } => ErrorReason::Overloaded,
            Self::OutcomeLost { .. } => ErrorReason::OutcomeUnknown,
            Self::Peer { .. } => ErrorReason::ServiceUnavailable,
            Self::Store(store::Error::Unavailable(_)) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) | Self::Internal(_) => {
                ErrorReason::Internal
            }
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Invalid(violations) => {
                let first = violations.first();
                first.map_or_else(|| self.to_string(), |v| format!("invalid {}: {}", v.field, v.description))
            }
            Self::Arguments { tool, violations } => {
                let first = violations.first();
                let first = first.map(|v| format!(": {} {}", v.place(), v.message)).unwrap_or_default();
                format!("the arguments of {tool} break its input schema{first}")
            }
            Self::ToolNotFound { name, nearest } if nearest.is_empty() => {
                format!("there is no tool {name:?}; ListTools shows what there is")
            }
            Self::ToolNotFound { name, nearest } => {
                format!("there is no tool {name:?}; did you mean {}?", nearest.join(", "))
            }
            Self::ToolUnavailable { tool, status } => {
                format!("tool {tool} is {status}; an operator can enable it with SetToolStatus")
            }
            Self::Denied { message, .. }
            | Self::Unapproved { message, .. }
            | Self::HeldBack { message, .. } => message.clone(),
            Self::NotBegun(why) => format!("the call was not begun: {why}"),
            Self::ResultLeftOut { execution_id } => format!(
                "the results of the batch are larger than one message; this one is on execution {execution_id} (GetExecution)"
            ),
            Self::TooManyWatches { whose, most } => {
                format!("{whose} has {most} watches open, as many as it may; end one, or try again")
            }
            Self::WatchTooLong { longest, after } => {
                format!("a watch lasts {} s at most; go on with after_sequence {after}", longest.as_secs())
            }
            Self::Overtaken => "the same request was held back; try again".into(),
            Self::NotCancellable { status, .. } => {
                format!("the execution is {status} already; there is nothing to cancel")
            }
            Self::RequestIdReused(_) => format!("{self}; choose a new one for a new request"),
            Self::NotFound(_) => self.to_string(),
            Self::ShuttingDown => "the service is stopping; try again".into(),
            Self::AuditBacklog(age) => {
                format!(
                    "audit events have waited {}s; new calls are refused until they are delivered",
                    age.as_secs()
                )
            }
            Self::Deadline { execution_id } => {
                format!("the tool still runs; its end will be on execution {execution_id} (GetExecution)")
            }
            Self::OutcomeLost { execution_id } => format!(
                "the call was made, and its record was lost or closed in the midst of it: repeat it with the same request_id, or ask what became of {execution_id} (GetExecution)"
            ),
            Self::Peer { service, .. } => format!("the {service} service cannot be reached; try again"),
            Self::Store(store::Error::Unavailable(_)) => "the database cannot be reached; try again".into(),
            Self::Store(store::Error::Conflict { .. } | store::Error::Failed(_)) | Self::Internal(_) => {
                "internal error".into()
            }
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::Invalid(violations) => details.violations.clone_from(violations),
            Self::Arguments { violations, .. } => {
                details.violations = violations.iter().map(Violation::field_violation).collect();
            }
            Self::Denied { quota: Some((subject, reset)), message, .. } => {
                details.quota = Some((subject.clone(), message.clone()));
                details.retry_after = Some(*reset);
            }
            Self::HeldBack { tool, reason, message, retry_after, execution_id } => {
                details.retry_after = Some(*retry_after);
                details.metadata.insert("execution_id".into(), execution_id.clone());
                if *reason == ErrorReason::RateLimited {
                    details.quota = Some((format!("tool:{tool}"), message.clone()));
                }
            }
            Self::NotCancellable { id, status } => {
                let kind = "EXECUTION_STATUS".to_owned();
                details.precondition = Some((kind, id.clone(), format!("the execution is {status}")));
            }
            Self::WatchTooLong { after, .. } => {
                details.metadata.insert("after_sequence".into(), after.to_string());
            }
            Self::Overtaken => details.retry_after = Some(Duration::from_secs(1)),
            Self::ToolNotFound { nearest, .. } if !nearest.is_empty() => {
                details.metadata.insert("nearest".into(), nearest.join(","));
            }
            Self::ToolUnavailable { tool, status } => {
                let kind = "TOOL_STATUS".to_owned();
                details.precondition = Some((kind, tool.clone(), format!("the tool is {status}")));
            }
            Self::RequestIdReused(id) => {
                let description = "the id belongs to another body".to_owned();
                details.precondition = Some(("REQUEST_ID".to_owned(), id.clone(), description));
            }
            Self::Unapproved { access_request_id: Some(id), .. } => {
                details.metadata.insert("access_request_id".into(), id.to_string());
            }
            Self::Deadline { execution_id }
            | Self::ResultLeftOut { execution_id }
            | Self::OutcomeLost { execution_id } => {
                details.metadata.insert("execution_id".into(), execution_id.clone());
            }
            Self::ShuttingDown | Self::AuditBacklog(_) | Self::Peer { .. } | Self::TooManyWatches { .. } => {
                details.retry_after = Some(Duration::from_secs(1));
            }
            Self::Denied { .. }
            | Self::Unapproved { .. }
            | Self::ToolNotFound { .. }
            | Self::NotFound(_)
            | Self::NotBegun(_)
            | Self::Store(_)
            | Self::Internal(_) => {}
        }
        details
    }
}
