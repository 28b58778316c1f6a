//! The platform's Cedar policies: parsed, validated strictly and checked for their annotations at start,
//! then asked about one call under one grant. Anything that cannot be evaluated denies; nothing here may
//! turn a fault into a permission.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ::rpc::ErrorReason;
use cedar_policy::{
    Authorizer, Context, Decision, Effect as PolicyEffect, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, Policy, PolicyId, PolicySet, Request, RestrictedExpression as Value, Schema, ValidationMode,
    Validator,
};
use chrono::{DateTime, Utc};
use types::{Effect, Sensitivity};

use crate::{Error, store::GrantRow};

const POLICIES: &str = include_str!("../policies/platform.cedar");
const SCHEMA: &str = include_str!("../policies/platform.cedarschema");

/// Most subjects that are kept.
const MAX_SUBJECTS: usize = 4_096;

/// The agent that would call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AgentFacts {
    pub team: String,
    pub name: String,
    pub specialization: String,
    pub disabled: bool,
}

/// The tool that would be called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ToolFacts {
    pub name: String,
    pub effect: Effect,
    pub sensitivity: Sensitivity,
}

/// The team's budget of the day as a call meets it, in micro USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// 0: no budget.
    pub limit: i64,
    /// Spent or reserved, this call not included.
    pub used: i64,
    /// What the call would cost.
    pub cost: i64,
}

impl Budget {
    /// Where costs are not looked at.
    pub(crate) const NONE: Self = Self { limit: 0, used: 0, cost: 0 };
}

/// What the policies say to one call under one grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub allowed: bool,
    /// Why not, in no order; empty when allowed.
    pub reasons: Vec<ErrorReason>,
    /// Ids of the policies that decided, sorted.
    pub policies: Vec<String>,
}

/// The call's two sides, ready to be asked about under any number of grants.
pub(crate) struct Subject {
    agent: EntityUid,
    tool: EntityUid,
    entities: Entities,
}

/// The policies, ready to decide.
pub(crate) struct Policies {
    authorizer: Authorizer,
    set: PolicySet,
    schema: Schema,
    reasons: HashMap<PolicyId, ErrorReason>,
    agent: EntityTypeName,
    tool: EntityTypeName,
    call: EntityUid,
    /// Checked subjects by all that they are made of, so that none can be out of date.
    subjects: RwLock<Subjects>,
}

#[derive(Default)]
struct Subjects {
    by_agent: HashMap<AgentFacts, HashMap<ToolFacts, Arc<Subject>>>,
    count: usize,
}

impl Policies {
    /// The platform's own.
    pub(crate) fn load() -> Result<Self, Error> {
        Self::parse(SCHEMA, POLICIES)
    }

    fn parse(schema: &str, policies: &str) -> Result<Self, Error> {
        let (schema, _) = Schema::from_cedarschema_str(schema).map_err(fault)?;
        let parsed: PolicySet = policies.parse().map_err(fault)?;
        let mut reasons = HashMap::new();
        let mut set = PolicySet::new();
        for policy in parsed.policies() {
            let (policy, reason) = annotated(policy)?;
            reasons.insert(policy.id().clone(), reason);
            set.add(policy).map_err(fault)?;
        }
        let checked = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if !checked.validation_passed_without_warnings() {
            let warnings = checked.validation_warnings().map(ToString::to_string);
            let faults: Vec<_> =
                checked.validation_errors().map(ToString::to_string).chain(warnings).collect();
            return Err(Error::Policies(faults.join("; ")));
        }
        let policies = Self {
            authorizer: Authorizer::new(),
            set,
            schema,
            reasons,
            agent: "Agent".parse().map_err(fault)?,
            tool: "Tool".parse().map_err(fault)?,
            call: r#"Action::"call""#.parse().map_err(fault)?,
            subjects: RwLock::default(),
        };
        policies.check_shape()?;
        Ok(policies)
    }

