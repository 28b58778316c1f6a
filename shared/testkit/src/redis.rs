//! A real Redis for a test, alone or as a Cluster of three, which the test may kill, freeze and start again. Must never
//! outlive the process that runs the test.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use secrecy::SecretString;
use tempfile::TempDir;

use crate::folder;

/// How long a server may take to start, or a Cluster to come together, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked whether it is there.
const POLL: Duration = Duration::from_millis(20);
/// Redis Cluster divides its keys into this many slots (Redis Cluster specification).
const SLOTS: usize = 16_384;

/// A new, empty Redis.
pub async fn redis() -> RedisServer {
    RedisServer::start(&[]).await
}

/// A new, empty Redis Cluster of three nodes without replicas.
pub async fn redis_cluster() -> RedisCluster {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        // Short timeouts let a Cluster that was killed come together again soon.
        nodes.push(RedisServer::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]).await);
    }
    let cluster = RedisCluster { nodes };
    cluster.assign_slots().await;
    cluster.wait_until_ok().await;
    cluster
}

/// A Redis server; it ends when this is dropped, and with the process at the latest.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    bus_port: u16,
    arguments: Vec<&'static str>,
    running: Mutex<Option<Running>>,
    folder: TempDir,
}

/// The process, and the thread that waits for its end.
#[derive(Debug)]
struct Running {
    pid: Pid,
    waiter: JoinHandle<()>,
}

impl RedisServer {
    async fn start(arguments: &[&'static str]) -> Self {
        let folder = folder();
        // Another process may take the port first: then the server ends, and another port is tried.
        for _ in 0..10 {
            let (port, bus_port) = (free_port(), free_port());
            let running = spawn(port, bus_port, arguments, folder.path());
            if answers(port, &running).await {
                let running = Mutex::new(Some(running));
                return Self { port, bus_port, arguments: arguments.to_vec(), running, folder };
            }
            assert!(running.waiter.is_finished(), "a redis-server of ours takes no connections");
        }
        panic!("redis-server does not start; see {}", folder.path().join("log").display());
    }

    /// Its URL.
    pub fn url(&self) -> SecretString {
        format!("redis://127.0.0.1:{}", self.port).into()
    }

    /// Its port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it; everything it knew is lost.
    pub fn kill(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            let _ = kill_process(running.pid, Signal::KILL);
            let _ = running.waiter.join();
        }
    }

    /// Starts it again on the same port, empty, after a kill or instead of the one that runs.
    pub async fn restart(&self) {
        self.kill();
        let running = spawn(self.port, self.bus_port, &self.arguments, self.folder.path());
        assert!(answers(self.port, &running).await, "Redis starts again on port {}", self.port);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    /// Freezes it: connections stay open, and nothing is answered (SIGSTOP).
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after `stop` (SIGCONT).
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Deletes every key.
    pub async fn flush(&self) {
        self.command(&["FLUSHALL"]).await;
    }

    /// Runs one command through redis-cli and gives its output.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let output = tokio::process::Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("Redis answers");
        let output = output.expect("redis-cli runs; run `make setup` if it is missing");
        assert!(output.status.success(), "redis-cli {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// How often each command, in lower case, was called since the start: `evalsha` and the like.
    pub async fn calls(&self, command: &str) -> u64 {
        let stats = self.command(&["INFO", "commandstats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        let count = line.and_then(|rest| rest.split(',').next());
        count.map_or(0, |count| count.parse().expect("a number of calls"))
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_ref().expect("Redis runs");
        kill_process(running.pid, signal).expect("Redis takes signals");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers that share the keys.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes; each has a third of the slots.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// The URLs of all nodes.
    pub fn urls(&self) -> Vec<SecretString> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// Deletes every key.
    pub async fn flush(&self) {
        for node in &self.nodes {
            node.flush().await;
        }
    }

    /// Kills every node; they keep their slots and lose every key.
    pub fn kill(&self) {
        self.nodes.iter().for_each(RedisServer::kill);
    }

    /// Starts every node again, and waits until they are a Cluster.
    pub async fn restart(&self) {
        for node in &self.nodes {
            node.restart().await;
        }
        self.wait_until_ok().await;
    }

    async fn assign_slots(&self) {
        let share = SLOTS.div_ceil(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let (first, last) = (index * share, ((index + 1) * share).min(SLOTS) - 1);
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
        }
        for other in &self.nodes[1..] {
            let (port, bus_port) = (other.port.to_string(), other.bus_port.to_string());
            self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]).await;
        }
    }

    async fn wait_until_ok(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        let started = Instant::now();
        for node in &self.nodes {
            loop {
                let info = node.command(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains(&known) {
                    break;
                }
                assert!(started.elapsed() < PATIENCE, "the nodes do not become a Cluster: {info}");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// Starts a server that is killed when the thread that started it ends, hence a thread that lives as long as the
/// server (prctl(2), PR_SET_PDEATHSIG).
fn spawn(port: u16, bus_port: u16, arguments: &[&'static str], folder: &Path) -> Running {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--cluster-port", &bus_port.to_string(), "--logfile", "log"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: prctl(2) is async-signal-safe and touches nothing of the parent's memory.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let (started, start) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let mut child = command.spawn().expect("redis-server runs; run `make setup` if it is missing");
        let _ = started.send(Pid::from_child(&child));
        let _ = child.wait();
    });
    let pid = start.recv().expect("redis-server runs; run `make setup` if it is missing");
    Running { pid, waiter }
}

/// Waits until the server answers; false when it has ended instead, or takes too long.
async fn answers(port: u16, running: &Running) -> bool {
    let started = Instant::now();
    while !running.waiter.is_finished() && started.elapsed() < PATIENCE {
        if pong(port).await.is_some_and(|pid| pid == running.pid) {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

/// The process id that the Redis on this port gives, once it answers.
async fn pong(port: u16) -> Option<Pid> {
    let mut command = tokio::process::Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "INFO", "server"]).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?;
    let output = output.expect("redis-cli runs; run `make setup` if it is missing");
    let text = String::from_utf8_lossy(&output.stdout);
    let pid = text.lines().find_map(|line| line.strip_prefix("process_id:"))?;
    Pid::from_raw(pid.trim().parse().ok()?)
}

/// A free port below those that the kernel gives to clients, so that it stays free while a server is restarted.
fn free_port() -> u16 {
    loop {
        let bytes = types::new_id().into_bytes();
        let port = 20_000 + u16::from_be_bytes([bytes[14], bytes[15]]) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_killed_restarted_empty_and_ends_with_its_handle() {
        let server = redis().await;
        server.command(&["SET", "a", "1"]).await;
        assert_eq!(server.calls("set").await, 1);
        server.kill();
        assert!(pong(server.port()).await.is_none());
        server.restart().await;
        assert_eq!(server.command(&["EXISTS", "a"]).await, "0");
        let port = server.port();
        drop(server);
        assert!(pong(port).await.is_none());
    }

    #[tokio::test]
    async fn a_cluster_serves_every_slot_again_after_a_restart() {
        let cluster = redis_cluster().await;
        cluster.kill();
        cluster.restart().await;
        let info = cluster.nodes[2].command(&["CLUSTER", "INFO"]).await;
        assert!(info.contains("cluster_slots_ok:16384"), "{info}");
    }
}
