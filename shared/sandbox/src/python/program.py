"""Runs the program of a job, in a process that is already locked down, and says how it ended.

Must never be trusted: what it writes on the report descriptor may come from the program itself.
"""

import atexit
import errno
import json
import linecache
import os
import resource
import sys
import threading
import traceback
import types

FILE = "program.py"
MESSAGE_CHARACTERS = 4096


def shorten(text):
    """`text` as valid UTF-8 of bounded length."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MESSAGE_CHARACTERS else text[: MESSAGE_CHARACTERS - 1] + "…"


def describe(error):
    """Class name and message of an exception, whatever its __str__ does."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except BaseException:
        message = ""
    return shorten(name), shorten(message)


def where(error):
    """The last line of the program itself that led to `error`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == FILE:
            return f", at line {frame.lineno}: {frame.line}"
    return ""


def own_frames(error):
    """The traceback of `error` from the program's first line on."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != FILE:
        trace = trace.tb_next
    return trace


def is_denial(error):
    """Whether the sandbox refused something. A failed name look-up counts: there is no network to ask."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, OSError) and reason is not error:
        return is_denial(reason)
    if isinstance(error, PermissionError):
        return error.errno is not None
    return type(error).__name__ == "gaierror"


def failure(error):
    """The report on an exception that the program did not catch."""
    kind, message = describe(error)
    if isinstance(error, MemoryError):
        return {"outcome": "out_of_memory", "message": message}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return {"outcome": "disk_full", "message": shorten(f"{kind}: {message}{where(error)}")}
    if is_denial(error):
        return {"outcome": "denied", "message": shorten(f"{kind}: {message}{where(error)}")}
    return {"outcome": "raised", "kind": kind, "message": message}


def plain(value):
    """numpy scalars as their Python values."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"result holds a {type(value).__name__}, which has no JSON form")


def success(variables, limit):
    """The report on a program that came to its end."""
    if "result" not in variables:
        return {"outcome": "ok"}
    text = json.dumps({"outcome": "ok", "result": variables["result"]}, allow_nan=False, default=plain)
    if len(text) > limit:
        raise ValueError(f"result takes {len(text)} bytes as JSON; the limit is {limit}")
    return text


def exit_code(error):
    """What `sys.exit(x)` means to a shell."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def spare_memory():
    """Room to report in, after the program used up its own."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def execute(source, variables):
    """Runs the program to its end, threads and exit handlers included. Gives an exception or None."""
    try:
        exec(compile(source, FILE, "exec"), variables)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
    except BaseException as error:
        return error
    return None


def conclude(error, variables, limit):
    """Report and exit code for how the program ended."""
    if isinstance(error, SystemExit):
        code = exit_code(error)
        if code:
            return {"outcome": "exit"}, code
        error = None
    if error is None:
        try:
            return success(variables, limit), 0
        except BaseException as unfit:
            error = unfit
    try:
        traceback.print_exception(type(error), error, own_frames(error))
    except BaseException:
        pass
    return failure(error), 1


def stand_in(source, arguments, workspace):
    """A fresh `__main__` for the program, with its globals."""
    main = types.ModuleType("__main__")
    main.__dict__.update(arguments=arguments, workspace=workspace, __file__=FILE)
    sys.modules["__main__"] = main
    sys.argv = [FILE]
    linecache.cache[FILE] = (len(source), None, source.splitlines(True), FILE)
    return main.__dict__


def flush(*streams):
    for stream in streams:
        try:
            stream.flush()
        except BaseException:
            pass


def run(job, report_fd):
    """Runs `job`, writes one report and gives the exit code."""
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    out = open(1, "w", 1 if job["stream"] else -1, encoding="utf-8", errors="replace", closefd=False)
    err = open(2, "w", 1, encoding="utf-8", errors="replace", closefd=False)
    sys.stdout, sys.stderr = out, err
    variables = stand_in(job["source"], job["arguments"], job["workspace"])
    error = execute(job["source"], variables)
    spare_memory()
    report, code = conclude(error, variables, job["result_bytes"])
    flush(sys.stdout, out, sys.stderr, err)
    try:
        text = (report if isinstance(report, str) else json.dumps(report)).encode()
        while text:
            text = text[os.write(report_fd, text) :]
    except OSError:
        pass
    return code
