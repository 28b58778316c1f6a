//! `OpenAPI` documents, feature by feature: what becomes of them, and that nothing else does.
#![allow(clippy::needless_pass_by_value, reason = "documents are written where they are used")]

mod arguments;
mod operations;
mod reading;
mod schemas;
mod servers;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use types::{Category, Effect};

use super::*;
use crate::{
    check::Origin,
    definition::{
        Binding, CredentialPlace, Definition, Http, HttpBodyFormat, HttpLocation, HttpStyle, NextPage,
    },
};

fn request(document: impl Into<Vec<u8>>) -> Request {
    Request {
        source: Source::Document(document.into()),
        provider: "api".into(),
        server_url: String::new(),
        selection: Selection::default(),
        credentials: BTreeMap::new(),
        defaults: Defaults { trust_effects: true, ..Defaults::default() },
        allow_private_network: false,
        validate_only: false,
    }
}

/// A document of 3.1 with these paths and components.
fn document(paths: Value, components: Value) -> Vec<u8> {
    versioned("3.1.0", paths, components)
}

fn versioned(version: &str, paths: Value, components: Value) -> Vec<u8> {
    json!({"openapi": version, "info": {"title": "Test", "version": "1"},
        "servers": [{"url": "https://api.example.com/v1/"}], "paths": paths, "components": components})
    .to_string()
    .into_bytes()
}

struct Made {
    definition: Definition,
    notes: String,
}

impl Made {
    fn http(&self) -> &Http {
        let Binding::Http(http) = &self.definition.binding else { panic!("not http") };
        http
    }

    fn input(&self) -> Value {
        serde_json::from_str(&self.definition.input_schema).unwrap()
    }

    fn output(&self) -> Value {
        match self.definition.output_schema.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        }
    }

    fn accepts(&self, arguments: &Value) -> bool {
        jsonschema::validator_for(&self.input()).unwrap().is_valid(arguments)
    }

    fn parameter(&self, argument: &str) -> (HttpLocation, String, HttpStyle, bool, bool) {
        let mut parameters = self.http().parameters.iter();
        let found = parameters.find(|parameter| parameter.argument == argument).unwrap();
        (found.location, found.name.clone(), found.style, found.explode, found.json)
    }
}

/// Every operation by its source: the checked tool, or why there is none.
fn made(request: Request) -> BTreeMap<String, Result<Made, String>> {
    let candidates = candidates(request).unwrap();
    let made = candidates.into_iter().map(|candidate| {
        let checked = candidate.proposal.and_then(|proposal| {
            check::check(proposal, Origin::Import).map_err(|found| format!("{:?}", found.0))
        });
        let notes = candidate.notes.join("; ");
        (candidate.source, checked.map(|definition| Made { definition, notes }))
    });
    made.collect()
}

/// The tool of the only operation.
fn one(document: Vec<u8>) -> Made {
    only(made(request(document)))
}

fn only(mut all: BTreeMap<String, Result<Made, String>>) -> Made {
    assert_eq!(all.len(), 1);
    all.pop_first().unwrap().1.unwrap_or_else(|reason| panic!("{reason}"))
}

fn refusal(request: Request) -> String {
    candidates(request).map(|made| made.len()).unwrap_err().to_string()
}
