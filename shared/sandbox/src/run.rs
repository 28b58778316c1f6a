//! One program from start to end: its pipes, its time, its death.
//!
//! Must never leave it running when this returns or is dropped (its lifeline closes), and must never hold more of its
//! output than its limits say, however much it writes.

use crate::folder::JobFolder;
use crate::output::{Kept, Listener, keep};
use crate::report::{self, Ended};
use crate::server::{Server, program_user};
use crate::watch::{Fate, Killed, Refused, watch};
use crate::{Error, Exit, Job, Limits, Output, Stream};
use serde_json::json;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedWriteHalf, pipe};

/// Below this Python itself cannot report, bytes.
const MEMORY_FLOOR: u64 = 16 << 20;
/// Descriptors a program may have open.
const DESCRIPTORS: u64 = 256;
/// Threads and processes of the user `nobody`, over all programs at once. Well above what one program may have, which
/// is counted only every few milliseconds: none shall take them all before.
const TASKS_OF_NOBODY: u64 = 1024;
/// The same for a user that is not only ours, whose other processes count too.
const TASKS_OF_USER: u64 = 4096;
/// What a report holds beside the result, bytes.
const REPORT_MARGIN: usize = 64 << 10;

/// The end of one try.
pub(crate) enum Tried {
    /// The program ran.
    Ran(Box<Output>),
    /// The forkserver died before the program began, so it may be tried again.
    NeverBegan,
}

/// Our ends of what connects us with one program.
struct Ends {
    lifeline: UnixStream,
    channel: UnixStream,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// Runs `job` in `folder` until it ends, a limit is reached or `abandoned` resolves.
pub(crate) async fn run(
    server: &Server,
    folder: &JobFolder,
    job: &Job,
    listener: Option<&Listener>,
    abandoned: impl Future<Output = ()>,
) -> Result<Tried, Error> {
    let order = order(job, folder, listener.is_some());
    let limits = &job.limits;
    let Some(ends) = hand_over(server).await? else { return Ok(Tried::NeverBegan) };
    let (reading, writing) = ends.channel.into_split();
    let lines = |stream| listener.map(|listener| listener.lines(stream));
    let (fate, stdout, stderr, report, ()) = tokio::join!(
        watch(ends.lifeline, server, job, &folder.path, abandoned),
        keep(ends.stdout, limits.output_bytes, lines(Stream::Stdout)),
        keep(ends.stderr, limits.output_bytes, lines(Stream::Stderr)),
        keep(reading, limits.result_bytes.saturating_add(REPORT_MARGIN), None),
        give(writing, &order),
    );
    conclude(fate?, stdout, stderr, &report, limits)
}

/// All that the child is told, as JSON.
fn order(job: &Job, folder: &JobFolder, stream: bool) -> Vec<u8> {
    let seconds = job.limits.wall.as_secs() + 2;
    let tasks = if program_user().is_some() { TASKS_OF_NOBODY } else { TASKS_OF_USER };
    let order = json!({
        "source": job.source,
        "arguments": job.input,
        "workspace": job.readable.first(),
        "readable": job.readable,
        "folder": folder.path,
        "stream": stream,
        "memory_bytes": job.limits.memory_bytes.max(MEMORY_FLOOR),
        "result_bytes": job.limits.result_bytes,
        "limits": {
            "CORE": [0, 0],
            "CPU": [seconds, seconds + 1],
            "FSIZE": [job.limits.file_bytes, job.limits.file_bytes],
            "MEMLOCK": [0, 0],
            "MSGQUEUE": [0, 0],
            "NOFILE": [DESCRIPTORS, DESCRIPTORS],
            "NPROC": [tasks, tasks],
        },
    });
    order.to_string().into_bytes()
}

/// Makes the pipes and gives their far ends away. Nothing, where nobody is there to take them.
async fn hand_over(server: &Server) -> Result<Option<Ends>, Error> {
    let (lifeline, far_lifeline) = StdStream::pair()?;
    let (channel, far_channel) = StdStream::pair()?;
    let (stdout, far_stdout) = io::pipe()?;
    let (stderr, far_stderr): (PipeReader, PipeWriter) = io::pipe()?;
    let far = [far_lifeline.as_fd(), far_channel.as_fd(), far_stdout.as_fd(), far_stderr.as_fd()];
    if server.send(far).await.is_err() {
        return Ok(None);
    }
    Ok(Some(Ends {
        lifeline: stream(lifeline)?,
        channel: stream(channel)?,
        stdout: pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?,
        stderr: pipe::Receiver::from_owned_fd(OwnedFd::from(stderr))?,
    }))
}

fn stream(socket: StdStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Writes the order and closes that direction. A child that died cannot read it, which its fate tells.
async fn give(mut channel: OwnedWriteHalf, order: &[u8]) {
    let _ = channel.write_all(order).await;
}

fn conclude(fate: Fate, stdout: Kept, stderr: Kept, report: &Kept, limits: &Limits) -> Result<Tried, Error> {
    if let Some(refused) = fate.said.refused {
        return Err(refusal(refused));
    }
    let killed = fate.killed.is_some();
    let ended = match (fate.said.ended, killed, fate.said.locked) {
        (Some(ended), _, _) => ended,
        (None, true, _) => Ended { signal: Some(libc::SIGKILL), code: None, cpu_s: 0.0, max_rss_bytes: 0 },
        (None, false, true) => return Err(Error::Lost),
        (None, false, false) => return Ok(Tried::NeverBegan),
    };
    if !fate.said.locked && !killed {
        let reason = format!("the child ended before it was locked in: {}", text(stderr.bytes));
        return Err(Error::not_enforceable(reason));
    }
    let (exit, result) = match fate.killed {
        Some(killed) => (by_us(killed), None),
        None => report::judge(&ended, report, limits),
    };
    Ok(Tried::Ran(Box::new(Output {
        exit,
        stdout_truncated: stdout.truncated,
        stderr_truncated: stderr.truncated,
        stdout: text(stdout.bytes),
        stderr: text(stderr.bytes),
        result,
        wall: fate.wall,
        cpu: Duration::try_from_secs_f64(ended.cpu_s).unwrap_or_default(),
        max_rss_bytes: ended.max_rss_bytes,
    })))
}

/// How a program ended that we killed. What it reported before does not count.
fn by_us(killed: Killed) -> Exit {
    match killed {
        Killed::TimedOut => Exit::TimedOut,
        Killed::Disk(what) => Exit::DiskFull { what },
        Killed::Threads(limit) => Exit::Denied { what: format!("more than {limit} threads at once") },
        Killed::Abandoned => Exit::Killed { signal: libc::SIGKILL },
    }
}

fn refusal(refused: Refused) -> Error {
    match refused.kind.as_str() {
        "path" => Error::Readable { reason: refused.what },
        "folder" => Error::Folder(io::Error::other(refused.what)),
        "python" => Error::Python { reason: refused.what },
        _ => Error::not_enforceable(refused.what),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|fault| String::from_utf8_lossy(fault.as_bytes()).into_owned())
}
