//! The policies hold what the design promises, and whatever does not fit the schema denies.

use cedar_policy::EntityUid;
use serde_json::{Value as Json, json};

use super::*;

#[test]
fn the_platform_policies_pass_strict_validation_and_are_few() {
    let policies = Policies::load().unwrap();
    assert_eq!(policies.set.policies().count(), 9);
    for reason in [
        ErrorReason::AgentDisabled,
        ErrorReason::GrantExpired,
        ErrorReason::ReadOnlyGrant,
        ErrorReason::SensitivityExceeded,
        ErrorReason::QuotaExhausted,
        ErrorReason::BudgetExhausted,
    ] {
        let forbids: Vec<_> = policies.reasons.iter().filter(|(_, given)| **given == reason).collect();
        assert_eq!(forbids.len(), 1, "{reason:?} has a forbid of its own");
    }
}

#[test]
fn a_policy_that_is_not_complete_or_not_typed_is_refused_at_start() {
    let head = r#"(principal is Agent, action == Action::"call", resource is Tool)"#;
    let faulty = [
        (format!(r#"@reason("NO_GRANT") permit {head};"#), "@id"),
        (format!(r#"@id("x") forbid {head};"#), "@reason"),
        (format!(r#"@id("x") @reason("NO_SUCH") forbid {head};"#), "NO_SUCH"),
        (format!(r#"@id("x") @reason("AGENT_DISABLED") permit {head};"#), "NO_GRANT"),
        (
            format!(r#"@id("x") @reason("NO_GRANT") permit {head} when {{ context.grnat.readOnly }};"#),
            "grnat",
        ),
        (format!(r#"@id("x") @reason("NO_GRANT") permit {head} when {{ context.now == "1" }};"#), "types"),
        (format!(r#"@id("x") @reason("NO_GRANT") permit {head} when {{ "#), "unexpected"),
        (
            format!(
                r#"@id("x") @reason("NO_GRANT") forbid {head}; @id("x") @reason("NO_GRANT") forbid {head};"#
            ),
            "x",
        ),
    ];
    for (source, expected) in faulty {
        let error = Policies::parse(SCHEMA, &source).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{source}\n{error}");
    }
}

/// A call that is allowed, as JSON: agent, tool, context.
fn allowed_call() -> [Json; 3] {
    [
        json!({"uid": {"type": "Agent", "id": "t/a"}, "parents": [],
               "attrs": {"team": "t", "name": "a", "specialization": "S", "disabled": false}}),
        json!({"uid": {"type": "Tool", "id": "x"}, "parents": [],
               "attrs": {"name": "x", "effect": "read_only", "sensitivity": 1}}),
        json!({"now": 10,
               "grant": {"team": "t", "kind": "agent", "holder": "a", "tool": "x", "readOnly": false,
                         "maxSensitivity": 3, "expireTime": 11},
               "quota": {"limited": true, "limit": 2, "used": 1},
               "budget": {"limited": true, "limit": 9, "used": 4, "cost": 5}}),
    ]
}

fn ask_json(policies: &Policies, call: [Json; 3]) -> Verdict {
    ask_with(policies, call, Some(&policies.schema))
}

/// As a call is asked about in a release build.
fn ask_unchecked(policies: &Policies, call: [Json; 3]) -> Verdict {
    ask_with(policies, call, None)
}

fn ask_with(policies: &Policies, [agent, tool, context]: [Json; 3], schema: Option<&Schema>) -> Verdict {
    let entity = |json| Entity::from_json_value(json, None).unwrap();
    let context = Context::from_json_value(context, None).unwrap();
    match policies.checked(entity(agent), entity(tool)) {
        Some(subject) => policies.answer(&subject, context, schema),
        None => unevaluated(),
    }
}

/// JSON pointers of every attribute that the policies may ask.
const ATTRIBUTES: [(usize, &str); 22] = [
    (0, "/attrs/team"),
    (0, "/attrs/name"),
    (0, "/attrs/specialization"),
    (0, "/attrs/disabled"),
    (1, "/attrs/name"),
    (1, "/attrs/effect"),
    (1, "/attrs/sensitivity"),
    (2, "/now"),
    (2, "/grant/team"),
    (2, "/grant/kind"),
    (2, "/grant/holder"),
    (2, "/grant/tool"),
    (2, "/grant/readOnly"),
    (2, "/grant/maxSensitivity"),
    (2, "/grant/expireTime"),
    (2, "/quota/limited"),
    (2, "/quota/limit"),
    (2, "/quota/used"),
    (2, "/budget/limited"),
    (2, "/budget/limit"),
    (2, "/budget/used"),
    (2, "/budget/cost"),
];

#[test]
fn an_attribute_that_is_missing_or_of_another_type_never_allows() {
    let policies = Policies::load().unwrap();
    assert!(ask_json(&policies, allowed_call()).allowed);
    assert!(ask_unchecked(&policies, allowed_call()).allowed);
    for (part, pointer) in ATTRIBUTES {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let mut missing = allowed_call();
        let removed = missing[part].pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        assert!(removed.is_some(), "{pointer}");
        for wrong in [json!([]), json!("1"), json!(1), json!(true), json!({})] {
            let mut mistyped = allowed_call();
            let slot = mistyped[part].pointer_mut(pointer).unwrap();
            if std::mem::discriminant(slot) == std::mem::discriminant(&wrong) {
                continue;
            }
            *slot = wrong;
            assert_eq!(ask_json(&policies, mistyped.clone()), unevaluated(), "{pointer} in {mistyped:?}");
            assert!(!ask_unchecked(&policies, mistyped.clone()).allowed, "{pointer} in {mistyped:?}");
        }
        assert_eq!(ask_json(&policies, missing.clone()), unevaluated(), "{pointer} is missing");
        assert_eq!(ask_unchecked(&policies, missing), unevaluated(), "{pointer} is missing");
    }
}

#[test]
fn a_schema_that_calls_do_not_fit_is_refused_at_start() {
    for (right, wrong) in [("now: Long", "now: String"), ("used: Long", "used: Bool"), ("kind: String,", "")]
    {
        let schema = SCHEMA.replacen(right, wrong, 1);
        assert_ne!(schema, SCHEMA);
        // No policy asks for anything, so nothing else can be wrong.
        let policy = r#"@id("x") @reason("NO_GRANT") permit (principal, action, resource);"#;
        assert!(Policies::parse(&schema, policy).is_err(), "{wrong}");
    }
}

#[test]
fn an_evaluation_error_denies_even_where_cedar_would_skip_the_forbid() {
    let policies = r#"
        @id("all") @reason("NO_GRANT")
        permit (principal is Agent, action == Action::"call", resource is Tool);
        @id("overflow") @reason("QUOTA_EXHAUSTED")
        forbid (principal is Agent, action == Action::"call", resource is Tool)
        when { context.quota.used + 9223372036854775807 > 0 };"#;
    let policies = Policies::parse(SCHEMA, policies).unwrap();
    assert_eq!(ask_json(&policies, allowed_call()), unevaluated());
    let mut fits = allowed_call();
    fits[2]["quota"]["used"] = json!(-9_223_372_036_854_775_807_i64);
    assert!(ask_json(&policies, fits).allowed);
}

#[test]
fn a_grant_of_another_team_never_allows() {
    let policies = Policies::load().unwrap();
    let mut call = allowed_call();
    call[2]["grant"]["team"] = json!("other");
    let verdict = ask_json(&policies, call);
    assert!(!verdict.allowed);
    assert_eq!(verdict.policies, ["grant-of-another-team"]);
}

#[test]
fn names_that_look_like_policy_text_stay_names() {
    let policies = Policies::load().unwrap();
    let name = r#"a", action, resource) when { true }; permit (principal == Agent::""#;
    let agent =
        AgentFacts { team: "t".into(), name: name.into(), specialization: String::new(), disabled: false };
    let tool = ToolFacts { name: "x".into(), effect: Effect::ReadOnly, sensitivity: Sensitivity::Public };
    let subject = policies.subject(&agent, &tool).unwrap();
    assert_eq!(EntityUid::id(&subject.agent).unescaped(), format!("t/{name}"));
    let verdict = policies.ask(&subject, None, 0, Budget::NONE, DateTime::UNIX_EPOCH);
    assert_eq!(verdict.reasons, [ErrorReason::NoGrant]);
}
