//! Every role, specialization, tool and kind of arguments against one set of grants and team policies, as one table
//! that people review: `matrix.txt`. A change of it is a change of who may do what.
//!
//! `cargo test -p permissions --lib matrix -- --ignored` writes it anew; then read the difference, line by line.

use std::{collections::HashMap, fmt::Write, path::Path, sync::Arc};

use chrono::{DateTime, Utc};
use proto::permissions::v1::{
    AllowedHours, ArgumentCondition, HoursWindow, NumberRange, TextSet, argument_condition::Test,
};
use serde_json::{Value, json};
use types::{Effect, Role, Sensitivity};
use uuid::Uuid;

use crate::{
    condition,
    decide::{Arguments, Decided, Particulars, candidates, decide},
    hours::Hours,
    pattern,
    policies::{
        AgentFacts, Budget, Call, Policies, ToolFacts,
        team::{TeamPolicies, schema},
    },
    store::{GrantRow, Used},
};

const TABLE: &str = include_str!("matrix.txt");
const SPECIALIZATIONS: [&str; 3] = ["Researcher", "Writer", "none"];
const TOOLS: [(&str, Effect, Sensitivity); 7] = [
    ("web.search", Effect::ReadOnly, Sensitivity::Public),
    ("files.read", Effect::ReadOnly, Sensitivity::Internal),
    ("files.write", Effect::SideEffect, Sensitivity::Internal),
    ("mail.send", Effect::SideEffect, Sensitivity::Confidential),
    ("vault.read", Effect::ReadOnly, Sensitivity::Restricted),
    ("clock.set", Effect::Idempotent, Sensitivity::Public),
    ("net.ping", Effect::Idempotent, Sensitivity::Public),
];
const POLICIES: [(&str, &str); 4] = [
    (
        "nobody-in-secret",
        r#"forbid (principal, action == Action::"call", resource)
        when { context.arguments.paths.hasTag("/path") && context.arguments.paths.getTag("/path") in Path::"/secret" };"#,
    ),
    (
        "auditors-change-nothing",
        r#"forbid (principal, action == Action::"call", resource)
        when { principal.role == "auditor" && resource.effect != "read_only" };"#,
    ),
    (
        "admins-ping",
        r#"permit (principal, action == Action::"call", resource)
        when { principal.role == "admin" && resource.name == "net.ping" };"#,
    ),
    (
        "few-at-once",
        r#"forbid (principal, action == Action::"call", resource)
        when { context.arguments.numbers.hasTag("/count") && context.arguments.numbers.getTag("/count") > 100 };"#,
    ),
];

