//! A secret, read from where the command line says that it is. Must never take one from an argument, or tell what it
//! read.

use clap::{Args, ValueEnum};
use proto::registry::v1::{
    BasicSecret, CredentialSecret, MutualTlsSecret, OAuth2ClientSecret, OAuth2RefreshSecret,
    credential_secret::Kind,
};

use crate::cli::{error::Error, files, json};

/// The kinds by the names of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindName {
    /// A key that is sent as it is
    #[value(alias = "api_key")]
    ApiKey,
    /// User and password
    Basic,
    /// OAuth 2.0 client credentials
    #[value(name = "oauth2-client", alias = "oauth2_client")]
    OAuth2Client,
    /// OAuth 2.0 refresh token
    #[value(name = "oauth2-refresh", alias = "oauth2_refresh")]
    OAuth2Refresh,
    /// A client certificate
    #[value(alias = "mutual-tls", alias = "mutual_tls")]
    Mtls,
}

/// What it consists of, and where the secret part of it is.
#[derive(Debug, Args)]
pub(super) struct SecretArgs {
    /// Its kind
    #[arg(long, value_enum, conflicts_with = "json")]
    kind: Option<KindName>,
    /// File with the key, password, client secret, refresh token or private key; - for standard input
    #[arg(long, value_name = "FILE", requires = "kind", conflicts_with = "from_env")]
    from: Option<String>,
    /// Variable of the environment that holds it
    #[arg(long, value_name = "NAME", requires = "kind")]
    from_env: Option<String>,
    /// File with the whole of it as JSON, a CredentialSecret of the contract; - for standard input
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
    /// User, of basic
    #[arg(long, default_value_t, hide_default_value = true)]
    user: String,
    /// Address of the token endpoint, of oauth2-client and oauth2-refresh
    #[arg(long, value_name = "URL", required_if_eq_any([("kind", "oauth2-client"), ("kind", "oauth2-refresh")]))]
    token_url: Option<String>,
    /// The client, of oauth2-client and oauth2-refresh
    #[arg(long, value_name = "ID", required_if_eq_any([("kind", "oauth2-client"), ("kind", "oauth2-refresh")]))]
    client_id: Option<String>,
    /// File with the client's secret, of oauth2-refresh; none for a public client
    #[arg(long, value_name = "FILE")]
    client_secret_from: Option<String>,
    /// Scopes to ask for
    #[arg(long, value_delimiter = ',')]
    scope: Vec<String>,
    /// Audience to ask for, of oauth2-client
    #[arg(long, default_value_t, hide_default_value = true)]
    audience: String,
    /// Send the client's id and secret in the body, not as Authorization
    #[arg(long)]
    secret_in_body: bool,
    /// File with the certificate and its chain as PEM, of mtls
    #[arg(long, value_name = "FILE", required_if_eq("kind", "mtls"))]
    certificate: Option<String>,
    /// File with the authorities that the server's certificate must come from as PEM, of mtls
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
}

impl SecretArgs {
    /// The secret; `None` where nothing says what it is.
    pub(super) fn read(self) -> Result<Option<CredentialSecret>, Error> {
        if let Some(file) = &self.json {
            return from_json(&read_file(file)?).map(Some);
        }
        let Some(kind) = self.kind else { return Ok(None) };
        let secret = match (&self.from, &self.from_env) {
            (Some(file), _) => read_file(file)?,
            (None, Some(name)) => variable(name)?,
            (None, None) => {
                return Err(Error::usage(
                    "say where the secret is: --from FILE, --from - or --from-env NAME",
                ));
            }
        };
        let optional = |file: &Option<String>| file.as_deref().map_or(Ok(String::new()), read_file);
        let (token_url, client_id) = (self.token_url.unwrap_or_default(), self.client_id.unwrap_or_default());
        let kind = match kind {
            KindName::ApiKey => Kind::ApiKey(line(&secret)),
            KindName::Basic => Kind::Basic(BasicSecret { user: self.user, password: line(&secret) }),
            KindName::OAuth2Client => Kind::Oauth2Client(OAuth2ClientSecret {
                token_url,
                client_id,
                client_secret: line(&secret),
                scopes: self.scope,
                audience: self.audience,
                secret_in_body: self.secret_in_body,
            }),
            KindName::OAuth2Refresh => Kind::Oauth2Refresh(OAuth2RefreshSecret {
                token_url,
                client_id,
                client_secret: line(&optional(&self.client_secret_from)?),
                refresh_token: line(&secret),
                scopes: self.scope,
                secret_in_body: self.secret_in_body,
            }),
            KindName::Mtls => Kind::MutualTls(MutualTlsSecret {
                certificate_pem: optional(&self.certificate)?,
                private_key_pem: secret,
                ca_pem: optional(&self.ca)?,
            }),
        };
        Ok(Some(CredentialSecret { kind: Some(kind) }))
    }
}

