"""The program behind the tool code_analysis: Python source in, findings and figures out. Runs in the sandbox, which sets
the globals `arguments` and `workspace` and takes the global `result`.

Must never execute, import or evaluate the source it looks at: it is parsed and walked, no more. What cannot be done is a
ValueError whose message begins with the name of the argument; source that does not parse is a finding.
"""

import ast
import io
import logging
import tokenize
import warnings
from pathlib import Path

from mccabe import PathGraphingAstVisitor

CHECKS = ("security", "errors", "complexity")
LEVELS = ("low", "medium", "high")
SUFFIXES = (".py", ".pyi")
MOST_FILES, MOST_BYTES, MOST_ALL_BYTES = 200, 1 << 20, 4 << 20
MOST_FUNCTIONS = 20  # of those whose complexity is named
MESSAGE_CHARACTERS = 500
TELL_SECRETS = ("B105", "B106", "B107")  # bandit's hard-coded passwords: its message holds the password
# What pyflakes calls wrong and what runs all the same; anything else it says is an error.
HARMLESS = {
    "FStringMissingPlaceholders",
    "ImportShadowedByLoopVar",
    "ImportStarUsage",
    "ImportStarUsed",
    "RedefinedWhileUnused",
    "TStringMissingPlaceholders",
    "UnusedAnnotation",
    "UnusedImport",
    "UnusedIndirectAssignment",
    "UnusedVariable",
}


def fault(field, message):
    """The one kind of error for bad arguments."""
    return ValueError(f"{field}: {message}")


# --- source ------------------------------------------------------------------------------------------------------


def beneath_workspace(name):
    """The file or folder that `name` names inside the workspace."""
    relative = Path(name)
    if "\0" in name or relative.is_absolute() or ".." in relative.parts:
        raise fault("paths", "must be relative to the workspace and must not contain '..'")
    if workspace is None:
        raise fault("paths", f"there is no {name!r}: nothing was written to the workspace of this task")
    root = Path(workspace).resolve()
    found = (root / relative).resolve()
    if not found.is_relative_to(root):
        raise fault("paths", f"{name!r} leads out of the workspace")
    if not found.exists():
        raise fault("paths", f"there is no {name!r} in the workspace")
    return root, found


def files_of(name):
    """The files of Python source that one path stands for, in order."""
    root, found = beneath_workspace(name)
    if found.is_file():
        if found.suffix.lower() not in SUFFIXES:
            raise fault("paths", f"{name!r} is not Python; supported are {' and '.join(SUFFIXES)} files")
        return [(found.relative_to(root).as_posix(), found)]
    files = []
    for file in found.rglob("*"):
        if file.suffix.lower() in SUFFIXES and file.is_file() and file.resolve().is_relative_to(root):
            files.append((file.relative_to(root).as_posix(), file))
            if len(files) > MOST_FILES:
                raise fault("paths", f"{name!r} holds more than {MOST_FILES} files; name fewer")
    if not files:
        raise fault("paths", f"the folder {name!r} holds no Python; supported are {' and '.join(SUFFIXES)} files")
    return sorted(files)


def read_sources():
    """Name and bytes of each piece of source; the name of text is None."""
    if "code" in arguments:
        return [(None, arguments["code"].encode("utf-8", "surrogatepass"))]
    files = dict(pair for name in arguments["paths"] for pair in files_of(name))
    if len(files) > MOST_FILES:
        raise fault("paths", f"these are {len(files)} files; at most {MOST_FILES}")
    sources, total = [], 0
    for name, file in files.items():
        size = file.stat().st_size
        total += size
        if size > MOST_BYTES or total > MOST_ALL_BYTES:
            raise fault("paths", f"{name!r} is too much: {MOST_BYTES} bytes a file and {MOST_ALL_BYTES} in all may be")
        sources.append((name, file.read_bytes()))
    return sources


# --- findings ----------------------------------------------------------------------------------------------------


def finding(name, tool, rule, severity, line, column, message, confidence="high", **more):
    """One finding; lines and columns count from 1."""
    message = " ".join(str(message).split())
    if len(message) > MESSAGE_CHARACTERS:
        message = message[: MESSAGE_CHARACTERS - 1] + "…"
    found = {"tool": tool, "rule": rule, "severity": severity, "confidence": confidence}
    found |= {"line": max(1, line or 1), "column": max(1, column or 1), "message": message, **more}
    return found if name is None else {"path": name, **found}


def parse(name, data):
    """The tree of a source and no finding, or no tree and why."""
    try:
        return ast.parse(data), None
    except SyntaxError as error:
        return None, finding(name, "python", "syntax-error", "high", error.lineno, error.offset, error.msg)
    except (ValueError, LookupError) as error:  # a null byte; a coding that nobody knows
        return None, finding(name, "python", "syntax-error", "high", 1, 1, error)
    except (RecursionError, MemoryError):
        return None, finding(name, "python", "syntax-error", "high", 1, 1, "nested too deeply to be parsed")


