"""The node's side of dp-agent's pipes, for tests: starts the real program, answers its calls, keeps its
frames.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio

from sandbox import frames
from tests.conftest import HANG, SLOWER

PATIENT = "from tests.kernels import patient; patient.lengthen()" if SLOWER != 1 else ""
"""Python that gives dp-agent's own deadlines the time that an emulated processor takes."""
ROOT = Path(__file__).parents[2]
Respond = Callable[["Node", frames.Call], Awaitable[None]]


async def allow(node: Node, call: frames.Call) -> None:
    await node.answer(call, True)


class Node:
    """One dp-agent. `seen` holds every frame so far; iterate `run` to the end or `until` a frame of some
    kind.
    """

    def __init__(self, process: trio.Process, respond: Respond) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self.seen: list[frames.ToNode] = []
        self._respond = respond
        self._writer = frames.FrameWriter(process.stdin)
        reader: frames.FrameReader[frames.ToNode] = frames.FrameReader(process.stdout, frames.decode_to_node)
        self._incoming = aiter(reader)

    async def say(self, frame: frames.ToAgent) -> None:
        await self._writer.send(frame)

    async def answer(self, call: frames.Call, allowed: bool, **more: Any) -> None:
        by = more.pop("by", "person" if call.verdict == "ask" else "edge")
        await self.say(frames.Verdict(call_id=call.call_id, allow=allowed, by=by, **more))

    async def until(self, kind: type[Any]) -> Any:
        """Read on, answering calls, until a frame of `kind` has come; that frame."""
        async for frame in self._incoming:
            self.seen.append(frame)
            if isinstance(frame, kind):
                return frame
            if isinstance(frame, frames.Call):
                # A run that was ended meanwhile, by its budget say, reads no answer; what it said last comes next.
                with suppress(trio.BrokenResourceError):
                    await self._respond(self, frame)
        raise AssertionError(f"dp-agent ended without {kind.__name__}; it said {self.seen!r}")

    async def run(self, start: frames.Start) -> frames.Finished:
        """A whole run."""
        await self.say(start)
        finished: frames.Finished = await self.until(frames.Finished)
        return finished

    def events(self, kind: type[Any]) -> list[Any]:
        return [
            frame.event for frame in self.seen if isinstance(frame, frames.TraceEntry) and isinstance(frame.event, kind)
        ]

    @property
    def calls(self) -> list[frames.Call]:
        return [frame for frame in self.seen if isinstance(frame, frames.Call)]

    @property
    def approvals(self) -> list[tuple[str, str]]:
        return [(event.outcome, event.by) for event in self.events(frames.Approval)]

    @property
    def results(self) -> list[tuple[bool, str]]:
        return [(event.ok, event.output) for event in self.events(frames.ToolResult)]


@asynccontextmanager
async def dp_agent(
    respond: Respond = allow,
    *,
    stderr: int | None = None,
    home: Path | None = None,
    patch: str = "",
    within: float = HANG,
) -> AsyncIterator[Node]:
    """dp-agent as a real process, with an environment that holds a secret no run may see. `patch`: Python to run in it
    before it begins.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home or os.environ["HOME"]),
        "PYTHONPATH": str(ROOT),
        "DISPATCH_CANARY_SECRET": "in-the-daemons-environment",
        "TESTS_SLOWER": str(SLOWER),
    }
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", f"{PATIENT}\n{patch}\nfrom sandbox.agent import main\nmain()"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        env=environment,
        cwd=ROOT,
    )
    try:
        with trio.fail_after(within):
            yield Node(process, respond)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


def changed(tmp_path: Path, *, view: int = 1) -> Path:
    """Where what a run of `start` wrote in its project lies on this machine: the project itself stays."""
    folder = tmp_path / f"run/views/{view}"
    return folder / "copy" if (folder / "copy").exists() else folder / "upper"


def start(tmp_path: Path, *script: dict[str, Any], **change: Any) -> frames.Start:
    """A start frame with a run folder and a project under `tmp_path`; every tool, manual, scripted unless
    changed.
    """
    run_dir, project = tmp_path / "run", tmp_path / "shop"
    run_dir.mkdir()
    project.mkdir(exist_ok=True)
    given: dict[str, Any] = {
        "dispatch_id": "0196f0c0-0000-7000-8000-000000000001",
        "attempt": 1,
        "sender": "alice@example.org",
        "task": "Do what the script says.",
        "runtime": "scripted",
        "script": [frames.ScriptStep(**step) for step in script],
        "tools": ["Bash", "Edit", "Glob", "Grep", "Read", "Write"],
        "cwd": str(project),
        "run_dir": str(run_dir),
    }
    return frames.Start(**{**given, **change})


def members_of(pid: int) -> set[int]:
    """Every live process below `pid`, itself included."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {pid} & parents.keys()
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


async def all_gone(pids: set[int]) -> bool:
    """Whether every one of `pids` ends, as pidfds report it."""
    with trio.move_on_after(HANG):
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        return True
    return False
