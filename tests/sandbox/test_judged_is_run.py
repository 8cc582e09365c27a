"""What the gate judged is what the real claude program does: every tool with every spelling of a path, and shell
commands that the program has doubts about. Only the model's words are canned.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import claude_agent_sdk as sdk
import pytest
import trio

from sandbox import frames
from sandbox.confinement.places import WORKSPACE
from sandbox.gate.gate import Ruling
from sandbox.mcp.bridge import McpBridge
from sandbox.runtimes.claude.session import _Session
from tests.sandbox.node import Node, changed, dp_agent
from tests.sandbox.test_runtime_claude import claude, says, tool

COMPOSED, APART = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
SPELLINGS = [
    *("", ".", "./", "sub", "./sub", "sub/.", "sub/../sub", "//project//sub", "/project/sub/", "/project/../project"),
    *("/folders/1", "../folders/1", "/folders/1/../1/", "/folders/2", "/etc", "/", "..", "/proc/self/cwd"),
    *(f"{blank}/folders/1" for blank in " \t\n\v\f\r\x1c\x85\u00a0\u1680\u2003\u2028\u202f\u3000\ufeff\u200b"),
    *(f"/folders/1{blank}" for blank in " \t\n\r\u00a0\u3000\ufeff"),
    *("./ /folders/1", "/folders/1 /.", "/project/ lead", "/project/trail ", " lead", "trail ", "\x01sub", "sub\x7f"),
    *("~", "~/", "~/x", " ~", "~root", "$HOME", "${PWD}", "link", "link/..", "sub/link/..", "out", "sub/out/.."),
    *(COMPOSED, APART, "SUB", "sub\\..", "sub%2f..", "file:///folders/1", "'/folders/1'", "\\folders\\1", "-rf"),
    *("[.][.]/other", "@(..)/other", "{.,..}", "su[b]", "[/]folders/1", "!(x)/..", "\\/folders/1", "\u2060/folders/1"),
]  # fmt: skip


def spelled(base: Path) -> list[str]:
    """SPELLINGS for the folders of `populated`."""
    places = {"../folders/1": "../other", "/folders/1": f"{base}/other", "/folders/2": f"{base}/third"}
    found = SPELLINGS
    for stands_for, path in (*places.items(), ("/project", f"{base}/shop")):
        found = [spelling.replace(stands_for, path) for spelling in found]
    return found


def populated(base: Path) -> None:
    """Folders each of which holds a file that says where it is, and one whose name does."""
    (base / "shop").mkdir()
    (base / "other").mkdir()
    for folder in ("", "sub", " lead", "lead", "trail ", "trail", COMPOSED, APART, "SUB", "-rf"):
        (base / "shop" / folder).mkdir(exist_ok=True)
    (base / "other/sub").mkdir()
    (base / "shop/link").symlink_to(base / "other")
    (base / "shop/sub/link").symlink_to(base / "other/sub")
    for out in ("out", "sub/out"):
        (base / "shop" / out).symlink_to("/etc")
    made = sorted(path for path in base.rglob("*") if path.is_dir() and not path.is_symlink())
    for number, place in enumerate(made):
        (place / "note.txt").write_text(f"<{number}>")
        (place / f"mark<{number}>").touch()


def places(base: Path) -> dict[str, Path]:
    """The number in a folder's files → the folder."""
    return {re.findall("<[0-9]+>", path.name)[0]: path.parent for path in base.rglob("mark<*>")}


def looking(base: Path) -> Iterator[dict[str, Any]]:
    for spelling in spelled(base):
        yield tool("Read", file_path=f"{spelling}/note.txt")
        yield tool("Read", file_path=f"{spelling}/./note.txt ")
        yield tool("Grep", pattern="<[0-9]+>", path=spelling, output_mode="content")
        yield tool("Glob", pattern="mark*", path=spelling)
        yield tool("Glob", pattern=f"{spelling}/mark*")
    yield tool("Grep", pattern="<[0-9]+>|no path", output_mode="content")
    yield tool("Glob", pattern="mark*")
    yield tool("Glob", pattern="sub/mark*", path=f" {base}/other")
    yield tool("Grep", pattern="<[0-9]+>", path=f"{base}/shop", glob="../other/**", output_mode="content")


