//! An independent model of the decision: written from the comments of `permissions.proto` alone, in plain Rust, with
//! its own arithmetic of paths, hosts, hours and time zones. It shares no function with what it is compared with, and
//! must never be mended to agree: where the two differ, the contract says who is right.

mod agree;
mod cases;
mod clock;

use std::collections::BTreeSet;

use proto::{
    permissions::v1::{
        AllowedHours, ArgumentCondition, Grant, HoursWindow, Role, TextSet, argument_condition::Test,
        grant::Grantee,
    },
    types::v1::{Effect, ErrorReason, Sensitivity},
};
use serde_json::Value;

use clock::Zone;

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// One question.
#[derive(Debug, Clone)]
struct Case {
    /// Microseconds since 1970 (UTC).
    now: i64,
    agent: Agent,
    tool: Tool,
    tool_digest: String,
    arguments_digest: String,
    /// As the caller sent them; `None`: nothing that is an object.
    arguments: Option<Value>,
    user: String,
    grants: Vec<Given>,
    approvals: Vec<Approved>,
    budget: Budget,
    /// Which of the team's policies are in force, as indices of `POLICIES`.
    policies: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
struct Agent {
    name: String,
    specialization: String,
    role: Role,
    disabled: bool,
}

#[derive(Debug, Clone)]
struct Tool {
    name: String,
    effect: Effect,
    sensitivity: Sensitivity,
}

/// A grant, and the places taken of the hour, the day and all time.
#[derive(Debug, Clone)]
struct Given {
    grant: Grant,
    used: [i64; 3],
}

/// An access request that was approved.
#[derive(Debug, Clone)]
struct Approved {
    agent: String,
    user: String,
    tool: String,
    tool_digest: String,
    scope: Scope,
    expire_time: i64,
    /// Of whoever approved it.
    role: Role,
    /// Whether it was asked for where no grant allowed the call.
    is_grant: bool,
}

#[derive(Debug, Clone)]
enum Scope {
    Once { arguments_digest: String },
    Arguments(Vec<ArgumentCondition>),
    Tool,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    limit: i64,
    used: i64,
    cost: i64,
}

/// What the model says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    allowed: bool,
    /// Of each grant that is for the agent and the tool, by its index: why it does not allow the call.
    grants: Vec<(usize, BTreeSet<i32>)>,
}

/// A team's policy, as its admin writes it and as the model knows it.
struct TeamPolicy {
    name: &'static str,
    text: &'static str,
    /// Whether it forbids; else it permits.
    forbids: bool,
    /// Whether it applies.
    applies: fn(&Case) -> bool,
}

