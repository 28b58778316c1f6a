//! The body of a request: how it is written, and of what. Pure. Must never send what was not meant for the body.

use std::collections::BTreeSet;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use proto::registry::v1::{HttpBinding, HttpBody, HttpBodyFormat as Format};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

use super::{faulty, multipart, plain, schema, unfit, wrong};
use crate::outcome::ToolError;

/// Largest body, in bytes.
const LARGEST: usize = 8 << 20;

/// What the body of a binding is made of, and where its arguments stand.
pub(super) struct Given<'a> {
    pub arguments: &'a Map<String, Value>,
    /// Arguments that stand elsewhere.
    pub placed: &'a BTreeSet<&'a str>,
    /// The tool's input schema, as JSON text.
    pub input_schema: &'a str,
}

/// Whether an argument that stands nowhere else is part of the body.
pub(super) fn takes(binding: &HttpBinding, argument: &str) -> bool {
    match &binding.body {
        Some(body) => body.argument.is_empty() || body.argument == argument,
        None => binding.body_json,
    }
}

/// The body, whose content-type is set; `None`: no body.
pub(super) fn write(
    binding: &HttpBinding,
    given: &Given<'_>,
    headers: &mut HeaderMap,
) -> Result<Option<Bytes>, ToolError> {
    let json = HttpBody { format: Format::Json.into(), ..HttpBody::default() };
    let Some(body) = binding.body.as_ref().or_else(|| binding.body_json.then_some(&json)) else {
        return Ok(None);
    };
    let rest;
    let value = if body.argument.is_empty() {
        rest = Value::Object(rest_of(given));
        &rest
    } else {
        match given.arguments.get(&body.argument) {
            None => return Ok(None),
            Some(Value::Null) if body.format() != Format::Json => return Ok(None),
            Some(value) => value,
        }
    };
    let (bytes, content_type) = written(body, value, given.input_schema)?;
    // What is no more than the arguments is bounded as they are.
    if binding.body.is_some() && bytes.len() > LARGEST {
        return Err(unfit(format!(
            "the arguments make a body of {} bytes; at most {LARGEST} are sent",
            bytes.len()
        )));
    }
    set_type(body, content_type, headers)?;
    Ok(Some(Bytes::from(bytes)))
}

fn rest_of(given: &Given<'_>) -> Map<String, Value> {
    let rest = given.arguments.iter().filter(|(name, _)| !given.placed.contains(name.as_str()));
    rest.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The body as bytes, with the content-type of its format.
fn written(body: &HttpBody, value: &Value, input_schema: &str) -> Result<(Vec<u8>, String), ToolError> {
    let name = if body.argument.is_empty() { "body" } else { &body.argument };
    let object = || value.as_object().ok_or_else(|| wrong(name, "must be an object"));
    Ok(match body.format() {
        Format::Json => (value.to_string().into_bytes(), "application/json".into()),
        Format::Form => (form(object()?), "application/x-www-form-urlencoded".into()),
        Format::Multipart => {
            let root: Value = serde_json::from_str(input_schema).unwrap_or_default();
            let schema = if body.argument.is_empty() {
                Some(&root)
            } else {
                schema::member(&root, &root, &body.argument)
            };
            let form = multipart::write(object()?, &root, schema.unwrap_or(&Value::Null))?;
            (form.bytes, format!("multipart/form-data; boundary={}", form.boundary))
        }
        // An object of arguments is no text.
        Format::Text | Format::Base64 if body.argument.is_empty() => {
            return Err(faulty("body: its format needs an argument"));
        }
        Format::Text => (plain(value).into_bytes(), "text/plain; charset=utf-8".into()),
        Format::Base64 => {
            let bytes = value.as_str().and_then(decoded);
            let bytes = bytes.ok_or_else(|| wrong(name, "must be base64 text (RFC 4648)"))?;
            (bytes, "application/octet-stream".into())
        }
        Format::Unspecified => return Err(faulty("body: it has no format")),
    })
}

/// The pairs of a form; an array is a pair for each item, and what is nested is JSON.
fn form(object: &Map<String, Value>) -> Vec<u8> {
    let mut form = Serializer::new(String::new());
    for (name, value) in object {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values.iter().filter(|value| !value.is_null()) {
            form.append_pair(name, &plain(value));
        }
    }
    form.finish().into_bytes()
}

/// Bytes of base64 text in either alphabet, with or without padding and line breaks (RFC 4648, RFC 2045).
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}

