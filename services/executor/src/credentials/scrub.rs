//! Takes the credentials that a request carried out of everything that came back for it, in whatever form a server
//! is likely to repeat them. Linear in the text. Must leave JSON valid, and every other byte as it was.

use std::sync::Arc;

use aho_corasick::AhoCorasick;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{Credential, Material};
use crate::outcome::ToolError;

/// Shorter texts cannot be told from others that only look like them: they are left, and the registry refuses to keep
/// them.
const SHORTEST: usize = 6;
/// Shortest form in base64 that is looked for: a piece of a longer text, where the secret stands within it.
const SHORTEST_BASE64: usize = 8;
/// What is left as it is besides letters and digits: by RFC 3986 (section 2.3), in forms (URL Standard,
/// application/x-www-form-urlencoded percent-encode set), and by encodeURIComponent of ECMAScript.
const UNRESERVED: [&[u8]; 3] = [b"-._~", b"*-._", b"-_.!~*'()"];
/// Texts in texts that are looked into.
const MAX_NESTED: usize = 4;

/// The forms that are looked for, and what stands in their place.
pub(crate) struct Scrub {
    forms: Option<AhoCorasick>,
    marks: Vec<String>,
}

impl Scrub {
    /// For these credentials.
    pub(super) fn of(credentials: &[Arc<Credential>]) -> Self {
        let (mut forms, mut marks) = (Vec::new(), Vec::new());
        for credential in credentials {
            for secret in secrets(&credential.material) {
                for form in forms_of(&secret) {
                    forms.push(form);
                    marks.push(format!("[credential {}]", credential.name));
                }
            }
        }
        let leftmost = aho_corasick::MatchKind::LeftmostLongest;
        // Building fails beyond 2^31 states only.
        let built = AhoCorasick::builder().match_kind(leftmost).build(&forms).ok();
        Self { forms: built.filter(|_| !forms.is_empty()), marks }
    }

    /// A text without them.
    pub(crate) fn text(&self, text: &str) -> String {
        match &self.forms {
            Some(forms) => forms.replace_all(text, &self.marks),
            None => text.to_owned(),
        }
    }

    /// A result, as JSON text, without them; untouched where there are none.
    pub(crate) fn json(&self, text: String) -> String {
        let Some(forms) = &self.forms else { return text };
        // Without an escape, every text in it stands in it as it is.
        if !text.contains('\\') && !forms.is_match(&text) {
            return text;
        }
        let Ok(mut value) = serde_json::from_str(&text) else { return self.text(&text) };
        if self.value(&mut value, 0) { value.to_string() } else { text }
    }

    /// The same failure without them.
    pub(crate) fn error(&self, error: ToolError) -> ToolError {
        let mut violations = error.violations;
        for violation in &mut violations {
            violation.pointer = self.text(&violation.pointer);
            violation.message = self.text(&violation.message);
        }
        ToolError {
            message: self.text(&error.message),
            partial_json: error.partial_json.map(|partial| self.json(partial)),
            violations,
            ..error
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
        self.forms.as_ref().is_some_and(|forms| forms.is_match(text))
    }
}

/// Every text that must not come back.
fn secrets(material: &Material) -> Vec<String> {
    match material {
        Material::Key(secret) | Material::Bearer(secret) => vec![secret.expose_secret().to_owned()],
        Material::Basic(_, password) => vec![password.expose_secret().to_owned()],
        // Any line of the key but its first and last, which are the same in all keys.
        Material::MutualTls { private_key_pem, .. } => {
            let lines = private_key_pem.expose_secret().lines().map(str::trim);
            lines.filter(|line| line.len() >= 16 && !line.starts_with("-----")).map(str::to_owned).collect()
        }
    }
}

/// A secret as it is, in JSON, in a URL, in hexadecimal digits, and in base64 wherever in a longer text it stands.
fn forms_of(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let json = Value::from(secret).to_string();
    let hex = hex::encode(secret);
    let mut forms = vec![secret.to_owned(), json[1..json.len() - 1].to_owned(), hex.to_uppercase(), hex];
    for unreserved in UNRESERVED {
        let encoded = percent(secret, unreserved);
        forms.extend([encoded.replace("%20", "+"), lower(&encoded), encoded]);
    }
    for shift in 0..3 {
        forms
            .extend([in_base64(&STANDARD_NO_PAD, secret, shift), in_base64(&URL_SAFE_NO_PAD, secret, shift)]);
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort();
    forms.dedup();
    forms
}

fn percent(secret: &str, unreserved: &[u8]) -> String {
    let each = |byte: u8| {
        if byte.is_ascii_alphanumeric() || unreserved.contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    secret.bytes().map(each).collect()
}

/// The same with the digits of each encoded byte in lower case.
fn lower(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at(2.min(part.len()));
        format!("{text}%{}{rest}", digits.to_lowercase())
    })
}

/// The digits that are the secret's alone where `shift` bytes, modulo 3, stand before it: those that it shares with
/// its neighbours are left out (RFC 4648, section 4: 3 bytes are 4 digits).
fn in_base64(engine: &impl Engine, secret: &str, shift: usize) -> String {
    let padded = [vec![0; shift], secret.as_bytes().to_vec()].concat();
    let digits = engine.encode(&padded);
    let (first, last) = ((shift * 8).div_ceil(6), padded.len() * 8 / 6);
    let form = digits.get(first..last).unwrap_or_default();
    if form.len() < SHORTEST_BASE64 { String::new() } else { form.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use serde_json::json;

    use super::*;
    use crate::outcome::ToolErrorCode;

    const CANARY: &str = "c4n\"ry/+?=~ \u{fc}secret";

    fn scrub(material: Material) -> Scrub {
        Scrub::of(&[Arc::new(Credential { name: "key".into(), version: 1, material, fresh: Duration::ZERO })])
    }

    fn key(text: &str) -> Scrub {
        scrub(Material::Key(text.into()))
    }

    #[test]
    fn every_form_goes_wherever_it_stands() {
        let scrub = key(CANARY);
        let encoded: String = url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect();
        let mut forms =
            vec![CANARY.to_owned(), hex::encode(CANARY), hex::encode(CANARY).to_uppercase(), encoded];
        for before in ["", "a", "ab", "user:", "some more"] {
            for after in ["", "x", "xy", " and more"] {
                let text = format!("{before}{CANARY}{after}");
                forms.extend([STANDARD.encode(&text), URL_SAFE.encode(&text), STANDARD_NO_PAD.encode(&text)]);
            }
        }
        for form in forms {
            let nested = json!({"deep": [{"in": form}, form], "text": json!({"again": form}).to_string()});
            let clean = scrub.json(nested.to_string());
            assert!(clean.contains("[credential key]"), "{form}: {clean}");
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
