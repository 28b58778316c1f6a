//! Who holds the folder of a private cluster: one process at a time, and after one that was killed the next not before
//! the old server has ended. Must never end a process itself.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    time::Duration,
};

use tokio::time::Instant;

use crate::local::{LocalError, io_error};

/// Name of the file that is locked.
const LOCK: &str = "lock";
/// How often the old server is looked for.
const POLL: Duration = Duration::from_millis(20);

/// The right to run a server in a folder. The kernel takes it back when this process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: File,
}

impl Hold {
    /// Takes the folder, unless another process holds it.
    pub(crate) fn take(directory: &Path) -> Result<Self, LocalError> {
        let lock = File::create(directory.join(LOCK)).map_err(io_error("creating the cluster's lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(LocalError::Held { directory: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(io_error("locking the cluster's folder")(error)),
        }
    }
}

/// Waits for the end of a server whose process was killed: it hears of that at once, and takes a moment to shut down.
/// PostgreSQL itself refuses to start when the old server is still there after this time.
pub(crate) async fn wait_for_old_server(data: &Path, patience: Duration) {
    let deadline = Instant::now() + patience;
    while has_processes(data) && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a process works in this folder, as every process of a PostgreSQL server does in its data folder.
fn has_processes(data: &Path) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok()).any(|folder| folder == data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_held_once_and_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let hold = Hold::take(folder.path()).unwrap();
        assert!(matches!(Hold::take(folder.path()), Err(LocalError::Held { .. })));
        drop(hold);
        Hold::take(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn an_old_server_is_waited_for_and_no_longer_than_that() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().canonicalize().unwrap();
        let mut old = std::process::Command::new("sleep").arg("600").current_dir(&data).spawn().unwrap();
        let waits =
            tokio::time::timeout(Duration::from_millis(100), wait_for_old_server(&data, Duration::MAX / 4));
        assert!(waits.await.is_err(), "the old server is there");
        wait_for_old_server(&data, Duration::from_millis(50)).await;
        old.kill().unwrap();
        old.wait().unwrap();
        wait_for_old_server(&data, Duration::from_secs(30)).await;
        assert!(!has_processes(&data));
    }
}
