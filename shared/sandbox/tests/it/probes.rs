//! Seventeen ways out, tried by one script: none is open in the sandbox, and each is outside of it.

use super::*;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = include_str!("probes.py");
const WAYS: usize = 17;

/// What the script is after: everything that it could reach were it not locked in.
struct Prey {
    folder: TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    path: UnixListener,
    datagram: UnixDatagram,
    name: UnixListener,
    victim: Child,
    abstract_name: String,
}

impl Prey {
    fn new() -> Self {
        let folder = open_folder();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        for file in ["secret", "emptied", "removed", "movable"] {
            let file = folder.path().join(file);
            std::fs::write(&file, "secret").unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        }
        let socket = |suffix: &str| folder.path().join(format!("socket{suffix}"));
        let path = UnixListener::bind(socket("")).unwrap();
        let datagram = UnixDatagram::bind(socket(".datagram")).unwrap();
        for suffix in ["", ".datagram"] {
            std::fs::set_permissions(socket(suffix), Permissions::from_mode(0o777)).unwrap();
        }
        let abstract_name = folder.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let prey = Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            path,
            datagram,
            name: UnixListener::bind_addr(&address).unwrap(),
            victim: Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap(),
            abstract_name,
            folder,
        };
        prey.tcp.set_nonblocking(true).unwrap();
        prey.udp.set_nonblocking(true).unwrap();
        prey.path.set_nonblocking(true).unwrap();
        prey.datagram.set_nonblocking(true).unwrap();
        prey.name.set_nonblocking(true).unwrap();
        prey
    }

    /// What the script is told of it.
    fn arguments(&self, neighbour: &std::path::Path, victims: &[u32], signal: i32) -> Value {
        let outside = self.folder.path();
        let victims: Vec<u32> = std::iter::once(self.victim.id()).chain(victims.iter().copied()).collect();
        json!({
            "tcp": self.tcp.local_addr().unwrap().port(),
            "udp": self.udp.local_addr().unwrap().port(),
            "socket": outside.join("socket"),
            "abstract": self.abstract_name,
            "secret": outside.join("secret"),
            "outside": outside,
            "neighbour": neighbour,
            "victims": victims,
            "signal": signal,
        })
    }

    /// Nothing of it was touched.
    fn is_whole(&mut self) {
        let untouched = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::WouldBlock);
        untouched(self.tcp.accept().unwrap_err());
        untouched(self.udp.recv(&mut [0; 9]).unwrap_err());
        untouched(self.path.accept().unwrap_err());
        untouched(self.datagram.recv(&mut [0; 9]).unwrap_err());
        untouched(self.name.accept().unwrap_err());
        assert!(self.victim.try_wait().unwrap().is_none(), "the victim lives");
        let mut names: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["emptied", "movable", "removed", "secret", "socket", "socket.datagram"]);
        for file in ["secret", "emptied"] {
            assert_eq!(std::fs::read_to_string(self.folder.path().join(file)).unwrap(), "secret");
        }
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

/// The table that the script printed, as ways and what is open of them.
fn table(printed: &str) -> Vec<(&str, &str)> {
    printed.lines().filter_map(|line| line.split_once('\t')).collect()
}

/// Runs the script in a sandbox beside a neighbour, and fails on any way that is open.
pub async fn every_way_is_shut(fixture: &Fixture) {
    let mut prey = Prey::new();
    let sandbox = fixture.sandbox.clone();
    let source = "import os, time\nopen('secret-of-%d' % os.getpid(), 'w').write('secret')\nwhile not os.path.exists('enough'): time.sleep(0.01)\nresult = open('secret-of-%d' % os.getpid()).read()";
    let neighbour = tokio::spawn(async move { sandbox.run(Job::new(source)).await.unwrap() });
    let (file, pid) = neighbours_file(fixture).await;
    let input = prey.arguments(&file, &[pid], 9);
    let output = fixture.sandbox.run(Job { input, ..Job::new(SCRIPT) }).await.unwrap();
    println!("{}\n{}", output.stdout, output.stderr);
    assert_eq!(output.exit, Exit::Ok);
    let table = table(&output.stdout);
    assert_eq!(table.len(), WAYS);
    let open: Vec<_> = table.iter().filter(|(_, found)| *found != "contained").collect();
    assert!(open.is_empty(), "{open:?}");
    prey.is_whole();
    std::fs::write(file.with_file_name("enough"), "").unwrap();
    assert_eq!(neighbour.await.unwrap().result, Some(json!("secret")), "the neighbour lived, unharmed");
}

/// The file that the neighbour made, and its process.
async fn neighbours_file(fixture: &Fixture) -> (std::path::PathBuf, u32) {
    let list = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(folder).map(|found| found.flatten().map(|e| e.path()).collect()).unwrap_or_default()
    };
    let work = fixture.root.path().join("work");
    let mut found = None;
    eventually("the neighbour runs", || {
        let files = list(&work).into_iter().flat_map(|i| list(&i)).flat_map(|j| list(&j));
        found = files.into_iter().find_map(|path| {
            let pid = path.file_name()?.to_str()?.strip_prefix("secret-of-")?.parse().ok()?;
            Some((path, pid))
        });
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn outside_the_sandbox_each_way_is_open() {
    let root = open_folder();
    let Some(config) = config(&root) else { return };
    let names: Vec<_> = SCRIPT
        .lines()
        .filter_map(|line| line.strip_prefix("def ")?.strip_suffix("():"))
        .filter(|name| !["tried", "victims"].contains(name))
        .collect();
    assert_eq!(names.len(), WAYS);
    let open = names.iter().filter(|name| is_open(&config.python, name)).count();
    // What only root may do is shut to others everywhere.
    let needed = if rustix::process::geteuid().is_root() { WAYS } else { WAYS - 4 };
    assert!(open >= needed, "{open} of {WAYS} ways are open outside");
}

/// Runs one way of the script by a Python without a sandbox, with harmless signals.
fn is_open(python: &std::path::Path, way: &str) -> bool {
    let (prey, cwd) = (Prey::new(), open_folder());
    let neighbour = prey.folder.path().join("neighbour");
    std::fs::write(&neighbour, "secret").unwrap();
    let mut arguments = prey.arguments(&neighbour, &[], 18);
    arguments["only"] = json!(way);
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" 9</dev/null"])
        .arg(python)
        .args(["-Ic", "import json, sys; arguments = json.loads(sys.argv[1]); exec(sys.argv[2])"])
        .args([&arguments.to_string(), SCRIPT])
        .env("PROBE_SECRET", "x")
        .current_dir(cwd.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    table(&printed).iter().any(|(name, found)| *name == way && found.starts_with("ESCAPED"))
}

/// Calls by the 32-bit entry, which a filter for 64 bits would not know.
#[cfg(target_arch = "x86_64")]
pub async fn another_abi_kills(fixture: &Fixture) {
    let source = "import ctypes, mmap\n\
                  code = b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'  # mov eax, getpid; int 0x80; ret\n\
                  page = mmap.mmap(-1, 4096, prot=7)\n\
                  page.write(code)\n\
                  call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n\
                  result = call()";
    let output = fixture.run(source).await;
    assert_eq!(output.exit, Exit::Killed { signal: libc::SIGSYS }, "{output:?}");
}
