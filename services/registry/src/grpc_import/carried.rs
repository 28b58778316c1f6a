//! What reflection carries to show who asks: the credentials that calls will carry. Must never be kept or logged, and
//! neither may what a server says without `Carried::scrub`.

use ::grpc::Security;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{
    Error,
    credentials::{Credentials, Material, Text},
    definition::{CredentialPlace, CredentialUse},
};

/// What goes with every question. No `Debug`: it is secret.
#[derive(Default)]
pub(super) struct Carried {
    pub metadata: HeaderMap,
    pub security: Security,
    secrets: Vec<Text>,
}

impl Carried {
    /// Opens the credentials of a team.
    pub(super) async fn of(
        credentials: &Credentials,
        team: &str,
        uses: &[CredentialUse],
    ) -> Result<Self, Error> {
        let mut carried = Self::default();
        for used in uses {
            let resolved = credentials.resolve(team, &used.credential, 0).await?;
            carried.add(used, resolved.material)?;
        }
        Ok(carried)
    }

    /// A text of the server's without the secrets that it was given.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "***"))
    }

    fn add(&mut self, used: &CredentialUse, material: Material) -> Result<(), Error> {
        let (scheme, value) = match material {
            Material::ApiKey(key) | Material::Bearer(key) => ("Bearer ", key),
            Material::Basic(basic) => {
                let pair = format!("{}:{}", basic.user.expose(), basic.password.expose());
                self.secrets.push(basic.password);
                ("Basic ", Text::from(BASE64.encode(pair)))
            }
            Material::MutualTls(pair) => {
                let (certificate, key) = (pair.certificate_pem.expose(), pair.private_key_pem.expose());
                let authorities = Some(pair.ca_pem.expose()).filter(|pem| !pem.is_empty());
                self.security = Security {
                    identity: Some((certificate.to_owned(), key.to_owned())),
                    authorities: authorities.map(str::to_owned),
                };
                return Ok(());
            }
        };
        let (name, prefix) = match &used.place {
            Some(CredentialPlace::Header(name)) => (HeaderName::try_from(name).ok(), used.prefix.as_str()),
            _ => (Some(AUTHORIZATION), scheme),
        };
        let line = HeaderValue::try_from(format!("{prefix}{}", value.expose())).ok();
        let told = || format!("{} holds a character that metadata cannot carry", used.credential);
        let (name, mut line) = name.zip(line).ok_or_else(|| Error::invalid("credentials", told()))?;
        line.set_sensitive(true);
        self.metadata.insert(name, line);
        self.secrets.push(value);
        Ok(())
    }
}
