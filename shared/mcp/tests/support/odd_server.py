"""A small MCP server on stdio that misbehaves in the way its first argument names; with `good` it does not.

Its second argument, if any, is a file for its process id and that of a child it starts. Standard library only.
"""
import json
import os
import signal
import subprocess
import sys
import time

MODE = sys.argv[1]
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
seen = []
listening = None


def send(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(id, **result):
    send(id=id, result={"resultType": "complete", **result})


def fail(id, code, message):
    send(id=id, error={"code": code, "message": message})


def forever():
    while True:
        time.sleep(3600)


def tool(name):
    return {"name": name, "inputSchema": {"type": "object"}}


def start():
    if len(sys.argv) > 2:
        child = subprocess.Popen(["sleep", "600"])
        with open(sys.argv[2], "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
    if MODE == "exits":
        print("no licence for key", os.environ.get("KEY"), file=sys.stderr)
        sys.exit(3)
    if MODE == "hangs":
        forever()
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def discover(id):
    if MODE == "modern":
        answer(
            id,
            supportedVersions=["2026-07-28"],
            capabilities={"tools": {"listChanged": True}},
            ttlMs=0,
            cacheScope="private",
            _meta={"io.modelcontextprotocol/serverInfo": {"name": "odd", "version": "1.2.3"}},
        )
    elif MODE == "brittle":
        sys.exit(1)
    elif MODE != "deaf":
        fail(id, -32601, "Method not found")


def initialize(id, params):
    version = "1999-01-01" if MODE == "ancient" else params["protocolVersion"]
    send(
        id=id,
        result={
            "protocolVersion": version,
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "odd", "version": "1.2.3"},
        },
    )


def list_tools(id, cursor):
    if MODE == "circle":
        answer(id, tools=[tool("t")], nextCursor="again")
    elif MODE == "endless":
        page = int(cursor or 0)
        answer(id, tools=[tool(f"t{page}-{n}") for n in range(600)], nextCursor=str(page + 1))
    elif cursor is None:
        answer(id, tools=[tool("first")], nextCursor="2")
    else:
        answer(id, tools=[{**tool("second"), "annotations": {"readOnlyHint": True}}])


def changed():
    params = {"_meta": {SUBSCRIPTION: listening}} if MODE == "modern" else {}
    send(method="notifications/tools/list_changed", params=params)


def tell(token, meta):
    for step in range(3):
        params = {"progressToken": token, "progress": step, "total": 3, "message": f"step {step}"}
        send(method="notifications/progress", params=params)
    send(method="notifications/progress", params={"progressToken": "another's", "progress": 9})
    if MODE != "modern" or meta.get("io.modelcontextprotocol/logLevel") == "info":
        send(method="notifications/message", params={"level": "warning", "logger": "odd", "data": {"hot": True}})


def call(id, name, arguments, meta):
    if name == "never":
        return
    if name == "tells":
        tell(meta.get("progressToken"), meta)
    if name == "meta":
        return answer(id, content=[], structuredContent=meta, _meta={"usage": {"input_tokens": 3}})
    if name == "late":
        late.append((id, arguments))
        if len(late) == arguments["of"]:
            for other, given in reversed(late):
                answer(other, content=[], structuredContent=given)
        return
    if name == "dies":
        print("out of memory", file=sys.stderr)
        sys.exit(9)
    if name == "huge":
        sys.stdout.write('{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % id)
        for _ in range(17):
            sys.stdout.write("x" * 1024 * 1024)
        sys.stdout.write('"}]}}\n')
        sys.stdout.flush()
        return
    if name == "refuses":
        return fail(id, -32602, "no such thing\nat all")
    if name == "asks":
        send(id="a ping", method="ping")
        send(id="a sample", method="sampling/createMessage", params={"messages": [], "maxTokens": 1})
    if name == "floods":
        for n in range(10_000):
            send(id=n, method="ping")
            send(method="notifications/message", params={"level": "info", "data": "x" * 1000})
    if name == "changes":
        changed()
    if name == "environ":
        with open("/proc/self/environ") as file:
            pairs = [pair.split("=", 1) for pair in file.read().split("\0") if pair]
        return answer(id, content=[], structuredContent=dict(pairs))
    answer(id, content=[{"type": "text", "text": name}], structuredContent={"seen": seen}, isError=name == "fails")


def handle(message):
    global listening
    seen.append({key: message[key] for key in ("method", "id", "result", "error") if key in message})
    if message.get("method") == "notifications/cancelled":
        seen[-1]["cancels"] = message["params"]["requestId"]
    id, params = message.get("id"), message.get("params") or {}
    match message.get("method"):
        case "server/discover":
            discover(id)
        case "initialize":
            initialize(id, params)
        case "subscriptions/listen":
            listening = id
            meta = {SUBSCRIPTION: id}
            accepted = {"_meta": meta, "notifications": {"toolsListChanged": True}}
            send(method="notifications/subscriptions/acknowledged", params=accepted)
        case "tools/list":
            list_tools(id, params.get("cursor"))
        case "tools/call":
            call(id, params["name"], params.get("arguments") or {}, params.get("_meta") or {})


late = []
start()
for line in sys.stdin:
    if MODE == "garbage":
        print("Welcome to my server!", flush=True)
    else:
        handle(json.loads(line))
if MODE == "stubborn":
    forever()