const POLICIES: [TeamPolicy; 8] = [
    TeamPolicy {
        name: "researchers-only-look",
        text: r#"forbid (principal, action == Action::"call", resource)
                 when { resource.effect == "side_effect" && principal.specialization == "Researcher" };"#,
        forbids: true,
        applies: |case| case.tool.effect == Effect::SideEffect && case.agent.specialization == "Researcher",
    },
    TeamPolicy {
        name: "no-foreign-mail",
        text: r#"forbid (principal, action == Action::"call", resource)
                 when { context.arguments.texts.hasTag("/to") &&
                        context.arguments.texts.getTag("/to") like "*@evil.example" };"#,
        forbids: true,
        applies: |case| text_of(case, "to").is_some_and(|to| to.ends_with("@evil.example")),
    },
    TeamPolicy {
        name: "for-somebody",
        text: r#"forbid (principal, action == Action::"call", resource)
                 when { context.user == "" && resource.sensitivity >= 2 };"#,
        forbids: true,
        applies: |case| {
            case.user.is_empty()
                && matches!(case.tool.sensitivity, Sensitivity::Confidential | Sensitivity::Restricted)
        },
    },
    TeamPolicy {
        name: "anybody-pings",
        text: r#"permit (principal, action == Action::"call", resource) when { resource.name == "net.ping" };"#,
        forbids: false,
        applies: |case| case.tool.name == "net.ping",
    },
    TeamPolicy {
        name: "small-amounts",
        text: r#"forbid (principal, action == Action::"call", resource)
                 when { context.arguments.numbers.hasTag("/amount") &&
                        context.arguments.numbers.getTag("/amount") > 100 };"#,
        forbids: true,
        applies: |case| {
            let amount = case.arguments.as_ref().and_then(|arguments| arguments.get("amount")?.as_i64());
            amount.is_some_and(|amount| amount > 100)
        },
    },
    TeamPolicy {
        name: "keep-out",
        text: r#"forbid (principal, action == Action::"call", resource)
                 when { context.arguments.paths.hasTag("/path") &&
                        context.arguments.paths.getTag("/path") in Path::"/secret" };"#,
        forbids: true,
        applies: |case| text_of(case, "path").is_some_and(|path| is_within(path, "/secret")),
    },
    TeamPolicy {
        name: "auditors-do-not-call",
        text: r#"forbid (principal, action == Action::"call", resource) when { principal.role == "auditor" };"#,
        forbids: true,
        applies: |case| case.agent.role == Role::Auditor,
    },
    TeamPolicy {
        name: "readers-read",
        text: r#"permit (principal, action == Action::"call", resource)
                 when { principal.specialization == "Reader" && resource.effect == "read_only" };"#,
        forbids: false,
        applies: |case| case.agent.specialization == "Reader" && case.tool.effect == Effect::ReadOnly,
    },
];

fn text_of<'a>(case: &'a Case, name: &str) -> Option<&'a str> {
    case.arguments.as_ref()?.get(name)?.as_str()
}

/// The model's answer.
fn decide(case: &Case) -> Answer {
    let grants: Vec<_> = case
        .grants
        .iter()
        .enumerate()
        .filter(|(_, given)| is_for(&given.grant, case))
        .map(|(index, given)| (index, reasons(given, case)))
        .collect();
    // "A forbid denies whatever the grants say; a permit allows what no grant does, within all other limits."
    let permitted = POLICIES
        .iter()
        .enumerate()
        .any(|(index, policy)| case.policies.contains(&index) && !policy.forbids && (policy.applies)(case));
    let approved = case.approvals.iter().any(|approval| approval.is_grant && serves(approval, case));
    let without_grant = (permitted || approved) && limits_of_all(case).is_empty();
    let allowed = without_grant || grants.iter().any(|(_, reasons)| reasons.is_empty());
    Answer { allowed, grants }
}

/// What denies a call under every grant, and without one.
fn limits_of_all(case: &Case) -> BTreeSet<i32> {
    let mut reasons = BTreeSet::new();
    let mut deny = |when: bool, reason: ErrorReason| {
        if when {
            reasons.insert(reason as i32);
        }
    };
    deny(case.agent.disabled, ErrorReason::AgentDisabled);
    let Budget { limit, used, cost } = case.budget;
    deny(limit > 0 && cost > 0 && used + cost > limit, ErrorReason::BudgetExhausted);
    let forbidden = POLICIES
        .iter()
        .enumerate()
        .any(|(index, policy)| case.policies.contains(&index) && policy.forbids && (policy.applies)(case));
    deny(forbidden, ErrorReason::PolicyDenied);
    reasons
}

/// "One agent, by name" or "every agent with this specialization"; "the tool's name; or "PREFIX.*" for every tool
/// whose name begins with "PREFIX."; or "*" for every tool".
fn is_for(grant: &Grant, case: &Case) -> bool {
    let held = match grant.grantee.as_ref() {
        Some(Grantee::AgentId(agent)) => *agent == case.agent.name,
        Some(Grantee::Specialization(specialization)) => *specialization == case.agent.specialization,
        None => false,
    };
    let meant = match grant.tool_name.strip_suffix('*') {
        None => grant.tool_name == case.tool.name,
        Some(prefix) => case.tool.name.starts_with(prefix),
    };
    held && meant && grant.revoke_time.is_none()
}