def security(name, data):
    """What bandit finds."""
    from bandit.core import config, docs_utils, manager

    file = Path("source.py")  # in this program's own folder
    file.write_bytes(data)
    bandit = manager.BanditManager(config.BanditConfig(), "file", ignore_nosec=not arguments.get("respect_nosec", False))
    bandit.files_list = [str(file)]
    bandit.run_tests()
    if bandit.skipped:
        yield finding(name, "bandit", "skipped", "medium", 1, 1, f"not examined: {bandit.skipped[0][1]}")
    for issue in bandit.results:
        more = {"check": issue.test, "reference": docs_utils.get_url(issue.test_id)}
        if issue.cwe.id:
            more["cwe"] = issue.cwe.id
        yield finding(
            name,
            "bandit",
            issue.test_id,
            known_level(issue.severity),
            issue.lineno,
            issue.col_offset + 1,
            issue.text.partition(":")[0] if issue.test_id in TELL_SECRETS else issue.text,
            known_level(issue.confidence),
            **more,
        )


def known_level(word):
    return word.lower() if word.lower() in LEVELS else "low"  # UNDEFINED


def errors(name, tree):
    """What pyflakes finds."""
    from pyflakes.checker import Checker

    try:
        messages = Checker(tree, name or "source.py", builtins=set()).messages
    except RecursionError:
        yield finding(name, "pyflakes", "skipped", "medium", 1, 1, "not examined: nested too deeply")
        return
    for message in messages:
        rule = type(message).__name__
        severity = "low" if rule in HARMLESS else "medium"
        text = message.message % message.message_args
        yield finding(name, "pyflakes", rule, severity, message.lineno, message.col + 1, text)


class Branches:
    """Cases of a match statement as the branches that mccabe knows."""

    def __init__(self, node):
        self.lineno, self.body, self.orelse, self.handlers = node.lineno, node.cases[0].body, [], node.cases[1:]


class Graphs(PathGraphingAstVisitor):
    """mccabe's, which does not know the statements of Python 3.10 and later."""

    visitTryStar = PathGraphingAstVisitor.visitTryExcept

    def visitMatch(self, node):
        branches = Branches(node)
        self._subgraph(branches, f"Match {node.lineno}", extra_blocks=branches.handlers)


def complexities(name, tree):
    """Name, line and cyclomatic complexity (McCabe 1976) of each function, and of each branch outside of one."""
    visitor = Graphs()
    try:
        visitor.preorder(tree, visitor)
    except RecursionError:
        return []
    place = {} if name is None else {"path": name}
    graphs = visitor.graphs.values()
    return [{**place, "name": g.entity, "line": g.lineno, "complexity": g.complexity()} for g in graphs]


# --- figures -----------------------------------------------------------------------------------------------------


def lines_of(data):
    """Lines in all, and how many of them are blank or hold a comment alone."""
    lines = [line.strip() for line in data.splitlines()]
    blank = sum(not line for line in lines)
    comments = set()
    try:
        for token in tokenize.tokenize(io.BytesIO(data).readline):
            if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
                comments.add(token.start[0])
    except (tokenize.TokenError, SyntaxError, ValueError, LookupError):
        pass  # it does not parse either, and a finding says so
    return {"lines": len(lines), "blank_lines": blank, "comment_lines": len(comments)}


def count(tree):
    kinds = [type(node) for node in ast.walk(tree)]
    functions = kinds.count(ast.FunctionDef) + kinds.count(ast.AsyncFunctionDef)
    return {"functions": functions, "classes": kinds.count(ast.ClassDef)}


def add(total, part):
    for key, value in part.items():
        total[key] = total.get(key, 0) + value


def analyze():
    checks = arguments.get("checks", CHECKS)
    allowed = arguments.get("max_complexity", 10)
    found, graphs = [], []
    sources = read_sources()
    metrics = {"files": len(sources), "lines": 0, "blank_lines": 0, "comment_lines": 0, "functions": 0, "classes": 0}
    for name, data in sources:
        add(metrics, lines_of(data))
        tree, broken = parse(name, data)
        if broken:
            found.append(broken)
            continue
        add(metrics, count(tree))
        if "security" in checks:
            found.extend(security(name, data))
        if "errors" in checks:
            found.extend(errors(name, tree))
        if "complexity" in checks:
            graphs.extend(complexities(name, tree))
    for graph in graphs:
        if graph["complexity"] > allowed:
            text = f"{graph['name']} has a complexity of {graph['complexity']}; {allowed} may be"
            found.append(finding(graph.get("path"), "mccabe", "C901", "low", graph["line"], 1, text))
    metrics["code_lines"] = metrics["lines"] - metrics["blank_lines"] - metrics["comment_lines"]
    if "complexity" in checks:
        graphs.sort(key=lambda graph: (-graph["complexity"], graph.get("path", ""), graph["line"]))
        metrics["max_complexity"] = graphs[0]["complexity"] if graphs else 0
        metrics["most_complex"] = graphs[:MOST_FUNCTIONS]
    return answer(found, metrics)


def answer(found, metrics):
    severity = LEVELS.index(arguments.get("min_severity", "low"))
    confidence = LEVELS.index(arguments.get("min_confidence", "low"))
    found = [
        each
        for each in found
        if LEVELS.index(each["severity"]) >= severity and LEVELS.index(each["confidence"]) >= confidence
    ]
    found.sort(key=lambda f: (-LEVELS.index(f["severity"]), f.get("path", ""), f["line"], f["column"], f["tool"], f["rule"]))
    most = arguments.get("max_findings", 200)
    counts = {level: sum(each["severity"] == level for each in found) for level in reversed(LEVELS)}
    return {
        "language": "python",
        "findings": found[:most],
        "counts": counts,
        "truncated": len(found) > most,
        "metrics": metrics,
    }


logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
result = analyze()
