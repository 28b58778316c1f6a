//! Why a command ended without an answer, told to people or as JSON, and the exit code for it.
//!
//! It must never print a key, and never lose a violation that the server sent.

use std::io;

use anyhow::anyhow;
use rpc::ErrorReason;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::output::{Style, Tone};

/// Why a command failed.
#[derive(Debug)]
pub enum Error {
    /// What was asked makes no sense; nothing was sent.
    Usage(String),
    /// The server refused, or the connection broke under the call.
    Status(Box<Status>),
    /// No connection could be made.
    Unreachable(String),
    /// The answer was shown already and says that something failed.
    Failed,
    /// Standard output or error cannot be written.
    Output(io::Error),
    /// A fault of the command itself.
    Fault(anyhow::Error),
}

/// What the people who read an error know already: where the call went and how long it could take.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The edge's address.
    pub address: String,
    /// The limit on one call, in seconds.
    pub timeout_s: u64,
}

/// One error, ready to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What went wrong.
    pub message: String,
    /// The published reason, or empty.
    pub reason: String,
    /// The gRPC code, or empty.
    pub code: String,
    /// Field and what is wrong with it.
    pub violations: Vec<(String, String)>,
    /// Milliseconds after which trying again may help.
    pub retry_after_ms: Option<u64>,
    /// What to try next, or empty.
    pub hint: String,
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Fault(error)
    }
}

impl Error {
    /// An error of the caller's making.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// An answer that lacks what the contract promises.
    pub fn incomplete(what: &str) -> Self {
        Self::Fault(anyhow!("the answer holds no {what}: client and server are of different versions"))
    }

    /// 0 when the reader of our output went away, 1 failed, 2 refused or misused, 3 unreachable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Failed | Self::Output(_) | Self::Fault(_) => 1,
            Self::Unreachable(_) => 3,
            Self::Status(status) if is_local(status) => 3,
            Self::Usage(_) | Self::Status(_) => 2,
        }
    }

    /// The error in parts; `None` when there is nothing left to say.
    pub fn report(&self, context: &Context) -> Option<Report> {
        let report = match self {
            Self::Failed => return None,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return None,
            Self::Output(error) => Report { message: error.to_string(), ..Report::default() },
            Self::Fault(error) => Report { message: format!("{error:#}"), ..Report::default() },
            Self::Usage(message) => Report { message: message.clone(), ..Report::default() },
            Self::Unreachable(detail) => unreachable_report(detail, context),
            Self::Status(status) if is_local(status) => local_report(status, context),
            Self::Status(status) => status_report(status),
        };
        Some(report)
    }
}

/// Whether the Status was made on our side of the connection.
fn is_local(status: &Status) -> bool {
    let transport =
        matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal);
    transport
        && status.details().is_empty()
        && (std::error::Error::source(status).is_some() || timed_out(status))
}

fn timed_out(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message() == "Timeout expired"
}

fn unreachable_report(detail: &str, context: &Context) -> Report {
    Report {
        message: format!("cannot reach {}: {detail}", context.address),
        reason: "UNREACHABLE".into(),
        hint:
            "start toolcrib here with: toolcrib up\nor say where it runs with --address or TOOLCRIB_ADDRESS"
                .into(),
        ..Report::default()
    }
}

fn local_report(status: &Status, context: &Context) -> Report {
    if timed_out(status) {
        return Report {
            message: format!("no answer from {} within {} s", context.address, context.timeout_s),
            reason: "DEADLINE_EXCEEDED".into(),
            hint: "a call that has started is recorded all the same: toolcrib executions list\n\
                   wait longer with --timeout SECONDS"
                .into(),
            ..Report::default()
        };
    }
    let mut detail = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    unreachable_report(&detail, context)
}

fn status_report(status: &Status) -> Report {
    let details = status.get_error_details();
    let info = details.error_info();
    let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
    let mut violations: Vec<_> =
        violations.iter().map(|each| (each.field.clone(), each.description.clone())).collect();
    if let Some(quota) = details.quota_failure() {
        violations
            .extend(quota.violations.iter().map(|each| (each.subject.clone(), each.description.clone())));
    }
    if let Some(failure) = details.precondition_failure() {
        violations
            .extend(failure.violations.iter().map(|each| (each.subject.clone(), each.description.clone())));
    }
    let retry = details.retry_info().and_then(|retry| retry.retry_delay);
    Report {
        message: said(status),
        reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
        code: format!("{:?}", status.code()),
        violations,
        retry_after_ms: retry.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        hint: rpc::reason_of(status).map(hint).unwrap_or_default().into(),
    }
}