    /// Every request has the types that `context` writes, whatever its values are: one that fits the schema
    /// shows that all do, and those of calls need not be checked again.
    fn check_shape(&self) -> Result<(), Error> {
        let context = context(None, 0, Budget::NONE, DateTime::UNIX_EPOCH).map_err(fault)?;
        let (agent, tool) = (uid(&self.agent, "t/a"), uid(&self.tool, "x"));
        let request = Request::new(agent, self.call.clone(), tool, context, Some(&self.schema));
        request.map(drop).map_err(fault)
    }

    /// Both sides of a call. `None` when they do not fit the schema: then the call is denied.
    pub(crate) fn subject(&self, agent: &AgentFacts, tool: &ToolFacts) -> Option<Arc<Subject>> {
        let kept = self.subjects.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject) = kept.by_agent.get(agent).and_then(|tools| tools.get(tool)) {
            return Some(Arc::clone(subject));
        }
        drop(kept);
        let subject = Arc::new(self.built(agent, tool)?);
        let mut kept = self.subjects.write().unwrap_or_else(PoisonError::into_inner);
        if kept.count >= MAX_SUBJECTS {
            *kept = Subjects::default();
        }
        kept.by_agent.entry(agent.clone()).or_default().insert(tool.clone(), Arc::clone(&subject));
        kept.count += 1;
        Some(subject)
    }

    fn built(&self, agent: &AgentFacts, tool: &ToolFacts) -> Option<Subject> {
        let agent_id = uid(&self.agent, &format!("{}/{}", agent.team, agent.name));
        let tool_id = uid(&self.tool, &tool.name);
        let agent_attributes = [
            ("team", text(&agent.team)),
            ("name", text(&agent.name)),
            ("specialization", text(&agent.specialization)),
            ("disabled", Value::new_bool(agent.disabled)),
        ];
        let tool_attributes = [
            ("name", text(&tool.name)),
            ("effect", text(tool.effect.as_str())),
            ("sensitivity", Value::new_long(tool.sensitivity as i64)),
        ];
        let entity = |id, attributes: Vec<(&str, Value)>| {
            let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value));
            Entity::new_with_tags(id, attributes, [], []).map_err(|error| log(&error)).ok()
        };
        self.checked(entity(agent_id, agent_attributes.into())?, entity(tool_id, tool_attributes.into())?)
    }

    fn checked(&self, agent: Entity, tool: Entity) -> Option<Subject> {
        let (agent_id, tool_id) = (agent.uid(), tool.uid());
        let entities = Entities::from_entities([agent, tool], Some(&self.schema));
        let entities = entities.map_err(|error| log(&error)).ok()?;
        Some(Subject { agent: agent_id, tool: tool_id, entities })
    }

    /// What the policies say when the call is made under this grant, of which `used` places are taken.
    /// Without a grant nothing permits, but it may still be told what forbids.
    pub(crate) fn ask(
        &self,
        subject: &Subject,
        grant: Option<&GrantRow>,
        used: i64,
        budget: Budget,
        now: DateTime<Utc>,
    ) -> Verdict {
        match context(grant, used, budget, now) {
            Ok(context) => self.answer(subject, context, cfg!(debug_assertions).then_some(&self.schema)),
            Err(error) => {
                log(&error);
                unevaluated()
            }
        }
    }

    /// What the policies say in this context, which is checked against the schema first if there is one;
    /// an attribute that is missing then is found when a policy asks for it.
    fn answer(&self, subject: &Subject, context: Context, schema: Option<&Schema>) -> Verdict {
        let (agent, tool) = (subject.agent.clone(), subject.tool.clone());
        let request = match Request::new(agent, self.call.clone(), tool, context, schema) {
            Ok(request) => request,
            Err(error) => {
                log(&error);
                return unevaluated();
            }
        };
        let response = self.authorizer.is_authorized(&request, &self.set, &subject.entities);
        // Cedar skips a policy that errs, a forbid too; here an error denies.
        if let Some(error) = response.diagnostics().errors().next() {
            log(error);
            return unevaluated();
        }
        let decisive: Vec<&PolicyId> = response.diagnostics().reason().collect();
        let mut policies: Vec<String> = decisive.iter().map(ToString::to_string).collect();
        policies.sort_unstable();
        match response.decision() {
            Decision::Allow => Verdict { allowed: true, reasons: Vec::new(), policies },
            Decision::Deny if decisive.is_empty() => {
                Verdict { allowed: false, reasons: vec![ErrorReason::NoGrant], policies }
            }
            Decision::Deny => {
                let reason = |id: &&PolicyId| self.reasons.get(*id).copied().unwrap_or(ErrorReason::Internal);
                Verdict { allowed: false, reasons: decisive.iter().map(reason).collect(), policies }
            }
        }
    }
}

