//! What one request carries, by place. Must never put a secret where a header, a query or a cookie would end early.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use proto::registry::v1::{CredentialUse, credential_use::Place};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Credential, Material, scrub::Scrub};
use crate::outcome::{Reached, ToolError, ToolErrorCode};

/// What a request carries to show who it is for. No `Debug`: it is secret.
#[derive(Default)]
pub(crate) struct Carried {
    headers: HeaderMap,
    query: Vec<(String, SecretString)>,
    cookies: Vec<(String, SecretString)>,
    env: Vec<(String, SecretString)>,
    identity: Option<Arc<Credential>>,
    used: Vec<Arc<Credential>>,
}

impl Carried {
    /// Adds a credential at its place.
    pub(super) fn add(&mut self, used: &CredentialUse, credential: Arc<Credential>) -> Result<(), ToolError> {
        let Some(value) = value(used, &credential) else {
            if used.place.is_some() {
                return Err(wrong(
                    &credential,
                    "is a certificate, which shows itself when a connection is made only",
                ));
            }
            self.identity = Some(Arc::clone(&credential));
            self.used.push(credential);
            return Ok(());
        };
        match &used.place {
            None => self.header(AUTHORIZATION, &value, &credential)?,
            Some(Place::Header(name)) => {
                let name = HeaderName::try_from(name.as_str())
                    .map_err(|_| wrong(&credential, "is to go into a header whose name is none"))?;
                self.header(name, &value, &credential)?;
            }
            Some(Place::Query(name)) => self.query.push((name.clone(), value)),
            Some(Place::Cookie(name)) => {
                // RFC 6265, section 4.1.1 (cookie-octet).
                let fits = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
                if !value.expose_secret().bytes().all(fits) {
                    return Err(wrong(&credential, "holds a character that no cookie may hold"));
                }
                self.cookies.push((name.clone(), value));
            }
            Some(Place::Env(name)) => self.env.push((name.clone(), value)),
        }
        self.used.push(credential);
        Ok(())
    }

    fn header(&mut self, name: HeaderName, value: &SecretString, of: &Credential) -> Result<(), ToolError> {
        let mut header = HeaderValue::from_str(value.expose_secret())
            .map_err(|_| wrong(of, "holds a character that no header may hold"))?;
        header.set_sensitive(true);
        self.headers.insert(name, header);
        Ok(())
    }

    /// Whether there is nothing to carry.
    pub(crate) fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// How many credentials there are.
    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }

    /// The version of a credential that is carried; 0 where it is not.
    pub(super) fn version(&self, name: &str) -> i32 {
        self.used.iter().find(|used| used.name == name).map_or(0, |used| used.version)
    }

    /// Whether nothing differs from what another carries.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |a: &[(String, SecretString)], b: &[(String, SecretString)]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.1.expose_secret() == b.1.expose_secret())
        };
        self.headers == other.headers
            && same(&self.query, &other.query)
            && same(&self.cookies, &other.cookies)
            && same(&self.env, &other.env)
            && self.versions() == other.versions()
    }

    /// Names and versions, for those who keep connections: another version has one of its own.
    pub(crate) fn versions(&self) -> String {
        let each: Vec<String> =
            self.used.iter().map(|used| format!("{}@{}", used.name, used.version)).collect();
        each.join(",")
    }

    /// Variables of a child process.
    pub(crate) fn env(&self) -> &[(String, SecretString)] {
        &self.env
    }

    /// The credential whose certificate is shown when a connection is made.
    pub(crate) fn identity(&self) -> Option<&Arc<Credential>> {
        self.identity.as_ref()
    }

    /// Adds everything that an HTTP request takes. Nothing goes over an unencrypted connection but to this machine and
    /// to names and addresses that only a private network has, where the tool may reach them.
    pub(crate) fn apply(
        &self,
        url: &mut Url,
        headers: &mut HeaderMap,
        allow_private_network: bool,
    ) -> Result<(), ToolError> {
        let Some(first) = self.used.first() else { return Ok(()) };
        if url.scheme() != "https" && !(allow_private_network && self.identity.is_none() && is_inside(url)) {
            return Err(wrong(first, "is not sent over http, where others could read it; use https"));
        }
        if let Some(used) = self.env.first() {
            return Err(wrong(first, &format!("is for a variable ({}), and no process is started", used.0)));
        }
        headers.extend(self.headers.clone());
        if !self.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &self.query {
                pairs.append_pair(name, value.expose_secret());
            }
        }
        if !self.cookies.is_empty() {
            let own = headers.get(COOKIE).and_then(|cookie| cookie.to_str().ok()).map(str::to_owned);
            let each = self.cookies.iter().map(|(name, value)| format!("{name}={}", value.expose_secret()));
            let line = own.into_iter().chain(each).collect::<Vec<_>>().join("; ");
            let mut line = HeaderValue::from_str(&line).map_err(|_| wrong(first, "does not fit a cookie"))?;
            line.set_sensitive(true);
            headers.insert(COOKIE, line);
        }
        Ok(())
    }

    /// Takes out of texts whatever this carries.
    pub(crate) fn scrub(&self) -> Scrub {
        Scrub::of(&self.used)
    }
}

