"""A small MCP server on stdio: tells its process id, fails, or dies. Standard library only."""

import json
import os
import sys


def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def call(id, name):
    if name == "dies":
        os._exit(9)
    text = f"out of paper, password={os.environ.get('CANARY')}"
    content = [{"type": "text", "text": text if name == "fails" else name}]
    send(id=id, result={"content": content, "structuredContent": {"pid": os.getpid()}, "isError": name == "fails"})


for line in sys.stdin:
    message = json.loads(line)
    id, params = message.get("id"), message.get("params") or {}
    match message.get("method"):
        case "initialize":
            server = {"name": "small", "version": "1.0.0"}
            version = params["protocolVersion"]
            send(id=id, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server})
        case "tools/call":
            call(id, params["name"])
        case _ if id is not None:
            send(id=id, error={"code": -32601, "message": "Method not found"})
