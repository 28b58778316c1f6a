//! The limits that a container has, by cgroup v2 (the kernel's Documentation/admin-guide/cgroup-v2.rst).

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

const MOUNT: &str = "/sys/fs/cgroup";

/// Limits and use of the control group of this process; `None` where there is none of version 2.
pub(super) fn limits() -> Option<Value> {
    let groups = super::proc::text("/proc/self/cgroup")?;
    limits_of(Path::new(MOUNT), groups.lines().find_map(|line| line.strip_prefix("0::"))?)
}

/// A limit holds for all groups below: the lowest of this one and those above counts.
fn limits_of(mount: &Path, group: &str) -> Option<Value> {
    // What a namespace hides begins with `..`.
    let below: PathBuf = group.trim_start_matches('/').split('/').filter(|name| *name != "..").collect();
    let own = mount.join(below);
    if !mount.join("cgroup.controllers").exists() && !own.join("cgroup.controllers").exists() {
        return None;
    }
    let levels = || own.ancestors().take_while(|level| level.starts_with(mount));
    let lowest = |file: &str| levels().filter_map(|level| number(&level.join(file))).min();
    let mut found = json!({});
    let processors = levels().filter_map(|level| processors(&read(&level.join("cpu.max"))?)).reduce(f64::min);
    if let Some(processors) = processors {
        found["max_cpus"] = processors.into();
    }
    let numbers = [
        ("max_memory_bytes", lowest("memory.max")),
        ("memory_bytes", number(&own.join("memory.current"))),
        ("max_processes", lowest("pids.max")),
        ("processes", number(&own.join("pids.current"))),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            found[name] = number.into();
        }
    }
    Some(found)
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// `None` for `max`, which is no limit.
fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// `QUOTA PERIOD`, in microseconds.
fn processors(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_a_group_and_those_above_it_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(limits_of(mount.path(), "/pod/tool"), None);
        write("cgroup.controllers", "cpu memory pids");
        write("pod/memory.max", "1000\n");
        write("pod/cpu.max", "max 100000\n");
        write("pod/tool/memory.max", "max\n");
        write("pod/tool/memory.current", "600\n");
        write("pod/tool/cpu.max", "150000 100000\n");
        write("pod/tool/pids.max", "50\n");
        let expected =
            json!({"max_cpus": 1.5, "max_memory_bytes": 1000, "memory_bytes": 600, "max_processes": 50});
        assert_eq!(limits_of(mount.path(), "/pod/tool"), Some(expected));
        assert_eq!(limits_of(mount.path(), "/../.."), Some(json!({})));
    }
}
