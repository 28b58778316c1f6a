//! What is refused of access requests, and why.

use ::rpc::{Details, ErrorReason};
use chrono::{DateTime, SecondsFormat, Utc};
use types::{Kind, Role};
use uuid::Uuid;

/// An access request that is not taken, or a decision that is not.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It was decided before; the first decision stands.
    #[error("access request {id} was {state} by {decided_by:?} at {} already{reason}", time(*.decide_time))]
    AlreadyDecided {
        /// The access request.
        id: Uuid,
        /// What was decided.
        state: String,
        /// Who decided.
        decided_by: String,
        /// When.
        decide_time: DateTime<Utc>,
        /// Why, behind a colon; empty where it was not said.
        reason: String,
    },
    /// It was approved, and the approval was taken back before.
    #[error("the approval of access request {id} was revoked by {revoked_by:?} at {} already: {reason}", time(*.revoke_time))]
    AlreadyRevoked {
        /// The access request.
        id: Uuid,
        /// Who took it back.
        revoked_by: String,
        /// When.
        revoke_time: DateTime<Utc>,
        /// Why.
        reason: String,
    },
    /// It is no approval in force.
    #[error("access request {id} {told}; there is nothing to revoke")]
    NotApproved {
        /// The access request.
        id: Uuid,
        /// The word for what it is.
        state: String,
        /// The same, for people.
        told: String,
    },
    /// It has ended, and nobody had decided it.
    #[error("access request {id} ended at {} and was not decided; the agent can ask again", time(*.expire_time))]
    Expired {
        /// The access request.
        id: Uuid,
        /// When.
        expire_time: DateTime<Utc>,
    },
    /// It is the caller's own.
    #[error("nobody decides an access request of their own; somebody else of role {role} or higher can")]
    Own {
        /// Who may decide it.
        role: &'static str,
    },
    /// The caller's role does not decide it.
    #[error("access request {id} is for role {needed} or higher to decide")]
    Role {
        /// The access request.
        id: Uuid,
        /// The role that it takes.
        needed: &'static str,
    },
    /// The arguments that were looked at are not those of the request.
    #[error(
        "arguments_digest is not that of access request {id}; look at it again, then decide: toolcrib approvals show {id}"
    )]
    OtherArguments {
        /// The access request.
        id: Uuid,
    },
    /// The tool has another definition than the one that was asked for.
    #[error(
        "the definition of {tool} is not the one that was asked for: its digest is {serving:?} now; ask for access anew"
    )]
    DefinitionChanged {
        /// The tool.
        tool: String,
        /// The digest of the version that serves.
        serving: String,
    },
    /// As many wait as may.
    #[error(
        "{whose} has {most} access requests that wait, as many as may; have some decided, or let them end"
    )]
    TooMany {
        /// The agent or the team.
        whose: String,
        /// So many may.
        most: i64,
    },
    /// What forbids the call is not what an approval lifts.
    #[error("an approval would not allow the call: {message}")]
    Useless {
        /// What forbids it.
        reason: ErrorReason,
        /// For people.
        message: String,
    },
}

impl Refusal {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::AlreadyDecided { .. }
            | Self::AlreadyRevoked { .. }
            | Self::NotApproved { .. }
            | Self::Expired { .. }
            | Self::OtherArguments { .. }
            | Self::DefinitionChanged { .. } => Kind::Precondition,
            Self::Own { .. } | Self::Role { .. } | Self::Useless { .. } => Kind::Denied,
            Self::TooMany { .. } => Kind::Exhausted,
        }
    }

    pub(crate) fn reason(&self) -> ErrorReason {
        match self {
            Self::AlreadyDecided { .. } | Self::AlreadyRevoked { .. } => ErrorReason::AlreadyDecided,
            Self::NotApproved { .. } => ErrorReason::NotApproved,
            Self::Expired { .. } => ErrorReason::ApprovalDenied,
            Self::OtherArguments { .. } | Self::DefinitionChanged { .. } => ErrorReason::DigestMismatch,
            Self::Own { .. } => ErrorReason::OwnRequest,
            Self::Role { .. } => ErrorReason::RoleRequired,
            Self::TooMany { .. } => ErrorReason::Overloaded,
            Self::Useless { reason, .. } => *reason,
        }
    }

    pub(crate) fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::AlreadyDecided { id, state, .. } | Self::NotApproved { id, state, .. } => {
                let description = format!("the access request is {state}");
                details.precondition = Some(("ACCESS_REQUEST".to_owned(), id.to_string(), description));
            }
            Self::AlreadyRevoked { id, .. } => {
                let description = "the access request is revoked".to_owned();
                details.precondition = Some(("ACCESS_REQUEST".to_owned(), id.to_string(), description));
            }
            Self::Expired { id, .. } => {
                let description = "the access request is expired".to_owned();
                details.precondition = Some(("ACCESS_REQUEST".to_owned(), id.to_string(), description));
            }
            Self::OtherArguments { id } => {
                let description = "the access request is for other arguments".to_owned();
                details.precondition = Some(("ACCESS_REQUEST".to_owned(), id.to_string(), description));
            }
            Self::DefinitionChanged { tool, serving } => {
                let description = format!("the digest of the version that serves is {serving:?}");
                details.precondition = Some(("TOOL_DIGEST".to_owned(), tool.clone(), description));
            }
            Self::TooMany { whose, .. } => {
                details.quota = Some((whose.clone(), self.to_string()));
            }
            Self::Role { needed, .. } => {
                details.metadata.insert("role".to_owned(), (*needed).to_owned());
            }
            Self::Own { .. } | Self::Useless { .. } => {}
        }
        details
    }
}

/// The word of a role that the table holds; what is not one is taken for the highest.
pub(super) fn role(word: &str) -> Role {
    word.parse().unwrap_or(Role::Admin)
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
