//! Why a policy could not be evaluated, for those who write policies. Pure; must never tell a value of an argument, which
//! Cedar's own words may hold.

use cedar_policy::{AuthorizationError, EvaluationError};

/// A policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its id.
    pub policy: String,
    /// Why, as the rest of a sentence about it.
    pub cause: String,
}

impl Failure {
    /// What Cedar says, without values.
    pub(super) fn of(error: &AuthorizationError) -> Self {
        let AuthorizationError::PolicyEvaluationError(error) = error;
        Self { policy: error.policy_id().to_string(), cause: cause(error.inner()) }
    }
}

fn cause(error: &EvaluationError) -> String {
    match error {
        // These name what the policy's text names: attributes of records, types, functions.
        EvaluationError::RecordAttrDoesNotExist(error) => error.to_string(),
        EvaluationError::TypeError(error) => error.to_string(),
        EvaluationError::WrongNumArguments(error) => error.to_string(),
        // A tag may be named by an argument.
        EvaluationError::EntityAttrDoesNotExist(_) => "an attribute or a tag is not there".to_owned(),
        EvaluationError::EntityDoesNotExist(_) => "an entity is not there".to_owned(),
        // These hold the values.
        EvaluationError::IntegerOverflow(_) => "integer overflow".to_owned(),
        EvaluationError::FailedExtensionFunctionExecution(_) => {
            "a function does not take the value that it was given".to_owned()
        }
        EvaluationError::RecursionLimit(_) => "it is nested too deep".to_owned(),
        // What a policy that was read and checked cannot come to.
        _ => "it cannot be evaluated as it is written".to_owned(),
    }
}