MOVES = """
from sandbox.runtimes.claude import transport
written = transport.environment
transport.environment = lambda *given: {
    name: value for name, value in written(*given).items() if "MAINTAIN_PROJECT" not in name
}
"""
"""The program would stay where a command of it went, if it could read what the command left in its /tmp."""


@pytest.mark.long
@pytest.mark.parametrize(
    "patch",
    [pytest.param("", id="as it is"), pytest.param(MOVES, id="told to stay in another folder", marks=pytest.mark.long)],
)
async def test_what_is_opened_is_what_was_judged(tmp_path: Path, patch: str) -> None:
    """Seen to fail with the agent's own input and the start's folder in place of the hook's, and without the look for
    outer white space.
    """
    populated(tmp_path)
    at = places(tmp_path)
    model = says(
        {"tools": [tool("Bash", command="cd ../other")]},
        {"tools": [tool("Bash", command="pwd")]},
        {"tools": list(looking(tmp_path))},
        {"text": "done"},
    )
    async with model.running(), dp_agent(patch=patch) as node:
        begin = claude(tmp_path, model, paths=[str(tmp_path / "shop"), str(tmp_path / "other")], approval="auto")
        finished = await node.run(begin)
    assert finished.status == "completed", finished.reason
    assert node.results[1] == (True, str(tmp_path / "shop"))
    (without,) = (call for call in node.calls if "no path" in str(call.input))
    assert without.resolved_path == str(tmp_path / "shop")
    judged = {call.call_id: call for call in node.calls}
    outputs = {event.call_id: event.output for event in node.events(frames.ToolResult)}
    found = 0
    for event in node.events(frames.ToolCall):
        seen = [at[number] for number in re.findall("<[0-9]+>", outputs[event.call_id])]
        if event.call_id not in judged:
            assert not seen, f"denied, and done: {event}"
            continue
        call = judged[event.call_id]
        if call.tool == "Bash":
            continue
        assert call.resolved_path is not None and event.input == call.input
        path = Path(call.resolved_path)
        allowed = path.parent if call.tool == "Read" else path
        assert all(place.is_relative_to(allowed) for place in seen), f"{allowed} was judged: {call} {seen}"
        assert not (call.tool == "Read" and seen and seen != [allowed])
        found += bool(seen)
    assert found > len(SPELLINGS), "most of the spellings name a folder"


@pytest.mark.long
@pytest.mark.parametrize(
    "patch",
    [pytest.param("", id="as it is"), pytest.param(MOVES, id="it stays in another folder", marks=pytest.mark.long)],
)
async def test_what_is_written_is_where_it_was_judged(tmp_path: Path, patch: str) -> None:
    populated(tmp_path)
    # Nothing to be read: an Edit with nothing to replace makes a file, as a Write does.
    calls = [
        call
        for number, spelling in enumerate(spelled(tmp_path))
        for call in (
            tool("Write", file_path=f"{spelling}/write-{number}", content="x"),
            tool("Edit", file_path=f"{spelling}/edit-{number}", old_string="", new_string="x"),
        )
    ]
    model = says({"tools": [tool("Bash", command="cd ../other")]}, {"tools": calls}, {"text": "done"})
    async with model.running(), dp_agent(patch=patch) as node:
        begin = claude(tmp_path, model, paths=[str(tmp_path / "shop"), str(tmp_path / "other")], approval="auto")
        finished = await node.run(begin)
    assert finished.status == "completed", finished.reason
    judged = {call.resolved_path for call in node.calls if call.tool != "Bash"}
    written = {
        str(original / path.relative_to(view))
        for original, view in ((tmp_path / "shop", changed(tmp_path)), (tmp_path / "other", changed(tmp_path, view=2)))
        for path in view.rglob("*")
        if path.name.startswith(("write-", "edit-")) and path.is_file()
    }
    run = tmp_path / "run"
    assert not any(path.is_file() for path in tmp_path.rglob("write-*") if not path.is_relative_to(run))
    assert written <= judged
    assert len(written) > len(SPELLINGS)