/// Where the next secret of a credential is: `-`, or `@` and a file.
pub(super) fn place(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        Some(file) if !file.is_empty() => Ok(file.to_owned()),
        None if text == "-" => Ok(text.to_owned()),
        // What was given may be the secret itself, and must not be said again.
        _ => Err("give @FILE, or - for standard input; a secret is never an argument".to_owned()),
    }
}

/// A key, or JSON, as the server itself reads a file.
pub(super) fn read_any(place: &str) -> Result<CredentialSecret, Error> {
    let text = read_file(place)?;
    if text.trim_start().starts_with('{') {
        return from_json(&text);
    }
    Ok(CredentialSecret { kind: Some(Kind::ApiKey(text.trim().to_owned())) })
}

fn read_file(file: &str) -> Result<String, Error> {
    files::read(file).map_err(Error::usage)
}

/// Without the line break that ends a file.
fn line(text: &str) -> String {
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)).to_owned()
}

#[allow(clippy::disallowed_methods, reason = "the command line names the variable; it holds no setting")]
fn variable(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| Error::usage(format!("the variable {name} is not set, or no text")))
}

/// The parser's own words may hold the value.
fn from_json(text: &str) -> Result<CredentialSecret, Error> {
    let read = serde_json::from_str(text).ok().and_then(|value| json::read(value).ok());
    read.ok_or_else(|| Error::usage("the JSON is no CredentialSecret, such as {\"api_key\": \"…\"}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        secret: SecretArgs,
    }

    fn read(words: &[&str]) -> Result<Kind, String> {
        let probe = Probe::try_parse_from(["x"].iter().chain(words)).map_err(|error| error.to_string())?;
        let secret = probe.secret.read().map_err(|error| format!("{error:?}"))?;
        secret.and_then(|secret| secret.kind).ok_or_else(|| "nothing".to_owned())
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        (file, path)
    }

    #[test]
    fn each_kind_takes_its_parts_and_names_those_that_are_missing() {
        let (_secret, from) = file("hunter2\r\n");
        let (_certificate, certificate) = file("PEM\n");
        let basic = BasicSecret { user: "robot".into(), password: "hunter2".into() };
        assert_eq!(read(&["--kind", "basic", "--user", "robot", "--from", &from]), Ok(Kind::Basic(basic)));
        let oauth = ["--token-url", "https://a/t", "--client-id", "i", "--scope", "a,b", "--from", &from];
        let client = read(&[&["--kind", "oauth2-client"][..], &oauth].concat()).unwrap();
        assert!(
            matches!(client, Kind::Oauth2Client(it) if it.client_secret == "hunter2" && it.scopes.len() == 2)
        );
        let refresh =
            read(&[&["--kind", "oauth2-refresh", "--client-secret-from", &from][..], &oauth].concat());
        assert!(matches!(refresh.unwrap(), Kind::Oauth2Refresh(it) if it.refresh_token == it.client_secret));
        let mtls = read(&["--kind", "mtls", "--certificate", &certificate, "--from", &from]).unwrap();
        assert!(matches!(mtls, Kind::MutualTls(it) if it.certificate_pem == "PEM\n" && it.ca_pem.is_empty()));
        assert!(read(&["--kind", "mtls", "--from", &from]).unwrap_err().contains("--certificate"));
        assert!(read(&["--kind", "oauth2-client", "--from", &from]).unwrap_err().contains("--token-url"));
        assert!(read(&["--kind", "api-key"]).unwrap_err().contains("--from-env"));
        assert!(read(&["--from", &from]).unwrap_err().contains("--kind"));
    }

    #[test]
    fn json_is_the_contracts_and_what_is_wrong_with_it_is_told_without_it() {
        let (_json, path) = file(r#"{"basic": {"user": "u", "password": "p"}}"#);
        assert!(matches!(read(&["--json", &path]).unwrap(), Kind::Basic(_)));
        for wrong in [r#"{"hunter2": 1}"#, "hunter2", r#"{"api_key": ["hunter2"]}"#] {
            let (_wrong, path) = file(wrong);
            let told = read(&["--json", &path]).unwrap_err();
            assert!(told.contains("CredentialSecret") && !told.contains("hunter2"), "{told}");
        }
        let (_key, path) = file(" hunter2\n");
        assert_eq!(read_any(&path).unwrap().kind, Some(Kind::ApiKey("hunter2".into())));
        let (gone, path) = file(r#"{"api_key": "k"}"#);
        drop(gone);
        assert!(read_any(&path).is_err());
        assert!(place("hunter2").is_err_and(|told| !told.contains("hunter2")));
    }
}
