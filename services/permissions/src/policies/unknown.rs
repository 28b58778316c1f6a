//! Policies in which every question about something that is not known any more fails, instead of being answered by
//! what stands in its place: what is decided without a failure does not depend on it. Pure; for past calls only.

use cedar_policy::Policy;
use serde_json::{Value, json};

use super::team::TeamPolicy;

/// What stands where something was taken out of the arguments of a past call.
const MARK: &str = "[redacted]";
/// What of a past call is not kept: for whom it was made, and how much was used then.
const NOT_KEPT: [&str; 5] = ["user", "hour", "day", "total", "budget"];

/// What is not known of the arguments of a past call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Unknown {
    /// JSON pointers; what stood under them is not known either.
    pointers: Vec<String>,
}

impl Unknown {
    /// Of arguments as the trail has them. `None` when there are none, or they cannot be read.
    pub(crate) fn of(arguments: Option<&Value>) -> Self {
        let mut unknown = Self::default();
        match arguments {
            Some(Value::Object(members)) if !members.contains_key("redacted") => {
                members.iter().for_each(|(name, value)| unknown.look("", name, value));
            }
            _ => unknown.pointers.push(String::new()),
        }
        unknown.pointers.sort_unstable();
        unknown.pointers.dedup();
        unknown
    }

