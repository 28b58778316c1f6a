//! The sandbox as its users hold it: a forkserver that is there when needed, and a bounded number of programs at once.
//! Must never answer before the program it answers for is dead and its folder is free to go.

use crate::folder::Instance;
use crate::output::Listener;
use crate::run::{self, Tried};
use crate::server::{Server, program_user};
use crate::{Error, Exit, Job, Limits, Output, Stream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, oneshot};

/// Tries that a program has when the forkserver dies before the program begins.
const TRIES: usize = 3;

/// How to run programs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Python of the environment that `make setup` makes. Where this process is root, the user `nobody` must be
    /// able to read it and its packages.
    pub python: PathBuf,
    /// Where the folders of programs are made. Where this process is root, `nobody` must be able to reach it.
    pub work_root: PathBuf,
    /// How long Python and pandas may take to load.
    pub start_timeout: Duration,
    /// How many programs run at once; more wait. Four are plenty for two cores.
    pub jobs: usize,
}

impl Config {
    /// Four programs at once, 30 s to start.
    pub fn new(python: impl Into<PathBuf>, work_root: impl Into<PathBuf>) -> Self {
        let start_timeout = Duration::from_secs(30);
        Self { python: python.into(), work_root: work_root.into(), start_timeout, jobs: 4 }
    }
}

/// A place to run programs. Clones share it; when the last one is gone its processes and folders go too.
#[derive(Debug, Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    landlock_cap: u32,
    slots: Arc<Semaphore>,
    server: Mutex<Option<Arc<Server>>>,
    instance: Instance,
}

impl Sandbox {
    /// Starts the forkserver and proves, with a program that tries, that programs are locked in.
    pub async fn start(config: Config) -> Result<Self, Error> {
        Self::start_capped(config, u32::MAX).await
    }

    /// The same on a kernel whose Landlock is taken to be no newer than `landlock_cap`.
    pub(crate) async fn start_capped(config: Config, landlock_cap: u32) -> Result<Self, Error> {
        let root = config.work_root.clone();
        let instance = blocking(move || Instance::create(&root)).await??;
        let slots = Arc::new(Semaphore::new(config.jobs));
        let shared = Shared { config, landlock_cap, slots, server: Mutex::new(None), instance };
        let sandbox = Self { shared: Arc::new(shared) };
        sandbox.probe().await?;
        Ok(sandbox)
    }

    /// Runs a program, once a place is free. Dropping the future kills it.
    pub async fn run(&self, job: Job) -> Result<Output, Error> {
        self.run_listened(job, None).await
    }

    /// The same, and passes on what it prints line by line while it runs: at most 1,000 lines and 64 KiB, a line of
    /// more than 4 KiB in pieces, without line ends. `on_output` is called on the runtime's threads, so it must not
    /// block. `Output` holds the whole nevertheless.
    pub async fn run_with(
        &self,
        job: Job,
        on_output: impl Fn(Stream, &str) + Send + Sync + 'static,
    ) -> Result<Output, Error> {
        self.run_listened(job, Some(Listener::new(on_output))).await
    }

    async fn run_listened(&self, job: Job, listener: Option<Listener>) -> Result<Output, Error> {
        let place = self.shared.slots.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let shared = self.shared.clone();
        let (mut answer, waiting) = oneshot::channel();
        // In a task of its own, so that an abandoned program is still seen to its death before its place is free.
        tokio::spawn(async move {
            let outcome = shared.execute(&job, listener.as_ref(), &mut answer).await;
            drop(place);
            let _ = answer.send(outcome);
        });
        waiting.await.unwrap_or(Err(Error::Lost))
    }

    /// Whether programs are run and locked in now. Where all places are taken, only whether the forkserver lives.
    pub async fn probe(&self) -> Result<(), Error> {
        if self.shared.slots.is_closed() {
            return Err(Error::Closed);
        }
        if self.shared.slots.available_permits() == 0 {
            return self.shared.server().await.map(drop);
        }
        let limits = Limits { wall: Duration::from_secs(10), ..Limits::default() };
        let output = self.run(Job { limits, ..Job::new(include_str!("python/probe.py")) }).await?;
        match (&output.exit, output.result.as_ref().and_then(serde_json::Value::as_str)) {
            (Exit::Ok, Some("")) => Ok(()),
            (Exit::Ok, Some(open)) => Err(Error::not_enforceable(format!("a program got at: {open}"))),
            (exit, _) => Err(Error::Start { reason: format!("the probe ended {exit:?}: {}", output.stderr) }),
        }
    }

    /// Kills every program and the forkserver and waits for their end. Nothing runs afterwards.
    pub async fn shutdown(&self) {
        self.shared.slots.close();
        if let Some(server) = self.shared.server.lock().await.take() {
            server.stop().await;
        }
    }
}

/// Where the outcome goes; closed when nobody waits for it any more.
type Answer = oneshot::Sender<Result<Output, Error>>;

impl Shared {
    /// Runs `job` on a forkserver that lives, a new one where needed.
    async fn execute(
        &self,
        job: &Job,
        listener: Option<&Listener>,
        answer: &mut Answer,
    ) -> Result<Output, Error> {
        for _ in 0..TRIES {
            let server = self.server().await?;
            let folder = self.instance.job(program_user())?;
            let tried = run::run(&server, &folder, job, listener, answer.closed()).await;
            blocking(move || drop(folder)).await?;
            match tried {
                Ok(Tried::Ran(output)) => return Ok(*output),
                Ok(Tried::NeverBegan) => self.forget(&server).await,
                Err(error) => return Err(error),
            }
        }
        Err(Error::Start { reason: "it keeps dying".into() })
    }

    /// The forkserver, started where there is none or it died.
    async fn server(&self) -> Result<Arc<Server>, Error> {
        let mut slot = self.server.lock().await;
        if self.slots.is_closed() {
            return Err(Error::Closed);
        }
        if let Some(server) = slot.as_ref().filter(|server| server.is_alive()) {
            return Ok(server.clone());
        }
        let server = Arc::new(Server::start(&self.config, self.landlock_cap).await?);
        *slot = Some(server.clone());
        Ok(server)
    }

    /// Makes the next job start another forkserver than this one.
    async fn forget(&self, server: &Arc<Server>) {
        let mut slot = self.server.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, server)) {
            *slot = None;
        }
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    /// Linux 5.19 to 6.1 sees neither truncation nor signals; there the filter has to.
    #[tokio::test]
    async fn programs_are_locked_in_on_an_old_kernel_too() {
        let Some(python) = testkit::installed("python/bin/python", "make setup") else { return };
        let root = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let sandbox = Sandbox::start_capped(Config::new(python, root.path()), 2).await.unwrap();
        for source in [
            "import os; os.kill(os.getppid(), 9)",
            "import os; os.truncate('/etc/passwd', 0)",
            "import os; os.open('mine', os.O_RDONLY | os.O_TRUNC)",
            "import fcntl; fcntl.fcntl(1, fcntl.F_SETOWN, 1)",
        ] {
            let exit = sandbox.run(Job::new(source)).await.unwrap().exit;
            assert!(matches!(exit, Exit::Denied { .. }), "{source}: {exit:?}");
        }
        let exit =
            sandbox.run(Job::new("open('mine', 'w').write('x'); open('mine', 'w')")).await.unwrap().exit;
        assert_eq!(exit, Exit::Ok);
        let config = sandbox.shared.config.clone();
        assert!(matches!(Sandbox::start_capped(config, 1).await, Err(Error::NotEnforceable { .. })));
    }
}
