//! `ping_server`: whether a server answers, and how fast. One port a call. Must never connect to an address that tools
//! may not reach. A server that does not answer is an answer of this tool, not a failure.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, Utc};
use reach::{Guard, Refused};
use reqwest::{
    Method,
    header::{CONNECTION, HeaderMap, HeaderValue},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use url::{Host, Url};

use super::{certificate, http_request::address, path::wrong, text};
use crate::{
    drivers::{Fetch, Fetched, HttpClient, Job},
    outcome::{Ended, ToolError, ToolErrorCode},
};

const DEFAULT_COUNT: u64 = 4;
const DEFAULT_INTERVAL_MS: u64 = 200;
const DEFAULT_TIMEOUT_MS: u64 = 3_000;
/// Most bytes of a body that are waited for.
const MAX_BYTES: usize = 64 * 1024;

/// Where to knock.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// With its host, its port left as it is; HTTP requests go there.
    url: Url,
    port: u16,
    is_http: bool,
}

/// One try.
#[derive(Debug)]
struct Try {
    time: Duration,
    /// What came of it: an HTTP status, where there is one, or why nothing came.
    answer: Result<Option<u16>, String>,
}

/// What is known of the server by the way.
#[derive(Debug, Default)]
struct Known {
    address: Option<IpAddr>,
    url: Option<String>,
    certificate: Option<Vec<u8>>,
}

/// Knocks so often.
pub(crate) async fn run(http: &HttpClient, allow_private_network: bool, job: &Job<'_>) -> Ended {
    let started = Instant::now();
    let number =
        |name: &str, otherwise: u64| job.arguments.get(name).and_then(Value::as_u64).unwrap_or(otherwise);
    let target = target(job.arguments)?;
    let guard = http.guard(allow_private_network);
    let patience = Duration::from_millis(number("timeout_ms", DEFAULT_TIMEOUT_MS));
    let (addresses, unknown) = addresses(&guard, &target, patience).await?;
    let resolved = started.elapsed();
    let (mut tries, mut known) = (Vec::new(), Known::default());
    let interval = Duration::from_millis(number("interval_ms", DEFAULT_INTERVAL_MS));
    let count = if unknown.is_some() { 0 } else { number("count", DEFAULT_COUNT).clamp(1, 10) };
    for turn in 0..count {
        if turn > 0 {
            tokio::time::sleep(interval).await;
        }
        // The call's own time ends it with what there is.
        let left = (job.timeout * 9 / 10).saturating_sub(started.elapsed());
        if turn > 0 && left < Duration::from_millis(10) {
            break;
        }
        let patience = patience.min(left);
        tries.push(if target.is_http {
            request(http, &target, job, patience, allow_private_network, &mut known).await?
        } else {
            connect(&addresses, target.port, patience, &mut known).await
        });
    }
    Ok(result(&target, &addresses, resolved, unknown, &tries, &known).to_string())
}

fn target(arguments: &Value) -> Result<Target, ToolError> {
    let written = text(arguments, "target").unwrap_or_default().trim();
    let has_scheme = written.contains("://");
    let named = arguments.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let is_http = match text(arguments, "mode") {
        Some("http") => true,
        Some("tcp") => false,
        _ => has_scheme,
    };
    let mut url = if has_scheme { address(written)? } else { address(&format!("https://{written}"))? };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("target", "must be a host, a host and port, or an http or https address"));
    }
    if !has_scheme && (url.path() != "/" || url.query().is_some() || url.fragment().is_some()) {
        return Err(wrong("target", "must be a host or a host and port; write https:// before an address"));
    }
    // A port that is the scheme's own is not kept by the parser.
    let authority = written.split("://").last().and_then(|rest| rest.split(['/', '?', '#']).next());
    let said = authority.and_then(|host| host.rsplit_once(':')?.1.parse::<u16>().ok()).or_else(|| url.port());
    if let (Some(said), Some(named)) = (said, named)
        && said != named
    {
        return Err(wrong("port", format!("is {named}, and target says {said}")));
    }
    let port = named.or(said).or_else(|| url.port_or_known_default()).unwrap_or(443);
    if port == 0 {
        return Err(wrong("port", "must be 1 to 65535"));
    }
    if !has_scheme && port == 80 {
        let _ = url.set_scheme("http");
    }
    url.set_port(Some(port)).map_err(|()| wrong("target", "names no host"))?;
    Ok(Target { url, port, is_http })
}

