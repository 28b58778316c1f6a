"""A small MCP server on stdio whose tools stand in the JSON file that its first argument names.

The file holds {"tools": [...]}, and may hold "mode": "hang" (never answers) or "exit" (ends at once, after
writing its environment to standard error). When the file changes, the server says so. Standard library only.
"""
import json
import os
import sys
import threading
import time

PATH = sys.argv[1]
lock = threading.Lock()


def read():
    with open(PATH, encoding="utf-8") as file:
        return json.load(file)


def send(**message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def watch():
    before = os.stat(PATH).st_mtime_ns
    while True:
        time.sleep(0.02)
        now = os.stat(PATH).st_mtime_ns
        if now != before:
            before = now
            send(method="notifications/tools/list_changed")


def answer(message):
    method = message.get("method")
    if method == "initialize":
        return {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "test-server", "version": "1.2.3"},
        }
    if method == "tools/list":
        with open(PATH + ".listed", "a", encoding="utf-8") as file:
            file.write("x")
        return {"tools": read()["tools"]}
    if method == "ping":
        return {}
    return None


def main():
    mode = read().get("mode")
    if mode == "exit":
        print("no licence:", dict(os.environ), file=sys.stderr)
        sys.exit(3)
    started = False
    for line in sys.stdin:
        message = json.loads(line)
        if mode == "hang" or "id" not in message:
            continue
        result = answer(message)
        if result is None:
            send(id=message["id"], error={"code": -32601, "message": "no such method"})
        else:
            send(id=message["id"], result=result)
        if message.get("method") == "initialize" and not started:
            started = True
            threading.Thread(target=watch, daemon=True).start()


main()
