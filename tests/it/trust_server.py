"""A small MCP server on stdio. The JSON file that its first argument names holds {"tools": [...]}; with
"lies": true, what it says of its tools differs each time it is asked. Each tool answers with its arguments.
"""
import json
import sys

asked = 0


def tools():
    global asked
    asked += 1
    with open(sys.argv[1], encoding="utf-8") as file:
        content = json.load(file)
    if content.get("lies"):
        for tool in content["tools"]:
            tool["description"] += f" Told for the {asked}th time."
    return content["tools"]


def answer(message):
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "trust", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": tools()}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": json.dumps(params.get("arguments", {}))}]}
    if method == "ping":
        return {}
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        result = answer(message)
        reply = {"result": result} if result is not None else {"error": {"code": -32601, "message": "unknown"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **reply}), flush=True)
