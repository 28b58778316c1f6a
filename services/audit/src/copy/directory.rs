//! A folder as a second place, such as another machine's that is mounted. Must never make the folder itself: a mount that
//! is missing would be filled unseen.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Semaphore;

use super::{Copy, Failure, escaped, file_name};

/// Longest checkpoint that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// What a probe writes, in bytes: more than fits beside a file's name on any file system.
const PROBE_BYTES: usize = 16 * 1024;

/// The folder.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    /// One piece of work at a time: a file system that hangs holds one thread, not all of them.
    turn: Arc<Semaphore>,
}

impl Directory {
    /// The folder of this path.
    pub(super) fn new(path: &str) -> Result<Self, String> {
        let root = PathBuf::from(path);
        if !root.is_absolute() {
            return Err("needs an absolute path, such as dir:/mnt/checkpoints".to_owned());
        }
        Ok(Self { root, turn: Arc::new(Semaphore::new(1)) })
    }

    pub(super) async fn put(&self, copy: Copy<'_>) -> Result<(), Failure> {
        let (folder, size, note) = (escaped(copy.team), copy.size, copy.note.to_owned());
        self.work(move |root| {
            is_there(root)?;
            let folder = root.join(folder);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    sync_folder(root)?;
                }
            }
            keep(&folder, size, &note)?;
            replace(&folder, "latest", note.as_bytes())
        })
        .await
    }

    pub(super) async fn latest(&self, team: &str) -> Result<Option<String>, Failure> {
        let team = escaped(team);
        self.work(move |root| {
            is_there(root)?;
            read(&root.join(team).join("latest"))
        })
        .await
    }

    pub(super) async fn probe(&self) -> Result<(), Failure> {
        self.work(|root| {
            is_there(root)?;
            let path = root.join(format!(".probe-{}", std::process::id()));
            let written = fs::write(&path, [b'.'; PROBE_BYTES]);
            // What could not be written is taken away as well.
            let _ = fs::remove_file(&path);
            written
        })
        .await
    }

    /// Does something with the folder on a thread that may block.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let root = self.root.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&root)
        });
        match done.await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn is_there(root: &Path) -> io::Result<()> {
    let missing =
        |error: io::Error| io::Error::new(error.kind(), format!("the folder is not there: {error}"));
    if fs::metadata(root).map_err(missing)?.is_dir() {
        Ok(())
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

/// Keeps a checkpoint under its size. Another one of that size, which only an accepted rollback leaves, stays as it is.
fn keep(folder: &Path, size: i64, note: &str) -> io::Result<()> {
    let name = file_name(size);
    match read(&folder.join(&name))? {
        Some(there) if there == note => Ok(()),
        None => replace(folder, &name, note.as_bytes()),
        Some(_) => {
            let digest = types::digest_bytes(note.as_bytes());
            replace(folder, &format!("{}.{}", name, &digest[..16]), note.as_bytes())
        }
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    use io::Read;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Writes beside and renames, and flushes both: after a crash there is the old file or the whole new one.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, folder.join(name))?;
        sync_folder(folder)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
