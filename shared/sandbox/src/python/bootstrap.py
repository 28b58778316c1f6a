"""First program of the forkserver process: loads its modules from the control socket, which is descriptor 0.

Must never take code from anywhere else: no file, no environment variable, no working directory.
"""

import json
import os
import sys
import types

os.setsid()  # the terminal's interrupt is not for us


def read_line():
    """One line from the control socket, byte by byte so that nothing after it is consumed."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)
        line += byte
    return json.loads(line)


def load(name, source):
    """Makes `source` importable as `name`."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"<sandbox {name}.py>", "exec"), module.__dict__)


greeting = read_line()
for entry in greeting.pop("modules"):
    load(entry["name"], entry["source"])
sys.modules["sandbox_forkserver"].main(greeting)
