//! How much of the disk a program takes: its folder, walked again and again, and what it holds open but unlinked.
//!
//! Must never follow a link out of the folder, and must never take more of the machine than it saves: a walk ends at
//! the first limit it finds broken, and the pause after it is up to ten times as long as it took.

use crate::Limits;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The pause between two walks, at least.
const PAUSE: Duration = Duration::from_millis(20);
/// And at most, however long a walk takes.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How much longer than a walk the pause after it is otherwise.
const PAUSE_TO_WALK: u32 = 10;
/// How deep folders may be nested: each level of a walk keeps one of our descriptors open.
const DEPTH: usize = 32;
/// The unit of `st_blocks`, bytes.
const BLOCK: u64 = 512;

/// Comes back with the limit that is broken, once one is. `hidden` is what no folder names, in bytes.
pub(crate) async fn exceeded(folder: &Path, limits: &Limits, hidden: &AtomicU64) -> String {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let (folder, limits, hidden) = (folder.to_owned(), limits.clone(), hidden.load(Ordering::Relaxed));
        let walk = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            (broken(&folder, &limits, hidden), began.elapsed())
        });
        match walk.await {
            Ok((Some(what), _)) => return what,
            Ok((None, took)) => pause = (took * PAUSE_TO_WALK).clamp(PAUSE, LONGEST_PAUSE),
            Err(_) => std::future::pending().await, // the runtime ends, and the program with it
        }
    }
}

/// The limit that a folder breaks, in words.
fn broken(folder: &Path, limits: &Limits, hidden: u64) -> Option<String> {
    let mut used = Used { bytes: hidden, ..Used::default() };
    match used.walk(folder, limits) {
        Err(error) => Some(format!("what its files take cannot be counted: {error}")), // so it is not bounded
        Ok(()) if used.too_deep => Some(format!("its folders are nested more than {DEPTH} deep")),
        Ok(()) if used.files > limits.disk_files => {
            Some(format!("it keeps more than {} files and folders", limits.disk_files))
        }
        Ok(()) if used.bytes > limits.disk_bytes => {
            Some(format!("its files take more than {} bytes", limits.disk_bytes))
        }
        Ok(()) => None,
    }
}

/// What was counted so far.
#[derive(Default)]
struct Used {
    bytes: u64,
    files: u64,
    too_deep: bool,
    /// Files with several names, each counted once.
    linked: HashSet<(u64, u64)>,
}

impl Used {
    fn walk(&mut self, top: &Path, limits: &Limits) -> io::Result<()> {
        let mut open = vec![Dir::new(folder(CWD, top)?)?];
        while let Some(dir) = open.last_mut() {
            if self.too_deep || self.files > limits.disk_files || self.bytes > limits.disk_bytes {
                return Ok(());
            }
            let Some(entry) = dir.read() else {
                open.pop();
                continue;
            };
            let entry = entry?;
            if let Some(inner) = self.count(dir, entry.file_name())? {
                self.too_deep = open.len() >= DEPTH;
                open.push(Dir::new(inner)?);
            }
        }
        Ok(())
    }

    /// Counts one entry, and opens it where it is a folder.
    fn count(&mut self, parent: &Dir, name: &CStr) -> io::Result<Option<OwnedFd>> {
        if name == c"." || name == c".." {
            return Ok(None);
        }
        self.files += 1;
        let stat = match statat(parent.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None), // deleted meanwhile
            Err(error) => return Err(error.into()),
        };
        self.bytes += self.space(&stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(None);
        }
        match folder(parent.fd()?, name) {
            Ok(inner) => Ok(Some(inner)),
            // Replaced meanwhile; or a folder that its own program cannot open either, so there is nothing in it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn space(&mut self, stat: &Stat) -> u64 {
        if stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return 0;
        }
        u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK
    }
}

/// Opens a folder for reading, never through a link.
fn folder(parent: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn limits() -> Limits {
        Limits { disk_bytes: 1 << 20, disk_files: 50, ..Limits::default() }
    }

    #[test]
    fn what_is_written_counts_and_what_is_linked_to_does_not() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("big"), vec![1; 4 << 20]).unwrap();
        symlink(outside.path(), root.path().join("folder")).unwrap();
        symlink(outside.path().join("big"), root.path().join("file")).unwrap();
        let mine = root.path().join("inner");
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("half"), vec![1; 600 << 10]).unwrap();
        fs::hard_link(mine.join("half"), mine.join("the same")).unwrap();
        assert_eq!(broken(root.path(), &limits(), 0), None);
        assert!(broken(root.path(), &limits(), 600 << 10).is_some(), "with what is hidden it is too much");
        fs::write(root.path().join("other"), vec![1; 600 << 10]).unwrap();
        let what = broken(root.path(), &limits(), 0).unwrap();
        assert_eq!(what, "its files take more than 1048576 bytes");
    }

    #[test]
    fn a_hole_takes_no_space() {
        let root = tempfile::tempdir().unwrap();
        fs::File::create(root.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(broken(root.path(), &limits(), 0), None);
    }

    #[test]
    fn files_and_depth_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        (0..50).for_each(|n| drop(fs::File::create(root.path().join(n.to_string())).unwrap()));
        assert_eq!(broken(root.path(), &limits(), 0), None);
        fs::create_dir(root.path().join("one more")).unwrap();
        let what = broken(root.path(), &limits(), 0).unwrap();
        assert_eq!(what, "it keeps more than 50 files and folders");
        let deep = tempfile::tempdir().unwrap();
        fs::create_dir_all(deep.path().join("d/".repeat(DEPTH - 1))).unwrap();
        assert_eq!(broken(deep.path(), &limits(), 0), None);
        fs::create_dir_all(deep.path().join("d/".repeat(DEPTH))).unwrap();
        assert!(broken(deep.path(), &limits(), 0).unwrap().contains("nested"));
        assert!(broken(&deep.path().join("none"), &limits(), 0).unwrap().contains("cannot be counted"));
    }
}
