//! Follows one program to its death, and brings that about where it must come early: its time is over, it holds more
//! than it may, or nobody waits for it.
//!
//! Must never come back before the program is dead or its forkserver killed.

use crate::Job;
use crate::disk;
use crate::report::Ended;
use crate::server::Server;
use serde::Deserialize;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::time::Instant;

/// How long the forkserver has to kill a program before it is killed itself, with all it runs.
const KILL_GRACE: Duration = Duration::from_millis(800);
/// How long the kernel then has to take a program apart, which by then does nothing any more.
const END_GRACE: Duration = Duration::from_secs(10);

/// What the forkserver says about one job.
#[derive(Default, Deserialize)]
pub(crate) struct Said {
    #[serde(default)]
    pub locked: bool,
    pub refused: Option<Refused>,
    pub ended: Option<Ended>,
    #[serde(default)]
    killed: bool,
    using: Option<Using>,
}

/// Why the forkserver, or the child before it was locked in, did not run a program.
#[derive(Deserialize)]
pub(crate) struct Refused {
    pub kind: String,
    pub what: String,
}

/// What a program holds that no limit of the kernel counts.
#[derive(Deserialize)]
struct Using {
    threads: u64,
    /// Of files open but unlinked.
    hidden_bytes: u64,
    /// Files that are mapped but unlinked: any may be as large as a file may get.
    hidden_files: u64,
}

/// Why a program was killed.
pub(crate) enum Killed {
    /// At its limit of time.
    TimedOut,
    /// At a limit of what it keeps on disk.
    Disk(String),
    /// At its limit of threads.
    Threads(u64),
    /// Nobody waited any more.
    Abandoned,
}

/// What became of the process.
pub(crate) struct Fate {
    pub said: Said,
    pub killed: Option<Killed>,
    pub wall: Duration,
}

/// Follows the program at the other end of `lifeline`.
pub(crate) async fn watch(
    lifeline: UnixStream,
    server: &Server,
    job: &Job,
    folder: &Path,
    abandoned: impl Future<Output = ()>,
) -> io::Result<Fate> {
    let started = Instant::now();
    let limits = &job.limits;
    let hidden = AtomicU64::new(0);
    let mut said = Said::default();
    let (reading, writing) = lifeline.into_split();
    let mut reading = BufReader::new(reading);
    let killed = tokio::select! {
        heard = listen(&mut reading, &mut said, job, &hidden) => heard?,
        () = tokio::time::sleep_until(started + limits.wall) => Some(Killed::TimedOut),
        what = disk::exceeded(folder, limits, &hidden) => Some(Killed::Disk(what)),
        () = abandoned => Some(Killed::Abandoned),
    };
    let mut wall = started.elapsed();
    if killed.is_some() {
        drop(writing); // closes that direction of the lifeline: the forkserver kills
        let killing = hear_until(&mut reading, &mut said, |said| said.killed || said.ended.is_some());
        let dead = tokio::time::timeout(KILL_GRACE, killing).await.is_ok();
        wall = started.elapsed();
        let ending = hear_until(&mut reading, &mut said, |_| false);
        if !dead || tokio::time::timeout(END_GRACE, ending).await.is_err() {
            server.kill();
        }
    }
    Ok(Fate { said, killed, wall })
}

/// Collects what is said on the lifeline until it ends, or until the program has to.
async fn listen(
    lifeline: &mut BufReader<OwnedReadHalf>,
    said: &mut Said,
    job: &Job,
    hidden: &AtomicU64,
) -> io::Result<Option<Killed>> {
    let limits = &job.limits;
    while let Some(using) = hear(lifeline, said).await? {
        let Some(using) = using else { continue };
        let mapped = using.hidden_files.saturating_mul(limits.file_bytes);
        hidden.store(using.hidden_bytes.saturating_add(mapped), Ordering::Relaxed);
        if using.threads > limits.threads {
            return Ok(Some(Killed::Threads(limits.threads)));
        }
    }
    Ok(None)
}

/// Collects what else is said of a program that is killed, to the end of it or until that is `enough`.
async fn hear_until(
    lifeline: &mut BufReader<OwnedReadHalf>,
    said: &mut Said,
    enough: impl Fn(&Said) -> bool,
) -> io::Result<()> {
    while !enough(said) && hear(lifeline, said).await?.is_some() {}
    Ok(())
}

/// Takes one line from the lifeline, nothing at its end.
async fn hear(lifeline: &mut BufReader<OwnedReadHalf>, said: &mut Said) -> io::Result<Option<Option<Using>>> {
    let mut line = String::new();
    if lifeline.read_line(&mut line).await.unwrap_or(0) == 0 {
        return Ok(None);
    }
    let more: Said = serde_json::from_str(&line)?;
    said.locked |= more.locked;
    said.refused = more.refused.or(said.refused.take());
    said.ended = more.ended.or(said.ended.take());
    said.killed |= more.killed;
    Ok(Some(more.using))
}