/// The addresses of the host that may be reached, or why there is none.
async fn addresses(
    guard: &Guard,
    target: &Target,
    patience: Duration,
) -> Result<(Vec<IpAddr>, Option<String>), ToolError> {
    let refused = |refused: &Refused| ToolError::new(ToolErrorCode::AddressRefused, refused.to_string());
    let mut bare = target.url.clone();
    if !target.is_http {
        // Any one port may be tried; those that HTTP may not speak to are no danger to a connection without a word.
        let _ = bare.set_port(None);
    }
    guard.reach.check(&bare).map_err(|error| refused(&error))?;
    match target.url.host() {
        Some(Host::Ipv4(address)) => Ok((vec![address.into()], None)),
        Some(Host::Ipv6(address)) => Ok((vec![address.into()], None)),
        Some(Host::Domain(name)) => match tokio::time::timeout(patience, guard.addresses(name)).await {
            Ok(Ok(found)) => Ok((found, None)),
            Ok(Err(error)) => match error.downcast_ref::<Refused>() {
                Some(error) => Err(refused(error)),
                None => Ok((Vec::new(), Some(format!("the name {name} has no address")))),
            },
            Err(_) => {
                let late = format!("the name {name} was not resolved within {} ms", patience.as_millis());
                Ok((Vec::new(), Some(late)))
            }
        },
        None => Err(wrong("target", "names no host")),
    }
}

/// Connects to the first address that answers, and says nothing.
async fn connect(addresses: &[IpAddr], port: u16, patience: Duration, known: &mut Known) -> Try {
    let started = Instant::now();
    let knock = async {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(*address, port)).await {
                Ok(_) => return Ok(*address),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let answer = match tokio::time::timeout(patience, knock).await {
        Ok(Ok(address)) => {
            known.address = Some(address);
            Ok(None)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
    };
    Try { time: started.elapsed(), answer }
}

/// One request over a connection of its own. Only what the guard refuses is a failure.
async fn request(
    http: &HttpClient,
    target: &Target,
    job: &Job<'_>,
    patience: Duration,
    allow_private_network: bool,
    known: &mut Known,
) -> Result<Try, ToolError> {
    let started = Instant::now();
    let method = if text(job.arguments, "method") == Some("GET") { Method::GET } else { Method::HEAD };
    let fetch = Fetch {
        method,
        url: target.url.clone(),
        headers: HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))]),
        body: None,
        max_bytes: MAX_BYTES,
        allow_private_network,
        may_move: true,
        timeout: patience,
    };
    let answer = match http.fetch(fetch).await {
        Ok(Fetched { status, url, certificate, .. }) => {
            known.url = Some(url.into());
            known.certificate = certificate.or(known.certificate.take());
            Ok(Some(status.as_u16()))
        }
        Err(error) if error.code == ToolErrorCode::AddressRefused => return Err(error),
        Err(error) => Err(error.message),
    };
    Ok(Try { time: started.elapsed(), answer })
}

