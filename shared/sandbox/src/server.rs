//! The forkserver process as seen from here: start it, greet it, hand it jobs, end it.
//!
//! Must never let it outlive us: it ends with its control socket and with the thread that started it. Must never tell
//! it anything of ours beyond the greeting: its environment is empty, and its memory is what every program inherits.

use crate::filter::{self, Policy};
use crate::{Config, Error};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use serde_json::json;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

const BOOTSTRAP: &str = include_str!("python/bootstrap.py");
const MODULES: [(&str, &str); 4] = [
    ("sandbox_lockdown", include_str!("python/lockdown.py")),
    ("sandbox_watch", include_str!("python/watch.py")),
    ("sandbox_program", include_str!("python/program.py")),
    ("sandbox_forkserver", include_str!("python/forkserver.py")),
];

/// One thread a library: a fork copies none of them. Fewer allocator arenas: each reserves address space.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("LC_ALL", "C.UTF-8"),
    ("MALLOC_ARENA_MAX", "2"),
    ("MKL_NUM_THREADS", "1"),
    ("NUMEXPR_NUM_THREADS", "1"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
];

/// `nobody` of Debian and the kernel's overflow user.
const NOBODY: u32 = 65_534;
/// The newest Landlock version this code knows the rights of.
const LANDLOCK_KNOWN: u32 = 7;
/// The oldest that keeps a file from being moved between folders of different rights.
const LANDLOCK_NEEDED: u32 = 2;
/// How much of the forkserver's own messages is kept for an error, bytes.
const STDERR_KEPT: usize = 4096;
/// How long it has to end when asked to.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the forkserver answers to the policy.
#[derive(Deserialize)]
struct Proved {
    refused: Option<String>,
}

/// A running forkserver. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    control: UnixStream,
    process: OwnedFd,
    gone: watch::Receiver<bool>,
}

/// What the forkserver answers to the greeting.
#[derive(Deserialize)]
struct Answer {
    abi: Option<u32>,
    python: Option<String>,
    #[serde(default)]
    version: String,
}

/// What the thread that minds the process shares with us.
struct Minded {
    pid: Pid,
    gone: watch::Receiver<bool>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

/// The user that programs run as, where we may choose.
pub(crate) fn program_user() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(NOBODY)
}

