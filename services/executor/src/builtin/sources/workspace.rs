//! Files of the task's workspace. The operating system holds every path in (`openat2` through cap-std); links are
//! followed inside the workspace alone.

use std::{
    io::{self, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, FileType, OpenOptions, OpenOptionsExt},
};
use chrono::{DateTime, SecondsFormat, Utc};
use rustix::fs::OFlags;

use super::{Entry, Kind, Listing, Read, Wanted, window::Window};
use crate::{
    builtin::path,
    outcome::{ToolError, ToolErrorCode},
};

/// Reads a part of a file.
pub(crate) fn read(workspace: &Path, path: &str, window: &Window) -> Result<Read, ToolError> {
    let relative = joined(path)?;
    let (part, size) = read_part(workspace, &relative, window).map_err(|error| failure(path, &error))?;
    Ok(Read { part, location: path.to_owned(), size: Some(size), media_type: None, charset: None })
}

fn read_part(workspace: &Path, path: &Path, window: &Window) -> io::Result<(super::Part, u64)> {
    // Opening a pipe or a device must not wait for its other end.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let mut file = root(workspace)?.open_with(path, OpenOptions::new().read(true).custom_flags(nonblock))?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("is a folder; list_files lists it"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    let is_there = window.seek().is_some();
    file.seek(SeekFrom::Start(window.seek().unwrap_or(0)))?;
    Ok((window.cut(BufReader::new(file), is_there)?, metadata.len()))
}

/// Lists a folder.
pub(crate) fn list(workspace: &Path, path: &str, wanted: &Wanted) -> Result<Listing, ToolError> {
    let relative = joined(path)?;
    let mut found = Listing::default();
    let open = || root(workspace)?.open_dir(&relative);
    let listed = open().and_then(|folder| walk(&folder, "", 1, wanted, &mut found));
    listed.map_err(|error| failure(path, &error))?;
    Ok(found.ended(wanted))
}

/// Looks at a folder's entries; `false` when no more may be looked at. Links are named, not followed.
fn walk(folder: &Dir, prefix: &str, depth: usize, wanted: &Wanted, found: &mut Listing) -> io::Result<bool> {
    for entry in folder.entries()? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = kind(entry.file_type()?);
        // What is gone meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let modified = metadata.modified().ok().map(|time| -> DateTime<Utc> { time.into_std().into() });
        let listed = Entry {
            path: path.clone(),
            kind,
            size: (kind == Kind::File).then(|| metadata.len()),
            modified: modified.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            url: None,
        };
        if !found.add(wanted, listed) {
            return Ok(false);
        }
        if kind == Kind::Folder && depth < wanted.depth {
            let below = match entry.open_dir() {
                Ok(below) => below,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !walk(&below, &format!("{path}/"), depth + 1, wanted, found)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A workspace that nobody wrote to yet is made, and empty.
fn root(workspace: &Path) -> io::Result<Dir> {
    std::fs::create_dir_all(workspace)?;
    Dir::open_ambient_dir(workspace, ambient_authority())
}

fn joined(path: &str) -> Result<PathBuf, ToolError> {
    let segments = path::segments("path", path)?;
    Ok(if segments.is_empty() { PathBuf::from(".") } else { segments.iter().collect() })
}

fn kind(file_type: FileType) -> Kind {
    match (file_type.is_dir(), file_type.is_file(), file_type.is_symlink()) {
        (true, ..) => Kind::Folder,
        (_, true, _) => Kind::File,
        (.., true) => Kind::Link,
        _ => Kind::Other,
    }
}

/// The system's words, without the machine's paths.
fn failure(path: &str, error: &io::Error) -> ToolError {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::NotADirectory => "is not a folder, or goes through a file".to_owned(),
        io::ErrorKind::PermissionDenied => "lies outside the workspace or may not be reached".to_owned(),
        _ => error.to_string(),
    };
    ToolError::new(ToolErrorCode::ToolFailed, format!("{path}: {what}"))
}
