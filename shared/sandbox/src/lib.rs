//! Runs untrusted Python programs: each in a process of its own that was forked from a Python with pandas loaded
//! and that has given up its rights before the first line of the program.
//!
//! What a program keeps: computing, threads, its own empty folder, reading the paths its job names, Python's own
//! files. What it has lost: every other file (Landlock), sockets, new processes, signals to others, namespaces,
//! tracing, kernel interfaces (seccomp), root (an unprivileged user where we run as root), and anything beyond its
//! limits (rlimits; threads and disk are counted every 20 ms from outside, and what is over is killed). A program that
//! computes for long gives way to short ones. It shares the kernel with everybody else, and it can learn from `stat` whether a path exists:
//! where that is too little, run the whole service in a virtual machine. Under gVisor it refuses to start: Landlock
//! of ABI 2 or newer is missing there.
//!
//! Must never run a program on a machine that cannot enforce all of this: [`Sandbox::start`] refuses.

mod disk;
mod error;
mod filter;
mod folder;
mod job;
mod output;
mod report;
mod run;
mod sandbox;
mod server;
mod watch;

pub use error::Error;
pub use job::{Exit, Job, Limits, Output, Stream};
pub use sandbox::{Config, Sandbox};
