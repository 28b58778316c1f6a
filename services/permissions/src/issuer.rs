//! The settings of one issuer of tokens, under `[[permissions.issuers]]`: whose tokens are taken, for which team, and
//! what their claims mean. Must never let an algorithm in that is signed with a shared secret, or with nothing.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use url::{Host, Url};

use crate::names;

/// Algorithms that may be allowed (RFC 7518, section 3.1, and RFC 8037): those of key pairs. Whoever can check a token
/// signed with a shared secret can also make one.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];
/// Most seconds by which clocks may differ.
const MAX_LEEWAY_S: u64 = 300;
/// A day, in seconds.
const DAY_S: u64 = 86_400;

/// An issuer whose tokens (RFC 7519) are taken in place of API keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Its name here, by which logs and the trail call it.
    pub name: String,
    /// What its tokens say in `iss`, to the letter.
    pub issuer: String,
    /// A token must be for one of these (`aud`).
    pub audiences: Vec<String>,
    /// Where its keys are: a JSON Web Key Set (RFC 7517). https; http for this machine alone.
    pub jwks_url: String,
    /// Algorithms that its tokens may be signed with, such as RS256.
    pub algorithms: Vec<String>,
    /// The team of all its tokens; else `team_claim`.
    pub team: Option<String>,
    /// The claim that names the team. A claim here is a name, or a JSON pointer that begins with "/".
    pub team_claim: Option<String>,
    /// The claim that names the agent; it must be one of the team.
    #[serde(default = "subject")]
    pub agent_claim: String,
    /// The claim that names the end user whom the agent acts for.
    pub user_claim: Option<String>,
    /// The claim that lists scopes: a list, or a text with spaces. A token without it may do all that the agent may.
    pub scopes_claim: Option<String>,
    /// Seconds by which its clock may differ from ours.
    #[serde(default = "leeway_s")]
    pub leeway_s: u64,
    /// How old a token may be, in seconds since its `iat`; then it must have one.
    pub max_age_s: Option<u64>,
    /// How often its keys are read again, in seconds.
    #[serde(default = "jwks_refresh_s")]
    pub jwks_refresh_s: u64,
    /// How long keys are used that cannot be read again, in seconds; then no token is taken.
    #[serde(default = "jwks_stale_s")]
    pub jwks_stale_s: u64,
}

fn subject() -> String {
    "sub".to_owned()
}

fn leeway_s() -> u64 {
    30
}

fn jwks_refresh_s() -> u64 {
    300
}

fn jwks_stale_s() -> u64 {
    3_600
}

/// Every fault of these settings.
pub(crate) fn validate(issuers: &[Issuer]) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, issuer) in issuers.iter().enumerate() {
        let at = format!("permissions.issuers[{index}]");
        faults.extend(issuer.faults().into_iter().map(|(field, fault)| format!("{at}.{field} {fault}")));
        let before = &issuers[..index];
        if before.iter().any(|other| other.name == issuer.name) {
            faults.push(format!("{at}.name {:?} is that of another issuer", issuer.name));
        }
        if before.iter().any(|other| other.issuer == issuer.issuer) {
            faults.push(format!(
                "{at}.issuer {:?} is that of another one: a token says no more",
                issuer.issuer
            ));
        }
    }
    faults
}

impl Issuer {
    /// Algorithms that its tokens may be signed with; those that may not be allowed are left out.
    pub(crate) fn algorithms(&self) -> Vec<(&'static str, Algorithm)> {
        ALGORITHMS.into_iter().filter(|(name, _)| self.algorithms.iter().any(|word| word == name)).collect()
    }

