//! Decides one call and takes its place in the grant's limit and its cost from the team's budget. A fault
//! never allows a call, and no call holds two places.

mod matter;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::rpc::ErrorReason;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use types::Role;
use uuid::Uuid;

use crate::{
    Error,
    decide::Decided,
    explain,
    ledger::{Ledger, Taken},
    policies::{Budget, Policies, ToolFacts},
    store::{self, Held, Windows},
    teams::Teams,
    usage::{Basis, Usage},
};
use matter::limits_of;

pub(crate) use matter::{Matter, quota_of_day, quotas};

/// How often a decision starts again because another request for the same execution came first.
const ATTEMPTS: usize = 3;

/// The call to decide on.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub team: String,
    pub agent: String,
    /// The end user that the agent acts for; empty: none.
    pub user: String,
    pub tool: ToolFacts,
    pub tool_digest: String,
    pub arguments: ArgumentsText,
    pub arguments_digest: String,
    pub execution_id: Uuid,
    /// What it would cost, in micro USD.
    pub cost_micro_usd: i64,
    /// Every change up to this revision of the team must be known.
    pub at_least_revision: i64,
}

/// Arguments as they came, read when they are first asked for. Never shown.
#[derive(Clone, Default)]
pub(crate) struct ArgumentsText {
    text: String,
    read: Arc<OnceLock<Option<Value>>>,
}

impl ArgumentsText {
    /// The value; `None` where the text is no JSON.
    pub(crate) fn value(&self) -> Option<&Value> {
        self.read.get_or_init(|| serde_json::from_str(&self.text).ok()).as_ref()
    }
}

impl From<String> for ArgumentsText {
    fn from(text: String) -> Self {
        Self { text, read: Arc::default() }
    }
}

impl fmt::Debug for ArgumentsText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.text.len())
    }
}

/// The decision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub id: Uuid,
    /// Why not; `None` when allowed.
    pub reason: Option<ErrorReason>,
    pub message: String,
    pub grant_id: Option<Uuid>,
    /// The approval that serves the call: besides its grant, or in place of one.
    pub approval_id: Option<Uuid>,
    pub policies: Vec<String>,
    /// Every limit that the call counts against; of a denial, those that are used up.
    pub quotas: Vec<Quota>,
    /// In micro USD.
    pub budget: Option<Quota>,
    pub reserved: bool,
    /// Who may approve the call, if that is what it lacks.
    pub approver_role: Option<Role>,
    /// Of the team that was decided upon.
    pub revision: i64,
}

impl Decision {
    /// Of its limits the one with the least left, and of several such the longest.
    pub(crate) fn quota(&self) -> Option<Quota> {
        self.quotas.iter().rev().min_by_key(|quota| quota.limit.saturating_sub(quota.used)).copied()
    }
}

/// A limit, what is used of it, and when it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub period: Period,
    pub limit: i64,
    pub used: i64,
    /// `None`: never.
    pub reset_time: Option<DateTime<Utc>>,
}

/// What a limit counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Period {
    Hour,
    Day,
    Total,
}

/// What is needed to decide.
#[derive(Clone)]
pub(crate) struct Desk {
    pub policies: Arc<Policies>,
    pub teams: Arc<Teams>,
    pub ledger: Ledger,
    pub reservation_ttl: Duration,
    /// What allowed calls were made under.
    pub usage: Arc<Usage>,
}

