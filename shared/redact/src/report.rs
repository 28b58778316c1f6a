//! What was taken out, and where: for whoever tries rules out. Must never hold a secret, not even a part of one.

use serde_json::Value;

use crate::MARK;

/// Something that was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// JSON pointer (RFC 6901) into the value; within JSON in a text, that of the text, ` > `, and that within it.
    /// Names that are secrets themselves stand in it sanitised.
    pub pointer: String,
    /// What found it: `schema`, `key_name`, `too_deep`, or the name of a detector or pattern.
    pub rule: String,
    /// Length of what was taken out, in characters.
    pub length: usize,
}

/// Gathers findings on the way through a value.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub findings: Vec<Finding>,
    pointer: String,
    is_silent: bool,
}

impl Report {
    /// One that gathers nothing.
    pub(crate) fn silent() -> Self {
        Self { is_silent: true, ..Self::default() }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Goes one step further down while something is done there.
    pub(crate) fn within<T>(
        &mut self,
        step: impl FnOnce() -> String,
        then: impl FnOnce(&mut Self) -> T,
    ) -> T {
        if self.is_silent {
            return then(self);
        }
        let length = self.pointer.len();
        self.pointer.push_str(&step());
        let done = then(self);
        self.pointer.truncate(length);
        done
    }

    /// A value that went whole.
    pub(crate) fn value(&mut self, rule: &str, value: &Value) {
        if !self.is_silent {
            let length =
                value.as_str().map_or_else(|| value.to_string().chars().count(), |text| text.chars().count());
            self.text(rule, length);
        }
    }

    /// A part of a text.
    pub(crate) fn text(&mut self, rule: &str, length: usize) {
        if !self.is_silent {
            self.findings.push(Finding { pointer: self.pointer.clone(), rule: rule.to_owned(), length });
        }
    }

    /// What a schema's marks took out: where a value differs from what it was.
    pub(crate) fn compare(&mut self, before: &Value, after: &Value) {
        match (before, after) {
            (Value::Object(before), Value::Object(after)) => {
                for (name, value) in before {
                    let other = after.get(name).unwrap_or(&Value::Null);
                    self.within(|| step(name), |report| report.compare(value, other));
                }
            }
            (Value::Array(before), Value::Array(after)) => {
                for (index, (value, other)) in before.iter().zip(after).enumerate() {
                    self.within(|| format!("/{index}"), |report| report.compare(value, other));
                }
            }
            (before, Value::String(mark)) if mark == MARK && before != after => self.value("schema", before),
            _ => {}
        }
    }
}

/// A name as a step of a pointer, sanitised.
pub(crate) fn step(name: &str) -> String {
    let name = crate::text(name);
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
