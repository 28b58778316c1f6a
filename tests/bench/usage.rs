//! What processes use: CPU time and resident memory, read from `/proc` (proc(5)). Linux only.

use std::fs;

/// CPU time of three parties, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// The processes under measurement.
    pub ours: f64,
    /// PostgreSQL, all its processes.
    pub postgres: f64,
    /// This process, which makes the load.
    pub generator: f64,
}

/// Whose use is read.
#[derive(Debug, Clone, Default)]
pub struct Parties {
    /// Processes under measurement.
    pub ours: Vec<u32>,
    /// PostgreSQL's first process; its children are counted too.
    pub postmaster: u32,
}

impl Parties {
    /// CPU time used so far.
    pub fn cpu(&self) -> Cpu {
        Cpu {
            ours: self.ours.iter().map(|pid| cpu_us(*pid)).sum(),
            postgres: children(self.postmaster).into_iter().map(cpu_us).sum(),
            generator: cpu_us(std::process::id()),
        }
    }

    /// Resident memory of the processes under measurement, in MiB.
    pub fn resident_mib(&self) -> f64 {
        self.ours.iter().map(|pid| resident_mib(*pid)).sum()
    }
}

impl Cpu {
    /// What was used since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            ours: self.ours - earlier.ours,
            postgres: (self.postgres - earlier.postgres).max(0.0),
            generator: self.generator - earlier.generator,
        }
    }

    /// The same for each of so many calls.
    #[must_use]
    pub fn for_each(self, calls: u64) -> Self {
        let calls = calls.max(1) as f64;
        Self { ours: self.ours / calls, postgres: self.postgres / calls, generator: self.generator / calls }
    }
}

/// CPU time of all threads that live, in microseconds: the first number of each thread's `schedstat`, which is exact
/// where `stat` counts in ticks of 10 ms.
fn cpu_us(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1_000.0
}

/// The processes that this one started, and itself.
fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid == parent || parent_of(*pid) == Some(parent)).collect()
}

/// Field 4 of `stat`, counted after the name, which may hold anything.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}
