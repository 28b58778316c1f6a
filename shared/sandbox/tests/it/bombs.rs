//! Programs that take all there is of something: each ends at its limit, and nothing of it is left.

use super::*;
use serde_json::json;
use std::time::Instant;

/// One hostile program.
pub struct Bomb {
    pub name: &'static str,
    pub source: &'static str,
    /// Whether this is how it may end.
    ends: fn(&Output) -> bool,
}

/// How long after its limit a program may live, at most.
const SLACK: Duration = Duration::from_secs(1);

pub fn limits_of(wall: Duration) -> Limits {
    Limits {
        wall,
        memory_bytes: 256 << 20,
        file_bytes: 16 << 20,
        disk_bytes: 64 << 20,
        disk_files: 2_000,
        threads: 64,
        ..Limits::default()
    }
}

fn limits() -> Limits {
    limits_of(Duration::from_secs(1))
}

const fn bomb(name: &'static str, source: &'static str, ends: fn(&Output) -> bool) -> Bomb {
    Bomb { name, source, ends }
}

fn timed_out(output: &Output) -> bool {
    output.exit == Exit::TimedOut
}

// Beside other bombs, one may not come to its own limit before its time is over.

fn denied(output: &Output) -> bool {
    matches!(output.exit, Exit::Denied { .. } | Exit::TimedOut)
}

fn disk_full(output: &Output) -> bool {
    matches!(output.exit, Exit::DiskFull { .. } | Exit::TimedOut)
}

/// In no case it ever had more than its limit and what Python takes.
fn out_of_memory(output: &Output) -> bool {
    matches!(output.exit, Exit::OutOfMemory | Exit::TimedOut) && output.max_rss_bytes < 600 << 20
}

fn raised(output: &Output, kind: &str) -> bool {
    timed_out(output) || matches!(&output.exit, Exit::Raised { kind: found, .. } if found == kind)
}

