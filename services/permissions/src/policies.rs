//! The platform's Cedar policies: parsed, validated strictly and checked for their annotations at start,
//! then asked about one call under one grant. Anything that cannot be evaluated denies; nothing here may
//! turn a fault into a permission.

mod arguments;
mod bounds;
mod cause;
pub(crate) mod complaint;
mod context;
pub(crate) mod literals;
pub(crate) mod team;
pub(crate) mod unknown;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ::rpc::ErrorReason;
use cedar_policy::{
    Authorizer, Decision, Effect as PolicyEffect, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    Policy, PolicyId, PolicySet, Request, RestrictedExpression as Value, Schema, ValidationMode, Validator,
};
use chrono::{DateTime, Utc};
use types::{Effect, Role, Sensitivity};

use crate::{Error, decide::Candidate, pattern};
use arguments::Arguments;
pub(crate) use cause::Failure;
use context::context;
use team::TeamPolicies;

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
    pub role: Role,
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

/// What a call is besides its agent and its tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The end user that the agent acts for; empty: none.
    pub user: &'a str,
    /// For the team's policies.
    pub arguments: Option<&'a serde_json::Value>,
    pub budget: Budget,
    pub now: DateTime<Utc>,
}

/// What the policies say to one call under one grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub allowed: bool,
    /// Why not, in no order; empty when allowed.
    pub reasons: Vec<ErrorReason>,
    /// Ids of the policies that decided, sorted; those of the team are "team/NAME".
    pub policies: Vec<String>,
}

/// One call, ready to be asked about under any number of grants.
pub(crate) struct Asking<'a> {
    policies: &'a Policies,
    subject: Arc<Subject>,
    call: Call<'a>,
    team: Option<&'a TeamPolicies>,
    /// With the entities of the arguments, where somebody asks for them.
    told: Option<(Arguments, Entities)>,
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
        let call = Call { user: "", arguments: None, budget: Budget::NONE, now: DateTime::UNIX_EPOCH };
        let context = context(None, &call, Some(&Arguments::default())).map_err(fault)?;
        let (agent, tool) = (uid(&self.agent, "t/a"), uid(&self.tool, "x"));
        let request = Request::new(agent, self.call.clone(), tool, context, Some(&self.schema));
        request.map(drop).map_err(fault)
    }

    /// A call that is to be decided, by the platform's policies and those of the team. `None` when it does not fit
    /// the schema, or its arguments are too many to be told: then it is denied.
    pub(crate) fn asking<'a>(
        &'a self,
        agent: &AgentFacts,
        tool: &ToolFacts,
        call: Call<'a>,
        team: Option<&'a TeamPolicies>,
    ) -> Option<Asking<'a>> {
        let subject = self.subject(agent, tool)?;
        let team = team.filter(|team| !team.is_empty());
        let told = match team {
            Some(_) => Some(self.told(&subject, &call)?),
            None => None,
        };
        Some(Asking { policies: self, subject, call, team, told })
    }

    fn told(&self, subject: &Subject, call: &Call<'_>) -> Option<(Arguments, Entities)> {
        let Some(arguments) = Arguments::of(call.arguments) else {
            tracing::error!("arguments are too many for the team's policies; the call is denied");
            return None;
        };
        let entities = arguments.entities().map_err(|error| log(error.as_ref())).ok()?;
        let schema = cfg!(debug_assertions).then_some(&self.schema);
        let all = subject.entities.clone().add_entities(entities, schema);
        Some((arguments, all.map_err(|error| log(&error)).ok()?))
    }

    /// Both sides of a call. `None` when they do not fit the schema: then the call is denied.
    fn subject(&self, agent: &AgentFacts, tool: &ToolFacts) -> Option<Arc<Subject>> {
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
            ("role", text(agent.role.as_str())),
            ("disabled", Value::new_bool(agent.disabled)),
        ];
        let tool_attributes = [
            ("name", text(&tool.name)),
            ("groups", Value::new_set(pattern::groups(&tool.name).map(|group| text(&group)))),
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

    /// What the platform's policies say to a request.
    fn answer(&self, request: &Request, entities: &Entities) -> Verdict {
        let response = self.authorizer.is_authorized(request, &self.set, entities);
        // Cedar skips a policy that errs, a forbid too; here an error denies.
        if let Some(error) = response.diagnostics().errors().next() {
            log(error);
            return Verdict::unevaluated();
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
                let mut reasons: Vec<_> = decisive.iter().map(reason).collect();
                reasons.sort_unstable();
                reasons.dedup();
                Verdict { allowed: false, reasons, policies }
            }
        }
    }
}

