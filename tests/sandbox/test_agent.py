"""dp-agent end to end with the scripted runtime: the real program, the real sandbox, frames on its pipes."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path
from subprocess import PIPE
from typing import Any

import msgspec
import pytest
import trio

from sandbox import frames
from sandbox.confinement.places import WORKSPACE
from sandbox.views.record import ViewRecords
from tests.conftest import HANG, SLOWER, more
from tests.sandbox.node import Node, all_gone, changed, dp_agent, members_of, start
from tests.sandbox.trees import tree


def bash(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command}}


def write(path: str, content: str) -> dict[str, Any]:
    return {"tool": "Write", "input": {"file_path": path, "content": content}}


async def test_a_run_from_start_to_finished(tmp_path: Path) -> None:
    letter = tmp_path / "blob"
    letter.write_text("seven apples")
    begin = start(
        tmp_path,
        {"say": "I will look."},
        {"tool": "Read", "input": {"file_path": f"{WORKSPACE}/in/letter.txt"}},
        {"tool": "Glob", "input": {"pattern": "**/*.py"}},
        {"tool": "Grep", "input": {"pattern": "price", "path": "."}},
        {"tool": "Edit", "input": {"file_path": "a.py", "old_string": "= 1", "new_string": "= 2"}},
        bash("cat a.py; pwd"),
        write(f"{WORKSPACE}/out/answer.txt", "seven"),
        {"say": "Done."},
        files=[frames.Attachment(name="letter.txt", path=str(letter))],
    )
    (tmp_path / "shop" / "a.py").write_text("price = 1\n")
    async with dp_agent() as node:
        finished = await node.run(begin)
        assert await node.process.wait() == 0
    assert (finished.status, finished.reply) == ("completed", "Done.")
    assert [ok for ok, _ in node.results] == [True] * 6, node.results
    assert node.results[0][1] == "seven apples"
    assert node.results[4][1] == f"price = 2\n{tmp_path}/shop\n"
    assert (changed(tmp_path) / "a.py").read_text() == "price = 2\n"
    assert (tmp_path / "shop" / "a.py").read_text() == "price = 1\n"
    (returned,) = finished.files
    assert returned.name == "answer.txt" and Path(returned.path).read_text() == "seven"
    assert returned.size == 5 and len(returned.sha256) == 64
    started = node.seen[0]
    assert isinstance(started, frames.Started) and started.sandbox == finished.sandbox
    assert started.sandbox.tier == "full" and "open" not in started.sandbox.canaries.values()
    assert node.calls[0].resolved_path == str(tmp_path / "run" / "workspace" / "in" / "letter.txt")
    assert node.calls[3].diff is not None and "+price = 2" in node.calls[3].diff
    assert node.approvals == [("allowed", "person")] * 6


async def test_what_bash_cannot_reach(tmp_path: Path) -> None:
    secret = tmp_path / "state" / "token"
    secret.parent.mkdir()
    secret.write_text("the-token")
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, lambda stream: stream.aclose(), listeners)
        port = listeners[0].socket.getsockname()[1]
        begin = start(
            tmp_path,
            bash(f"cat {secret}"),
            bash("cat ~/.ssh/* /root/.ssh/* /etc/shadow"),
            bash("env; cat /proc/*/environ | tr '\\0' '\\n'"),
            bash(f"exec 3<>/dev/tcp/127.0.0.1/{port}"),
            bash(f"echo x > {tmp_path}/x"),
            bash(f"ls / {tmp_path} | cat"),
            approval="auto",
            protected=[str(secret.parent)],
            model=frames.Model(api_key="sk-secret-key"),
        )
        async with dp_agent() as node:
            assert (await node.run(begin)).status == "completed"
        nursery.cancel_scope.cancel()
    oks = [ok for ok, _ in node.results]
    assert oks == [False, False, oks[2], False, False, True], node.results
    said = repr(node.seen)
    for leaked in ("the-token", "in-the-daemons-environment", "sk-secret-key", "root:"):
        assert leaked not in said
    assert not (tmp_path / "x").exists()


async def test_a_folder_stands_at_its_own_path_and_nothing_beside_it(tmp_path: Path) -> None:
    """A path of the edge that holds several projects shows the chosen one, and no other's name."""
    (tmp_path / "secret-project").mkdir()
    other = tmp_path.parent / f"{tmp_path.name}-other"
    other.mkdir()
    script = [bash(f"pwd; ls -d {other}; ls -a {tmp_path} {tmp_path.parent}"), bash(f"touch {tmp_path}/x")]
    script.append(bash(f"mv {tmp_path} {tmp_path}-moved || mv {'/'.join(tmp_path.parts[:3])[1:]} /tmp/moved"))
    edge = [str(tmp_path), str(other)]
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, *script, paths=edge, approval="auto"))
    assert finished.status == "completed", finished.reason
    shown = node.results[0][1].split()
    assert shown[:2] == [str(tmp_path / "shop"), str(other)]
    assert "secret-project" not in shown and not (tmp_path / "x").exists()
    # What lies above it can be neither changed nor moved away, also in the run's own /tmp: the gate and the run would
    # mean different things by one path.
    assert [ok for ok, _ in node.results] == [True, False, False], node.results


