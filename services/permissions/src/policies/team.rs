//! A team's own policies: each a Cedar policy of one team, checked strictly against the schema before it is taken,
//! and asked beside those of the platform. What cannot be read or evaluated denies; nothing here may take a policy
//! that has an error or a warning.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use super::{
    SCHEMA, bounds,
    cause::Failure,
    complaint::{Complaint, at, complaints, told},
};
use cedar_policy::{
    ActionConstraint, Authorizer, Effect, Entities, Policy, PolicyId, PolicySet, Request, Schema,
    ValidationMode, Validator,
};

/// Most characters of a @message.
const MAX_MESSAGE: usize = 300;
/// What a team's policy must leave to us, and why.
const RESERVED: [(&str, &str); 2] = [
    ("id", "@id is set by the suite, from the policy's name; leave it out"),
    ("reason", "@reason is the platform's; a team's forbid is always POLICY_DENIED; say why with @message"),
];

/// The schema, as Cedar text.
pub(crate) const SCHEMA_TEXT: &str = SCHEMA;

/// The schema, read once. `None` when it cannot be read, which the platform's policies are refused for at start.
pub(crate) fn schema() -> Option<&'static Schema> {
    static READ: LazyLock<Option<Schema>> =
        LazyLock::new(|| Schema::from_cedarschema_str(SCHEMA).ok().map(|(schema, _)| schema));
    READ.as_ref()
}

/// A policy that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its name.
    pub name: String,
    /// At least one.
    pub complaints: Vec<Complaint>,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "policy {:?}", self.name)?;
        self.complaints.iter().try_for_each(|complaint| write!(formatter, "; {complaint}"))
    }
}

/// One policy, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct TeamPolicy(Policy);

impl TeamPolicy {
    /// Reads a text that must hold exactly one policy that passes strict validation without a warning.
    pub(crate) fn parse(schema: &Schema, name: &str, text: &str) -> Result<Self, Fault> {
        let fault = |complaints: Vec<Complaint>| Fault { name: name.to_owned(), complaints };
        bounds::check(text).map_err(|complaint| fault(vec![complaint]))?;
        let parsed: PolicySet = text
            .parse()
            .map_err(|errors: cedar_policy::ParseErrors| fault(complaints(text, errors.iter().map(told))))?;
        let policy = single(&parsed, text).map_err(|complaint| fault(vec![complaint]))?;
        let policy = policy.new_id(id(name));
        let wrong: Vec<_> = misplaced(&policy, text);
        if !wrong.is_empty() {
            return Err(fault(wrong));
        }
        let wrong = validated(schema, &policy, text);
        if wrong.is_empty() { Ok(Self(policy)) } else { Err(fault(wrong)) }
    }

    /// What was made of one that was read, and is asked only to learn whether it errs.
    pub(super) fn unchecked(policy: Policy) -> Self {
        Self(policy)
    }

    /// The policy as Cedar has it.
    pub(crate) fn policy(&self) -> &Policy {
        &self.0
    }
}

/// What a team's policies say to a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TeamVerdict {
    /// Ids of the policies that forbid it, sorted. One is enough to deny.
    pub forbids: Vec<String>,
    /// Ids of those that permit it, sorted. Without a forbid, one is enough to allow it without a grant.
    pub permits: Vec<String>,
    /// Ids of those that could not be evaluated, sorted. One is enough to deny.
    pub failed: Vec<String>,
}

/// The policies of a team that are in force. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct TeamPolicies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    set: PolicySet,
    messages: HashMap<String, String>,
    broken: Vec<String>,
}