impl Desk {
    /// Decides at this time. A repeated request for the same execution gets the same decision, as long as
    /// the grant it rests on still allows the call; what was given back or has expired is taken anew.
    pub(crate) async fn authorize(&self, asked: &Asked, now: DateTime<Utc>) -> Result<Decision, Error> {
        // A decision may wait for nothing at all, and other tasks must get their turn all the same.
        tokio::task::consume_budget().await;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(asked, now).await {
                Err(Error::Store(::store::Error::Conflict { .. })) if attempts < ATTEMPTS => {}
                Ok(decision) => {
                    self.count(asked, &decision, now);
                    return Ok(decision);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A call and where its agent stands; `None` when there is no such agent.
    pub(crate) async fn matter<'a>(
        &self,
        asked: &'a Asked,
        now: DateTime<Utc>,
    ) -> Result<Option<Matter<'a>>, Error> {
        let (tool, at_least) = (asked.tool.name.as_str(), asked.at_least_revision);
        let standings = self.teams.standings(&asked.team, &asked.agent, &[tool], at_least).await?;
        let standing = standings.and_then(|mut standings| standings.pop());
        Ok(standing.map(|standing| {
            let budget = Budget { limit: standing.daily_micro_usd, used: 0, cost: asked.cost_micro_usd };
            Matter { asked, standing, used: HashMap::new(), budget, now }
        }))
    }

    /// Remembers what allowed the call, for reports.
    fn count(&self, asked: &Asked, decision: &Decision, now: DateTime<Utc>) {
        if decision.reason.is_some() {
            return;
        }
        let policy = || decision.policies.iter().find_map(|id| id.strip_prefix("team/"));
        let basis = match (decision.grant_id, decision.approval_id) {
            (Some(grant), _) => Basis::Grant(grant),
            (None, Some(approval)) => Basis::Approval(approval),
            (None, None) => Basis::Policy(policy().unwrap_or_default()),
        };
        self.usage.count((&asked.team, &asked.agent, &asked.tool), basis, asked.execution_id, now);
    }

    /// What the execution holds with an approval for one call, where the lack of one would deny it: it served this
    /// execution and serves it again, also when it has ended.
    async fn held_with_approval(
        &self,
        matter: &Matter<'_>,
        reason: ErrorReason,
    ) -> Result<Option<Held>, Error> {
        if !matches!(reason, ErrorReason::ApprovalRequired | ErrorReason::NoGrant) {
            return Ok(None);
        }
        let (asked, until) = (matter.asked, matter.now + self.reservation_ttl);
        let pool = self.teams.database().pool()?;
        Ok(store::approved_hold(pool, &asked.team, asked.execution_id, until).await?)
    }

    async fn attempt(&self, asked: &Asked, now: DateTime<Utc>) -> Result<Decision, Error> {
        let Some(mut matter) = self.matter(asked, now).await? else { return Ok(denial_of_unknown(asked)) };
        loop {
            let candidates = matter.candidates();
            let (index, policies) = match matter.decide(&self.policies, matter.budget, &candidates) {
                Decided::Allowed { index, policies } => (index, policies),
                Decided::Denied { reason, index, policies } => {
                    if let Some(held) = self.held_with_approval(&matter, reason).await? {
                        return matter.repeat(&self.policies, &held);
                    }
                    let nearest = index.map(|index| &candidates[index]);
                    return Ok(matter.denial(&self.policies, reason, nearest, policies));
                }
            };
            let candidate = index.map(|index| &candidates[index]);
            let Some(reservation) = matter.reservation(candidate, self.reservation_ttl) else {
                let id = unreserved_id(asked, candidate.map_or_else(Uuid::nil, |of| of.grant.grant_id));
                return Ok(matter.permission(id, candidate, policies, Vec::new(), None));
            };
            match self.ledger.take(reservation.clone()).await? {
                Taken::Granted { used, budget_used } => {
                    let quotas = quotas(limits_of(&reservation), used, Windows::of(now));
                    let budget = quota_of_day(reservation.budget_limit, budget_used, now);
                    return Ok(matter.permission(
                        reservation.decision_id,
                        candidate,
                        policies,
                        quotas,
                        budget,
                    ));
                }
                Taken::Held(held) => return matter.repeat(&self.policies, &held),
                // What is left was not known: the policies decide again, knowing it.
                Taken::NoPlace(full) => matter.learn(&reservation, full),
                Taken::NoBudget { used } => matter.budget.used = used,
            }
        }
    }
}

/// Start of the clock hour (UTC) of a time.
pub(crate) fn window_start(now: DateTime<Utc>) -> DateTime<Utc> {
    Windows::of(now).hour
}

/// Start of the day (UTC) after a time.
pub(crate) fn next_day(now: DateTime<Utc>) -> DateTime<Utc> {
    Windows::of(now).next_day()
}

/// The id of a decision that is kept nowhere: the same for the same call under the same grant, whichever
/// process is asked. A UUIDv7 with the time of the execution's id; the rest is a digest of all that the
/// decision is bound to.
fn unreserved_id(asked: &Asked, grant: Uuid) -> Uuid {
    let mut digest = Sha256::new();
    let bound = [&asked.team, &asked.agent, &asked.tool.name, &asked.tool_digest, &asked.arguments_digest];
    for text in bound {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.update(asked.execution_id);
    digest.update(grant);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    bytes[..6].copy_from_slice(&asked.execution_id.as_bytes()[..6]);
    // Version 7 and the variant of RFC 9562, sections 4.1 and 4.2.
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

fn denial_of_unknown(asked: &Asked) -> Decision {
    Decision {
        id: types::new_id(),
        reason: Some(ErrorReason::NoGrant),
        message: explain::unknown_agent(&asked.agent, &asked.team),
        grant_id: None,
        approval_id: None,
        policies: Vec::new(),
        quotas: Vec::new(),
        budget: None,
        reserved: false,
        approver_role: None,
        revision: 0,
    }
}