/// What the definition says of the content-type comes before what the format has; a form's boundary must be told.
fn set_type(body: &HttpBody, of_format: String, headers: &mut HeaderMap) -> Result<(), ToolError> {
    let parse = |text: String| HeaderValue::try_from(text).map_err(|_| faulty("body: its content-type"));
    let boundary = of_format.split_once(';').filter(|_| body.format() == Format::Multipart);
    match (body.content_type.as_str(), boundary) {
        ("", None) => drop(headers.entry(CONTENT_TYPE).or_insert(parse(of_format)?)),
        ("", Some(_)) => drop(headers.insert(CONTENT_TYPE, parse(of_format)?)),
        (own, None) => drop(headers.insert(CONTENT_TYPE, parse(own.to_owned())?)),
        (own, Some((_, boundary))) => {
            let media = own.split(';').next().unwrap_or_default().trim();
            headers.insert(CONTENT_TYPE, parse(format!("{media};{boundary}"))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The body of these arguments, of which "id" stands elsewhere, and its content-type.
    fn body(
        format: Format,
        argument: &str,
        arguments: &Value,
    ) -> Result<Option<(String, String)>, ToolError> {
        typed(format, argument, "", &mut HeaderMap::new(), arguments)
    }

    fn typed(
        format: Format,
        argument: &str,
        content_type: &str,
        headers: &mut HeaderMap,
        arguments: &Value,
    ) -> Result<Option<(String, String)>, ToolError> {
        let body =
            HttpBody { format: format.into(), argument: argument.into(), content_type: content_type.into() };
        let binding = HttpBinding { body: Some(body), ..HttpBinding::default() };
        let placed = BTreeSet::from(["id"]);
        let arguments = arguments.as_object().unwrap();
        let given = Given { arguments, placed: &placed, input_schema: "" };
        let bytes = write(&binding, &given, headers)?;
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
        Ok(bytes.map(|bytes| (String::from_utf8_lossy(&bytes).into_owned(), kind.unwrap())))
    }

    #[test]
    fn each_format_is_written_in_its_way() {
        let all = json!({"id": 1, "b": {"n": null, "x": ["a b", 2, null], "y": {"z": 1}}});
        let json = "application/json";
        for (format, argument, expected, kind) in [
            (Format::Json, "b", r#"{"n":null,"x":["a b",2,null],"y":{"z":1}}"#, json),
            (Format::Json, "", r#"{"b":{"n":null,"x":["a b",2,null],"y":{"z":1}}}"#, json),
            (Format::Form, "b", "x=a+b&x=2&y=%7B%22z%22%3A1%7D", "application/x-www-form-urlencoded"),
            (Format::Text, "id", "1", "text/plain; charset=utf-8"),
        ] {
            let found = body(format, argument, &all).unwrap().unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str()), (expected, kind), "{format:?} {argument}");
        }
        let text = body(Format::Text, "b", &json!({"b": "a\r\nb"})).unwrap().unwrap();
        assert_eq!(text.0, "a\r\nb");
    }

    #[test]
    fn an_argument_that_is_not_given_is_no_body() {
        for format in [Format::Json, Format::Form, Format::Multipart, Format::Text, Format::Base64] {
            assert!(body(format, "b", &json!({"id": 1})).unwrap().is_none(), "{format:?}");
        }
        assert!(body(Format::Form, "b", &json!({"b": null})).unwrap().is_none());
        assert_eq!(body(Format::Json, "b", &json!({"b": null})).unwrap().unwrap().0, "null");
        assert_eq!(body(Format::Json, "", &json!({"id": 1})).unwrap().unwrap().0, "{}");
    }

    #[test]
    fn base64_is_sent_as_the_bytes_it_stands_for() {
        for text in ["aMOpPz8/", "aMOpPz8_", "aMOp\nPz8/\n"] {
            let found = body(Format::Base64, "b", &json!({ "b": text })).unwrap().unwrap();
            assert_eq!(found, ("hé???".into(), "application/octet-stream".into()), "{text}");
        }
        assert_eq!(body(Format::Base64, "b", &json!({"b": "aA"})).unwrap().unwrap().0, "h");
        for wrong in [json!("a"), json!("é"), json!("aMOp*"), json!(7)] {
            let error = body(Format::Base64, "b", &json!({ "b": wrong })).unwrap_err();
            assert!(error.message.contains("argument b must be base64"), "{error:?}");
        }
    }

    #[test]
    fn the_content_type_is_the_definitions_own() {
        let mut headers = HeaderMap::new();
        let given = json!({"b": {"a": 1}});
        let merge = typed(Format::Json, "b", "application/merge-patch+json", &mut headers, &given);
        assert_eq!(merge.unwrap().unwrap().1, "application/merge-patch+json");
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/csv"))]);
        let fixed = typed(Format::Text, "b", "", &mut headers, &json!({"b": "a,b"}));
        assert_eq!(fixed.unwrap().unwrap().1, "text/csv");
        let mixed = typed(Format::Multipart, "b", "multipart/mixed", &mut headers, &given).unwrap().unwrap();
        assert!(mixed.1.starts_with("multipart/mixed; boundary="), "{mixed:?}");
    }

    #[test]
    fn what_is_no_body_is_refused() {
        for (format, argument, given) in [
            (Format::Form, "b", json!({"b": "a=1"})),
            (Format::Multipart, "b", json!({"b": [1]})),
            (Format::Json, "b", json!({"b": "x".repeat(LARGEST)})),
        ] {
            let error = body(format, argument, &given).unwrap_err();
            assert!(error.message.len() < 200, "{error:?}");
        }
        for (format, argument) in [(Format::Text, ""), (Format::Base64, ""), (Format::Unspecified, "b")] {
            let error = body(format, argument, &json!({"b": 1})).unwrap_err();
            assert!(error.message.contains("faulty"), "{error:?}");
        }
    }
}
