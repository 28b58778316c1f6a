//! Makes HTTP tools of an `OpenAPI` document. Whatever a document of a stranger says, nothing is fetched, and one
//! operation that is wrong costs no other.

mod answer;
mod body;
mod dialect;
mod document;
mod media;
mod names;
mod operation;
mod packs;
mod parameters;
mod read;
mod schema;
mod security;
mod select;
mod server;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use ::store::Database;
use types::Caller;

use crate::{
    Error, check,
    import::{self, Candidate, Defaults, Imported, Room, Turns},
};
use document::{Document, Node};
use operation::{Import, Operation};

pub(crate) use select::Selection;

/// Methods of a path item; toolcrib's tools have no use for the others, which are refused by name.
const METHODS: [&str; 8] = ["get", "put", "post", "patch", "delete", "head", "options", "trace"];

/// Stack of the thread that reads a document, in bytes; touched only as far as it is used.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Where the operations stand.
#[derive(Debug)]
pub(crate) enum Source {
    /// A document, perhaps compressed.
    Document(Vec<u8>),
    /// A tool pack that ships with toolcrib.
    Pack(String),
}

/// What is to be imported.
#[derive(Debug)]
pub(crate) struct Request {
    pub source: Source,
    /// Empty for a pack: its name.
    pub provider: String,
    /// Empty: that of the document.
    pub server_url: String,
    pub selection: Selection,
    /// Credentials by the name of their security scheme.
    pub credentials: BTreeMap<String, String>,
    pub defaults: Defaults,
    pub allow_private_network: bool,
    pub validate_only: bool,
}

/// Imports a document for a team.
pub(crate) async fn import(
    database: &Database,
    turns: &Turns,
    caller: &Caller,
    request: Request,
) -> Result<Vec<Imported>, Error> {
    let (turn, validate_only) = (turns.next().await, request.validate_only);
    let made = tokio::task::spawn_blocking(move || (turn, candidates(request)));
    let (turn, candidates) = made.await?;
    import::keep(database, caller, (turn, candidates?), validate_only).await
}

/// The tools that a request asks for, in the order of the document. Reading recurses as deep as a document nests.
pub(crate) fn candidates(request: Request) -> Result<Vec<Candidate>, Error> {
    with_stack(|| candidates_of(request))
}

/// Runs work on a stack that holds the deepest document which is taken.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("openapi".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).expect("a thread can be started");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn candidates_of(mut request: Request) -> Result<Vec<Candidate>, Error> {
    let (bytes, is_ours) = match std::mem::replace(&mut request.source, Source::Document(vec![])) {
        Source::Document(bytes) => (bytes, false),
        Source::Pack(name) => {
            let pack = packs::find(&name)?;
            if request.provider.is_empty() {
                request.provider = name;
            }
            (pack.as_bytes().to_vec(), true)
        }
    };
    if !check::is_word(&request.provider) {
        let told = "must be 1 to 64 characters of a-z, 0-9, _ and -: the first part of the tools' names";
        return Err(Error::invalid("provider", told));
    }
    if !request.server_url.is_empty() {
        server::check(&request.server_url).map_err(|told| Error::invalid("server_url", told))?;
    }
    let document = Document::read(&bytes)?;
    drop(bytes);
    let schemes = security::schemes(&document);
    check_credentials(&request.credentials, &schemes)?;
    let (operations, broken) = operations(&document);
    let names = name(&request.provider, &operations);
    let chosen = request.selection.choose(&operations)?;
    Room::check_count(chosen.len() + broken.len())?;
    let import = Import {
        schemas: schema::Schemas::new(&document),
        schemes,
        provider: &request.provider,
        server_url: &request.server_url,
        credentials: &request.credentials,
        defaults: &request.defaults,
        allow_private_network: request.allow_private_network,
        is_ours,
        category: category(&document),
        headers: headers(&document),
        document: &document,
    };
    let (mut candidates, mut room) = (Vec::new(), Room::default());
    for (index, (operation, name)) in operations.iter().zip(names).enumerate() {
        if chosen.contains(&index) {
            let candidate = import.candidate(name, operation);
            room.take(&candidate)?;
            candidates.push(candidate);
        }
    }
    if request.selection.is_all() {
        candidates.extend(broken);
    }
    if candidates.is_empty() {
        return Err(Error::invalid("document", "has no operations"));
    }
    Ok(candidates)
}

fn name(provider: &str, operations: &[Operation<'_>]) -> Vec<String> {
    let sources: Vec<_> = operations
        .iter()
        .map(|each| names::Source { operation_id: each.id(), method: &each.method, path: each.path })
        .collect();
    names::names(provider, &sources)
}

/// Every operation, in the order of the document, and the paths that lead to none.
fn operations(document: &Document) -> (Vec<Operation<'_>>, Vec<Candidate>) {
    let (mut operations, mut broken) = (Vec::new(), Vec::new());
    let Some(paths) = document.root().get("paths") else { return (operations, broken) };
    let mut seen = BTreeSet::new();
    for (path, order) in document.order.iter().filter(|(path, _)| !path.starts_with("x-")) {
        let Some(item) = paths.get(path).filter(|_| seen.insert(path.as_str())) else { continue };
        let is_elsewhere = item.value.get("$ref").is_some();
        let path_item = match document.resolve(item) {
            Ok(item) => item,
            Err(reason) => {
                broken.push(refused(path.clone(), reason));
                continue;
            }
        };
        let methods: Vec<&str> =
            if is_elsewhere { METHODS.to_vec() } else { order.iter().map(String::as_str).collect() };
        let mut known = BTreeSet::new();
        for method in methods.into_iter().filter(|method| METHODS.contains(method) && known.insert(*method)) {
            let Some(node) = path_item.get(method).filter(|node| node.value.is_object()) else { continue };
            let method = method.to_ascii_uppercase();
            operations.push(Operation { method, path, node, path_item: path_item.clone() });
        }
    }
    (operations, broken)
}

fn refused(source: String, reason: String) -> Candidate {
    Candidate { source, name: String::new(), proposal: Err(reason), notes: vec![] }
}

/// Credentials are given by the names that the document has for their schemes.
fn check_credentials(
    given: &BTreeMap<String, String>,
    schemes: &BTreeMap<String, Node<'_>>,
) -> Result<(), Error> {
    let unknown: Vec<&str> = given
        .keys()
        .map(String::as_str)
        .filter(|name| *name != security::ANY && !schemes.contains_key(*name))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let known: Vec<&str> = schemes.keys().map(String::as_str).take(20).collect();
    let known = if known.is_empty() {
        "it has none; \"*\" gives a credential to every operation".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    let unknown: String = unknown.join(", ").chars().take(200).collect();
    Err(Error::invalid("credentials", format!("the document has no security scheme {unknown}; {known}")))
}

/// What the document says its tools are for.
fn category(document: &Document) -> Option<types::Category> {
    document.root().text("x-toolcrib-category").to_ascii_lowercase().parse().ok()
}

/// Headers that the document wants in every request.
fn headers(document: &Document) -> BTreeMap<String, String> {
    let given = document.root().get("x-toolcrib-headers");
    let text = |(name, value): (&String, Node<'_>)| Some((name.clone(), value.value.as_str()?.to_owned()));
    given.iter().flat_map(Node::members).filter_map(text).collect()
}

/// Whether a schema can be used; the error says why not.
fn read_schema(text: &str) -> Result<(), String> {
    ::schema::read(text).map(drop).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;
