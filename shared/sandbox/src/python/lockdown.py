"""Takes rights away from the calling process, one by one, and for ever.

Must never go on after a step that failed: each raises `Refused`, and the caller ends the process.
Numbers and structures are those of linux/landlock.h, linux/prctl.h and linux/capability.h.
"""

import contextlib
import ctypes
import os
import resource
import signal

LIBC = ctypes.CDLL(None, use_errno=True)

# The Landlock calls have one number on every architecture.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_FIFO, MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 10, 1 << 12
REFER, TRUNCATE = 1 << 13, 1 << 14

READ = READ_FILE | READ_DIR
WORK = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_FIFO | MAKE_SYM | REFER | TRUNCATE
ON_FILES = READ_FILE | WRITE_FILE | TRUNCATE

# Rights that each ABI version brought; what is handled and not granted by a rule is refused.
FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NET_BIND_AND_CONNECT = 3
SCOPE_ABSTRACT_SOCKET_AND_SIGNAL = 3


class Refused(Exception):
    """A protection could not be put up. `kind` tells whose fault it is: kernel, folder, path or python."""

    def __init__(self, kind, what):
        super().__init__(what)
        self.kind = kind


class RulesetAttr(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("parent", ctypes.c_int32)]


class SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def call(what, function, *arguments):
    """Calls into libc; a negative answer is a refusal to run."""
    answer = function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if answer < 0:
        raise Refused("kernel", f"{what}: {os.strerror(ctypes.get_errno())}")
    return answer


def landlock_abi():
    """The Landlock version of this kernel, or 0."""
    return max(0, LIBC.syscall(ctypes.c_long(LANDLOCK_CREATE_RULESET), None, ctypes.c_long(0), ctypes.c_long(1)))


def fs_rights(abi):
    """Every file right that `abi` can refuse."""
    return FS_RIGHTS[max(version for version in FS_RIGHTS if version <= abi)]


class Paths:
    """A Landlock ruleset. It refuses every path that no rule names."""

    def __init__(self, abi):
        self.handled = fs_rights(abi)
        net = NET_BIND_AND_CONNECT if abi >= 4 else 0
        scoped = SCOPE_ABSTRACT_SOCKET_AND_SIGNAL if abi >= 6 else 0
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        attr = RulesetAttr(self.handled, net, scoped)
        self.fd = call("landlock_create_ruleset", LIBC.syscall, LANDLOCK_CREATE_RULESET, ctypes.byref(attr), size, 0)

    def allow(self, path, access):
        """Allows `access` on `path` and, for a folder, on all that is beneath."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise Refused("path", f"{path}: {error.strerror}") from None
        if not os.path.isdir(path):
            access &= ON_FILES
        rule = PathBeneathAttr(access & self.handled, fd)
        call("landlock_add_rule", LIBC.syscall, LANDLOCK_ADD_RULE, self.fd, LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        os.close(fd)

    def enforce(self):
        """From here on nothing else can be opened."""
        call("landlock_restrict_self", LIBC.syscall, LANDLOCK_RESTRICT_SELF, self.fd, 0)
        os.close(self.fd)


def become(user):
    """Leaves root for good, with every group and every capability."""
    if user is not None:
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        except OSError as error:
            raise Refused("kernel", f"change to the unprivileged user {user}: {error.strerror}") from None
        if os.getresuid() != (user, user, user) or os.getresgid() != (user, user, user):
            raise Refused("kernel", f"change to the unprivileged user {user}: it had no effect")
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    call("capset", LIBC.capset, ctypes.byref(header), ctypes.byref(nothing))
    call("PR_SET_DUMPABLE", LIBC.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)  # or the forkserver could not look at it


@contextlib.contextmanager
def acting_as(user, parent):
    """Within this, the rights are those of `user`: without special ones, only a process of the same user may look at
    another. The kernel forgets the parent's death at each change of user."""
    if user is None:
        yield
        return
    group, owner = os.getegid(), os.geteuid()
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(owner)
        os.setegid(group)
        die_with(parent)


def die_with(parent):
    """Ends this process when `parent` ends, however that happens."""
    call("PR_SET_PDEATHSIG", LIBC.prctl, PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit(limits):
    """Caps resources. `limits` maps a name of `resource.RLIMIT_*` to [soft, hard]."""
    for name, (soft, hard) in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        ceiling = resource.getrlimit(number)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            raise Refused("kernel", f"limit {name}: {error}") from None
        if resource.getrlimit(number) != (soft, hard):
            raise Refused("kernel", f"limit {name}: it had no effect")


def no_new_privileges():
    """Nothing executed later can gain rights; Landlock and seccomp ask for it."""
    call("PR_SET_NO_NEW_PRIVS", LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def restrict_calls(filters):
    """Installs compiled seccomp programs, the last one first in effect."""
    for program in filters:
        fprog = SockFprog(len(program) // 8, program)
        call("PR_SET_SECCOMP", LIBC.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0)


def decode(filters):
    """Compiled seccomp programs as they came over the control socket."""
    return [bytes.fromhex(program) for program in filters]
