//! The sandbox against real programs on the real Python environment: one test binary. Must never reach beyond this
//! machine, and every program it starts ends with its sandbox.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod analyzer;
mod bombs;
mod code_analysis;
mod escapes;
mod lifecycle;
mod neighbours;
mod output;
mod pods;
mod probes;
mod programs;
mod refusals;

use sandbox::{Config, Exit, Job, Limits, Output, Sandbox, Stream};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

/// A sandbox of its own for one test.
struct Fixture {
    sandbox: Sandbox,
    root: TempDir,
}

impl Fixture {
    /// Nothing where the Python environment is missing, except in CI, where that is a failure.
    async fn start() -> Option<Self> {
        let root = open_folder();
        let config = config(&root)?;
        let sandbox = Sandbox::start(config).await.expect("the sandbox starts");
        Some(Self { sandbox, root })
    }

    async fn run(&self, source: &str) -> Output {
        self.run_within(source, Limits { wall: Duration::from_secs(20), ..Limits::default() }).await
    }

    async fn run_within(&self, source: &str, limits: Limits) -> Output {
        let output = self.sandbox.run(Job { limits, ..Job::new(source) }).await.expect("the program is run");
        println!("{source}\n-> {output:?}");
        output
    }

    /// Runs a program that is to be refused, and gives what was.
    async fn refused(&self, source: &str) -> String {
        match self.run(source).await.exit {
            Exit::Denied { what } => what,
            other => panic!("not denied but {other:?}: {source}"),
        }
    }
}

fn config(root: &TempDir) -> Option<Config> {
    let python = testkit::installed("python/bin/python", "make setup")?;
    Some(Config::new(python, root.path().join("work")))
}

/// A temporary folder that every user can read.
fn open_folder() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}

/// Waits for what must come about by itself.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come about within 5 s: {what}");
}
