//! Finds which reference of a schema leads nowhere. Resolves none itself, and never asks another machine.

use serde_json::Value;

use crate::{
    Fault,
    cost::decoded,
    fault::{brief, step},
};

/// Keywords whose value is a reference.
const REFERENCES: [&str; 4] = ["$ref", "$dynamicRef", "$recursiveRef", "$schema"];
/// Keywords whose value is no schema, whatever it looks like.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];

/// The fault of the reference that the validator stumbled over.
pub(crate) fn fault(schema: &Value, error: &jsonschema::ReferencingError) -> Fault {
    let culprit = find(schema, error, &mut Vec::new());
    let (pointer, told) = match &culprit {
        Some((pointer, reference)) => (pointer.as_str(), format!("refers to {:?}", brief(reference))),
        None => ("", "has a reference".to_owned()),
    };
    let why = match error {
        jsonschema::ReferencingError::Unretrievable { .. } => {
            "which is not in the schema, and nothing is fetched: put what it means into $defs".to_owned()
        }
        jsonschema::ReferencingError::UnknownSpecification { .. } => {
            "which is no draft of JSON Schema that is known; leave it out for 2020-12".to_owned()
        }
        other => format!("which leads nowhere: {}", brief(&other.to_string())),
    };
    Fault::at(pointer, format!("{told}, {why}"))
}

/// Pointer and text of the first reference that the error speaks of.
fn find(
    value: &Value,
    error: &jsonschema::ReferencingError,
    path: &mut Vec<String>,
) -> Option<(String, String)> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(n, item)| (format!("/{n}"), item)).collect(),
        Value::Object(members) => {
            for keyword in REFERENCES {
                let reference = members.get(keyword).and_then(Value::as_str);
                if let Some(reference) = reference.filter(|reference| is_meant(reference, error)) {
                    return Some((format!("{}/{keyword}", path.concat()), reference.to_owned()));
                }
            }
            let schemas = members.iter().filter(|(name, _)| !DATA.contains(&name.as_str()));
            schemas.map(|(name, member)| (step(name), member)).collect()
        }
        _ => return None,
    };
    for (name, member) in inner {
        path.push(name);
        if let Some(found) = find(member, error, path) {
            return Some(found);
        }
        path.pop();
    }
    None
}

/// The error has the reference as it was resolved, which ends as it was written.
fn is_meant(reference: &str, error: &jsonschema::ReferencingError) -> bool {
    use jsonschema::ReferencingError as E;
    let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    match error {
        E::Unretrievable { uri, .. } => {
            let uri = uri.split_once('#').map_or(uri.as_str(), |(address, _)| address);
            let written = address.trim_start_matches("./").trim_start_matches("../");
            !written.is_empty() && uri.to_lowercase().ends_with(&written.to_lowercase())
        }
        E::PointerToNowhere { pointer }
        | E::InvalidPercentEncoding { pointer, .. }
        | E::InvalidArrayIndex { pointer, .. } => {
            !fragment.is_empty() && (fragment == pointer || decoded(fragment) == *pointer)
        }
        E::NoSuchAnchor { anchor } | E::InvalidAnchor { anchor } => {
            !fragment.is_empty() && (fragment == anchor || decoded(fragment) == *anchor)
        }
        E::UnknownSpecification { specification } => {
            reference.trim_end_matches('#') == specification.trim_end_matches('#')
        }
        E::CircularMetaschema { uri } => reference == uri,
        E::InvalidUri(_) => reference.contains(|c: char| c.is_whitespace() || "<>\"{}|\\^`".contains(c)),
    }
}
