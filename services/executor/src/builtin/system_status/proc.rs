//! What /proc tells of the machine and of this process (proc(5)). Must never read what belongs to another process.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Bytes of what /proc counts in kB.
const KILO: u64 = 1_024;

/// Jiffies since the start, of all processors.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuTimes {
    busy: u64,
    all: u64,
}

impl CpuTimes {
    /// The share of the time between that was not idle.
    pub(super) fn use_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some(self.busy.saturating_sub(before.busy).min(all) as f64 / all as f64)
    }
}

pub(super) fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

pub(super) fn cpu_times() -> Option<CpuTimes> {
    cpu_times_of(&text("/proc/stat")?)
}

/// user, nice, system, idle, iowait, irq, softirq, steal; what guests used is in user already.
fn cpu_times_of(stat: &str) -> Option<CpuTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    let (all, idle) = (times.iter().sum(), times.get(3)? + times.get(4).unwrap_or(&0));
    Some(CpuTimes { busy: all - idle, all })
}

/// Processors that are online.
pub(super) fn processors() -> Option<usize> {
    let is_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    Some(text("/proc/stat")?.lines().filter(is_one).count())
}

/// Of 1, 5 and 15 minutes.
pub(super) fn load() -> Option<Vec<f64>> {
    let load: Vec<f64> =
        text("/proc/loadavg")?.split_whitespace().take(3).map_while(|part| part.parse().ok()).collect();
    (load.len() == 3).then_some(load)
}

/// Seconds.
pub(super) fn uptime() -> Option<f64> {
    text("/proc/uptime")?.split_whitespace().next()?.parse().ok()
}

pub(super) fn memory() -> Option<Value> {
    let told = text("/proc/meminfo")?;
    let sizes = sizes(&told);
    let (total, available) = (*sizes.get("MemTotal")?, *sizes.get("MemAvailable")?);
    let swap = |name| sizes.get(name).copied().unwrap_or(0);
    Some(json!({
        "total_bytes": total,
        "available_bytes": available,
        "used_bytes": total.saturating_sub(available),
        "swap_total_bytes": swap("SwapTotal"),
        "swap_free_bytes": swap("SwapFree"),
    }))
}

/// Lines of `Name:   123 kB`, in bytes.
fn sizes(text: &str) -> HashMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let kilos: u64 = rest.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            Some((name, kilos * KILO))
        })
        .collect()
}

/// This process.
pub(super) fn own() -> Value {
    let mut own = json!({ "id": std::process::id() });
    if let Some(status) = text("/proc/self/status") {
        let sizes = sizes(&status);
        for (ours, theirs) in [("rss_bytes", "VmRSS"), ("peak_rss_bytes", "VmHWM")] {
            if let Some(bytes) = sizes.get(theirs) {
                own[ours] = (*bytes).into();
            }
        }
        let threads =
            status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse::<u64>().ok());
        if let Some(threads) = threads {
            own["threads"] = threads.into();
        }
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        own["open_files"] = files.count().into();
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        own["max_open_files"] = most.into();
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_processors_is_the_share_of_time_that_was_not_idle() {
        let before = cpu_times_of("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3 4\n").unwrap();
        let after = cpu_times_of("cpu  150 0 100 725 125 0 0 0 90 0\n").unwrap();
        assert_eq!(after.use_since(before), Some(0.5));
        assert_eq!(before.use_since(before), None);
        assert_eq!(before.use_since(after), None);
        assert!(cpu_times_of("intr 1").is_none());
    }
}
