//! What has a form of its own: private keys in PEM, JSON Web Tokens, and JSON in base64.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{
    look::{BASE64, BASE64_URL, Class},
    scan::Scan,
    value,
};

/// A label of RFC 7468, section 3, without the dashes around it.
static LABEL: Class = Class::of(b"A-Z0-9 ");
const MAX_LABEL: usize = 40;
/// Shortest base64 that is taken for JSON, in bytes: `{"a":"bcd"}` and more.
const SHORTEST: usize = 16;

/// A private key, RFC 7468 and what OpenSSH and PGP make of it; one without an end goes to the end of the text.
pub(crate) fn pem(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let label = scan.look.run(ends, &LABEL, MAX_LABEL);
    let is_private = {
        let label = &scan.text[ends..label];
        label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK")
    };
    if !is_private || !scan.look.says(label, "-----") {
        return;
    }
    let rest = &scan.text[label + 5..];
    let end =
        rest.find("-----END ").and_then(|at| rest[at + 9..].find("-----").map(|more| at + 9 + more + 5));
    let end = end.map_or(scan.text.len(), |end| label + 5 + end);
    scan.look.worked(end - label);
    scan.found(begins, end, "private_key");
}

/// A private key as `PuTTY` keeps it: to its last line.
pub(crate) fn putty(scan: &mut Scan<'_>, begins: usize, _: usize) {
    let rest = &scan.text[begins..];
    let last =
        rest.find("Private-MAC:").map(|at| at + rest[at..].find(['\n', '\r']).unwrap_or(rest.len() - at));
    let end = begins + last.unwrap_or(rest.len());
    scan.look.worked(end - begins);
    scan.found(begins, end, "private_key");
}

/// A token of three or five parts, RFC 7519 and RFC 7516, section 3: base64url, the first an object.
pub(crate) fn jwt(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let is_new = begins >= scan.jwt_until && look.bytes[begins..ends] == *b"eyJ" && look.opens(begins);
    if !is_new {
        return;
    }
    let first = look.run(ends, &BASE64_URL, usize::MAX);
    let mut end = first;
    let mut parts = 1;
    while parts < 5 && look.at(end) == b'.' {
        let next = look.run(end + 1, &BASE64_URL, usize::MAX);
        if parts == 1 && next - end < 9 {
            break;
        }
        (end, parts) = (next, parts + 1);
    }
    scan.jwt_until = end;
    if first - ends >= 8 && parts >= 3 {
        scan.found(begins, end, "jwt");
    }
}

/// JSON in base64: what holds a secret goes whole, since what is left of it could not be read.
pub(crate) fn encoded(scan: &mut Scan<'_>, begins: usize, _: usize) {
    let look = &scan.look;
    if begins < scan.encoded_until || !look.opens(begins) {
        return;
    }
    let end = look.run(begins, &BASE64, usize::MAX);
    scan.encoded_until = end;
    if end - begins < SHORTEST {
        return;
    }
    // Reading it is work in proportion to its length, a fixed number of levels deep.
    look.worked(2 * (end - begins));
    if is_secret_json(&scan.text[begins..end], scan) {
        scan.found(begins, end, "encoded_json");
    }
}

fn is_secret_json(digits: &str, scan: &Scan<'_>) -> bool {
    let forgiving = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if digits.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let decoded = GeneralPurpose::new(alphabet, forgiving).decode(digits);
    let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| match value::json_of(&text) {
        value::Inner::Json(inner) => {
            scan.nested >= value::MAX_NESTED_JSON || !value::is_clean(&inner, scan.rules, scan.nested + 1)
        }
        value::Inner::TooDeep => true,
        value::Inner::Text => false,
    })
}
