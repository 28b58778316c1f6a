//! `system_status`: how the machine of this executor does, from /proc (proc(5)), cgroup v2 and statvfs. Must never tell
//! an environment variable, a command line, a path or a name of another process, user or machine.

mod cgroup;
mod proc;

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    drivers::Job,
    outcome::{Ended, ToolError, ToolErrorCode},
};

/// Parts of the answer.
const SECTIONS: [&str; 6] = ["host", "cpu", "memory", "disk", "cgroup", "process"];
/// How long the use of processors is watched when the caller does not say, in milliseconds.
const DEFAULT_SAMPLE_MS: u64 = 200;

/// Looks at the machine.
pub(crate) async fn run(workspace_root: &Path, job: &Job<'_>) -> Ended {
    let wanted = sections(job.arguments);
    let sample = job.arguments.get("cpu_sample_ms").and_then(Value::as_u64).unwrap_or(DEFAULT_SAMPLE_MS);
    let before = proc::cpu_times();
    let use_ratio = if wanted.contains(&"cpu") && sample > 0 {
        tokio::time::sleep(Duration::from_millis(sample.min(5_000))).await;
        before.zip(proc::cpu_times()).and_then(|(before, after)| after.use_since(before))
    } else {
        None
    };
    let root = workspace_root.to_owned();
    let work = tokio::task::spawn_blocking(move || status(&wanted, use_ratio, &root));
    let told = work.await.map_err(|_| ToolError::new(ToolErrorCode::ToolFailed, "the look was cut short"))?;
    Ok(told.to_string())
}

fn sections(arguments: &Value) -> Vec<&'static str> {
    let named = arguments.get("sections").and_then(Value::as_array);
    let is_named = |section: &&str| named.is_none_or(|named| named.iter().any(|one| one == *section));
    SECTIONS.into_iter().filter(is_named).collect()
}

/// What the machine does not tell is left out.
fn status(wanted: &[&str], cpu_use: Option<f64>, workspace_root: &Path) -> Value {
    let mut told = json!({});
    for section in wanted {
        let part = match *section {
            "host" => Some(host()),
            "cpu" => Some(cpu(cpu_use)),
            "memory" => proc::memory(),
            "disk" => disk(workspace_root),
            "cgroup" => cgroup::limits(),
            _ => Some(proc::own()),
        };
        if let Some(part) = part {
            told[*section] = part;
        }
    }
    told
}

fn host() -> Value {
    let mut host = json!({
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "toolcrib_version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(kernel) = proc::text("/proc/sys/kernel/osrelease") {
        host["kernel"] = kernel.trim().into();
    }
    if let Some(uptime) = proc::uptime() {
        host["uptime_s"] = uptime.into();
    }
    host
}

fn cpu(use_ratio: Option<f64>) -> Value {
    let mut cpu = json!({});
    if let Some(count) = proc::processors() {
        cpu["count"] = count.into();
    }
    if let Ok(available) = std::thread::available_parallelism() {
        cpu["available"] = available.get().into();
    }
    if let Some(load) = proc::load() {
        cpu["load_average"] = load.into();
    }
    if let Some(ratio) = use_ratio {
        cpu["use_ratio"] = ((ratio * 1_000.0).round() / 1_000.0).into();
    }
    cpu
}

/// The disk that workspaces are on.
fn disk(workspace_root: &Path) -> Option<Value> {
    // Made when first written to; until then its parent tells the same.
    let place = workspace_root.ancestors().find(|place| place.exists())?;
    let stat = rustix::fs::statvfs(place).ok()?;
    let (total, available) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    let mut disk = json!({ "total_bytes": total, "available_bytes": available });
    if stat.f_files > 0 {
        disk["inodes"] = stat.f_files.into();
        disk["available_inodes"] = stat.f_favail.into();
    }
    Some(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_of_every_section_and_of_those_alone_that_are_wanted() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("not/yet/there");
        let told = status(&sections(&json!({})), Some(0.25), &place);
        assert!(told["host"]["uptime_s"].as_f64().unwrap() > 0.0, "{told}");
        assert_eq!(told["cpu"]["use_ratio"], 0.25);
        assert!(
            told["cpu"]["count"].as_u64() >= Some(1)
                && told["cpu"]["load_average"].as_array().unwrap().len() == 3
        );
        let memory = &told["memory"];
        assert!(memory["available_bytes"].as_u64() <= memory["total_bytes"].as_u64(), "{told}");
        assert!(told["disk"]["available_bytes"].as_u64() <= told["disk"]["total_bytes"].as_u64(), "{told}");
        assert!(told["process"]["rss_bytes"].as_u64() > Some(1 << 20), "{told}");
        assert!(told["process"]["open_files"].as_u64() > Some(2), "{told}");
        let few = status(&sections(&json!({"sections": ["memory", "host"]})), None, &place);
        assert_eq!(few.as_object().unwrap().keys().collect::<Vec<_>>(), ["host", "memory"]);
    }
}
