//! What programs must not be able to do, each tried by a program that does its best.

use super::*;
use serde_json::json;

#[tokio::test]
async fn there_is_no_network() {
    let Some(fixture) = Fixture::start().await else { return };
    let what = fixture.refused("import socket\nsocket.socket(socket.AF_INET)").await;
    assert!(what.contains("PermissionError") && what.contains("at line 2: socket.socket"), "{what}");
    for source in [
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
        "import socket; socket.socket(socket.AF_INET6)",
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import socket; socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
        "import socket; socket.socket(socket.AF_UNIX).bind('\\0name')",
        "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', '/run/systemd/notify')",
        "import socket, array; a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])",
        "import urllib.request; urllib.request.urlopen('http://localhost:9')",
    ] {
        fixture.refused(source).await;
    }
    let pair = "import socket; a, b = socket.socketpair(); a.sendall(b'own'); result = b.recv(9).decode()";
    assert_eq!(fixture.run(pair).await.result, Some(json!("own")));
}

#[tokio::test]
async fn files_outside_are_out_of_reach() {
    let Some(fixture) = Fixture::start().await else { return };
    let outside = open_folder();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o666)).unwrap();
    std::fs::set_permissions(outside.path(), Permissions::from_mode(0o777)).unwrap();
    let (secret, outside) = (secret.display(), outside.path().display());
    for source in [
        "open('/etc/passwd')".to_owned(),
        "import os; os.listdir('/root')".to_owned(),
        "import os; os.listdir('/proc')".to_owned(),
        "import os; open(f'/proc/{os.getppid()}/environ')".to_owned(),
        "open('/proc/self/mem', 'r+b')".to_owned(),
        "open('../lock')".to_owned(),
        "import os; os.listdir('..')".to_owned(),
        "open('/dev/shm/x', 'w')".to_owned(),
        "open('/tmp/x', 'w')".to_owned(),
        format!("open('{secret}')"),
        format!("open('{secret}', 'a')"),
        format!("open('{outside}/new', 'w')"),
        format!("import os; os.remove('{secret}')"),
        format!("import os; os.truncate('{secret}', 0)"),
        format!("import os; os.symlink('{secret}', 'link'); open('link')"),
        "import os; os.symlink('/etc', 'link'); open('link/passwd')".to_owned(),
        "import ctypes, os\nif ctypes.CDLL(None, use_errno=True).open(b'/etc/shadow', 0) < 0: raise OSError(ctypes.get_errno(), 'open')".to_owned(),
        "import sysconfig; open(sysconfig.get_path('purelib') + '/x.py', 'w')".to_owned(),
    ] {
        fixture.refused(&source).await;
    }
    let linked = fixture.run(&format!("import os; os.link('{secret}', 'hard'); open('hard')")).await.exit;
    assert!(
        matches!(&linked, Exit::Denied { .. }) || format!("{linked:?}").contains("cross-device"),
        "{linked:?}"
    );
    assert_eq!(std::fs::read_to_string(secret.to_string()).unwrap(), "s");
}

