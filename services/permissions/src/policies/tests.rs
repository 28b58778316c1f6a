//! The policies hold what the design promises, and whatever does not fit the schema denies.

use cedar_policy::{Context, EntityUid};
use serde_json::{Value as Json, json};

use super::*;

#[test]
fn the_platform_policies_pass_strict_validation_and_are_few() {
    let policies = Policies::load().unwrap();
    assert_eq!(policies.set.policies().count(), 14);
    for reason in [
        ErrorReason::AgentDisabled,
        ErrorReason::GrantExpired,
        ErrorReason::ReadOnlyGrant,
        ErrorReason::SensitivityExceeded,
        ErrorReason::ArgumentCondition,
        ErrorReason::OutsideHours,
        ErrorReason::ApprovalRequired,
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
               "attrs": {"team": "t", "name": "a", "specialization": "S", "role": "agent", "disabled": false}}),
        json!({"uid": {"type": "Tool", "id": "x"}, "parents": [],
               "attrs": {"name": "x", "groups": ["*"], "effect": "read_only", "sensitivity": 1}}),
        json!({"now": 10,
               "grant": {"team": "t", "kind": "agent", "holder": "a", "tool": "x", "readOnly": false,
                         "maxSensitivity": 3, "expireTime": 11, "withinHours": true, "conditionsMet": true,
                         "approved": true},
               "hour": {"limited": true, "limit": 2, "used": 1},
               "day": {"limited": true, "limit": 3, "used": 2},
               "total": {"limited": true, "limit": 4, "used": 3},
               "time": {"__extn": {"fn": "datetime", "arg": "2026-11-23T00:00:00.000Z"}},
               "user": "",
               "arguments": {"texts": entity("Texts"), "numbers": entity("Numbers"), "decimals": entity("Decimals"),
                             "flags": entity("Flags"), "textLists": entity("TextLists"), "paths": entity("Paths"),
                             "pointers": []},
               "budget": {"limited": true, "limit": 9, "used": 4, "cost": 5}}),
    ]
}

fn entity(kind: &str) -> Json {
    json!({"__entity": {"type": kind, "id": ""}})
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
    let Some(subject) = policies.checked(entity(agent), entity(tool)) else { return Verdict::unevaluated() };
    let schema_of_call = schema.map(|schema| (schema, &policies.call));
    let Ok(context) = Context::from_json_value(context, schema_of_call) else {
        return Verdict::unevaluated();
    };
    let (agent, tool) = (subject.agent.clone(), subject.tool.clone());
    match Request::new(agent, policies.call.clone(), tool, context, schema) {
        Ok(request) => policies.answer(&request, &subject.entities),
        Err(_) => Verdict::unevaluated(),
    }
}

/// JSON pointers of every attribute that the platform's policies ask.
const ATTRIBUTES: [(usize, &str); 32] = [
    (0, "/attrs/team"),
    (0, "/attrs/name"),
    (0, "/attrs/specialization"),
    (0, "/attrs/disabled"),
    (1, "/attrs/name"),
    (1, "/attrs/groups"),
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
    (2, "/grant/withinHours"),
    (2, "/grant/conditionsMet"),
    (2, "/grant/approved"),
    (2, "/hour/limited"),
    (2, "/hour/limit"),
    (2, "/hour/used"),
    (2, "/day/limited"),
    (2, "/day/limit"),
    (2, "/day/used"),
    (2, "/total/limited"),
    (2, "/total/limit"),
    (2, "/total/used"),
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
            assert_eq!(
                ask_json(&policies, mistyped.clone()),
                Verdict::unevaluated(),
                "{pointer} in {mistyped:?}"
            );
            assert!(!ask_unchecked(&policies, mistyped.clone()).allowed, "{pointer} in {mistyped:?}");
        }
        assert_eq!(ask_json(&policies, missing.clone()), Verdict::unevaluated(), "{pointer} is missing");
        assert_eq!(ask_unchecked(&policies, missing), Verdict::unevaluated(), "{pointer} is missing");
    }
}