fn said(status: &Status) -> String {
    if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    }
}

/// What to try next.
fn hint(reason: ErrorReason) -> &'static str {
    match reason {
        ErrorReason::Unauthenticated => {
            "give a key with --api-key-file FILE or TOOLCRIB_API_KEY; `toolcrib up` makes one for this machine"
        }
        ErrorReason::RoleRequired => {
            "see your role with: toolcrib whoami\nthen use the key of an agent that may"
        }
        ErrorReason::ScopeRequired => {
            "see what your key is held to with: toolcrib whoami\n\
             an admin issues another with: toolcrib keys issue AGENT --scope SCOPE"
        }
        ErrorReason::KeyNotRotatable => "see what became of it with: toolcrib keys list --ended",
        ErrorReason::LastAdmin => "see who there is with: toolcrib agents list",
        ErrorReason::NoGrant | ErrorReason::GrantExpired => {
            "an admin lets the agent in with: toolcrib grants add TOOL --agent AGENT"
        }
        ErrorReason::QuotaExhausted => "see limits and use with: toolcrib grants list",
        ErrorReason::SensitivityExceeded
        | ErrorReason::ReadOnlyGrant
        | ErrorReason::OutsideHours
        | ErrorReason::ArgumentCondition => "see what the grants allow with: toolcrib grants list",
        ErrorReason::ToolUnavailable => {
            "see its status with: toolcrib tools show TOOL\nan operator brings it back with: toolcrib tools enable TOOL"
        }
        ErrorReason::ToolNotFound => "see what there is with: toolcrib tools list",
        ErrorReason::InvalidArguments => "see what the tool takes with: toolcrib tools show TOOL",
        ErrorReason::RequestIdReused => "choose another --request-id, or repeat the very same call",
        ErrorReason::MessageTooLarge => "send less: a message may have 4 MiB",
        ErrorReason::RateLimited => "see the tool's rate with: toolcrib tools settings TOOL",
        ErrorReason::BudgetExhausted => {
            "see what is left with: toolcrib budget\nan admin raises it with: toolcrib budget set DOLLARS"
        }
        ErrorReason::EtagMismatch => "somebody changed it meanwhile: read it again, then repeat the change",
        ErrorReason::CircuitOpen => {
            "see how it failed with: toolcrib executions list --tool TOOL --status failed"
        }
        ErrorReason::ToolBusy => {
            "see what is under way with: toolcrib executions list --status running\n\
             an operator allows more at once with: toolcrib tools set TOOL max_concurrent=N"
        }
        ErrorReason::NotCancellable => "see how it ended with: toolcrib executions show ID",
        ErrorReason::NotBegun => "nothing of it was done: call it again on its own",
        ErrorReason::OutcomeUnknown => {
            "see whether it was done with: toolcrib executions list; or repeat it with the same --request-id"
        }
        ErrorReason::DigestMismatch => {
            "look at what waits now: toolcrib tools diff NAME, or toolcrib approvals show ID"
        }
        ErrorReason::ApprovalRequired => {
            "see what became of the request with: toolcrib approvals list\n\
             or let the call wait for it with: toolcrib call --wait-for-approval --why TEXT"
        }
        ErrorReason::PolicyDenied => "see what decided with: toolcrib explain TOOL",
        ErrorReason::OwnRequest => "see who may decide it with: toolcrib approvals show ID",
        ErrorReason::AlreadyDecided => "see the decision with: toolcrib approvals show ID",
        ErrorReason::NotApproved => "see what it is with: toolcrib approvals show ID",
        ErrorReason::NothingPending => "see what waits for approval: toolcrib tools list --pending",
        ErrorReason::CommandNotAllowed => {
            "add the program to mcp.stdio_commands in the settings of registry and executor, and start them again"
        }
        ErrorReason::ServerUnreachable => "see that it runs and can be reached; or add it without --verify",
        ErrorReason::CredentialUnavailable => "see what is wrong with it: toolcrib credentials list",
        ErrorReason::NoSuitableTool => "ask for less, or see what there is with: toolcrib tools list",
        ErrorReason::StoreUnavailable
        | ErrorReason::ServiceUnavailable
        | ErrorReason::AuditBacklog
        | ErrorReason::ShuttingDown => "see what is down with: toolcrib health",
        ErrorReason::TrailGap => "see what is wrong with the trail: toolcrib audit health",
        ErrorReason::Overloaded => "try again in a moment",
        ErrorReason::DeadlineExceeded => "wait longer with --timeout SECONDS",
        ErrorReason::UnknownMethod => {
            "the server is older than this client: see toolcrib --version on both sides"
        }
        ErrorReason::Internal => "look into the server's log",
        // The message says it all, or the server is newer than we.
        _ => "",
    }
}

