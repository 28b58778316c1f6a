//! Errors as a client reads them. Every error that a scenario meets is read here, so that none goes without its details.

use std::fmt::Debug;

use rpc::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A refused call.
#[derive(Debug)]
pub struct Refusal {
    /// The published reason.
    pub reason: ErrorReason,
    /// What people read.
    pub message: String,
    /// Everything it carries.
    pub details: ErrorDetails,
}

impl Refusal {
    /// Field and description of every violation that `BadRequest` lists, in order of field.
    pub fn violations(&self) -> Vec<(&str, &str)> {
        let listed = self.details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
        let mut listed: Vec<_> =
            listed.iter().map(|each| (each.field.as_str(), each.description.as_str())).collect();
        listed.sort_unstable();
        listed
    }

    /// One word of `ErrorInfo.metadata`, empty where it is not there.
    pub fn metadata(&self, key: &str) -> &str {
        let info = self.details.error_info().expect("checked when it was read");
        info.metadata.get(key).map_or("", String::as_str)
    }
}

/// Reads a Status of the server: whatever it is, it says why, in words of the contract.
pub fn read(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "toolcrib", "{status:?}");
    let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason));
    let reason = reason.unwrap_or_else(|| panic!("not a reason of the contract: {status:?}"));
    assert!(!status.message().is_empty(), "nothing for people to read: {status:?}");
    Refusal { reason, message: status.message().to_owned(), details }
}

/// A call that must be refused, with this code and for this reason.
pub fn refused<T: Debug>(answer: Result<T, Status>, code: Code, reason: ErrorReason) -> Refusal {
    let status = answer.expect_err("the call is refused");
    let refusal = read(&status);
    assert_eq!((status.code(), refusal.reason), (code, reason), "{status:?}");
    refusal
}