#[test]
fn a_schema_that_calls_do_not_fit_is_refused_at_start() {
    for (right, wrong) in [
        ("now: Long", "now: String"),
        ("used: Long", "used: Bool"),
        ("user: String", "user: Long"),
        ("kind: String,", ""),
    ] {
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
        when { context.hour.used + 9223372036854775807 > 0 };"#;
    let policies = Policies::parse(SCHEMA, policies).unwrap();
    assert_eq!(ask_json(&policies, allowed_call()), Verdict::unevaluated());
    let mut fits = allowed_call();
    fits[2]["hour"]["used"] = json!(-9_223_372_036_854_775_807_i64);
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
    let agent = AgentFacts {
        team: "t".into(),
        name: name.into(),
        specialization: String::new(),
        role: Role::Agent,
        disabled: false,
    };
    let tool = ToolFacts { name: "x".into(), effect: Effect::ReadOnly, sensitivity: Sensitivity::Public };
    let subject = policies.subject(&agent, &tool).unwrap();
    assert_eq!(EntityUid::id(&subject.agent).unescaped(), format!("t/{name}"));
    let call = Call { user: name, arguments: None, budget: Budget::NONE, now: DateTime::UNIX_EPOCH };
    let verdict = policies.asking(&agent, &tool, call, None).unwrap().ask(None);
    assert_eq!(verdict.reasons, [ErrorReason::NoGrant]);
}

/// What a policy of the team says to a call with these arguments, without a grant.
fn permits(policy: &str, arguments: &Json) -> bool {
    let policies = Policies::load().unwrap();
    let text = format!("permit (principal, action, resource) when {{ {policy} }};");
    let team = TeamPolicies::parse(&policies.schema, &[("p", text.as_str())])
        .unwrap_or_else(|fault| panic!("{fault}"));
    let agent = AgentFacts {
        team: "t".into(),
        name: "a".into(),
        specialization: String::new(),
        role: Role::Operator,
        disabled: false,
    };
    let tool = ToolFacts { name: "a.b.x".into(), effect: Effect::ReadOnly, sensitivity: Sensitivity::Public };
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let call = Call { user: "ann", arguments: Some(arguments), budget: Budget::NONE, now };
    let verdict = policies.asking(&agent, &tool, call, Some(&team)).unwrap().ask(None);
    assert_eq!(verdict.allowed, verdict.policies == ["team/p"], "{verdict:?}");
    verdict.allowed
}

#[test]
fn policies_of_a_team_see_every_argument_as_what_it_is() {
    let arguments = json!({
        "to": "ann@example.org", "n": 7, "price": 1.25, "fine": 1.00001, "whole": 3.0, "big": 9_007_199_254_740_993_u64,
        "flag": true, "none": null, "list": ["a", "b"], "mixed": ["a", 1], "a/b": {"c~d": [{"e": "deep"}]},
        "path": "/reports/2026/../2026/q1.csv", "out": "/reports/../../etc/passwd",
    });
    let has = |kind: &str, pointer: &str, test: &str| {
        let of = format!("context.arguments.{kind}");
        permits(&format!("{of}.hasTag(\"{pointer}\") && {of}.getTag(\"{pointer}\"){test}"), &arguments)
    };
    assert!(has("texts", "/to", " == \"ann@example.org\""));
    assert!(has("numbers", "/n", " == 7") && has("numbers", "/whole", " == 3"));
    assert!(has("numbers", "/big", " == 9007199254740993"));
    assert!(
        has("decimals", "/price", ".lessThan(decimal(\"1.3\"))")
            && has("decimals", "/n", " == decimal(\"7.0\")")
    );
    assert!(has("flags", "/flag", ""));
    assert!(
        has("textLists", "/list", ".containsAll([\"b\", \"a\"])") && has("texts", "/list/1", " == \"b\"")
    );
    assert!(has("texts", "/a~1b/c~0d/0/e", " == \"deep\""));
    assert!(has("paths", "/path", " == Path::\"/reports/2026/q1.csv\""));
    assert!(has("paths", "/path", " in Path::\"/reports\"") && has("paths", "/path", " in Path::\"/\""));
    assert!(!has("paths", "/path", " in Path::\"/reports/2025\""));
    for (kind, pointer) in [
        ("texts", "/n"),
        ("numbers", "/to"),
        ("numbers", "/price"),
        ("decimals", "/fine"),
        ("flags", "/n"),
        ("textLists", "/mixed"),
        ("paths", "/out"),
        ("texts", "/missing"),
        ("texts", "/none"),
        ("decimals", "/to"),
    ] {
        assert!(
            !permits(&format!("context.arguments.{kind}.hasTag(\"{pointer}\")"), &arguments),
            "{kind} {pointer}"
        );
    }
    for pointer in ["/none", "/a~1b", "/list", "/list/0", "/fine"] {
        assert!(
            permits(&format!("context.arguments.pointers.contains(\"{pointer}\")"), &arguments),
            "{pointer}"
        );
    }
    assert!(permits("context.user == \"ann\" && principal.role == \"operator\"", &arguments));
    assert!(permits("resource.groups.containsAll([\"*\", \"a.*\", \"a.b.*\"])", &arguments));
    assert!(permits(
        "context.time.toTime() >= duration(\"12h\") && context.grant.kind == \"none\"",
        &arguments
    ));
}
