//! Many programs at once, programs nobody waits for, and the death of the forkserver and of the whole process.

use super::*;
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The processes of this test's sandbox: those whose parent is `parent`.
pub fn children_of(parent: u32) -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |pid: u32| {
        let stat = stat(pid)?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        (fields[0] != "Z").then(|| fields[1].parse::<u32>().ok())?
    };
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The forkserver of one sandbox, told from those of other tests by the folder its program works in.
pub async fn forkserver(fixture: &Fixture) -> u32 {
    let parent = fixture.run("import os; result = os.getppid()").await.result.unwrap();
    u32::try_from(parent.as_u64().unwrap()).unwrap()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn eight_programs_share_four_places() {
    let Some(fixture) = Fixture::start().await else { return };
    let started = Instant::now();
    let jobs: Vec<_> = (0..8)
        .map(|n| {
            let sandbox = fixture.sandbox.clone();
            let job = Job {
                input: json!(n),
                ..Job::new("import time; time.sleep(0.5); print(arguments); result = arguments")
            };
            tokio::spawn(async move { sandbox.run(job).await.unwrap() })
        })
        .collect();
    for (n, job) in jobs.into_iter().enumerate() {
        let output = job.await.unwrap();
        assert_eq!((output.result, output.stdout), (Some(json!(n)), format!("{n}\n")));
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "no more than four at once, {took:?}");
    assert!(took < Duration::from_secs(3), "four at once, {took:?}");
}

#[tokio::test]
async fn a_dropped_future_kills_its_program_and_frees_its_place() {
    let Some(mut fixture) = Fixture::start().await else { return };
    let config = Config { jobs: 1, ..config(&fixture.root).unwrap() };
    fixture.sandbox = Sandbox::start(config).await.unwrap();
    let server = forkserver(&fixture).await;
    let run = fixture.sandbox.run(Job::new("while True: pass"));
    tokio::select! {
        output = run => panic!("a loop ended: {output:?}"),
        () = eventually("the program runs", || !children_of(server).is_empty()) => {}
    }
    eventually("the program is dead", || children_of(server).is_empty()).await;
    assert_eq!(fixture.run("result = 1").await.result, Some(json!(1)));
}

#[tokio::test]
async fn a_killed_forkserver_takes_its_programs_along_and_is_replaced() {
    let Some(fixture) = Fixture::start().await else { return };
    let server = forkserver(&fixture).await;
    let sandbox = fixture.sandbox.clone();
    let running = tokio::spawn(async move { sandbox.run(Job::new("while True: pass")).await });
    eventually("the program runs", || !children_of(server).is_empty()).await;
    let orphans = children_of(server);
    // Give it the time to be locked in: until then it would rightly be tried again.
    eventually("the program computes", || cpu_ticks(orphans[0]) > 20).await;
    kill(server);
    let lost = tokio::time::timeout(Duration::from_secs(5), running).await.expect("its answer does not wait");
    assert!(matches!(lost.unwrap(), Err(sandbox::Error::Lost)));
    eventually("its programs are dead", || orphans.iter().all(|&pid| !is_alive(pid))).await;
    assert_eq!(fixture.run("result = 2").await.result, Some(json!(2)));
    assert_ne!(forkserver(&fixture).await, server);
}

/// User time of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    fields.get(11).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn shutdown_ends_everything_and_refuses_what_comes_later() {
    let Some(fixture) = Fixture::start().await else { return };
    let server = forkserver(&fixture).await;
    let sandbox = fixture.sandbox.clone();
    let running = tokio::spawn(async move { sandbox.run(Job::new("while True: pass")).await });
    eventually("the program runs", || !children_of(server).is_empty()).await;
    fixture.sandbox.shutdown().await;
    assert!(!is_alive(server));
    assert!(running.await.unwrap().is_err() || children_of(server).is_empty());
    assert!(matches!(fixture.sandbox.run(Job::new("")).await, Err(sandbox::Error::Closed)));
    assert!(matches!(fixture.sandbox.probe().await, Err(sandbox::Error::Closed)));
}

#[tokio::test]
async fn dropping_the_sandbox_leaves_no_process_and_no_folder() {
    let Some(fixture) = Fixture::start().await else { return };
    let server = forkserver(&fixture).await;
    let Fixture { sandbox, root } = fixture;
    drop(sandbox);
    eventually("the forkserver is gone", || !is_alive(server)).await;
    eventually("its folder is gone", || std::fs::read_dir(root.path().join("work")).unwrap().count() == 0)
        .await;
}

/// Not a test of its own: what `nothing_outlives_a_killed_process` runs in another process and kills.
#[tokio::test]
#[ignore = "run by nothing_outlives_a_killed_process"]
async fn a_process_that_runs_a_loop() {
    let Some(fixture) = Fixture::start().await else { return };
    let limits = Limits { wall: Duration::from_mins(1), ..Limits::default() };
    fixture.run_within("while True: pass", limits).await;
}

#[tokio::test]
async fn nothing_outlives_a_killed_process() {
    let root = open_folder();
    if config(&root).is_none() {
        return;
    }
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lifecycle::a_process_that_runs_a_loop"])
        .env("TMPDIR", root.path()) // what it leaves behind goes with this folder
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let family = || {
        let servers = children_of(process.id());
        let programs: Vec<u32> = servers.iter().flat_map(|&server| children_of(server)).collect();
        (servers, programs)
    };
    eventually("its program computes", || family().1.iter().any(|&pid| cpu_ticks(pid) > 20)).await;
    let (servers, programs) = family();
    kill(process.id());
    process.wait().unwrap();
    eventually("all are dead", || servers.iter().chain(&programs).all(|&pid| !is_alive(pid))).await;
}

#[tokio::test]
async fn a_missing_python_says_what_to_install() {
    let root = open_folder();
    let missing =
        Sandbox::start(Config::new("/nonexistent/python", root.path())).await.unwrap_err().to_string();
    assert!(
        missing.contains("/nonexistent/python")
            && missing.contains("python3-venv")
            && missing.contains("make setup")
    );
    let bare = std::path::Path::new("/usr/bin/python3");
    if bare.exists()
        && !Command::new(bare)
            .args(["-Ic", "import pandas"])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    {
        let error = Sandbox::start(Config::new(bare, root.path())).await.unwrap_err();
        assert!(matches!(&error, sandbox::Error::Python { reason } if reason.contains("pandas")), "{error}");
    }
}