async def test_denied_unanswered_and_out_of_scope_calls_do_not_happen(tmp_path: Path) -> None:
    async def respond(node: Node, call: frames.Call) -> None:
        if "one" in str(call.input["command"]):
            await node.answer(call, False, note="not today")

    begin = start(
        tmp_path,
        bash("touch one"),
        bash("touch two"),
        write("/etc/three", "x"),
        {"tool": "Task", "input": {"prompt": "four"}},
        answer_seconds=0.5 * SLOWER,  # for "one" long enough to be answered
    )
    async with dp_agent(respond) as node:
        assert (await node.run(begin)).status == "completed"
    assert node.approvals == [
        ("denied", "person"),
        ("unanswered", "timeout"),
        ("denied", "scope"),
        ("denied", "scope"),
    ]
    assert "not today" in node.results[0][1]
    assert [frame.call_id for frame in node.seen if isinstance(frame, frames.CallClosed)] == ["step-1"]
    assert list((tmp_path / "shop").iterdir()) == list(changed(tmp_path).iterdir()) == []


async def test_five_denials_end_the_run_as_failed(tmp_path: Path) -> None:
    async def respond(node: Node, call: frames.Call) -> None:
        await node.answer(call, False)

    async with dp_agent(respond) as node:
        finished = await node.run(start(tmp_path, *[bash("ls")] * 8))
    assert (finished.status, finished.code) == ("failed", 403)
    assert finished.reason is not None and "denied" in finished.reason
    assert len(node.calls) == 5


async def test_cancel_kills_the_run(tmp_path: Path) -> None:
    stubborn = bash("trap '' TERM INT HUP; setsid sleep 1000 & touch started; while :; do sleep 1000; done")
    async with dp_agent() as node:
        await node.say(start(tmp_path, write("x", "y"), stubborn, approval="auto"))
        await _until_started(node, tmp_path)
        tree = members_of(node.process.pid) - {node.process.pid}
        assert len(tree) > 3
        await node.say(frames.Cancel(reason="alice changed her mind"))
        finished = await node.until(frames.Finished)
        assert await all_gone(tree)
    assert (finished.status, finished.reason) == ("cancelled", "alice changed her mind")
    assert finished.usage.seconds > 0


async def test_a_cancel_ends_the_run_of_a_node_that_does_not_read(tmp_path: Path) -> None:
    """The pipe is full and nobody empties it: the run's words are lost, its processes are not left."""
    chatter = [{"say": "x" * 100_000} for _ in range(4)]
    async with dp_agent() as node:
        sleeper = bash("setsid sleep 1000 >/dev/null 2>&1 & touch started")
        await node.say(start(tmp_path, sleeper, *chatter, approval="auto"))
        await _until_started(node, tmp_path)
        tree = members_of(node.process.pid) - {node.process.pid}
        assert len(tree) > 3 and node.process.stdout is not None
        await _full(node.process.stdout.fileno())  # type: ignore[attr-defined]
        await node.say(frames.Cancel(reason="enough"))
        assert await all_gone(tree | {node.process.pid})


async def _full(pipe: int) -> None:
    """Wait until a pipe is all but full, which no event tells its reader."""
    room = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    with trio.fail_after(HANG):
        while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0] < room - 8192:
            await trio.sleep(0.01)


