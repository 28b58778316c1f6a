"""The forkserver: holds Python with pandas loaded, and forks one locked-down child a job.

While children run it looks at them every few milliseconds: it tells what they hold that no limit of the kernel counts,
and puts those that compute for long behind all others. Stays single-threaded, since a fork copies only the calling
thread. Must never read what a job sends or wait for one: it polls. A job is alive exactly as long as its lifeline:
when the other side closes or shuts that down, the child is killed. When the control socket ends, everything ends.
"""

import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback

import sandbox_lockdown as lockdown
import sandbox_program as program
import sandbox_watch as watch

DESCRIPTORS = 4  # lifeline, channel, standard output, standard error
CHANNEL, LIFELINE = 3, 4  # where the child holds them
REPORT_MARGIN = 16 * 1024 * 1024  # address space kept back for writing the report, bytes
LOOK_EVERY_S = 0.02
LOOK_AT_LEAST_EVERY_S = 0.2
LOOKING_SHARE = 10  # looking takes at most one part in this many of our time, except for the line before
SHORT_S = 0.05  # processor time after which a program is no short one any more
SHORT_NICENESS = 5  # so that a burst of threads does not hold us up, who are to see it
LONG_NICENESS = 10
MANY_THREADS = 4  # above it a long program gives way to other long ones too, or it would get as much as that many
MANY_NICENESS = 15
READY = b"ready"


def python_paths():
    """The folders and files that the interpreter, its packages and their shared libraries are read from."""
    import sysconfig

    found = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [os.path.join(sys.base_prefix, "lib"), "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"]
    found += ["/usr/share/zoneinfo", "/etc/localtime"]
    return [path for path in dict.fromkeys(map(os.path.realpath, found)) if os.path.exists(path)]


def load_packages():
    """Imports what most programs want, so that children need not. Gives the reason when that fails."""
    try:
        import pandas  # noqa: F401
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


class Child:
    """What the forkserver keeps of a running job."""

    def __init__(self, pid, lifeline):
        self.pid, self.lifeline, self.pidfd = pid, lifeline, os.pidfd_open(pid)
        self.seen, self.niceness = watch.Seen(pid), SHORT_NICENESS

    def look(self):
        """Tells what it holds, and makes a long program give way to short ones. One that hides is killed."""
        try:
            if self.seen.look():
                tell(self.lifeline, {"using": self.seen.facts})
            if self.seen.readable and self.seen.cpu_s >= SHORT_S:  # before, it is not yet of the user we act as
                self.give_way()
        except ProcessLookupError:
            pass  # it ended
        except PermissionError:
            self.kill()

    def give_way(self):
        """Puts every thread behind those of short programs; threads that are made later inherit it."""
        many = self.seen.facts["threads"] > MANY_THREADS
        if self.niceness < (wanted := MANY_NICENESS if many else LONG_NICENESS):
            os.setpriority(os.PRIO_PGRP, self.pid, wanted)
            if watch.put_group_back(self.pid, wanted):
                self.niceness = wanted

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        tell(self.lifeline, {"killed": True})

    def reap(self):
        """Tells the other side how the child ended and what it used."""
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        end = {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "max_rss_bytes": usage.ru_maxrss * 1024,
        }
        tell(self.lifeline, {"ended": end})
        self.lifeline.close()


def tell(lifeline, message):
    try:
        lifeline.send(json.dumps(message).encode() + b"\n", socket.MSG_DONTWAIT)
    except OSError:
        pass  # nobody listens any more


class Server:
    """The poll loop and its children."""

    def __init__(self, control, setup):
        self.control, self.setup = control, setup
        self.poller = select.poll()
        self.poller.register(control, select.POLLIN)
        self.by_lifeline, self.by_pidfd = {}, {}
        self.next_look = 0.0

    def serve(self):
        """Runs until the control socket ends, then kills and reaps what is left."""
        while True:
            for fd, _ in self.poller.poll(self.patience_ms()):
                if fd in self.by_pidfd:
                    self.ended(fd)
                elif fd in self.by_lifeline:
                    self.poller.unregister(fd)
                    self.by_lifeline.pop(fd).kill()
                elif fd == self.control.fileno() and not self.accept():
                    return self.stop()
            if self.by_pidfd and time.monotonic() >= self.next_look:
                self.look()

    def patience_ms(self):
        """How long nothing has to be done, where nothing happens."""
        if not self.by_pidfd:
            return None
        return max(0.0, (self.next_look - time.monotonic()) * 1000)

    def look(self):
        """Looks at every child."""
        began = time.monotonic()
        with lockdown.acting_as(self.setup["user"], self.setup["parent"]):
            for child in self.by_pidfd.values():
                child.look()
        now = time.monotonic()
        pause = max(LOOK_EVERY_S, (now - began) * LOOKING_SHARE)
        self.next_look = now + min(pause, LOOK_AT_LEAST_EVERY_S)

    def accept(self):
        """Takes one job. False when there will be no more."""
        try:
            message, fds, _, _ = socket.recv_fds(self.control, 1, DESCRIPTORS)
        except OSError:
            return False
        if message and len(fds) == DESCRIPTORS:
            self.start(fds)
        for fd in fds:
            os.close(fd)
        return bool(message)

    def start(self, fds):
        lifeline = socket.socket(fileno=os.dup(fds[0]))
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            tell(lifeline, {"refused": {"kind": "kernel", "what": f"fork: {error.strerror}"}})
            return lifeline.close()
        if pid == 0:
            be_child(self.setup, fds, parent)
        child = Child(pid, lifeline)
        self.by_lifeline[lifeline.fileno()] = child
        self.by_pidfd[child.pidfd] = child
        self.poller.register(lifeline, select.POLLIN | select.POLLRDHUP)
        self.poller.register(child.pidfd, select.POLLIN)

    def ended(self, pidfd):
        child = self.by_pidfd.pop(pidfd)
        self.poller.unregister(pidfd)
        if self.by_lifeline.pop(child.lifeline.fileno(), None):
            self.poller.unregister(child.lifeline)
        child.reap()

    def stop(self):
        for child in self.by_pidfd.values():
            child.kill()
        for child in self.by_pidfd.values():
            child.reap()


