"""The person's MCP servers in a session of the real claude program: only the model's words are canned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from sandbox import frames
from sandbox.model_api.anthropic.scripted_model import ScriptedModel
from tests.conftest import HANG
from tests.sandbox.node import Node, all_gone, dp_agent, members_of, start
from tests.sandbox.test_mcp_bridge import pins, server

KEY = "sk-ant-of-bob"


def tool(name: str, **given: Any) -> dict[str, Any]:
    return {"name": name, "input": given}


def claude(tmp_path: Path, model: ScriptedModel, **change: Any) -> frames.Start:
    given = {"runtime": "claude", "model": frames.Model(base_url=model.url, api_key=KEY), "task": "hello"}
    return start(tmp_path, **{**given, **change})


async def test_every_call_of_a_server_meets_the_gate_once(tmp_path: Path) -> None:
    async def respond(node: Node, asked: frames.Call) -> None:
        await node.answer(asked, asked.input.get("text") != "secret", note="not that one")

    odd = {"text": 'ü\n\u202e"', "number": 1.5, "more": [None, {"b": 1, "a": [True]}], "none": None}
    turns: list[dict[str, Any]] = [
        {"tools": [tool("mcp__notes__say", **odd)]},
        {"tools": [tool("mcp__notes__say", text="secret")]},
        {"tools": [tool("mcp__notes__say", text="a"), tool("mcp__notes__look", text="b"), tool("mcp__notes__say")]},
        {"tools": [tool("mcp__notes__fail", text="no such note")]},
        {"tools": [tool("mcp__notes__hidden", text="x"), tool("mcp__mail__send"), tool("ListMcpResourcesTool")]},
        {"tools": [tool("mcp__notes__read", text="TOKEN")]},
        {"text": "Done."},
    ]
    state = tmp_path / "state"
    state.mkdir()
    (state / "device.key").write_text("the device's key")
    turns[5]["tools"][0]["input"]["text"] = str(state / "device.key")
    model = ScriptedModel(turns, key=KEY)
    async with model.running(), dp_agent(respond) as node:
        granted = [server("say", "look", "fail", "read")]
        begin = claude(tmp_path, model, mcp_servers=granted, tools=["Glob"], protected=[str(state)])
        finished = await node.run(begin)
    assert (finished.status, finished.reply) == ("completed", "Done."), finished.reason
    offered = {each["name"] for each in model.main_requests()[0].body["tools"]}
    assert {name for name in offered if name.startswith("mcp__")} == {
        f"mcp__notes__{name}" for name in ("say", "look", "fail", "read")
    }
    judged = [(event.tool, event.input.get("text")) for event in node.events(frames.ToolCall)]
    assert judged[:6] == [
        ("mcp__notes__say", odd["text"]),
        ("mcp__notes__say", "secret"),
        ("mcp__notes__say", "a"),
        ("mcp__notes__look", "b"),
        ("mcp__notes__say", None),
        ("mcp__notes__fail", "no such note"),
    ]
    assert sorted(name for name, _ in judged[6:]) == [
        "ListMcpResourcesTool",
        "mcp__mail__send",
        "mcp__notes__hidden",
        "mcp__notes__read",
    ]
    assert [asked.tool.removeprefix("mcp__notes__") for asked in node.calls] == [
        *["say", "say", "say", "look", "say"],
        *["fail", "read"],
    ]
    said = {event.call_id: event for event in node.events(frames.ToolResult)}
    outputs = [said[event.call_id] for event in node.events(frames.ToolCall)]
    assert [each.ok for each in outputs[:6]] == [True, False, True, True, True, False]
    assert outputs[0].output == f"say: {odd['text']}"
    assert "not that one" in outputs[1].output and "no such note" in outputs[5].output
    assert not any(each.ok for each in outputs[6:])
    assert "the device's key" not in repr(node.seen) and "bobs-token" not in repr(node.seen)


@pytest.mark.long
async def test_a_changed_tool_asks_on_an_auto_edge_and_servers_end_with_the_session(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    turns = [
        {"tools": [tool("mcp__notes__say", text="a")]},
        {"tools": [tool("mcp__notes__look", text="b")]},
        {"tools": [tool("mcp__notes__sleep", text=str(marker))]},
    ]
    model = ScriptedModel(turns, key=KEY)
    async with model.running():
        async with dp_agent() as node:
            begin = start(tmp_path, mcp_servers=[server("say", "look", "sleep")])
            await node.run(begin)
            known = pins(node)
        (tmp_path / "again").mkdir()
        async with dp_agent() as node:
            changed = server("say", "look=Look everywhere", "sleep", tools=known)
            begin = claude(tmp_path / "again", model, mcp_servers=[changed], approval="auto", tools=["Glob"])
            await node.say(begin)
            for _ in range(3):
                asked = await node.until(frames.Call)
                await node.answer(asked, True)
            assert [(asked.verdict, asked.mcp_pin is None) for asked in node.calls] == [
                ("allow", True),
                ("ask", False),
                ("allow", True),
            ]
            with trio.fail_after(HANG):
                while not marker.exists():
                    await trio.sleep(0.01)
            tree = members_of(node.process.pid)
            await node.say(frames.Cancel(reason="enough"))
            finished = await node.until(frames.Finished)
            assert await all_gone(tree - {node.process.pid})
    assert finished.status == "cancelled"