pub const BOMBS: &[Bomb] = &[
    bomb("fork", "import os\nwhile True: os.fork()", denied),
    bomb(
        "fork, not giving up",
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
        timed_out,
    ),
    bomb(
        "threads that sleep",
        "import threading, time\nthreading.stack_size(65536)\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
        denied,
    ),
    bomb(
        "threads that compute",
        "import hashlib, threading\nthreading.stack_size(262144)\nfor _ in range(32): threading.Thread(target=hashlib.pbkdf2_hmac, args=('sha256', b'', b'', 1 << 30)).start()",
        timed_out,
    ),
    bomb("memory", "parts = []\nwhile True: parts.append(bytearray(1 << 20))", out_of_memory),
    bomb(
        "memory, not giving up",
        "parts = []\nwhile True:\n  try: parts.append(bytearray(1 << 20))\n  except MemoryError: pass",
        out_of_memory,
    ),
    bomb(
        "shared memory",
        "import mmap\nparts = []\nwhile True:\n  parts.append(mmap.mmap(-1, 1 << 20))\n  parts[-1].write(bytes(1 << 20))",
        |output| out_of_memory(output) || raised(output, "OSError"),
    ),
    bomb(
        "memory in pipes",
        "import fcntl, os\npipes = []\nwhile True:\n  try:\n    pipes.append(os.pipe()); os.set_blocking(pipes[-1][1], False)\n    fcntl.fcntl(pipes[-1][1], 1031, 1 << 20)\n  except OSError: pass\n  try: os.write(pipes[-1][1], bytes(1 << 20))\n  except OSError: pass",
        out_of_memory,
    ),
    bomb(
        "disk",
        "n, chunk = 0, bytes(8 << 20)\nwhile True:\n  open(str(n), 'wb').write(chunk); n += 1",
        disk_full,
    ),
    bomb(
        "disk, reserved",
        "import os\nn = 0\nwhile True:\n  os.posix_fallocate(os.open(str(n % 200), os.O_CREAT | os.O_RDWR), 0, 16 << 20); n += 1",
        disk_full,
    ),
    bomb(
        "disk, unlinked",
        "import os\nfiles, chunk = [], bytes(8 << 20)\nwhile True:\n  files.append(os.open('x', os.O_CREAT | os.O_RDWR)); os.write(files[-1], chunk); os.unlink('x')",
        disk_full,
    ),
    bomb(
        "disk, unlinked and mapped",
        "import mmap, os, time\nmaps = []\nfor _ in range(20):\n  fd = os.open('x', os.O_CREAT | os.O_RDWR); os.write(fd, bytes(8 << 20)); os.unlink('x')\n  maps.append(mmap.mmap(fd, 4096)); os.close(fd)\ntime.sleep(9)",
        disk_full,
    ),
    bomb("empty files", "n = 0\nwhile True:\n  open(str(n), 'w').close(); n += 1", disk_full),
    bomb(
        "links",
        "import os\nn = 0\nopen('x', 'w').close()\nwhile True:\n  os.link('x', str(n)); n += 1",
        disk_full,
    ),
    bomb("folders", "import os\nwhile True:\n  os.mkdir('d'); os.chdir('d')", disk_full),
    bomb(
        "one file as large as may be",
        "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        |output| raised(output, "OSError") || disk_full(output),
    ),
    bomb("loop", "while True: pass", timed_out),
    bomb("loop in a pattern", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')", timed_out),
    bomb("loop in a number", "x = 3 ** (10 ** 9)", out_of_memory),
    bomb(
        "loop deaf to signals",
        "import signal\nfor s in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        timed_out,
    ),
    bomb("sleep", "import time\ntime.sleep(99)", timed_out),
    bomb("stopped", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", timed_out),
    bomb("descriptors", "files = []\nwhile True: files.append(open('/dev/null'))", |output| {
        raised(output, "OSError")
    }),
    bomb(
        "descriptors, not giving up",
        "import os\nwhile True:\n  try: os.dup(0)\n  except OSError: pass",
        timed_out,
    ),
    bomb("output", "import os\nwhile True: os.write(1, b'x' * 65536); os.write(2, b'y' * 65536)", |output| {
        timed_out(output) && output.stdout_truncated && output.stdout.len() == 1 << 20
    }),
    bomb("reports", "import os\nwhile True: os.write(3, b'x' * 65536)", timed_out),
    bomb("recursion", "def f(): f()\nf()", |output| raised(output, "RecursionError")),
    bomb(
        "recursion without a limit",
        "import sys\nsys.setrecursionlimit(1 << 30)\nclass C:\n  def __repr__(self): return repr(self)\nrepr(C())",
        |output| {
            out_of_memory(output)
                || raised(output, "RecursionError")
                || matches!(output.exit, Exit::Killed { signal: libc::SIGSEGV })
        },
    ),
    bomb("a huge result", "result = 'x' * (32 << 20)", |output| raised(output, "ValueError")),
    bomb("a result without JSON", "result = {1: object()}", |output| raised(output, "TypeError")),
    bomb("a deep result", "result = []\nfor _ in range(900): result = [result]", |output| {
        raised(output, "ValueError") || raised(output, "RecursionError")
    }),
];

/// Runs every bomb, several at once as places allow; then looks for what is left of them.
pub async fn all_are_contained(fixture: &Fixture) {
    let server = lifecycle::forkserver(fixture).await;
    let before = (descriptors("self"), descriptors(&server.to_string()));
    let running: Vec<_> =
        BOMBS.iter().map(|bomb| tokio::spawn(explode(fixture.sandbox.clone(), bomb))).collect();
    let mut escaped = Vec::new();
    for (bomb, running) in BOMBS.iter().zip(running) {
        let output = running.await.unwrap();
        let late = output.wall > limits().wall + SLACK;
        println!("{:28} {:>5} ms  {:.90}", bomb.name, output.wall.as_millis(), format!("{:?}", output.exit));
        if late || !(bomb.ends)(&output) {
            escaped.push((bomb.name, output.exit, output.wall, output.stderr));
        }
    }
    assert!(escaped.is_empty(), "{escaped:#?}");
    assert_eq!(lifecycle::forkserver(fixture).await, server, "the forkserver lived through it all");
    eventually("no program is left", || lifecycle::children_of(server).is_empty()).await;
    eventually("no folder is left", || fixture.folders().is_empty()).await;
    eventually("no descriptor is left", || (descriptors("self"), descriptors(&server.to_string())) == before)
        .await;
}

/// Runs one bomb, and at once a small program after it.
async fn explode(sandbox: Sandbox, bomb: &Bomb) -> Output {
    let output = sandbox.run(Job { limits: limits(), ..Job::new(bomb.source) }).await.unwrap();
    let next = Instant::now();
    let small = sandbox.run(Job { input: json!(bomb.name), ..Job::new("result = arguments") }).await.unwrap();
    assert_eq!(small.result, Some(json!(bomb.name)), "{small:?}");
    assert!(small.wall < Duration::from_secs(3), "{}: the next took {:?}", bomb.name, next.elapsed());
    output
}

/// How many descriptors a process has open.
fn descriptors(pid: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
