//! Takes the credentials that a request carried out of everything that came back for it, in whatever form a server
//! is likely to repeat them. Linear in the text. Must leave JSON valid, and every other byte as it was.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
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
const SHORTEST_BASE64: usize = 6;
/// Least that a text must end with to be taken for the beginning of one, in bytes.
const LEAST_BEGUN: usize = 4;
/// What is left as it is besides letters and digits: by RFC 3986 (section 2.3), in forms (URL Standard,
/// application/x-www-form-urlencoded percent-encode set), and by encodeURIComponent of ECMAScript.
const UNRESERVED: [&[u8]; 3] = [b"-._~", b"*-._", b"-_.!~*'()"];
/// Texts in texts that are looked into.
const MAX_NESTED: usize = 4;

/// The forms of one credential's secrets.
pub(super) struct Forms {
    forms: Vec<String>,
    /// `None`: there is nothing to look for.
    found: Option<AhoCorasick>,
}

impl Forms {
    fn of(material: &Material) -> Self {
        let mut forms: Vec<String> = secrets(material).iter().flat_map(|secret| forms_of(secret)).collect();
        forms.sort();
        forms.dedup();
        // A table of all transitions of a long token would take megabytes. Building fails beyond 2^31 states only.
        let built = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&forms)
            .ok();
        Self { found: built.filter(|_| !forms.is_empty()), forms }
    }
}

/// Takes credentials out of texts.
pub(crate) struct Scrub(Vec<Arc<Credential>>);

impl Scrub {
    /// For these credentials.
    pub(super) fn of(credentials: &[Arc<Credential>]) -> Self {
        Self(credentials.to_vec())
    }

    /// A text without them.
    pub(crate) fn text(&self, text: &str) -> String {
        self.each().fold(text.to_owned(), |text, (credential, forms)| match &forms.found {
            Some(found) => found.replace_all(&text, &vec![mark(credential); forms.forms.len()]),
            None => text,
        })
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
        let whole = text.trim_end_matches(['…', '.', ' ']);
        let begun = |form: &String| {
            let ends = (LEAST_BEGUN..form.len()).rev().filter(|end| form.is_char_boundary(*end));
            ends.map(|end| &form[..end]).find(|begun| whole.ends_with(begun)).map(str::len)
        };
        let each = self.each().filter_map(|(credential, forms)| {
            Some((forms.forms.iter().filter_map(begun).max()?, credential))
        });
        match each.max_by_key(|(length, _)| *length) {
            Some((length, credential)) => format!("{}{}", &whole[..whole.len() - length], mark(credential)),
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
        self.each().any(|(_, forms)| forms.found.as_ref().is_some_and(|found| found.is_match(text)))
    }

    fn each(&self) -> impl Iterator<Item = (&Credential, &Forms)> {
        let forms = |it: &Credential| Forms::of(&it.material);
        self.0.iter().map(move |it| (&**it, it.forms.get_or_init(|| forms(it))))
    }
}

fn mark(credential: &Credential) -> String {
    format!("[credential {}]", credential.name)
}

/// Every text that must not come back.
fn secrets(material: &Material) -> Vec<String> {
    match material {
        Material::Key(secret) | Material::Bearer(secret) => vec![secret.expose_secret().to_owned()],
        Material::Basic(user, password) => {
            let (user, password) = (user.expose_secret(), password.expose_secret());
            let mut secrets = vec![password.to_owned(), format!("{user}:{password}")];
            // Where the password says little or nothing, the user is the key.
            if password.len() < SHORTEST {
                secrets.push(user.to_owned());
            }
            secrets
        }
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
    let json = &json[1..json.len() - 1];
    let mut forms = vec![secret.to_owned(), json.to_owned(), hex.to_uppercase(), hex];
    // Some libraries escape the slash as well, and whatever is not ASCII.
    forms.extend([json.replace('/', "\\/"), in_ascii(json), in_ascii(json).replace('/', "\\/")]);
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

/// JSON with every character beyond ASCII as an escape.
fn in_ascii(json: &str) -> String {
    let mut ascii = String::new();
    for character in json.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            let units = character.encode_utf16(&mut [0; 2]).to_vec();
            ascii.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    ascii
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
        Scrub::of(&[Arc::new(Credential::new("key".into(), 1, material, Duration::ZERO))])
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
    fn the_user_is_the_key_where_there_is_no_password_and_the_pair_goes_whole() {
        let basic = |user: &str, password: &str| scrub(Material::Basic(user.into(), password.into()));
        let pair = STANDARD.encode("sk_live_canary:");
        assert!(basic("sk_live_canary", "").text(&pair).starts_with("[credential key]"));
        assert_eq!(basic("sk_live_canary", "").text("sk_live_canary"), "[credential key]");
        assert_eq!(basic("octocat", "hunter22").text("octocat has hunter22"), "octocat has [credential key]");
        let short = STANDARD.encode("me:hunter");
        assert!(basic("me", "hunter").text(&format!("Basic {short}")).contains("[credential key]"));
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
