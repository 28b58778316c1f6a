//! What the claims of a token mean, whose signature was checked. Pure: time is given.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use types::Scope;

use super::{Claimed, NotTaken};
use crate::{Issuer, names, scopes};

/// Most characters of the name of an end user.
const MAX_USER: usize = 256;
/// Most characters of a token's id that are told.
const MAX_ID: usize = 100;
/// Characters of the digest that stands for the id of a token without a fit one: 128 bits.
const DIGEST: usize = 32;

type Claims = Map<String, Value>;

/// Whom a token of an issuer is for, if it is valid at this time.
pub(super) fn read(issuer: &Issuer, claims: &Claims, now: DateTime<Utc>) -> Result<Claimed, NotTaken> {
    let id = format!("{}:{}", issuer.name, id(claims));
    let team = team(issuer, claims);
    let not_taken = |cause| NotTaken { cause, token: id.clone(), team: team.clone().unwrap_or_default() };
    check_audience(issuer, claims).map_err(not_taken)?;
    let expire_time = check_times(issuer, claims, now).map_err(not_taken)?;
    let agent = text(claims, &issuer.agent_claim).filter(|agent| names::name("agent", agent).is_ok());
    Ok(Claimed {
        agent: agent.ok_or_else(|| not_taken("it names no agent"))?.to_owned(),
        user: user(issuer, claims).map_err(not_taken)?,
        scopes: scopes(issuer, claims).map_err(not_taken)?,
        team: team.clone().ok_or_else(|| not_taken("it names no team"))?,
        id: id.clone(),
        expire_time,
    })
}

/// A claim by its name, or by a JSON pointer (RFC 6901).
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else { return claims.get(name) };
    let (first, rest) = path.split_once('/').map_or((path, ""), |(first, rest)| (first, rest));
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
}

fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claim(claims, name)?.as_str()
}

/// The token's own id (RFC 7519, section 4.1.7); of one that has none, or an odd one, what tells it from others.
fn id(claims: &Claims) -> String {
    let own = claims.get("jti").and_then(Value::as_str);
    let own =
        own.filter(|id| (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let digest = || types::digest_bytes(&serde_json::to_vec(claims).unwrap_or_default());
    own.map_or_else(|| digest()[..DIGEST].to_owned(), str::to_owned)
}

fn team(issuer: &Issuer, claims: &Claims) -> Option<String> {
    let claimed = || text(claims, issuer.team_claim.as_deref()?);
    let team = issuer.team.as_deref().or_else(claimed)?;
    names::name("team", team).is_ok().then(|| team.to_owned())
}

/// RFC 7519, section 4.1.3: one, or several.
fn check_audience(issuer: &Issuer, claims: &Claims) -> Result<(), &'static str> {
    let is_ours = |audience: &Value| issuer.audiences.iter().any(|ours| audience == ours);
    let is_for_us = match claims.get("aud") {
        Some(Value::Array(audiences)) => audiences.iter().any(is_ours),
        Some(audience) => is_ours(audience),
        None => false,
    };
    if is_for_us { Ok(()) } else { Err("it is for another audience") }
}

/// RFC 7519, sections 4.1.4 to 4.1.6. Gives when the token ends.
fn check_times(issuer: &Issuer, claims: &Claims, now: DateTime<Utc>) -> Result<DateTime<Utc>, &'static str> {
    let (seconds, leeway) = (now.timestamp_millis() as f64 / 1e3, issuer.leeway_s as f64);
    let expires = seconds_of(claims, "exp")?.ok_or("it has no end")?;
    if seconds >= expires + leeway {
        return Err("it has ended");
    }
    let starts = [seconds_of(claims, "nbf")?, seconds_of(claims, "iat")?];
    if starts.into_iter().flatten().any(|start| seconds + leeway < start) {
        return Err("it is not valid yet");
    }
    if let Some(most) = issuer.max_age_s {
        let [_, issued] = starts;
        let age = seconds - issued.ok_or("it does not say when it was issued")?;
        if age > most as f64 + leeway {
            return Err("it is too old");
        }
    }
    #[allow(clippy::cast_possible_truncation, reason = "a conversion from f64 saturates")]
    let expires = DateTime::from_timestamp(expires.floor() as i64, 0);
    expires.ok_or("its times are malformed")
}

/// A time in seconds since the epoch (NumericDate).
fn seconds_of(claims: &Claims, name: &str) -> Result<Option<f64>, &'static str> {
    match claims.get(name) {
        None => Ok(None),
        Some(time) => {
            time.as_f64().filter(|time| time.is_finite()).map(Some).ok_or("its times are malformed")
        }
    }
}

fn user(issuer: &Issuer, claims: &Claims) -> Result<String, &'static str> {
    let Some(value) = issuer.user_claim.as_deref().and_then(|name| claim(claims, name)) else {
        return Ok(String::new());
    };
    let user = value.as_str().filter(|user| {
        (1..=MAX_USER).contains(&user.len()) && user.bytes().all(|byte| byte.is_ascii_graphic())
    });
    user.map(str::to_owned).ok_or("it names its user in a way that is not taken")
}

/// The scopes that are known; an issuer that names some and none of ours lets nothing be done.
fn scopes(issuer: &Issuer, claims: &Claims) -> Result<Vec<Scope>, &'static str> {
    let Some(value) = issuer.scopes_claim.as_deref().and_then(|name| claim(claims, name)) else {
        return Ok(Vec::new());
    };
    let known = match value {
        Value::String(words) => scopes::known(words.split(' ')),
        Value::Array(words) => scopes::known(words.iter().filter_map(Value::as_str)),
        _ => Vec::new(),
    };
    if known.is_empty() { Err("it has no scope that is known") } else { Ok(known) }
}

#[cfg(test)]
mod tests;
