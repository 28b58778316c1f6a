//! Runs untrusted Python programs: each in a process of its own that was forked from a Python with pandas loaded
//! and that has given up its rights before the first line of the program.
//!
//! What a program keeps: computing, threads, its own empty folder, reading the paths its job names, Python's own
//! files. What it has lost: every other file (Landlock), sockets, new processes, signals to others, namespaces,
//! tracing, kernel interfaces (seccomp), root (an unprivileged user where we run as root), and anything beyond its
//! limits (rlimits). It shares the kernel with everybody else, and it can learn from `stat` whether a path exists:
//! where that is too little, run the whole service under gVisor. The sum of what it writes to its folder is bounded
//! only by the limit of each file and the time it has.
//!
//! Must never run a program on a machine that cannot enforce all of this: [`Sandbox::start`] refuses.

mod error;
mod filter;
mod folder;
mod job;
mod report;
mod run;
mod sandbox;
mod server;

pub use error::Error;
pub use job::{Exit, Job, Limits, Output};
pub use sandbox::{Config, Sandbox};
