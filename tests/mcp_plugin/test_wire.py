"""The wire by lines, as no proper client speaks: what cannot be read is answered, and the session goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcp_plugin.server import MAX_CALLS
from mcp_plugin.transport import MAX_LINE
from tests.conftest import HANG, more
from tests.mcp_plugin.hosts import READING, Raw, raw
from tests.mcp_plugin.test_handshake import request
from tests.mcp_plugin.test_picker import bash
from tests.system.world import Document, Person, eventually

Pair = tuple[Person, Person]

DEEP = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 200 + b"1" + b"}" * 201


def whoami(host: Raw) -> Document:
    result = host.call("dispatch_read", what="whoami")
    assert not result.get("isError"), result
    return dict(result["structuredContent"])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b'"text"', -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (DEEP, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":"' + b"x" * MAX_LINE + b'"}', -32600),
    ],
    ids=["half", "bytes", "brackets", "list", "text", "empty", "version", "id", "method", "deep", "long"],
)
def test_a_line_that_is_no_message_is_answered_and_skipped(pair: Pair, line: bytes, code: int) -> None:
    _, bob = pair
    with raw(bob) as host:
        host.initialize()
        host.say(line)
        answer = host.hear()
        assert answer["error"]["code"] == code and answer.get("id") is None, answer
        assert whoami(host)["user_id"] == bob.email


def test_requests_that_are_none_of_ours(pair: Pair) -> None:
    _, bob = pair
    with raw(bob) as host:
        host.initialize()
        assert host.ask("resources/list")["error"]["code"] == -32601
        assert host.ask("no/such")["error"]["code"] == -32601
        assert host.ask("tools/call", {"name": 7})["error"]["code"] == -32602
        assert host.ask("tools/call", {"name": "dispatch_read", "arguments": []})["error"]["code"] == -32602
        host.say({"jsonrpc": "2.0", "method": "notifications/no-such"})
        host.say({"jsonrpc": "2.0", "id": 99, "result": {}})  # an answer to nothing
        host.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 12345}})
        assert whoami(host)["user_id"] == bob.email


def test_a_call_before_the_handshake(pair: Pair) -> None:
    _, bob = pair
    with raw(bob) as host:
        answer = host.ask("tools/call", {"name": "dispatch_read", "arguments": {"what": "whoami"}})
        assert "error" in answer
        host.initialize()
        assert whoami(host)["user_id"] == bob.email


@pytest.mark.parametrize("how", ["kill", *more("close", "half a line")])
def test_a_host_that_dies_in_a_call_leaves_the_run(pair: Pair, how: str) -> None:
    """The daemon has the run: it goes on asking, and the next session answers."""
    alice, bob = pair
    bob.will(bash("echo one"))
    dispatch_id = alice.client.send(bob.email, "Outlive me")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    with raw(bob) as host:
        host.initialize()
        accept = {"action": "accept", "dispatch_id": dispatch_id}
        host.request("tools/call", {"name": "dispatch_act", "arguments": accept})
        row = bob.approval_of(dispatch_id)
        if how == "kill":
            host.process.send_signal(signal.SIGKILL)
        elif how == "half a line":
            host.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 50})[:-4].encode())
            host.stdin.close()
        else:
            host.stdin.close()
        eventually(lambda: host.process.poll() is not None, what="its end")
    with raw(bob) as host:
        host.initialize()
        assert [call["request_id"] for call in bob.client.approvals()] == [row["request_id"]]
        denied = host.call("dispatch_act", action="deny", dispatch_id=dispatch_id, request_id=row["request_id"])
        assert denied["structuredContent"]["status"] == "completed"


def test_a_cancelled_call_lets_go_of_the_run_and_no_more(pair: Pair) -> None:
    """Seen to fail with a cancellation that cancels the run, and with one that nobody heard."""
    alice, bob = pair
    project = bob.projects / "waits"
    project.mkdir(exist_ok=True)
    # In the run's own folder: what is made in the project meanwhile its view need not show.
    bob.will(bash("until [ -e /dispatch/go ]; do sleep 0.1; done"), bash("echo two"))
    dispatch_id = alice.client.send(bob.email, "Go on without me")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    act = {"dispatch_id": dispatch_id}
    with raw(bob) as host:
        host.initialize()
        gate = host.call("dispatch_act", action="accept", cwd=str(project), **act)["structuredContent"]
        time.sleep(READING)
        approve = {"action": "approve", "request_id": gate["request_id"], **act}
        params = {"name": "dispatch_act", "arguments": approve, "_meta": {"progressToken": 1}}
        cancelled = host.request("tools/call", params)
        while host.hear().get("params", {}).get("message") != "Bash: allowed by person":
            pass  # until it follows the run
        host.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": cancelled}})
        assert host.ask("ping")["result"] == {}
        assert bob.client.dispatch(dispatch_id)["status"] == "running"
        (bob.state.runs / dispatch_id / "1/workspace/go").touch()
        asked = bob.approval_of(dispatch_id)
        watch = host.request("tools/call", {"name": "dispatch_act", "arguments": {"action": "watch", **act}})
        answer = host.hear()
        assert answer.get("id") == watch, f"nobody waits for {answer}"
        gate = answer["result"]["structuredContent"]
        assert (gate["status"], gate["request_id"]) == ("approval_needed", asked["request_id"])
        ended = host.call("dispatch_act", action="deny", request_id=gate["request_id"], **act)["structuredContent"]
        assert ended["status"] == "completed"
    outcomes = [e["outcome"] for e in bob.client.dispatch(dispatch_id)["events"] if e["kind"] == "approval"]
    assert outcomes == ["allowed", "denied"]


def test_one_call_too_many_at_a_time_is_refused(pair: Pair) -> None:
    """Each of the others follows a dispatch. Seen to fail with room for 64."""
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "Wait for it")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    watch = {"name": "dispatch_act", "arguments": {"action": "watch", "dispatch_id": dispatch_id}}
    with raw(alice) as host:
        host.initialize()
        asked = {host.request("tools/call", watch) for _ in range(MAX_CALLS + 1)}
        first = host.hear()
        error = first["result"]["structuredContent"]
        assert first["result"]["isError"] and (error["code"], MAX_CALLS) == (429, 32)
        assert "32 tool calls" in error["message"] and "wait" in error["fix"]
        bob.client.decline(dispatch_id)
        others = [host.hear() for _ in range(MAX_CALLS)]
        assert {first["id"], *(answer["id"] for answer in others)} == asked
        assert {answer["result"]["structuredContent"]["status"] for answer in others} == {"declined"}
        assert whoami(host)["user_id"] == alice.email, "there is room again"


def test_a_folder_that_is_gone_is_missed_only_where_it_counts(pair: Pair, tmp_path: Path) -> None:
    """Seen to fail with a session that ended when it asked for its folder."""
    _, bob = pair
    (tmp_path / "gone").mkdir()
    (bob.home / "note.txt").write_text("a note")
    with raw(bob, cwd=tmp_path / "gone") as host:
        (tmp_path / "gone").rmdir()
        host.initialize()
        assert whoami(host)["user_id"] == bob.email
        send = {"recipient": "nobody@example.org", "task": "Read it."}
        relative = host.call("dispatch_send", files=["note.txt"], **send)["structuredContent"]
        assert relative["code"] == 422 and "no longer exists" in relative["message"]
        whole = host.call("dispatch_send", files=[str(bob.home / "note.txt")], **send)["structuredContent"]
        assert whole["code"] == 403, "of its own: there is no edge to them"


def test_without_standard_error_nothing_else_comes_to_be_on_the_wire(pair: Pair) -> None:
    """Seen to fail with a message for people on standard output, and a session that did not begin."""
    _, bob = pair
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m mcp_plugin.main 2>&-"],
        input=json.dumps(request()).encode() + b"\n",
        capture_output=True,
        env=bob.environment,
        cwd=bob.home,
        timeout=HANG,
        check=False,
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["id"] == 1 and done.returncode == 0