/// Whether an address is not of the internet: loopback and private ones, `localhost`, names of one word, and those
/// that are kept for use within a network (RFC 6762, section 3; RFC 8375; ICANN's `.internal`; Kubernetes' `.svc`).
fn is_inside(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return !::reach::is_public(address);
    }
    let host = host.trim_end_matches('.');
    let ends = [".localhost", ".local", ".internal", ".home.arpa", ".svc"];
    !host.contains('.') || ends.iter().any(|end| host.ends_with(end)) || host.contains(".svc.")
}

/// What stands at the place; `None`: nothing, it is a certificate.
fn value(used: &CredentialUse, credential: &Credential) -> Option<SecretString> {
    let bare = used.place.is_none();
    Some(match &credential.material {
        Material::Key(secret) | Material::Bearer(secret) if bare => {
            format!("Bearer {}", secret.expose_secret()).into()
        }
        Material::Key(secret) | Material::Bearer(secret) => {
            format!("{}{}", used.prefix, secret.expose_secret()).into()
        }
        // RFC 7617, section 2.
        Material::Basic(user, password) => {
            let pair = format!("{}:{}", user.expose_secret(), password.expose_secret());
            let prefix = if bare { "Basic " } else { used.prefix.as_str() };
            format!("{prefix}{}", BASE64.encode(pair)).into()
        }
        Material::MutualTls { .. } => return None,
    })
}

fn wrong(credential: &Credential, what: &str) -> ToolError {
    let message = format!("credential {} {what}", credential.name);
    ToolError::new(ToolErrorCode::NotConfigured, message).having(Reached::No)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn credential(material: Material) -> Arc<Credential> {
        Arc::new(Credential::new("key".into(), 3, material, Duration::ZERO))
    }

    fn key(text: &str) -> Arc<Credential> {
        credential(Material::Key(text.into()))
    }

    fn at(place: Option<Place>, prefix: &str) -> CredentialUse {
        CredentialUse { credential: "key".into(), place, prefix: prefix.into() }
    }

    fn applied(used: &CredentialUse, credential: Arc<Credential>) -> Result<(String, HeaderMap), ToolError> {
        let mut carried = Carried::default();
        carried.add(used, credential)?;
        let (mut url, mut headers) = (Url::parse("https://example.com/a?b=c").unwrap(), HeaderMap::new());
        headers.insert(COOKIE, HeaderValue::from_static("x=y"));
        carried.apply(&mut url, &mut headers, false)?;
        Ok((url.to_string(), headers))
    }

    #[test]
    fn each_kind_stands_where_it_is_to_stand() {
        let (_, headers) = applied(&at(None, ""), key("abcdefgh")).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Bearer abcdefgh");
        let basic = credential(Material::Basic("Aladdin".into(), "open sesame".into()));
        let (_, headers) = applied(&at(None, ""), basic).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let (_, headers) =
            applied(&at(Some(Place::Header("x-key".into())), "token "), key("abcdefgh")).unwrap();
        assert_eq!(
            (headers["x-key"].as_bytes(), headers["x-key"].is_sensitive()),
            (&b"token abcdefgh"[..], true)
        );
        let (url, _) = applied(&at(Some(Place::Query("k".into())), ""), key("ab&c=d+e")).unwrap();
        assert_eq!(url, "https://example.com/a?b=c&k=ab%26c%3Dd%2Be");
        let (_, headers) = applied(&at(Some(Place::Cookie("k".into())), ""), key("abcdefgh")).unwrap();
        assert_eq!(headers[COOKIE], "x=y; k=abcdefgh");
    }

    #[test]
    fn what_would_end_its_place_early_is_refused_and_not_shown() {
        for (place, text) in [
            (None, "abc\r\nx: y"),
            (Some(Place::Header("x".into())), "abc\ndefgh"),
            (Some(Place::Header("not a name".into())), "abcdefgh"),
            (Some(Place::Cookie("k".into())), "abc; d=efgh"),
            (Some(Place::Env("K".into())), "abcdefgh"),
        ] {
            let error =
                applied(&at(place.clone(), ""), key(text)).err().unwrap_or_else(|| panic!("{place:?}"));
            assert!(error.message.contains("credential key") && !error.message.contains("efgh"), "{error:?}");
            assert_eq!(error.reached, Reached::No);
        }
    }

    #[test]
    fn nothing_goes_over_an_open_connection_to_the_internet() {
        let mut carried = Carried::default();
        carried.add(&at(None, ""), key("abcdefgh")).unwrap();
        let (mut url, mut headers) = (Url::parse("http://example.com/").unwrap(), HeaderMap::new());
        assert!(carried.apply(&mut url, &mut headers, false).is_err());
        assert!(headers.is_empty());
        assert!(carried.apply(&mut url, &mut headers, true).is_err());
        for (address, is_sent) in [
            ("http://127.0.0.1:1/", true),
            ("http://[::1]:1/", true),
            ("http://10.1.2.3/", true),
            ("http://tools.default.svc.cluster.local/", true),
            ("http://tools/", true),
            ("http://93.184.216.34/", false),
            ("http://[2606:4700::1]/", false),
            ("http://local.example.com/", false),
        ] {
            let (mut url, mut headers) = (Url::parse(address).unwrap(), HeaderMap::new());
            assert_eq!(carried.apply(&mut url, &mut headers, true).is_ok(), is_sent, "{address}");
            assert_eq!(headers.len(), usize::from(is_sent));
        }
    }
}
