//! How a call of a gRPC server failed, and how far it came.

use std::{error::Error as StdError, time::Duration};

use reach::CertificateFault;
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt;

/// Longest message of a server that is told, and that is kept, in characters.
const MAX_TOLD: usize = 500;
const MAX_MESSAGE: usize = 16_384;
/// The entry by which a server says when, or whether, to call again: milliseconds, negative for never (gRPC A6,
/// "Pushback").
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A call, or a look at a server, that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none of a gRPC server.
    #[error("{0}")]
    Address(String),
    /// The address may not be reached.
    #[error(transparent)]
    Refused(#[from] reach::Refused),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Security(String),
    /// The descriptors do not hold the method, or not all that it needs.
    #[error("{0}")]
    Descriptors(String),
    /// The arguments cannot be written as the request; nothing was sent.
    #[error("{0}")]
    Arguments(String),
    /// No connection stood, so that nothing was sent.
    #[error("the server cannot be reached: {0}")]
    Unreachable(Unreached),
    /// The time was over before a connection stood, so that nothing was sent.
    #[error("there was no connection to the server in time")]
    NotInTime,
    /// The time was over before an answer came.
    #[error("the server did not answer in time")]
    Timeout,
    /// The connection was lost before the answer was whole.
    #[error("the connection was lost before the answer was whole: {0}")]
    Broken(String),
    /// The server refused the call.
    #[error("the server answered {}", .0.told(MAX_TOLD))]
    Status(Refusal),
    /// The answer is larger than was asked for; the server did its work.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer is not what the descriptors say; the server did its work.
    #[error("the server's answer cannot be read: {0}")]
    Answer(String),
}

/// Why no connection stood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// It could not be made, or was lost before the call went out.
    #[error("{0}")]
    Connection(String),
    /// A certificate was refused; over HTTP/2 the server says so of the client's when the call is on its way already.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
}

/// A server's own refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC status code (grpc/doc/statuscodes.md), 1 to 16.
    pub code: i32,
    /// What the server says, on one line and cut to 16,384 characters. May repeat what it was asked with.
    pub message: String,
    /// When it asks to be called again, by `google.rpc.RetryInfo` or pushback.
    pub retry_after: Option<Duration>,
    /// Whether it asks not to be called again (a negative pushback).
    pub is_final: bool,
}

impl Refusal {
    /// Name of the code, as in the specification.
    pub fn name(&self) -> &'static str {
        match Code::from_i32(self.code) {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// Its name and up to so many characters of its words.
    fn told(&self, characters: usize) -> String {
        if self.message.is_empty() {
            return self.name().to_owned();
        }
        let words: String = self.message.chars().take(characters).collect();
        format!("{}: {words}", self.name())
    }
}

impl Error {
    /// What is told of it, with every word of the server's that was kept; `Display` tells 500 characters of them. For
    /// those who take something out of them: what a cut leaves of it could not be known.
    pub fn whole(&self) -> String {
        match self {
            Self::Status(refusal) => format!("the server answered {}", refusal.told(MAX_MESSAGE)),
            other => other.to_string(),
        }
    }

    /// What a Status of tonic means: the server's own, or one that stands for a failed connection. `limit` is the
    /// most bytes that the answer might have.
    pub(crate) fn of(status: &Status, limit: usize) -> Self {
        if let Some(cause) = status.source() {
            return Self::of_cause(cause);
        }
        // Made here, by tonic's decoder: it has no cause, and a code that servers use as well.
        if status.code() == Code::OutOfRange && status.message().contains("decoded message length too large")
        {
            return Self::TooLarge(limit);
        }
        let pushback = status.metadata().get(PUSHBACK).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        let pushed = pushback.and_then(|ms: i64| u64::try_from(ms).ok()).map(Duration::from_millis);
        Self::Status(Refusal {
            code: i32::from(status.code()),
            message: on_one_line(status.message()),
            retry_after: pushed.or(asked),
            is_final: pushback.is_some_and(|ms| ms < 0),
        })
    }

    /// What a failed connection, or a call that found none, means.
    pub(crate) fn of_cause(cause: &(dyn StdError + 'static)) -> Self {
        if let Some(fault) = CertificateFault::of(cause) {
            return Self::Unreachable(Unreached::Certificate(fault));
        }
        let (mut current, mut innermost) = (Some(cause), cause.to_string());
        let (mut is_connect, mut is_late) = (false, false);
        while let Some(error) = current {
            if let Some(refused) = error.downcast_ref::<reach::Refused>() {
                return Self::Refused(refused.clone());
            }
            is_connect |= error.downcast_ref::<ConnectError>().is_some();
            // The connection was gone before the request went out.
            is_connect |= error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
            is_late |= error.downcast_ref::<TimeoutExpired>().is_some();
            innermost = error.to_string();
            current = error.source();
        }
        match (is_connect, is_late) {
            (true, _) => Self::Unreachable(Unreached::Connection(innermost)),
            (false, true) => Self::Timeout,
            (false, false) => Self::Broken(innermost),
        }
    }
}

/// On one line, without control characters, cut.
pub(crate) fn on_one_line(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_cut_and_the_whole_can_be_had() {
        let status = Status::invalid_argument(format!("so\n{}", "x".repeat(20_000)));
        let error = Error::of(&status, 1);
        let told = error.to_string();
        assert!(told.starts_with("the server answered INVALID_ARGUMENT: so x"), "{told}");
        assert_eq!(told.len(), "the server answered INVALID_ARGUMENT: ".len() + 500);
        assert_eq!(error.whole().len(), "the server answered INVALID_ARGUMENT: ".len() + 16_384);
        assert_eq!(Error::Timeout.whole(), Error::Timeout.to_string());
    }
}
