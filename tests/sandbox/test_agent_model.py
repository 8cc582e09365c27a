"""The scripted model by itself: turns by the conversation, streams, errors, keys, and the program that
serves it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import trio

from sandbox.model_api.anthropic.scripted_model import ScriptedModel
from tests.sandbox.node import ROOT

TURNS: list[dict[str, Any]] = [
    {"text": "Two things.", "tools": [{"name": "Read", "input": {"a": 1}}, {"name": "Glob", "input": {}}]},
    {"error": {"status": 529, "type": "overloaded_error", "message": "busy"}, "times": 1},
    {"tools": [{"id": "mine", "name": "Bash", "input": {"command": "ls"}}]},
    {"text": "Done."},
]


def conversation(results: int, **more: Any) -> dict[str, Any]:
    """A request as the agent sends it after `results` tool results."""
    blocks = [{"type": "tool_result", "tool_use_id": str(n), "content": "x"} for n in range(results)]
    messages = [{"role": "user", "content": "hello"}, {"role": "user", "content": blocks}]
    return {"model": "m", "max_tokens": 4096, "tools": [{"name": "Read"}], "messages": messages} | more


async def test_the_conversation_chooses_the_turn() -> None:
    async with ScriptedModel(TURNS).running() as model, httpx.AsyncClient(base_url=model.url) as client:

        async def ask(results: int) -> Any:
            return (await client.post("/v1/messages?beta=true", json=conversation(results))).json()

        for _ in range(2):
            first = await ask(0)
            assert [block["type"] for block in first["content"]] == ["text", "tool_use", "tool_use"]
            assert first["stop_reason"] == "tool_use"
        assert (await ask(2))["error"]["type"] == "overloaded_error"
        assert (await ask(2))["content"][0]["id"] == "mine"
        last = await ask(3)
        assert (last["content"][0]["text"], last["stop_reason"]) == ("Done.", "end_turn")
        assert len(model.main_requests()) == 5 and len(model.main_requests()[-1].tool_results) == 3


async def test_side_requests_take_no_turn() -> None:
    async with ScriptedModel(TURNS).running() as model, httpx.AsyncClient(base_url=model.url) as client:
        quota = conversation(0, max_tokens=1, tools=[])
        assert (await client.post("/v1/messages", json=quota)).json()["stop_reason"] == "end_turn"
        counted = await client.post("/v1/messages/count_tokens", json=conversation(0))
        assert counted.json()["input_tokens"] > 0
        assert (await client.get("/v1/models")).status_code == 404
        assert model.main_requests() == []


async def test_a_stream_has_the_events_of_the_api() -> None:
    async with ScriptedModel(TURNS).running() as model, httpx.AsyncClient(base_url=model.url) as client:
        answer = await client.post("/v1/messages", json=conversation(0, stream=True))
    events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
    assert [event["type"] for event in events] == [
        "message_start",
        *["content_block_start", "content_block_delta", "content_block_stop"] * 3,
        "message_delta",
        "message_stop",
    ]
    assert json.loads(events[5]["delta"]["partial_json"]) == {"a": 1}


async def test_a_key_is_checked_and_a_hook_may_hold_the_answer() -> None:
    release, asked = trio.Event(), trio.Event()

    async def hold(_request: object) -> None:
        asked.set()
        await release.wait()

    model = ScriptedModel(TURNS, key="k", on_request=hold)
    async with (
        model.running(),
        httpx.AsyncClient(base_url=model.url) as client,
        trio.open_nursery() as nursery,
    ):
        statuses: list[int] = []

        async def ask(**headers: str) -> None:
            statuses.append((await client.post("/v1/messages", json=conversation(0), headers=headers)).status_code)

        nursery.start_soon(lambda: ask(**{"x-api-key": "k"}))
        await asked.wait()
        assert statuses == []
        release.set()
        await ask()
        await ask(authorization="Bearer k")
    assert sorted(statuses) == [200, 200, 401]


async def test_the_program_prints_its_address(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"turns": TURNS}))
    command = [sys.executable, "-m", "sandbox.model_api.anthropic.scripted_model", "--script", str(script)]
    process = await trio.lowlevel.open_process(command, stdout=PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        url = (await process.stdout.receive_some(1000)).decode().strip()
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{url}/v1/messages", json=conversation(3))).status_code == 200
    finally:
        process.kill()
        await process.wait()