impl Asking<'_> {
    /// What the policies say when the call is made under this grant. Without a grant nothing of the platform permits,
    /// but the team's own policies may, and it may still be told what forbids.
    pub(crate) fn ask(&self, candidate: Option<&Candidate>) -> Verdict {
        let Some((request, entities)) = self.request(candidate) else { return Verdict::unevaluated() };
        let mut verdict = self.policies.answer(&request, entities);
        let Some(team) = self.team else { return verdict };
        let said = team.ask(&self.policies.authorizer, &request, entities);
        let against: Vec<String> = said.forbids.into_iter().chain(said.failed).collect();
        if !against.is_empty() {
            if verdict.allowed || verdict.reasons == [ErrorReason::NoGrant] {
                (verdict.reasons, verdict.policies) = (Vec::new(), Vec::new());
            }
            verdict.allowed = false;
            verdict.reasons.push(ErrorReason::PolicyDenied);
            verdict.policies.extend(against);
            verdict.policies.sort_unstable();
        } else if candidate.is_none() && !said.permits.is_empty() && verdict.lacks_only_a_grant() {
            return Verdict { allowed: true, reasons: Vec::new(), policies: said.permits };
        }
        verdict
    }

    /// Whether a policy of the team cannot be evaluated for this grant.
    pub(crate) fn errs(&self, candidate: Option<&Candidate>) -> bool {
        let errs = |team: &TeamPolicies| {
            self.request(candidate)
                .is_none_or(|(request, entities)| team.errs(&self.policies.authorizer, &request, entities))
        };
        self.team.is_some_and(errs)
    }

    /// The policies that cannot be evaluated for this grant, and why; those that cannot be read are not among them.
    pub(crate) fn failures(&self, candidate: Option<&Candidate>) -> Vec<Failure> {
        let Some((request, entities)) = self.request(candidate) else { return Vec::new() };
        let Policies { authorizer, set, .. } = self.policies;
        let response = authorizer.is_authorized(&request, set, entities);
        let mut failures: Vec<_> = response.diagnostics().errors().map(Failure::of).collect();
        failures
            .extend(self.team.map(|team| team.failures(authorizer, &request, entities)).unwrap_or_default());
        failures
    }

    fn request(&self, candidate: Option<&Candidate>) -> Option<(Request, &Entities)> {
        let (policies, subject) = (self.policies, &self.subject);
        let (agent, tool) = (subject.agent.clone(), subject.tool.clone());
        let none = cfg!(debug_assertions).then(Arguments::default);
        let arguments = self.told.as_ref().map(|(arguments, _)| arguments).or(none.as_ref());
        let context = context(candidate, &self.call, arguments).map_err(|error| log(error.as_ref())).ok()?;
        // Where it is checked against the schema, it must be whole.
        let schema = cfg!(debug_assertions).then_some(&policies.schema);
        let request = Request::new(agent, policies.call.clone(), tool, context, schema);
        let entities = self.told.as_ref().map_or(&subject.entities, |(_, entities)| entities);
        Some((request.map_err(|error| log(&error)).ok()?, entities))
    }
}

impl Verdict {
    /// What cannot be evaluated denies.
    pub(crate) fn unevaluated() -> Self {
        Self { allowed: false, reasons: vec![ErrorReason::Internal], policies: Vec::new() }
    }

    /// Whether a grant is all that it takes.
    fn lacks_only_a_grant(&self) -> bool {
        !self.allowed && self.policies.is_empty() && self.reasons == [ErrorReason::NoGrant]
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

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// An entity of a type that is named in the schema.
fn uid_of(kind: &str, id: &str) -> Option<EntityUid> {
    Some(uid(&kind.parse().ok()?, id))
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
