//! Third-party programs that tests run, installed by the project's scripts.

use std::path::{Path, PathBuf};

/// Where the scripts put what they install; the same rule as in `scripts/tools-dir`.
#[allow(clippy::disallowed_methods, reason = "tests have no configuration file")]
pub fn tools_dir() -> PathBuf {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = store::unprivileged_user().is_ok_and(|user| user.is_some());
    let home = || set("HOME").unwrap_or_default().join(".cache/toolcrib/tools");
    set("TOOLCRIB_TOOLS")
        .unwrap_or_else(|| if root { PathBuf::from("/var/lib/toolcrib/tools") } else { home() })
}

/// A program under the tools folder, or `None`, after saying so, where it is missing. In CI a missing one
/// is a failure. `install` is the command that brings it.
#[allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a skipped test has to say so")]
pub fn installed(program: impl AsRef<Path>, install: &str) -> Option<PathBuf> {
    let path = tools_dir().join(program);
    if path.exists() {
        return Some(path);
    }
    let advice = format!("{} is missing: run {install}", path.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
    println!("skipped: {advice}");
    None
}
