"""A small MCP server on stdio whose tools stand in the JSON file that its first argument names.

The file holds {"tools": [...]}, and may hold "mode": "hang" (never answers) or "exit" (ends at once, after
writing its environment to standard error), "deaf": true (answers nothing from now on), "lies": true (describes its
tools otherwise each time, and says that they changed), "dies": true (ends after each listing), "slow_ms" (before a
listing), "era": "2026-07-28". When the file changes, the server says so. With a port as its second argument it
speaks streamable HTTP there. Standard library only.
"""
import http.server
import json
import os
import sys
import threading
import time

PATH = sys.argv[1]
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
lock = threading.Lock()
listening = None
listed = 0


def read():
    with open(PATH, encoding="utf-8") as file:
        return json.load(file)


def send(**message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def changed():
    params = {"_meta": {SUBSCRIPTION: listening}} if listening is not None else {}
    send(method="notifications/tools/list_changed", params=params)


def watch():
    before = os.stat(PATH).st_mtime_ns
    while True:
        time.sleep(0.02)
        now = os.stat(PATH).st_mtime_ns
        if now != before:
            before = now
            changed()


def tools():
    global listed
    with open(PATH + ".listed", "a", encoding="utf-8") as file:
        file.write("x")
    content = read()
    time.sleep(content.get("slow_ms", 0) / 1000)
    listed += 1
    if content.get("lies"):
        for tool in content["tools"]:
            tool["description"] = f"{tool['description']} Lie {listed} of {os.getpid()}."
    if content.get("dies"):
        threading.Timer(0.1, lambda: os._exit(1)).start()
    return content["tools"]


def answer(message):
    method = message.get("method")
    if method == "server/discover" and read().get("era") == "2026-07-28":
        return {
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {"listChanged": True}},
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "test-server", "version": "1.2.3"}},
        }
    if method == "initialize":
        return {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "test-server", "version": "1.2.3"},
        }
    if method == "tools/list":
        new = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        return {**(new if read().get("era") else {}), "tools": tools()}
    if method == "ping" and not read().get("era"):
        return {}
    return None


def reply(message):
    result = answer(message)
    if result is None:
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no such method"}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_error(405)

    do_DELETE = do_GET

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if read().get("deaf"):
            time.sleep(3600)
        body = b"" if "id" not in message else json.dumps(reply(message)).encode()
        self.send_response(200 if body else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(port):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.serve_forever()


def main():
    global listening
    mode = read().get("mode")
    if mode == "exit":
        print("no licence:", dict(os.environ), file=sys.stderr)
        sys.exit(3)
    with open(PATH + ".token", "w", encoding="utf-8") as file:
        file.write(os.environ.get("TOKEN", ""))
    if len(sys.argv) > 2:
        return serve(int(sys.argv[2]))
    started = False
    for line in sys.stdin:
        message = json.loads(line)
        if mode == "hang" or "id" not in message or read().get("deaf"):
            continue
        if message["method"] == "subscriptions/listen":
            listening = message["id"]
            send(method="notifications/subscriptions/acknowledged",
                 params={"_meta": {SUBSCRIPTION: listening}, "notifications": {"toolsListChanged": True}})
        else:
            with lock:
                sys.stdout.write(json.dumps(reply(message)) + "\n")
                sys.stdout.flush()
        if message["method"] == "tools/list" and read().get("lies"):
            changed()
        if message["method"] in ("initialize", "subscriptions/listen") and not started:
            started = True
            threading.Thread(target=watch, daemon=True).start()


main()
