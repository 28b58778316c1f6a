//! Conditions on the arguments of a call: taken from the wire, kept as JSON, and tested. A value that is missing, or
//! of another type than the test asks for, never meets one. No value of an argument leaves this file.

mod host;
mod path;
mod pattern;

use proto::permissions::v1::{self as wire, argument_condition::Test as WireTest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use pattern::Pattern;

pub(crate) use path::canonical;

/// Most conditions of a grant or an approval.
const MAX_CONDITIONS: usize = 32;
/// Most values of a set.
const MAX_VALUES: usize = 100;
/// Most bytes of a value of a set.
const MAX_VALUE: usize = 1_024;
/// Most bytes of a pointer.
const MAX_POINTER: usize = 512;
/// Most characters of the values that a message tells.
const MAX_TOLD: usize = 120;

/// What one argument must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Condition {
    pointer: String,
    test: Test,
}

/// The same as the tests of `wire::ArgumentCondition`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Test {
    OneOf(Vec<String>),
    Range { min: Option<f64>, max: Option<f64> },
    Within(Vec<String>),
    UrlHost(Vec<String>),
    Matches(Pattern),
    Is(bool),
    MaxLength(u64),
    Absent,
}

/// Takes conditions from the wire. `field` is the name of the list, for errors.
pub(crate) fn parse(field: &str, conditions: Vec<wire::ArgumentCondition>) -> Result<Vec<Condition>, Error> {
    if conditions.len() > MAX_CONDITIONS {
        let description = format!("has {} conditions; at most {MAX_CONDITIONS} are taken", conditions.len());
        return Err(Error::invalid(field, description));
    }
    let taken = |(at, asked): (usize, wire::ArgumentCondition)| {
        let field = format!("{field}[{at}]");
        check_pointer(&format!("{field}.pointer"), &asked.pointer)?;
        let test = asked.test.ok_or_else(|| {
            Error::invalid(
                &field,
                "has no test; set one_of, range, within, url_host, matches, is, max_length or absent",
            )
        })?;
        Ok(Condition { test: test_of(&field, test)?, pointer: asked.pointer })
    };
    conditions.into_iter().enumerate().map(taken).collect()
}

fn check_pointer(field: &str, pointer: &str) -> Result<(), Error> {
    let wrong = |description: &str| Err(Error::invalid(field, description));
    if !pointer.starts_with('/') {
        return wrong("must be a JSON pointer that begins with '/', such as /to or /options/depth");
    }
    if pointer.len() > MAX_POINTER || pointer.chars().any(char::is_control) {
        return wrong("must have at most 512 bytes and no control characters");
    }
    let mut rest = pointer;
    while let Some(at) = rest.find('~') {
        rest = &rest[at + 1..];
        if !rest.starts_with(['0', '1']) {
            return wrong("has a '~' that is neither ~0 (for '~') nor ~1 (for '/')");
        }
    }
    Ok(())
}

fn test_of(field: &str, test: WireTest) -> Result<Test, Error> {
    let set = |name: &str, set: wire::TextSet| checked_set(&format!("{field}.{name}"), set.values);
    Ok(match test {
        WireTest::OneOf(values) => Test::OneOf(set("one_of", values)?),
        WireTest::Range(range) => checked_range(&format!("{field}.range"), range)?,
        WireTest::Within(folders) => {
            let folders = set("within", folders)?;
            for (at, folder) in folders.iter().enumerate() {
                if folder.is_empty() || canonical(folder).is_none() {
                    let field = format!("{field}.within.values[{at}]");
                    return Err(Error::invalid(
                        field,
                        "is no folder that can be told for certain; write /reports",
                    ));
                }
            }
            Test::Within(folders)
        }
        WireTest::UrlHost(hosts) => {
            let hosts = set("url_host", hosts)?;
            for (at, host) in hosts.iter().enumerate() {
                host::check(host)
                    .map_err(|why| Error::invalid(format!("{field}.url_host.values[{at}]"), why))?;
            }
            Test::UrlHost(hosts)
        }
        WireTest::Matches(text) => {
            let field = format!("{field}.matches");
            Test::Matches(Pattern::checked(text).map_err(|why| Error::invalid(field, why))?)
        }
        WireTest::Is(value) => Test::Is(value),
        WireTest::MaxLength(most) => Test::MaxLength(u64::try_from(most).map_err(|_| {
            Error::invalid(format!("{field}.max_length"), format!("is {most}; it must be 0 or more"))
        })?),
        WireTest::Absent(wire::Absent {}) => Test::Absent,
    })
}

fn checked_set(field: &str, values: Vec<String>) -> Result<Vec<String>, Error> {
    if values.is_empty() || values.len() > MAX_VALUES {
        let description = format!("has {} values; it must have 1 to {MAX_VALUES}", values.len());
        return Err(Error::invalid(format!("{field}.values"), description));
    }
    if let Some(at) = values.iter().position(|value| value.len() > MAX_VALUE) {
        let description = format!("has more than {MAX_VALUE} bytes");
        return Err(Error::invalid(format!("{field}.values[{at}]"), description));
    }
    Ok(values)
}

fn checked_range(field: &str, wire::NumberRange { min, max }: wire::NumberRange) -> Result<Test, Error> {
    for (name, bound) in [("min", min), ("max", max)] {
        if bound.is_some_and(|bound| !bound.is_finite()) {
            return Err(Error::invalid(format!("{field}.{name}"), "must be a finite number, or unset"));
        }
    }
    match (min, max) {
        (None, None) => Err(Error::invalid(field, "has no bound; set min, max or both")),
        (Some(min), Some(max)) if min > max => {
            Err(Error::invalid(format!("{field}.min"), format!("is {min}, above max, which is {max}")))
        }
        _ => Ok(Test::Range { min, max }),
    }
}

