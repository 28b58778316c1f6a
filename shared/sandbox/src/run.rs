//! One program from start to end: its pipes, its time, its death.
//!
//! Must never leave it running when this returns or is dropped (its lifeline closes), and must never hold more of its
//! output than its limits say, however much it writes.

use crate::folder::JobFolder;
use crate::report::{self, Channel, Ended};
use crate::server::{Server, program_user};
use crate::{Error, Exit, Job, Limits, Output};
use serde::Deserialize;
use serde_json::json;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::time::Instant;

/// Below this Python itself cannot report, bytes.
const MEMORY_FLOOR: u64 = 16 << 20;
/// Descriptors a program may have open.
const DESCRIPTORS: u64 = 256;
/// Threads and processes of the user `nobody`, over all programs at once.
const TASKS_OF_NOBODY: u64 = 512;
/// The same for a user that is not only ours, whose other processes count too.
const TASKS_OF_USER: u64 = 4096;
/// What a report holds beside the result, bytes.
const REPORT_MARGIN: usize = 64 << 10;
/// How long the forkserver has to kill a program before it is killed itself, with all it runs.
const KILL_GRACE: Duration = Duration::from_millis(800);

/// The end of one try.
pub(crate) enum Tried {
    /// The program ran.
    Ran(Box<Output>),
    /// The forkserver died before the program began, so it may be tried again.
    NeverBegan,
}

/// What the forkserver says about one job.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    locked: bool,
    refused: Option<Refused>,
    ended: Option<Ended>,
}

#[derive(Deserialize)]
struct Refused {
    kind: String,
    what: String,
}

/// What became of the process.
#[derive(Default)]
struct Fate {
    said: Said,
    timed_out: bool,
    wall: Duration,
}

/// Our ends of what connects us with one program.
struct Ends {
    lifeline: UnixStream,
    channel: UnixStream,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// Runs `job` in `folder` until it ends, its time is over or `cancelled` resolves.
pub(crate) async fn run(
    server: &Server,
    folder: &JobFolder,
    job: &Job,
    cancelled: impl Future<Output = ()>,
) -> Result<Tried, Error> {
    let order = order(job, folder);
    let limits = &job.limits;
    let started = Instant::now();
    let Some(ends) = hand_over(server).await? else { return Ok(Tried::NeverBegan) };
    let (reading, writing) = ends.channel.into_split();
    let (fate, stdout, stderr, report, ()) = tokio::join!(
        watch(ends.lifeline, server, started, limits.wall, cancelled),
        keep(ends.stdout, limits.output_bytes),
        keep(ends.stderr, limits.output_bytes),
        keep(reading, limits.result_bytes.saturating_add(REPORT_MARGIN)),
        give(writing, &order),
    );
    conclude(fate?, stdout, stderr, &report, limits)
}

/// All that the child is told, as JSON.
fn order(job: &Job, folder: &JobFolder) -> Vec<u8> {
    let seconds = job.limits.wall.as_secs() + 2;
    let tasks = if program_user().is_some() { TASKS_OF_NOBODY } else { TASKS_OF_USER };
    let order = json!({
        "source": job.source,
        "arguments": job.input,
        "workspace": job.readable.first(),
        "readable": job.readable,
        "folder": folder.path,
        "memory_bytes": job.limits.memory_bytes.max(MEMORY_FLOOR),
        "result_bytes": job.limits.result_bytes,
        "limits": {
            "CORE": [0, 0],
            "CPU": [seconds, seconds + 1],
            "FSIZE": [job.limits.file_bytes, job.limits.file_bytes],
            "MEMLOCK": [0, 0],
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

/// Reads to the end and keeps the first `limit` bytes.
async fn keep(mut from: impl AsyncRead + Unpin, limit: usize) -> Channel {
    let mut kept = Channel { bytes: Vec::new(), truncated: false };
    let mut chunk = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let room = limit - kept.bytes.len();
        kept.bytes.extend_from_slice(&chunk[..count.min(room)]);
        kept.truncated |= count > room;
    }
    kept
}

/// Follows the program to its death, and brings it about when its time is over or nobody waits for it.
async fn watch(
    lifeline: UnixStream,
    server: &Server,
    started: Instant,
    limit: Duration,
    cancelled: impl Future<Output = ()>,
) -> io::Result<Fate> {
    let mut fate = Fate::default();
    let (reading, writing) = lifeline.into_split();
    let mut reading = BufReader::new(reading);
    let ended = tokio::select! {
        ended = listen(&mut reading, &mut fate.said) => Some(ended?),
        () = tokio::time::sleep_until(started + limit) => { fate.timed_out = true; None }
        () = cancelled => None,
    };
    if ended.is_none() {
        drop(writing); // closes that direction of the lifeline: the forkserver kills
        let death = tokio::time::timeout(KILL_GRACE, listen(&mut reading, &mut fate.said)).await;
        if death.is_err() {
            server.kill();
        }
    }
    fate.wall = started.elapsed();
    Ok(fate)
}

/// Collects what is said on the lifeline until it ends.
async fn listen(lifeline: &mut BufReader<OwnedReadHalf>, said: &mut Said) -> io::Result<()> {
    let mut line = String::new();
    while lifeline.read_line(&mut line).await.unwrap_or(0) > 0 {
        let more: Said = serde_json::from_str(&line)?;
        said.locked |= more.locked;
        said.refused = more.refused.or(said.refused.take());
        said.ended = more.ended.or(said.ended.take());
        line.clear();
    }
    Ok(())
}

fn conclude(
    fate: Fate,
    stdout: Channel,
    stderr: Channel,
    report: &Channel,
    limits: &Limits,
) -> Result<Tried, Error> {
    if let Some(refused) = fate.said.refused {
        return Err(refusal(refused));
    }
    let ended = match (fate.said.ended, fate.timed_out, fate.said.locked) {
        (Some(ended), _, _) => ended,
        (None, true, _) => Ended { signal: Some(libc::SIGKILL), code: None, cpu_s: 0.0, max_rss_bytes: 0 },
        (None, false, true) => return Err(Error::Lost),
        (None, false, false) => return Ok(Tried::NeverBegan),
    };
    if !fate.said.locked && !fate.timed_out {
        let reason = format!("the child ended before it was locked in: {}", text(stderr.bytes));
        return Err(Error::not_enforceable(reason));
    }
    let (exit, result) =
        if fate.timed_out { (Exit::TimedOut, None) } else { report::judge(&ended, report, limits) };
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