fn result(
    target: &Target,
    addresses: &[IpAddr],
    resolved: Duration,
    unknown: Option<String>,
    tries: &[Try],
    known: &Known,
) -> Value {
    let times: Vec<f64> = tries.iter().filter(|one| one.answer.is_ok()).map(|one| ms(one.time)).collect();
    let mut result = json!({
        "host": target.url.host_str().unwrap_or_default(),
        "port": target.port,
        "mode": if target.is_http { "http" } else { "tcp" },
        "reachable": !times.is_empty(),
        "addresses": addresses,
        "resolve_ms": ms(resolved),
        "sent": tries.len(),
        "received": times.len(),
        "loss_ratio": if tries.is_empty() { 1.0 } else { 1.0 - times.len() as f64 / tries.len() as f64 },
        "tries": tries.iter().map(one).collect::<Vec<_>>(),
    });
    if !times.is_empty() {
        result["min_ms"] = times.iter().copied().fold(f64::INFINITY, f64::min).into();
        result["avg_ms"] = round(times.iter().sum::<f64>() / times.len() as f64).into();
        result["max_ms"] = times.iter().copied().fold(0.0, f64::max).into();
    }
    let status = tries.iter().rev().find_map(|one| one.answer.as_ref().ok().copied().flatten());
    let error = unknown.or_else(|| tries.iter().rev().find_map(|one| one.answer.clone().err()));
    let known_address = known.address.map(|address| json!(address));
    let fields = [
        ("address", known_address),
        ("status", status.map(Into::into)),
        ("url", known.url.clone().map(Into::into)),
        ("error", error.map(Into::into)),
        ("certificate", known.certificate.as_deref().and_then(validity)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            result[name] = value;
        }
    }
    result
}

fn one(one: &Try) -> Value {
    match &one.answer {
        Ok(Some(status)) => json!({ "ok": true, "time_ms": ms(one.time), "status": status }),
        Ok(None) => json!({ "ok": true, "time_ms": ms(one.time) }),
        Err(error) => json!({ "ok": false, "time_ms": ms(one.time), "error": error }),
    }
}

fn validity(der: &[u8]) -> Option<Value> {
    let end = certificate::not_after(der)?;
    let days = (end - Utc::now()).num_days();
    Some(json!({ "expire_time": end.to_rfc3339_opts(SecondsFormat::Secs, true), "days_left": days }))
}

fn ms(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1_000.0)
}

/// To microseconds.
fn round(ms: f64) -> f64 {
    (ms * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_a_host_and_port_or_an_address() {
        let read = |arguments: Value| {
            target(&arguments).map(|found| (found.url.to_string(), found.port, found.is_http))
        };
        let cases = [
            (json!({"target": "example.com"}), "https://example.com/", 443, false),
            (json!({"target": "example.com:80"}), "http://example.com/", 80, false),
            (json!({"target": "example.com", "port": 22}), "https://example.com:22/", 22, false),
            (json!({"target": "[2606:4700::1]:8080"}), "https://[2606:4700::1]:8080/", 8080, false),
            (json!({"target": "[2606:4700::1]"}), "https://[2606:4700::1]/", 443, false),
            (
                json!({"target": "https://example.com/health?x=1"}),
                "https://example.com/health?x=1",
                443,
                true,
            ),
            (json!({"target": "http://example.com:443"}), "http://example.com:443/", 443, true),
            (json!({"target": "http://example.com", "mode": "tcp"}), "http://example.com/", 80, false),
            (json!({"target": "example.com:8443", "mode": "http"}), "https://example.com:8443/", 8443, true),
            (json!({"target": "2130706433:81"}), "https://127.0.0.1:81/", 81, false),
        ];
        for (arguments, url, port, is_http) in cases {
            assert_eq!(read(arguments.clone()).unwrap(), (url.to_owned(), port, is_http), "{arguments}");
        }
        let bad = [
            "",
            "a/b",
            "u:p@example.com",
            "ftp://example.com",
            "::1",
            "example.com:0",
            "exa mple",
            "a:99999",
        ];
        for bad in bad {
            assert!(read(json!({"target": bad})).is_err(), "{bad}");
        }
        assert!(read(json!({"target": "example.com:80", "port": 81})).is_err());
    }
}
