"""Seventeen ways out of a sandbox, each tried in every form that is known; prints one line a way.

Must never harm the machine where nothing holds it back: outside a sandbox it is run too, to show that each way is open
there. A form fails by raising; a way is contained when every form failed.
"""

import ctypes
import mmap
import os
import platform
import resource
import signal
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
# Numbers of <asm/unistd.h>, where the C library has no function: x86_64, aarch64.
CLONE, BPF, PERF, ADD_KEY, USERFAULTFD, PIDFD_GETFD = (
    pair[0 if X86 else 1] for pair in ((56, 220), (321, 280), (298, 241), (248, 217), (323, 282), (438, 438))
)
PIDFD_SEND_SIGNAL, IO_URING_SETUP, OPEN_TREE, FSOPEN = 424, 425, 428, 430
NEW_USER, NEW_NET, NEW_NS, NEW_PID = 0x10000000, 0x40000000, 0x00020000, 0x20000000


def is_open(fd):
    try:
        return os.fstat(fd)
    except OSError:
        return None


INHERITED = [fd for fd in range(4, 256) if is_open(fd)]  # 3 is where the result goes


def must(answer):
    """The answer of a C function, or the error it set."""
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def call(number, *arguments):
    return must(LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))


def victims():
    return [os.getppid(), *arguments["victims"]]


def each(things, act):
    """`act` on whichever of `things` lets it."""
    errors = []
    for thing in things:
        try:
            return act(thing)
        except OSError as error:
            errors.append(error)
    raise errors[-1]


def tcp():
    yield "connect", lambda: socket.create_connection(("127.0.0.1", arguments["tcp"]), 1)
    yield "listen", lambda: socket.create_server(("127.0.0.1", 0))
    yield "fast open", lambda: socket.socket().sendto(b"x", 0x20000000, ("127.0.0.1", arguments["tcp"]))
    yield "IPv6", lambda: socket.socket(socket.AF_INET6)


def udp():
    yield "send", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", arguments["udp"]))
    yield "name look-up", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(("::1", 53))


def odd_sockets():
    for name, family, kind, protocol in [
        ("raw", 2, 3, 1), ("ping", 2, 2, 1), ("netlink", 16, 3, 0), ("packet", 17, 3, 0), ("vsock", 40, 1, 0),
        ("crypto", 38, 5, 0), ("bluetooth", 31, 3, 1), ("sctp", 2, 1, 132), ("mptcp", 2, 1, 262), ("xdp", 44, 3, 0),
    ]:  # fmt: skip
        yield name, lambda f=family, k=kind, p=protocol: socket.socket(f, k, p)


def unix_sockets():
    def connect(address):
        socket.socket(socket.AF_UNIX).connect(address)

    yield "by path", lambda: connect(arguments["socket"])
    yield "abstract", lambda: connect("\0" + arguments["abstract"])
    yield "datagram", lambda: socket.socketpair(1, socket.SOCK_DGRAM)[0].sendto(b"x", arguments["socket"] + ".datagram")
    yield "bind", lambda: socket.socket(socket.AF_UNIX).bind("\0probe-%d" % os.getpid())
    yield "passing descriptors", lambda: socket.send_fds(socket.socketpair()[0], [b"x"], [0])


def read_files():
    for path in ("/etc/passwd", "/etc/shadow", "/proc/1/cmdline", "/proc/self/root/etc/passwd", arguments["secret"]):
        yield path.rpartition("/")[2], lambda path=path: open(path).read()
    yield "list /", lambda: os.listdir("/")
    yield "list /proc", lambda: os.listdir("/proc")
    yield "O_PATH", lambda: open("/proc/self/fd/%d" % os.open(arguments["secret"], os.O_PATH)).read()
    yield "exec map", lambda: mmap.mmap(os.open(arguments["secret"], os.O_RDONLY), 1, prot=mmap.PROT_READ)
    yield "watch", lambda: must(LIBC.inotify_add_watch(must(LIBC.inotify_init1(0)), b"/etc", 2))


def neighbours_files():
    yield "read", lambda: open(arguments["neighbour"]).read()
    yield "list", lambda: os.listdir(os.path.dirname(arguments["neighbour"]))
    yield "list all", lambda: os.listdir("..")
    yield "write", lambda: open(arguments["neighbour"], "a").write("x")


