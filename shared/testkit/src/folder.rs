//! Temporary folders that do not pile up: a folder that lives as long as its process is never dropped, so
//! each process removes what earlier ones left.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Once,
};

use tempfile::TempDir;

/// The start of every name; the process id follows.
const PREFIX: &str = "toolcrib-test-";

/// A new temporary folder that every user of the machine can pass through, as PostgreSQL's user has to.
pub fn folder() -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| sweep(&std::env::temp_dir()));
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary folder")
}

/// Removes the folders of processes that have ended.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        let pid = pid.and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another process may have been faster, or its owner is another user.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_processes_go_and_no_other() {
        let parent = tempfile::tempdir().unwrap();
        let living = format!("{PREFIX}{}-a", std::process::id());
        // Above the largest process id that Linux gives (proc(5), pid_max).
        for name in [living.as_str(), "toolcrib-test-4194305-b", "toolcrib-test-word", "other-4194305-c"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        sweep(parent.path());
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort_unstable();
        assert_eq!(left, ["other-4194305-c", living.as_str(), "toolcrib-test-word"]);
    }
}
