//! The way through a value: names, texts, numbers, and JSON within texts. Must never leave what it cannot read whole:
//! JSON in JSON too deep to be looked into goes.

use serde_json::{Map, Value};

use crate::{
    MARK, names, numbers,
    report::{Report, step},
    rules::Rules,
};

/// Levels of JSON inside JSON texts that are looked into; deeper texts go as a whole.
pub(crate) const MAX_NESTED_JSON: usize = 3;
/// Levels of lists and objects that are read of a text; serde_json reads as many.
const MAX_DEPTH: usize = 127;
/// Below so many bytes, letters and digits alone are no secret: an IBAN and a card number have more.
const SHORT: usize = 12;
/// Shortest and longest telephone numbers where a name says that it is one, in digits.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// What a text holds.
pub(crate) enum Inner {
    /// An object or a list.
    Json(Value),
    /// One that nobody reads: it goes deeper than any reader follows.
    TooDeep,
    /// Anything else.
    Text,
}

/// The object or list that a text is.
pub(crate) fn json_of(content: &str) -> Inner {
    let trimmed = content.trim_start();
    if !trimmed.starts_with(['{', '[']) {
        return Inner::Text;
    }
    match serde_json::from_str(trimmed) {
        Ok(value) => Inner::Json(value),
        Err(_) if is_too_deep(trimmed) => Inner::TooDeep,
        Err(_) => Inner::Text,
    }
}

/// Whether what begins as JSON goes too deep to be read.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Whether a short text is a plain word, which nothing is looked for in.
fn is_word(text: &str, rules: &Rules) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ');
    text.len() < SHORT && rules.patterns.is_empty() && text.bytes().all(is_plain)
}

fn is_text_clean(text: &str, rules: &Rules, nested: usize) -> bool {
    is_word(text, rules) || rules.is_text_clean(text, nested)
}

/// Whether `scrub` leaves this value as it is.
pub(crate) fn is_clean(value: &Value, rules: &Rules, nested: usize) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, field)| {
            hidden(name, field, rules).is_none()
                && is_text_clean(name, rules, nested)
                && is_clean(field, rules, nested)
        }),
        Value::Array(items) => items.iter().all(|item| is_clean(item, rules, nested)),
        Value::String(content) => match json_of(content) {
            Inner::Json(inner) => nested < MAX_NESTED_JSON && is_clean(&inner, rules, nested + 1),
            Inner::TooDeep => false,
            Inner::Text => is_text_clean(content, rules, nested),
        },
        Value::Number(number) => number_rule(number, rules).is_none(),
        Value::Bool(_) | Value::Null => true,
    }
}

/// What hides a field, by its name.
fn hidden(name: &str, field: &Value, rules: &Rules) -> Option<&'static str> {
    if field.is_null() || field.is_boolean() || name.is_empty() {
        return None;
    }
    if rules.names.is_secret_key(name) {
        return Some("key_name");
    }
    let is_phone = !rules.off.has(crate::config::Detector::Phone) && names::is_phone(name);
    (is_phone && is_phone_number(field)).then_some("phone")
}

/// Whether a value is digits and what people write between them.
fn is_phone_number(field: &Value) -> bool {
    let is_number = |text: &str| {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let is_beside = |byte: u8| byte.is_ascii_digit() || b"+ ()./-x".contains(&byte);
        text.len() <= 40 && PHONE_DIGITS.contains(&digits) && text.bytes().all(is_beside)
    };
    match field {
        Value::String(text) => is_number(text),
        Value::Number(number) => is_number(&number.to_string()),
        _ => false,
    }
}

/// Takes out of a value what may not be stored.
pub(crate) fn scrub(value: &mut Value, rules: &Rules, nested: usize, report: &mut Report) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                report.within(
                    || step(name),
                    |report| match hidden(name, field, rules) {
                        Some(rule) => {
                            if field != MARK {
                                report.value(rule, field);
                            }
                            *field = Value::from(MARK);
                        }
                        None => scrub(field, rules, nested, report),
                    },
                );
            }
            scrub_names(fields, rules, nested, report);
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                report.within(|| format!("/{index}"), |report| scrub(item, rules, nested, report));
            }
        }
        Value::String(content) => *content = scrub_text(content, rules, nested, report),
        Value::Number(number) => {
            if let Some(rule) = number_rule(number, rules) {
                report.text(rule, number.to_string().len());
                *value = Value::from(MARK);
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// A text that is JSON itself is looked into; any other runs through the detectors.
pub(crate) fn scrub_text(content: &str, rules: &Rules, nested: usize, report: &mut Report) -> String {
    let mut inner = match json_of(content) {
        Inner::Text if is_text_clean(content, rules, nested) => return content.to_owned(),
        Inner::Text => return rules.replaced(content, nested, report),
        Inner::Json(inner) if nested < MAX_NESTED_JSON => inner,
        Inner::Json(_) | Inner::TooDeep => {
            report.text("too_deep", content.chars().count());
            return MARK.to_owned();
        }
    };
    if is_clean(&inner, rules, nested + 1) {
        return content.to_owned();
    }
    report.within(|| " > ".to_owned(), |report| scrub(&mut inner, rules, nested + 1, report));
    inner.to_string()
}

/// Names are texts too: a map may have an address or a key for its keys.
fn scrub_names(fields: &mut Map<String, Value>, rules: &Rules, nested: usize, report: &mut Report) {
    if fields.keys().any(|name| !is_text_clean(name, rules, nested)) {
        let own = std::mem::take(fields).into_iter();
        let mut clean = |name: String| {
            if is_text_clean(&name, rules, nested) { name } else { rules.replaced(&name, nested, report) }
        };
        *fields = own.map(|(name, field)| (clean(name), field)).collect();
    }
}

fn number_rule(number: &serde_json::Number, rules: &Rules) -> Option<&'static str> {
    let may = number
        .as_u64()
        .is_some_and(|number| (1_000_000_000_000..10_000_000_000_000_000_000).contains(&number));
    let is_card = may
        && !rules.off.has(crate::config::Detector::Card)
        && numbers::is_card(number.to_string().as_bytes());
    is_card.then_some("card")
}
