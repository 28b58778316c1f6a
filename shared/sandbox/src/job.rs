//! What is asked of the sandbox and what it answers. Must never do anything: these are values.

use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// One program to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Python source text. It finds its input in the globals `arguments` and `workspace` and may leave a JSON value
    /// in the global `result`.
    pub source: String,
    /// The value of the global `arguments`.
    pub input: Value,
    /// Files and folders that the program may read, beside Python's own. The first is its global `workspace`.
    /// Where this process is root they must be readable for the user `nobody`.
    pub readable: Vec<PathBuf>,
    /// What it may use.
    pub limits: Limits,
}

impl Job {
    /// A program without input, with the default limits.
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), input: Value::Null, readable: Vec::new(), limits: Limits::default() }
    }
}

/// What a program may use. Processor time is bounded too: the wall limit and one second.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time from the fork to the end.
    pub wall: Duration,
    /// Address space beyond what Python with pandas takes already, in bytes; less than 16 MiB counts as that.
    pub memory_bytes: u64,
    /// How much of standard output, and of standard error, is kept, in bytes each. The rest is read and dropped.
    pub output_bytes: usize,
    /// The largest file the program may write, in bytes.
    pub file_bytes: u64,
    /// Space on disk of all its files together, in bytes. It is counted every 20 ms, so a program may exceed this by
    /// what it writes in that time before it is killed.
    pub disk_bytes: u64,
    /// How many files and folders it may make; counted likewise.
    pub disk_files: u64,
    /// How many threads it may run at once; counted likewise.
    pub threads: u64,
    /// The largest `result`, in bytes of JSON.
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(30),
            memory_bytes: 1 << 30,
            output_bytes: 1 << 20,
            file_bytes: 64 << 20,
            disk_bytes: 256 << 20,
            disk_files: 10_000,
            threads: 128,
            result_bytes: 4 << 20,
        }
    }
}

/// Where a program wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What became of a program.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it printed; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it wrote to standard error, the traceback of an uncaught exception included.
    pub stderr: String,
    /// Whether `stdout` lacks the end.
    pub stdout_truncated: bool,
    /// Whether `stderr` lacks the end.
    pub stderr_truncated: bool,
    /// The global `result`, where the program set one and ended well.
    pub result: Option<Value>,
    /// Time from the fork to the end, or until it was killed.
    pub wall: Duration,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Peak resident memory, Python and pandas included.
    pub max_rss_bytes: u64,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// At its end, or with exit code 0.
    Ok,
    /// By an exception that it did not catch.
    Raised {
        /// The class, with its module unless built in.
        kind: String,
        /// The exception's own text.
        message: String,
    },
    /// By `sys.exit` or `os._exit` with a code other than 0.
    ExitCode(i32),
    /// By trying what the sandbox does not allow.
    Denied {
        /// What was refused, and the line of the program that asked for it.
        what: String,
    },
    /// Killed at the limit of time.
    TimedOut,
    /// At the limit of memory.
    OutOfMemory,
    /// At the limit of what it may keep on disk, or because the disk itself is full.
    DiskFull {
        /// Which limit, and its value.
        what: String,
    },
    /// By a signal for another reason, such as a crash in native code.
    Killed {
        /// The signal's number.
        signal: i32,
    },
}
