//! The one table from kinds of failure to gRPC codes, and the details every Status carries.

use std::{collections::HashMap, time::Duration};

use proto::types::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use types::Kind;

/// `domain` of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "toolcrib";

/// Most violations sent: a Status travels in headers, which peers cap at 8 to 16 KiB.
const MAX_VIOLATIONS: usize = 32;

/// Bytes that the violations of a Status may have together.
const MAX_VIOLATION_BYTES: usize = 4 * 1024;

/// Longest text of one violation, in bytes.
const MAX_TEXT: usize = 320;

/// Longest message, in bytes: those beyond ASCII travel as three.
const MAX_MESSAGE: usize = 1024;

/// One field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, or `arguments` and a JSON pointer.
    pub field: String,
    /// What is wrong and what is expected.
    pub description: String,
}

/// What a Status says besides code, reason and message.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// Becomes `google.rpc.BadRequest`.
    pub violations: Vec<FieldViolation>,
    /// Becomes `google.rpc.RetryInfo`.
    pub retry_after: Option<Duration>,
    /// Becomes `google.rpc.QuotaFailure`: subject and description.
    pub quota: Option<(String, String)>,
    /// Becomes `google.rpc.PreconditionFailure`: type, subject and description.
    pub precondition: Option<(String, String, String)>,
    /// Joins `google.rpc.ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
}

/// An error of a service that can be told to its caller.
pub trait ServiceError: std::error::Error {
    /// The kind of failure; decides the gRPC code.
    fn kind(&self) -> Kind;
    /// The published reason.
    fn reason(&self) -> ErrorReason;
    /// What the caller may read: what is wrong and what to do; never a secret, never a detail of our own.
    fn public_message(&self) -> String;
    /// Further details.
    fn details(&self) -> Details {
        Details::default()
    }
}

/// The Status of a service's error. Faults of our own are logged here, once, and not told.
pub fn status(error: &impl ServiceError) -> Status {
    let kind = error.kind();
    if matches!(kind, Kind::Internal | Kind::Unavailable) {
        tracing::error!(error = %chain(error), "call failed");
    }
    build(code(kind), error.reason(), &error.public_message(), error.details())
}

/// A Status with a reason and no further details.
pub fn status_with_reason(kind: Kind, reason: ErrorReason, message: impl Into<String>) -> Status {
    build(code(kind), reason, &message.into(), Details::default())
}

/// A Status with a reason and details.
pub(crate) fn status_with_details(
    kind: Kind,
    reason: ErrorReason,
    message: &str,
    details: Details,
) -> Status {
    build(code(kind), reason, message, details)
}

/// The published reason of a Status, if it carries one.
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_error_details().error_info().cloned()?;
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

/// The kind of failure that a Status of another service stands for.
pub fn kind_of(status: &Status) -> Kind {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Kind::Invalid,
        Code::Unauthenticated => Kind::Unauthenticated,
        Code::PermissionDenied => Kind::Denied,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::FailedPrecondition | Code::Aborted => Kind::Precondition,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::Unavailable => Kind::Unavailable,
        Code::DeadlineExceeded | Code::Cancelled => Kind::Deadline,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Kind::Internal,
    }
}

/// A trailers-only response, with an ErrorInfo added where the Status has none.
pub fn error_response(status: Status) -> http::Response<tonic::body::Body> {
    with_info(status).into_http()
}

/// The same Status with an ErrorInfo, derived from its code where there is none: tonic's own errors
/// (a message that cannot be decoded, an RPC that does not exist) carry none.
pub(crate) fn with_info(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let reason = match status.code() {
        Code::Unimplemented => ErrorReason::UnknownMethod,
        Code::DeadlineExceeded | Code::Cancelled => ErrorReason::DeadlineExceeded,
        Code::OutOfRange | Code::ResourceExhausted => ErrorReason::MessageTooLarge,
        Code::InvalidArgument => ErrorReason::InvalidRequest,
        Code::Unavailable => ErrorReason::ServiceUnavailable,
        Code::Unauthenticated => ErrorReason::Unauthenticated,
        _ => ErrorReason::Internal,
    };
    build(status.code(), reason, status.message(), Details::default())
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Denied => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Deadline => Code::DeadlineExceeded,
        Kind::Internal => Code::Internal,
    }
}

fn build(code: Code, reason: ErrorReason, message: &str, details: Details) -> Status {
    let mut out = ErrorDetails::new();
    let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
    let mut metadata = details.metadata;
    let sent = sent_violations(&details.violations);
    if sent.len() < details.violations.len() {
        metadata.insert("violations_total".into(), details.violations.len().to_string());
    }
    out.set_error_info(name, DOMAIN, metadata);
    for (field, description) in sent {
        out.add_bad_request_violation(field, description);
    }
    if let Some(after) = details.retry_after {
        out.set_retry_info(Some(after));
    }
    if let Some((subject, description)) = details.quota {
        out.set_quota_failure(vec![tonic_types::QuotaViolation::new(subject, description)]);
    }
    if let Some((kind, subject, description)) = details.precondition {
        out.set_precondition_failure(vec![tonic_types::PreconditionViolation::new(
            kind,
            subject,
            description,
        )]);
    }
    Status::with_error_details(code, clip_to(message, MAX_MESSAGE), out)
}

/// The first violations, as many as fit.
fn sent_violations(violations: &[FieldViolation]) -> Vec<(String, String)> {
    let clipped = |violation: &FieldViolation| {
        (clip_to(&violation.field, MAX_TEXT), clip_to(&violation.description, MAX_TEXT))
    };
    let mut bytes = 0;
    let fits = |(field, description): &(String, String)| {
        bytes += field.len() + description.len();
        bytes <= MAX_VIOLATION_BYTES
    };
    violations.iter().take(MAX_VIOLATIONS).map(clipped).take_while(fits).collect()
}

fn clip_to(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_carries_its_reason_and_violations() {
        let details = Details {
            violations: vec![FieldViolation { field: "name".into(), description: "is empty".into() }],
            ..Details::default()
        };
        let status = build(Code::InvalidArgument, ErrorReason::InvalidRequest, "bad", details);
        let read = status.get_error_details();
        assert_eq!(read.error_info().unwrap().reason, "INVALID_REQUEST");
        assert_eq!(read.error_info().unwrap().domain, DOMAIN);
        assert_eq!(read.bad_request().unwrap().field_violations[0].field, "name");
        assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest));
    }

    #[test]
    fn a_status_of_tonic_itself_gets_a_reason_and_ours_keeps_its_own() {
        assert_eq!(reason_of(&with_info(Status::unimplemented(""))), Some(ErrorReason::UnknownMethod));
        let ours = status_with_reason(Kind::Denied, ErrorReason::NoGrant, "no grant");
        assert_eq!(reason_of(&with_info(ours)), Some(ErrorReason::NoGrant));
    }

    #[test]
    fn a_flood_of_violations_still_fits_in_headers() {
        let one = FieldViolation { field: "/a".repeat(500), description: "é".repeat(5_000) };
        let details = Details { violations: vec![one; 5_000], ..Details::default() };
        let status = build(Code::InvalidArgument, ErrorReason::InvalidArguments, "bad", details);
        assert!(status.details().len() < 5 * 1024, "{} bytes", status.details().len());
        assert_eq!(status.get_error_details().error_info().unwrap().metadata["violations_total"], "5000");
    }
}
