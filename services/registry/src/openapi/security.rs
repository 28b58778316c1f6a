//! Which credentials a request carries, by the security schemes of the document. A document names schemes, never a
//! secret. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    document::{Document, Node},
    parameters::Hidden,
};
use crate::definition::{CredentialPlace, CredentialUse, HttpLocation};

/// Stands for every operation that names no scheme that a credential is given for.
pub(super) const ANY: &str = "*";
/// Our own extension: what stands before a key in its header.
const PREFIX: &str = "x-toolcrib-prefix";

/// What an operation needs.
#[derive(Debug, Default)]
pub(super) struct Security {
    pub credentials: Vec<CredentialUse>,
    /// Parameters that hold a key, which no caller gives.
    pub hidden: Hidden,
}

/// The schemes of a document, by name.
pub(super) fn schemes(document: &Document) -> BTreeMap<String, Node<'_>> {
    let schemes = document.root().get("components").and_then(|components| components.get("securitySchemes"));
    let resolved = schemes
        .iter()
        .flat_map(Node::members)
        .filter_map(|(name, scheme)| Some((name.clone(), document.resolve(scheme).ok()?)));
    resolved.collect()
}

/// What an operation needs, with the credentials given by the names of schemes.
pub(super) fn security(
    document: &Document,
    schemes: &BTreeMap<String, Node<'_>>,
    operation: &Node<'_>,
    given: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Security {
    let asked = operation.get("security").or_else(|| document.root().get("security"));
    let alternatives: Vec<Vec<String>> = asked
        .iter()
        .flat_map(Node::items)
        .map(|alternative| alternative.members().map(|(name, _)| name.clone()).collect())
        .collect();
    let hidden = alternatives.iter().flatten().filter_map(|name| key_place(schemes.get(name)?)).collect();
    let uses = |names: &Vec<String>| -> Option<Vec<CredentialUse>> {
        if names.is_empty() {
            return None;
        }
        names.iter().map(|name| usage(schemes.get(name)?, given.get(name)?)).collect()
    };
    let credentials = match alternatives.iter().find_map(uses) {
        Some(credentials) => credentials,
        None if asked.is_some() && alternatives.is_empty() => vec![],
        None => given.get(ANY).map(|credential| bearer(credential)).into_iter().collect(),
    };
    if credentials.is_empty() {
        note_missing(&alternatives, schemes, notes);
    }
    Security { credentials, hidden }
}

fn note_missing(alternatives: &[Vec<String>], schemes: &BTreeMap<String, Node<'_>>, notes: &mut Vec<String>) {
    if alternatives.is_empty() || alternatives.iter().any(Vec::is_empty) {
        return;
    }
    let named = |name: &String| {
        let can_be = schemes.get(name).is_some_and(|scheme| usage(scheme, "").is_some());
        if can_be { name.clone() } else { format!("{name} (of a kind that toolcrib does not know)") }
    };
    let told: BTreeSet<String> =
        alternatives.iter().map(|names| names.iter().map(named).collect::<Vec<_>>().join(" and ")).collect();
    let told = told.into_iter().collect::<Vec<_>>().join(", or ");
    notes.push(format!("needs credentials for {told}: import again with them"));
}

/// How a credential is carried; `None`: in a way that toolcrib does not know.
fn usage(scheme: &Node<'_>, credential: &str) -> Option<CredentialUse> {
    let named = |place: fn(String) -> CredentialPlace| {
        let name = scheme.text("name");
        let place = (!name.is_empty()).then(|| place(name.to_owned()))?;
        let prefix = scheme.text(PREFIX).to_owned();
        Some(CredentialUse { credential: credential.to_owned(), place: Some(place), prefix })
    };
    match (scheme.text("type"), scheme.text("in"), scheme.text("scheme").to_ascii_lowercase().as_str()) {
        ("apiKey", "header", _) => named(CredentialPlace::Header),
        ("apiKey", "query", _) => named(CredentialPlace::Query),
        ("apiKey", "cookie", _) => named(CredentialPlace::Cookie),
        ("http", _, "bearer" | "basic") | ("oauth2" | "openIdConnect" | "mutualTLS", _, _) => {
            Some(bearer(credential))
        }
        _ => None,
    }
}

/// Where the credential's own kind says: Authorization, or the TLS connection.
fn bearer(credential: &str) -> CredentialUse {
    CredentialUse { credential: credential.to_owned(), place: None, prefix: String::new() }
}

/// The parameter that holds a scheme's key.
fn key_place(scheme: &Node<'_>) -> Option<(HttpLocation, String)> {
    let name = scheme.text("name");
    match (scheme.text("type"), scheme.text("in")) {
        ("apiKey", "header") => Some((HttpLocation::Header, name.to_lowercase())),
        ("apiKey", "query") => Some((HttpLocation::Query, name.to_owned())),
        ("apiKey", "cookie") => Some((HttpLocation::Cookie, name.to_owned())),
        _ => None,
    }
}
