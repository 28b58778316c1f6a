//! `toolcrib up` as people run it: the real binary, with a folder and a PostgreSQL of its own. It never outlives its
//! value.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{Client, eventually};

/// One installation, running or not.
#[derive(Debug)]
pub struct Installation {
    folder: TempDir,
    process: Option<Child>,
    /// What it logs; `None`: as by default.
    log: Option<&'static str>,
}

impl Installation {
    /// A fresh one, running.
    pub async fn start() -> Self {
        Self::begin(None).await
    }

    /// The same, whose log has what these directives say.
    pub async fn start_logging(directives: &'static str) -> Self {
        Self::begin(Some(directives)).await
    }

    async fn begin(log: Option<&'static str>) -> Self {
        let mut installation = Self { folder: testkit::folder(), process: None, log };
        installation.start_again().await;
        installation
    }

    /// Starts it on the same data; gives no answer before it serves.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.up();
        command
            .env("TOOLCRIB__EXECUTOR__HEARTBEAT_INTERVAL_MS", "200")
            .env("TOOLCRIB__EXECUTOR__LEASE_TIMEOUT_MS", "1000")
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(directives) = self.log {
            command.env("TOOLCRIB__TELEMETRY__LOG", directives);
        }
        // A signal for the terminal of the tests is not for it.
        command.process_group(0);
        self.process = Some(command.spawn().unwrap());
        eventually("toolcrib up serves", async || {
            assert!(self.is_running(), "toolcrib up ended:\n{}", self.log());
            let serving = self.client_at()?.health("toolcrib.executor.v1.ExecutorService").await.ok()?;
            (serving == ServingStatus::Serving).then_some(())
        })
        .await;
    }

    /// Runs a second `toolcrib up` on the same data, which has to end by itself.
    pub fn second_up(&self) -> Output {
        self.up().output().unwrap()
    }

    fn up(&self) -> Command {
        let mut command = command();
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(self.data()).stdin(Stdio::null());
        command
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
        // What it would have taken back had it lived.
        let _ = fs::remove_file(self.data().join("edge.address"));
    }

    /// Asks it to stop, and gives how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        eventually("toolcrib up stops", async || process.try_wait().unwrap()).await
    }

    /// Whether its process lives.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// Every process under it.
    pub fn descendants(&self) -> Vec<Process> {
        Process::from_pid(self.process.as_ref().expect("it runs").id())
            .map(Process::descendants)
            .unwrap_or_default()
    }

    /// Process id of its PostgreSQL.
    pub fn postgres(&self) -> Pid {
        let file = fs::read_to_string(self.data().join("postgres/data/postmaster.pid")).unwrap();
        Pid::from_raw(file.lines().next().unwrap().trim().parse().unwrap()).unwrap()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A path beside its data, for the test's own use.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has written, all starts together.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The key that it made.
    pub fn key(&self) -> String {
        fs::read_to_string(self.data().join("dev.key")).unwrap().trim().to_owned()
    }

    /// Its first agent, an admin, over a new connection.
    pub fn client(&self) -> Client {
        self.client_at().expect("it serves").with_key("dev", &self.key())
    }

    /// Runs a command of the command line against it, with its own key.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with_key(&self.data().join("dev.key"), arguments)
    }

    /// The same, with the key in this file.
    pub fn cli_with_key(&self, key: &Path, arguments: &[&str]) -> Output {
        let address = fs::read_to_string(self.data().join("edge.address")).unwrap();
        self.run(&address, key, arguments)
    }

    /// The same, with its own key, at another address.
    pub fn cli_at(&self, address: &str, arguments: &[&str]) -> Output {
        self.run(address, &self.data().join("dev.key"), arguments)
    }

    fn run(&self, address: &str, key: &Path, arguments: &[&str]) -> Output {
        let mut command = command();
        command.args(arguments).args(["--address", &format!("http://{address}"), "--api-key-file"]).arg(key);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn client_at(&self) -> Option<Client> {
        let address = fs::read_to_string(self.data().join("edge.address")).ok()?;
        Some(Client::new(address.parse().ok()?))
    }

    fn log_file(&self) -> PathBuf {
        self.beside("up.log")
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // Gone already is as good.
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// The binary, which cargo builds beside the tests.
pub fn command() -> Command {
    let test = std::env::current_exe().unwrap();
    // Tests stand in a folder beside it, programs next to it.
    let mut places = test.ancestors().skip(1).take(2).map(|folder| folder.join("toolcrib"));
    let binary = places.find(|binary| binary.exists());
    let binary = binary.expect("the binary is built: run `cargo build -p node`");
    let mut command = Command::new(binary);
    for name in ["TOOLCRIB_ADDRESS", "TOOLCRIB_API_KEY", "TOOLCRIB_ON_BEHALF_OF"] {
        command.env_remove(name);
    }
    command
}

/// A process of this machine, told apart from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    parent: u32,
    started: String,
}

impl Process {
    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::from_pid(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Reads `/proc/PID/stat` (proc(5)): state, parent and start time are fields 3, 4 and 22; a zombie has ended.
    fn from_pid(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let (state, parent, started) = (fields.first()?, fields.get(1)?, fields.get(19)?);
        let lives = !matches!(*state, "Z" | "X");
        lives.then(|| Self { pid, parent: parent.parse().unwrap_or(0), started: (*started).to_owned() })
    }

    fn descendants(self) -> Vec<Self> {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let all: Vec<Self> = pids.filter_map(Self::from_pid).collect();
        let mut found = vec![self];
        let mut next = 0;
        while let Some(parent) = found.get(next).map(|process| process.pid) {
            found.extend(all.iter().filter(|process| process.parent == parent).cloned());
            next += 1;
        }
        found.split_off(1)
    }
}