async def test_a_cancel_can_decline_the_dispatch(tmp_path: Path) -> None:
    async def respond(node: Node, call: frames.Call) -> None:
        await node.say(frames.Cancel(reason="not for me", status="declined"))

    async with dp_agent(respond) as node:
        finished = await node.run(start(tmp_path, bash("ls")))
    assert (finished.status, finished.files) == ("declined", [])


@pytest.mark.parametrize("how", ["kill", "end of input"])
async def test_nothing_survives_dp_agent_or_its_node(tmp_path: Path, how: str) -> None:
    async with dp_agent() as node:
        await node.say(start(tmp_path, bash("setsid sleep 1000 & touch started; sleep 1000"), approval="auto"))
        await _until_started(node, tmp_path)
        tree = members_of(node.process.pid)
        assert len(tree) > 4
        if how == "kill":
            node.process.kill()
        else:
            assert node.process.stdin is not None
            await node.process.stdin.aclose()
        assert await all_gone(tree)


async def _until_started(node: Node, tmp_path: Path) -> None:
    """Serve the node's side until the command that makes `started` has been allowed, then wait for the file.

    Whether the view is a copy is known only when it is made, so its place is asked for each time.
    """
    while not (node.calls and "started" in str(node.calls[-1].input)):
        call = await node.until(frames.Call)
        await node.answer(call, True)
    with trio.fail_after(HANG):
        while not (changed(tmp_path) / "started").exists():
            await trio.sleep(0.01)


async def test_the_clock_of_the_budget_ends_a_run(tmp_path: Path) -> None:
    begin = start(
        tmp_path, bash("touch started; sleep 1000"), approval="auto", budget=frames.Budget(minutes=0.04 * SLOWER)
    )
    async with dp_agent() as node:
        await node.say(begin)
        await _until_started(node, tmp_path)
        tree = members_of(node.process.pid) - {node.process.pid}
        finished = await node.until(frames.Finished)
        assert len(tree) > 3 and await all_gone(tree)
    assert (finished.status, finished.code) == ("failed", 429)
    assert finished.reason is not None and "minutes" in finished.reason


async def test_returned_files_over_the_budget_are_left_out_and_named(tmp_path: Path) -> None:
    begin = start(
        tmp_path,
        bash(f"head -c 2000 /dev/zero > {WORKSPACE}/out/big; ln -s /etc/passwd {WORKSPACE}/out/link"),
        approval="auto",
        budget=frames.Budget(output_bytes=1000),
    )
    async with dp_agent() as node:
        finished = await node.run(begin)
    assert finished.files == []
    assert {event.detail.partition(":")[0] for event in node.events(frames.Status)} == {"big", "link"}


async def test_what_a_run_writes_stays_in_its_view(tmp_path: Path) -> None:
    """Seen to fail with the project itself bound."""
    plant = "mkdir -p sub/.vscode .git/hooks && echo '{}' > sub/.vscode/tasks.json && rm old && echo x > code.py && ls"
    shop = tmp_path / "shop"
    shop.mkdir()
    for name in ("old", "code.py"):
        (shop / name).write_text("mine\n")
    before = tree(shop)
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, bash(plant), approval="auto"))
    assert finished.status == "completed" and node.results == [(True, "code.py\nsub\n")]
    assert tree(shop) == before
    views = tmp_path / "run/views"
    (record,) = msgspec.json.decode((views / "views.json").read_bytes(), type=ViewRecords).views
    assert (record.root, record.inside, record.inode) == (str(shop), str(shop), shop.stat().st_ino)
    assert (views / "1/upper/sub/.vscode/tasks.json").read_text() == "{}\n"
    assert (views / "1/upper/old").is_char_device()


REFUSED = """
from sandbox.views import namespace
namespace.enter = lambda: "no namespace of its own: Permission denied"
"""


