"""A small MCP server on stdio: tells its process id, fails, dies, hangs, or tells of its work.

Its argument, if any, is the protocol version it speaks. Standard library only.
"""

import json
import os
import sys

VERSION = sys.argv[1] if len(sys.argv) > 1 else None
hanging, cancelled = [], []


def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def answer(id, **result):
    send(id=id, result={"resultType": "complete", **result})


def call(id, name, token):
    if name == "dies":
        os._exit(9)
    if name == "hangs":
        hanging.append(id)
        return
    if name == "received":
        given = {"hanging": hanging, "cancelled": cancelled, "pid": os.getpid()}
        return answer(id, content=[], structuredContent=given)
    if name == "tells":
        progress = {"progressToken": token, "progress": 1, "total": 2, "message": "half, password=hunter2-canary"}
        send(method="notifications/progress", params=progress)
        send(method="notifications/message", params={"level": "info", "logger": "small", "data": "at work"})
    text = f"out of paper, password={os.environ.get('CANARY')}"
    content = [{"type": "text", "text": text if name == "fails" else name}]
    answer(id, content=content, structuredContent={"pid": os.getpid()}, isError=name == "fails")


for line in sys.stdin:
    message = json.loads(line)
    id, params = message.get("id"), message.get("params") or {}
    match message.get("method"):
        case "server/discover" if VERSION == "2026-07-28":
            info = {"supportedVersions": [VERSION], "capabilities": {"tools": {}}}
            answer(id, **info, ttlMs=0, cacheScope="private")
        case "initialize":
            server = {"name": "small", "version": "1.0.0"}
            version = params["protocolVersion"]
            send(id=id, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server})
        case "notifications/cancelled":
            cancelled.append(params["requestId"])
        case "tools/call":
            call(id, params["name"], (params.get("_meta") or {}).get("progressToken"))
        case _ if id is not None:
            send(id=id, error={"code": -32601, "message": "Method not found"})