/// Why a grant does not allow the call.
fn reasons(given: &Given, case: &Case) -> BTreeSet<i32> {
    let (grant, mut reasons) = (&given.grant, limits_of_all(case));
    let mut deny = |when: bool, reason: ErrorReason| {
        if when {
            reasons.insert(reason as i32);
        }
    };
    let ended = grant
        .expire_time
        .as_ref()
        .is_some_and(|at| case.now >= at.seconds * SECOND + i64::from(at.nanos) / 1_000);
    deny(ended, ErrorReason::GrantExpired);
    deny(grant.read_only && case.tool.effect != Effect::ReadOnly, ErrorReason::ReadOnlyGrant);
    let most = grant.max_sensitivity;
    deny(most != 0 && case.tool.sensitivity as i32 > most, ErrorReason::SensitivityExceeded);
    let limits = [grant.max_per_hour, grant.max_per_day, grant.max_total];
    let full = limits.iter().zip(given.used).any(|(&limit, used)| limit > 0 && used >= limit);
    deny(full, ErrorReason::QuotaExhausted);
    deny(grant.hours.as_ref().is_some_and(|hours| !is_open(hours, case.now)), ErrorReason::OutsideHours);
    let met = grant.conditions.iter().all(|condition| is_met(condition, case.arguments.as_ref()));
    deny(!met, ErrorReason::ArgumentCondition);
    let approver = grant.approver_role;
    let approved = approver == 0
        || case.approvals.iter().any(|approval| approval.role as i32 >= approver && serves(approval, case));
    deny(!approved, ErrorReason::ApprovalRequired);
    reasons
}

/// "It holds for this agent and this definition of the tool alone", until it ends, for what its scope says.
fn serves(approval: &Approved, case: &Case) -> bool {
    approval.agent == case.agent.name
        && approval.user == case.user
        && approval.tool == case.tool.name
        && approval.tool_digest == case.tool_digest
        && case.now < approval.expire_time
        && match &approval.scope {
            Scope::Once { arguments_digest } => *arguments_digest == case.arguments_digest,
            Scope::Arguments(conditions) => {
                conditions.iter().all(|condition| is_met(condition, case.arguments.as_ref()))
            }
            Scope::Tool => true,
        }
}

/// "From one time of day up to another, on some days of the week, by the zone's wall clock."
fn is_open(hours: &AllowedHours, now: i64) -> bool {
    let Some(zone) = Zone::of(&hours.time_zone) else { return false };
    let (weekday, minute) = zone.wall_clock(now);
    let yesterday = if weekday == 1 { 7 } else { weekday - 1 };
    hours.windows.iter().any(|window| {
        let begins = |day: i32| window.days.is_empty() || window.days.contains(&day);
        let (start, end) = (minutes(&window.start), minutes(&window.end));
        if end > start {
            begins(weekday) && (start..end).contains(&minute)
        } else {
            // "At or before the start: on the next day."
            (begins(weekday) && minute >= start) || (begins(yesterday) && minute < end)
        }
    })
}

/// Minutes since midnight of "HH:MM".
fn minutes(text: &str) -> i64 {
    let (hour, minute) = text.split_once(':').unwrap();
    hour.parse::<i64>().unwrap() * 60 + minute.parse::<i64>().unwrap()
}

/// "A value that is missing, or of another type than the test asks for, does not meet it."
fn is_met(condition: &ArgumentCondition, arguments: Option<&Value>) -> bool {
    let Some(arguments) = arguments else { return false };
    let steps: Vec<String> =
        condition.pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let Some(reached) = reach(Some(arguments), &steps) else { return false };
    reached.into_iter().all(|value| match condition.test.as_ref() {
        None => false,
        Some(Test::Absent(_)) => value.is_none(),
        Some(test) => value.is_some_and(|value| passes(test, value)),
    })
}