impl Server {
    /// Starts Python, loads pandas and settles the policy. Landlock is taken to be no newer than `landlock_cap`.
    pub async fn start(config: &Config, landlock_cap: u32) -> Result<Self, Error> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let control = UnixStream::from_std(ours)?;
        let minded = mind(config, theirs).await?;
        let process = pidfd_open(minded.pid, PidfdFlags::empty()).map_err(io::Error::from)?;
        let mut server = Self { control, process, gone: minded.gone };
        match tokio::time::timeout(config.start_timeout, server.greet(landlock_cap)).await {
            Ok(Ok(())) => Ok(server),
            Ok(Err(Error::Folder(cause))) => {
                server.stop().await;
                Err(Error::Start { reason: format!("{cause}; {}", last_words(&minded.stderr)) })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                server.kill();
                Err(Error::Start { reason: format!("not ready within {:?}", config.start_timeout) })
            }
        }
    }

    /// Gives the forkserver its code, learns what the kernel offers, gives it the policy.
    async fn greet(&mut self, landlock_cap: u32) -> Result<(), Error> {
        let modules = MODULES.map(|(name, source)| json!({"name": name, "source": source}));
        self.tell(&json!({"modules": modules, "parent": std::process::id()})).await?;
        let answer: Answer = serde_json::from_slice(&self.hear().await?).map_err(io::Error::from)?;
        if let Some(reason) = answer.python {
            return Err(Error::Python { reason });
        }
        let abi = answer.abi.unwrap_or_default().min(landlock_cap).min(LANDLOCK_KNOWN);
        if abi < LANDLOCK_NEEDED {
            let reason = format!("the kernel offers Landlock version {abi}, and {LANDLOCK_NEEDED} is needed");
            return Err(Error::not_enforceable(reason));
        }
        let user = program_user();
        let filters = filter::compile(Policy { landlock_abi: abi, own_user: user.is_some() })?;
        self.tell(&json!({"abi": abi, "filters": filters, "user": user})).await?;
        let proved: Proved = serde_json::from_slice(&self.hear().await?).map_err(io::Error::from)?;
        if let Some(reason) = proved.refused {
            return Err(Error::not_enforceable(reason));
        }
        tracing::info!(python.version = answer.version, landlock.abi = abi, "python forkserver started");
        Ok(())
    }

    async fn tell(&mut self, message: &serde_json::Value) -> io::Result<()> {
        self.control.write_all(format!("{message}\n").as_bytes()).await
    }

    async fn hear(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.control.read_u8().await? {
                b'\n' => return Ok(line),
                byte => line.push(byte),
            }
        }
    }

    /// Hands over one job: its lifeline, its channel, its standard output and error.
    pub async fn send(&self, descriptors: [BorrowedFd<'_>; 4]) -> io::Result<()> {
        self.control
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                let mut buffer = SendAncillaryBuffer::new(&mut space);
                buffer.push(SendAncillaryMessage::ScmRights(&descriptors));
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                rustix::net::sendmsg(&self.control, &[IoSlice::new(b"j")], &mut buffer, flags)?;
                Ok(())
            })
            .await
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        !*self.gone.borrow()
    }

    /// Ends the process, and with it every program, whatever state it is in.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }

    /// Ends the process and waits until it is reaped.
    pub async fn stop(&self) {
        let _ = rustix::net::shutdown(&self.control, Shutdown::Both);
        let mut gone = self.gone.clone();
        if tokio::time::timeout(STOP_GRACE, gone.wait_for(|&gone| gone)).await.is_err() {
            self.kill();
            let _ = gone.wait_for(|&gone| gone).await;
        }
    }
}

/// Starts the process in a thread that lives as long: the kernel ends a child with the thread that made it.
async fn mind(config: &Config, control: StdStream) -> Result<Minded, Error> {
    let mut command = command(config, control);
    let (started, start) = oneshot::channel();
    let (ending, gone) = watch::channel(false);
    let stderr = Arc::new(Mutex::new(Vec::new()));
    let kept = stderr.clone();
    std::thread::Builder::new().name("python-forkserver".into()).spawn(move || {
        let child = command.spawn();
        drop(command); // with our copy of its end of the control socket
        match child {
            Ok(child) => {
                let _ = started.send(Ok(child.id()));
                wait(child, &kept);
                let _ = ending.send(true);
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    let spawned = start.await.unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
    let number = spawned.map_err(|error| Error::Python {
        reason: format!("{} cannot be run: {error}", config.python.display()),
    })?;
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    Ok(Minded { pid: pid.ok_or(Error::Lost)?, gone, stderr })
}

fn command(config: &Config, control: StdStream) -> Command {
    let mut command = Command::new(&config.python);
    command
        .args(["-I", "-c", BOOTSTRAP])
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(control)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Keeps the start of what the process writes to standard error, and reaps it.
fn wait(mut child: Child, kept: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 1024];
    if let Some(mut stderr) = child.stderr.take() {
        while let Ok(count @ 1..) = stderr.read(&mut chunk) {
            let text = &chunk[..count];
            tracing::warn!(text = %String::from_utf8_lossy(text).trim_end(), "python forkserver wrote");
            if let Ok(mut kept) = kept.lock() {
                let room = STDERR_KEPT.saturating_sub(kept.len());
                kept.extend_from_slice(&text[..count.min(room)]);
            }
        }
    }
    let _ = child.wait();
}

fn last_words(stderr: &Mutex<Vec<u8>>) -> String {
    stderr.lock().map(|kept| String::from_utf8_lossy(&kept).trim_end().to_owned()).unwrap_or_default()
}