@pytest.mark.long
async def test_what_the_gate_allowed_runs_though_the_program_has_doubts(tmp_path: Path) -> None:
    """Seen to fail where the program's question was always denied. The last command is refused by the gate."""

    async def respond(node: Node, call: frames.Call) -> None:
        await node.answer(call, "denied" not in str(call.input))

    commands = [
        "echo a & echo b; wait; touch 1",
        "touch 2 & pwd",
        "mkdir -p d && cd d && touch x && rm -rf ./* && touch ../3",
        'cd /etc && ls >/dev/null && touch "$OLDPWD/4"',
        "cat <<'X' > 5\nhello\nX",
        'eval "touch 6"',
        "ls\n\n\n\ntouch 7",
        "touch denied & pwd",
    ]
    model = says(*({"tools": [tool("Bash", command=command)]} for command in commands), {"text": "done"})
    async with model.running(), dp_agent(respond) as node:
        finished = await node.run(claude(tmp_path, model))
    assert finished.status == "completed", finished.reason
    made = {path.name for path in changed(tmp_path).iterdir() if path.is_file() and not path.name.startswith(".")}
    assert made == set("1234567")
    refused = [output for ok, output in node.results if not ok]
    assert len(refused) == 1 and "the person at this machine denied this call" in refused[0]


async def test_the_program_gets_the_input_that_was_judged(tmp_path: Path) -> None:
    """In place of its own, and without asking a person anew in a folder that it says it is in."""

    class Judge:
        async def judge(self, tool: str, arguments: Mapping[str, object], **more: Any) -> Ruling:
            seen.update(more)
            return Ruling(True, input={**arguments, "path": "/written/out"})

    seen: dict[str, Any] = {}
    session = _Session(SimpleNamespace(gate=Judge(), mcp=McpBridge()))  # type: ignore[arg-type]  # as far as it is used
    call: Any = {"tool_name": "Grep", "tool_input": {"pattern": "x"}, "tool_use_id": "toolu_1", "cwd": "/folders/1"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.judge_calls)
        answer: Any = await session.hook(call, None, {"signal": None})
        nursery.cancel_scope.cancel()
    assert answer["hookSpecificOutput"]["permissionDecision"] == "allow"
    assert answer["hookSpecificOutput"]["updatedInput"] == {"pattern": "x", "path": "/written/out"}
    assert seen == {"call_id": "toolu_1", "agent_id": None, "cwd": "/folders/1"}


class TestTheProgramsOwnQuestion:
    """`can_use_tool` for calls that the gate has seen, and for others."""

    async def ask(self, session: _Session, call_id: str, tool: str, **arguments: object) -> bool:
        answer = await session.can_use_tool(tool, arguments, sdk.ToolPermissionContext(tool_use_id=call_id))
        return answer.behavior == "allow"

    @pytest.fixture
    def session(self) -> _Session:
        made = object.__new__(_Session)
        made._allowed = {"toolu_1": ("Bash", {"command": "a & b"})}
        return made

    async def test_the_call_that_was_allowed_is_allowed_once(self, session: _Session) -> None:
        assert await self.ask(session, "toolu_1", "Bash", command="a & b")
        assert not await self.ask(session, "toolu_1", "Bash", command="a & b")

    async def test_another_call_is_denied_whatever_it_resembles(self, session: _Session) -> None:
        for call_id, name, arguments in (
            ("toolu_2", "Bash", {"command": "a & b"}),
            ("", "Bash", {"command": "a & b"}),
            ("toolu_1", "Write", {"command": "a & b"}),
            ("toolu_1", "Bash", {"command": "a & c"}),
            ("toolu_1", "Bash", {"command": "a & b", "timeout": 1}),
        ):
            session._allowed = {"toolu_1": ("Bash", {"command": "a & b"})}
            assert not await self.ask(session, call_id, name, **arguments)


@pytest.mark.long
async def test_an_id_used_twice_stands_for_the_last_ruling(tmp_path: Path) -> None:
    """The model chooses the ids. The second call under an allowed one's is denied, and does not run."""

    async def respond(node: Node, call: frames.Call) -> None:
        await node.answer(call, "second" not in str(call.input))

    model = says(
        {"tools": [{**tool("Bash", command="touch first & pwd"), "id": "toolu_x"}]},
        {"tools": [{**tool("Bash", command="touch second & pwd"), "id": "toolu_x"}]},
        {"tools": [tool("Write", file_path=f"{WORKSPACE}/out/third", content="3")]},
        {"text": "done"},
    )
    async with model.running(), dp_agent(respond) as node:
        await node.run(claude(tmp_path, model))
    assert {path.name for path in changed(tmp_path).iterdir() if path.suffix == "" and path.is_file()} >= {"first"}
    assert not (changed(tmp_path) / "second").exists()
