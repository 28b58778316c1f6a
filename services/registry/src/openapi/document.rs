//! An `OpenAPI` document: its version, and where its references lead. References lead within the document or nowhere:
//! nothing is ever fetched. No I/O.

use serde_json::Value;

use super::read::{self, Read};
use crate::Error;

/// Longest chain of references.
const MAX_CHAIN: usize = 32;

/// Which version of `OpenAPI` a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V3_0,
    V3_1,
}

/// A document.
#[derive(Debug)]
pub(super) struct Document {
    pub root: Value,
    pub version: Version,
    /// Its paths and their methods, in its own order.
    pub order: Vec<(String, Vec<String>)>,
}

/// A value of the document, and where it stands: a JSON pointer (RFC 6901).
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    pub at: String,
}

impl<'a> Node<'a> {
    /// A member, or an item by its number.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = match self.value {
            Value::Object(members) => members.get(key)?,
            Value::Array(items) => items.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
        Some(Self { value, at: below(&self.at, key) })
    }

    /// A text among its members; empty: none.
    pub(super) fn text(&self, key: &str) -> &'a str {
        self.value.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether a member is true.
    pub(super) fn is(&self, key: &str) -> bool {
        self.value.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Its items, if it is a list.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> + use<'a> {
        let at = self.at.clone();
        let items = self.value.as_array().map_or(&[][..], Vec::as_slice).iter().enumerate();
        items.map(move |(index, value)| Self { value, at: format!("{at}/{index}") })
    }

    /// Its members, if it is an object.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a String, Self)> + use<'a> {
        let at = self.at.clone();
        let members = self.value.as_object().into_iter().flatten();
        members.map(move |(key, value)| (key, Self { value, at: below(&at, key) }))
    }
}

/// The pointer to a member.
pub(super) fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

impl Document {
    /// Reads a document of any supported version.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |told: String| Error::invalid("document", told);
        let Read { root, order } = read::read(bytes).map_err(wrong)?;
        let said = root.get("openapi").map(|version| match version {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let version = match (said.as_deref(), root.get("swagger")) {
            (Some(text), _) if is_version(text, "3.0") => Version::V3_0,
            (Some(text), _) if is_version(text, "3.1") => Version::V3_1,
            (Some(other), _) => {
                return Err(wrong(format!("is OpenAPI {other:.20}; 3.0 and 3.1 are taken")));
            }
            (None, Some(_)) => {
                let remedy = "convert it to OpenAPI 3.0 first, or register its operations one by one";
                return Err(wrong(format!("is Swagger 2.0, which is not taken: {remedy}")));
            }
            (None, None) => return Err(wrong("is not an OpenAPI document: it has no \"openapi\"".into())),
        };
        if !root.get("paths").is_some_and(Value::is_object) {
            return Err(wrong("has no paths, and so no operations".into()));
        }
        Ok(Self { root, version, order })
    }

    /// The root.
    pub(super) fn root(&self) -> Node<'_> {
        Node { value: &self.root, at: String::new() }
    }

    /// What a node stands for: itself, or where its reference leads.
    pub(super) fn resolve<'a>(&'a self, mut node: Node<'a>) -> Result<Node<'a>, String> {
        for _ in 0..MAX_CHAIN {
            let Some(reference) = node.value.get("$ref") else { return Ok(node) };
            node = self.target(reference, &node.at)?;
        }
        Err(format!("the references at {} lead in a circle", node.at))
    }

    /// Where a reference leads; `at` is the node that holds it.
    pub(super) fn target(&self, reference: &Value, at: &str) -> Result<Node<'_>, String> {
        let Some(text) = reference.as_str() else {
            return Err(format!("$ref at {at} is not a text"));
        };
        let shown: String = text.chars().take(200).collect();
        let Some(pointer) = text.strip_prefix('#') else {
            return Err(format!(
                "$ref {shown:?} at {at} leads out of the document, and nothing is fetched: put what it names into \
                 the document"
            ));
        };
        let pointer = decoded(pointer);
        let found = self.root.pointer(&pointer).filter(|_| !pointer.is_empty());
        let value = found.ok_or_else(|| format!("$ref {shown:?} at {at} leads to nothing"))?;
        Ok(Node { value, at: pointer })
    }
}

fn is_version(text: &str, wanted: &str) -> bool {
    text.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Undoes the percent-encoding of a fragment (RFC 6901, section 6).
fn decoded(pointer: &str) -> String {
    if !pointer.contains('%') {
        return pointer.to_owned();
    }
    let (mut bytes, mut rest) = (Vec::new(), pointer.as_bytes());
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%');
        rest = if byte.is_some() { &after[2..] } else { after };
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Document::read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn versions_are_told_apart() {
        let read = |version: &str| {
            Document::read(format!("{{\"openapi\":{version},\"paths\":{{}}}}").as_bytes()).map(|d| d.version)
        };
        for (version, expected) in [
            ("\"3.0.0\"", Version::V3_0),
            ("\"3.0.4\"", Version::V3_0),
            ("\"3.1.1\"", Version::V3_1),
            ("3.1", Version::V3_1),
        ] {
            assert_eq!(read(version).unwrap(), expected);
        }
        for version in ["\"3.2.0\"", "\"4.0\"", "\"3.10.0\"", "null"] {
            assert!(read(version).unwrap_err().to_string().contains("3.0 and 3.1"), "{version}");
        }
        assert!(refused("swagger: '2.0'\npaths: {}").contains("Swagger 2.0"));
        assert!(refused("{\"a\":1}").contains("not an OpenAPI"));
        assert!(refused("openapi: 3.1.0\ninfo: {}").contains("no paths"));
    }

    #[test]
    fn references_lead_within_the_document_or_nowhere() {
        let text = r##"{"openapi":"3.1.0","paths":{},
            "components":{"parameters":{"a/b c":{"name":"x"},"loop":{"$ref":"#/components/parameters/pool"},
            "pool":{"$ref":"#/components/parameters/loop"}}}}"##;
        let document = Document::read(text.as_bytes()).unwrap();
        let resolve = |reference: &str| {
            let value = serde_json::json!({"$ref": reference});
            let node = Node { value: &value, at: "/here".into() };
            let resolved = document.target(&value["$ref"], &node.at).and_then(|node| document.resolve(node));
            resolved.map(|node| node.text("name").to_owned())
        };
        assert_eq!(resolve("#/components/parameters/a~1b%20c").unwrap(), "x");
        for (bad, says) in [
            ("https://example.com/x.json#/a", "https://example.com/x.json#/a"),
            ("other.yaml", "out of the document"),
            ("#/components/parameters/none", "nothing"),
            ("#", "nothing"),
            ("#/components/parameters/loop", "circle"),
        ] {
            let told = resolve(bad).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        assert!(resolve("other.yaml").unwrap_err().contains("/here"));
    }
}
