//! What programs may do, how their ends are told apart, and what their limits hold.

use super::*;
use serde_json::json;
use std::time::Instant;

#[tokio::test]
async fn a_program_prints_computes_and_returns_a_result() {
    let Some(fixture) = Fixture::start().await else { return };
    let readable = open_folder();
    std::fs::write(readable.path().join("data.txt"), "seven").unwrap();
    let job = Job {
        input: json!({"n": 9_007_199_254_740_993_i64, "text": "ü"}),
        readable: vec![readable.path().to_owned()],
        ..Job::new(
            "import numpy as np, pandas as pd, sys\n\
             print('out', arguments['text'])\n\
             print('err', file=sys.stderr)\n\
             result = {'n': arguments['n'] + 1, 'sum': pd.Series([1, 2]).sum(), 'data': open(workspace + '/data.txt').read()}",
        )
    };
    let output = fixture.sandbox.run(job).await.unwrap();
    assert_eq!(output.exit, Exit::Ok, "{output:?}");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out ü\n", "err\n"));
    assert_eq!(output.result, Some(json!({"n": 9_007_199_254_740_994_i64, "sum": 3, "data": "seven"})));
    assert!(output.max_rss_bytes > 10 << 20 && output.wall > Duration::ZERO);
}

#[tokio::test]
async fn a_loop_is_killed_at_its_limit() {
    let Some(fixture) = Fixture::start().await else { return };
    for source in [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal, time\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n  except OSError: pass\ntime.sleep(60)",
    ] {
        let started = Instant::now();
        let limits = Limits { wall: Duration::from_secs(1), ..Limits::default() };
        assert_eq!(fixture.run_within(source, limits).await.exit, Exit::TimedOut);
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn four_gigabytes_are_out_of_memory() {
    let Some(fixture) = Fixture::start().await else { return };
    for source in [
        "b = bytearray(4 << 30)",
        "import numpy; a = numpy.ones(1 << 29)",
        "parts = []\nwhile True: parts.append(b'x' * (1 << 20))",
        "import mmap; m = mmap.mmap(-1, 4 << 30)\nresult = 1",
    ] {
        let output = fixture.run(source).await;
        let refused =
            matches!(&output.exit, Exit::Raised { kind, .. } if kind == "OSError") && source.contains("mmap");
        assert!(output.exit == Exit::OutOfMemory || refused, "{source}: {output:?}");
        assert!(output.max_rss_bytes < 2 << 30);
    }
}

#[tokio::test]
async fn every_end_has_its_name() {
    let Some(fixture) = Fixture::start().await else { return };
    let raised = |kind: &str, message: &str| Exit::Raised { kind: kind.into(), message: message.into() };
    let recursion = fixture.run("def f(): f()\nf()").await.exit;
    assert!(matches!(recursion, Exit::Raised { kind, .. } if kind == "RecursionError"));
    let unfit = fixture.run("result = {1, 2}").await.exit;
    assert!(
        matches!(unfit, Exit::Raised { kind, message } if kind == "TypeError" && message.contains("set"))
    );
    let large = fixture.run("result = 'x' * (5 << 20)").await.exit;
    assert!(matches!(large, Exit::Raised { message, .. } if message.contains("limit is 4194304")));
    for (source, exit) in [
        ("1/0", raised("ZeroDivisionError", "division by zero")),
        ("class Mine(Exception): pass\nraise Mine('why')", raised("Mine", "why")),
        ("raise PermissionError('of its own')", raised("PermissionError", "of its own")),
        ("result = float('nan')", raised("ValueError", "Out of range float values are not JSON compliant")),
        ("import os; os._exit(0)", Exit::Ok),
        ("import os; os._exit(7)", Exit::ExitCode(7)),
        ("import sys; sys.exit(3)", Exit::ExitCode(3)),
        ("import sys; sys.exit()", Exit::Ok),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", Exit::Killed { signal: 15 }),
        ("import ctypes; ctypes.string_at(0)", Exit::Killed { signal: 11 }),
    ] {
        assert_eq!(fixture.run(source).await.exit, exit, "{source}");
    }
    let syntax = fixture.run("print(").await;
    assert!(matches!(syntax.exit, Exit::Raised { kind, .. } if kind == "SyntaxError"));
    let trace = fixture.run("def inner():\n    return {}['key']\ninner()").await.stderr;
    assert!(
        trace.contains("line 2, in inner\n    return {}['key']") && !trace.contains("sandbox"),
        "{trace}"
    );
}

#[tokio::test]
async fn output_is_capped_and_never_blocks() {
    let Some(fixture) = Fixture::start().await else { return };
    let flood = "import os\nchunk = b'x' * (1 << 20)\nfor _ in range(100):\n    os.write(1, chunk)\n    os.write(2, chunk[:1000])\nresult = 'done'";
    let output = fixture.run(flood).await;
    assert_eq!((output.exit, output.result), (Exit::Ok, Some(json!("done"))));
    assert!(output.stdout_truncated && !output.stderr_truncated);
    assert_eq!((output.stdout.len(), output.stderr.len()), (1 << 20, 100_000));
    let exact = Limits { output_bytes: 4, ..Limits::default() };
    let output = fixture.run_within("print('abc')", exact).await;
    assert_eq!((output.stdout.as_str(), output.stdout_truncated), ("abc\n", false));
}

#[tokio::test]
async fn closed_and_abused_descriptors_harm_only_their_program() {
    let Some(fixture) = Fixture::start().await else { return };
    let closed = fixture
        .run("import os\nfor fd in range(64):\n  try: os.close(fd)\n  except OSError: pass\nresult = 1")
        .await;
    assert_eq!((closed.exit, closed.result), (Exit::Ok, None));
    let garbage = "import os\nfor fd in range(3, 256):\n  try: os.write(fd, b'{\"ended\":{\"code\":0}}\\n' * 9)\n  except OSError: pass";
    let garbage = fixture.run(garbage).await.exit;
    assert!(matches!(garbage, Exit::Raised { .. }), "{garbage:?}");
    let flood = "import os\nwhile True: os.write(3, b'x' * 65536)";
    let limits = Limits { wall: Duration::from_secs(1), ..Limits::default() };
    assert_eq!(fixture.run_within(flood, limits).await.exit, Exit::TimedOut);
    let open = "import os\nfiles = []\ntry:\n  while True: files.append(open('/dev/null'))\nexcept OSError as error: result = error.strerror";
    assert_eq!(fixture.run(open).await.result, Some(json!("Too many open files")));
    let held = "import os\nheld = []\nfor fd in range(256):\n  try: os.fstat(fd); held.append(fd)\n  except OSError: pass\nresult = held";
    assert_eq!(fixture.run(held).await.result, Some(json!([0, 1, 2, 3])));
}

#[tokio::test]
async fn threads_run_and_the_work_folder_is_fresh_each_time() {
    let Some(fixture) = Fixture::start().await else { return };
    let threads = "import threading\nfound = []\nthreads = [threading.Thread(target=found.append, args=(n,)) for n in range(8)]\n[t.start() for t in threads]; [t.join() for t in threads]\nresult = sorted(found)";
    assert_eq!(fixture.run(threads).await.result, Some(json!([0, 1, 2, 3, 4, 5, 6, 7])));
    let files = "import os, tempfile\nbefore = os.listdir('.')\nopen('a', 'w').write('x')\nos.mkdir('d'); os.rename('a', 'd/b'); os.symlink('d/b', 'l')\nwith tempfile.NamedTemporaryFile() as t: inside = t.name.startswith(os.getcwd())\nresult = [before, open('l').read(), inside]";
    for _ in 0..2 {
        assert_eq!(fixture.run(files).await.result, Some(json!([[], "x", true])));
    }
    let deep =
        "import os\nfor _ in range(3000):\n  os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)\nresult = 1";
    let deep = if rustix::process::geteuid().is_root() {
        deep.to_owned()
    } else {
        deep.replace("os.chmod('.', 0)", "")
    };
    let exit = fixture.run(&deep).await.exit;
    assert!(matches!(exit, Exit::Ok | Exit::DiskFull { .. }), "{exit:?}"); // as it is looked at in time or not
    let instance =
        std::fs::read_dir(fixture.root.path().join("work")).unwrap().next().unwrap().unwrap().path();
    let left: Vec<_> = std::fs::read_dir(instance).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "the folders of ended programs are gone");
}

#[tokio::test]
async fn the_largest_file_is_limited() {
    let Some(fixture) = Fixture::start().await else { return };
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    let exit = fixture.run_within("open('big', 'wb').write(b'x' * (2 << 20))", limits).await.exit;
    assert!(
        matches!(exit, Exit::Raised { kind, message } if kind == "OSError" && message.contains("too large"))
    );
}

#[tokio::test]
async fn what_no_limit_of_the_kernel_counts_is_counted() {
    let Some(fixture) = Fixture::start().await else { return };
    let limits = || Limits {
        disk_bytes: 32 << 20,
        disk_files: 100,
        threads: 16,
        ..bombs::limits_of(Duration::from_secs(20))
    };
    let full = |what: &str| Exit::DiskFull { what: what.into() };
    let bytes = full("its files take more than 33554432 bytes");
    let files = full("it keeps more than 100 files and folders");
    let threads = Exit::Denied { what: "more than 16 threads at once".into() };
    for (name, exit) in [
        ("disk", &bytes),
        ("disk, reserved", &bytes),
        ("disk, unlinked", &bytes),
        ("disk, unlinked and mapped", &bytes),
        ("empty files", &files),
        ("links", &files),
        ("threads that sleep", &threads),
    ] {
        let bomb = bombs::BOMBS.iter().find(|bomb| bomb.name == name).unwrap();
        assert_eq!(&fixture.run_within(bomb.source, limits()).await.exit, exit, "{name}");
    }
    let within = "import threading, time\nthreads = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(15)]\n[t.start() for t in threads]\nfor n in range(99): open(str(n), 'w').write('x' * 1000)\ntime.sleep(0.1)\nresult = 1";
    assert_eq!(fixture.run_within(within, limits()).await.result, Some(json!(1)));
    let full = fixture.run("import errno; raise OSError(errno.ENOSPC, 'of the disk')").await.exit;
    assert!(matches!(full, Exit::DiskFull { what } if what.contains("of the disk, at line 1")));
}

/// Reading it takes the child longer than a short program runs, before it is locked in.
#[tokio::test]
async fn a_large_order_is_run_like_a_small_one() {
    let Some(fixture) = Fixture::start().await else { return };
    let input = json!((0..1_000_000).collect::<Vec<u32>>());
    let limits = Limits { wall: Duration::from_secs(20), ..Limits::default() };
    let job = Job { input, limits, ..Job::new("result = sum(arguments)") };
    let output = fixture.sandbox.run(job).await.unwrap();
    assert_eq!((output.exit, output.result), (Exit::Ok, Some(json!(499_999_500_000_u64))));
}

#[tokio::test]
async fn programs_do_not_share_random_numbers() {
    let Some(fixture) = Fixture::start().await else { return };
    let source = "import random, numpy\nresult = [random.random(), numpy.random.rand()]";
    let (one, two) = (fixture.run(source).await.result.unwrap(), fixture.run(source).await.result.unwrap());
    assert!(one[0] != two[0] && one[1] != two[1], "{one} {two}");
}
