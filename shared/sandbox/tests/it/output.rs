//! Lines of a program that still runs, and the end of programs that nobody waits for.

use super::*;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

impl Fixture {
    /// The folders of the jobs that run.
    pub fn folders(&self) -> Vec<PathBuf> {
        let list = |folder: PathBuf| std::fs::read_dir(folder).map(|found| found.flatten().map(|e| e.path()));
        let instances = list(self.root.path().join("work")).into_iter().flatten();
        let entries = instances.flat_map(|instance| list(instance).into_iter().flatten());
        entries
            .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("job-")))
            .collect()
    }
}

#[tokio::test]
async fn lines_come_while_the_program_runs() {
    let Some(fixture) = Fixture::start().await else { return };
    let source = "import os, sys, time\nprint('one')\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('two', file=sys.stderr)\nprint('three', end='')\nresult = 3";
    let (told, mut lines) = mpsc::unbounded_channel();
    let sandbox = fixture.sandbox.clone();
    let running = tokio::spawn(async move {
        sandbox
            .run_with(Job::new(source), move |stream, line| drop(told.send((stream, line.to_owned()))))
            .await
    });
    assert_eq!(lines.recv().await.unwrap(), (Stream::Stdout, "one".into()));
    std::fs::write(fixture.folders()[0].join("go"), "").unwrap(); // it runs, and waits for this
    let output = running.await.unwrap().unwrap();
    let mut rest = vec![lines.recv().await.unwrap(), lines.recv().await.unwrap()];
    rest.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(rest, [(Stream::Stdout, "three".into()), (Stream::Stderr, "two".into())]);
    assert!(lines.recv().await.is_none());
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one\nthree", "two\n"));
}

#[tokio::test]
async fn a_flood_of_lines_is_cut_and_the_program_goes_on() {
    let Some(fixture) = Fixture::start().await else { return };
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = found.clone();
    let job = Job::new("for n in range(200_000): print(n)\nresult = 'done'");
    let output = fixture
        .sandbox
        .run_with(job, move |_, line| sink.lock().unwrap().push(line.to_owned()))
        .await
        .unwrap();
    assert_eq!(output.result, Some(json!("done")));
    let found = found.lock().unwrap();
    assert_eq!((found.len(), found[999].as_str()), (1000, "999"));
}

/// A program that marks its life in its folder by two threads, deaf to every signal that can be ignored.
const HEART: &str = "import os, signal, threading, time\n\
    for s in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(s, signal.SIG_IGN)\n\
    def beat(name):\n  while True: open(name, 'a').write('x'); time.sleep(0.005)\n\
    threading.Thread(target=beat, args=('second',)).start()\n\
    beat('first')";

#[tokio::test]
async fn a_program_that_nobody_waits_for_stops_beating_at_once() {
    let Some(fixture) = Fixture::start().await else { return };
    let server = lifecycle::forkserver(&fixture).await;
    let sandbox = fixture.sandbox.clone();
    let running = tokio::spawn(async move { sandbox.run(Job::new(HEART)).await });
    let beats = |name: &str| {
        let folder = fixture.folders().into_iter().next()?;
        Some(std::fs::metadata(folder.join(name)).ok()?.len())
    };
    eventually("both threads beat", || beats("first") > Some(2) && beats("second") > Some(2)).await;
    let program = lifecycle::children_of(server);
    assert_eq!(program.len(), 1);
    running.abort();
    eventually("it is dead", || !lifecycle::is_alive(program[0])).await;
    eventually("its folder is gone", || fixture.folders().is_empty()).await;
    assert!(lifecycle::children_of(server).is_empty());
    assert_eq!(fixture.run("result = 1").await.result, Some(json!(1)));
}