    /// Where its keys are, if that may be asked.
    pub(crate) fn keys_address(&self) -> Result<Url, String> {
        let url = Url::parse(&self.jwks_url).map_err(|_| "is not an address".to_owned())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("may not hold a user or a password".to_owned());
        }
        let is_here = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if url.scheme() == "https" || (url.scheme() == "http" && is_here) {
            return Ok(url);
        }
        Err("must begin with https:// (http:// only for this machine): its keys say who everybody is"
            .to_owned())
    }

    pub(crate) fn jwks_refresh(&self) -> Duration {
        Duration::from_secs(self.jwks_refresh_s)
    }

    pub(crate) fn jwks_stale(&self) -> Duration {
        Duration::from_secs(self.jwks_stale_s)
    }

    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if names::name("name", &self.name).is_err() {
            faults.push(("name", "must be 1 to 63 characters of a-z, 0-9, '_', '-' and '.'".to_owned()));
        }
        if self.issuer.is_empty() {
            faults.push(("issuer", "must be what its tokens say in iss".to_owned()));
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            faults.push(("audiences", "must be at least one, and none empty".to_owned()));
        }
        faults.extend(self.keys_address().err().map(|fault| ("jwks_url", fault)));
        faults.extend(self.faults_of_algorithms());
        faults.extend(self.faults_of_claims());
        faults.extend(self.faults_of_times());
        faults
    }

    fn faults_of_algorithms(&self) -> Vec<(&'static str, String)> {
        let known = ALGORITHMS.map(|(name, _)| name);
        let unknown = self.algorithms.iter().filter(|word| !known.contains(&word.as_str()));
        let mut faults: Vec<_> = unknown
            .map(|word| ("algorithms", format!("may not hold {word:?}; what may be is {}", known.join(", "))))
            .collect();
        if self.algorithms.is_empty() {
            faults.push(("algorithms", format!("must be at least one of {}", known.join(", "))));
        }
        faults
    }

    fn faults_of_claims(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        match (&self.team, &self.team_claim) {
            (Some(_), Some(_)) => faults.push(("team", "and team_claim may not both be set".to_owned())),
            (None, None) => faults.push(("team", "or team_claim must be set".to_owned())),
            (Some(team), None) if names::name("team", team).is_err() => {
                faults.push(("team", "must be 1 to 63 characters of a-z, 0-9, '_', '-' and '.'".to_owned()));
            }
            _ => {}
        }
        let claims = [
            ("team_claim", self.team_claim.as_ref()),
            ("agent_claim", Some(&self.agent_claim)),
            ("user_claim", self.user_claim.as_ref()),
            ("scopes_claim", self.scopes_claim.as_ref()),
        ];
        let empty = claims.into_iter().filter(|(_, claim)| claim.is_some_and(String::is_empty));
        faults.extend(empty.map(|(field, _)| (field, "must be a claim's name".to_owned())));
        faults
    }

    fn faults_of_times(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.leeway_s > MAX_LEEWAY_S {
            faults.push(("leeway_s", format!("must be 0 to {MAX_LEEWAY_S}")));
        }
        if self.max_age_s.is_some_and(|age| !(1..=365 * DAY_S).contains(&age)) {
            faults.push(("max_age_s", format!("must be 1 to {}", 365 * DAY_S)));
        }
        if !(10..=DAY_S).contains(&self.jwks_refresh_s) {
            faults.push(("jwks_refresh_s", format!("must be 10 to {DAY_S}")));
        }
        if !(self.jwks_refresh_s..=DAY_S).contains(&self.jwks_stale_s) {
            faults.push(("jwks_stale_s", format!("must be jwks_refresh_s to {DAY_S}")));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> serde_json::Value {
        serde_json::json!({
            "name": "okta", "issuer": "https://id.example.com/", "audiences": ["toolcrib"],
            "jwks_url": "https://id.example.com/keys", "algorithms": ["RS256", "ES256"], "team": "dev",
        })
    }

    fn with(changes: &serde_json::Value) -> Issuer {
        let mut value = sound();
        for (key, to) in changes.as_object().unwrap() {
            value[key] = to.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_said_is_careful() {
        let issuer = with(&serde_json::json!({}));
        assert_eq!(validate(std::slice::from_ref(&issuer)), Vec::<String>::new());
        assert_eq!((issuer.agent_claim.as_str(), issuer.leeway_s), ("sub", 30));
        assert_eq!((issuer.jwks_refresh_s, issuer.jwks_stale_s), (300, 3_600));
        assert_eq!(issuer.algorithms().len(), 2);
    }

    #[test]
    fn each_fault_is_told_with_its_field() {
        let cases = [
            (serde_json::json!({"name": "Okta 1"}), "[0].name"),
            (serde_json::json!({"issuer": ""}), "[0].issuer"),
            (serde_json::json!({"audiences": []}), "[0].audiences"),
            (serde_json::json!({"audiences": [""]}), "[0].audiences"),
            (serde_json::json!({"jwks_url": "http://id.example.com/keys"}), "[0].jwks_url"),
            (serde_json::json!({"jwks_url": "http://127.0.0.1.example.com/keys"}), "[0].jwks_url"),
            (serde_json::json!({"jwks_url": "https://a:b@id.example.com/keys"}), "[0].jwks_url"),
            (serde_json::json!({"jwks_url": "file:///etc/keys"}), "[0].jwks_url"),
            (serde_json::json!({"jwks_url": "keys"}), "[0].jwks_url"),
            (serde_json::json!({"algorithms": []}), "[0].algorithms"),
            (serde_json::json!({"algorithms": ["RS256", "HS256"]}), "[0].algorithms may not hold \"HS256\""),
            (serde_json::json!({"algorithms": ["none"]}), "[0].algorithms may not hold \"none\""),
            (serde_json::json!({"algorithms": ["rs256"]}), "[0].algorithms"),
            (serde_json::json!({"team": null}), "[0].team"),
            (serde_json::json!({"team_claim": "team"}), "[0].team"),
            (serde_json::json!({"team": "Dev"}), "[0].team"),
            (serde_json::json!({"agent_claim": ""}), "[0].agent_claim"),
            (serde_json::json!({"leeway_s": 301}), "[0].leeway_s"),
            (serde_json::json!({"max_age_s": 0}), "[0].max_age_s"),
            (serde_json::json!({"jwks_refresh_s": 9}), "[0].jwks_refresh_s"),
            (serde_json::json!({"jwks_stale_s": 299}), "[0].jwks_stale_s"),
        ];
        for (changes, told) in cases {
            let faults = validate(&[with(&changes)]);
            assert!(faults.len() == 1 && faults[0].contains(told), "{changes}: {faults:?}");
        }
        let twice = validate(&[with(&serde_json::json!({})), with(&serde_json::json!({}))]);
        assert_eq!(twice.len(), 2, "{twice:?}");
        assert!(serde_json::from_value::<Issuer>(serde_json::json!({"nmae": "x"})).is_err());
        for here in ["http://127.0.0.1:9/keys", "http://[::1]/keys", "http://localhost/keys"] {
            assert_eq!(
                validate(&[with(&serde_json::json!({"jwks_url": here}))]),
                Vec::<String>::new(),
                "{here}"
            );
        }
    }
}
