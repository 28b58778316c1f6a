//! Takes the credentials that a request carried out of everything that came back for it, in every form that
//! `shared/scrub` knows. Must leave JSON valid, and every other byte as it was.

use std::sync::Arc;

pub(super) use ::scrub::Forms;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{Credential, Material};
use crate::outcome::ToolError;

/// Texts in texts that are looked into.
const MAX_NESTED: usize = 4;

/// Takes credentials out of texts.
pub(crate) struct Scrub(Vec<Arc<Credential>>);

impl Scrub {
    /// For these credentials.
    pub(super) fn of(credentials: &[Arc<Credential>]) -> Self {
        Self(credentials.to_vec())
    }

    /// A text without them.
    pub(crate) fn text(&self, text: &str) -> String {
        let without = |text: String, (credential, forms): (&Credential, &Forms)| {
            forms.replace(&text, &mark(credential))
        };
        self.each().fold(text.to_owned(), without)
    }

    /// A result, as JSON text, without them; untouched where there are none.
    pub(crate) fn json(&self, text: String) -> String {
        let (is_in, has_escapes) = (self.is_in(&text), text.contains('\\'));
        // Without an escape, every text in it stands in it as it is.
        if self.0.is_empty() || !is_in && !has_escapes {
            return text;
        }
        let replaced = if is_in { self.text(&text) } else { text.clone() };
        let Ok(mut value) = serde_json::from_str(&replaced) else {
            // A number was one of them, or it is no JSON at all.
            return match serde_json::from_str(&text) {
                Ok(mut value) => {
                    self.value(&mut value, 0);
                    Value::to_string(&value)
                }
                Err(_) => replaced,
            };
        };
        if has_escapes && self.value(&mut value, 0) { value.to_string() } else { replaced }
    }

    /// The same failure without them. Words of a server are cut before they come here: what they end with may be the
    /// beginning of one.
    pub(crate) fn error(&self, error: ToolError) -> ToolError {
        let mut violations = error.violations;
        for violation in &mut violations {
            violation.pointer = self.text(&violation.pointer);
            violation.message = self.text(&violation.message);
        }
        ToolError {
            message: self.cut(self.text(&error.message)),
            partial_json: error.partial_json.map(|partial| self.json(partial)),
            violations,
            ..error
        }
    }

    /// A text that does not end with the beginning of one.
    fn cut(&self, text: String) -> String {
        let each = self.each().filter_map(|(credential, forms)| Some((forms.begun(&text)?, credential)));
        match each.min_by_key(|(start, _)| *start) {
            Some((start, credential)) => format!("{}{}", &text[..start], mark(credential)),
            None => text,
        }
    }

    /// Whether anything was taken out.
    fn value(&self, value: &mut Value, depth: usize) -> bool {
        match value {
            Value::String(text) => self.string(text, depth),
            Value::Array(items) => {
                items.iter_mut().fold(false, |changed, item| self.value(item, depth) | changed)
            }
            Value::Object(members) => {
                let mut changed = false;
                if members.keys().any(|name| self.is_in(name)) {
                    changed = true;
                    let old = std::mem::take(members);
                    members.extend(old.into_iter().map(|(name, member)| (self.text(&name), member)));
                }
                members.values_mut().fold(changed, |changed, member| self.value(member, depth) | changed)
            }
            Value::Number(number) if self.is_in(&number.to_string()) => {
                *value = Value::String(self.text(&number.to_string()));
                true
            }
            Value::Number(_) | Value::Bool(_) | Value::Null => false,
        }
    }

    /// A text may hold JSON, whose escapes hide what is in it.
    fn string(&self, text: &mut String, depth: usize) -> bool {
        let mut changed = self.is_in(text);
        if changed {
            *text = self.text(text);
        }
        if depth < MAX_NESTED
            && text.contains('\\')
            && let Ok(mut inner) = serde_json::from_str::<Value>(text)
            && self.value(&mut inner, depth + 1)
        {
            *text = inner.to_string();
            changed = true;
        }
        changed
    }

    fn is_in(&self, text: &str) -> bool {
        self.each().any(|(_, forms)| forms.is_in(text))
    }

    fn each(&self) -> impl Iterator<Item = (&Credential, &Forms)> {
        self.0.iter().map(|it| (&**it, it.forms.get_or_init(|| Forms::of(secrets(&it.material)))))
    }
}

fn mark(credential: &Credential) -> String {
    format!("[credential {}]", credential.name)
}

