//! The body of a request: which media type is sent, and how an argument becomes it. No I/O.

use serde_json::{Map, Value, json};

use super::{
    document::{Document, Node},
    media,
    schema::{Direction, Part, Schemas, schema_of},
};
use crate::definition::{HttpBody, HttpBodyFormat};

/// The argument that is the body.
pub(super) const ARGUMENT: &str = "body";

/// The body of an operation.
#[derive(Debug)]
pub(super) struct Body {
    pub http: HttpBody,
    pub schema: Part,
    pub required: bool,
}

/// The body that an operation takes; `None`: none.
pub(super) fn body<'a>(
    document: &'a Document,
    schemas: &Schemas<'a>,
    operation: &Node<'a>,
    method: &str,
    notes: &mut Vec<String>,
) -> Result<Option<Body>, String> {
    let Some(node) = operation.get("requestBody") else { return Ok(None) };
    let node = document.resolve(node)?;
    let content = node.get("content");
    let best = content.iter().flat_map(Node::members).min_by_key(|(name, _)| media::body_format(name).0);
    let Some((media_type, media)) = best else { return Ok(None) };
    if method == "GET" {
        // RFC 9110, section 9.3.1: it has no meaning.
        notes.push("a GET request has no body: left out".to_owned());
        return Ok(None);
    }
    let (_, format) = media::body_format(media_type);
    let mut schema = match format {
        HttpBodyFormat::Json | HttpBodyFormat::Form | HttpBodyFormat::Multipart => {
            schemas.convert(&schema_of(&media), Direction::Request)?
        }
        HttpBodyFormat::Text => Part::plain(json!({"type": "string", "contentMediaType": media_type})),
        HttpBodyFormat::Base64 => Part::plain(json!({
            "type": "string", "contentEncoding": "base64", "contentMediaType": media_type,
            "description": "The content, in base64.",
        })),
    };
    if schema.schema == Value::Bool(true) {
        schema.schema = json!({});
    }
    if format == HttpBodyFormat::Multipart {
        inline(document, schemas, &media, &mut schema)?;
        mark_files(&mut schema.schema);
    }
    let description = node.text("description").trim();
    if let (Some(members), false) = (schema.schema.as_object_mut(), description.is_empty()) {
        members.insert("description".into(), description.into());
    }
    if matches!(format, HttpBodyFormat::Form | HttpBodyFormat::Multipart) {
        as_object(&mut schema.schema);
    }
    let content_type = media::content_type(media_type, format);
    let http = HttpBody { format, argument: ARGUMENT.to_owned(), content_type };
    Ok(Some(Body { http, schema, required: node.is("required") }))
}

/// What a form is made of has to stand in the argument's own schema, where the files are marked.
fn inline<'a>(
    document: &'a Document,
    schemas: &Schemas<'a>,
    media: &Node<'a>,
    part: &mut Part,
) -> Result<(), String> {
    if part.schema.get("$ref").is_none() {
        return Ok(());
    }
    let target = document.resolve(schema_of(media))?;
    *part = schemas.convert(&target, Direction::Request)?;
    Ok(())
}

/// Files are sent as base64, which the schema says where the document says that they are binary.
fn mark_files(schema: &mut Value) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for property in properties.values_mut() {
        let item = if property.get("type") == Some(&json!("array")) {
            property.get_mut("items")
        } else {
            Some(property)
        };
        let Some(Value::Object(members)) = item else { continue };
        if is_file(members) {
            members.entry("type").or_insert_with(|| "string".into());
            members.insert("contentEncoding".into(), "base64".into());
        }
    }
}

fn is_file(members: &Map<String, Value>) -> bool {
    let text = |key: &str| members.get(key).and_then(Value::as_str).unwrap_or_default();
    let is_binary_type =
        text("contentMediaType") == "application/octet-stream" && text("contentEncoding").is_empty();
    text("format") == "binary" || is_binary_type
}

/// Forms are objects, also where the document does not say so.
fn as_object(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    let is_open = ["type", "$ref", "allOf", "anyOf", "oneOf"].iter().all(|key| !members.contains_key(*key));
    if is_open {
        members.insert("type".into(), "object".into());
    }
}