def environment():
    def read(pid):
        if not open("/proc/%d/environ" % pid, "rb").read():
            raise PermissionError

    yield "of the service", lambda: each(victims(), read)
    yield "command line", lambda: each(victims(), lambda pid: open("/proc/%d/cmdline" % pid).read())
    yield "own", lambda: os.environ["PROBE_SECRET"]
    yield "own, from the start", lambda: open("/proc/self/environ", "rb").read(1)[0]
    yield "open files", lambda: each(victims(), lambda pid: os.listdir("/proc/%d/fd" % pid))


def write_outside():
    for folder in ("/tmp", "/dev/shm", "/var/tmp", arguments["outside"]):
        yield folder, lambda folder=folder: os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
    yield "make", lambda: open(arguments["outside"] + "/made", "w")
    yield "append", lambda: open(arguments["secret"], "a")
    yield "empty", lambda: os.truncate(arguments["outside"] + "/emptied", 0)
    yield "remove", lambda: os.remove(arguments["outside"] + "/removed")
    yield "own packages", lambda: os.close(os.open(os.path.dirname(os.__file__), os.O_TMPFILE | os.O_RDWR))


def links():
    def through(make, name):
        make(arguments["secret"], name)
        return open(name).read()

    yield "symbolic", lambda: through(os.symlink, "symbolic")
    yield "hard", lambda: through(os.link, "hard")
    yield "rename in", lambda: os.rename(arguments["outside"] + "/movable", "moved")
    yield "rename out", lambda: (open("mine", "w"), os.rename("mine", arguments["outside"] + "/mine"))
    yield "link out", lambda: (open("own", "w"), os.link("own", arguments["outside"] + "/own"))
    yield "of a process", lambda: each(victims(), lambda pid: os.listdir("/proc/%d/cwd/" % pid))
    yield "exchange", lambda: (open("x", "w"), must(LIBC.renameat2(-100, b"x", -100, arguments["secret"].encode(), 2)))


def trace():
    def peek(pid):
        local, remote = (ctypes.c_uint64 * 2)(), (ctypes.c_uint64 * 2)()
        buffer = ctypes.create_string_buffer(8)
        maps = open("/proc/%d/maps" % pid).readline()
        local[0], local[1] = ctypes.addressof(buffer), 8
        remote[0], remote[1] = int(maps.partition("-")[0], 16), 8
        must(LIBC.process_vm_readv(pid, local, 1, remote, 1, 0))

    def seize(pid):
        must(LIBC.ptrace(0x4206, pid, None, None))

    yield "seize", lambda: each(arguments["victims"], seize)
    yield "attach", lambda: each(arguments["victims"], lambda pid: must(LIBC.ptrace(16, pid, None, None)))
    yield "read memory", lambda: each(victims(), peek)
    yield "/proc/mem", lambda: each(victims(), lambda pid: os.open("/proc/%d/mem" % pid, os.O_RDWR))
    yield "take a file", lambda: each(victims(), lambda pid: call(PIDFD_GETFD, os.pidfd_open(pid), 1, 0))
    yield "trace me", lambda: must(LIBC.ptrace(0, 0, None, None))


def signals():
    number = arguments["signal"]
    yield "kill", lambda: each(victims() if number == signal.SIGKILL else arguments["victims"], lambda p: os.kill(p, number))
    yield "queue", lambda: each(arguments["victims"], lambda p: call(129 if X86 else 138, p, number, bytes(128)))
    yield "thread", lambda: each(arguments["victims"], lambda p: call(200 if X86 else 130, p, number))
    yield "pidfd", lambda: each(arguments["victims"], lambda p: signal.pidfd_send_signal(os.pidfd_open(p), number))
    yield "group", lambda: os.killpg(os.getpgid(arguments["victims"][0]), number if number == 9 else 0)
    yield "limits", lambda: each(arguments["victims"], lambda p: resource.prlimit(p, resource.RLIMIT_CPU, (900, 900)))
    yield "priority", lambda: each(arguments["victims"], lambda p: os.setpriority(os.PRIO_PROCESS, p, 19))
    yield "processors", lambda: each(arguments["victims"], lambda p: os.sched_setaffinity(p, os.sched_getaffinity(p)))


def namespaces():
    def clone(flags):
        if call(CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0) == 0:
            os._exit(0)

    yield "clone", lambda: clone(NEW_USER)
    yield "user", lambda: must(LIBC.unshare(NEW_USER))
    for name, flag in (("net", NEW_NET), ("mount", NEW_NS), ("pid", NEW_PID)):
        yield name, lambda flag=flag: must(LIBC.unshare(flag))
    yield "enter", lambda: must(LIBC.setns(os.open("/proc/self/ns/uts", os.O_RDONLY), 0))