/// The policy under the id that it names itself, and the reason that it gives.
fn annotated(policy: &Policy) -> Result<(Policy, ErrorReason), Error> {
    let missing = |what: &str| Error::Policies(format!("policy has no @{what}: {policy}"));
    let id = policy.annotation("id").filter(|id| !id.is_empty()).ok_or_else(|| missing("id"))?;
    let name = policy.annotation("reason").ok_or_else(|| missing("reason"))?;
    let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"))
        .ok_or_else(|| Error::Policies(format!("policy {id} has the unknown @reason {name:?}")))?;
    if policy.effect() == PolicyEffect::Permit && reason != ErrorReason::NoGrant {
        return Err(Error::Policies(format!("policy {id} permits; its @reason must be NO_GRANT")));
    }
    Ok((policy.new_id(PolicyId::new(id)), reason))
}

fn context(
    grant: Option<&GrantRow>,
    used: i64,
    budget: Budget,
    now: DateTime<Utc>,
) -> Result<Context, Box<dyn std::error::Error>> {
    let (kind, holder) = match grant {
        Some(GrantRow { agent_id: Some(agent), .. }) => ("agent", agent.as_str()),
        Some(GrantRow { specialization: Some(specialization), .. }) => {
            ("specialization", specialization.as_str())
        }
        Some(_) | None => ("none", ""),
    };
    let limit = grant.map_or(0, |grant| grant.max_per_hour);
    let record = |fields: Vec<(&str, Value)>| {
        Value::new_record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)))
    };
    let expire_time = grant.and_then(|grant| grant.expire_time);
    let facts = record(vec![
        ("team", text(grant.map_or("", |grant| &grant.team_id))),
        ("kind", text(kind)),
        ("holder", text(holder)),
        ("tool", text(grant.map_or("", |grant| &grant.tool_name))),
        ("readOnly", Value::new_bool(grant.is_some_and(|grant| grant.read_only))),
        ("maxSensitivity", Value::new_long(grant.map_or(i64::MAX, max_sensitivity))),
        ("expireTime", Value::new_long(expire_time.map_or(i64::MAX, |at| at.timestamp_micros()))),
    ])?;
    let quota = record(vec![
        ("limited", Value::new_bool(limit > 0)),
        ("limit", Value::new_long(limit)),
        ("used", Value::new_long(used)),
    ])?;
    let budget = record(vec![
        ("limited", Value::new_bool(budget.limit > 0)),
        ("limit", Value::new_long(budget.limit)),
        ("used", Value::new_long(budget.used)),
        ("cost", Value::new_long(budget.cost)),
    ])?;
    let now = Value::new_long(now.timestamp_micros());
    let pairs = [("now", now), ("grant", facts), ("quota", quota), ("budget", budget)];
    Ok(Context::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value)))?)
}

/// The highest level that a grant admits; a word that is not known admits nothing.
fn max_sensitivity(grant: &GrantRow) -> i64 {
    match &grant.max_sensitivity {
        None => i64::MAX,
        Some(word) => word.parse().map_or(-1, |level: Sensitivity| level as i64),
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn unevaluated() -> Verdict {
    Verdict { allowed: false, reasons: vec![ErrorReason::Internal], policies: Vec::new() }
}

fn text(value: &str) -> Value {
    Value::new_string(value.to_owned())
}

fn fault(error: impl std::fmt::Display) -> Error {
    Error::Policies(error.to_string())
}

fn log(error: &(impl std::fmt::Display + ?Sized)) {
    tracing::error!(%error, "policies cannot be evaluated; the call is denied");
}

#[cfg(test)]
mod tests;
