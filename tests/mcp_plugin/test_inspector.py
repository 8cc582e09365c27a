"""Two more clients not written here: the MCP Inspector's command line, and its `mcpdo`, which answers forms later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from mcp_plugin.tools import TOOLS
from tests.conftest import HANG
from tests.mcp_plugin.hosts import HOOKED, READING
from tests.mcp_plugin.test_picker import bash, sent
from tests.system.world import Document, Person

Pair = tuple[Person, Person]

VENV = Path(sys.prefix)
BIN = VENV / "inspector/node_modules/.bin"
TOOL_IS_ERROR = 5
"""Its exit status for a call that the tool refused."""
SERVER = [sys.executable, "-m", "mcp_plugin.main"]


class Inspector:
    """The programs of the Inspector in a home of their own, for the server of one person."""

    def __init__(self, person: Person, home: Path) -> None:
        assert (BIN / "mcpdo").exists(), "run `make setup-tests`"
        self.person = person
        self.environment = {
            "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "NO_COLOR": "1",
        }
        self.given = [
            word for name, value in (person.environment | HOOKED).items() for word in ("-e", f"{name}={value}")
        ]

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            arguments,
            env=self.environment,
            cwd=self.person.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )
        assert done.returncode == status, f"{arguments[-6:]} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    # --- its command line: a new server for each call

    def once(self, method: str, *arguments: str, status: int = 0) -> Document:
        program = str(BIN / "mcp-inspector")
        said = self.run(program, "--cli", *self.given, "--method", method, *arguments, "--", *SERVER, status=status)
        return dict(json.loads(said))

    # --- mcpdo: one server, and a question that waits for its answer

    @contextmanager
    def connected(self, *options: str) -> Iterator[None]:
        for line in self.run(str(BIN / "mcpdo"), "private").splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = value.strip("'")
        try:
            self.do("connect", *self.given, *options, "--", *SERVER)
            (connection,) = self.do("connections/list")["connections"]
            self.name = str(connection["name"])
            yield
        finally:
            self.run(str(BIN / "mcpdo"), "daemon", "stop")

    def do(self, *arguments: str, status: int = 0) -> Document:
        said = self.run(str(BIN / "mcpdo"), "--format", "json", *arguments, status=status)
        return dict(json.loads(said))

    def call(self, tool: str, **arguments: object) -> Document:
        return self.do("--connection", self.name, "tools/call", tool, "--tool-args-json", json.dumps(arguments))

    def refused(self, tool: str, **arguments: object) -> Document:
        """Call a tool that is refused; return {code, message, fix}."""
        words = ["--connection", self.name, "tools/call", tool, "--tool-args-json", json.dumps(arguments)]
        said = self.do(*words, status=TOOL_IS_ERROR)
        assert said["isError"]
        return dict(said["structuredContent"])

    def answer(self, question: Document, value: str) -> Document:
        """Answer as somebody who reads first."""
        time.sleep(READING)
        return self.do("elicitation/respond", str(question["elicitationId"]), f"answer:={json.dumps(value)}")


@pytest.fixture
def inspector(pair: Pair, tmp_path: Path) -> Inspector:
    return Inspector(pair[1], tmp_path)


@pytest.mark.long
def test_its_command_line_lists_and_calls(pair: Pair, inspector: Inspector) -> None:
    alice, bob = pair
    dispatch_id = trio.run(sent, pair, bash("echo one"))
    tools = inspector.once("tools/list")["tools"]
    assert {tool["name"] for tool in tools} == set(TOOLS)
    read = inspector.once("tools/call", "--tool-name", "dispatch_read", "--tool-arg", "what=inbox", "limit=1")
    assert read["structuredContent"]["dispatches"][0]["dispatch_id"] == dispatch_id
    assert read["structuredContent"]["dispatches"][0]["untrusted_task"] == "Look into it"
    accept = ["--tool-name", "dispatch_act", "--tool-arg", "action=accept", f"dispatch_id={dispatch_id}"]
    gate = inspector.once("tools/call", *accept)["structuredContent"]
    assert gate["status"] == "approval_needed" and gate["input"] == {"command": "echo one"}
    # That session is over; its run goes on asking.
    assert [call["request_id"] for call in bob.client.approvals()] == [gate["request_id"]]
    assert alice.state_of(dispatch_id, "running")


@pytest.mark.long
def test_mcpdo_answers_a_form_at_each_gate(pair: Pair, inspector: Inspector) -> None:
    _, bob = pair
    commands = [f"echo {number}" for number in range(3)]
    dispatch_id = trio.run(sent, pair, *map(bash, commands))
    with inspector.connected("-e", "DISPATCH_APPROVAL_UI=form", "--elicit", "form"):
        said = inspector.call("dispatch_act", action="accept", dispatch_id=dispatch_id)
        for command, given in zip(commands, ("once", "deny", "once"), strict=True):
            question = said["elicitationPending"]
            assert f"command: {command}" in json.dumps(question)
            said = inspector.answer(question, given)
        assert said["structuredContent"]["status"] == "completed", said
    outcomes = [event["outcome"] for event in bob.client.dispatch(dispatch_id)["events"] if event["kind"] == "approval"]
    assert outcomes == ["allowed", "denied", "allowed"]


@pytest.mark.long
def test_mcpdo_without_forms_uses_the_picker_and_hears_refusals(pair: Pair, inspector: Inspector) -> None:
    _, bob = pair
    dispatch_id = trio.run(sent, pair, bash("echo one"))
    with inspector.connected("--elicit", "off"):
        gate = inspector.call("dispatch_act", action="accept", dispatch_id=dispatch_id)["structuredContent"]
        answer = {"action": "approve", "dispatch_id": dispatch_id, "request_id": gate["request_id"]}
        time.sleep(READING)
        assert inspector.refused("dispatch_act", **answer, grant="always")["code"] == 403
        assert inspector.call("dispatch_act", **answer)["structuredContent"]["status"] == "completed"
    assert bob.client.dispatch(dispatch_id)["status"] == "completed"
