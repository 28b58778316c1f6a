//! What the tests of this crate share: the odd server, and finding the real ones. Must never start a process
//! that no client owns and no guard ends.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use mcp::Transport;

/// Enough for a server to start on a loaded machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The odd server in one of its modes.
pub fn odd(mode: &str) -> Transport {
    stdio(python(), vec![script(), mode.to_owned()])
}

/// The same, with a child of its own; the pids of both are written to the file.
pub fn odd_with_child(mode: &str, pids: &tempfile::NamedTempFile) -> Transport {
    stdio(python(), vec![script(), mode.to_owned(), pids.path().display().to_string()])
}

pub fn stdio(command: impl Into<String>, args: Vec<String>) -> Transport {
    Transport::Stdio { command: command.into(), args, env: BTreeMap::new() }
}

pub fn http(url: impl Into<String>) -> Transport {
    Transport::Http { url: url.into(), headers: BTreeMap::new() }
}

/// The interpreter itself: `python3` may be a shell script that adds variables of its own.
fn python() -> String {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        let program = ["-c", "import sys; print(sys.executable)"];
        let output = std::process::Command::new("python3").args(program).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    PATH.clone()
}

fn script() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/odd_server.py").to_owned()
}

/// Fails unless every process named in the file is gone (or a zombie) soon.
pub async fn assert_gone(pids: &tempfile::NamedTempFile) {
    let text = std::fs::read_to_string(pids.path()).unwrap();
    let pids: Vec<&str> = text.split(' ').collect();
    assert_eq!(pids.len(), 2, "the server wrote {text:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| is_alive(pid)) {
        assert!(Instant::now() < deadline, "still alive: {pids:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

/// A program installed by `scripts/install-mcp-servers`, or `None` (after saying so) where it is missing;
/// with `CI=true` a missing one is a failure.
pub fn installed(program: &str) -> Option<String> {
    let path = testkit::installed(Path::new("mcp").join(program), "scripts/install-mcp-servers")?;
    Some(path.display().to_string())
}
