//! Checks what a gRPC tool is called with, as far as can be known before it runs. No I/O.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::{
    check::{self, Violations},
    definition::{CredentialPlace, CredentialUse, Grpc},
};

/// Most entries of metadata, and most bytes of one value.
const MAX_ENTRIES: usize = 64;
const MAX_VALUE: usize = 4_096;
/// Most credentials.
const MAX_CREDENTIALS: usize = 8;
/// Longest address, in characters.
const MAX_ENDPOINT: usize = 2_048;
/// Entries that are for secrets, and nothing else.
const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

/// Notes what is wrong with a binding that an import made.
pub(crate) fn check(binding: &Grpc, found: &mut Violations) {
    if binding.endpoint.chars().count() > MAX_ENDPOINT {
        found.add("binding.grpc.endpoint", format!("has more than {MAX_ENDPOINT} characters"));
    } else if let Err(wrong) = ::grpc::address(&binding.endpoint) {
        found.add("binding.grpc.endpoint", wrong);
    }
    let read = base64::engine::general_purpose::STANDARD.decode(&binding.descriptor_set);
    match read.map(|bytes| ::grpc::Method::load(&bytes, &binding.service, &binding.method)) {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => found.add("binding.grpc.descriptor_set", error.to_string()),
        Err(_) => found.add("binding.grpc.descriptor_set", "is not base64"),
    }
    check_metadata("binding.grpc.metadata", &binding.metadata, found);
    check_credentials("binding.grpc.credentials", &binding.credentials, &binding.metadata, found);
}

/// Notes what is wrong with fixed metadata (gRPC over HTTP/2, "Custom-Metadata").
pub(crate) fn check_metadata(field: &str, metadata: &BTreeMap<String, String>, found: &mut Violations) {
    if metadata.len() > MAX_ENTRIES {
        found.add(field, format!("has more than {MAX_ENTRIES} entries"));
    }
    for (name, value) in metadata.iter().take(MAX_ENTRIES) {
        if !::grpc::is_metadata_name(name) {
            let told = "cannot be set: a name has a-z, 0-9, _, - and . only, and is not one that the connection sets";
            found.add(field, format!("{name:?} {told}"));
        } else if SECRET.contains(&name.as_str()) {
            let told =
                "is for a secret, which a definition never holds: put it in a credential, and name that";
            found.add(field, format!("{name:?} {told}"));
        } else if value.len() > MAX_VALUE || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let told = format!("must be printable ASCII of at most {MAX_VALUE} bytes");
            found.add(field, format!("the value of {name:?} {told}"));
        } else if name.ends_with("-bin") && STANDARD_NO_PAD.decode(value.trim_end_matches('=')).is_err() {
            found.add(field, format!("the value of {name:?} must be base64, since its name ends in -bin"));
        }
    }
}

/// Notes what is wrong with credentials: a call carries them in its metadata or its TLS connection.
pub(crate) fn check_credentials(
    field: &str,
    credentials: &[CredentialUse],
    metadata: &BTreeMap<String, String>,
    found: &mut Violations,
) {
    if credentials.len() > MAX_CREDENTIALS {
        found.add(field, format!("has more than {MAX_CREDENTIALS}"));
    }
    for (index, used) in credentials.iter().enumerate().take(MAX_CREDENTIALS) {
        let field = format!("{field}[{index}]");
        if !check::is_word(&used.credential) {
            found.add(&format!("{field}.credential"), "must be 1 to 64 characters of a-z, 0-9, _ and -");
        }
        match &used.place {
            None if used.prefix.is_empty() => {}
            None => found.add(&format!("{field}.prefix"), "is for a credential with a place only"),
            Some(CredentialPlace::Header(name))
                if !::grpc::is_metadata_name(name) || name.ends_with("-bin") =>
            {
                let told = "cannot be set: metadata names have a-z, 0-9, _, - and ., and do not end in -bin";
                found.add(&format!("{field}.header"), format!("{name:?} {told}"));
            }
            Some(CredentialPlace::Header(name)) if metadata.contains_key(name) => {
                found.add(&format!("{field}.header"), format!("{name:?} is set by the metadata already"));
            }
            Some(CredentialPlace::Header(_)) => {}
            Some(CredentialPlace::Query(_) | CredentialPlace::Cookie(_) | CredentialPlace::Env(_)) => {
                found.add(&field, "has no such place in a gRPC call: set header, or no place");
            }
        }
    }
}
