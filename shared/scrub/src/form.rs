//! The forms in which one secret may come back. Pure.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use crate::SHORTEST;

/// What is left as it is besides letters and digits: by RFC 3986 (section 2.3), in forms (URL Standard,
/// application/x-www-form-urlencoded percent-encode set), and by encodeURIComponent of ECMAScript.
const UNRESERVED: [&[u8]; 3] = [b"-._~", b"*-._", b"-_.!~*'()"];

/// A secret as it is, in JSON, in a URL, in hexadecimal digits, and in base64 wherever in a longer text it stands.
pub(crate) fn all(secret: &str) -> Vec<String> {
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
        let lower = lower(&encoded);
        forms.extend([encoded.replace("%20", "+"), lower.replace("%20", "+"), lower, encoded]);
    }
    for shift in 0..3 {
        forms
            .extend([in_base64(&STANDARD_NO_PAD, secret, shift), in_base64(&URL_SAFE_NO_PAD, secret, shift)]);
    }
    forms.retain(|form| form.len() >= SHORTEST);
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
    digits.get(first..last).unwrap_or_default().to_owned()
}
