//! Makes tools of the unary methods of a gRPC server, found by its reflection. What the server says of itself is a
//! claim: it is bounded, checked method by method, and one that is wrong costs no other.

mod carried;
mod comments;
mod method;
mod name;
mod prune;
mod schema;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ::grpc::{Connection, Reflected};
use ::store::Database;
use http::{HeaderName, HeaderValue};
use prost_reflect::{MethodDescriptor, ServiceDescriptor};
use reach::{Authorities, Guard, Reach};
use types::Caller;

use self::{carried::Carried, comments::Comments};
use crate::{
    Error, check, check_grpc,
    credentials::Credentials,
    definition::{CredentialUse, Grpc},
    import::{self, Candidate, Defaults, Imported, Room, Turns},
    normalise::clean,
};

/// How long connecting to a server, and asking it everything, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long making tools of what it said may take.
const MAKING_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest reason that is told of a failure, in characters.
const MAX_REASON: usize = 600;
/// Names of services or methods that are told where one was asked for that there is not.
const TOLD_NAMES: usize = 20;

/// A server, and what to take of it.
#[derive(Debug)]
pub(crate) struct Source {
    pub endpoint: String,
    /// First part of the tools' names.
    pub provider: String,
    /// Full names; none: all.
    pub services: Vec<String>,
    /// Names; none: all.
    pub methods: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub credentials: Vec<CredentialUse>,
    pub defaults: Defaults,
    pub allow_private_network: bool,
}

/// Imports the methods of a server; with `validate_only` nothing is kept.
pub(crate) async fn import(
    database: &Database,
    credentials: &Credentials,
    turns: &Turns,
    caller: &Caller,
    mut source: Source,
    validate_only: bool,
) -> Result<Vec<Imported>, Error> {
    source.endpoint = checked(&source)?;
    let carried = Carried::of(credentials, &caller.team, &source.credentials).await?;
    let reflected = reflect(&source, &carried, credentials.authorities()).await?;
    // Descriptors and schemas of hundreds of methods take a while.
    let turn = turns.next().await;
    let made = tokio::task::spawn_blocking(move || (turn, take(&source, &carried, &reflected)));
    let (turn, candidates) = made.await?;
    import::keep(database, caller, (turn, candidates?), validate_only).await
}

/// What the wanted services become; nothing of a server that repeats a secret.
fn take(source: &Source, carried: &Carried, reflected: &Reflected) -> Result<Vec<Candidate>, Error> {
    carried.check(reflected)?;
    for (index, name) in source.services.iter().enumerate() {
        if !reflected.services.iter().any(|service| service.name == *name) {
            let listed = some(reflected.listed.iter().cloned());
            let told = format!("{name:?} is no service of the server; it has {listed}");
            return Err(Error::invalid(format!("services[{index}]"), told));
        }
    }
    let candidates = candidates(source, reflected)?;
    carried.check_candidates(&candidates)?;
    Ok(candidates)
}

/// The address in its one spelling, or what is wrong with the request.
fn checked(source: &Source) -> Result<String, Error> {
    let url = ::grpc::address(&source.endpoint).map_err(|wrong| Error::invalid("endpoint", wrong))?;
    if !check::is_word(&source.provider) {
        return Err(Error::invalid("provider", "must be 1 to 64 characters of a-z, 0-9, _ and -"));
    }
    let mut found = check::Violations::default();
    check_grpc::check_metadata("metadata", &source.metadata, &mut found);
    check_grpc::check_credentials("credentials", &source.credentials, &source.metadata, &mut found);
    if url.scheme() == "http" && !source.credentials.is_empty() && !source.allow_private_network {
        let told =
            "are not sent over http, where others could read them; use https, or allow_private_network";
        found.add("credentials", told);
    }
    if found.0.is_empty() {
        Ok(url.as_str().trim_end_matches('/').to_owned())
    } else {
        Err(Error::Invalid(found.0))
    }
}

async fn reflect(source: &Source, carried: &Carried, authorities: &Authorities) -> Result<Reflected, Error> {
    let reach = if source.allow_private_network { Reach::Any } else { Reach::PUBLIC };
    let guard = Guard::system(reach).trusting(authorities);
    let mut metadata = carried.metadata.clone();
    for (name, value) in &source.metadata {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            metadata.insert(name, value);
        }
    }
    let connected = Connection::open(&source.endpoint, guard, &carried.security, CONNECT_TIMEOUT).await;
    let connection = connected.map_err(|error| failure(&source.endpoint, carried, &error))?;
    let reflected = ::grpc::reflect(&connection, &metadata, &source.services, REFLECTION_TIMEOUT).await;
    reflected.map_err(|error| failure(&source.endpoint, carried, &error))
}

