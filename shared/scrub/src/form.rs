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

/// Levels of JSON within JSON whose escapes are known.
const MAX_ESCAPED: usize = 3;
/// The alphabet of base32 (RFC 4648, section 6).
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A secret as it is, backwards, in JSON, in HTML, in a URL, in quoted-printable, in digits, and in base64 and base32
/// wherever in a longer text it stands.
pub(crate) fn all(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let (json, hex) = (in_json(secret), hex::encode(secret));
    let mut forms = vec![secret.to_owned(), json.clone(), hex.to_uppercase(), hex];
    // Some libraries escape the slash as well, and whatever is not ASCII.
    forms.extend([json.replace('/', "\\/"), in_ascii(&json), in_ascii(&json).replace('/', "\\/")]);
    for unreserved in UNRESERVED {
        let encoded = percent(secret, unreserved);
        let lower = lower(&encoded);
        forms.extend([encoded.replace("%20", "+"), lower.replace("%20", "+"), lower, encoded]);
    }
    for shift in 0..3 {
        forms.extend([
            in_base64(&STANDARD_NO_PAD, secret.as_bytes(), shift),
            in_base64(&URL_SAFE_NO_PAD, secret.as_bytes(), shift),
        ]);
    }
    let utf16: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // As some shells take commands: pairs of bytes, in base64.
    forms.extend((0..3).map(|shift| in_base64(&STANDARD_NO_PAD, &utf16, shift)));
    let base32 = in_base32(secret);
    forms.extend([base32.to_lowercase(), base32, secret.chars().rev().collect(), quoted_printable(secret)]);
    for each in ["%", "\\x", ":", " "] {
        let written = each_byte(secret, each);
        forms.extend([written.to_uppercase().replace("\\X", "\\x"), written]);
    }
    forms.extend(HTML.map(|quotes| in_html(secret, quotes)));
    // A body that is cut is no JSON any more, and what is JSON in JSON in it stays escaped as often.
    let mut escaped = forms.clone();
    for _ in 0..MAX_ESCAPED {
        escaped.retain(|form| form.contains(['"', '\\']));
        escaped = escaped.iter().map(|form| in_json(form)).collect();
        forms.extend_from_slice(&escaped);
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// How libraries write `"`, `'` and `/` in HTML, where they escape them.
const HTML: [[&str; 3]; 4] =
    [["&quot;", "'", "/"], ["&quot;", "&#39;", "/"], ["&#34;", "&#39;", "/"], ["&quot;", "&#x27;", "&#x2F;"]];

/// With references in the place of the characters of HTML (HTML Standard, "Escaping a string").
fn in_html(secret: &str, [double, single, slash]: [&str; 3]) -> String {
    let escaped = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', double).replace('\'', single).replace('/', slash)
}

/// RFC 2045, section 6.7, on one line.
fn quoted_printable(secret: &str) -> String {
    let each = |byte: u8| match byte {
        b'=' => "=3D".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("={byte:02X}"),
    };
    secret.bytes().map(each).collect()
}

/// Every byte in hexadecimal digits, with something before each that is no letter, or between them.
fn each_byte(secret: &str, sign: &str) -> String {
    let written = secret.bytes().fold(String::new(), |written, byte| format!("{written}{sign}{byte:02x}"));
    if matches!(sign, ":" | " ") { written[1..].to_owned() } else { written }
}

/// The digits of base32 where the secret stands at the beginning; a last one that holds other bits too is left out.
fn in_base32(secret: &str) -> String {
    let bits = |place: usize| secret.as_bytes().get(place / 8).map_or(0, |byte| byte >> (7 - place % 8) & 1);
    let digit = |group: usize| (0..5).fold(0, |digit, bit| digit << 1 | usize::from(bits(group * 5 + bit)));
    (0..secret.len() * 8 / 5).map(|group| char::from(BASE32[digit(group)])).collect()
}

/// As a text within JSON, without its quotes.
fn in_json(text: &str) -> String {
    let json = Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
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
fn in_base64(engine: &impl Engine, secret: &[u8], shift: usize) -> String {
    let padded = [&[0, 0][..shift], secret].concat();
    let digits = engine.encode(&padded);
    let (first, last) = ((shift * 8).div_ceil(6), padded.len() * 8 / 6);
    digits.get(first..last).unwrap_or_default().to_owned()
}
