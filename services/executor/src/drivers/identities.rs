//! HTTP clients that show a certificate, one a version of a credential: connections of one are never another's.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use reqwest::{Certificate, Identity};
use secrecy::ExposeSecret;

use super::fetch::{HttpClient, Shown};
use crate::{
    credentials::{Credential, Material},
    outcome::{Reached, ToolError, ToolErrorCode},
};

/// Clients that are kept; beyond that, all are made anew.
const MAX_KEPT: usize = 256;

/// The clients there are, by team, name and version of the credential.
#[derive(Default)]
pub(super) struct Identities(Mutex<HashMap<(String, String, i32), HttpClient>>);

impl Identities {
    /// The client that shows this credential's certificate.
    pub fn client(&self, plain: &HttpClient, team: &str, of: &Credential) -> Result<HttpClient, ToolError> {
        let key = (team.to_owned(), of.name.clone(), of.version);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = kept.get(&key) {
            return Ok(client.clone());
        }
        let shown = shown(&of.material).ok_or_else(|| unusable(of))?;
        let client = plain.showing(&shown).map_err(|_| unusable(of))?;
        // Older versions are not needed any more.
        kept.retain(|(team, name, _), _| (team, name) != (&key.0, &key.1));
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, client.clone());
        Ok(client)
    }
}

fn shown(material: &Material) -> Option<Shown> {
    let Material::MutualTls { certificate_pem, private_key_pem, ca_pem } = material else { return None };
    let pem = format!("{}\n{}", private_key_pem.expose_secret(), certificate_pem.expose_secret());
    let authorities = match ca_pem.expose_secret() {
        "" => Vec::new(),
        pem => Certificate::from_pem_bundle(pem.as_bytes()).ok()?,
    };
    Some(Shown { identity: Identity::from_pem(pem.as_bytes()).ok()?, authorities })
}

/// What is wrong with it is not told: the text of an error may hold a piece of it.
fn unusable(of: &Credential) -> ToolError {
    let message = format!("credential {}: its certificate and key cannot be used together", of.name);
    ToolError::new(ToolErrorCode::NotConfigured, message).having(Reached::No)
}
