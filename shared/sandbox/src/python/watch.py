"""What the forkserver sees of a running program from outside, in /proc.

Must never believe the program: it reads only what the kernel says of it, and changes nothing but its priority. Fields
are those of proc_pid_stat(5) and proc_pid_maps(5).
"""

import os
import stat

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
BLOCK = 512  # bytes, the unit of st_blocks
DELETED = " (deleted)"
NOT_A_FILE = "/dev/zero"  # the name of shared memory without a file, which the limit of memory counts


def computed(pid):
    """Seconds of processor time that a process used, and how many threads it has."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND, int(fields[17])


def hidden_bytes(pid):
    """Space on disk of the files that a process holds open and that no folder names any more."""
    files = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found = os.stat(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue  # closed meanwhile
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
            files[found.st_dev, found.st_ino] = found.st_blocks * BLOCK
    return sum(files.values())


def mapped_files(pid):
    """The files that a process has mapped and that no folder names any more; how large they are cannot be seen."""
    files = set()
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if line.endswith(DELETED + "\n"):
                _, _, _, device, inode, path = line.split(maxsplit=5)
                if not path.startswith(NOT_A_FILE):
                    files.add((device, inode))
    return files


def put_group_back(pid, niceness):
    """Where the kernel shares processors between sessions (sched(7), autogroup), puts that of a program behind. False
    where that has to be tried again: others did so within the last tenth of a second."""
    try:
        with open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as file:
            file.write(str(niceness))
    except BlockingIOError:
        return False
    except OSError:
        pass  # there is no such thing here
    return True


class Seen:
    """What was seen of one program, look after look."""

    LOOKS_A_MAP = 25  # reading all mappings takes a hundred times as long as the rest

    def __init__(self, pid):
        self.pid, self.looks, self.readable = pid, 0, False
        self.cpu_s, self.facts = 0.0, {"threads": 1, "hidden_bytes": 0, "hidden_files": 0}

    def look(self):
        """True where what is worth telling changed. Raises PermissionError where the program hid from us."""
        self.looks += 1
        before = dict(self.facts)
        try:
            self.cpu_s, self.facts["threads"] = computed(self.pid)
            self.facts["hidden_bytes"] = hidden_bytes(self.pid)
            if self.looks % self.LOOKS_A_MAP == 0:
                own = mapped_files("self")  # of a Python that was replaced on disk while we run
                self.facts["hidden_files"] = len(mapped_files(self.pid) - own)
            self.readable = True
        except FileNotFoundError:
            return False  # it ended
        except PermissionError:
            if self.readable:
                raise
            return False  # not yet locked in
        return self.facts != before
