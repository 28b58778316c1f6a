"""Calls toolcrib from Python over generated stubs: picks a tool for a task, runs it, reads refusals by
their reason, repeats a request safely and reads the audit trail. Ends at the first step that fails.

    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    PYTHON=.venv/bin/python ./generate gen
    export TOOLCRIB_ADDRESS=127.0.0.1:7700 TOOLCRIB_API_KEY_FILE=.../dev.key   # in the data folder of toolcrib up
    PYTHONPATH=gen .venv/bin/python client.py

The key must be an administrator's, since one step makes a guest. The program must never print a key.
"""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from toolcrib.audit.v1 import audit_pb2, audit_pb2_grpc
from toolcrib.executor.v1 import executor_pb2, executor_pb2_grpc
from toolcrib.permissions.v1 import permissions_pb2, permissions_pb2_grpc
from toolcrib.selector.v1 import selector_pb2, selector_pb2_grpc

TASK = "run a python program that sums numbers"
PROGRAM = json.dumps({"code": "print(sum(range(10)))"})
CALL_TIMEOUT_S = 60
TRAIL_TIMEOUT_S = 10


class Toolcrib:
    """The services of one toolcrib, all behind one address, called with one API key."""

    def __init__(self, address: str, api_key: str) -> None:
        # Unencrypted, and for that reason to this machine only. Elsewhere: grpc.ssl_channel_credentials().
        transport = grpc.local_channel_credentials()
        key = grpc.access_token_call_credentials(api_key)  # sends "authorization: Bearer <key>"
        self._channel = grpc.secure_channel(address, grpc.composite_channel_credentials(transport, key))
        self.selector = selector_pb2_grpc.SelectorServiceStub(self._channel)
        self.executor = executor_pb2_grpc.ExecutorServiceStub(self._channel)
        self.permissions = permissions_pb2_grpc.PermissionsServiceStub(self._channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


@dataclass(frozen=True)
class Refusal:
    """Why a call was refused. Programs branch on code and reason; the message is for people."""

    code: grpc.StatusCode
    reason: str
    violations: dict[str, str]
    message: str

    def __str__(self) -> str:
        violations = "; ".join(f"{field}: {text}" for field, text in self.violations.items())
        return f"{self.code.name} {self.reason}: {self.message} {violations}".strip()


def read_refusal(error: grpc.RpcError) -> Refusal:
    """Reads the google.rpc.Status that a refused call carries in its trailers."""
    assert isinstance(error, grpc.Call)  # true of every error that a stub raises
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        detail.Unpack(info)  # does nothing to a message of another type
        detail.Unpack(request)
    violations = {violation.field: violation.description for violation in request.field_violations}
    return Refusal(error.code(), info.reason, violations, error.details() or "")


class StepFailed(Exception):
    """An answer that is not the expected one."""


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


def expect_refusal(call: Callable, request: Any, code: grpc.StatusCode, reason: str) -> Refusal:
    try:
        answer = call(request, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        refusal = read_refusal(error)
        expect((refusal.code, refusal.reason) == (code, reason), f"expected {code.name} {reason}, got {refusal}")
        return refusal
    raise StepFailed(f"expected {code.name} {reason}, got an answer: {answer}")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Names the step in which the program ends, if it does."""
    try:
        yield
    except grpc.RpcError as error:
        sys.exit(f"FAIL {name}: {read_refusal(error)}")
    except StepFailed as failure:
        sys.exit(f"FAIL {name}: {failure}")


def done(name: str, text: str) -> None:
    print(f"ok  {name}: {text}", flush=True)


def identify(toolcrib: Toolcrib) -> None:
    me = toolcrib.permissions.WhoAmI(permissions_pb2.WhoAmIRequest(), timeout=CALL_TIMEOUT_S)
    role = permissions_pb2.Role.Name(me.role)
    expect(bool(me.team_id and me.agent_id), f"the key belongs to nobody: {me}")
    expect(me.role == permissions_pb2.ROLE_ADMIN, f"needs an administrator's key, this one is of {role}")
    done("identify", f"{me.agent_id} of team {me.team_id}, {role}")


def select(toolcrib: Toolcrib, task_id: str) -> tuple[str, str]:
    """Returns the best tool for the task and the id of the selection, from which the ranking learns."""
    request = selector_pb2.SelectToolsRequest(task=TASK, required_capabilities=["execute"], task_id=task_id)
    selection = toolcrib.selector.SelectTools(request, timeout=CALL_TIMEOUT_S)
    tool = selection.primary
    expect(tool.name == "python_sandbox", f"expected python_sandbox, got {tool.name!r}")
    done("select", f"{tool.name} out of {selection.candidate_count}, score {tool.combined_score:.2f}: {tool.reason}")
    return tool.name, selection.selection_id


def execute(toolcrib: Toolcrib, request: executor_pb2.ExecuteRequest) -> executor_pb2.Execution:
    # That the tool failed is an answer with a status; only toolcrib's own refusals are raised.
    execution = toolcrib.executor.Execute(request, timeout=CALL_TIMEOUT_S).execution
    status = executor_pb2.ExecutionStatus.Name(execution.status)
    expect(execution.status == executor_pb2.EXECUTION_STATUS_SUCCEEDED, f"{status}: {execution.error.message}")
    stdout = json.loads(execution.result_json)["stdout"]
    expect(stdout == "45\n", f"expected the program to print 45, got {stdout!r}")
    done("execute", f"{execution.tool_name} printed {stdout!r} in {execution.duration_ms:.0f} ms")
    return execution


def repeat(toolcrib: Toolcrib, request: executor_pb2.ExecuteRequest, first: executor_pb2.Execution) -> None:
    """Sends the same request again, as after a lost answer: the request_id keeps it from running twice."""
    answer = toolcrib.executor.Execute(request, timeout=CALL_TIMEOUT_S)
    expect(answer.replayed, "the repeated request was run again")
    expect(answer.execution.id == first.id, f"expected execution {first.id}, got {answer.execution.id}")
    done("repeat", f"execution {first.id} again, not run twice")


def break_schema(toolcrib: Toolcrib, tool: str) -> None:
    request = executor_pb2.ExecuteRequest(tool=tool, arguments_json=json.dumps({"code": 7}))
    code = grpc.StatusCode.INVALID_ARGUMENT
    refusal = expect_refusal(toolcrib.executor.Execute, request, code, "INVALID_ARGUMENTS")
    expect(any(field.endswith("code") for field in refusal.violations), f"no violation names the field code: {refusal}")
    done("broken arguments", "; ".join(f"{field}: {text}" for field, text in refusal.violations.items()))


def call_unknown_tool(toolcrib: Toolcrib) -> None:
    request = executor_pb2.ExecuteRequest(tool="no_such_tool", arguments_json="{}")
    code = grpc.StatusCode.NOT_FOUND
    refusal = expect_refusal(toolcrib.executor.Execute, request, code, "TOOL_NOT_FOUND")
    done("unknown tool", refusal.message)


def use_wrong_key(address: str) -> None:
    with Toolcrib(address, "tc_dev_no_such_key") as stranger:
        request = permissions_pb2.WhoAmIRequest()
        code = grpc.StatusCode.UNAUTHENTICATED
        refusal = expect_refusal(stranger.permissions.WhoAmI, request, code, "UNAUTHENTICATED")
    done("wrong key", refusal.message)


def call_without_grant(toolcrib: Toolcrib, address: str, tool: str) -> None:
    guest = permissions_pb2.Agent(id="guest", specialization="Guest", role=permissions_pb2.ROLE_AGENT)
    toolcrib.permissions.CreateAgent(permissions_pb2.CreateAgentRequest(agent=guest), timeout=CALL_TIMEOUT_S)
    issue = permissions_pb2.IssueApiKeyRequest(agent_id=guest.id, ttl_s=300)
    key = toolcrib.permissions.IssueApiKey(issue, timeout=CALL_TIMEOUT_S)
    with Toolcrib(address, key.api_key) as visitor:
        request = executor_pb2.ExecuteRequest(tool=tool, arguments_json=PROGRAM)
        code = grpc.StatusCode.PERMISSION_DENIED
        refusal = expect_refusal(visitor.executor.Execute, request, code, "NO_GRANT")
    revoke = permissions_pb2.RevokeApiKeyRequest(key_id=key.key_id)
    toolcrib.permissions.RevokeApiKey(revoke, timeout=CALL_TIMEOUT_S)
    done("no grant", refusal.message)


def read_trail(toolcrib: Toolcrib, execution: executor_pb2.Execution) -> None:
    """Polls, since events reach the trail shortly after the answer."""
    request = audit_pb2.QueryTrailRequest(task_id=execution.task_id)
    deadline = time.monotonic() + TRAIL_TIMEOUT_S
    while not (events := toolcrib.audit.QueryTrail(request, timeout=CALL_TIMEOUT_S).events):
        expect(time.monotonic() < deadline, f"no event of task {execution.task_id} within {TRAIL_TIMEOUT_S} s")
        time.sleep(0.1)
    expect(len(events) == 1, f"expected one event of the task, got {len(events)}")
    event = events[0]
    expect(event.execution_id == execution.id, f"expected execution {execution.id}, got {event.execution_id}")
    expect(event.tool_name == execution.tool_name, f"expected tool {execution.tool_name}, got {event.tool_name}")
    result = audit_pb2.Result.Name(event.result)
    expect(event.result == audit_pb2.RESULT_SUCCESS, f"expected RESULT_SUCCESS, got {result} {event.reason}")
    done("trail", f"event {event.sequence}: {event.agent_id} ran {event.tool_name}, {result}")


def main() -> None:
    address = os.environ["TOOLCRIB_ADDRESS"]
    api_key = Path(os.environ["TOOLCRIB_API_KEY_FILE"]).read_text(encoding="utf-8").strip()
    task_id = f"python-client-{uuid.uuid4()}"
    with Toolcrib(address, api_key) as toolcrib:
        with step("identify"):
            identify(toolcrib)
        with step("select"):
            tool, selection_id = select(toolcrib, task_id)
        request = executor_pb2.ExecuteRequest(
            tool=tool,
            arguments_json=PROGRAM,
            request_id=str(uuid.uuid4()),  # makes it safe to send the request again
            task_id=task_id,
            selection_id=selection_id,
        )
        with step("execute"):
            execution = execute(toolcrib, request)
        with step("repeat"):
            repeat(toolcrib, request, execution)
        with step("broken arguments"):
            break_schema(toolcrib, tool)
        with step("unknown tool"):
            call_unknown_tool(toolcrib)
        with step("wrong key"):
            use_wrong_key(address)
        with step("no grant"):
            call_without_grant(toolcrib, address, tool)
        with step("trail"):
            read_trail(toolcrib, execution)


if __name__ == "__main__":
    main()
