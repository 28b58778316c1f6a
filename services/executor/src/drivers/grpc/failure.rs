//! What a failed gRPC call means: the code and words of the failure, whether trying again may help, and whether the
//! server may have acted. Pure.

use ::grpc::{Error, Refusal, Unreached};

use super::super::classify;
use crate::outcome::{Reached, ToolError, ToolErrorCode};

pub(super) fn of(error: Error) -> ToolError {
    let message = error.to_string();
    let failed = |code, reached| ToolError::new(code, message.clone()).having(reached);
    match error {
        Error::Refused(refused) => refused.into(),
        Error::Address(_) | Error::Security(_) | Error::Descriptors(_) => {
            failed(ToolErrorCode::NotConfigured, Reached::No)
        }
        Error::Arguments(_) => {
            ToolError { is_deterministic: true, ..failed(ToolErrorCode::ToolFailed, Reached::No) }
        }
        Error::Unreachable(Unreached::Certificate(fault)) => {
            classify::certificate(&fault).having(Reached::No)
        }
        Error::Unreachable(Unreached::Connection(_)) => failed(ToolErrorCode::Unreachable, Reached::No),
        Error::NotInTime => failed(ToolErrorCode::Timeout, Reached::No),
        Error::Timeout => failed(ToolErrorCode::Timeout, Reached::Maybe),
        Error::Broken(_) => failed(ToolErrorCode::Unreachable, Reached::Maybe),
        Error::TooLarge(_) => failed(ToolErrorCode::ResultTooLarge, Reached::Yes),
        Error::Answer(_) => failed(ToolErrorCode::Protocol, Reached::Yes),
        Error::Status(refusal) => refused(&refusal, message.clone()),
    }
}

/// A refusal, by its status code (grpc/doc/statuscodes.md). The server did not begin the work where it does not know the
/// caller, or sends the call away until a time that it names. Anything else may be said after the work was done:
/// libraries answer RESOURCE_EXHAUSTED where a result is too large to send, and servers pass on what others told them.
fn refused(refusal: &Refusal, message: String) -> ToolError {
    use Reached::{Maybe, No, Yes};
    let put_off = if refusal.retry_after.is_some() { No } else { Maybe };
    let (code, reached, passes, stays) = match refusal.name() {
        "DEADLINE_EXCEEDED" => (ToolErrorCode::Timeout, Maybe, true, false),
        "UNAUTHENTICATED" => (ToolErrorCode::UpstreamAuth, No, false, false),
        "PERMISSION_DENIED" => (ToolErrorCode::UpstreamAuth, Maybe, false, false),
        "RESOURCE_EXHAUSTED" => (ToolErrorCode::UpstreamRateLimited, put_off, true, false),
        "UNAVAILABLE" => (ToolErrorCode::ToolFailed, put_off, true, false),
        "ABORTED" => (ToolErrorCode::ToolFailed, Maybe, true, false),
        "UNIMPLEMENTED" => (ToolErrorCode::ToolFailed, Maybe, false, true),
        "INVALID_ARGUMENT" | "NOT_FOUND" | "OUT_OF_RANGE" => (ToolErrorCode::ToolFailed, Yes, false, true),
        "ALREADY_EXISTS" | "FAILED_PRECONDITION" => (ToolErrorCode::ToolFailed, Yes, false, false),
        // CANCELLED, UNKNOWN, INTERNAL, DATA_LOSS
        _ => (ToolErrorCode::ToolFailed, Maybe, false, false),
    };
    let asked = refusal.retry_after.and_then(|wait| i64::try_from(wait.as_millis()).ok());
    ToolError {
        retryable: passes && !refusal.is_final,
        retry_after_ms: asked.unwrap_or(0),
        is_deterministic: stays,
        is_unauthenticated: refusal.name() == "UNAUTHENTICATED",
        ..ToolError::new(code, message).having(reached)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn status(code: i32, retry_after: Option<Duration>, is_final: bool) -> ToolError {
        of(Error::Status(Refusal { code, message: "so".into(), retry_after, is_final }))
    }

    #[test]
    fn a_status_says_whether_the_work_was_begun_and_whether_to_try_again() {
        use Reached::{Maybe, No, Yes};
        for (code, expected, reached, retryable) in [
            (1, ToolErrorCode::ToolFailed, Maybe, false),
            (2, ToolErrorCode::ToolFailed, Maybe, false),
            (3, ToolErrorCode::ToolFailed, Yes, false),
            (4, ToolErrorCode::Timeout, Maybe, true),
            (5, ToolErrorCode::ToolFailed, Yes, false),
            (6, ToolErrorCode::ToolFailed, Yes, false),
            (7, ToolErrorCode::UpstreamAuth, Maybe, false),
            (8, ToolErrorCode::UpstreamRateLimited, Maybe, true),
            (9, ToolErrorCode::ToolFailed, Yes, false),
            (10, ToolErrorCode::ToolFailed, Maybe, true),
            (11, ToolErrorCode::ToolFailed, Yes, false),
            (12, ToolErrorCode::ToolFailed, Maybe, false),
            (13, ToolErrorCode::ToolFailed, Maybe, false),
            (14, ToolErrorCode::ToolFailed, Maybe, true),
            (15, ToolErrorCode::ToolFailed, Maybe, false),
            (16, ToolErrorCode::UpstreamAuth, No, false),
        ] {
            let error = status(code, None, false);
            assert_eq!(
                (error.code, error.reached, error.retryable),
                (expected, reached, retryable),
                "{code}"
            );
        }
        let later = status(14, Some(Duration::from_millis(1_500)), false);
        assert_eq!((later.reached, later.retryable, later.retry_after_ms), (No, true, 1_500));
        assert!(!status(14, None, true).retryable);
        assert!(later.message.contains("UNAVAILABLE: so"), "{}", later.message);
    }
}