impl TeamPolicies {
    /// Reads names and texts; the first that cannot be taken is the fault.
    #[cfg(test)]
    pub(crate) fn parse(
        schema: &Schema,
        policies: &[(impl AsRef<str>, impl AsRef<str>)],
    ) -> Result<Self, Fault> {
        let parse =
            |(name, text): &(_, _)| TeamPolicy::parse(schema, AsRef::as_ref(name), AsRef::as_ref(text));
        let policies = policies.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(policies.iter(), Vec::new()))
    }

    /// Of policies that were read, and the names of those that are in force but cannot be read any more.
    pub(crate) fn new<'a>(policies: impl Iterator<Item = &'a TeamPolicy>, mut broken: Vec<String>) -> Self {
        let (mut set, mut messages) = (PolicySet::new(), HashMap::new());
        for TeamPolicy(policy) in policies {
            if let Some(message) = policy.annotation("message") {
                messages.insert(policy.id().to_string(), message.to_owned());
            }
            // Two of one id: which of them is in force is not known.
            if set.add(policy.clone()).is_err() {
                broken.push(policy.id().to_string());
            }
        }
        Self(Arc::new(Inner { set, messages, broken }))
    }

    /// The policies, each under the id "team/NAME".
    #[allow(dead_code, reason = "for whoever evaluates them together with others")]
    pub(crate) fn set(&self) -> &PolicySet {
        &self.0.set
    }

    /// What a caller is told whom this policy denies.
    pub(crate) fn message(&self, policy_id: &str) -> Option<&str> {
        self.0.messages.get(policy_id).map(String::as_str)
    }

    /// Ids of policies that are in force but cannot be read any more: while there is one, every call is denied.
    pub(crate) fn broken(&self) -> &[String] {
        &self.0.broken
    }

    /// The policy of this name.
    pub(crate) fn get(&self, name: &str) -> Option<TeamPolicy> {
        self.0.set.policy(&id(name)).cloned().map(TeamPolicy)
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = TeamPolicy> {
        self.0.set.policies().cloned().map(TeamPolicy)
    }

    /// The same with another policy in the place of the one of its name, or with none there.
    pub(crate) fn with(&self, name: &str, policy: Option<&TeamPolicy>) -> Self {
        let taken = id(name);
        let others = self.0.set.policies().filter(|other| *other.id() != taken).cloned().map(TeamPolicy);
        let policies: Vec<_> = others.chain(policy.cloned()).collect();
        let taken = taken.to_string();
        let broken = self.0.broken.iter().filter(|id| **id != taken).cloned().collect();
        Self::new(policies.iter(), broken)
    }

    /// Whether there is nothing to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.set.is_empty() && self.0.broken.is_empty()
    }

    /// Whether any of them cannot be evaluated for a call. Told nowhere.
    pub(super) fn errs(&self, authorizer: &Authorizer, request: &Request, entities: &Entities) -> bool {
        let response = authorizer.is_authorized(request, &self.0.set, entities);
        !self.0.broken.is_empty() || response.diagnostics().errors().next().is_some()
    }

    /// Those that cannot be evaluated for a call, and why.
    pub(super) fn failures(
        &self,
        authorizer: &Authorizer,
        request: &Request,
        entities: &Entities,
    ) -> Vec<Failure> {
        let response = authorizer.is_authorized(request, &self.0.set, entities);
        response.diagnostics().errors().map(Failure::of).collect()
    }

    /// What they say to a call. One that cannot be read or evaluated is among `failed`.
    pub(crate) fn ask(&self, authorizer: &Authorizer, request: &Request, entities: &Entities) -> TeamVerdict {
        let mut verdict = TeamVerdict { failed: self.0.broken.clone(), ..TeamVerdict::default() };
        if self.0.set.is_empty() {
            return verdict;
        }
        let response = authorizer.is_authorized(request, &self.0.set, entities);
        for error in response.diagnostics().errors() {
            tracing::error!(%error, "a team's policy cannot be evaluated; the call is denied");
            verdict.failed.push(match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    error.policy_id().to_string()
                }
            });
        }
        // Of a denial the forbids are told, of a permission the permits: which of them, each policy says itself.
        for id in response.diagnostics().reason() {
            match self.0.set.policy(id).map(Policy::effect) {
                Some(Effect::Permit) => verdict.permits.push(id.to_string()),
                Some(Effect::Forbid) => verdict.forbids.push(id.to_string()),
                None => verdict.failed.push(id.to_string()),
            }
        }
        for ids in [&mut verdict.forbids, &mut verdict.permits, &mut verdict.failed] {
            ids.sort_unstable();
        }
        verdict
    }
}

