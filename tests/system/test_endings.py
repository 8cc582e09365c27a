"""Every ending of a run, as docs/lifecycle.md lists them: what stops, what both sides read, what is removed.

The run has left a hostile workspace each time: deep, closed, with odd names, sockets, pipes and links.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from peer.runs.removal import TRASH, Pass
from tests.sandbox.fake_model import FakeModel, call, say, serving
from tests.system.world import ROOT, Document, Person, all_gone, descendants, eventually

Pair = tuple[Person, Person]
SERVER = Path(__file__).parents[1] / "sandbox" / "mcp_server.py"

LEAVING = r"""
import os, stat
os.chdir("/dispatch")
home = os.open(".", os.O_RDONLY)
for name, levels in (("deep", 1200), ("out", 40)):
    os.makedirs(name, exist_ok=True)
    os.chdir(name)
    for _ in range(levels):
        os.mkdir("d")
        os.chdir("d")
    open("bottom", "w").close()
    os.fchdir(home)
for place in (".", "out"):
    os.chdir(place)
    os.makedirs("closed/inner")
    open("closed/inner/file", "w").close()
    os.mkfifo("fifo")
    os.mknod("socket", stat.S_IFSOCK | 0o600)
    os.symlink("/", "link")
    os.symlink("..", "up")
    os.symlink("loop", "loop")
    os.mkdir(b"\xff\xfe")
    for odd in ("-rf", "a\nb", "\x1b[2J", "\u202egpj", " ", "~", "x" * 255):
        open(odd, "w").close()
    open("unreadable", "w").close()
    os.chmod("unreadable", 0)
    os.chmod("closed/inner", 0)
    os.chmod("closed", 0)
    os.fchdir(home)
