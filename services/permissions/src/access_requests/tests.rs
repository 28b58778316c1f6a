//! Which approval serves which call.

use proto::permissions::v1 as wire;
use serde_json::json;

use super::*;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn approval(number: u128, scope: Scope) -> Approval {
    Approval {
        id: Uuid::from_u128(number),
        agent_id: "a".into(),
        user: "u".into(),
        tool_name: "t".into(),
        tool_digest: "d".into(),
        scope,
        expire_time: at(100),
        role: Role::Operator,
        is_grant: false,
    }
}

/// A call of agent `a` for user `u` to tool `t` of definition `d`.
fn called<'a>(digest: &'a str, arguments: Option<&'a Value>) -> Particulars<'a> {
    Particulars {
        team: "t",
        agent: "a",
        user: "u",
        tool: "t",
        tool_digest: "d",
        arguments_digest: digest,
        arguments: Arguments::Given(arguments),
        now: at(0),
    }
}

fn once(digest: &str) -> Scope {
    Scope::Once { arguments_digest: digest.into() }
}

fn small() -> Scope {
    let range = wire::NumberRange { min: None, max: Some(5.0) };
    let test = Some(wire::argument_condition::Test::Range(range));
    let condition = wire::ArgumentCondition { pointer: "/n".into(), test };
    Scope::Arguments { conditions: crate::condition::parse("c", vec![condition]).unwrap() }
}

#[test]
fn an_approval_serves_its_agent_tool_definition_and_arguments_until_it_ends() {
    let approvals = [approval(1, once("x"))];
    let serves = |agent, tool, tool_digest, arguments, now| {
        let call = Particulars { agent, tool, tool_digest, now: at(now), ..called(arguments, None) };
        serving(&approvals, &call).is_some()
    };
    assert!(serves("a", "t", "d", "x", 0) && serves("a", "t", "d", "x", 99));
    assert!(!serves("b", "t", "d", "x", 0), "another agent");
    assert!(!serves("a", "u", "d", "x", 0), "another tool");
    assert!(!serves("a", "t", "e", "x", 0), "another definition");
    assert!(!serves("a", "t", "d", "y", 0), "other arguments");
    assert!(!serves("a", "t", "d", "x", 100), "it has ended");
    for user in ["", "v", "U", "u "] {
        let call = Particulars { user, ..called("x", None) };
        assert!(serving(&approvals, &call).is_none(), "for {user:?}");
    }
    // What nobody knows is nothing that somebody approved.
    let unknown = [Approval { tool_digest: String::new(), ..approval(1, once("")) }];
    assert!(serving(&unknown, &Particulars { tool_digest: "", ..called("", None) }).is_none());
    assert!(serving(&[approval(1, once(""))], &called("", None)).is_none());
}

#[test]
fn conditions_are_met_or_nothing_is() {
    let approvals = [approval(1, small())];
    let serves = |arguments: Option<&Value>| serving(&approvals, &called("any", arguments)).is_some();
    assert!(serves(Some(&json!({"n": 5}))));
    for unmet in [json!({"n": 6}), json!({"n": "5"}), json!({}), json!(5)] {
        assert!(!serves(Some(&unmet)), "{unmet}");
    }
    assert!(!serves(None), "arguments that nobody can read");
    let none = [approval(1, Scope::Arguments { conditions: Vec::new() })];
    assert!(serving(&none, &called("any", Some(&json!({})))).is_none());
}

#[test]
fn what_lasts_serves_before_what_is_used_up() {
    let approvals = [approval(1, once("x")), approval(2, once("x")), approval(3, Scope::Tool)];
    let served =
        |approvals: &[Approval]| serving(approvals, &called("x", None)).map(|approval| approval.id.as_u128());
    assert_eq!((served(&approvals), served(&approvals[..2])), (Some(3), Some(1)));
    assert_eq!(served(&approvals[1..2]), Some(2));
}
