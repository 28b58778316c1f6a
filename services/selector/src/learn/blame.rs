//! What an outcome says of the tool. Pure. A tool must not be blamed for what its caller, the platform or the cache did.

/// What of an outcome counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// It ran: success, duration and cost count.
    All,
    /// It could not be asked since it fails: it counts as a failure that took no time of its own.
    Failure,
    /// Nothing of the tool.
    Nothing,
}

/// Reasons that speak of the caller or the platform: it was refused, given up, not waited for, or stood in a queue; or
/// our own process died. The words are those of the executor.
const NEUTRAL: [&str; 12] = [
    "CANCELLED",
    "CUT_SHORT",
    "DENIED",
    "RATE_LIMITED",
    "TOOL_BUSY",
    "OWNER_DIED",
    "ADDRESS_REFUSED",
    "SANDBOX_DENIED",
    "FALLBACK_UNUSABLE",
    "INVALID_ARGUMENTS",
    "QUOTA_EXHAUSTED",
    "BUDGET_EXHAUSTED",
];
/// The breaker is open: the tool failed too often, and was not asked.
const NOT_ASKED: &str = "CIRCUIT_OPEN";

/// What an outcome says. A reason that is not known counts against the tool.
pub(crate) fn says(succeeded: bool, failure_reason: &str, cached: bool) -> Says {
    match (succeeded, failure_reason) {
        (false, reason) if cached || NEUTRAL.contains(&reason) => Says::Nothing,
        (true, _) if cached => Says::Nothing,
        (false, NOT_ASKED) => Says::Failure,
        (true | false, _) => Says::All,
    }
}

/// Whether failures of this reason count against the tool; the empty reason is success.
pub(crate) fn counts(failure_reason: &str) -> bool {
    says(false, failure_reason, false) != Says::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_tool_did_counts() {
        assert_eq!(says(true, "", false), Says::All);
        assert_eq!(says(true, "", true), Says::Nothing, "a kept answer is not the tool's");
        for reason in ["TOOL_FAILED", "TIMEOUT", "UNREACHABLE", "UPSTREAM_RATE_LIMITED", "", "SOMETHING_NEW"]
        {
            assert_eq!(says(false, reason, false), Says::All, "{reason}");
        }
        assert_eq!(says(false, "CIRCUIT_OPEN", false), Says::Failure);
        for reason in ["CANCELLED", "CUT_SHORT", "DENIED", "RATE_LIMITED", "TOOL_BUSY", "OWNER_DIED"] {
            assert!(!counts(reason), "{reason}");
        }
    }
}
