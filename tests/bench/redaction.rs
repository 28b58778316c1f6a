//! How fast secrets are taken out of what is stored, on one core: plain values and prose, values full of secrets, and
//! texts made to be slow. Beside each the ratio of the time for twice the text: 2 is linear.

use std::{fmt::Write as _, hint::black_box, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use redact::{Config, Redaction, Rules};
use serde_json::{Value, json};

/// Bytes of each text; twice as many for the ratio.
const BYTES: usize = 1 << 20;
/// Measurements of each, of which the fastest counts: whatever else the machine does only adds to one.
const ROUNDS: usize = 9;
/// The design's aim, in megabytes a second.
const AIM: f64 = 50.0;

/// Text of some length that a unit is repeated to.
fn repeated(unit: &str, bytes: usize) -> Value {
    Value::from(unit.repeat(bytes.div_ceil(unit.len())))
}

const PROSE: &str = "The quarterly report is due on Friday, and the draft is in the shared folder; whoever finds a mistake \
    on page 12 writes it down: nobody should have to ask twice. It took 3 days (2026-11-20 to 22) and 1,204 pages.\n";

const LOG: &str = "2026-11-22T10:15:30Z INFO http.method=GET http.path=/v1/orders/3fa85f64-5717-4562-b3fc-2c963f66afa6 \
    status=200 took=12.5ms peer=203.0.113.7:51234 agent=\"client/1.2.3\"\n";

const SECRETS: &str = "user jane.doe@example.com logged in with password=hunter2-x from https://a:b@example.com, card \
    4111 1111 1111 1111, call +49 30 1234567\n";

/// Answers of a tool, as JSON.
fn records(bytes: usize) -> Value {
    let record = |n: usize| {
        json!({"id": n, "name": format!("item {n}"), "state": "open", "labels": ["a", "b"], "score": 0.25,
               "create_time": "2026-11-22T10:15:30Z", "owner": {"team": "blue", "size": 12},
               "text": "A short sentence that says what this is about, and nothing else."})
    };
    let length = record(0).to_string().len() + 1;
    (0..bytes / length).map(record).collect()
}

fn nested(bytes: usize) -> Value {
    Value::from(json!([records(bytes / 2).to_string()]).to_string())
}

type Make = fn(usize) -> Value;

/// What is measured.
const TEXTS: [(&str, Make); 18] = [
    ("JSON, plain", records),
    ("JSON in JSON", nested),
    ("prose", |bytes| repeated(PROSE, bytes)),
    ("log lines", |bytes| repeated(LOG, bytes)),
    ("prose full of secrets", |bytes| repeated(SECRETS, bytes)),
    ("hostile: digits", |bytes| repeated("1234567890", bytes)),
    ("hostile: numbers", |bytes| repeated("4111 ", bytes)),
    ("hostile: short numbers", |bytes| repeated("12 ", bytes)),
    ("hostile: @", |bytes| repeated("@", bytes)),
    ("hostile: a@a.", |bytes| repeated("a@a.", bytes)),
    ("hostile: base64", |bytes| repeated("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY3ODkw", bytes)),
    ("hostile: eyJ", |bytes| repeated("eyJ", bytes)),
    ("hostile: eyJa-", |bytes| repeated("eyJa-", bytes)),
    ("hostile: sk-", |bytes| repeated("sk-", bytes)),
    ("hostile: token=$", |bytes| repeated("token=$", bytes)),
    ("hostile: quotes", |bytes| repeated("\\\"", bytes)),
    ("hostile: {\"", |bytes| repeated("{\"", bytes)),
    ("hostile: @tcp(", |bytes| repeated("a:b@tcp(", bytes)),
];

/// Time of the processor that this thread has had: others may use the machine, too.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

fn time(rules: &Rules, value: &Value) -> Duration {
    let once = || {
        let begun = now();
        black_box(rules.json(black_box(value), None, usize::MAX));
        now().saturating_sub(begun)
    };
    (0..ROUNDS).map(|_| once()).min().unwrap_or_default()
}

fn line(name: &str, rules: &Rules, make: Make, report: &mut String) {
    let (one, two) = (make(BYTES), make(2 * BYTES));
    let (fast, twice) = (time(rules, &one).as_secs_f64(), time(rules, &two).as_secs_f64());
    let length = |value: &Value| f64::from(u32::try_from(value.to_string().len()).unwrap_or(u32::MAX));
    let speed = length(&two) / twice / 1e6;
    let held = if speed >= AIM { "" } else { " (missed)" };
    let ratio = twice / fast * length(&one) / length(&two) * 2.0;
    // Writing to a text cannot fail.
    let _ = writeln!(report, "| {name} | {speed:.0}{held} | {ratio:.2} |");
}

/// The table.
pub fn report() -> String {
    let mut report = format!(
        "\n## Redaction, one core\n\nAim: {AIM:.0} MB/s, and a ratio of about 2.\n\n\
         | text | MB/s | time for twice the text |\n|---|---|---|\n"
    );
    for (name, make) in TEXTS {
        line(name, Rules::standard(), make, &mut report);
    }
    let added = r#"{"keys": ["badge_no", "*pin"], "patterns": [{"name": "a", "pattern": "CASE-\\d{6}"},
        {"name": "b", "pattern": "(?i)employee\\s{1,8}no\\.?\\s{0,8}\\d{4,8}"}]}"#;
    let config: Config = serde_json::from_str(added).unwrap_or_default();
    let rules = Redaction::new(&config).team("any");
    line("prose, with two patterns of a team", &rules, |bytes| repeated(PROSE, bytes), &mut report);
    report
}