fn arguments() -> [(&'static str, Option<Value>); 7] {
    [
        ("inside", Some(json!({"path": "/drafts/a.md", "to": "kim@example.com", "count": 3}))),
        ("outside", Some(json!({"path": "/final/a.md", "to": "kim@example.com.evil.org", "count": 3}))),
        ("traversal", Some(json!({"path": "/drafts/../final/a.md", "to": "kim@example.com\n", "count": 3}))),
        ("secret", Some(json!({"path": "/drafts/../secret/key", "to": "kim@example.com", "count": 3}))),
        ("mistyped", Some(json!({"path": ["/drafts/a.md"], "to": {"a": 1}, "count": "3"}))),
        ("too_many", Some(json!({"path": "/drafts/a.md", "to": "kim@example.com", "count": 101}))),
        ("none", None),
    ]
}

/// The agent's name in the grant that is for it alone.
const AGENT: &str = "sam";
/// A Monday, half past noon.
const NOW: &str = "2026-11-23T12:30:00Z";

fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

/// A grant under a name: to an agent, or to a specialization where it begins with a capital.
fn grant(name: u128, holder: &str, tool: &str, edit: impl FnOnce(&mut GrantRow)) -> GrantRow {
    let is_agent = holder.starts_with(|first: char| first.is_ascii_lowercase());
    let holder = Some(holder.to_owned());
    let holder = if is_agent { (holder, None) } else { (None, holder) };
    let mut row = GrantRow::plain("t", holder, tool, ("root", now()));
    row.grant_id = Uuid::from_u128(name);
    edit(&mut row);
    row
}

fn condition(pointer: &str, test: Test) -> Vec<condition::Condition> {
    let condition = ArgumentCondition { pointer: pointer.into(), test: Some(test) };
    condition::parse("conditions", vec![condition]).unwrap()
}

fn hours(start: &str, end: &str) -> Hours {
    let windows = vec![HoursWindow { days: vec![], start: start.into(), end: end.into() }];
    Hours::parse("hours", AllowedHours { time_zone: "Europe/Berlin".into(), windows }).unwrap()
}

/// Each kind of limit, alone and with others, and what is used of it.
fn grants() -> Vec<(&'static str, GrantRow, Used)> {
    let drafts = || condition("/path", Test::Within(TextSet { values: vec!["/drafts".into()] }));
    let used = |hour, day, total| Used { hour, day, total };
    vec![
        ("search", grant(1, "Researcher", "web.*", |row| row.max_per_hour = 10), used(9, 50, 500)),
        ("search-full", grant(2, "Writer", "web.search", |row| row.max_per_day = 50), used(0, 50, 50)),
        ("drafts", grant(3, "Writer", "files.*", |row| row.conditions = drafts()), used(0, 0, 0)),
        ("reading", grant(4, "Researcher", "files.*", |row| row.read_only = true), used(0, 0, 0)),
        (
            "mail",
            grant(5, "Writer", "mail.send", |row| {
                row.conditions = condition("/to", Test::Matches("[a-z]+@example\\.com".into()));
                row.approver_role = Some(Role::Operator);
            }),
            used(0, 0, 0),
        ),
        (
            "mail-few",
            grant(6, "Researcher", "mail.send", |row| {
                row.conditions =
                    condition("/count", Test::Range(NumberRange { min: Some(1.0), max: Some(5.0) }));
                row.max_total = 1;
            }),
            used(0, 0, 0),
        ),
        (
            "vault",
            grant(7, "Researcher", "vault.read", |row| row.max_sensitivity = Some("confidential".into())),
            used(0, 0, 0),
        ),
        ("vault-ended", grant(8, "Writer", "vault.read", |row| row.expire_time = Some(now())), used(0, 0, 0)),
        (
            "clock-by-day",
            grant(9, "Researcher", "clock.set", |row| row.hours = Some(hours("09:00", "17:00"))),
            used(0, 0, 0),
        ),
        (
            "clock-by-night",
            grant(10, "Writer", "clock.set", |row| row.hours = Some(hours("22:00", "06:00"))),
            used(0, 0, 0),
        ),
        (
            "sam-looks",
            grant(11, AGENT, "*", |row| {
                row.read_only = true;
                row.max_sensitivity = Some("public".into());
            }),
            used(0, 0, 0),
        ),
    ]
}

/// The whole table.
fn table() -> String {
    let policies = Policies::load().unwrap();
    let team = TeamPolicies::parse(schema().unwrap(), &POLICIES).unwrap();
    let grants = grants();
    let names: HashMap<Uuid, &str> = grants.iter().map(|(name, row, _)| (row.grant_id, *name)).collect();
    let used: HashMap<Uuid, Used> = grants.iter().map(|(_, row, used)| (row.grant_id, *used)).collect();
    let mut table = format!(
        "{:<11} {:<10} {:<9} {:<14} {:<27} decided by\n",
        "tool", "arguments", "role", "specialization", "decision"
    );
    for (tool, effect, sensitivity) in TOOLS {
        let meant: Vec<String> = std::iter::once(tool.to_owned()).chain(pattern::groups(tool)).collect();
        for (kind, arguments) in arguments() {
            for role in Role::ALL {
                for specialization in SPECIALIZATIONS {
                    let agent = AgentFacts {
                        team: "t".into(),
                        name: AGENT.into(),
                        specialization: specialization.into(),
                        role,
                        disabled: false,
                    };
                    let is_for = |row: &GrantRow| {
                        let held = row.agent_id.as_deref() == Some(AGENT)
                            || row.specialization.as_deref() == Some(specialization);
                        held && meant.contains(&row.tool_name)
                    };
                    let rows: Vec<_> = grants
                        .iter()
                        .filter(|(_, row, _)| is_for(row))
                        .map(|(_, row, _)| Arc::new(row.clone()))
                        .collect();
                    let particulars = Particulars {
                        team: "t",
                        agent: AGENT,
                        user: "",
                        tool,
                        tool_digest: "d",
                        arguments_digest: "a",
                        arguments: Arguments::Given(arguments.as_ref()),
                        now: now(),
                    };
                    let tried = candidates(&rows, &[], &used, &particulars);
                    let facts = ToolFacts { name: tool.into(), effect, sensitivity };
                    let call =
                        Call { user: "", arguments: arguments.as_ref(), budget: Budget::NONE, now: now() };
                    let decided = decide(&policies, (&agent, &facts), call, Some(&team), &tried);
                    let (decision, index, by) = match decided {
                        Decided::Allowed { index, policies } => ("allowed".to_owned(), index, policies),
                        Decided::Denied { reason, index, policies } => {
                            let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
                            (format!("DENIED {reason}"), index, policies)
                        }
                    };
                    let grant = index.map_or("-", |index| names[&tried[index].grant.grant_id]);
                    let by: Vec<&str> = std::iter::once(grant).chain(by.iter().map(String::as_str)).collect();
                    writeln!(
                        table,
                        "{tool:<11} {kind:<10} {:<9} {specialization:<14} {decision:<27} {}",
                        role.as_str(),
                        by.join(" ")
                    )
                    .unwrap();
                }
            }
        }
    }
    table
}

#[test]
fn who_may_do_what_is_what_was_reviewed() {
    let table = table();
    let difference = TABLE.lines().zip(table.lines()).find(|(reviewed, decided)| reviewed != decided);
    if let Some((reviewed, decided)) = difference {
        panic!(
            "reviewed: {reviewed}\ndecided:  {decided}\nhow the table is written anew is told in matrix.rs"
        );
    }
    assert_eq!(TABLE.lines().count(), table.lines().count());
    assert_eq!(
        table.lines().count(),
        1 + TOOLS.len() * arguments().len() * Role::ALL.len() * SPECIALIZATIONS.len()
    );
}

/// Writes the table anew, to be reviewed.
#[test]
#[ignore = "writes to the source"]
fn write_matrix() {
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/matrix.txt"), table()).unwrap();
}
