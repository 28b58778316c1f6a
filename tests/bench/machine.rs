//! What the numbers were measured on. They mean nothing without it.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    process::Command,
    time::Instant,
};

use serde::Serialize;
use store::Database;

/// Flushes whose median is told.
const FLUSHES: usize = 50;

/// The machine, the program and the time.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
    pub postgres: String,
    /// Median of writing 8 KiB and waiting for the disk (fdatasync), in milliseconds.
    pub flush_ms: f64,
    /// Processes that wanted to run in the last minute, before anything was measured.
    pub load: f64,
    pub commit: String,
    pub date: String,
}

impl Machine {
    /// Looks at it; flushes are timed in this folder.
    pub async fn look(folder: &Path, database: &Database) -> Self {
        let pool = database.pool().expect("the database is up");
        let postgres: String =
            sqlx::query_scalar("SHOW server_version").fetch_one(pool).await.expect("a version");
        let cpu = read("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            postgres,
            flush_ms: flush_ms(folder).unwrap_or(f64::NAN),
            load: load.unwrap_or(0.0),
            commit: commit(),
            date: chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn flush_ms(folder: &Path) -> std::io::Result<f64> {
    let mut file = File::create(folder.join("flush"))?;
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[7; 8_192])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[FLUSHES / 2].as_secs_f64() * 1_000.0)
}

/// The commit of the checkout, and whether files differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    if changed { format!("{commit} and changes") } else { commit }
}
