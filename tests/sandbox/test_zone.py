"""The shell zone: commands behave as if the launcher were the command, end with it, and can be made to stand still."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from sandbox import frames
from sandbox.confinement.bubblewrap import landlock, spawn, zone, zone_server
from sandbox.confinement.bubblewrap.process import BubblewrapProcess
from sandbox.confinement.interface import Excess
from sandbox.confinement.places import SHELL_LAUNCHER
from sandbox.errors import SandboxError
from sandbox.gate.gate import MOVED
from tests.conftest import HANG
from tests.sandbox.conftest import KILLED, Person, person, run
from tests.sandbox.node import Node, dp_agent, start

__all__ = ["person"]


def agent(person: Person, script: str) -> list[str]:
    """A program in the agent's place: bash, to which `sh` is the launcher."""
    return ["/bin/bash", "-c", f"sh={SHELL_LAUNCHER}; {script}"]


async def test_a_command_is_as_if_the_launcher_were_it(person: Person) -> None:
    script = (
        "echo in | $sh 'read x; echo out $x; echo err >&2; exit 7'; echo status $?;"
        "cd /usr/lib; FOO='a  b' $sh 'pwd; echo \"$FOO\"; echo $HOME'; $sh --exec printf '%s|' a 'b  c' '';"
        "$sh --exec no-such-program; echo status $?; $sh 'kill -TERM $$'; echo status $?;"
        "ANTHROPIC_API_KEY=secret $sh env | grep -c ANTHROPIC; $sh 'yes | head -1'; $sh 'umask; ulimit -c'"
    )
    done = await run(person.profile, agent(person, script))
    out = done.out.splitlines()
    assert out[:5] == ["out in", "status 7", "/usr/lib", "a  b", "/run/home/shell"]
    assert out[5] == "a|b  c||status 127" and out[6] == "status 143"
    assert out[7:] == ["0", "y", "0022", "0"], out
    assert "err" in done.err and "no-such-program" in done.err
    assert "Broken pipe" not in done.err, "what Python ignores is not ignored by commands"


async def test_large_arguments_and_bytes_of_any_kind_arrive(person: Person) -> None:
    script = "$sh --exec printf '%s' $'\\xff\\n' | od -An -tx1;"
    script += "LARGE=$(head -c 100000 /dev/zero | tr '\\0' x) $sh 'echo ${#LARGE}'"
    done = await run(person.profile, agent(person, script))
    assert done.out.split() == ["ff", "0a", "100000"], done


async def test_a_command_may_open_a_stream_that_is_a_file_of_the_agents(person: Person) -> None:
    """As `tee /dev/stderr` does. The file lies where no shell may write."""
    done = await run(person.profile, agent(person, "$sh 'echo again > /dev/stdout' > /tmp/out; cat /tmp/out"))
    assert done.out == "again\n", done


async def test_what_ends_the_launcher_ends_the_command(person: Person) -> None:
    script = (
        "for number in TERM KILL INT; do $sh 'trap \"\" HUP; echo up; exec sleep 1000' > up & launcher=$!;"
        "until grep -q up up; do :; done; kill -$number $launcher; wait $launcher; : > up; done;"
        "until [ $($sh 'ls /proc | grep -c ^[0-9]') = 4 ]; do :; done; echo none left"
    )
    done = await run(person.profile, agent(person, script))
    assert done.out.strip() == "none left"  # the server, bash, ls and grep


async def test_a_later_command_may_end_what_an_earlier_one_left(person: Person) -> None:
    """Also where there is Landlock, whose domains could forbid it: agents start servers, and end them."""
    script = "$sh 'sleep 1000 & echo $!' > pid; $sh 'kill $(cat pid) && echo ended'"
    assert (await run(person.profile, agent(person, script))).out == "ended\n"


@pytest.mark.parametrize("has_landlock", [True, False])
async def test_who_reads_the_memory_of_another_command(
    person: Person, monkeypatch: pytest.MonkeyPatch, has_landlock: bool
) -> None:
    """The further layer: without Landlock, a command that was left running can be read by a later one."""
    if not has_landlock:
        monkeypatch.setattr(landlock, "abi", lambda: 0)
    script = "$sh 'sleep 1000 & echo $!' > pid; $sh 'cat /proc/$(cat pid)/environ > /dev/null && echo read'"
    assert ((await run(person.profile, agent(person, script))).out == "read\n") != has_landlock