/// The conditions as they are told.
pub(crate) fn to_wire(conditions: &[Condition]) -> Vec<wire::ArgumentCondition> {
    let set = |values: &[String]| wire::TextSet { values: values.to_vec() };
    let told = |condition: &Condition| wire::ArgumentCondition {
        pointer: condition.pointer.clone(),
        test: Some(match &condition.test {
            Test::OneOf(values) => WireTest::OneOf(set(values)),
            Test::Range { min, max } => WireTest::Range(wire::NumberRange { min: *min, max: *max }),
            Test::Within(folders) => WireTest::Within(set(folders)),
            Test::UrlHost(hosts) => WireTest::UrlHost(set(hosts)),
            Test::Matches(pattern) => WireTest::Matches(pattern.text().to_owned()),
            Test::Is(value) => WireTest::Is(*value),
            Test::MaxLength(most) => WireTest::MaxLength(i64::try_from(*most).unwrap_or(i64::MAX)),
            Test::Absent => WireTest::Absent(wire::Absent {}),
        }),
    };
    conditions.iter().map(told).collect()
}

/// What of the arguments does not meet the conditions, a line each, without values of arguments; arguments that are
/// not there, or are no object, meet none.
pub(crate) fn unmet(conditions: &[Condition], arguments: Option<&Value>) -> Vec<String> {
    let arguments = arguments.filter(|arguments| arguments.is_object());
    let fails = |condition: &&Condition| !arguments.is_some_and(|arguments| condition.is_met(arguments));
    conditions.iter().filter(fails).map(Condition::line).collect()
}

impl Condition {
    fn is_met(&self, arguments: &Value) -> bool {
        let steps: Vec<String> = self.pointer.split('/').skip(1).map(unescaped).collect();
        self.holds(arguments, &steps)
    }

    /// Whether the test holds of what the steps lead to; with "*", of all of it, and there is some.
    fn holds(&self, value: &Value, steps: &[String]) -> bool {
        let Some((step, rest)) = steps.split_first() else { return self.test.admits(value) };
        if step == "*" {
            return match value {
                Value::Array(items) => !items.is_empty() && items.iter().all(|item| self.holds(item, rest)),
                Value::Object(members) => {
                    !members.is_empty() && members.values().all(|member| self.holds(member, rest))
                }
                _ => false,
            };
        }
        let next = match value {
            Value::Object(members) => members.get(step),
            Value::Array(items) => index(step).and_then(|at| items.get(at)),
            _ => None,
        };
        match next {
            Some(next) => self.holds(next, rest),
            // What "*" stands for must be there, whatever the test asks of it.
            None => self.test == Test::Absent && !rest.iter().any(|step| step == "*"),
        }
    }

    fn line(&self) -> String {
        let Self { pointer, test } = self;
        match test {
            Test::OneOf(values) => format!("{pointer} must be one of {}", told(values)),
            Test::Range { min, max } => {
                let (least, most) =
                    (min.map(|min| format!("at least {min}")), max.map(|max| format!("at most {max}")));
                let bounds: Vec<String> = least.into_iter().chain(most).collect();
                format!("{pointer} must be a number of {}", bounds.join(" and "))
            }
            Test::Within(folders) => format!("{pointer} must be a path within {}", told(folders)),
            Test::UrlHost(hosts) => {
                format!("{pointer} must be an http or https URL whose host is {}", told(hosts))
            }
            Test::Matches(pattern) => {
                let text = shortened(pattern.text());
                format!("{pointer} must be a text that matches {text}")
            }
            Test::Is(value) => format!("{pointer} must be {value}"),
            Test::MaxLength(most) => {
                format!("{pointer} must be a text or a list of at most {most} characters or elements")
            }
            Test::Absent => format!("{pointer} must not be there"),
        }
    }
}

impl Test {
    fn admits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::OneOf(values), Value::String(text)) => values.contains(text),
            (Self::Range { min, max }, Value::Number(number)) => {
                min.is_none_or(|min| at_least(number, min)) && max.is_none_or(|max| at_most(number, max))
            }
            (Self::Within(folders), Value::String(text)) => canonical(text)
                .is_some_and(|path| folders.iter().any(|folder| path::is_within(&path, folder))),
            (Self::UrlHost(hosts), Value::String(text)) => host::is_one_of(text, hosts),
            (Self::Matches(pattern), Value::String(text)) => pattern.matches(text),
            (Self::Is(wanted), Value::Bool(value)) => wanted == value,
            (Self::MaxLength(most), Value::String(text)) => text.chars().count() as u64 <= *most,
            (Self::MaxLength(most), Value::Array(items)) => items.len() as u64 <= *most,
            _ => false,
        }
    }
}

/// Whole numbers are compared exactly: a bound as a double cannot tell 2^53 from its neighbour.
#[allow(clippy::cast_possible_truncation, reason = "a cast from a double saturates")]
fn at_least(number: &serde_json::Number, min: f64) -> bool {
    match number.as_i128() {
        Some(whole) => whole >= min.ceil() as i128,
        None => number.as_f64().is_some_and(|number| number >= min),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a cast from a double saturates")]
fn at_most(number: &serde_json::Number, max: f64) -> bool {
    match number.as_i128() {
        Some(whole) => whole <= max.floor() as i128,
        None => number.as_f64().is_some_and(|number| number <= max),
    }
}

/// A step as RFC 6901, section 4, reads it.
fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// Of a list: digits, without leading zeros.
fn index(step: &str) -> Option<usize> {
    let is_plain = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
    is_plain.then(|| step.parse().ok()).flatten()
}

fn told(values: &[String]) -> String {
    shortened(&values.join(", "))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_TOLD) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