#[tokio::test]
async fn readable_paths_are_not_writable() {
    let Some(fixture) = Fixture::start().await else { return };
    let folder = open_folder();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    std::fs::write(folder.path().join("data"), "kept").unwrap();
    std::fs::set_permissions(folder.path().join("data"), Permissions::from_mode(0o666)).unwrap();
    for source in [
        "open(workspace + '/data', 'w')",
        "open(workspace + '/new', 'w')",
        "import os; os.rename(workspace + '/data', 'mine')",
    ] {
        let job = Job { readable: vec![folder.path().to_owned()], ..Job::new(source) };
        let exit = fixture.sandbox.run(job).await.unwrap().exit;
        let refused = matches!(exit, Exit::Denied { .. }) || format!("{exit:?}").contains("cross-device");
        assert!(refused, "{source}: {exit:?}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("data")).unwrap(), "kept");
    let missing = Job { readable: vec![folder.path().join("none")], ..Job::new("") };
    assert!(matches!(fixture.sandbox.run(missing).await, Err(sandbox::Error::Readable { .. })));
}

#[tokio::test]
async fn there_are_no_other_processes() {
    let Some(fixture) = Fixture::start().await else { return };
    for source in [
        "import os\nwhile True: os.fork()",
        "import os; os.forkpty()",
        "import subprocess; subprocess.run(['/bin/true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.kill(os.getppid(), 0)",
        "import os; os.kill(1, 9)",
        "import os; os.pidfd_open(os.getppid())",
        "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    ] {
        fixture.refused(source).await;
    }
    // Whoever may be signalled with -1 is this program alone; the sandbox goes on.
    let all = fixture.run("import os, signal\nos.kill(-1, signal.SIGKILL)").await.exit;
    assert!(
        matches!(all, Exit::Denied { .. } | Exit::Killed { signal: 9 } | Exit::Ok)
            || format!("{all:?}").contains("ProcessLookup"),
        "{all:?}"
    );
    assert_eq!(fixture.run("result = 1").await.result, Some(json!(1)));
}

#[tokio::test]
async fn siblings_cannot_signal_each_other() {
    let Some(fixture) = Fixture::start().await else { return };
    let victim = fixture.sandbox.clone();
    let victim = tokio::spawn(async move {
        victim
            .run(Job::new(
                "import os, time\nopen('pid-is-' + str(os.getpid()), 'w')\ntime.sleep(2)\nresult = 'lived'",
            ))
            .await
    });
    let work = fixture.root.path().join("work");
    let pid = loop {
        let pids: Vec<_> =
            walk(&work).into_iter().filter_map(|n| n.strip_prefix("pid-is-").map(str::to_owned)).collect();
        match pids.first() {
            Some(pid) => break pid.clone(),
            None => tokio::task::yield_now().await,
        }
    };
    fixture.refused(&format!("import os, signal; os.kill({pid}, signal.SIGKILL)")).await;
    assert_eq!(victim.await.unwrap().unwrap().result, Some(json!("lived")));
}

/// Names of all files two folders deep.
fn walk(work: &std::path::Path) -> Vec<String> {
    let list = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(folder).map(|found| found.flatten().map(|e| e.path()).collect()).unwrap_or_default()
    };
    let files = list(work).into_iter().flat_map(|i| list(&i)).flat_map(|j| list(&j));
    files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
}

/// System calls by number, the same on every architecture from 424 on; the older ones by their C function.
#[tokio::test]
async fn kernel_interfaces_are_shut() {
    let Some(fixture) = Fixture::start().await else { return };
    let call = |expression: &str| {
        format!(
            "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nanswer = {expression}\n\
             if answer < 0: raise OSError(ctypes.get_errno(), 'call')\nresult = answer"
        )
    };
    for expression in [
        "libc.unshare(0x10000000)",
        "libc.unshare(0x40000000)",
        "libc.setns(0, 0)",
        "libc.ptrace(16, os.getppid(), 0, 0)",
        "libc.ptrace(0, 0, 0, 0)",
        "libc.mount(b'x', b'/', b'tmpfs', 0, None)",
        "libc.chroot(b'.')",
        "libc.syscall(425, 8, None)",
        "libc.syscall(428, -100, b'/', 1)",
        "libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0)",
        "libc.memfd_create(b'x', 0)",
        "libc.prctl(1, 0, 0, 0, 0)",
        "libc.shmget(0, 4096, 0o1600)",
        "libc.inotify_init1(0)",
        "libc.personality(0)",
        "libc.name_to_handle_at(-100, b'/', None, None, 0)",
    ] {
        fixture.refused(&call(expression)).await;
    }
    let absent = fixture.run(&call("libc.syscall(435, None, 0)")).await.exit;
    assert!(matches!(absent, Exit::Raised { kind, message } if kind == "OSError" && message.contains("38")));
}

#[tokio::test]
async fn a_program_has_no_rights_and_no_environment() {
    let Some(fixture) = Fixture::start().await else { return };
    let source = "import os, sys\nresult = {'uid': os.getresuid(), 'groups': os.getgroups(), 'environment': sorted(os.environ), 'ours': [m for m in sys.modules if m.startswith('sandbox')]}";
    let result = fixture.run(source).await.result.unwrap();
    assert_eq!((&result["environment"], &result["ours"]), (&json!(["HOME", "TMPDIR"]), &json!([])));
    if rustix::process::geteuid().is_root() {
        assert_eq!((&result["uid"], &result["groups"]), (&json!([65534, 65534, 65534]), &json!([])));
        fixture.refused("import os; os.setuid(0)").await;
    }
}