async def test_where_nothing_can_be_mounted_a_copy_serves_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    """Seen to fail without the event."""
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "a\nb").write_text("mine\n")
    os.mkfifo(shop / "pipe\n")
    before = tree(shop)
    async with dp_agent(patch=REFUSED) as node:
        finished = await node.run(
            start(tmp_path, bash("ls -A; echo theirs > a*b; rm -f pipe*; mkfifo p"), approval="auto")
        )
    assert finished.status == "completed" and node.results == [(True, "a\nb\n")]
    told = [(event.status, event.detail) for event in node.events(frames.Status)]
    assert told == [("not_in_view", "shop/pipe\N{REPLACEMENT CHARACTER}: neither a file, a folder nor a link")]
    assert tree(shop) == before and (changed(tmp_path) / "a\nb").read_text() == "theirs\n"
    (record,) = msgspec.json.decode((tmp_path / "run/views/views.json").read_bytes(), type=ViewRecords).views
    assert record.kind == "copy" and record.skipped == [told[0][1]]


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"runtime": "nobody"}, 422, "nobody"),
        ({"runtime": "claude"}, 401, "key"),
        ({"paths": ["/srv/other"]}, 403, "outside"),
        ({"files": [frames.Attachment(name="../x", path="/etc/hostname")]}, 422, "name"),
        ({"files": [frames.Attachment(name="x", path="/dev/null")]}, 422, "plain"),
        ({"cwd": "/nonexistent"}, 422, "nonexistent"),
    ],
)
async def test_what_cannot_be_run_is_refused_with_a_reason(
    tmp_path: Path, change: dict[str, Any], code: int, word: str
) -> None:
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, bash("ls"), **change))
        assert await node.process.wait() == 0
    assert (finished.status, finished.code) == ("failed", code)
    assert finished.reason is not None and word in finished.reason
    assert node.seen == [finished], "refused before anything was started"


@pytest.mark.parametrize("line", [b"hello\n", b'{"kind":"cancel"}\n', b'{"kind":"start"}\n', b""])
async def test_a_node_that_speaks_no_frames_is_left(line: bytes) -> None:
    async with dp_agent(stderr=PIPE) as node:
        assert node.process.stdin is not None and node.process.stderr is not None
        await node.process.stdin.send_all(line)
        await node.process.stdin.aclose()
        assert await node.process.wait() == (1 if line else 0)
        assert (b"dp-agent: " in await node.process.stderr.receive_some(4096)) == bool(line)


async def test_a_call_ends_with_its_foreground_command(tmp_path: Path) -> None:
    """What it leaves in the background holds its output open. Seen to wait for two minutes."""
    background = "sleep 300 & (sleep 300; echo late) & nohup sleep 300 & setsid sleep 300 & echo bg"
    begin = start(tmp_path, bash(background), bash("pgrep -c sleep"), bash("sleep 300 & exit 3"), approval="auto")
    async with dp_agent() as node:
        finished = await node.run(begin)
        assert await node.process.wait() == 0
    assert finished.status == "completed"
    (first, bg), (_, count), (third, failed) = node.results
    assert first and bg.strip().endswith("bg") and int(count) >= 4
    assert not third and failed == "exit status 3"


async def test_a_command_whose_time_is_over_ends_with_its_children(tmp_path: Path) -> None:
    slow = {"tool": "Bash", "input": {"command": "sleep 301 & sleep 301", "timeout": 300}}
    begin = start(tmp_path, slow, bash("pgrep -f 'sleep 30[1]' || echo none"), approval="auto")
    async with dp_agent() as node:
        await node.run(begin)
    assert "timed out" in node.results[0][1] and node.results[1] == (True, "none\n")


async def test_walks_end_whatever_lies_there(tmp_path: Path) -> None:
    project = tmp_path / "shop"
    (project / "src/deep").mkdir(parents=True)
    (project / "src/a.py").write_text("price = 1\n")
    (project / "src/deep/b.py").write_text("price = 2\n")
    for name, target in {"src/up": "..", "src/again": "../src", "loop": "loop", "root": "/"}.items():
        (project / name).symlink_to(target)
    os.mkfifo(project / "src/pipe.py")
    begin = start(
        tmp_path,
        {"tool": "Glob", "input": {"pattern": "**/*.py"}},
        {"tool": "Glob", "input": {"pattern": "*/*/*/*/*/*/*/*/*.py"}},
        {"tool": "Glob", "input": {"pattern": "src/*.py"}},
        {"tool": "Glob", "input": {"pattern": "**/**/deep/**", "path": str(project)}},
        {"tool": "Grep", "input": {"pattern": "price", "path": str(project)}},
        {"tool": "Read", "input": {"file_path": "src/pipe.py"}},
        write("src/pipe.py", "x"),
        {"tool": "Read", "input": {"file_path": "/dev/zero"}},
        approval="auto",
    )
    async with dp_agent() as node:
        finished = await node.run(begin)
    assert finished.status == "completed"
    outputs = [output for _, output in node.results]
    assert outputs[0].split() == [f"{project}/src/a.py", f"{project}/src/deep/b.py", f"{project}/src/pipe.py"]
    assert outputs[1] == ""
    assert outputs[2].split() == [f"{project}/src/a.py", f"{project}/src/pipe.py"]
    assert outputs[3] == f"{project}/src/deep/b.py"
    assert outputs[4].split("\n") == [f"{project}/src/a.py:1:price = 1", f"{project}/src/deep/b.py:1:price = 2"]
    assert [ok for ok, _ in node.results[5:]] == [False] * 3


