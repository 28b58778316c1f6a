//! Gives the way to an MCP server the credentials that it is reached with. What comes of it holds secrets: it must
//! never be kept, logged or shown, and neither may what a server says without `Equipped::scrub`.

use std::{collections::BTreeMap, sync::OnceLock};

use ::scrub::Forms;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Error, check,
    credentials::{Credentials, Material, Text},
    definition::{CredentialPlace, CredentialUse},
};

/// Most credentials of one server.
const MAX_CREDENTIALS: usize = 8;
/// Stands in the place of a secret.
const MARK: &str = "***";

/// A transport with everything that it needs.
pub(crate) struct Equipped {
    pub transport: mcp::Transport,
    /// The versions of its credentials: with others, it has to be reached anew.
    pub versions: Vec<i32>,
    secrets: Vec<Text>,
    /// Every form of them; made when first wanted.
    forms: OnceLock<Forms>,
}

impl Equipped {
    fn new(transport: mcp::Transport) -> Self {
        Self { transport, versions: Vec::new(), secrets: Vec::new(), forms: OnceLock::new() }
    }

    /// A text of the server's without the secrets that it was given, nor the beginning of one with which it ends: its
    /// words may have been cut.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.forms().replace_cut(text, MARK)
    }

    /// Whether a text holds one of them.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.forms().is_in(text)
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(|| Forms::of(self.secrets.iter().map(Text::expose)))
    }

    /// Whether there are any.
    pub(crate) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }
}

/// Everything that is wrong with the credentials of a server, by the field below `transport`.
pub(crate) fn check(transport: &mcp::Transport, uses: &[CredentialUse]) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    if uses.len() > MAX_CREDENTIALS {
        wrong.push(("credentials".to_owned(), format!("are more than {MAX_CREDENTIALS}")));
    }
    for (index, used) in uses.iter().enumerate().take(MAX_CREDENTIALS) {
        let mut add = |field: &str, text: &str| {
            let field = if field.is_empty() { String::new() } else { format!(".{field}") };
            wrong.push((format!("credentials[{index}]{field}"), text.to_owned()));
        };
        if !check::is_word(&used.credential) {
            add("credential", "must be 1 to 64 characters of a-z, 0-9, _ and -");
        }
        if used.place.is_none() && !used.prefix.is_empty() {
            add("prefix", "goes with a place only");
        }
        match (transport, &used.place) {
            (mcp::Transport::Stdio { env, .. }, Some(CredentialPlace::Env(name))) => {
                if name.is_empty() || name.contains(['=', '\0']) || env.contains_key(name) {
                    add("env", "must be a variable that stdio.env does not set");
                }
            }
            (mcp::Transport::Stdio { .. }, _) => {
                add("", "must name a variable (env): a program has no headers");
            }
            (mcp::Transport::Http { .. }, Some(CredentialPlace::Env(_))) => {
                add("env", "is for a program only; give header, query or cookie");
            }
            (mcp::Transport::Http { headers, .. }, Some(CredentialPlace::Header(name))) => {
                if http_name(name).is_none() || headers.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                    add("header", "must be the name of a header that http.headers does not set");
                }
            }
            (
                mcp::Transport::Http { .. },
                Some(CredentialPlace::Query(name) | CredentialPlace::Cookie(name)),
            ) => {
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && !b";=&#,\"".contains(&b))
                {
                    add("", "has a name that cannot be written in a query or cookie");
                }
            }
            (mcp::Transport::Http { .. }, None) => {}
        }
    }
    wrong
}

fn http_name(name: &str) -> Option<reqwest::header::HeaderName> {
    name.parse().ok()
}

/// The transport as the operator's list of programs has to see it: with the names of the variables that
/// credentials will set, and no secret.
pub(crate) fn outline(transport: &mcp::Transport, uses: &[CredentialUse]) -> mcp::Transport {
    let mut transport = transport.clone();
    if let mcp::Transport::Stdio { env, .. } = &mut transport {
        for used in uses {
            if let Some(CredentialPlace::Env(name)) = &used.place {
                env.insert(name.clone(), String::new());
            }
        }
    }
    transport
}

/// The transport with the credentials of now.
pub(crate) async fn equip(
    credentials: &Credentials,
    team: &str,
    transport: &mcp::Transport,
    uses: &[CredentialUse],
) -> Result<Equipped, Error> {
    let mut equipped = Equipped::new(transport.clone());
    for used in uses {
        let resolved = credentials.resolve(team, &used.credential, 0).await?;
        equipped.versions.push(resolved.version);
        equipped.carry(used, &resolved.material)?;
    }
    Ok(equipped)
}

