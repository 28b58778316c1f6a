//! The base address of an operation: the first server that is named for it (`OpenAPI` 3.1, section 4.8.5). No I/O.

use serde_json::Value;
use url::Url;

use super::document::{Document, Node};

/// Longest list of variables that is filled in.
const MAX_VARIABLES: usize = 32;

/// The address that paths are appended to, without a slash at its end. `given` counts more than the document.
pub(super) fn base(
    document: &Document,
    operation: &Node<'_>,
    path_item: &Node<'_>,
    given: &str,
) -> Result<String, String> {
    if !given.is_empty() {
        return Ok(given.trim_end_matches('/').to_owned());
    }
    let root = document.root();
    let named = [operation, path_item, &root].into_iter().find_map(first);
    let Some(server) = named else {
        return Err("the document names no server: give server_url".to_owned());
    };
    address_of(&server)
}

/// The address of an operation: its path behind the base. No path leads to another host.
pub(super) fn join(base: &str, path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("its path {path:.200} does not begin with a slash"));
    }
    let address = format!("{base}{path}");
    match (origin(base), origin(&address)) {
        (Some(base), Some(joined)) if base == joined => Ok(address),
        _ => Err(format!("its path {path:.200} leads away from its server {base:.200}")),
    }
}

/// Whether an operation's credential may be sent to its address. A document has one say in where that is: its own
/// first server, which whoever imports it can see; `given` counts more.
pub(super) fn check_carrying(
    document: &Document,
    address: &str,
    given: &str,
    allow_private_network: bool,
) -> Result<(), String> {
    if given.is_empty() {
        let root = first(&document.root()).ok_or("the document names no server: give server_url")?;
        if origin(&address_of(&root)?) != origin(address) {
            return Err(format!(
                "its credential would go to {address:.200}, away from the document's first server: give server_url"
            ));
        }
    }
    if allow_private_network || Url::parse(address).is_ok_and(|url| url.scheme() == "https") {
        return Ok(());
    }
    Err("its credential is not sent over http, where others could read it: give an https server_url, or \
         allow_private_network"
        .to_owned())
}

fn origin(address: &str) -> Option<url::Origin> {
    Url::parse(address).ok().map(|url| url.origin())
}

/// The first server that is named at a place.
fn first<'a>(holder: &Node<'a>) -> Option<Node<'a>> {
    holder.get("servers")?.get("0")
}

fn address_of(server: &Node<'_>) -> Result<String, String> {
    let address = filled(server)?;
    match Url::parse(&address) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(address.trim_end_matches('/').to_owned()),
        _ => Err(format!("its server {address:.200} is not an http or https address: give server_url")),
    }
}

/// Whether a text can be a base address; the error says why not.
pub(super) fn check(given: &str) -> Result<(), String> {
    let url = Url::parse(given).map_err(|error| format!("is not an absolute address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("has the scheme {:?}; http and https are taken", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; give a credential instead".into());
    }
    if url.query().is_some() || url.fragment().is_some() || given.contains(['{', '}']) {
        return Err("must end with its path: without query, fragment and {placeholders}".into());
    }
    Ok(())
}

/// The address with the defaults of its variables.
fn filled(server: &Node<'_>) -> Result<String, String> {
    let mut address = server.text("url").trim().to_owned();
    for (name, variable) in server.get("variables").iter().flat_map(Node::members).take(MAX_VARIABLES) {
        let default = match variable.value.get("default") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => continue,
            Some(other) => other.to_string(),
        };
        address = address.replace(&format!("{{{name}}}"), &default);
    }
    if address.contains(['{', '}']) {
        return Err(format!("its server {address:.200} has a variable without a default: give server_url"));
    }
    Ok(address)
}
