"""Tries what no sandboxed program may do, and sets `result` to a list of what it got at: empty when all is well."""

import ctypes
import os
import socket

CLONE_NEWUSER = 0x10000000


def unshare():
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) < 0:
        raise PermissionError


def attempt(act):
    try:
        act()
    except PermissionError:
        return False
    return True


ATTEMPTS = {
    "the network": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "files outside": lambda: open("/etc/passwd"),
    "namespaces": unshare,
    "other programs": lambda: os.execv("/bin/true", ["true"]),
}
result = ", ".join(name for name, act in ATTEMPTS.items() if attempt(act))