impl Equipped {
    fn carry(&mut self, used: &CredentialUse, material: &Material) -> Result<(), Error> {
        let (scheme, value) = match material {
            Material::ApiKey(key) | Material::Bearer(key) => ("Bearer ", key.clone()),
            Material::Basic(basic) => {
                let (user, password) = (basic.user.expose(), basic.password.expose());
                self.secrets.extend(::scrub::basic(user, password).into_iter().map(Text::from));
                ("Basic ", Text::from(STANDARD.encode(format!("{user}:{password}"))))
            }
            Material::MutualTls(_) => {
                return Err(Error::CredentialUnavailable {
                    name: used.credential.clone(),
                    why: "is a client certificate, with which an MCP server cannot be reached yet".to_owned(),
                    retry_after: None,
                });
            }
        };
        self.secrets.push(value.clone());
        let placed = format!("{}{}", used.prefix, value.expose());
        match (&mut self.transport, &used.place) {
            (mcp::Transport::Stdio { env, .. }, Some(CredentialPlace::Env(name))) => {
                env.insert(name.clone(), placed);
            }
            (mcp::Transport::Http { headers, .. }, None) => {
                headers.insert("authorization".to_owned(), format!("{scheme}{}", value.expose()));
            }
            (mcp::Transport::Http { headers, .. }, Some(CredentialPlace::Header(name))) => {
                headers.insert(name.clone(), placed);
            }
            (mcp::Transport::Http { headers, .. }, Some(CredentialPlace::Cookie(name))) => {
                add_cookie(headers, &format!("{name}={placed}"));
            }
            (mcp::Transport::Http { url, .. }, Some(CredentialPlace::Query(name))) => {
                if let Ok(mut address) = url::Url::parse(url) {
                    address.query_pairs_mut().append_pair(name, &placed);
                    *url = address.into();
                }
            }
            // Refused when the server was registered.
            (mcp::Transport::Stdio { .. }, _)
            | (mcp::Transport::Http { .. }, Some(CredentialPlace::Env(_))) => {}
        }
        Ok(())
    }
}

fn add_cookie(headers: &mut BTreeMap<String, String>, pair: &str) {
    let cookies = headers.entry("cookie".to_owned()).or_default();
    if !cookies.is_empty() {
        cookies.push_str("; ");
    }
    cookies.push_str(pair);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Basic;

    fn http() -> mcp::Transport {
        mcp::Transport::Http { url: "http://h/mcp?a=1".into(), headers: BTreeMap::new() }
    }

    fn stdio() -> mcp::Transport {
        let env = BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]);
        mcp::Transport::Stdio { command: "x".into(), args: vec![], env }
    }

    fn used(place: Option<CredentialPlace>, prefix: &str) -> CredentialUse {
        CredentialUse { credential: "key".into(), place, prefix: prefix.into() }
    }

    fn carried(transport: mcp::Transport, uses: &[CredentialUse], material: &Material) -> Equipped {
        let mut equipped = Equipped::new(transport);
        for used in uses {
            equipped.carry(used, material).unwrap();
        }
        equipped
    }

    #[test]
    fn a_credential_goes_where_it_is_said_to() {
        let key = Material::ApiKey("hunter2!".into());
        let uses = [
            used(None, ""),
            used(Some(CredentialPlace::Header("x-key".into())), "token "),
            used(Some(CredentialPlace::Cookie("a".into())), ""),
            used(Some(CredentialPlace::Cookie("b".into())), ""),
            used(Some(CredentialPlace::Query("k y".into())), ""),
        ];
        let equipped = carried(http(), &uses, &key);
        let mcp::Transport::Http { url, headers } = &equipped.transport else { panic!("not http") };
        assert_eq!(url, "http://h/mcp?a=1&k+y=hunter2%21");
        let expected = [
            ("authorization", "Bearer hunter2!"),
            ("cookie", "a=hunter2!; b=hunter2!"),
            ("x-key", "token hunter2!"),
        ];
        assert!(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
        assert_eq!(equipped.scrub("401: hunter2! is old"), "401: *** is old");
        assert_eq!(equipped.scrub("401: this is old: hunte…"), "401: this is old: ***");

        let basic = Material::Basic(Basic { user: "me".into(), password: "secret".into() });
        let equipped = carried(http(), &[used(None, "")], &basic);
        let mcp::Transport::Http { headers, .. } = &equipped.transport else { panic!("not http") };
        assert_eq!(headers["authorization"], "Basic bWU6c2VjcmV0");
        assert_eq!(equipped.scrub("secret bWU6c2VjcmV0"), "*** ***");
        assert_eq!(equipped.scrub("no 6d653a736563726574 and no me:secret"), "no *** and no ***");
        assert!(equipped.is_in("me%3Asecret") && !equipped.is_in("me and secre"));

        let equipped = carried(stdio(), &[used(Some(CredentialPlace::Env("KEY".into())), "")], &key);
        let mcp::Transport::Stdio { env, .. } = &equipped.transport else { panic!("not stdio") };
        assert_eq!((env["KEY"].as_str(), env["TZ"].as_str()), ("hunter2!", "UTC"));
    }

    #[test]
    fn what_cannot_be_carried_is_refused_with_its_field() {
        let env = |name: &str| Some(CredentialPlace::Env(name.into()));
        let header = |name: &str| Some(CredentialPlace::Header(name.into()));
        assert_eq!(check(&stdio(), &[used(env("KEY"), "x")]), []);
        assert_eq!(check(&http(), &[used(None, ""), used(header("x-key"), "x")]), []);
        for (transport, place, prefix, field) in [
            (stdio(), env("TZ"), "", "credentials[0].env"),
            (stdio(), env("A=B"), "", "credentials[0].env"),
            (stdio(), None, "", "credentials[0]"),
            (stdio(), header("x-key"), "", "credentials[0]"),
            (http(), env("KEY"), "", "credentials[0].env"),
            (http(), header("a b"), "", "credentials[0].header"),
            (http(), None, "x", "credentials[0].prefix"),
            (http(), Some(CredentialPlace::Cookie("a;b".into())), "", "credentials[0]"),
        ] {
            let wrong = check(&transport, &[used(place, prefix)]);
            assert!(wrong.len() == 1 && wrong[0].0 == field, "{field}: {wrong:?}");
        }
    }
}
