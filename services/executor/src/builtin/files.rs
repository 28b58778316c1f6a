//! `file_operations`: files in the workspace of one team and task. Every path is opened beneath the
//! workspace by the operating system (`openat2` through cap-std), never compared by its text.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use cap_std::{
    ambient_authority,
    fs::{Dir, FileType, OpenOptions},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::text;
use crate::outcome::{Ended, ToolError, ToolErrorCode};

/// Bytes that a read gives when the caller does not say.
const DEFAULT_MAX_BYTES: u64 = 1024 * 1024;
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

/// Deletes what is at a path of a workspace, file or folder with everything in it; `false`: there was nothing, nor is
/// a workspace made.
pub(crate) async fn remove(workspace: PathBuf, path: String) -> io::Result<bool> {
    let work = tokio::task::spawn_blocking(move || remove_now(&workspace, &path));
    work.await.unwrap_or_else(|_| Err(io::Error::other("the deletion was cut short")))
}

fn remove_now(workspace: &Path, path: &str) -> io::Result<bool> {
    let removed = Dir::open_ambient_dir(workspace, ambient_authority())
        .and_then(|root| delete(&root, path, &json!({ "recursive": true })));
    match removed {
        Ok(_) => Ok(true),
        // A plain file stands where its folder would be: there is no such file either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
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
        "mkdir" => make_folder(&root, Path::new(path), arguments).map(|()| json!({})),
        _ => Err(io::Error::other("is no operation of this tool")),
    };
    let mut result = done.map_err(failed)?;
    result["operation"] = operation.into();
    result["path"] = path.into();
    Ok(result.to_string())
}

fn read(root: &Dir, path: &str, arguments: &Value) -> io::Result<Value> {
    let number = |name: &str| arguments.get(name).and_then(Value::as_u64);
    let (offset, most) = (number("offset").unwrap_or(0), number("max_bytes").unwrap_or(DEFAULT_MAX_BYTES));
    let mut file = root.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let truncated = metadata.len() > offset.saturating_add(bytes.len() as u64);
    let plain = std::str::from_utf8(whole_characters(&bytes, truncated)).ok();
    let plain = plain.filter(|_| text(arguments, "encoding") != Some("base64"));
    let (content, encoding) = match plain {
        Some(content) => (content.to_owned(), "utf-8"),
        None => (STANDARD.encode(&bytes), "base64"),
    };
    Ok(json!({
        "content": content,
        "encoding": encoding,
        "size_bytes": metadata.len(),
        "truncated": truncated,
    }))
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
    let path = Path::new(path);
    if let Some(parent) =
        path.parent().filter(|parent| recursive(arguments) && !parent.as_os_str().is_empty())
    {
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

fn recursive(arguments: &Value) -> bool {
    arguments.get("recursive").and_then(Value::as_bool).unwrap_or(false)
}

fn make_folder(root: &Dir, path: &Path, arguments: &Value) -> io::Result<()> {
    if recursive(arguments) { root.create_dir_all(path) } else { root.create_dir(path) }
}

fn list(root: &Dir, path: &str, arguments: &Value) -> io::Result<Value> {
    let prefix = match path.trim_start_matches("./").trim_end_matches('/') {
        "" | "." => String::new(),
        folder => format!("{folder}/"),
    };
    let mut entries = Vec::new();
    let truncated = walk(&root.open_dir(path)?, &prefix, recursive(arguments), 0, &mut entries)?;
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
        let file_type = entry.file_type()?;
        let mut listed = json!({ "path": path, "kind": kind(file_type) });
        if file_type.is_file() {
            listed["size_bytes"] = entry.metadata()?.len().into();
        }
        entries.push(listed);
        if recursive && file_type.is_dir() {
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
    match (root.symlink_metadata(path)?.is_dir(), recursive(arguments)) {
        (true, true) => root.remove_dir_all(path)?,
        (true, false) => root.remove_dir(path)?,
        (false, _) => root.remove_file(path)?,
    }
    Ok(json!({}))
}

fn stat(root: &Dir, path: &str) -> io::Result<Value> {
    let metadata = root.metadata(path)?;
    let modified: DateTime<Utc> = metadata.modified()?.into_std().into();
    Ok(json!({
        "kind": kind(metadata.file_type()),
        "size_bytes": metadata.len(),
        "modified_time": modified.to_rfc3339_opts(SecondsFormat::Millis, true),
    }))
}

fn kind(file_type: FileType) -> &'static str {
    match (file_type.is_dir(), file_type.is_file()) {
        (true, _) => "folder",
        (_, true) => "file",
        _ => "other",
    }
}

/// The system's words, without the machine's paths.
fn failure(operation: &str, path: &str, error: &io::Error) -> ToolError {
    let what = match error.kind() {
        io::ErrorKind::NotFound if matches!(operation, "write" | "append" | "mkdir") => {
            "the folder above does not exist; make it with recursive true".to_owned()
        }
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
        operation(
            root,
            &json!({"operation": "write", "path": "a/b.txt", "content": "one", "recursive": true}),
        )
        .unwrap();
        let grown =
            operation(root, &json!({"operation": "append", "path": "a/b.txt", "content": " two"})).unwrap();
        assert_eq!(grown["size_bytes"], 7);
        let read = operation(root, &json!({"operation": "read", "path": "a/b.txt"})).unwrap();
        assert_eq!((read["content"].as_str(), read["truncated"].as_bool()), (Some("one two"), Some(false)));
        let listed = operation(root, &json!({"operation": "list", "path": ".", "recursive": true})).unwrap();
        let file = json!({"path": "a/b.txt", "kind": "file", "size_bytes": 7});
        assert_eq!(listed["entries"], json!([{"path": "a", "kind": "folder"}, file]));
        let part = json!({"operation": "read", "path": "a/b.txt", "offset": 1, "max_bytes": 2});
        let part = operation(root, &part).unwrap();
        assert_eq!((part["content"].as_str(), part["truncated"].as_bool()), (Some("ne"), Some(true)));
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
    fn whatever_is_at_a_path_is_removed_and_nothing_else() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("workspace");
        assert!(!remove_now(&root, "a/x.json").unwrap());
        assert!(!root.exists(), "no workspace is made");
        std::fs::create_dir_all(root.join("a/x.json/in")).unwrap();
        std::fs::write(root.join("a/x.json/in/file"), "x").unwrap();
        std::fs::write(root.join("a/y.json"), "y").unwrap();
        assert!(remove_now(&root, "a/x.json").unwrap());
        assert!(!root.join("a/x.json").exists() && root.join("a/y.json").exists());
        assert!(!remove_now(&root, "a/y.json/x.json").unwrap(), "a file where the folder would be");
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(outer.path(), root.join("link")).unwrap();
        remove_now(&root, "link/secret").unwrap_err();
        assert!(outer.path().join("secret").exists());
    }

    #[test]
    fn bytes_that_are_no_text_travel_as_base64() {
        let root = tempfile::tempdir().unwrap();
        let written = json!({"operation": "write", "path": "x", "content": "/wA=", "encoding": "base64"});
        operation(root.path(), &written).unwrap();
        for encoding in ["utf-8", "base64"] {
            let read = json!({"operation": "read", "path": "x", "encoding": encoding});
            let read = operation(root.path(), &read).unwrap();
            assert_eq!((&read["content"], &read["encoding"]), (&json!("/wA="), &json!("base64")));
        }
    }
}
