//! Tokens of providers, looked at more closely: those of the table, and those that are known by something in their
//! middle.

use crate::{
    look::{ALNUM, BASE64, BASE64_URL, Class, DIGIT, HEX, Look},
    scan::Scan,
    tokens::{Check, Token},
};

/// Bytes of a token that are looked at before it is known to be one.
const GLANCE: usize = 160;
/// The same where words joined by dashes begin alike.
const SHORT_GLANCE: usize = 40;

/// Where a token of the table that begins here ends.
pub(crate) fn token_end(look: &Look<'_>, token: &Token, begins: usize, ends: usize) -> Option<usize> {
    let is_written = look.bytes.get(begins..ends) == Some(token.prefix.as_bytes());
    if !is_written || !look.opens(begins) {
        return None;
    }
    // Nothing divides its beginning from the rest: within a long text in base64 it may stand by chance.
    let is_bare = token.prefix.bytes().all(|byte| ALNUM.has(byte));
    if is_bare && matches!(look.before(begins), b'+' | b'/') {
        return None;
    }
    let most = if token.check == Check::Mixed { SHORT_GLANCE } else { GLANCE };
    let glance = look.run(ends, token.body, most);
    let length = glance - ends;
    if length < token.least || token.most > 0 && (length > token.most || !look.closes(glance)) {
        return None;
    }
    if token.check == Check::Mixed && !is_mixed(&look.bytes[ends..glance]) {
        return None;
    }
    let end = if length == most { look.run(glance, token.body, usize::MAX) } else { glance };
    if token.check == Check::Ours && !is_ours(look, &look.bytes[ends..end.min(ends + GLANCE)]) {
        return None;
    }
    Some(end)
}

/// Whether there is a part of ten or more that has digits: words have none, or are shorter.
fn is_mixed(body: &[u8]) -> bool {
    if body.iter().filter(|byte| byte.is_ascii_digit()).count() < 2 {
        return false;
    }
    let (mut length, mut digits) = (0, 0);
    for byte in body {
        (length, digits) = match byte {
            b'0'..=b'9' => (length + 1, digits + 1),
            byte if ALNUM.has(*byte) => (length + 1, digits),
            _ => (0, 0),
        };
        if length >= 10 && digits >= 2 {
            return true;
        }
    }
    false
}

fn is_ours(look: &Look<'_>, body: &[u8]) -> bool {
    look.worked(body.len());
    let mut parts = body.rsplitn(3, |byte| *byte == b'_');
    let (Some(sum), Some(secret), Some(_)) = (parts.next(), parts.next(), parts.next()) else { return false };
    sum.len() == 8
        && sum.iter().all(|byte| HEX.has(*byte))
        && secret.len() >= 16
        && secret.iter().all(|byte| ALNUM.has(*byte))
}

static ENTRA: Class = Class::of(b"A-Za-z0-9_~.-");

/// A client secret of Microsoft Entra: three characters, a digit, `Q~`, and 31 to 34 more.
pub(crate) fn azure_secret(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    if begins < 4 || look.bytes[begins] != b'Q' || !DIGIT.has(look.before(begins)) {
        return;
    }
    let (start, end) = (look.back(begins - 1, &ENTRA, 4), look.run(ends, &ENTRA, 40));
    if begins - 1 - start == 3 && (31..=34).contains(&(end - ends)) {
        scan.found(start, end, "azure_client_secret");
    }
}

/// A token of Terraform Cloud: 14 characters, `.atlasv1.`, and 60 or more.
pub(crate) fn terraform(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let start = look.back(begins, &ALNUM, 14);
    if begins - start == 14 && look.run(ends, &BASE64_URL, 60) - ends == 60 {
        let end = look.run(ends, &BASE64_URL, usize::MAX);
        scan.found(start, end, "terraform_token");
    }
}

/// A bot's token of Telegram: its number, a colon, `AA` and 33 more.
pub(crate) fn telegram(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let (start, end) = (look.back(begins, &DIGIT, 12), look.run(ends, &BASE64_URL, 40));
    let is_sized = (8..=11).contains(&(begins - start)) && (31..=35).contains(&(end - ends));
    if is_sized
        && look.bytes[begins + 1] == b'A'
        && (look.opens(start) || look.says(start.saturating_sub(3), "bot"))
    {
        scan.found(start, end, "telegram_token");
    }
}

/// A key of Mailchimp: 32 hexadecimal digits and the data centre, such as `-us12`.
pub(crate) fn mailchimp(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let (start, end) = (look.back(begins, &HEX, 33), look.run(ends, &DIGIT, 3));
    if begins - start == 32 && (1..=2).contains(&(end - ends)) && look.opens(start) && look.closes(end) {
        scan.found(start, end, "mailchimp_key");
    }
}

/// A personal access token of Azure DevOps, or a key of Azure, with the signature that secret scanners are to look for
/// at the 76th place of 84 (`AZDO`), or within it (`JQQJ99`).
pub(crate) fn azure_devops(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let (start, end) = (look.back(begins, &BASE64, 77), look.run(ends, &BASE64, 40));
    if begins - start >= 50 && (80..=90).contains(&(end - start)) {
        scan.found(start, end, "azure_key");
    }
}

/// Tokens of three parts: a bot's of Discord, whose first part is its number in base64; a key of Airtable, of two.
pub(crate) fn dotted(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let start = look.back(begins, &BASE64_URL, 29);
    let first = begins - start;
    if first == 17 && look.bytes[start..].starts_with(b"pat") && look.run(ends, &HEX, 65) - ends == 64 {
        scan.found(start, ends + 64, "airtable_token");
    } else if (23..=28).contains(&first)
        && matches!(look.bytes[start], b'M' | b'N' | b'O')
        && look.opens(start)
    {
        let second = look.run(ends, &BASE64_URL, 8);
        let third = look.run(second + 1, &BASE64_URL, 40);
        let is_sized =
            (5..=7).contains(&(second - ends)) && (27..=38).contains(&(third.saturating_sub(second + 1)));
        if is_sized && look.at(second) == b'.' {
            scan.found(start, third, "discord_token");
        }
    }
}
