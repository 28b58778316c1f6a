//! `file_operations`: files in the workspace of one team and task. Every path is opened beneath the
//! workspace by the operating system (`openat2` through cap-std), never compared by its text.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};
use serde_json::{Value, json};

use super::text;
use crate::outcome::{Ended, ToolError, ToolErrorCode};

/// Largest file that is read or written at once, in bytes.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;
/// Most entries that are listed.
const MAX_ENTRIES: usize = 1_000;
/// Deepest folder that a recursive listing enters.
const MAX_DEPTH: usize = 32;

/// Runs one operation.
pub(crate) async fn run(workspace: PathBuf, arguments: Value) -> Ended {
    let work = tokio::task::spawn_blocking(move || operate(&workspace, &arguments));
    work.await
        .unwrap_or_else(|_| Err(ToolError::new(ToolErrorCode::ToolFailed, "the operation was cut short")))
}

fn operate(workspace: &Path, arguments: &Value) -> Ended {
    let operation = text(arguments, "operation").unwrap_or_default();
    let path = text(arguments, "path").filter(|path| !path.is_empty()).unwrap_or(".");
    let failed = |error: io::Error| failure(operation, path, &error);
    std::fs::create_dir_all(workspace).map_err(failed)?;
    let root = Dir::open_ambient_dir(workspace, ambient_authority()).map_err(failed)?;
    let done = match operation {
        "read" => read(&root, path, arguments),
        "write" => write(&root, path, arguments, false),
        "append" => write(&root, path, arguments, true),
        "list" => list(&root, path, arguments),
        "delete" => delete(&root, path, arguments),
        "stat" => stat(&root, path),
        "mkdir" => root.create_dir_all(path).map(|()| json!({})),
        _ => Err(io::Error::other("is no operation of this tool")),
    };
    let mut result = done.map_err(failed)?;
    result["operation"] = operation.into();
    result["path"] = path.into();
    Ok(result.to_string())
}

fn read(root: &Dir, path: &str, arguments: &Value) -> io::Result<Value> {
    let file = root.open(path)?;
    let size = file.metadata()?.len();
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let truncated = size > MAX_FILE_BYTES;
    let as_base64 = || json!({ "content": STANDARD.encode(&bytes), "encoding": "base64" });
    let mut result = if text(arguments, "encoding") == Some("base64") {
        as_base64()
    } else {
        match std::str::from_utf8(whole_characters(&bytes, truncated)) {
            Ok(content) => json!({ "content": content, "encoding": "utf-8" }),
            Err(_) => return Err(io::Error::other("is not UTF-8 text; read it with encoding base64")),
        }
    };
    result["size_bytes"] = size.into();
    result["truncated"] = truncated.into();
    Ok(result)
}

/// A cut may fall inside a character: its first bytes are left out.
fn whole_characters(bytes: &[u8], truncated: bool) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if truncated && error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

/// Writes a whole file beside the old one and renames it, so that a reader sees the old or the new.
fn write(root: &Dir, path: &str, arguments: &Value, append: bool) -> io::Result<Value> {
    let content = text(arguments, "content").ok_or_else(|| io::Error::other("needs content"))?;
    let bytes = match text(arguments, "encoding") {
        Some("base64") => STANDARD.decode(content).map_err(|_| io::Error::other("content is not base64"))?,
        _ => content.as_bytes().to_vec(),
    };
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "content is larger than {MAX_FILE_BYTES} bytes; append it in parts"
        )));
    }
    let path = Path::new(path);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        root.create_dir_all(parent)?;
    }
    if append {
        let mut file = root.open_with(path, OpenOptions::new().append(true).create(true))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        return Ok(json!({ "size_bytes": file.metadata()?.len() }));
    }
    let name = path.file_name().ok_or_else(|| io::Error::other("names no file"))?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), types::new_id().simple()));
    let written = replace(root, path, &temporary, &bytes);
    if written.is_err() {
        // Gone already when the rename failed half-way.
        let _ = root.remove_file(&temporary);
    }
    written.map(|()| json!({ "size_bytes": bytes.len() }))
}