"""
LEAVE: Document = {"tool": "Bash", "input": {"command": "python3 /dispatch/in/leave.py && echo left"}}
SLEEP: Document = {"tool": "Bash", "input": {"command": "sleep 300 & sleep 300"}}


class Model(FakeModel):
    """A model that has the claude program leave things; gone, it answers nothing more on any connection."""

    def __init__(self) -> None:
        super().__init__([call("Bash", command=LEAVE["input"]["command"]), say("never")])
        self.gone = False

    def next_turn(self, body: Document) -> Document:
        if self.gone:
            raise ConnectionAbortedError
        return super().next_turn(body)


class Row(NamedTuple):
    """A row of the table in the docs."""

    state: str
    code: int
    here: str
    there: str


def table() -> dict[str, Row]:
    """The table of docs/lifecycle.md: ending → what it says."""
    rows = {}
    for line in (ROOT / "docs/lifecycle.md").read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and cells[0] not in ("ending", "---"):
            rows[cells[0]] = Row(cells[1], int(cells[2] or 0), cells[3], cells[4])
    return rows


class Case:
    """One run of Alice's dispatch on Bob's machine that has left its hostile workspace by now."""

    def __init__(self, pair: Pair, leave: Path) -> None:
        self.alice, self.bob = pair
        self.leave = leave
        self.id = ""

    def begins(self, *steps: Document, approval: str = "auto", **scope: object) -> None:
        """Run these steps after the one that leaves things."""
        self.bob.client.edit_trust(self.alice.email, {"approval": approval, **scope})
        self.bob.will(LEAVE, *steps)
        self.accepted()

    def accepted(self) -> None:
        sent = self.alice.client.send(self.bob.email, "Leave something", files=[str(self.leave)])
        self.id = str(sent["dispatch_id"])
        self.alice.state_of(self.id, "pending")
        self.bob.client.accept(self.id)

    def left(self) -> None:
        event = self.bob.event_of(self.id, lambda event: event["kind"] == "tool_result")
        assert event["output"].strip() == "left", event

    def sleeps(self) -> None:
        """Begin a run whose command sleeps, and wait for it."""
        self.begins(SLEEP)
        self.left()
        self.bob.event_of(self.id, lambda event: event.get("input") == SLEEP["input"])
        eventually(lambda: sum("sleep 300" in line for line in self.tree().values()) >= 2, what="the command")
        self.alice.state_of(self.id, "running")

    def asks(self, model: Model) -> str:
        """Begin a run of the claude program with this model; return the request of its first call."""
        self.bob.client.edit_trust(self.alice.email, {"approval": "manual"})
        self.bob.configure(runtime="claude", model={"base_url": model.url, "api_key": "sk-ant-made-up"})
        self.bob.client.reload()
        self.accepted()
        return str(self.bob.approval_of(self.id)["request_id"])

    def tree(self) -> dict[int, str]:
        assert self.bob.program is not None
        return descendants(self.bob.program.pid)


CASES: dict[str, Callable[[Case], None]] = {}


def ending(name: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    def add(function: Callable[[Case], None]) -> Callable[[Case], None]:
        CASES[name] = function
        return function

    return add


@ending("the agent is done")
def _(case: Case) -> None:
    case.bob.client.edit_trust(case.alice.email, {"approval": "auto"})
    case.bob.will({"say": "done"})
    case.accepted()


@ending("it left files or folders that are not returned")
def _(case: Case) -> None:
    case.begins({"say": "done"})


@ending("the model refused the key")
def _(case: Case) -> None:
    model = Model()
    with serving(model):
        waiting = case.asks(model)
        model.answer_with = (401, {}, b"{}")
        case.bob.client.approve(case.id, waiting)
        case.bob.state_of(case.id, "failed")


@ending("it could not begin")
def _(case: Case) -> None:
    case.bob.home.joinpath("script.json").write_text("no script")
    case.accepted()


@ending("its process was killed")
def _(case: Case) -> None:
    case.sleeps()
    (agent,) = [pid for pid, line in case.tree().items() if "sandbox.agent" in line or "dp-agent" in line]
    os.kill(agent, signal.SIGKILL)


@ending("declined while it ran")
def _(case: Case) -> None:
    case.sleeps()
    case.bob.client.decline(case.id, reason="not now")


@ending("declined at an approval")
def _(case: Case) -> None:
    case.begins(SLEEP, approval="manual")
    case.bob.client.approve(case.id, case.bob.approval_of(case.id)["request_id"])
    case.left()
    waiting = eventually(case.bob.client.approvals, what="the second call")[0]
    case.bob.client.deny(case.id, waiting["request_id"], decline_dispatch=True)


@ending("cancelled by its recipient")
def _(case: Case) -> None:
    case.sleeps()
    case.bob.client.cancel(case.id)


@ending("cancelled by its sender")
def _(case: Case) -> None:
    case.sleeps()
    case.alice.client.cancel(case.id)


@ending("its edge was revoked")
def _(case: Case) -> None:
    case.sleeps()
    case.bob.client.revoke_trust(case.alice.email)


@ending("a budget of its edge is used up")
def _(case: Case) -> None:
    case.begins({"tool": "Bash", "input": {"command": "true"}}, budget={"turns": 1})


@ending("it took too much of the machine")
def _(case: Case) -> None:
    if os.geteuid() != 0:
        pytest.skip("of others the kernel bounds the number of processes, and refuses one more")
    threads = (
        "import threading, time; threading.stack_size(65536);"
        "[threading.Thread(target=time.sleep, args=(300,)).start() for _ in range(1200)]"
    )
    case.begins({"tool": "Bash", "input": {"command": f"python3 -c '{threads}'"}})


@ending("five calls in a row were denied")
def _(case: Case) -> None:
    case.begins(*[SLEEP] * 6, approval="manual")
    case.bob.client.approve(case.id, case.bob.approval_of(case.id)["request_id"])
    seen: set[str] = set()
    for _ in range(5):
        waiting = eventually(
            lambda: [row for row in case.bob.client.approvals() if row["request_id"] not in seen], what="a call"
        )[0]
        seen.add(waiting["request_id"])
        case.bob.client.deny(case.id, waiting["request_id"])


@ending("the model is gone")
def _(case: Case) -> None:
    model = Model()
    with serving(model):
        waiting = case.asks(model)
        model.gone = True
    case.bob.client.approve(case.id, waiting)


@ending("an MCP server is gone")
def _(case: Case) -> None:
    servers = {"notes": {"command": sys.executable, "args": [str(SERVER), "say", "leave"]}}
    (case.bob.home / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
    case.begins(
        {"tool": "mcp__notes__leave", "input": {}},
        {"tool": "mcp__notes__say", "input": {"text": "still there?"}},
        mcp_servers="notes",
    )
    case.alice.state_of(case.id, "completed")
    for person in (case.alice, case.bob):
        events = person.client.dispatch(case.id)["events"]
        outputs = [event["output"] for event in events if event["kind"] == "tool_result"]
        assert outputs[-1] == "the MCP server notes has ended", outputs


@ending("the daemon was killed")
def _(case: Case) -> None:
    case.sleeps()
    case.bob.crash()
    case.bob.start()


@ending("the machine was off")
def _(case: Case) -> None:
    case.sleeps()
    assert case.bob.program is not None
    for pid in (case.bob.program.pid, *case.tree()):
        with suppress(ProcessLookupError):  # it died with the one before
            os.kill(pid, signal.SIGKILL)
    case.bob.crash()
    # What was not written any more, or not removed.
    (case.bob.state.runs / TRASH / "half/closed").mkdir(parents=True, mode=0)
    case.bob.state.blobs.mkdir(exist_ok=True)
    (case.bob.state.blobs / ".in-1-0011").write_text("half a file")
    case.bob.state.daemon_json.write_text('{"port": ')
    case.bob.start()


@pytest.fixture
def case(pair: Pair, tmp_path: Path) -> Iterator[Case]:
    leave = tmp_path / "leave.py"
    leave.write_text(LEAVING)
    bob = pair[1]
    settings = bob.state.config.read_bytes()
    yield Case(pair, leave)
    (bob.home / ".claude.json").unlink(missing_ok=True)
    bob.state.write_private(bob.state.config, settings)
    bob.client.reload()
    # What a failed test leaves would end pytest's own clean-up, which is recursive.
    while (one := Pass(bob.state.runs)).advance(1_000_000) or one.removed:
        pass


def fits(shown: str | None, wanted: str) -> bool:
    """Whether a message, or what it quotes of the other side, is what the table says. An ellipsis is any text."""
    pattern = ".*".join(re.escape(part) for part in wanted.split("…"))
    told = re.sub(r"^\S+?(?:'s machine)? says: “(.*)”$", r"\1", shown or "", flags=re.DOTALL)
    return re.fullmatch(pattern, told, re.DOTALL) is not None


def test_the_table_names_every_case() -> None:
    assert list(table()) == list(CASES)


SAME_AGAIN = {
    *("the model is gone", "an MCP server is gone", "it left files or folders that are not returned"),
    *("a budget of its edge is used up", "declined at an approval", "it took too much of the machine"),
    *("its process was killed", "declined while it ran", "the machine was off"),
}
"""Endings of whose kind another one is played."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in SAME_AGAIN else ()) for name in CASES]
)
def test_every_ending_is_whole(case: Case, name: str) -> None:
    alice, bob = case.alice, case.bob
    row = table()[name]
    before: dict[int, str] = {}
    assert bob.program is not None
    daemon = bob.program.pid
    CASES[name](case)
    if bob.program.pid == daemon:
        before = case.tree()
    for person, wanted in ((bob, row.here), (alice, row.there)):
        document = person.state_of(case.id, row.state)
        assert fits(document.get("message"), wanted), (person.name, document.get("message"))
        if row.code and not (person is alice and name == "it could not begin"):
            assert document["code"] == row.code, document
    shown = bob.client.dispatch(case.id)
    if row.state == "pending":
        assert shown["events"][-1]["status"] == "interrupted"
    elif row.state != "completed":
        assert shown["result"]["reason"] == shown["message"], "every view shows the reason"
    assert bob.client.approvals() == []
    assert all_gone(list(before))
    eventually(lambda: not case.tree() or not any("sleep 300" in line for line in case.tree().values()), what="its end")
    eventually(lambda: not bob.run_folders() and not bob.trash(), what="the run's folder removed")
    eventually(lambda: bob.untold(alice) == 0, what="everything told")
    assert not [name for name in bob.blobs() if name.startswith(".in-")]
    assert bob.up, bob.program.errors()
