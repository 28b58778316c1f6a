//! What a header says of who asks, wherever a text repeats it (RFC 9110, section 11.4; RFC 6750; RFC 7617; RFC 6265).

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::{
    look::{BASE64, Class},
    scan::Scan,
};

static SPACE: Class = Class::of(b" \t");
/// RFC 9110, section 11.2: token68.
static TOKEN68: Class = Class::of(b"A-Za-z0-9._~+/=-");
static VALUE: Class = Class::but(b"\r\n\"'`\\<>[]{}");
static UNSPACED: Class = Class::but(b" \t\r\n\"'`\\<>[]{}");
/// RFC 6265, section 4.1.1: a token of RFC 9110.
static COOKIE_NAME: Class = Class::of(b"A-Za-z0-9!#$%&*+.^_|~-");
static LINE: Class = Class::but(b"\r\n");
static QUOTES: Class = Class::of(b"\"'`\\");
const RULE: &str = "authorization";
/// Bytes of a value that are looked at before it is known to be one.
const GLANCE: usize = 64;

/// Schemes after which the rest of a line is secret.
const SCHEMES: [&str; 17] = [
    "bearer",
    "basic",
    "digest",
    "token",
    "apikey",
    "api-key",
    "negotiate",
    "ntlm",
    "aws4-hmac-sha256",
    "hawk",
    "signature",
    "oauth",
    "ssws",
    "dpop",
    "mac",
    "key",
    "bot",
];

/// Those of them that have parameters.
const PARAMETERS: [&str; 6] = ["digest", "aws4-hmac-sha256", "hawk", "signature", "oauth", "mac"];

/// `Bearer TOKEN`.
pub(crate) fn bearer(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let start = skipped(scan, ends);
    if start == ends || !look.opens(begins) {
        return;
    }
    let glance = look.run(start, &TOKEN68, GLANCE);
    if glance - start >= 8 && is_odd(scan, start, glance) {
        let end = look.run(glance, &TOKEN68, usize::MAX);
        scan.found(start, end, RULE);
    }
}

/// `Basic` and a user with a password, in base64.
pub(crate) fn basic(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let start = skipped(scan, ends);
    if start == ends || !look.opens(begins) {
        return;
    }
    let glance = look.run(start, &BASE64, GLANCE);
    let whole = (glance - start) / 4 * 4;
    let decoded = STANDARD_NO_PAD.decode(&look.bytes[start..start + whole]).unwrap_or_default();
    look.worked(2 * decoded.len());
    let is_pair =
        decoded.contains(&b':') && decoded.iter().all(|byte| byte.is_ascii_graphic() || *byte >= 0x80);
    // A character beyond ASCII may be cut in two at its end.
    if is_pair && std::str::from_utf8(&decoded).map_or_else(|wrong| wrong.error_len().is_none(), |_| true) {
        let end = look.run(glance, &TOKEN68, usize::MAX);
        scan.found(start, end, RULE);
    }
}

/// `Authorization: SCHEME REST`, `Proxy-Authorization` too; without a scheme that is known, one value.
pub(crate) fn authorization(scan: &mut Scan<'_>, _: usize, ends: usize) {
    let look = &scan.look;
    let Some(start) = separated(scan, ends) else { return };
    let word = look.run(start, &UNSPACED, 4 * GLANCE);
    let after = look.run(word, &SPACE, 16);
    let first = &look.bytes[start..word];
    let is_known = SCHEMES.iter().any(|scheme| first.eq_ignore_ascii_case(scheme.as_bytes()));
    let is_last = !VALUE.has(look.at(after)) || first.len() == 4 * GLANCE;
    let is_value = is_last && (first.len() >= 16 || first.len() >= 6 && is_odd(scan, start, word));
    let is_template = matches!(look.at(after), b'$' | b'%');
    if is_known && !is_template && look.run(after, &VALUE, 4) - after == 4 && after > word
        || is_value && !is_known
    {
        // The parameters of some schemes are in quotes themselves.
        let has_parameters = PARAMETERS.iter().any(|scheme| first.eq_ignore_ascii_case(scheme.as_bytes()));
        let end = look.run(after, if has_parameters { &LINE } else { &VALUE }, usize::MAX);
        scan.found(start, end, RULE);
    }
}

/// `Cookie: NAME=VALUE; ...` and `Set-Cookie`.
pub(crate) fn cookie(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let Some(start) = separated(scan, ends) else { return };
    let is_name = look.opens(begins) || look.before(begins) == b'-';
    let name = look.run(start, &COOKIE_NAME, GLANCE);
    let is_set = name > start && look.at(name) == b'=' && look.run(name + 1, &VALUE, 4) - name > 4;
    if is_name && is_set {
        let end = look.run(name, &VALUE, usize::MAX);
        scan.found(start, end, RULE);
    }
}

/// Where the value of a header begins: after a colon or an equals sign, with quotes around either.
fn separated(scan: &Scan<'_>, ends: usize) -> Option<usize> {
    let look = &scan.look;
    let quoted = look.run(ends, &QUOTES, 4);
    let spaced = look.run(quoted, &SPACE, 4);
    if !matches!(look.at(spaced), b':' | b'=') {
        return None;
    }
    if look.at(spaced + 1) == b':' {
        return None;
    }
    let start = look.run(look.run(look.run(spaced + 1, &SPACE, 4), &QUOTES, 4), &SPACE, 4);
    Some(start)
}

/// After spaces, also as a URL writes them.
fn skipped(scan: &Scan<'_>, ends: usize) -> usize {
    let look = &scan.look;
    let start = look.run(ends, &SPACE, 16);
    if start > ends {
        return start;
    }
    if look.says(ends, "%20") {
        ends + 3
    } else if look.at(ends) == b'+' {
        ends + 1
    } else {
        ends
    }
}

/// Whether no word looks like this: it has digits, or letters of both cases within it.
fn is_odd(scan: &Scan<'_>, start: usize, end: usize) -> bool {
    let bytes = &scan.look.bytes[start..end];
    scan.look.worked(bytes.len());
    let is_mixed = bytes.windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    bytes.iter().any(u8::is_ascii_digit) || is_mixed && bytes.len() >= 16
}
