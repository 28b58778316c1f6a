//! Results too large to travel: kept as a file of the task's workspace, where the team's other tools find them, with
//! a reference in their place.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Executor,
    builtin::files,
    outcome::{ToolError, ToolErrorCode},
    run::Run,
};

/// Bytes of a result that its reference shows.
const PREVIEW: usize = 2_048;
/// Folder of the workspace that holds artifacts.
const FOLDER: &str = "artifacts";

/// Writes a result as a file, and gives the reference to it as JSON text:
/// `{"artifact": {"path", "bytes", "sha256", "media_type"}, "preview"}`.
pub(crate) async fn keep(executor: &Executor, run: &Run, text: String) -> Result<String, ToolError> {
    let path = path(run.execution.id);
    let reference = reference(&path, &text).to_string();
    let workspace = executor.drivers.workspace(&run.caller.team, &run.execution.task_id);
    let file = json!({ "operation": "write", "path": path, "content": text, "recursive": true });
    files::run(workspace, file).await.map_err(|error| {
        let message = format!("the result is too large to travel and cannot be kept: {}", error.message);
        ToolError::new(ToolErrorCode::ResultTooLarge, message)
    })?;
    Ok(reference)
}

/// Where the result of an execution is kept, in the workspace of its task.
pub(crate) fn path(execution: Uuid) -> String {
    format!("{FOLDER}/{execution}.json")
}

/// Whether a result is a reference to a file.
pub(crate) fn is_reference(text: &str) -> bool {
    text.starts_with(r#"{"artifact":{"#)
}

/// A result as it is stored: the preview is cut from JSON text, and what no one can parse no one can sanitise.
pub(crate) fn to_store(text: &str, value: &mut Value) {
    if is_reference(text)
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("preview");
    }
}

fn reference(path: &str, text: &str) -> Value {
    let mut end = PREVIEW.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let artifact = json!({
        "path": path,
        "bytes": text.len(),
        "sha256": types::digest_bytes(text.as_bytes()),
        "media_type": "application/json",
    });
    json!({ "artifact": artifact, "preview": &text[..end] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_tells_where_the_whole_is_and_shows_its_beginning() {
        let text = format!("\"{}\"", "ä".repeat(3_000));
        let made = reference("artifacts/x.json", &text);
        assert!(is_reference(&made.to_string()));
        assert_eq!(made["artifact"]["bytes"], 6_002);
        assert_eq!(made["artifact"]["sha256"], types::digest_bytes(text.as_bytes()));
        assert!(made["preview"].as_str().unwrap().len() <= PREVIEW);
        assert!(!is_reference(&text));
        let (mut stored, mut other) = (made.clone(), json!({ "preview": "x" }));
        to_store(&made.to_string(), &mut stored);
        assert_eq!(stored, json!({ "artifact": made["artifact"] }));
        to_store(&other.to_string(), &mut other);
        assert_eq!(other, json!({ "preview": "x" }));
    }
}