/// What a pointer leads to: `None` for what is not there. No answer at all when a "*" meets nothing.
fn reach<'a>(value: Option<&'a Value>, steps: &[String]) -> Option<Vec<Option<&'a Value>>> {
    let Some((step, rest)) = steps.split_first() else { return Some(vec![value]) };
    if step == "*" {
        let elements: Vec<&Value> = match value? {
            Value::Array(elements) => elements.iter().collect(),
            Value::Object(members) => members.values().collect(),
            _ => return None,
        };
        if elements.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        for element in elements {
            all.extend(reach(Some(element), rest)?);
        }
        return Some(all);
    }
    let next = match value {
        Some(Value::Object(members)) => members.get(step),
        Some(Value::Array(elements)) => {
            let plain =
                step == "0" || (!step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit()));
            if plain { step.parse::<usize>().ok().and_then(|at| elements.get(at)) } else { None }
        }
        _ => None,
    };
    reach(next, rest)
}

fn passes(test: &Test, value: &Value) -> bool {
    match test {
        Test::OneOf(TextSet { values }) => {
            value.as_str().is_some_and(|text| values.iter().any(|known| known == text))
        }
        Test::Range(range) => {
            value.is_number()
                && value.as_f64().is_some_and(|number| {
                    range.min.is_none_or(|min| number >= min) && range.max.is_none_or(|max| number <= max)
                })
        }
        Test::Within(TextSet { values }) => {
            value.as_str().is_some_and(|path| values.iter().any(|folder| is_within(path, folder)))
        }
        Test::UrlHost(TextSet { values }) => {
            value.as_str().and_then(host).is_some_and(|host| values.iter().any(|known| is_host(&host, known)))
        }
        Test::Matches(pattern) => value.as_str().is_some_and(|text| matches_whole(pattern, text)),
        Test::Is(expected) => value.as_bool() == Some(*expected),
        Test::MaxLength(most) => {
            let length = match value {
                Value::String(text) => text.chars().count(),
                Value::Array(elements) => elements.len(),
                _ => return false,
            };
            i64::try_from(length).unwrap() <= *most
        }
        Test::Absent(_) => false,
    }
}

/// The patterns that cases use, each by what it means.
fn matches_whole(pattern: &str, text: &str) -> bool {
    match pattern {
        "[a-z]+" => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase()),
        "a|ab" => text == "a" || text == "ab",
        "v[0-9]{1,3}" => text.strip_prefix('v').is_some_and(|number| {
            (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
        }),
        "(?m)^x$" => text == "x",
        other => panic!("the model does not know {other}"),
    }
}

/// The steps of a path without "." and ".."; `None` where it leads out of its root, or has a way to write a step that
/// is not plain.
fn steps(path: &str) -> Option<Vec<&str>> {
    let odd = ['\\', '%', '\u{ff0e}', '\u{ff0f}', '\u{2024}', '\u{2025}', '\u{2026}', '\u{fe52}'];
    if path.contains(odd) || path.contains(char::is_control) || path.starts_with('~') || path.contains(':') {
        return None;
    }
    let mut steps = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()?),
            _ if step.ends_with(['.', ' ']) || step.starts_with(' ') => return None,
            _ => steps.push(step),
        }
    }
    Some(steps)
}

fn is_within(path: &str, folder: &str) -> bool {
    match (steps(path), steps(folder)) {
        (Some(path), Some(folder)) => path.starts_with(&folder),
        _ => false,
    }
}

/// The host of an http or https URL that is written plainly, in lower case; `None` for anything else.
fn host(url: &str) -> Option<String> {
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if rest.contains(['\\', '\t', '\n', '\r']) || url.trim() != url {
        return None;
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let known = !host.is_empty() && host.bytes().all(plain) && !port.is_empty();
    (known && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| host.to_owned())
}

/// "Whose host is one of these, or below one that begins with "*."."
fn is_host(host: &str, known: &str) -> bool {
    match known.strip_prefix('*') {
        None => host == known,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
    }
}

/// A window, as cases write it.
fn window(days: &[i32], start: &str, end: &str) -> HoursWindow {
    HoursWindow { days: days.to_vec(), start: start.to_owned(), end: end.to_owned() }
}
