//! Who somebody is or how they get in, in an address: e-mail, user-info of URLs, connection strings. Must never take
//! the name of a file, a package or a host for a person.

use crate::{
    look::{ALNUM, Class},
    scan::Scan,
};

/// RFC 5321, section 4.5.3.1: a local part has 64 bytes at most, a domain 255.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;
/// Longest user-info of a URL.
const MAX_USER_INFO: usize = 512;
/// Longest user and password of other connection strings.
const MAX_DSN: usize = 96;

/// The characters of local parts that people use (RFC 5322, section 3.2.3: atext, and dots), and those beyond ASCII.
static LOCAL: Class = Class::of(b"A-Za-z0-9._%+'\x80-\xff-");
static DOMAIN: Class = Class::of(b"A-Za-z0-9.\x80-\xff-");
/// What no user-info holds but in percent form, except `@`, `:` and whatever else people forget.
static USER_INFO: Class = Class::but(b" \t\r\n\0/\"'<>\\`?#");
static SECRET: Class = Class::but(b" \t\r\n\0\"'<>\\`;,");

/// Ends of names of files and units, of which no top-level domain is.
const FILES: [&str; 44] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs", "ts", "tsx", "jsx", "json",
    "html", "htm", "xml", "yaml", "yml", "toml", "txt", "md", "rst", "log", "csv", "py", "rb", "go", "java",
    "kt", "lock", "gz", "tgz", "tar", "whl", "jar", "exe", "dll", "service", "socket", "timer", "mount",
    "target", "slice",
];

/// An address of RFC 5321.
pub(crate) fn email(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let start = look.back(begins, &LOCAL, MAX_LOCAL);
    // What escapes and quotes leave before it.
    let escaped =
        look.before(start) == b'\\' && begins - start > 1 && matches!(look.bytes[start], b'n' | b'r' | b't');
    let mut start = start + usize::from(escaped);
    while start < begins && matches!(look.bytes[start], b'.' | b'\'' | b'-') {
        look.worked(1);
        start += 1;
    }
    let end = look.run(ends, &DOMAIN, MAX_DOMAIN);
    while !scan.text.is_char_boundary(start) {
        start += 1;
    }
    let domain = scan.text.get(ends..end).unwrap_or_default().trim_end_matches(['.', '-']);
    if start >= begins
        || start < scan.taken
        || look.bytes[begins - 1] == b'.'
        || !is_domain(domain)
        || &scan.text[start..begins] == "git"
    {
        return;
    }
    look.worked(2 * domain.len());
    let end = ends + domain.len();
    scan.found(start, end, "email");
}

/// Whether a name of a host has two labels or more, and ends as those of the internet do.
fn is_domain(domain: &str) -> bool {
    let Some((rest, top)) = domain.rsplit_once('.') else { return false };
    let is_top = top.chars().count() >= 2 && top.chars().all(char::is_alphabetic) || top.starts_with("xn--");
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    is_top && rest.split('.').all(is_label) && !FILES.iter().any(|file| top.eq_ignore_ascii_case(file))
}

/// User-info of a URL (RFC 3986, section 3.2.1): whoever writes one there writes a password or a token. It ends at the
/// last `@` before the path, since passwords hold some too.
pub(crate) fn user_info(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    if begins == 0 || !ALNUM.has(look.before(begins)) {
        return;
    }
    let run = look.run(ends, &USER_INFO, MAX_USER_INFO);
    look.worked(run - ends);
    let Some(length) = look.bytes[ends..run].iter().rposition(|byte| *byte == b'@') else { return };
    let host = look.at(ends + length + 1);
    let info = &look.bytes[ends..ends + length];
    let is_told =
        info != b"git" && !info.starts_with(b"$") && !info.starts_with(b"{") && info != b"[redacted]";
    if length > 0 && is_told && (ALNUM.has(host) || matches!(host, b'[' | b'$' | b'{' | b'%')) {
        scan.found(ends, ends + length, "url_user_info");
    }
}

/// `user:password@tcp(host)/database`, as drivers in Go take it.
pub(crate) fn go_dsn(scan: &mut Scan<'_>, begins: usize, _: usize) {
    let look = &scan.look;
    let start = look.back(begins, &SECRET, MAX_DSN);
    look.worked(begins - start);
    let Some(colon) = look.bytes[start..begins].iter().position(|byte| *byte == b':') else { return };
    let first = glanced(scan, start + colon + 1);
    scan.found(first, begins, "connection_string");
}

/// `jdbc:oracle:thin:user/password@host`.
pub(crate) fn oracle(scan: &mut Scan<'_>, _: usize, ends: usize) {
    let look = &scan.look;
    let end = look.run(ends, &SECRET, MAX_DSN);
    look.worked(end - ends);
    let Some(at) = look.bytes[ends..end].iter().position(|byte| *byte == b'@') else { return };
    let Some(slash) = look.bytes[ends..ends + at].iter().position(|byte| *byte == b'/') else { return };
    scan.found(ends + slash + 1, ends + at, "connection_string");
}

/// `AccountKey=` and `SharedAccessSignature=` of Azure's connection strings.
pub(crate) fn azure_key(scan: &mut Scan<'_>, _: usize, ends: usize) {
    let end = glanced(scan, scan.look.run(ends, &SECRET, MAX_USER_INFO));
    if end - ends >= 16 {
        scan.found(ends, end, "connection_string");
    }
}

fn glanced(scan: &Scan<'_>, place: usize) -> usize {
    (0..4).map(|back| place - back).find(|place| scan.text.is_char_boundary(*place)).unwrap_or(place)
}