FEWER = """
import inspect
getsource = inspect.getsource
inspect.getsource = lambda of: getsource(of).replace("ENTRIES = 100_000", "ENTRIES = 1_000")
"""


@pytest.mark.parametrize("entries", [1_000, *more(100_000)])
async def test_a_walk_through_too_much_stops_and_says_so(tmp_path: Path, entries: int) -> None:
    for folder in range(11):
        (tmp_path / f"shop/{folder:02}").mkdir(parents=True)
    fill = f"for d in *; do (cd $d; seq {entries // 10} | xargs touch); done"
    begin = start(tmp_path, bash(fill), {"tool": "Glob", "input": {"pattern": "**/none"}}, approval="auto")
    async with dp_agent(patch=FEWER if entries == 1_000 else "") as node:
        await node.run(begin)
    assert node.results[1] == (True, f"[stopped: there are more than {entries:,} entries]")


async def test_what_was_proven_of_another_runtime_asks_for_no_proof(tmp_path: Path) -> None:
    """The setting was switched from claude to scripted while the node lived. Seen to fail with a ValueError."""
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, {"say": "hi"}, gate_proven="0" * 64))
    assert (finished.status, finished.reason) == ("completed", None)


async def test_what_is_not_returned_is_named(tmp_path: Path) -> None:
    attached = tmp_path / "blob"
    attached.write_text("seven apples")
    begin = start(
        tmp_path,
        write(f"{WORKSPACE}/report.md", "here"),
        bash(f"mkdir -p {WORKSPACE}/build/deep; echo x > {WORKSPACE}/in/new; mkfifo {WORKSPACE}/out/pipe"),
        files=[frames.Attachment(name="letter.txt", path=str(attached))],
        approval="auto",
        cwd=None,
    )
    async with dp_agent() as node:
        finished = await node.run(begin)
    assert finished.status == "completed" and finished.files == []
    named = {(left.name, left.why) for left in finished.left_out}
    assert named == {
        ("report.md", "outside out/"),
        ("build", "outside out/"),
        ("in__new", "outside out/"),
        ("pipe", "not a plain file"),
    }


async def test_a_run_that_fails_returns_what_it_has_made(tmp_path: Path) -> None:
    begin = start(
        tmp_path,
        write(f"{WORKSPACE}/out/half.txt", "half"),
        bash("echo changed > new.txt"),
        bash("sleep 300"),
        approval="auto",
        budget=frames.Budget(minutes=0.05 * SLOWER),
    )
    async with dp_agent() as node:
        finished = await node.run(begin)
    assert (finished.status, finished.code) == ("failed", 429)
    assert [file.name for file in finished.files] == ["half.txt"]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--prove", "claude", "--help"]])
def test_help_says_what_it_is_for_and_waits_for_nobody(arguments: list[str]) -> None:
    """Its input is a pipe that nobody closes. Seen to fail with a program that reads frames whatever it is given."""
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox.agent", *arguments],
            stdin=reading, capture_output=True, text=True, timeout=HANG, check=False,
        )  # fmt: skip
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: dp-agent ")
    for word in ("--prove", "[RUNTIME]", "--help", "dispatch-daemon starts it"):
        assert word in done.stdout


def test_arguments_that_it_does_not_have_are_wrong_usage() -> None:
    """They were ignored, and it waited for frames."""
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.agent", "--proof"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("Usage: dp-agent ")
