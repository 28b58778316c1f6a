//! `list_files`: what a folder of the task's workspace, of a web server's listing or of a repository on GitHub holds.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    path::wrong,
    sources::{Entry, Listing, Remote, Wanted, workspace},
    text,
};
use crate::{
    drivers::Job,
    outcome::{Ended, ToolError, ToolErrorCode},
};

/// Lists what is wanted.
pub(crate) async fn run(remote: &Remote, workspace: PathBuf, job: &Job<'_>) -> Ended {
    let wanted = Wanted::of(job)?;
    let source = text(job.arguments, "source").unwrap_or("workspace");
    let (listing, location) = match source {
        "workspace" => local(workspace, job, wanted).await?,
        "http" => remote.http_list(job, &wanted).await?,
        "github" => remote.github_list(job, &wanted).await?,
        _ => return Err(wrong("source", "must be workspace, http or github")),
    };
    let entries: Vec<Value> = listing.entries.into_iter().map(entry).collect();
    let result = json!({
        "source": source,
        "location": location,
        "entries": entries,
        "truncated": listing.truncated,
    });
    Ok(result.to_string())
}

async fn local(workspace: PathBuf, job: &Job<'_>, wanted: Wanted) -> Result<(Listing, String), ToolError> {
    let path = text(job.arguments, "path").filter(|path| !path.is_empty()).unwrap_or(".").to_owned();
    let listed = path.clone();
    let work = tokio::task::spawn_blocking(move || workspace::list(&workspace, &path, &wanted));
    let listing = work
        .await
        .unwrap_or_else(|_| Err(ToolError::new(ToolErrorCode::ToolFailed, "the work was cut short")))?;
    Ok((listing, listed))
}

fn entry(entry: Entry) -> Value {
    let mut listed = json!({ "path": entry.path, "kind": entry.kind.as_str() });
    if let Some(size) = entry.size {
        listed["size_bytes"] = size.into();
    }
    for (name, text) in [("modified_time", entry.modified), ("url", entry.url)] {
        if let Some(text) = text {
            listed[name] = text.into();
        }
    }
    listed
}
