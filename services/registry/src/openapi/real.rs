//! Two large documents that other people made, as their packages have them: GitHub's (`OpenAPI` 3.0, JSON) and Figma's
//! (3.1, YAML). `scripts/install-openapi-documents` fetches them.

use std::{collections::BTreeSet, time::Instant};

use super::*;
use crate::check::Origin;

const INSTALL: &str = "scripts/install-openapi-documents";

struct Read {
    /// Name and source of every tool.
    taken: Vec<(String, String)>,
    refused: Vec<String>,
    notes: Vec<String>,
}

fn read(document: &[u8], provider: &str) -> Read {
    let request = Request {
        source: Source::Document(document.to_vec()),
        provider: provider.into(),
        server_url: String::new(),
        selection: Selection::default(),
        credentials: BTreeMap::new(),
        defaults: Defaults::default(),
        allow_private_network: false,
        validate_only: false,
    };
    let started = Instant::now();
    let candidates = candidates(request).unwrap();
    let made = started.elapsed();
    let mut read = Read { taken: vec![], refused: vec![], notes: vec![] };
    let (mut input, mut output) = (0, 0);
    for candidate in candidates {
        let checked = candidate.proposal.and_then(|proposal| {
            check::check(proposal, Origin::Import).map_err(|found| format!("{:?}", found.0))
        });
        match checked {
            Ok(definition) => {
                input += definition.input_schema.len();
                output += definition.output_schema.len();
                read.taken.push((candidate.name, candidate.source));
            }
            Err(reason) => read.refused.push(format!("{}: {reason}", candidate.source)),
        }
        read.notes.extend(candidate.notes);
    }
    println!(
        "{provider}: {} tools, {} refused, {} notes; made in {made:?}, checked in {:?}; {} KB of input, {} KB of output",
        read.taken.len(),
        read.refused.len(),
        read.notes.len(),
        started.elapsed().saturating_sub(made),
        input / 1_024,
        output / 1_024
    );
    read
}

fn document(name: &str) -> Option<Vec<u8>> {
    Some(std::fs::read(testkit::installed(format!("openapi/{name}"), INSTALL)?).unwrap())
}

fn are_unique(taken: &[(String, String)]) -> bool {
    taken.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len() == taken.len()
}

#[test]
fn github_becomes_tools_of_which_every_schema_compiles() {
    let Some(text) = document("github.json") else { return };
    let read = read(&text, "github");
    assert_eq!(read.refused, Vec::<String>::new());
    assert_eq!(read.taken.len(), 1_223);
    assert!(are_unique(&read.taken));
    for (name, source) in [
        ("github.repos_list-for-user", "GET /users/{username}/repos"),
        ("github.issues_create", "POST /repos/{owner}/{repo}/issues"),
        ("github.repos_get-content", "GET /repos/{owner}/{repo}/contents/{path}"),
    ] {
        assert!(read.taken.contains(&(name.to_owned(), source.to_owned())), "{name}");
    }
}

#[test]
fn figma_becomes_tools_the_same_in_yaml_and_json() {
    let Some(text) = document("figma.yaml") else { return };
    let from_yaml = read(&text, "figma");
    assert_eq!(from_yaml.refused, Vec::<String>::new());
    assert_eq!(from_yaml.taken.len(), 54);
    assert!(are_unique(&from_yaml.taken));
    let root = Document::read(&text).unwrap().root;
    let mut from_json = read(root.to_string().as_bytes(), "figma").taken;
    let mut taken = from_yaml.taken;
    taken.sort();
    from_json.sort();
    assert_eq!(taken, from_json);
}