/// The id under which decisions name a policy.
pub(crate) fn id(name: &str) -> PolicyId {
    PolicyId::new(format!("team/{name}"))
}

/// The one policy of a text.
fn single<'a>(parsed: &'a PolicySet, text: &str) -> Result<&'a Policy, Complaint> {
    let at_start = |message: String, help: &str| at(text, 0, message, help.to_owned());
    if parsed.templates().next().is_some() {
        let slot = text.find("?principal").or_else(|| text.find("?resource")).unwrap_or(0);
        let help = "name the principal or resource, or leave it open".to_owned();
        return Err(at(text, slot, "the policy is a template".to_owned(), help));
    }
    let mut policies = parsed.policies();
    match (policies.next(), parsed.num_of_policies()) {
        (Some(policy), 1) => Ok(policy),
        (None, _) => Err(at_start("there is no policy".into(), "write one permit or forbid")),
        (Some(_), count) => {
            let help = "put each of them under a name of its own";
            Err(at_start(format!("there are {count} policies in the text"), help))
        }
    }
}

/// What the suite does not leave to a team's policy.
fn misplaced(policy: &Policy, text: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (name, why) in RESERVED {
        if policy.annotation(name).is_some() {
            found.push(at(text, annotation_at(text, name), why.to_owned(), String::new()));
        }
    }
    if let Some(fault) = policy.annotation("message").and_then(message_fault) {
        found.push(at(text, annotation_at(text, "message"), fault, String::new()));
    }
    let is_call = |uid: &cedar_policy::EntityUid| uid.to_string() == r#"Action::"call""#;
    let fits = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => is_call(&uid),
        ActionConstraint::In(uids) => !uids.is_empty() && uids.iter().all(is_call),
    };
    if !fits {
        let place = text.find("Action::").or_else(|| text.find("action")).unwrap_or(0);
        let help = r#"write: action == Action::"call""#.to_owned();
        found.push(at(text, place, "the policy is not about calls".to_owned(), help));
    }
    found
}

/// Why a message cannot be told.
fn message_fault(message: &str) -> Option<String> {
    let hidden = |character: char| character.is_control() || types::is_hidden(character);
    let count = message.chars().count();
    if message.trim().is_empty() {
        Some("@message is empty; say what a denied caller is told, or leave it out".to_owned())
    } else if count > MAX_MESSAGE {
        Some(format!("@message has {count} characters; at most {MAX_MESSAGE} are told"))
    } else if message.contains(['<', '>']) || message.chars().any(hidden) {
        Some("@message must be plain text of one line, without '<' and '>'".to_owned())
    } else {
        None
    }
}

/// Where an annotation stands; annotations come first, so that the first of this name is it.
fn annotation_at(text: &str, name: &str) -> usize {
    text.find(&format!("@{name}")).unwrap_or(0)
}

fn validated(schema: &Schema, policy: &Policy, text: &str) -> Vec<Complaint> {
    let set = match PolicySet::from_policies([policy.clone()]) {
        Ok(set) => set,
        Err(error) => return vec![at(text, 0, error.to_string(), String::new())],
    };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors = result.validation_errors().map(told);
    let mut found = complaints(text, errors.chain(result.validation_warnings().map(told)));
    if found.is_empty() && !result.validation_passed_without_warnings() {
        found.push(at(text, 0, "the policy does not fit the schema".to_owned(), String::new()));
    }
    found
}

#[cfg(test)]
mod tests;
