//! `read_file`: a part of one file, of the task's workspace, an HTTP address or a repository on GitHub.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    path::wrong,
    sources::{Read, Remote, window::Window, workspace},
    text,
};
use crate::{
    drivers::Job,
    outcome::{Ended, ToolError, ToolErrorCode},
};

/// Reads the part that is wanted.
pub(crate) async fn run(remote: &Remote, workspace: PathBuf, job: &Job<'_>) -> Ended {
    let window = Window::of(job.arguments)?;
    let source = text(job.arguments, "source").unwrap_or("workspace");
    let read = match source {
        "workspace" => local(workspace, job, window).await?,
        "http" => remote.http_read(job, &window).await?,
        "github" => remote.github_read(job, &window).await?,
        _ => return Err(wrong("source", "must be workspace, http or github")),
    };
    Ok(result(source, read, text(job.arguments, "encoding") == Some("base64")).to_string())
}

async fn local(workspace: PathBuf, job: &Job<'_>, window: Window) -> Result<Read, ToolError> {
    let path = text(job.arguments, "path").filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| wrong("path", "is needed for the source workspace"))?.to_owned();
    let work = tokio::task::spawn_blocking(move || workspace::read(&workspace, &path, &window));
    work.await.unwrap_or_else(|_| Err(ToolError::new(ToolErrorCode::ToolFailed, "the work was cut short")))
}

fn result(source: &str, read: Read, as_base64: bool) -> Value {
    let Read { mut part, location, size, media_type, charset } = read;
    // A cut may fall inside a character: its first bytes are left out.
    let cut =
        std::str::from_utf8(&part.bytes).err().filter(|error| part.truncated && error.error_len().is_none());
    if let Some(cut) = cut.filter(|_| !as_base64) {
        part.bytes.truncate(cut.valid_up_to());
    }
    let (content, encoding) = match String::from_utf8(part.bytes) {
        Ok(content) if !as_base64 => (content, "utf-8"),
        Ok(content) => (STANDARD.encode(content), "base64"),
        Err(error) => (STANDARD.encode(error.as_bytes()), "base64"),
    };
    let mut result = json!({
        "source": source,
        "location": location,
        "content": content,
        "encoding": encoding,
        "truncated": part.truncated,
    });
    let lines = part.lines.map(|(start, count)| [("start_line", start), ("line_count", count)]);
    for (name, number) in lines.into_iter().flatten().chain(size.map(|size| ("size_bytes", size))) {
        result[name] = number.into();
    }
    for (name, text) in [("media_type", media_type), ("charset", charset)] {
        if let Some(text) = text {
            result[name] = text.into();
        }
    }
    result
}
