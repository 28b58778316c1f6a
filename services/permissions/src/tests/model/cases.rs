//! Random cases: few names, so that they meet; values at, one below and one above every limit; arguments as somebody
//! writes them who wants to get through.

use std::collections::BTreeSet;

use proto::{
    permissions::v1::{
        Absent, AllowedHours, ArgumentCondition, Grant, HoursWindow, NumberRange, Role, TextSet,
        argument_condition::Test, grant::Grantee,
    },
    types::v1::{Effect, Sensitivity},
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

use super::{
    Agent, Approved, Budget, Case, Given, POLICIES, SECOND, Scope, Tool,
    clock::{NAMES, Zone},
    minutes, window,
};

const AGENTS: [&str; 3] = ["scout", "writer", "root"];
const SPECIALIZATIONS: [&str; 3] = ["Researcher", "Reader", ""];
const TOOLS: [&str; 6] = ["net.ping", "net.http.get", "netx.get", "files", "files.read", "mail.send"];
const PATTERNS: [&str; 10] = [
    "net.ping",
    "net.*",
    "net.http.*",
    "files",
    "files.*",
    "files.read",
    "mail.send",
    "mail.*",
    "*",
    "netx.get",
];

/// Paths, most of which somebody hopes are taken for others.
const PATHS: [&str; 30] = [
    "/reports/a.csv",
    "reports/a.csv",
    "/reports",
    "/reports/",
    "/reports/2026/q1/x",
    "/reports/./a",
    "/reports//a",
    "/reports/x/../a",
    "/reports/../secret/a",
    "/reports/x/../../secret",
    "/reportsx/a",
    "/Reports/a",
    "/secret/key",
    "/public/../secret/key",
    "../reports/a",
    "/../reports/a",
    "/reports/../../reports/a",
    "/reports/%2e%2e/secret",
    "/reports/..%2fsecret",
    "/reports\\..\\secret",
    "/reports/a\u{0}",
    "/reports/\u{ff0e}\u{ff0e}/secret",
    "/reports\u{ff0f}a",
    "/reports/..\u{2024}/a",
    "/reports/.. /secret",
    "/reports/.../a",
    "/reports/a\n",
    "~/reports/a",
    "file:///reports/a",
    "",
];

/// URLs of the same kind.
const URLS: [&str; 26] = [
    "https://api.example.com/v1",
    "http://api.example.com",
    "HTTPS://API.Example.COM/x",
    "https://api.example.com:8443/x?y#z",
    "https://example.com/",
    "https://a.b.example.com/",
    "https://evil-example.com/",
    "https://example.com.evil.org/",
    "https://api.example.com.evil.org/",
    "https://user@evil.org/",
    "https://api.example.com@evil.org/",
    "https://evil.org/api.example.com",
    "https://evil.org?api.example.com",
    "https://evil.org#api.example.com",
    "https://evil.org\\@api.example.com/",
    "https://api.example.com\\@evil.org/",
    "ftp://api.example.com/",
    "//api.example.com/",
    "api.example.com",
    "javascript:https://api.example.com/",
    "http://0x7f.1/",
    "http://127.0.0.1/",
    "http://[::1]/",
    "https://xn--exmple-cua.com/",
    " https://api.example.com/",
    "",
];

const WORDS: [&str; 12] =
    ["a", "ab", "abc", "v1", "v123", "v1234", "x", "x\n", "A", "é", "you@evil.example", ""];

fn pick<T: Clone>(random: &mut StdRng, all: &[T]) -> T {
    all.choose(random).unwrap().clone()
}

fn one_in(random: &mut StdRng, many: u32) -> bool {
    random.random_range(0..many) == 0
}

/// One below, at, or one above.
fn near(random: &mut StdRng, limit: i64) -> i64 {
    (limit + random.random_range(-1..=1)).max(0)
}

/// Some moment of 2026 or about it.
fn moment(random: &mut StdRng) -> i64 {
    // 2025-12-01 to 2027-02-01.
    random.random_range(1_764_547_200 * SECOND..1_801_440_000 * SECOND)
}

pub(super) fn case(random: &mut StdRng) -> Case {
    let agent = Agent {
        name: pick(random, &AGENTS).into(),
        specialization: pick(random, &SPECIALIZATIONS).into(),
        role: pick(random, &[Role::Agent, Role::Agent, Role::Auditor, Role::Operator, Role::Admin]),
        disabled: one_in(random, 20),
    };
    let tool = Tool {
        name: pick(random, &TOOLS).into(),
        effect: pick(random, &[Effect::ReadOnly, Effect::Idempotent, Effect::SideEffect]),
        sensitivity: pick(
            random,
            &[Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted],
        ),
    };
    let mut now = moment(random);
    let grants: Vec<_> = (0..random.random_range(0..4)).map(|_| given(random, &mut now, &agent)).collect();
    let approvals = (0..random.random_range(0..3)).map(|_| approved(random, &tool, now)).collect();
    let limit = pick(random, &[0, 0, 0, 1_000]);
    let cost = pick(random, &[0, 1, 10]);
    let policies: BTreeSet<usize> = (0..POLICIES.len()).filter(|_| one_in(random, 6)).collect();
    Case {
        now,
        agent,
        tool,
        tool_digest: pick(random, &["d1", "d1", "d2"]).into(),
        arguments_digest: pick(random, &["x1", "x2"]).into(),
        arguments: arguments(random),
        user: pick(random, &["", "kim"]).into(),
        grants,
        approvals,
        budget: Budget { limit, used: near(random, limit - cost), cost },
        policies,
    }
}

/// A grant with some of the limits there are; most limits are near what the case meets.
fn given(random: &mut StdRng, now: &mut i64, agent: &Agent) -> Given {
    let mut grant = Grant { tool_name: pick(random, &PATTERNS).into(), ..Grant::default() };
    let specialization = pick(random, &SPECIALIZATIONS);
    grant.grantee = Some(if one_in(random, 2) || specialization.is_empty() {
        let name = if one_in(random, 4) { pick(random, &AGENTS).to_owned() } else { agent.name.clone() };
        Grantee::AgentId(name)
    } else {
        Grantee::Specialization(specialization.into())
    });
    let mut used = [0; 3];
    let limits = [&mut grant.max_per_hour, &mut grant.max_per_day, &mut grant.max_total];
    for (limit, used) in limits.into_iter().zip(&mut used) {
        if one_in(random, 4) {
            *limit = random.random_range(1..20);
            *used = near(random, *limit);
        } else {
            *used = random.random_range(0..20);
        }
    }
    grant.read_only = one_in(random, 5);
    if one_in(random, 4) {
        grant.max_sensitivity = random.random_range(1..=4);
    }
    if one_in(random, 4) {
        let at = *now + pick(random, &[-1, 0, 1, -86_400 * SECOND, 86_400 * SECOND]);
        let nanos = i32::try_from(at.rem_euclid(SECOND) * 1_000).unwrap();
        grant.expire_time = Some(prost_types::Timestamp { seconds: at.div_euclid(SECOND), nanos });
    }
    if one_in(random, 4) {
        grant.hours = Some(hours(random, now));
    }
    for _ in 0..pick(random, &[0, 0, 0, 1, 1, 2]) {
        grant.conditions.push(condition(random));
    }
    if one_in(random, 5) {
        grant.approver_role = pick(random, &[Role::Auditor, Role::Operator, Role::Admin]) as i32;
    }
    Given { grant, used }
}

/// Hours, and now near one of their ends, or near a change of the clock.
fn hours(random: &mut StdRng, now: &mut i64) -> AllowedHours {
    let zone_name = pick(random, &NAMES);
    let zone = Zone::of(zone_name).unwrap();
    let windows: Vec<HoursWindow> = (0..random.random_range(1..3)).map(|_| hours_window(random)).collect();
    match random.random_range(0..4) {
        0 => {
            // A change of the clock, and some minutes about it.
            let turns: Vec<i64> = [2026, 2027].into_iter().flat_map(|year| zone.turns(year)).collect();
            if let Some(&turn) = turns.choose(random) {
                *now = turn + random.random_range(-180..180) * 60 * SECOND + random.random_range(-1..=1);
            }
        }
        1 | 2 => {
            let edge = windows.choose(random).unwrap();
            let edge = if one_in(random, 2) { minutes(&edge.start) } else { minutes(&edge.end) };
            let (_, minute) = zone.wall_clock(*now);
            let whole = *now - now.rem_euclid(60 * SECOND);
            *now = whole + (edge - minute) * 60 * SECOND + random.random_range(-1..=1);
        }
        _ => {}
    }
    AllowedHours { time_zone: zone_name.into(), windows }
}

fn hours_window(random: &mut StdRng) -> HoursWindow {
    let (start, end) = pick(
        random,
        &[
            ("09:00", "17:00"),
            ("00:00", "24:00"),
            ("22:00", "06:00"),
            ("01:30", "02:30"),
            ("02:00", "03:00"),
            ("23:59", "00:01"),
            ("00:00", "00:01"),
            ("12:00", "11:59"),
        ],
    );
    let days: Vec<i32> = (1..=7).filter(|_| one_in(random, 2)).collect();
    window(if one_in(random, 2) { &[] } else { &days }, start, end)
}

fn texts(values: &[&str]) -> TextSet {
    TextSet { values: values.iter().map(|&value| value.to_owned()).collect() }
}

fn condition(random: &mut StdRng) -> ArgumentCondition {
    let range = |min, max| Test::Range(NumberRange { min, max });
    let (pointer, test) = match random.random_range(0..16) {
        0 | 1 => ("/path", Test::Within(texts(&["/reports"]))),
        2 => ("/path", Test::Within(texts(&["/public", "/reports/2026/"]))),
        3 | 4 => ("/url", Test::UrlHost(texts(&["api.example.com"]))),
        5 => ("/url", Test::UrlHost(texts(&["*.example.com", "127.0.0.1"]))),
        6 => ("/word", Test::OneOf(texts(&["a", "x", "é"]))),
        7 => ("/word", Test::Matches(pick(random, &["[a-z]+", "a|ab", "v[0-9]{1,3}", "(?m)^x$"]).into())),
        8 => ("/amount", range(Some(1.0), Some(100.0))),
        9 => ("/amount", pick(random, &[range(None, Some(100.0)), range(Some(-0.5), None)])),
        10 => ("/flag", Test::Is(one_in(random, 2))),
        11 => (pick(random, &["/word", "/list"]), Test::MaxLength(pick(random, &[0, 1, 2, 3]))),
        12 => (pick(random, &["/flag", "/extra", "/nested/secret", "/list/1"]), Test::Absent(Absent {})),
        13 => {
            (pick(random, &["/list/*", "/nested/*", "/list/0", "/list/01"]), Test::OneOf(texts(&["a", "b"])))
        }
        14 => ("/rows/*/path", Test::Within(texts(&["/reports"]))),
        _ => (pick(random, &["/a~1b", "/m~0n"]), Test::Is(true)),
    };
    ArgumentCondition { pointer: pointer.into(), test: Some(test) }
}

/// Any value but the one that is asked for.
fn odd(random: &mut StdRng) -> Value {
    pick(
        random,
        &[
            json!(null),
            json!(true),
            json!(0),
            json!("true"),
            json!("50"),
            json!([]),
            json!({}),
            json!(["a"]),
            json!(1e300),
        ],
    )
}

/// Arguments, at times with what is missing or of another type; `None`: no object.
fn arguments(random: &mut StdRng) -> Option<Value> {
    if one_in(random, 15) {
        return None;
    }
    let mut all = Map::new();
    let mut put = |random: &mut StdRng, name: &str, value: Value| {
        if one_in(random, 8) {
            return;
        }
        let value = if one_in(random, 8) { odd(random) } else { value };
        all.insert(name.to_owned(), value);
    };
    let path = pick(random, &PATHS);
    put(random, "path", json!(path));
    let url = pick(random, &URLS);
    put(random, "url", json!(url));
    let word = pick(random, &WORDS);
    put(random, "word", json!(word));
    let to = pick(random, &["me@good.example", "you@evil.example", "you@evil.example.org"]);
    put(random, "to", json!(to));
    let amount = pick(
        random,
        &[json!(0), json!(1), json!(99), json!(100), json!(101), json!(100.5), json!(0.5), json!(-1)],
    );
    put(random, "amount", amount);
    let flag = one_in(random, 2);
    put(random, "flag", json!(flag));
    let list =
        pick(random, &[json!([]), json!(["a"]), json!(["a", "b"]), json!(["a", 1]), json!(["a", "c"])]);
    put(random, "list", list);
    let nested =
        pick(random, &[json!({}), json!({"secret": null}), json!({"k": "a"}), json!({"k": "a", "l": "z"})]);
    put(random, "nested", nested);
    let (one, other) = (pick(random, &PATHS), pick(random, &PATHS));
    let rows = pick(
        random,
        &[
            json!([]),
            json!([{"path": one}]),
            json!([{"path": one}, {"path": other}]),
            json!([{"path": one}, {}]),
            json!([1]),
        ],
    );
    put(random, "rows", rows);
    put(random, "a/b", json!(true));
    put(random, "m~n", json!(true));
    Some(Value::Object(all))
}

fn approved(random: &mut StdRng, tool: &Tool, now: i64) -> Approved {
    let scope = match random.random_range(0..3) {
        0 => Scope::Once { arguments_digest: pick(random, &["x1", "x2"]).into() },
        1 => Scope::Arguments((0..random.random_range(1..3)).map(|_| condition(random)).collect()),
        _ => Scope::Tool,
    };
    let other = pick(random, &TOOLS).to_owned();
    Approved {
        agent: pick(random, &AGENTS).into(),
        user: pick(random, &["", "kim"]).into(),
        tool: if one_in(random, 4) { other } else { tool.name.clone() },
        tool_digest: pick(random, &["d1", "d1", "d2"]).into(),
        scope,
        expire_time: now + pick(random, &[-1, 0, 1, 3_600 * SECOND]),
        role: pick(random, &[Role::Auditor, Role::Operator, Role::Admin]),
        is_grant: one_in(random, 3),
    }
}

/// A generator whose cases are the same on every machine.
pub(super) fn seeded(seed: u64) -> StdRng {
    rand::SeedableRng::seed_from_u64(seed)
}