/// Every text that must not come back.
fn secrets(material: &Material) -> Vec<String> {
    match material {
        Material::Key(secret) | Material::Bearer(secret) => vec![secret.expose_secret().to_owned()],
        Material::Basic(user, password) => ::scrub::basic(user.expose_secret(), password.expose_secret()),
        Material::MutualTls { private_key_pem, .. } => ::scrub::private_key(private_key_pem.expose_secret()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde_json::json;

    use super::*;
    use crate::outcome::ToolErrorCode;

    fn scrub(material: Material) -> Scrub {
        Scrub::of(&[Arc::new(Credential::new("key".into(), 1, material, Duration::ZERO))])
    }

    fn key(text: &str) -> Scrub {
        scrub(Material::Key(text.into()))
    }

    #[test]
    fn every_form_goes_however_deep_it_stands_and_the_rest_is_json_still() {
        let canary = "c4n\"ry/+?=~ \u{fc}secret";
        let scrub = key(canary);
        for form in [canary.to_owned(), hex::encode(canary), STANDARD.encode(format!("user:{canary}"))] {
            let nested = json!({"deep": [{"in": form}, form], "text": json!({"again": form}).to_string()});
            let clean = scrub.json(nested.to_string());
            assert_eq!(clean.matches("[credential key]").count(), 3, "{form}: {clean}");
            serde_json::from_str::<Value>(&clean).unwrap();
        }
    }

    #[test]
    fn escapes_hide_nothing_and_names_and_numbers_count() {
        let escaped: Vec<String> = "abcdefgh".chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let escaped = escaped.concat();
        let text =
            format!(r#"{{"a": "{escaped}", "b": "{{\"c\": \"{}\"}}"}}"#, escaped.replace('\\', "\\\\"));
        let clean = key("abcdefgh").json(text);
        assert_eq!(clean.matches("[credential key]").count(), 2, "{clean}");
        let clean = key("12345678").json(json!({"12345678": 12_345_678}).to_string());
        assert_eq!(clean, r#"{"[credential key]":"[credential key]"}"#);
    }

    #[test]
    fn what_holds_no_secret_stays_to_the_byte() {
        let text = "{ \"a\" : 1.50, \"b\": \"x\\ny\", \"c\": 9007199254740993 }".to_owned();
        assert_eq!(key("abcdefgh").json(text.clone()), text);
        assert_eq!(key("ab").json(r#"{"ab":"ab"}"#.into()), r#"{"ab":"ab"}"#);
    }

    #[test]
    fn of_a_user_and_a_password_the_pair_goes_whole() {
        let pair = scrub(Material::Basic("me".into(), "hunter22".into()));
        assert_eq!(pair.text("me has me:hunter22"), "me has [credential key]");
        let sent = STANDARD.encode("me:hunter22");
        assert!(!pair.text(&format!("Basic {sent}")).contains(&sent[..12]));
    }

    #[test]
    fn what_a_cut_leaves_of_one_goes_too_and_the_rest_stays_to_the_byte() {
        let error = |message: &str| {
            key("abcdefghijkl").error(ToolError::new(ToolErrorCode::ToolFailed, message)).message
        };
        assert_eq!(error("the server said: abcdefgh"), "the server said: [credential key]");
        assert_eq!(error("the server said: abcdefghijk…"), "the server said: [credential key]");
        assert_eq!(error("the server said: abc"), "the server said: abc");
        let text = r#"{"n":12345678901234567890123,"k":"abcdefghijkl","s":"a\nb"}"#;
        let clean = r#"{"n":12345678901234567890123,"k":"[credential key]","s":"a\nb"}"#;
        assert_eq!(key("abcdefghijkl").json(text.into()), clean);
        let php = r#"no: {"error":"bad key ab\/cd\u00fcef"}"#;
        assert_eq!(key("ab/cd\u{fc}ef").text(php), r#"no: {"error":"bad key [credential key]"}"#);
    }

    #[test]
    fn failures_and_certificates_are_scrubbed_too() {
        let error = ToolError::new(ToolErrorCode::ToolFailed, "no: abcdefgh");
        let error = ToolError { partial_json: Some(r#"{"out":"abcdefgh"}"#.into()), ..error };
        let error = key("abcdefgh").error(error);
        assert_eq!(error.message, "no: [credential key]");
        assert_eq!(error.partial_json.unwrap(), r#"{"out":"[credential key]"}"#);
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----\n";
        let empty = || "".into();
        let scrub = scrub(Material::MutualTls {
            certificate_pem: empty(),
            private_key_pem: pem.into(),
            ca_pem: empty(),
        });
        assert_eq!(scrub.text("MIIEvQIBADANBgkqhkiG9w0B"), "[credential key]");
        assert_eq!(scrub.text("-----BEGIN PRIVATE KEY-----"), "-----BEGIN PRIVATE KEY-----");
    }
}
