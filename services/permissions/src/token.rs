//! Tells whom a token (a JWT, RFC 7519) of a configured issuer is for. What a token says counts only once its signature
//! is known to be that issuer's, by a key and an algorithm that the issuer is allowed. Must never show a token.

mod claims;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use reach::Authorities;
use serde_json::{Map, Value};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::Scope;

use crate::{
    Error, Issuer,
    jwks::{Jwks, Keeping, Miss},
};

/// Longest token, in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// Tokens of unknown keys ask for at most so many readings of an issuer's keys at once, and then for one in each gap:
/// six a minute.
const BURST: u32 = 6;
const GAP: Duration = Duration::from_secs(10);
/// Least time between two of them.
const LEAST: Duration = Duration::from_secs(1);
/// How long a reading may take: less than the edge waits.
const TIMEOUT: Duration = Duration::from_secs(3);
/// What a token may say it is (`typ`): nothing, or one of these (RFC 7519, section 5.1, and RFC 9068, section 2.1).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// The issuers whose tokens are taken. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Issuers(Arc<Vec<Trusted>>);

#[derive(Debug)]
struct Trusted {
    settings: Issuer,
    algorithms: Vec<(&'static str, Algorithm)>,
    keys: Arc<Jwks>,
}

/// Whom a token is for, as its issuer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub team: String,
    pub agent: String,
    /// Empty: none.
    pub user: String,
    /// None: all that the agent's role may.
    pub scopes: Vec<Scope>,
    /// The issuer's name and the token's id.
    pub id: String,
    pub expire_time: DateTime<Utc>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotTaken {
    pub cause: &'static str,
    /// The issuer's name, and the token's id if it is surely the issuer's.
    pub token: String,
    /// The team that it would be for, where that is sure; else empty.
    pub team: String,
}

/// A token in its parts, nothing of which is believed yet.
struct Parts<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: &'a str,
}

impl Issuers {
    /// Starts reading the keys of some issuers, until told to stop.
    pub(crate) fn start(
        issuers: &[Issuer],
        authorities: &Authorities,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let mut trusted = Vec::new();
        for settings in issuers {
            let keeping = Keeping {
                refresh: settings.jwks_refresh(),
                stale: settings.jwks_stale(),
                gap: GAP,
                least: LEAST,
                burst: BURST,
                timeout: TIMEOUT,
            };
            let issuer = Trusted::new(settings, keeping, authorities)?;
            let (keys, stop) = (Arc::clone(&issuer.keys), stop.clone());
            tasks.spawn(async move { keys.keep_read(stop).await });
            trusted.push(issuer);
        }
        Ok(Self(Arc::new(trusted)))
    }

    /// Whom a token is for, if it is valid at this time.
    pub(crate) async fn read(&self, token: &str, now: DateTime<Utc>) -> Result<Claimed, NotTaken> {
        let unknown = |cause| NotTaken { cause, token: "a token".to_owned(), team: String::new() };
        let parts = Parts::of(token).map_err(unknown)?;
        let named = parts.claims.get("iss").and_then(Value::as_str);
        let issuer = self.0.iter().find(|issuer| named == Some(issuer.settings.issuer.as_str()));
        let issuer = issuer.ok_or_else(|| unknown("its issuer is not configured"))?;
        issuer.check_signature(&parts).await.map_err(|cause| issuer.not_taken(cause))?;
        claims::read(&issuer.settings, &parts.claims, now)
    }
}

impl Trusted {
    fn new(settings: &Issuer, keeping: Keeping, authorities: &Authorities) -> Result<Self, Error> {
        let unusable = |fault: String| Error::Issuer { name: settings.name.clone(), fault };
        let address = settings.keys_address().map_err(unusable)?;
        let keys = Jwks::new(&settings.name, address, keeping, authorities);
        let keys = keys.map_err(|error| unusable(error.to_string()))?;
        Ok(Self { settings: settings.clone(), algorithms: settings.algorithms(), keys: Arc::new(keys) })
    }

    /// A token that says it is this issuer's, which is not known to be true.
    fn not_taken(&self, cause: &'static str) -> NotTaken {
        let team = self.settings.team.clone().unwrap_or_default();
        NotTaken { cause, token: self.settings.name.clone(), team }
    }

    async fn check_signature(&self, parts: &Parts<'_>) -> Result<(), &'static str> {
        let text = |name: &str| parts.header.get(name).and_then(Value::as_str);
        let named = text("alg").unwrap_or_default();
        let algorithm = self.algorithms.iter().find(|(name, _)| *name == named);
        let algorithm = *algorithm.ok_or("its algorithm is not allowed")?;
        let type_is_known = match parts.header.get("typ") {
            None => true,
            Some(kind) => {
                kind.as_str().is_some_and(|kind| TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known)))
            }
        };
        if !type_is_known {
            return Err("it is not an access token");
        }
        // What must be understood and is not (RFC 7515, section 4.1.11).
        if parts.header.contains_key("crit") {
            return Err("it asks for an extension that is not known");
        }
        let id = match parts.header.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().ok_or("its key id is not a text")?),
        };
        let key = self.keys.find(id, algorithm).await.map_err(|miss| match miss {
            Miss::Unknown => "its key is not known",
            Miss::Unfit => "its key is not for its algorithm",
            Miss::Ambiguous => "it does not say which key it is signed with",
            Miss::Unavailable => "the keys of its issuer cannot be read",
        })?;
        let signed = parts.signed.as_bytes();
        match jsonwebtoken::crypto::verify(parts.signature, signed, &key.decoding, algorithm.1) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err("its signature is wrong"),
        }
    }
}

impl<'a> Parts<'a> {
    /// A token in the compact form (RFC 7515, section 3.1).
    fn of(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > MAX_BYTES {
            return Err("it is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("it is malformed")?;
        let (header, claims) = signed.split_once('.').ok_or("it is malformed")?;
        Ok(Self { header: object(header)?, claims: object(claims)?, signed, signature })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| "it is malformed")?;
    serde_json::from_slice(&bytes).map_err(|_| "it is malformed")
}