def be_child(setup, fds, parent):
    """The life of a child. Never returns."""
    code = 70
    try:
        keep_only(fds)
        with open(CHANNEL, "rb", closefd=False) as channel:
            job = json.loads(channel.read())
        code = locked(setup, job, parent)
    except lockdown.Refused as refusal:
        tell(socket.socket(fileno=LIFELINE), {"refused": {"kind": refusal.kind, "what": str(refusal)}})
    except BaseException:
        traceback.print_exc()  # on the standard error of the job
        sys.stderr.flush()
    finally:
        os._exit(code)


def keep_only(fds):
    """Closes every descriptor but this job's own: no other job, and not the control socket, can be reached."""
    lifeline, channel, out, err = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds)
    for fd, place in ((out, 1), (err, 2), (channel, CHANNEL), (lifeline, LIFELINE)):
        os.dup2(fd, place, inheritable=False)
    os.closerange(LIFELINE + 1, os.sysconf("SC_OPEN_MAX"))


def locked(setup, job, parent):
    """Gives up every right, says so, and runs the program."""
    os.setsid()
    os.nice(SHORT_NICENESS)
    os.umask(0o077)
    paths = allowed_paths(setup, job)
    address_space = mapped_bytes() + job["memory_bytes"]
    lockdown.become(setup["user"])
    lockdown.die_with(parent)
    check_reach(setup, job)
    settle_in(job["folder"])
    lockdown.limit({**job["limits"], "AS": [address_space, address_space + REPORT_MARGIN]})
    lockdown.no_new_privileges()
    paths.enforce()
    lockdown.restrict_calls(setup["filters"])
    os.write(LIFELINE, b'{"locked":true}\n')
    os.close(LIFELINE)
    return program.run(job, CHANNEL)


def allowed_paths(setup, job):
    """Landlock rules: Python and the readable paths to read, the job's folder to write, three devices."""
    paths = lockdown.Paths(setup["abi"])
    for path in setup["paths"]:
        paths.allow(path, lockdown.READ)
    for path in job["readable"]:
        paths.allow(path, lockdown.READ)
    paths.allow("/dev/null", lockdown.READ_FILE | lockdown.WRITE_FILE)
    for device in ("/dev/zero", "/dev/urandom"):
        paths.allow(device, lockdown.READ_FILE)
    paths.allow(job["folder"], lockdown.WORK)
    return paths


def mapped_bytes():
    """Address space in use before the program starts; its memory limit is counted from here."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def check_reach(setup, job):
    """What the rules allow must be readable to this user as well, or programs fail in strange ways."""
    for kind, paths in (("python", setup["paths"]), ("path", job["readable"])):
        for path in paths:
            if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
                raise lockdown.Refused(kind, f"{path} is not readable for the user {os.getuid()} that programs run as")


def settle_in(folder):
    """Goes to the job's folder, forgets the environment and the forkserver's own state."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise lockdown.Refused("folder", f"{folder}: {error.strerror} for the user {os.getuid()}") from None
    os.environ.clear()
    os.environ.update(HOME=folder, TMPDIR=folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("sandbox_forkserver", "sandbox_lockdown", "sandbox_program", "sandbox_watch"):
        sys.modules.pop(name, None)
    sys.modules["numpy"].random.seed()  # or every child would draw the same numbers


def check_sight(user, parent):
    """Proves on a child that programs can be looked at, their open files included."""
    ready, end = os.pipe()
    server = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            lockdown.become(user)
            lockdown.die_with(server)
            os.write(end, READY)
            signal.pause()
        except lockdown.Refused as refusal:
            os.write(end, str(refusal).encode())
        finally:
            os._exit(1)
    try:
        os.close(end)
        answered = os.read(ready, 4096)
        if answered != READY:
            raise lockdown.Refused("kernel", answered.decode() or "a child could not give up its rights")
        with lockdown.acting_as(user, parent):
            watch.hidden_bytes(child)
            watch.mapped_files(child)
    except OSError as error:
        raise lockdown.Refused("kernel", f"the open files of programs cannot be watched: {error}") from None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)


def answer(control, message):
    control.sendall(json.dumps(message).encode() + b"\n")


def main(greeting):
    """Takes the greeting that bootstrap read, loads the packages, answers and serves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lockdown.die_with(greeting["parent"])
    control = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    sys.dont_write_bytecode = True
    reason = load_packages()
    if reason:
        return answer(control, {"python": reason})
    abi = lockdown.landlock_abi()
    answer(control, {"abi": abi, "version": sys.version.split()[0]})
    rules = json.loads(control.makefile("rb", buffering=0).readline() or "null")
    if rules is None:
        return None
    setup = {
        "abi": min(abi, rules["abi"]),
        "filters": lockdown.decode(rules["filters"]),
        "user": rules["user"],
        "parent": greeting["parent"],
        "paths": python_paths(),
    }
    try:
        check_sight(setup["user"], setup["parent"])
    except lockdown.Refused as refusal:
        return answer(control, {"refused": str(refusal)})
    answer(control, {})
    gc.collect()
    gc.freeze()
    return Server(control, setup).serve()