def mounts():
    def mount():
        try:
            must(LIBC.unshare(NEW_NS))
            must(LIBC.mount(None, b"/", None, 0x44000, None))  # private, recursively
        except OSError:
            pass
        must(LIBC.mount(b"x", arguments["outside"].encode(), b"tmpfs", 0, None))

    yield "mount", mount
    yield "fsopen", lambda: call(FSOPEN, b"tmpfs", 0)
    yield "open_tree", lambda: call(OPEN_TREE, -100, b"/", 1)
    yield "chroot", lambda: must(LIBC.chroot(b"."))


def kernel_interfaces():
    attr = bytearray(128)
    attr[0], attr[4], attr[40] = 1, 112, 0x20  # a software clock, user mode only
    yield "io_uring", lambda: call(IO_URING_SETUP, 4, bytes(120))
    yield "perf", lambda: call(PERF, bytes(attr), 0, -1, -1, 0)
    yield "bpf", lambda: call(BPF, 0, bytes([2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]) + bytes(100), 116)
    yield "keys", lambda: call(ADD_KEY, b"user", b"probe", b"x", 1, -2)
    yield "userfaultfd", lambda: call(USERFAULTFD, 0)
    yield "fanotify", lambda: must(LIBC.fanotify_init(0, 0))
    yield "file handles", lambda: must(LIBC.name_to_handle_at(-100, b"/etc/passwd", bytes([64]) + bytes(100), bytes(8), 0))
    yield "kernel log", lambda: must(LIBC.klogctl(10, None, 0))


def programs():
    def fork():
        if os.fork() == 0:
            os._exit(0)

    def shell():
        if os.system("exit 0") != 0:
            raise PermissionError

    def memory():
        fd = os.memfd_create("probe")
        os.write(fd, open("/bin/true", "rb").read())
        os.posix_spawn("/proc/self/fd/%d" % fd, ["true"], {})

    yield "fork", fork
    yield "spawn", lambda: os.posix_spawn("/bin/true", ["true"], {})
    yield "memfd", lambda: os.memfd_create("probe")
    yield "run from memory", memory
    yield "shell", shell
    yield "exec", lambda: os.execv("/bin/sh", ["sh", "-c", "printf 'programs\tESCAPED: exec\n'"])


def privileges():
    def capabilities():
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        data[0] = data[1] = 1 << 21  # SYS_ADMIN
        must(LIBC.capset(header, data))

    yield "descriptors", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 19, 1 << 19))
    yield "priority", lambda: os.nice(-1)
    yield "real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    yield "session", os.setsid
    yield "outlive", lambda: must(LIBC.prctl(1, 0, 0, 0, 0))
    yield "hide", lambda: must(LIBC.prctl(4, 0, 0, 0, 0))
    yield "own files table", lambda: must(LIBC.close_range(200, 201, 2))
    yield "root", lambda: os.setuid(0) if os.getuid() else os.setgroups([0])
    yield "capabilities", capabilities


def side_doors():
    def inherited():
        if not INHERITED:
            raise PermissionError

    yield "open files", inherited
    yield "own memory", lambda: open("/proc/self/mem", "r+b")
    yield "terminal", os.openpty
    yield "shared memory", lambda: must(LIBC.shmget(0x70726F62, 4096, 0o1600))
    yield "message queue", lambda: must(LIBC.msgget(0x70726F62, 0o1600))
    yield "x32", lambda: call(0x40000000 | 41, 2, 2, 0)
    yield "personality", lambda: must(LIBC.personality(0x0040000))


WAYS = [
    tcp, udp, odd_sockets, unix_sockets, read_files, neighbours_files, environment, write_outside, links, trace, signals,
    namespaces, mounts, kernel_interfaces, programs, privileges, side_doors,
]  # fmt: skip


def tried(way):
    """What of a way is open, and why the rest is not."""
    for name, act in way():
        try:
            act()
        except (OSError, KeyError, ValueError) as error:
            failures.append(f"{way.__name__} / {name}: {type(error).__name__} {error}")
        else:
            yield name


failures = []
for way in WAYS:
    if arguments.get("only") in (None, way.__name__):
        found = ", ".join(tried(way))
        print(f"{way.__name__}\t{'ESCAPED: ' + found if found else 'contained'}", flush=True)
print("\n".join(failures), file=sys.stderr)
