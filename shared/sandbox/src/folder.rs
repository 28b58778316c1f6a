//! The folders that programs work in. Must never follow a link or recurse while deleting: what lies there was made by
//! an untrusted program.

use rustix::fs::{AtFlags, CWD, Dir, DirEntry, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const PREFIX: &str = "instance-";

/// The folder of one running sandbox, locked while it lives. Deleted when dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    path: PathBuf,
    _lock: File,
}

impl Instance {
    /// Makes a folder under `root`, which is made too, and deletes what instances that died left behind.
    pub fn create(root: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o711).create(root)?;
        sweep(root)?;
        let mode = Permissions::from_mode(0o711);
        let path = tempfile::Builder::new().prefix(PREFIX).permissions(mode).tempdir_in(root)?.keep();
        fs::set_permissions(&path, Permissions::from_mode(0o711))?; // whatever the umask
        let unlocked = path.join("unlocked");
        let lock = File::create(&unlocked)?;
        lock.lock()?;
        fs::rename(unlocked, path.join(LOCK))?; // nobody sees it before it is held
        Ok(Self { path, _lock: lock })
    }

    /// Makes an empty folder for one job, owned by `user` where given.
    pub fn job(&self, user: Option<u32>) -> io::Result<JobFolder> {
        let mode = Permissions::from_mode(0o700);
        let path = tempfile::Builder::new().prefix("job-").permissions(mode).tempdir_in(&self.path)?.keep();
        let folder = JobFolder { path };
        if user.is_some() {
            chown(&folder.path, user, user)?;
        }
        Ok(folder)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        remove_or_warn(&self.path);
    }
}

/// The folder of one job. Deleted when dropped; what a program that still runs then adds is swept at the next start.
#[derive(Debug)]
pub(crate) struct JobFolder {
    pub path: PathBuf,
}

impl Drop for JobFolder {
    fn drop(&mut self) {
        remove_or_warn(&self.path);
    }
}

fn remove_or_warn(folder: &Path) {
    if let Err(error) = remove(folder) {
        tracing::warn!(folder = %folder.display(), %error, "work folder not deleted");
    }
}

/// Deletes the folders of instances whose process is gone: nobody holds their lock.
fn sweep(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if ours && lock.try_lock().is_ok() {
            remove_or_warn(&path);
        }
    }
    Ok(())
}

/// Deletes a folder, however deep it is and whatever its modes: each folder inside is moved up before it is emptied,
/// so neither the stack nor the number of open files grows with the depth. Everything is named relative to an open
/// folder, so that even a program that still ran could not lead it elsewhere by a link.
fn remove(top: &Path) -> io::Result<()> {
    let root = open(CWD, top)?;
    let mut moved = Moved::default();
    empty(&root, &root, &mut moved)?;
    while let Some(name) = moved.waiting.pop() {
        empty(&open(&root, &name)?, &root, &mut moved)?;
        unlinkat(&root, &name, AtFlags::REMOVEDIR)?;
    }
    fs::remove_dir(top)
}

/// Folders that were moved to the top and are still to be emptied.
#[derive(Default)]
struct Moved {
    waiting: Vec<String>,
    count: u64,
}

/// Opens a folder for reading, never through a link, and makes its modes such that it can be emptied.
fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(parent, name, place, Mode::empty())?;
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    fs::set_permissions(&itself, Permissions::from_mode(0o700))?;
    Ok(openat(CWD, itself, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Deletes what is no folder in `folder`, and moves its folders to `root`.
fn empty(folder: &OwnedFd, root: &OwnedFd, moved: &mut Moved) -> io::Result<()> {
    let entries = Dir::read_from(folder)?.collect::<Result<Vec<_>, _>>()?;
    for entry in entries.iter().map(DirEntry::file_name).filter(|name| ![c".", c".."].contains(name)) {
        match unlinkat(folder, entry, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) => {
                open(folder, entry)?; // or it could not be moved
                move_up(folder, entry, root, moved)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Moves a folder to a name in `root` that the program did not take.
fn move_up(folder: &OwnedFd, entry: &CStr, root: &OwnedFd, moved: &mut Moved) -> io::Result<()> {
    let name = loop {
        moved.count += 1;
        let name = format!(".removing-{}", moved.count);
        if statat(root, &name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            break name;
        }
    };
    renameat(folder, entry, root, &name)?;
    moved.waiting.push(name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_removed_folder_takes_nothing_with_it_that_it_links_to() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let instance = Instance::create(root.path()).unwrap();
        let job = instance.job(None).unwrap();
        symlink(&kept, job.path.join("link")).unwrap();
        fs::create_dir(job.path.join(".removing-1")).unwrap();
        fs::write(job.path.join(".removing-2"), "x").unwrap();
        fs::create_dir_all(job.path.join(".removing-3/in/in")).unwrap();
        fs::create_dir(job.path.join("shut")).unwrap();
        fs::write(job.path.join("shut/file"), "x").unwrap();
        fs::set_permissions(job.path.join("shut"), Permissions::from_mode(0o000)).unwrap();
        let path = job.path.clone();
        drop(job);
        assert!(!path.exists());
        assert!(kept.join("file").exists());
    }

    #[test]
    fn folders_of_the_dead_are_swept_and_those_of_the_living_kept() {
        let root = tempfile::tempdir().unwrap();
        let living = Instance::create(root.path()).unwrap();
        let dead = root.path().join("instance-dead");
        fs::create_dir_all(dead.join("job-1")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(LOCK), "").unwrap();
        let second = Instance::create(root.path()).unwrap();
        assert!(living.path.exists() && second.path.exists() && other.exists());
        assert!(!dead.exists());
    }
}
