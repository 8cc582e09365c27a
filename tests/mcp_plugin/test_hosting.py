"""A session without a daemon is the node itself: one node whatever starts at once, taken over when it ends, no loss."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import trio

from peer.machine.lock import AlreadyRunning, state_lock
from tests.conftest import HANG, more
from tests.mcp_plugin.hosts import READING, raw, session
from tests.mcp_plugin.test_picker import bash, sent
from tests.page.browser import port
from tests.page.by_hand import Page
from tests.system.world import Document, Person, World, all_gone, connect, descendants, eventually

Pair = tuple[Person, Person]


@pytest.fixture(scope="module")
def _without_daemon(world: World) -> Pair:
    """Amy, who may dispatch to Ben. His daemon was up for that, and is not again but where a test starts it."""
    amy, ben = world.people_named("amy", "ben")
    connect(amy, ben)
    ben.stop()
    return amy, ben


@pytest.fixture
def bare(_without_daemon: Pair) -> Iterator[Pair]:
    """(alice, bob), Bob without a daemon, and without any other node."""
    alice, bob = _without_daemon
    bob.will()
    yield alice, bob
    bob.stop()
    eventually(lambda: unlocked(bob), what="the end of the last session's node")


def unlocked(person: Person) -> bool:
    """Whether nobody is this person's node."""
    try:
        with state_lock(person.state):
            return True
    except AlreadyRunning:
        return False


def announced(person: Person) -> Document:
    return dict(json.loads(person.state.daemon_json.read_bytes()))


async def test_a_session_is_the_node_for_everybody_on_the_machine(bare: Pair) -> None:
    _, bob = bare
    async with session(bob) as host:
        me = await host.ok("dispatch_read", what="whoami")
        assert me["user_id"] == bob.email
        assert announced(bob)["hosted_by"] == "session"
        told = await trio.to_thread.run_sync(lambda: bob.cli("whoami", "--json").json)
        assert told["daemon"]["pid"] == me["daemon"]["pid"] == announced(bob)["pid"]
        dispatch_id = await sent(bare, bash("echo one"))
        gate = await host.act("accept", dispatch_id)
        assert gate["status"] == "approval_needed"
        await trio.to_thread.run_sync(lambda: bob.cli("approve", dispatch_id, gate["request_id"]))
        assert (await host.act("watch", dispatch_id))["status"] == "completed"
        # A daemon would be a second node.
        bob.launch()
        assert bob.program is not None and await trio.to_thread.run_sync(bob.program.process.wait) == 1
        assert f"pid {me['daemon']['pid']}" in bob.program.errors()
        bob.stop()
    assert not bob.state.daemon_json.exists() and not bob.state.local_token.exists()
    bob.start()
    assert announced(bob)["hosted_by"] == "daemon"
    assert bob.client.dispatch(dispatch_id)["status"] == "completed"


@pytest.mark.long
def test_the_page_is_served_by_a_sessions_node(bare: Pair) -> None:
    """Seen to fail with a node that serves no page."""
    alice, bob = bare
    with raw(bob) as host:
        host.initialize()
        pid = host.call("dispatch_read", what="whoami")["structuredContent"]["daemon"]["pid"]
        assert owner(pid) == host.process.pid
        opened = bob.cli("open", "--no-browser", "--json").json
        assert opened["opened"] is False
        address, _, code = opened["url"].partition("#code=")
        assert address == f"http://127.0.0.1:{port(bob)}/"
        with urllib.request.urlopen(address) as shell:
            assert shell.headers["content-type"] == "text/html; charset=utf-8"
            assert re.search(rb"/page/[0-9a-f]{16}/app\.js", shell.read())
        page = Page(bob, code)
        answer, body = page.call("GET", "/v1/page/session")
        assert answer.status == 200 and json.loads(body)["user_id"] == bob.email
        dispatch_id = trio.run(sent, bare)
        answer, body = page.call("POST", f"/v1/dispatches/{dispatch_id}/decline", {})
        assert answer.status == 200
        row = host.call("dispatch_read", what="status", dispatch_id=dispatch_id)["structuredContent"]
        assert row["status"] == "declined", "the session sees what was done on the page"
    alice.state_of(dispatch_id, "declined")


def owner(pid: int) -> int:
    """Return the pid of the session whose node this is."""
    return psutil.Process(pid).ppid()