fn replace(root: &Dir, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = root.create(temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    root.rename(temporary, root, path)
}

fn list(root: &Dir, path: &str, arguments: &Value) -> io::Result<Value> {
    let recursive = arguments.get("recursive").and_then(Value::as_bool).unwrap_or(false);
    let mut entries = Vec::new();
    let truncated = walk(&root.open_dir(path)?, "", recursive, 0, &mut entries)?;
    entries.sort_by(|a, b| a["path"].as_str().cmp(&b["path"].as_str()));
    Ok(json!({ "entries": entries, "truncated": truncated }))
}

/// Adds a folder's entries; `true` when there are more than may be listed. Links are named, not followed.
fn walk(
    folder: &Dir,
    prefix: &str,
    recursive: bool,
    depth: usize,
    entries: &mut Vec<Value>,
) -> io::Result<bool> {
    for entry in folder.entries()? {
        if entries.len() >= MAX_ENTRIES {
            return Ok(true);
        }
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        let word = match (kind.is_dir(), kind.is_file()) {
            (true, _) => "directory",
            (_, true) => "file",
            _ => "other",
        };
        let size = entry.metadata().map_or(0, |metadata| metadata.len());
        entries
            .push(json!({ "path": path, "type": word, "size_bytes": if kind.is_file() { size } else { 0 } }));
        if recursive && kind.is_dir() {
            let more = depth >= MAX_DEPTH
                || walk(&entry.open_dir()?, &format!("{path}/"), true, depth + 1, entries)?;
            if more {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn delete(root: &Dir, path: &str, arguments: &Value) -> io::Result<Value> {
    let recursive = arguments.get("recursive").and_then(Value::as_bool).unwrap_or(false);
    match (root.symlink_metadata(path)?.is_dir(), recursive) {
        (true, true) => root.remove_dir_all(path)?,
        (true, false) => root.remove_dir(path)?,
        (false, _) => root.remove_file(path)?,
    }
    Ok(json!({}))
}

fn stat(root: &Dir, path: &str) -> io::Result<Value> {
    let metadata = root.metadata(path)?;
    let word = if metadata.is_dir() { "directory" } else { "file" };
    let entry = json!({ "path": path, "type": word, "size_bytes": metadata.len() });
    Ok(json!({ "size_bytes": metadata.len(), "entries": [entry] }))
}

/// The system's words, without the machine's paths.
fn failure(operation: &str, path: &str, error: &io::Error) -> ToolError {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "lies outside the workspace or may not be reached".to_owned(),
        io::ErrorKind::DirectoryNotEmpty => "is not empty; delete it with recursive true".to_owned(),
        _ => error.to_string(),
    };
    ToolError::new(ToolErrorCode::ToolFailed, format!("{operation} {path}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(root: &Path, arguments: &Value) -> Result<Value, String> {
        let done = operate(root, arguments).map_err(|error| error.message)?;
        Ok(serde_json::from_str(&done).unwrap())
    }

    #[test]
    fn a_file_is_written_appended_read_listed_and_deleted() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        operation(root, &json!({"operation": "write", "path": "a/b.txt", "content": "one"})).unwrap();
        let grown =
            operation(root, &json!({"operation": "append", "path": "a/b.txt", "content": " two"})).unwrap();
        assert_eq!(grown["size_bytes"], 7);
        let read = operation(root, &json!({"operation": "read", "path": "a/b.txt"})).unwrap();
        assert_eq!((read["content"].as_str(), read["truncated"].as_bool()), (Some("one two"), Some(false)));
        let listed = operation(root, &json!({"operation": "list", "path": ".", "recursive": true})).unwrap();
        let paths: Vec<_> =
            listed["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["a", "a/b.txt"]);
        assert!(
            operation(root, &json!({"operation": "delete", "path": "a"})).unwrap_err().contains("recursive")
        );
        operation(root, &json!({"operation": "delete", "path": "a", "recursive": true})).unwrap();
        assert!(
            operation(root, &json!({"operation": "stat", "path": "a"}))
                .unwrap_err()
                .contains("does not exist")
        );
    }

    #[test]
    fn nothing_outside_the_workspace_is_reached() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        let root = outer.path().join("workspace");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(outer.path(), root.join("link")).unwrap();
        for path in ["../secret", "/etc/passwd", "link/secret", "a/../../secret", "./../secret"] {
            for operation_name in ["read", "write", "append", "delete", "stat", "list"] {
                let arguments = json!({"operation": operation_name, "path": path, "content": "x"});
                assert!(operation(&root, &arguments).is_err(), "{operation_name} {path}");
            }
        }
        assert_eq!(std::fs::read_to_string(outer.path().join("secret")).unwrap(), "secret");
    }

    #[test]
    fn bytes_that_are_no_text_travel_as_base64() {
        let root = tempfile::tempdir().unwrap();
        let written = json!({"operation": "write", "path": "x", "content": "/wA=", "encoding": "base64"});
        operation(root.path(), &written).unwrap();
        assert!(
            operation(root.path(), &json!({"operation": "read", "path": "x"}))
                .unwrap_err()
                .contains("base64")
        );
        let read =
            operation(root.path(), &json!({"operation": "read", "path": "x", "encoding": "base64"})).unwrap();
        assert_eq!(read["content"], "/wA=");
    }
}
