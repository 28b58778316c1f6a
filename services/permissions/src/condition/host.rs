//! Hosts of URLs, compared exactly. A URL that two readers could take to lead to different hosts has none.

use url::{Host, Url};

/// Most bytes of a URL.
const MAX_URL: usize = 8_192;

/// Checks a host that URLs may have, or "*." and a domain for all below it.
pub(super) fn check(value: &str) -> Result<(), String> {
    let (domain, is_wild) = match value.strip_prefix("*.") {
        Some(domain) => (domain, true),
        None => (value, false),
    };
    let host = Host::parse(domain)
        .map_err(|error| format!("is no host ({error}); write example.org, *.example.org or 192.0.2.1"))?;
    let is_ip = !matches!(host, Host::Domain(_));
    if is_wild && is_ip {
        return Err("has nothing below it; only a domain may follow \"*.\"".to_owned());
    }
    let written = host.to_string();
    if written != domain {
        let wild = if is_wild { "*." } else { "" };
        return Err(format!("is written otherwise in a URL; write {wild}{written}"));
    }
    if domain.ends_with('.') || domain.contains('*') {
        return Err("must be a host without a dot at its end; \"*.\" only at its beginning".to_owned());
    }
    Ok(())
}

/// Whether a text is an http or https URL whose host is one of these.
pub(super) fn is_one_of(text: &str, hosts: &[String]) -> bool {
    let Some(host) = host_of(text) else { return false };
    let is_domain = matches!(Host::parse(&host), Ok(Host::Domain(_)));
    hosts.iter().any(|allowed| match allowed.strip_prefix('*') {
        Some(ending) => is_domain && host.len() > ending.len() && host.ends_with(ending),
        None => host == *allowed,
    })
}

/// The host of a URL that is written as every reader reads it: no user, no blanks or backslashes that some drop or
/// turn, and the host letter by letter as it is asked for.
fn host_of(text: &str) -> Option<String> {
    let is_odd = |character: char| character.is_control() || character.is_whitespace() || character == '\\';
    if text.len() > MAX_URL || text.contains(is_odd) {
        return None;
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = url.host_str()?;
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    // The port may be written, even where it is the usual one.
    let written = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() => host,
        _ => authority,
    };
    let is_plain = scheme.eq_ignore_ascii_case(url.scheme())
        && url.username().is_empty()
        && url.password().is_none()
        && written.eq_ignore_ascii_case(host);
    is_plain.then(|| host.to_owned())
}
