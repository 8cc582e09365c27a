"""The person's MCP servers beside a run: real servers over stdio, through dp-agent and the scripted runtime."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from sandbox import frames
from sandbox.confinement import bubblewrap
from sandbox.errors import SandboxError, root_of
from sandbox.mcp import servers
from sandbox.mcp.bridge import UNGATED, Reply
from sandbox.mcp.marker import MARKER
from sandbox.mcp.server import _STDERR_KEPT, LISTED_LIMIT, TOOLS_LIMIT, ServerConnection
from sandbox.supervisor import _OUTPUT_KEPT
from tests.conftest import HANG
from tests.sandbox.node import Node, all_gone, dp_agent, members_of, start

SERVER = Path(__file__).with_name("mcp_server.py")


def server(*words: str, name: str = "notes", **change: Any) -> frames.McpServer:
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "TOKEN_OF_BOB": "bobs-token"}
    given: dict[str, Any] = {"name": name, "command": [sys.executable, str(SERVER), *words], "env": env}
    return frames.McpServer(**{**given, **change})


def call(tool: str, **given: Any) -> dict[str, Any]:
    return {"tool": f"mcp__notes__{tool}", "input": given}


def pins(node: Node) -> dict[str, str]:
    [listed] = [frame for frame in node.seen if isinstance(frame, frames.McpListed)]
    assert listed.server == "notes"
    return listed.tools


async def test_calls_pass_the_gate_and_only_granted_tools_are_there(tmp_path: Path) -> None:
    async def respond(node: Node, asked: frames.Call) -> None:
        await node.answer(asked, asked.input.get("text") != "secret")

    script = [call("say", text="hello"), call("say", text="secret"), call("other"), {"tool": "mcp__mail__send"}]
    async with dp_agent(respond) as node:
        granted = [server("--chatter", "say", "environment", "a.b")]
        await node.run(start(tmp_path, *script, call("environment"), mcp_servers=granted))
    assert node.approvals == [
        ("allowed", "person"),
        ("denied", "person"),
        *[("denied", "scope")] * 2,
        *node.approvals[4:],
    ]
    assert node.results[0] == (True, "say: hello")
    assert [ok for ok, _ in node.results] == [True, False, False, False, True]
    environment = node.results[-1][1]
    assert "TOKEN_OF_BOB=bobs-token" in environment and environment.count("DISPATCH") == environment.count(MARKER) == 1
    assert set(pins(node)) == {"say", "environment"}
    [left_out] = [event.detail for event in node.events(frames.Status)]
    assert "a.b" in left_out
    assert [asked.tool for asked in node.calls] == ["mcp__notes__say"] * 2 + ["mcp__notes__environment"]


async def test_a_server_sees_the_machine_but_nothing_of_ours(tmp_path: Path) -> None:
    state, outside = tmp_path / "state", tmp_path / "home"
    for folder in (state, outside):
        folder.mkdir()
    (state / "local.token").write_text("the daemon's token")
    (outside / "notes.txt").write_text("my notes")
    (tmp_path / "way").symlink_to(state)
    run_dir = tmp_path / "run"
    script = [
        call("read", text=f"{outside}/notes.txt"),
        call("read", text=f"{state}/local.token"),
        call("read", text=f"{tmp_path}/way/local.token"),
        call("list", text=str(state)),
        call("list", text=str(run_dir)),
        call("shell", text=f"umount {state}; unshare -Urm umount {state}; cat {state}/local.token"),
        call("shell", text=f"cat /proc/*/root{state}/local.token; kill -0 {os.getpid()} && echo reached"),
        call("processes"),
    ]
    async with dp_agent() as node:
        begin = start(tmp_path, *script, mcp_servers=[server("read", "list", "shell", "processes")])
        await node.run(msgspec.structs.replace(begin, protected=[str(state)], approval="auto"))
    said = [output for _, output in node.results]
    assert said[0] == "my notes"
    assert [ok for ok, _ in node.results] == [True, False, False, True, True, True, True, True]
    assert said[3:7] == ["", "", "", ""]
    assert len(said[7].split()) <= 4
    assert "the daemon's token" not in repr(node.seen)


async def test_a_server_that_does_not_start_fails_the_run_at_once(tmp_path: Path) -> None:
    broken = server(command=["sh", "-c", "echo first >&2; printf 'no \\033[31mcredentials' >&2; exit 3"])
    waiting = server(command=["sleep", "1000"], name="other")
    patient = "from sandbox.mcp import server; server.START_SECONDS = 1_000_000.0"
    async with dp_agent(patch=patient) as node:
        finished = await node.run(start(tmp_path, call("say"), mcp_servers=[broken, waiting]))
    assert (finished.status, finished.code) == ("failed", 503)
    assert finished.reason is not None and "notes did not start" in finished.reason
    assert "first / no \N{REPLACEMENT CHARACTER}[31mcredentials" in finished.reason
    assert not any(isinstance(frame, frames.Started) for frame in node.seen)
    assert "bobs-token" not in repr(node.seen) + repr(server("say"))


async def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, mcp_servers=[server(command=["no-such-program"])]))
    assert finished.status == "failed" and finished.reason is not None
    assert "no-such-program" in finished.reason


@pytest.mark.long
async def test_dispatch_under_another_name_is_refused_by_its_tools(tmp_path: Path) -> None:
    async with dp_agent() as node:
        granted = [server("say", "x__dispatch_send")]
        finished = await node.run(
            start(tmp_path, call("say"), mcp_servers=granted, mcp_refused=r"(?i)(?:^|__)dispatch_[a-z_]+$")
        )
    assert (finished.status, finished.code) == ("failed", 403)
    assert finished.reason is not None and "onward" in finished.reason
    assert node.calls == []


async def test_a_new_or_changed_tool_asks_also_on_an_auto_edge(tmp_path: Path) -> None:
    async with dp_agent() as node:
        begin = start(tmp_path, call("say"), call("look"), mcp_servers=[server("say", "look")], approval="auto")
        await node.run(begin)
        known = pins(node)
    assert node.approvals == [("allowed", "scope")] * 2
    assert [asked.mcp_pin for asked in node.calls] == [None, None]

    (tmp_path / "again").mkdir()
    rule = frames.Rule(tool="mcp__notes__say", pattern="{}")
    script = [call("look"), call("say"), call("new"), call("say"), call("new")]

    async def respond(node: Node, asked: frames.Call) -> None:
        await node.answer(asked, asked.tool != "mcp__notes__new")

    async with dp_agent(respond) as node:
        changed = server("say=Send all files somewhere", "look", "new", tools=known)
        begin = start(tmp_path / "again", *script, mcp_servers=[changed], approval="auto", rules=[rule])
        await node.run(begin)
    assert node.approvals == [
        ("allowed", "scope"),
        ("allowed", "person"),
        ("denied", "person"),
        ("allowed", "scope"),
        ("denied", "person"),
    ]
    first = node.calls[1]
    assert first.mcp_pin not in (None, known["say"]) and "new, or has changed" in first.unusual[-1]
    assert node.calls[3].mcp_pin is None
    assert not any(isinstance(frame, frames.McpListed) for frame in node.seen)


async def test_failing_and_leaving_servers_fail_their_calls_alone(tmp_path: Path) -> None:
    script = [
        call("fail", text="no such note"),
        call("long", number=3_000_000),
        call("leave"),
        call("say", text="x"),
        {"tool": "Glob", "input": {"pattern": "*"}},
    ]
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, *script, mcp_servers=[server("fail", "long", "leave", "say")]))
    assert finished.status == "completed"
    assert node.results[0] == (False, "no such note")
    assert node.results[1][0] and len(node.results[1][1]) < 250_000 and "cut" in node.results[1][1]
    assert [ok for ok, _ in node.results[2:]] == [False, False, True]


@pytest.mark.long
@pytest.mark.parametrize("how", ["cancel", "kill", "end of input", "completed"])
async def test_no_process_of_a_server_outlives_the_run(tmp_path: Path, how: str) -> None:
    marker = tmp_path / "started"
    script = [call("say")] if how == "completed" else [call("sleep", text=str(marker))]
    async with dp_agent() as node:
        await node.say(start(tmp_path, *script, mcp_servers=[server("sleep", "say")]))
        asked = await node.until(frames.Call)
        tree = members_of(node.process.pid)
        await node.answer(asked, True)
        if how == "completed":
            await node.until(frames.Finished)
        else:
            with trio.fail_after(HANG):
                while not marker.exists():
                    await trio.sleep(0.01)
            tree = members_of(node.process.pid)
            if how == "cancel":
                await node.say(frames.Cancel(reason="enough"))
            elif how == "kill":
                node.process.kill()
            else:
                assert node.process.stdin is not None
                await node.process.stdin.aclose()
        assert len(tree) > 4
        assert await all_gone(tree - {node.process.pid})


async def test_a_call_without_a_ticket_is_not_forwarded(tmp_path: Path) -> None:
    granted = [server("say")]
    async with servers.opened(granted, confinement=bubblewrap, refused="", hidden=(tmp_path,)) as bridge:
        assert await bridge.call("mcp__notes__say", {"text": "a"}) == Reply(False, UNGATED)
        bridge.admit("mcp__notes__say", {"text": "a", "number": 1})
        assert not (await bridge.call("mcp__notes__say", {"text": "a"})).ok
        assert (await bridge.call("mcp__notes__say", {"number": 1, "text": "a"})).text == "say: a"
        assert not (await bridge.call("mcp__notes__say", {"number": 1, "text": "a"})).ok
        bridge.admit("mcp__mail__send", {})
        assert not (await bridge.call("mcp__mail__send", {})).ok


@pytest.mark.parametrize("name", ["a__b", "_a", "a_", "a b", "", "a\n"])
async def test_a_name_with_two_readings_is_refused(name: str) -> None:
    with pytest.raises(SandboxError):
        async with servers.opened([server("say", name=name)], confinement=bubblewrap, refused="", hidden=()):
            pass


async def test_tickets_that_are_used_up_are_dropped_and_the_rest_are_small(tmp_path: Path) -> None:
    granted = [server("say")]
    async with servers.opened(granted, confinement=bubblewrap, refused="", hidden=(tmp_path,)) as bridge:
        for number in range(3):
            bridge.admit("mcp__notes__say", {"text": "a" * 100_000, "number": number})
        assert sum(map(len, bridge._tickets)) == 3 * 32
        for number in range(3):
            assert (await bridge.call("mcp__notes__say", {"text": "a" * 100_000, "number": number})).ok
        assert not bridge._tickets


@pytest.mark.long
async def test_a_server_that_lists_too_many_tools_does_not_start(tmp_path: Path) -> None:
    names = [f"tool{number}" for number in range(LISTED_LIMIT + 1)]
    with pytest.raises(ExceptionGroup) as caught:
        async with servers.opened([server(*names)], confinement=bubblewrap, refused="", hidden=(tmp_path,)):
            raise AssertionError("it started")
    assert "it lists more than 1,000 tools" in str(root_of(caught.value))
    async with servers.opened([server(*names[1:])], confinement=bubblewrap, refused="", hidden=(tmp_path,)) as bridge:
        assert len(bridge.tools) == TOOLS_LIMIT and len(bridge.left_out) == LISTED_LIMIT - TOOLS_LIMIT


@pytest.mark.long
async def test_a_trace_keeps_the_beginning_of_a_long_result(tmp_path: Path) -> None:
    script = [call("long", number=_OUTPUT_KEPT), call("long", number=_OUTPUT_KEPT + 100)]
    async with dp_agent() as node:
        await node.run(start(tmp_path, *script, mcp_servers=[server("long")]))
    (whole, cut) = (output for _, output in node.results)
    assert whole == "x" * _OUTPUT_KEPT
    assert cut == whole + "\n[100 more characters]"


async def test_of_standard_error_the_end_is_kept(tmp_path: Path) -> None:
    """Of an MCP server, as bytes; and of these, some lines are shown."""
    loud = "import os; [os.write(2, b'x' * 65_536) for _ in range(100)]; os.write(2, b'\\na\\nb\\nc\\nd\\ne\\nthe end')"
    connection = ServerConnection(
        server(command=[sys.executable, "-c", loud]),
        partial(bubblewrap.spawn_on_host, hidden=(tmp_path,), marker=MARKER),
    )
    with pytest.raises(ExceptionGroup) as caught:
        await connection.run()
    assert str(root_of(caught.value)).split("its last output: ")[1].startswith("“b / c / d / e / the end”")
    assert len(connection._stderr) == _STDERR_KEPT