impl Report {
    /// As text of several lines, without the last line feed.
    pub fn to_text(&self, style: Style) -> String {
        let mut lines = vec![format!("{} {}", style.paint("error:", Tone::Bad), self.message)];
        if !self.reason.is_empty() {
            let code = if self.code.is_empty() { String::new() } else { format!(" ({})", self.code) };
            lines.push(format!("  {}{}", style.paint("reason  ", Tone::Dim), self.reason.clone() + &code));
        }
        for (field, description) in &self.violations {
            lines.push(format!("  {}{field}: {description}", style.paint("wrong   ", Tone::Dim)));
        }
        if let Some(after) = self.retry_after_ms {
            let after = super::human::duration(milliseconds_of(after));
            lines.push(format!("  {}after {after}", style.paint("retry   ", Tone::Dim)));
        }
        for (nth, line) in self.hint.lines().enumerate() {
            let label = if nth == 0 { "try     " } else { "        " };
            lines.push(format!("  {}{line}", style.paint(label, Tone::Dim)));
        }
        lines.join("\n")
    }

    /// As a JSON object under `error`.
    pub fn to_json(&self) -> Value {
        let violations: Vec<_> = self
            .violations
            .iter()
            .map(|(field, description)| json!({ "field": field, "description": description }))
            .collect();
        json!({ "error": {
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
            "violations": violations,
            "retry_after_ms": self.retry_after_ms,
            "hint": self.hint,
        }})
    }
}

fn milliseconds_of(milliseconds: u64) -> f64 {
    u32::try_from(milliseconds).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused() -> Error {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_ARGUMENTS", "toolcrib", std::collections::HashMap::new());
        details.add_bad_request_violation("arguments/path", "is required");
        details.add_bad_request_violation("arguments/mode", "is not one of read, write");
        details.set_retry_info(Some(Duration::from_millis(1_500)));
        Status::with_error_details(Code::InvalidArgument, "2 arguments are wrong", details).into()
    }

    #[test]
    fn a_refusal_tells_message_reason_every_violation_and_what_to_try() {
        let report = refused().report(&Context::default()).unwrap();
        let text = report.to_text(Style { colour: false });
        assert_eq!(
            text,
            "error: 2 arguments are wrong\n  \
               reason  INVALID_ARGUMENTS (InvalidArgument)\n  \
               wrong   arguments/path: is required\n  \
               wrong   arguments/mode: is not one of read, write\n  \
               retry   after 1.5s\n  \
               try     see what the tool takes with: toolcrib tools show TOOL"
        );
        assert_eq!(refused().exit_code(), 2);
        let json = report.to_json();
        assert_eq!(json["error"]["violations"][1]["field"], "arguments/mode");
        assert_eq!(json["error"]["retry_after_ms"], 1_500);
    }

    #[test]
    fn exit_codes_tell_refused_from_unreachable_from_timed_out() {
        let context = Context { address: "http://x:1".into(), timeout_s: 7 };
        let broken = Status::from_error(Box::new(io::Error::new(io::ErrorKind::ConnectionReset, "reset")));
        assert_eq!(Error::from(broken).exit_code(), 3);
        let late = Error::from(Status::cancelled("Timeout expired"));
        assert_eq!(late.exit_code(), 3);
        assert!(late.report(&context).unwrap().message.contains("within 7 s"));
        assert_eq!(Error::from(Status::unavailable("the store is away")).exit_code(), 2);
        let unreachable = Error::Unreachable("refused".into()).report(&context).unwrap();
        assert!(unreachable.message.contains("http://x:1") && unreachable.hint.contains("toolcrib up"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let gone = Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.exit_code(), gone.report(&Context::default())), (0, None));
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::StorageFull)).exit_code(), 1);
    }
}
