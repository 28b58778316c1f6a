//! multipart/form-data (RFC 7578): an object as a form with a part for each member. Pure. No value may end its part.

use serde_json::{Map, Value};

use super::{body, plain, schema, wrong};
use crate::outcome::ToolError;

/// A form.
pub(super) struct Form {
    pub boundary: String,
    pub bytes: Vec<u8>,
}

/// One part.
struct Part {
    name: String,
    bytes: Vec<u8>,
    /// Of what is no plain text.
    media_type: Option<String>,
    is_file: bool,
}

/// Writes an object, which is described by `described` within the schema `root`. An array is a part for each item;
/// what is nested is JSON; a text that stands for bytes is a file.
pub(super) fn write(object: &Map<String, Value>, root: &Value, described: &Value) -> Result<Form, ToolError> {
    let mut parts = Vec::new();
    for (name, value) in object {
        let schema = schema::member(root, described, name).unwrap_or(&Value::Null);
        let (values, schema) = match value.as_array() {
            Some(items) => (items.as_slice(), schema::items(root, schema).unwrap_or(&Value::Null)),
            None => (std::slice::from_ref(value), schema),
        };
        for value in values.iter().filter(|value| !value.is_null()) {
            parts.push(part(name, value, root, schema)?);
        }
    }
    let boundary = boundary(&parts);
    let mut bytes = Vec::new();
    for part in &parts {
        bytes.extend_from_slice(format!("--{boundary}\r\n{}\r\n", head(part)).as_bytes());
        bytes.extend_from_slice(&part.bytes);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok(Form { boundary, bytes })
}

fn part(name: &str, value: &Value, root: &Value, schema: &Value) -> Result<Part, ToolError> {
    // In a part's head goes what the definition says, if it can stand in a header at all.
    let said = schema::media_type(root, schema);
    let said = said.filter(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b))).map(str::to_owned);
    let name = name.to_owned();
    if schema::is_binary(root, schema) {
        let bytes = value.as_str().and_then(body::decoded);
        let bytes = bytes.ok_or_else(|| wrong(&name, "must be base64 text (RFC 4648)"))?;
        let media_type = said.or_else(|| Some("application/octet-stream".into()));
        return Ok(Part { name, bytes, media_type, is_file: true });
    }
    let is_nested = value.is_object() || value.is_array();
    let media_type = said.or_else(|| is_nested.then(|| "application/json".into()));
    Ok(Part { name, bytes: plain(value).into_bytes(), media_type, is_file: false })
}

/// The head of a part. In a name, what would end it stands as HTML says (section 4.10.22.8, multipart form data).
fn head(part: &Part) -> String {
    let name = part.name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let file = if part.is_file { format!("; filename=\"{name}\"") } else { String::new() };
    let kind = part.media_type.as_ref().map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
    format!("Content-Disposition: form-data; name=\"{name}\"{file}\r\n{kind}")
}

/// A text that no part holds.
fn boundary(parts: &[Part]) -> String {
    loop {
        let boundary = format!("toolcrib-{}", types::new_id().simple());
        let holds =
            |part: &Part| part.bytes.windows(boundary.len()).any(|bytes| bytes == boundary.as_bytes());
        if !parts.iter().any(holds) {
            return boundary;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(object: &Value, schema: &Value) -> Result<String, ToolError> {
        let form = write(object.as_object().unwrap(), schema, schema)?;
        Ok(String::from_utf8(form.bytes).unwrap().replace(&form.boundary, "B").replace("\r\n", "\n"))
    }

    #[test]
    fn texts_lists_objects_and_files_are_parts() {
        let schema = json!({"properties": {
            "file": {"type": "string", "format": "binary", "contentMediaType": "text/csv"},
            "more": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
        }});
        let object = json!({
            "file": "aMOp", "meta": {"a": [1]}, "more": ["eA==", "eQ"], "none": null, "tag": ["u", 2], "text": "l1\nl2",
        });
        let part =
            |head: &str, body: &str| format!("--B\nContent-Disposition: form-data; {head}\n\n{body}\n");
        let expected = [
            part("name=\"file\"; filename=\"file\"\nContent-Type: text/csv", "hé"),
            part("name=\"meta\"\nContent-Type: application/json", "{\"a\":[1]}"),
            part("name=\"more\"; filename=\"more\"\nContent-Type: application/octet-stream", "x"),
            part("name=\"more\"; filename=\"more\"\nContent-Type: application/octet-stream", "y"),
            part("name=\"tag\"", "u"),
            part("name=\"tag\"", "2"),
            part("name=\"text\"", "l1\nl2"),
            "--B--\n".to_owned(),
        ];
        assert_eq!(written(&object, &schema).unwrap(), expected.concat());
        assert_eq!(written(&json!({}), &schema).unwrap(), "--B--\n");
        let error = written(&json!({"file": "?"}), &schema).unwrap_err();
        assert!(error.message.contains("argument file must be base64"), "{error:?}");
    }

    #[test]
    fn no_name_or_media_type_adds_a_line_to_a_head() {
        let sly = "a\"\r\nX-Evil: 1";
        let schema = json!({"properties": {sly: {"contentMediaType": "text/plain\r\nX-Evil: 1"}}});
        let text = written(&json!({ sly: "v" }), &schema).unwrap();
        assert_eq!(text, "--B\nContent-Disposition: form-data; name=\"a%22%0D%0AX-Evil: 1\"\n\nv\n--B--\n");
    }
}