fn failure(endpoint: &str, carried: &Carried, error: &::grpc::Error) -> Error {
    use ::grpc::Error as Failure;
    let reason = clean(&carried.scrub(&error.whole()), MAX_REASON);
    match error {
        Failure::Refused(_) => {
            Error::invalid("endpoint", format!("{reason}; allow_private_network lets it reach any"))
        }
        Failure::Address(_) | Failure::Descriptors(_) => Error::invalid("endpoint", reason),
        Failure::Security(_) => Error::invalid("credentials", format!("cannot be used for TLS: {reason}")),
        Failure::Status(refusal) if refusal.name() == "UNIMPLEMENTED" => {
            Error::invalid("endpoint", "is a server without reflection (v1 or v1alpha); switch it on there")
        }
        Failure::Unreachable(_)
        | Failure::NotInTime
        | Failure::Timeout
        | Failure::Broken(_)
        | Failure::Status(_)
        | Failure::TooLarge(_)
        | Failure::Arguments(_)
        | Failure::Answer(_) => Error::GrpcServer { endpoint: endpoint.to_owned(), reason },
    }
}

/// Every method that was asked for, and what it would become; in order of service and method. What they take together
/// is bounded before it is there.
fn candidates(source: &Source, reflected: &Reflected) -> Result<Vec<Candidate>, Error> {
    check_methods(source, reflected)?;
    let until = Instant::now() + MAKING_TIMEOUT;
    let (mut candidates, mut room, mut comments) = (Vec::new(), Room::default(), Comments::default());
    let mut add = |candidate: Candidate| {
        room.take(&candidate)?;
        candidates.push(candidate);
        if Instant::now() < until {
            return Ok(());
        }
        let told = format!("has methods that take more than {} s to read", MAKING_TIMEOUT.as_secs());
        Err(Error::invalid("endpoint", format!("{told}; name the services or methods to take")))
    };
    for service in &reflected.services {
        let descriptor = match &service.found {
            Ok(descriptor) => descriptor,
            Err(reason) => {
                let (source, proposal) = (service.name.clone(), Err(reason.clone()));
                add(Candidate { source, name: String::new(), proposal, notes: vec![] })?;
                continue;
            }
        };
        let names = name::of_methods(&source.provider, &reflected.listed, descriptor);
        let is_wanted = |method: &MethodDescriptor| is_wanted(&source.methods, &service.name, method.name());
        let mut methods: Vec<_> = descriptor.methods().filter(is_wanted).collect();
        methods.sort_by(|a, b| a.name().cmp(b.name()));
        for method in methods {
            let name = names.get(method.name()).cloned().unwrap_or_default();
            add(method::candidate(source, name, &method, &mut comments))?;
        }
    }
    Ok(candidates)
}

/// Whether there is what was asked for, and not too much of it.
fn check_methods(source: &Source, reflected: &Reflected) -> Result<(), Error> {
    let services = || reflected.services.iter().filter_map(|service| service.found.as_ref().ok());
    let wanted = |service: &ServiceDescriptor| {
        let is = |method: &MethodDescriptor| is_wanted(&source.methods, service.full_name(), method.name());
        service.methods().filter(is).count()
    };
    Room::check_count(services().map(wanted).sum())?;
    for (index, wanted) in source.methods.iter().enumerate() {
        let one = std::slice::from_ref(wanted);
        let mut all = services().flat_map(|service| service.methods().collect::<Vec<_>>());
        if !all.any(|method| is_wanted(one, method.parent_service().full_name(), method.name())) {
            let all = services().flat_map(|service| service.methods().collect::<Vec<_>>());
            let known = some(all.map(|method| method::path(&method)));
            let told = format!("{wanted:?} is no method of these services; they have {known}");
            return Err(Error::invalid(format!("methods[{index}]"), told));
        }
    }
    Ok(())
}

/// A method is named by its name, or with its service before it.
fn is_wanted(wanted: &[String], service: &str, method: &str) -> bool {
    let is = |name: &String| match name.rsplit_once('/') {
        Some((own, name)) => own == service && name == method,
        None => name == method,
    };
    wanted.is_empty() || wanted.iter().any(is)
}

fn some(mut names: impl Iterator<Item = String>) -> String {
    let told = names.by_ref().take(TOLD_NAMES).collect::<Vec<_>>().join(", ");
    match (told.is_empty(), names.count()) {
        (true, _) => "none".to_owned(),
        (false, 0) => told,
        (false, more) => format!("{told} and {more} more"),
    }
}

/// What a method is reached by.
fn binding(source: &Source, service: &str, method: &str, descriptor_set: String) -> Grpc {
    Grpc {
        endpoint: source.endpoint.clone(),
        service: service.to_owned(),
        method: method.to_owned(),
        descriptor_set,
        metadata: source.metadata.clone(),
        allow_private_network: source.allow_private_network,
        credentials: source.credentials.clone(),
    }
}
