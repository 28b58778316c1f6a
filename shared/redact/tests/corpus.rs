//! The corpus: texts with a secret, and texts that only look like it. Tells recall and precision of each kind, and must
//! never fall below what is asked for. In `secrets.jsonl` two letters of every secret are written as escapes of JSON, so
//! that no scanner of repositories takes the file for a leak; none of them ever opened anything.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "the table is what the test is for")]

use std::collections::BTreeMap;

use redact::{MARK, Rules};
use serde_json::Value;

const SECRETS: &str = include_str!("corpus/secrets.jsonl");
const PLAIN: &str = include_str!("corpus/plain.jsonl");

/// Share of the secrets that must go, and share of right ones among all texts that are changed.
const RECALL: f64 = 0.99;
const PRECISION: f64 = 0.98;
/// Least cases of each sort.
const LEAST: usize = 500;

fn lines(file: &str) -> Vec<Value> {
    file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A text as it is stored where it is a value of its own.
fn stored(text: &str) -> String {
    let stored = Rules::standard().json(&Value::from(text), None, 1 << 20);
    serde_json::from_str::<Value>(&stored).unwrap().as_str().unwrap().to_owned()
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        1.0
    } else {
        f64::from(u32::try_from(part).unwrap()) / f64::from(u32::try_from(whole).unwrap())
    }
}

/// How many there are of each kind, how many went wrong, and the first of those.
fn count<'a>(
    cases: &'a [Value],
    kind: &str,
    is_wrong: impl Fn(&Value) -> bool,
) -> BTreeMap<&'a str, (usize, Vec<&'a Value>)> {
    let mut kinds = BTreeMap::<&str, (usize, Vec<&Value>)>::new();
    for case in cases {
        let (all, wrong) = kinds.entry(case[kind].as_str().unwrap()).or_default();
        *all += 1;
        if is_wrong(case) {
            wrong.push(case);
        }
    }
    kinds
}

#[test]
fn nearly_every_secret_goes_and_nearly_nothing_else_does() {
    let (secrets, plain) = (lines(SECRETS), lines(PLAIN));
    assert!(secrets.len() >= LEAST && plain.len() >= LEAST, "{} and {}", secrets.len(), plain.len());
    let text = |case: &Value| stored(case["text"].as_str().unwrap());
    let missed = count(&secrets, "kind", |case| text(case).contains(case["secret"].as_str().unwrap()));
    let taken = count(&plain, "why", |case| text(case) != case["text"].as_str().unwrap());
    println!("{:<20} {:>6} {:>7} {:>8}", "secret", "cases", "missed", "recall");
    for (kind, (all, wrong)) in &missed {
        println!("{kind:<20} {all:>6} {:>7} {:>8.3}", wrong.len(), share(all - wrong.len(), *all));
        for case in wrong {
            println!("    missed: {}", case["text"]);
        }
    }
    println!("{:<20} {:>6} {:>7} {:>8}", "plain", "cases", "taken", "kept");
    for (why, (all, wrong)) in &taken {
        println!("{why:<20} {all:>6} {:>7} {:>8.3}", wrong.len(), share(all - wrong.len(), *all));
        for case in wrong {
            println!("    taken: {} -> {}", case["text"], text(case));
        }
    }
    let sum = |kinds: &BTreeMap<&str, (usize, Vec<&Value>)>| {
        kinds.values().map(|(_, wrong)| wrong.len()).sum::<usize>()
    };
    let found = secrets.len() - sum(&missed);
    let (recall, precision) = (share(found, secrets.len()), share(found, found + sum(&taken)));
    println!(
        "recall {recall:.4} of {} secrets, precision {precision:.4} with {} plain texts",
        secrets.len(),
        plain.len()
    );
    assert!(recall >= RECALL && precision >= PRECISION);
}

#[test]
fn what_stands_around_a_secret_is_kept() {
    let mut kept = 0;
    let secrets = lines(SECRETS);
    for case in &secrets {
        let (text, secret) = (case["text"].as_str().unwrap(), case["secret"].as_str().unwrap());
        let around = text.len() - secret.len();
        let left = stored(text).replace(MARK, "").len();
        // A private key goes with its first and last line, and a cookie with its name.
        kept += usize::from(left * 2 >= around);
    }
    assert!(share(kept, secrets.len()) > 0.9, "{kept} of {}", secrets.len());
}