def test_sessions_that_start_at_once_are_one_node(bare: Pair) -> None:
    _, bob = bare
    with ExitStack() as stack:
        programs = [stack.enter_context(raw(bob)) for _ in range(3)]
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda program: program.initialize(), programs))
            said = list(threads.map(lambda program: program.call("dispatch_read", what="whoami"), programs))
        (pid,) = {answer["structuredContent"]["daemon"]["pid"] for answer in said}
        assert owner(pid) in {program.process.pid for program in programs}


@pytest.mark.parametrize("by", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_another_session_takes_over_and_nothing_is_lost(bare: Pair, by: signal.Signals) -> None:
    alice, bob = bare
    with raw(bob) as first, raw(bob) as second:
        first.initialize()
        pid = first.call("dispatch_read", what="whoami")["structuredContent"]["daemon"]["pid"]
        assert owner(pid) == first.process.pid
        second.initialize()
        assert second.call("dispatch_read", what="whoami")["structuredContent"]["daemon"]["pid"] == pid
        dispatch_id = trio.run(sent, bare, bash("echo one"), bash("echo two"))
        gate = second.call("dispatch_act", action="accept", dispatch_id=dispatch_id)["structuredContent"]
        assert gate["status"] == "approval_needed"
        trio.run(trio.sleep, READING)
        # The second follows the run, at its second gate no more: nobody answers that before the first session ends.
        asked = bob.client.approve(dispatch_id, gate["request_id"])
        assert asked["ok"]
        watch = second.request(
            "tools/call", {"name": "dispatch_act", "arguments": {"action": "watch", "dispatch_id": dispatch_id}}
        )
        while (answer := second.hear()).get("id") != watch:
            pass
        assert answer["result"]["structuredContent"]["status"] == "approval_needed"
        deny = {"action": "deny", "dispatch_id": dispatch_id, "request_id": "none"}
        first.process.send_signal(by)
        first.process.wait(HANG)
        assert second.call("dispatch_act", **deny)["isError"], "a request of the run that died with its node"
        me = second.call("dispatch_read", what="whoami")["structuredContent"]
        assert owner(me["daemon"]["pid"]) == second.process.pid
        row = second.call("dispatch_read", what="status", dispatch_id=dispatch_id)["structuredContent"]
        assert (row["status"], row["attempt"], row["approvals"]) == ("pending", 1, [])
        alice.state_of(dispatch_id, "pending")
        again = second.call("dispatch_act", action="accept", dispatch_id=dispatch_id)["structuredContent"]
        assert again["status"] == "approval_needed" and again["input"] == {"command": "echo one"}
        ended = second.call("dispatch_act", action="decline", dispatch_id=dispatch_id, request_id=again["request_id"])
        assert ended["structuredContent"]["status"] == "declined"


@pytest.mark.long
def test_whoever_follows_a_run_hears_that_its_node_died(bare: Pair) -> None:
    _, bob = bare
    with raw(bob) as first, raw(bob) as second:
        for program in (first, second):
            program.initialize()
            program.call("dispatch_read", what="whoami")
        dispatch_id = trio.run(sent, bare, bash("sleep 60"))
        gate = second.call("dispatch_act", action="accept", dispatch_id=dispatch_id)["structuredContent"]
        bob.client.approve(dispatch_id, gate["request_id"])
        params = {"name": "dispatch_act", "arguments": {"action": "watch", "dispatch_id": dispatch_id}}
        watch = second.request("tools/call", params | {"_meta": {"progressToken": 1}})
        while second.hear().get("params", {}).get("message") != "running":
            pass  # until it follows
        first.process.kill()
        while (answer := second.hear()).get("id") != watch:
            pass
        told = answer["result"]["structuredContent"]
        assert (told["status"], told["interrupted"]) == ("pending", True), told


def test_a_session_whose_node_was_killed_has_another(bare: Pair) -> None:
    _, bob = bare
    with raw(bob) as host:
        host.initialize()
        pid = host.call("dispatch_read", what="whoami")["structuredContent"]["daemon"]["pid"]
        dispatch_id = trio.run(sent, bare, bash("echo one"))
        os.kill(pid, signal.SIGKILL)
        assert all_gone([pid])
        me = host.call("dispatch_read", what="whoami")["structuredContent"]
        assert me["daemon"]["pid"] != pid and owner(me["daemon"]["pid"]) == host.process.pid
        row = host.call("dispatch_read", what="status", dispatch_id=dispatch_id)["structuredContent"]
        assert row["status"] == "pending"


def test_a_node_that_still_loads_ends_with_its_session(bare: Pair) -> None:
    """Seen to fail with a node that looks for the end of its session only once it serves."""
    _, bob = bare
    with raw(bob) as host:
        host.initialize()
        eventually(lambda: any("session_node" in line for line in descendants(host.process.pid).values()))
        running = list(descendants(host.process.pid))
        host.process.kill()
        assert all_gone(running)
        assert not bob.state.daemon_json.exists(), "it never served"


@pytest.mark.parametrize("how", [*more("SIGINT", "SIGTERM"), "stdin"])
def test_a_session_that_ends_leaves_its_run_recorded_and_no_process(bare: Pair, how: str) -> None:
    _, bob = bare
    with raw(bob) as host:
        host.initialize()
        dispatch_id = trio.run(sent, bare, bash("setsid sleep 300 >/dev/null 2>&1 & sleep 300"))
        gate = host.call("dispatch_act", action="accept", dispatch_id=dispatch_id)["structuredContent"]
        bob.client.approve(dispatch_id, gate["request_id"])
        eventually(lambda: any("sleep 300" in line for line in descendants(host.process.pid).values()))
        running = [host.process.pid, *descendants(host.process.pid)]
        if how == "stdin":
            host.stdin.close()
        else:
            host.process.send_signal(signal.Signals[how])
        assert all_gone(running), descendants(host.process.pid)
        assert host.process.wait(HANG) == 0
    # No node runs: this is what is on disk.
    row = bob.cli("status", dispatch_id, "--json").json
    assert row["status"] == "pending"
    assert [event["status"] for event in row["events"] if event["kind"] == "status"][-1] == "interrupted"
    assert not bob.state.daemon_json.exists()


@pytest.fixture
def stuck(tmp_path: Path) -> dict[str, str]:
    """The environment of a session whose SDK never gets loaded."""
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "__init__.py").write_text("import time\ntime.sleep(600)\n")
    return {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize("how", [*more("SIGINT", "SIGTERM"), "stdin"])
def test_a_session_ends_while_it_still_loads(bare: Pair, stuck: dict[str, str], how: str) -> None:
    """Seen to fail with a server that looks at its wire only once the SDK is there."""
    _, bob = bare
    with raw(bob, stuck) as host:
        host.initialize()
        eventually(lambda: any("session_node" in line for line in descendants(host.process.pid).values()))
        running = [host.process.pid, *descendants(host.process.pid)]
        if how == "stdin":
            host.stdin.close()
        else:
            host.process.send_signal(signal.Signals[how])
        assert all_gone(running)
        assert host.process.wait(HANG) == 0


@pytest.mark.long
def test_a_daemon_that_is_restarted_finds_its_place_free(bare: Pair) -> None:
    _, bob = bare
    bob.start()
    with raw(bob) as host:
        host.initialize()
        assert host.call("dispatch_read", what="whoami")["structuredContent"]["daemon"]["pid"] == bob.program.pid  # type: ignore[union-attr]
        bob.restart()
        assert host.call("dispatch_read", what="whoami")["structuredContent"]["daemon"]["pid"] == bob.program.pid  # type: ignore[union-attr]
        bob.stop()
        me = host.call("dispatch_read", what="whoami")["structuredContent"]
        assert owner(me["daemon"]["pid"]) == host.process.pid, "nobody came back, so the session is the node"


def test_a_daemon_that_still_loads_has_the_lock(bare: Pair, tmp_path: Path) -> None:
    """Seen to fail with a daemon that let go of it meanwhile: a session took its place, and it ended."""
    _, bob = bare
    (tmp_path / "hypercorn").mkdir()
    (tmp_path / "hypercorn" / "__init__.py").write_text(
        f"open({str(tmp_path / 'loading')!r}, 'w')\nimport time\ntime.sleep(600)\n"
    )
    before, bob.environment = bob.environment, bob.environment | {"PYTHONPATH": str(tmp_path)}
    try:
        bob.launch()
        eventually((tmp_path / "loading").exists)
        with pytest.raises(AlreadyRunning), state_lock(bob.state):
            pass
    finally:
        bob.environment = before
        bob.crash()


def test_a_host_that_never_speaks_gets_no_node(bare: Pair) -> None:
    _, bob = bare
    with raw(bob) as host:
        host.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        host.stdin.close()
        assert host.process.wait(HANG) == 0
    assert not bob.state.daemon_json.exists()
