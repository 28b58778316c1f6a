//! Decides what becomes of a definition that an MCP server offers for a tool that is there: whether it serves,
//! waits for somebody's approval, or is not taken. What a server changes by itself never serves unseen, unless
//! the operator wants it so. No I/O.

use semver::Version;
use uuid::Uuid;

use crate::{
    Error,
    change::{self, Kind},
    config::TrustPolicy,
    definition::{Binding, Definition, Digests, Mcp},
    register,
    store::{KnownTool, PastVersion, ReviewState},
};

/// Most versions of one tool that are taken within a day: a server that says something else each time it is
/// asked would fill the catalog.
const MAX_A_DAY: usize = 50;

/// What becomes of a definition.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is the one that stands. What else waits does so no more.
    Stands,
    /// It waits already.
    Waits,
    /// It is not taken. What the operator changed of the one that stands serves at once, where there is something.
    Refused {
        reason: String,
        adopted: Option<Box<Definition>>,
        /// Whether what waits does so no more: it is not offered any more.
        clears: bool,
    },
    /// The one that stands is approved now.
    Approved,
    /// It becomes the newest of the tool, with its version: it serves.
    Serves(Box<Definition>),
    /// It becomes the newest of the tool, and waits for approval like the one that it replaces.
    Replaces(Box<Definition>),
    /// It waits for approval. What the operator changed of it serves at once, where there is something.
    Held {
        adopted: Option<Box<Definition>>,
        changed: Box<Definition>,
        /// The version that holds it already.
        again: Option<Uuid>,
    },
}

/// A tool as it stands.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    pub tool: &'a KnownTool,
    /// Its newest definition.
    pub definition: &'a Definition,
    /// Every version of it.
    pub past: &'a [PastVersion],
}

impl Standing<'_> {
    /// Judges what its server offers now.
    pub(crate) fn judge(
        &self,
        policy: TrustPolicy,
        offered: &Definition,
        digests: &Digests,
    ) -> Result<Verdict, Error> {
        let Self { tool, definition, past } = *self;
        let is_same = tool.content_digest == digests.content;
        if is_same && tool.approved {
            return Ok(Verdict::Stands);
        }
        let adopted = adopted(definition, offered);
        let content = adopted.digests()?.content;
        let is_operators = content == digests.content;
        let adopted = if tool.approved && content != tool.content_digest && !is_operators {
            Some(Box::new(self.next(definition, &adopted)?))
        } else {
            None
        };
        let with_content = || past.iter().filter(|past| past.content_digest == digests.content);
        if let Some(rejected) = with_content().find(|past| past.review == Some(ReviewState::Rejected)) {
            let reason = format!("its definition {} was rejected", rejected.version);
            return Ok(Verdict::Refused { reason, adopted, clears: tool.approved });
        }
        let waits = || with_content().any(|past| Some(past.id) == tool.pending_id);
        if policy != TrustPolicy::ApproveAll && (is_same || adopted.is_none() && waits()) {
            return Ok(Verdict::Waits);
        }
        if is_same {
            return Ok(Verdict::Approved);
        }
        // What the operator changes is not limited.
        if !is_operators && past.iter().filter(|past| past.is_recent).count() >= MAX_A_DAY {
            let reason = format!(
                "it changed {MAX_A_DAY} times within a day, and no more is taken of it; {} is the newest",
                adopted.as_ref().map_or(&tool.version, |adopted| &adopted.version)
            );
            return Ok(Verdict::Refused { reason, adopted, clears: false });
        }
        let next = || self.next(definition, offered).map(Box::new);
        if policy == TrustPolicy::ApproveAll || tool.approved && is_operators {
            return next().map(Verdict::Serves);
        }
        if !tool.approved {
            return next().map(Verdict::Replaces);
        }
        self.held(adopted, offered, digests)
    }

    /// Whether the tool stays bound to another place than that at which it is offered, or to other credentials:
    /// it must not be called there.
    pub(crate) fn stays_elsewhere(&self, verdict: &Verdict, offered: &Definition) -> bool {
        let place = |definition: &Definition| match &definition.binding {
            Binding::Mcp(mcp) => Some((mcp.transport.clone(), mcp.credentials.clone())),
            _ => None,
        };
        matches!(verdict, Verdict::Waits | Verdict::Refused { adopted: None, .. })
            && place(self.definition) != place(offered)
    }

    fn held(
        &self,
        adopted: Option<Box<Definition>>,
        offered: &Definition,
        digests: &Digests,
    ) -> Result<Verdict, Error> {
        let serves = adopted.as_deref().unwrap_or(self.definition);
        let kind = kind(serves, offered)?;
        let again = self.past.iter().find(|past| {
            past.content_digest == digests.content
                && past.review == Some(ReviewState::Superseded)
                && is_greater(&past.version, &serves.version)
                && change::says_enough(&past.version, &serves.version, kind)
        });
        let mut changed = offered.clone();
        changed.version = match again {
            Some(past) => past.version.clone(),
            None => change::next_version(&serves.version, &self.highest(&serves.version), kind),
        };
        let again = again.map(|past| past.id);
        Ok(Verdict::Held { adopted, changed: Box::new(changed), again })
    }

    /// The offered definition with the version that comes after every other.
    fn next(&self, before: &Definition, offered: &Definition) -> Result<Definition, Error> {
        let highest = self.highest(&before.version);
        let version = change::next_version(&before.version, &highest, kind(before, offered)?);
        Ok(Definition { version, ..offered.clone() })
    }

    fn highest(&self, newest: &str) -> String {
        register::highest(newest, self.past.iter().map(|past| past.version.as_str()))
    }
}

fn kind(before: &Definition, after: &Definition) -> Result<Kind, Error> {
    Ok(change::greatest(&change::compare(before, after)?).unwrap_or(Kind::Patch))
}

fn is_greater(one: &str, other: &str) -> bool {
    matches!((Version::parse(one), Version::parse(other)), (Ok(one), Ok(other)) if one > other)
}

/// What stands, with what the operator decides of a server's tools as it is now: how the server is reached, and
/// what is assumed of its tools. The server has no say in it, so that it needs no approval; and a server that
/// was moved must not be asked at its old place.
fn adopted(stands: &Definition, offered: &Definition) -> Definition {
    let binding = match (&stands.binding, &offered.binding) {
        (Binding::Mcp(stands), Binding::Mcp(offered)) => Binding::Mcp(Mcp {
            server: offered.server.clone(),
            tool: stands.tool.clone(),
            transport: offered.transport.clone(),
            credentials: offered.credentials.clone(),
        }),
        (stands, _) => stands.clone(),
    };
    Definition {
        category: offered.category,
        capabilities: offered.capabilities.clone(),
        sensitivity: offered.sensitivity,
        timeout_ms: offered.timeout_ms,
        binding,
        ..stands.clone()
    }
}

#[cfg(test)]
mod tests;
