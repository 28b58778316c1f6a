//! One `toolcrib serve` as a process of its own, which a scenario may kill, freeze and start again. Must never outlive
//! the process that runs the scenario.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{Client, eventually, installation::command};

/// A process that does not say within this time that it serves does not.
const SOON: Duration = Duration::from_millis(500);

/// A process of these roles, running or not.
#[derive(Debug)]
pub struct Serving {
    /// Where its port is.
    pub address: SocketAddr,
    roles: &'static str,
    service: &'static str,
    environment: Vec<(String, String)>,
    log: PathBuf,
    running: Mutex<Option<Running>>,
}

/// The process, and the thread that waits for its end.
#[derive(Debug)]
struct Running {
    pid: Pid,
    waiter: JoinHandle<()>,
}

impl Serving {
    /// Not started yet. It serves once health on its port says so of this service.
    pub fn new(
        (roles, service, address): (&'static str, &'static str, SocketAddr),
        environment: Vec<(String, String)>,
        log: PathBuf,
    ) -> Self {
        Self { address, roles, service, environment, log, running: Mutex::default() }
    }

    /// Starts it; it serves a moment later.
    pub fn start(&self) {
        let mut running = self.lock();
        assert!(running.is_none(), "it runs already");
        *running = Some(spawn(self.command()));
    }

    /// Kills it without warning; everything in its memory is lost.
    pub fn kill(&self) {
        let Some(running) = self.lock().take() else { return };
        let _ = kill_process(running.pid, Signal::KILL);
        let _ = running.waiter.join();
    }

    /// Freezes it: connections stay open, and nothing goes on (SIGSTOP).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after `freeze` (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it answers that it serves.
    pub async fn serves(&self) -> bool {
        let client = Client::new(self.address);
        let asked = tokio::time::timeout(SOON, client.health(self.service)).await;
        asked.is_ok_and(|status| status.is_ok_and(|status| status == ServingStatus::Serving))
    }

    /// Waits until it serves.
    pub async fn wait_until_serving(&self) {
        eventually(&format!("a process of {} serves", self.roles), async || {
            let ended = self.lock().as_ref().is_none_or(|running| running.waiter.is_finished());
            assert!(!ended, "{} ended:\n{}", self.roles, self.log());
            self.serves().await.then_some(())
        })
        .await;
    }

    /// What it has written, all starts together.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = command();
        command
            .args(["serve", "--roles", self.roles])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // A signal for the terminal of the tests is not for it.
            .process_group(0);
        command
    }

    fn signal(&self, signal: Signal) {
        let running = self.lock();
        kill_process(running.as_ref().expect("it runs").pid, signal).unwrap();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a program that is killed when the thread that started it ends, hence a thread that lives as long as the
/// program (prctl(2), PR_SET_PDEATHSIG).
fn spawn(mut command: Command) -> Running {
    // SAFETY: prctl(2) is async-signal-safe and touches nothing of the parent's memory.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let (started, start) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let mut child = command.spawn().unwrap();
        let _ = started.send(Pid::from_child(&child));
        let _ = child.wait();
    });
    Running { pid: start.recv().unwrap(), waiter }
}
