//! A tool's own failure: what kind it is, and whether the tool may have done its work all the same. Pure; never
//! decides what follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::validate::Violation;

/// Whether a failed attempt may have taken effect; the names are those of `toolcrib.executor.v1.Reached`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Reached {
    /// Surely not: the tool's work was not begun.
    No,
    /// Not known: the request was sent and no answer came.
    Maybe,
    /// The tool worked.
    #[default]
    Yes,
}

/// Why a tool failed; the names are those of `toolcrib.executor.v1.ToolErrorCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ToolErrorCode {
    ToolFailed,
    Timeout,
    Unreachable,
    InvalidResult,
    ResultTooLarge,
    SandboxDenied,
    OutOfMemory,
    NotConfigured,
    UpstreamAuth,
    UpstreamRateLimited,
    AddressRefused,
    OwnerDied,
    Protocol,
    RateLimited,
    CircuitOpen,
    ToolBusy,
    Cancelled,
    Denied,
    FallbackUnusable,
}

impl ToolErrorCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ToolFailed => "TOOL_FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Unreachable => "UNREACHABLE",
            Self::InvalidResult => "INVALID_RESULT",
            Self::ResultTooLarge => "RESULT_TOO_LARGE",
            Self::SandboxDenied => "SANDBOX_DENIED",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::NotConfigured => "NOT_CONFIGURED",
            Self::UpstreamAuth => "UPSTREAM_AUTH",
            Self::UpstreamRateLimited => "UPSTREAM_RATE_LIMITED",
            Self::AddressRefused => "ADDRESS_REFUSED",
            Self::OwnerDied => "OWNER_DIED",
            Self::Protocol => "PROTOCOL",
            Self::RateLimited => "RATE_LIMITED",
            Self::CircuitOpen => "CIRCUIT_OPEN",
            Self::ToolBusy => "TOOL_BUSY",
            Self::Cancelled => "CANCELLED",
            Self::Denied => "DENIED",
            Self::FallbackUnusable => "FALLBACK_UNUSABLE",
        }
    }

    /// Whether toolcrib itself held the call back for now: trying later may help, and nothing has run.
    pub(crate) fn is_held_back(self) -> bool {
        matches!(self, Self::RateLimited | Self::CircuitOpen | Self::ToolBusy)
    }

    /// Whether it stops an attempt before the tool is asked.
    pub(crate) fn is_before_the_tool(self) -> bool {
        self.is_held_back()
            || matches!(self, Self::Cancelled | Self::OwnerDied | Self::Denied | Self::FallbackUnusable)
    }

    /// What a failure of this kind says of the tool's work, where its driver knows no better.
    fn reached(self) -> Reached {
        match self {
            Self::Unreachable
            | Self::NotConfigured
            | Self::AddressRefused
            | Self::UpstreamAuth
            | Self::UpstreamRateLimited
            | Self::RateLimited
            | Self::CircuitOpen
            | Self::ToolBusy
            | Self::Denied
            | Self::FallbackUnusable => Reached::No,
            Self::Timeout | Self::OwnerDied | Self::Protocol | Self::Cancelled => Reached::Maybe,
            Self::ToolFailed
            | Self::InvalidResult
            | Self::ResultTooLarge
            | Self::SandboxDenied
            | Self::OutOfMemory => Reached::Yes,
        }
    }
}

impl From<reach::Refused> for ToolError {
    fn from(refused: reach::Refused) -> Self {
        Self::new(ToolErrorCode::AddressRefused, refused.to_string())
    }
}

/// A tool's own failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToolError {
    pub code: ToolErrorCode,
    pub message: String,
    #[serde(default)]
    pub violations: Vec<Violation>,
    #[serde(default)]
    pub retryable: bool,
    #[serde(default)]
    pub retry_after_ms: i64,
    /// Whether it may have taken effect all the same.
    #[serde(default)]
    pub reached: Reached,
    /// Whether the same arguments will always get it.
    #[serde(default)]
    pub is_deterministic: bool,
    /// Whether the server did not know who asked: it is shown newer credentials, where there are any.
    #[serde(default, skip)]
    pub is_unauthenticated: bool,
    /// What the tool gave besides, as JSON text: a failed program's output.
    #[serde(default, skip)]
    pub partial_json: Option<String>,
}

impl ToolError {
    pub(crate) fn new(code: ToolErrorCode, message: impl Into<String>) -> Self {
        let retryable = matches!(
            code,
            ToolErrorCode::Timeout | ToolErrorCode::Unreachable | ToolErrorCode::UpstreamRateLimited
        );
        Self {
            code,
            message: message.into(),
            violations: Vec::new(),
            retryable,
            retry_after_ms: 0,
            reached: code.reached(),
            is_deterministic: false,
            is_unauthenticated: false,
            partial_json: None,
        }
    }

    /// The same failure, of which its driver knows whether it may have taken effect.
    pub(crate) fn having(self, reached: Reached) -> Self {
        Self { reached, ..self }
    }

    /// How long to wait before the next try, if it says.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        u64::try_from(self.retry_after_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis)
    }
}
