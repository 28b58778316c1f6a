//! What reflection carries to show who asks: the credentials that calls will carry. Must never be kept or logged, and
//! neither may what a server says without `Carried::scrub`.

use ::grpc::{Reflected, Security};
use ::scrub::Forms;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{
    Error,
    credentials::{Credentials, Material, Text},
    definition::{Binding, CredentialPlace, CredentialUse},
    import::Candidate,
};

/// Stands in the place of a secret.
const MARK: &str = "***";
/// What is told of a server that repeats a secret. Never where: the place may be named after it.
const REPEATS: &str = "is a server that repeats a credential, which it was asked with, in what it says of its \
                       services: nothing is taken of it. Mend the server, and rotate the credential";

/// What goes with every question. No `Debug`: it is secret.
#[derive(Default)]
pub(super) struct Carried {
    pub metadata: HeaderMap,
    pub security: Security,
    secrets: Vec<Text>,
    /// Every form of them.
    forms: Forms,
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
        carried.look_for_secrets();
        Ok(carried)
    }

    /// A text of the server's without the secrets that it was given. Must be cut afterwards only: what is left of one
    /// that a cut went through is not known for one.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.forms.replace_cut(text, MARK)
    }

    /// Refuses a server that repeats a secret in a name, a reason, or a file with its comments.
    pub(super) fn check(&self, reflected: &Reflected) -> Result<(), Error> {
        let mut is_in = reflected.listed.iter().any(|name| self.is_in(name));
        let mut last = None;
        for service in &reflected.services {
            is_in |= self.is_in(&service.name);
            match &service.found {
                Err(reason) => is_in |= self.is_in(reason),
                // Services that were asked for together share one pool.
                Ok(found) if last.as_ref() != Some(found.parent_pool()) => {
                    is_in |= found.parent_pool().files().any(|file| self.is_in(file.encode_to_vec()));
                    last = Some(found.parent_pool().clone());
                }
                Ok(_) => {}
            }
        }
        refuse(is_in)
    }

    /// Refuses tools whose texts hold a secret: what is cleaned and joined may hold one that stood apart.
    pub(super) fn check_candidates(&self, candidates: &[Candidate]) -> Result<(), Error> {
        let is_in_tool = |candidate: &Candidate| {
            let Ok(tool) = &candidate.proposal else { return false };
            let texts = [&tool.title, &tool.description, &tool.input_schema, &tool.output_schema];
            let service = match &tool.binding {
                Some(Binding::Grpc(grpc)) => grpc.service.as_str(),
                _ => "",
            };
            texts.into_iter().any(|text| self.is_in(text)) || self.is_in(service)
        };
        refuse(candidates.iter().any(is_in_tool))
    }

    fn is_in(&self, text: impl AsRef<[u8]>) -> bool {
        self.forms.is_in(text)
    }

    fn look_for_secrets(&mut self) {
        self.forms = Forms::of(self.secrets.iter().map(Text::expose));
    }

    fn add(&mut self, used: &CredentialUse, material: Material) -> Result<(), Error> {
        let (scheme, value) = match material {
            Material::ApiKey(key) | Material::Bearer(key) => ("Bearer ", key),
            Material::Basic(basic) => {
                let (user, password) = (basic.user.expose(), basic.password.expose());
                self.secrets.extend(::scrub::basic(user, password).into_iter().map(Text::from));
                ("Basic ", Text::from(BASE64.encode(format!("{user}:{password}"))))
            }
            Material::MutualTls(pair) => {
                let (certificate, key) = (pair.certificate_pem.expose(), pair.private_key_pem.expose());
                let authorities = Some(pair.ca_pem.expose()).filter(|pem| !pem.is_empty());
                self.security = Security {
                    identity: Some((certificate.to_owned(), key.to_owned())),
                    authorities: authorities.map(str::to_owned),
                };
                self.secrets.extend(::scrub::private_key(key).into_iter().map(Text::from));
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

fn refuse(is_in: bool) -> Result<(), Error> {
    if is_in { Err(Error::invalid("endpoint", REPEATS)) } else { Ok(()) }
}

#[cfg(test)]
pub(super) fn carrying(material: Material) -> Carried {
    let used = CredentialUse { credential: "key".into(), place: None, prefix: String::new() };
    let mut carried = Carried::default();
    assert!(carried.add(&used, material).is_ok());
    carried.look_for_secrets();
    carried
}