    fn look(&mut self, above: &str, name: &str, value: &Value) {
        if name.contains(MARK) {
            self.pointers.push(above.to_owned());
        }
        let pointer = format!("{above}/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::String(text) if text.contains(MARK) => self.pointers.push(pointer),
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.look(&pointer, &at.to_string(), item);
                }
            }
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| self.look(&pointer, name, value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Whether what stood at this pointer is not known: it was taken out itself, something above it was, or something
    /// of the list that it is.
    fn holds(&self, asked: &str) -> bool {
        let is_in = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let parent = |pointer: &str| pointer.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        self.pointers.iter().any(|taken| is_in(asked, taken) || parent(taken).as_deref() == Some(asked))
    }

    /// Whether it is not known that something stood at this pointer.
    fn hides(&self, asked: &str) -> bool {
        self.pointers
            .iter()
            .any(|taken| asked.strip_prefix(taken.as_str()).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The policy with its questions about what is not known failing; `None` when it asks none.
    pub(crate) fn fail(&self, policy: &TeamPolicy) -> Option<TeamPolicy> {
        let mut json = policy.policy().to_json().ok()?;
        let mut asks = false;
        for condition in json.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(body) = condition.get_mut("body") {
                asks |= self.replace(body);
            }
        }
        let failing = Policy::from_json(Some(policy.policy().id().clone()), json).ok()?;
        asks.then(|| TeamPolicy::unchecked(failing))
    }

    /// Replaces in an expression; whether it did.
    fn replace(&self, expression: &mut Value) -> bool {
        if self.is_asked(expression) {
            *expression = failing();
            return true;
        }
        if let Some(known) = known_pointer(expression) {
            return self.replace(known);
        }
        match expression {
            Value::Object(members) => {
                members.values_mut().fold(false, |did, inner| self.replace(inner) | did)
            }
            Value::Array(items) => items.iter_mut().fold(false, |did, inner| self.replace(inner) | did),
            _ => false,
        }
    }

    fn is_asked(&self, expression: &Value) -> bool {
        let any = !self.pointers.is_empty();
        if let Some(tag) = expression.get("hasTag").or_else(|| expression.get("getTag")) {
            return literal(tag.get("right")).map_or(any, |pointer| self.holds(pointer));
        }
        if let Some(within) = expression.get("contains")
            && is_pointers(within.get("left"))
        {
            return literal(within.get("right")).map_or(any, |pointer| self.hides(pointer));
        }
        let context_has = |names: &[&str]| {
            expression.get(".").is_some_and(|access| {
                access["left"] == json!({"Var": "context"})
                    && access["attr"].as_str().is_some_and(|attribute| names.contains(&attribute))
            })
        };
        context_has(&NOT_KEPT) || any && is_pointers(Some(expression))
    }
}

/// What else is asked where the pointers are asked for a pointer that is known: not the pointers themselves again.
fn known_pointer(expression: &mut Value) -> Option<&mut Value> {
    let within = expression.get_mut("contains")?;
    if is_pointers(within.get("left")) { within.get_mut("right") } else { None }
}

/// Whether it is `context.arguments.pointers`.
fn is_pointers(expression: Option<&Value>) -> bool {
    let access = expression.and_then(|expression| expression.get("."));
    access.is_some_and(|access| access["attr"] == "pointers")
}

fn literal(expression: Option<&Value>) -> Option<&str> {
    expression?.get("Value")?.as_str()
}

/// A tag that nothing has: asking for it is an error.
fn failing() -> Value {
    json!({"getTag": {"left": {"Value": {"__entity": {"type": "Texts", "id": "unknown"}}}, "right": {"Value": "unknown"}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::team::schema;

    fn unknown(arguments: &Value) -> Unknown {
        Unknown::of(Some(arguments))
    }

    fn asks(unknown: &Unknown, condition: &str) -> bool {
        let text = format!("forbid (principal, action, resource) when {{ {condition} }};");
        let policy = TeamPolicy::parse(schema().unwrap(), "p", &text).unwrap();
        unknown.fail(&policy).is_some()
    }

    #[test]
    fn what_was_taken_out_is_found_wherever_it_stood() {
        let found = unknown(&json!({
            "to": ["a", "[redacted]"], "body": "from [redacted] to you", "open": "text", "n": 1,
            "map": {"x": {"[redacted]": 1}, "a/b": "[redacted]"},
        }));
        assert_eq!(found.pointers, ["/body", "/map/a~1b", "/map/x", "/to/1"]);
        assert_eq!(unknown(&json!({"redacted": "too large to store", "bytes": 1})).pointers, [""]);
        assert_eq!(Unknown::of(None).pointers, [""]);
        assert!(unknown(&json!({})).pointers.is_empty());
    }

    #[test]
    fn only_questions_about_what_is_not_known_fail() {
        let found = unknown(&json!({"to": ["a", "[redacted]"], "body": "[redacted]", "open": "text"}));
        let has = |kind: &str, pointer: &str| format!("context.arguments.{kind}.hasTag(\"{pointer}\")");
        for asked in [
            has("texts", "/body"),
            has("paths", "/body/inner"),
            has("textLists", "/to"),
            has("numbers", "/to/1"),
            "context.arguments.texts.hasTag(context.arguments.texts.getTag(\"/open\"))"
                .replace("context.arguments.texts.getTag(\"/open\")", "principal.name"),
            "context.arguments.pointers.contains(\"/body/inner\")".to_owned(),
            "context.arguments.pointers.contains(principal.name)".to_owned(),
            "context.arguments.pointers.containsAny([\"/x\"])".to_owned(),
            "context.user == \"ann\"".to_owned(),
            "context.hour.used > 3".to_owned(),
            "resource.name == \"x\" && (context.budget.cost > 3 || context.now > 1)".to_owned(),
        ] {
            assert!(asks(&found, &asked), "{asked}");
        }
        for known in [
            has("texts", "/open"),
            has("texts", "/bodyguard"),
            has("texts", "/to/0"),
            "context.arguments.pointers.contains(\"/body\")".to_owned(),
            "context.arguments.pointers.contains(\"/bcc\")".to_owned(),
            "context.now > 1 && principal.role == \"agent\" && context.grant.kind == \"agent\"".to_owned(),
        ] {
            assert!(!asks(&found, &known), "{known}");
        }
        let nothing = unknown(&json!({}));
        assert!(!asks(&nothing, &has("texts", "/body")) && asks(&nothing, "context.user == \"ann\""));
        assert!(asks(&Unknown::of(None), &has("texts", "/anything")));
    }
}