async def test_there_is_a_bound_on_commands_at_once(person: Person) -> None:
    idle = (
        "import socket, sys\n"
        "held = []\n"
        f"for _ in range({zone_server.CONNECTIONS}):\n"
        "    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "    one.connect('/run/dispatch/shells.sock')\n"
        "    held.append(one)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    script = f'mkfifo stop; python3 -c "{idle}" < stop > said & exec 9> stop; until grep -q held said; do :; done;'
    script += "$sh 'echo ran'; echo status $?; exec 9>&-; wait; $sh 'echo again'"
    done = await run(person.profile, agent(person, script))
    assert done.out == "status 126\nagain\n", done


GARBAGE = r"""
import os, socket, struct
def ask(*messages, descriptors=()):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.connect("/run/dispatch/shells.sock")
    one.settimeout(20)
    for message in messages:
        socket.send_fds(one, [message], list(descriptors))
    try:
        return one.recv(16)
    except (ConnectionResetError, socket.timeout) as problem:
        return repr(problem)
    finally:
        one.close()
def request(content):
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return (0, 1, 1, reading)
whole = (b"program\0/\0" + b"0\0", b"shell\0/nowhere\0" + b"1\0true\0")
for content in (b"", b"shell", b"shell\0/\0x\0", *whole, b"\xff" * 60000):
    print("status", struct.unpack("!i", ask(b"start", descriptors=request(content)))[0])
"""


async def test_a_request_that_is_none_runs_nothing(person: Person) -> None:
    script = f"python3 -c '{GARBAGE}' 2>/dev/null | grep status; $sh 'echo fine'"
    done = await run(person.profile, agent(person, script))
    assert done.out.splitlines()[:-1] == ["status 126"] * 3 + ["status 127"] + ["status 126"] * 2, done
    assert done.out.endswith("fine\n")


async def test_the_run_ends_when_the_zone_does(person: Person) -> None:
    process = await spawn(person.profile, ["/bin/sleep", "1000"], person.profile.environment())
    async with process:
        (tree,) = process._zone_trees
        # As the kernel would, short of memory.
        inside = await until(lambda: psutil.Process(tree._started.pid).children(recursive=True))
        inside[-1].kill()
        with trio.fail_after(HANG):
            assert await process.wait() in KILLED
        assert await process.excess() == Excess("shells")


async def test_a_late_answer_is_not_taken_for_another_one(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail: the number of processes was read out of the answer to an earlier word."""
    process = await spawn(person.profile, ["/bin/sleep", "1000"], person.profile.environment())
    async with process:
        assert await process.count_shells() == 0
        (tree,) = process._zone_trees
        server = psutil.Process(tree._started.pid).children(recursive=True)[-1]
        server.suspend()
        monkeypatch.setattr(zone, "_ANSWERED_WITHIN", 0.1)
        with pytest.raises(SandboxError, match="does not answer"):
            await process.stop_shells()
        monkeypatch.undo()
        server.resume()
        with pytest.raises(SandboxError, match="has stopped answering"):
            await process.count_shells()


@asynccontextmanager
async def running(person: Person, script: str) -> Any:
    """The process, and its output a line at a time."""
    profile = person.profile
    process = await spawn(profile, agent(person, script), profile.environment(), stdin=subprocess.PIPE)
    async with process:
        assert process.stdout is not None
        yield process, frames.lines(process.stdout, limit=1000)


async def until(look: Callable[[], Any]) -> Any:
    with trio.fail_after(HANG):
        while not (found := look()):
            await trio.sleep(0.005)
        return found


COUNTING = "i=0; while :; do i=$((i+1)); echo $i > counted.new; mv counted.new counted; done"


def counted(counters: list[Path]) -> list[str]:
    return [path.read_text() for path in counters]


async def test_all_that_shells_started_stands_still(person: Person) -> None:
    """Background jobs, their children, those with sessions of their own, those that ignore every signal they may."""
    jobs = f"({COUNTING}) & setsid bash -c '{COUNTING.replace('counted', 'other')}' & trap '' TSTP CONT TERM; echo up"
    async with running(person, f'$sh "{jobs.replace("$", chr(92) + "$")}"; read stay') as (process, lines):
        assert await anext(lines) == b"up"
        counters = [person.workspace / "counted", person.workspace / "other"]
        await until(lambda: all(path.exists() for path in counters))
        assert await process.count_shells() >= 2
        for _ in range(20):
            assert await process.stop_shells() >= 2
            before = counted(counters)
            for _ in range(300):  # they would count on meanwhile
                assert counted(counters) == before
            await process.resume_shells()
            while any(old == now for old, now in zip(before, counted(counters), strict=True)):
                await trio.sleep(0.001)


async def test_a_command_that_comes_meanwhile_waits(person: Person) -> None:
    async with running(person, "$sh 'echo first'; read go; $sh 'echo second'; read stay") as (process, lines):
        assert process.stdin is not None
        assert await anext(lines) == b"first"
        await process.stop_shells()
        await process.stdin.send_all(b"go\n")
        await process.resume_shells()
        assert await anext(lines) == b"second"


async def test_what_had_stopped_before_stays_stopped(person: Person) -> None:
    async with running(
        person,
        "$sh 'sleep 1000 & kill -STOP $!; echo $!'; read go; $sh \"grep State /proc/$(cat pid)/status\"; read stay",
    ) as (
        process,
        lines,
    ):
        assert process.stdin is not None
        pid = int(await anext(lines))
        (person.workspace / "pid").write_text(str(pid))
        await until(lambda: "T" in states(process))
        await process.stop_shells()
        await process.resume_shells()
        await process.stdin.send_all(b"go\n")
        assert b"T (stopped)" in await anext(lines)


async def test_one_that_cannot_be_stopped_is_said_and_nothing_hangs(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent waits for what it forked by vfork(2), in a state that no signal ends, and the child is stopped."""
    held = 'import ctypes, os; lib = ctypes.CDLL(None); print(\\"up\\", flush=True); pid = lib.vfork(); lib.sleep(1000)'
    assert zone_server._STOPPED_WITHIN == 2.0 < zone._ANSWERED_WITHIN
    async with running(person, f"$sh \"python3 -c '{held}' & sleep 0\"; read stay") as (process, lines):
        assert await anext(lines) == b"up"
        await until(lambda: "D" in states(process))
        with pytest.raises(SandboxError, match="could not be paused") as refused:
            await process.stop_shells()
        assert refused.value.fix
        assert await process.count_shells() > 0


def states(process: BubblewrapProcess) -> str:
    (tree,) = process._zone_trees
    names = {"disk-sleep": "D", "stopped": "T"}
    found = ""
    for one in psutil.Process(tree._started.pid).children(recursive=True):
        try:
            found += names.get(one.status(), "")
        except psutil.NoSuchProcess:
            continue
    return found


# -- what it is for: a Write is executed on what was judged (fault 7 of those made to happen) --------------------------

SWAPPING = (
    "mkdir -p one two; ln -sfn one way; (while :; do ln -sfn two way.new; mv -T way.new way; ln -sfn one way.new;"
    " mv -T way.new way; done) > /dev/null 2>&1 & echo started"
)


async def writes(tmp_path: Path, *, number: int, respond: Any) -> tuple[frames.Finished, Node]:
    script = [{"tool": "Bash", "input": {"command": SWAPPING}}]
    script += [{"tool": "Write", "input": {"file_path": f"way/{n}", "content": str(n)}} for n in range(number)]
    async with dp_agent(respond) as node:
        finished = await node.run(start(tmp_path, *script))
        assert await node.process.wait() == 0
    return finished, node


async def allows(node: Node, call: frames.Call) -> None:
    await trio.sleep(0.002)  # a person takes longer: others run meanwhile
    await node.answer(call, True)


def landed(node: Node, tmp_path: Path) -> tuple[list[str], list[str]]:
    """(paths shown of the Writes that went through, those of them that lie elsewhere)."""
    outcome = {event.call_id: event.outcome for event in node.events(frames.Approval)}
    went = [
        str(call.resolved_path) for call in node.calls if call.tool == "Write" and outcome[call.call_id] == "allowed"
    ]
    views = [path for path in (tmp_path / "run").rglob("[0-9]*") if path.parent.name in ("one", "two")]
    places = {path.name: path.parent.name for path in views}
    return went, [path for path in went if places.get(Path(path).name) != Path(path).parent.name]


async def test_a_write_lands_where_the_person_saw_it(tmp_path: Path) -> None:
    finished, node = await writes(tmp_path, number=40, respond=allows)
    assert finished.status == "completed"
    went, elsewhere = landed(node, tmp_path)
    assert went and not elsewhere
    denied = [event.note for event in node.events(frames.Approval) if event.outcome == "denied"]
    assert denied.count(MOVED) == 40 - len(went)
    first = next(call for call in node.calls if call.tool == "Write")
    assert any("still running from earlier commands" in mark for mark in first.unusual)
