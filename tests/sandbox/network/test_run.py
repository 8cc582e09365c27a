"""A run with a network from its start frame to its trace: the real dp-agent. The hosts are a fake (internet.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from tests.conftest import HANG
from tests.sandbox.network.internet import ADDRESS, Internet, internet
from tests.sandbox.node import Node, dp_agent, start


def fake(there: Internet) -> str:
    """Python by which a dp-agent has the fake's names, and dials it."""
    return f"""
import trio
from sandbox.network import proxy
names = {json.dumps(there.addresses)}
async def resolve(host, port):
    if host not in names:
        raise OSError("no such name")
    return names[host]
async def connect(address, port):
    return await trio.open_tcp_stream("127.0.0.1", {there.port})
proxy.NetworkProxy.__init__.__kwdefaults__.update(resolve=resolve, connect=connect)
"""


def curl(where: str, more: str = "") -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": f"curl -sS --cacert /dispatch/in/ca.pem {more} {where}"}}


def begin(tmp_path: Path, there: Internet, *script: dict[str, Any], **change: Any) -> frames.Start:
    (tmp_path / "ca.pem").write_bytes(there.authority.certificate)
    hosts = [frames.NetworkHost(name="code.example.org")]
    given: dict[str, Any] = {
        "network": frames.Network(hosts=hosts),
        "files": [frames.Attachment(name="ca.pem", path=str(tmp_path / "ca.pem"))],
    }
    return start(tmp_path, *script, **{**given, **change})


def statuses(node: Node) -> list[tuple[str, str]]:
    return [(event.status, event.detail) for event in node.events(frames.Status) if event.status.startswith("network")]


async def test_commands_reach_what_was_granted_and_the_trace_tells(tmp_path: Path) -> None:
    async with internet() as there:
        script = [
            curl("https://code.example.org/a"),
            curl("https://other.example.org/"),
            curl("http://code.example.org/"),
        ]
        async with dp_agent(patch=fake(there)) as node:
            finished = await node.run(begin(tmp_path, there, *script))
    assert finished.status == "completed", finished
    assert [ok for ok, _ in node.results] == [True, False, True], node.results
    assert node.results[0][1] == "hello from there\n" and "only HTTPS can leave this sandbox" in node.results[2][1]
    assert there.seen == [("code.example.org", "GET /a")]
    first, refused, total = statuses(node)
    assert first == ("network_host", "the first connection to code.example.org")
    assert refused == ("network_refused", "“other.example.org” is not granted to this run")
    assert total[0] == "network_used" and total[1].startswith("code.example.org: 1 connection, ")
    assert all("uses the network" in call.unusual for call in node.calls)


async def test_without_a_grant_or_without_shells_there_is_no_way(tmp_path: Path) -> None:
    async with internet() as there:
        changes: tuple[dict[str, Any], ...] = ({"network": frames.Network()}, {"tools": ["Read"]})
        for number, change in enumerate(changes):
            folder = tmp_path / str(number)
            folder.mkdir()
            script = [curl("https://code.example.org/", "--proxy http://127.0.0.1:30128")]
            async with dp_agent(patch=fake(there)) as node:
                await node.run(begin(folder, there, *script, **change))
            assert not any(ok for ok, _ in node.results) and statuses(node) == []
    assert there.seen == []


async def test_the_budget_of_bytes_is_the_edges(tmp_path: Path) -> None:
    async def large(*_: object) -> tuple[int, bytes]:
        return 200, b"x" * 3_000_000

    async with internet(answer=large) as there:
        script = [curl("https://code.example.org/a"), {"tool": "Bash", "input": {"command": "echo goes on"}}]
        async with dp_agent(patch=fake(there)) as node:
            budget = frames.Budget(network_bytes=500_000)
            finished = await node.run(begin(tmp_path, there, *script, budget=budget))
    assert finished.status == "completed" and [ok for ok, _ in node.results] == [False, True]
    assert [status for status, _ in statuses(node)] == ["network_host", "network_used_up", "network_used"]


async def test_connections_end_with_the_run(tmp_path: Path) -> None:
    """A cancelled run leaves none, and its totals are told all the same."""
    command = (
        "/usr/bin/python3 -c \"import socket, ssl; s = socket.create_connection(('127.0.0.1', 30128)); "
        "s.sendall(b'CONNECT code.example.org:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); s.recv(99); "
        "c = ssl.create_default_context(cafile='/dispatch/in/ca.pem'); "
        "t = c.wrap_socket(s, server_hostname='code.example.org'); print('open', flush=True); "
        "open('/dispatch/open', 'w').close(); t.recv(1)\""
    )
    async with internet() as there, dp_agent(patch=fake(there)) as node:
        await node.say(begin(tmp_path, there, {"tool": "Bash", "input": {"command": command}}))
        while not any(status == "network_host" for status, _ in statuses(node)):
            await node.until(frames.TraceEntry)
        await node.say(frames.Cancel(reason="enough"))
        finished = await node.until(frames.Finished)
    assert finished.status == "cancelled"
    assert statuses(node)[-1][0] == "network_used"


async def test_the_agent_is_told_what_it_reaches_and_its_own_program_is_not(tmp_path: Path) -> None:
    """The variables are the commands' alone: the agent program would send its requests to the model there."""
    command = {
        "tool": "Bash",
        "input": {"command": "echo $HTTPS_PROXY $UV_OFFLINE; tr '\\\\0' '\\\\n' < /proc/1/environ"},
    }
    async with internet() as there, dp_agent(patch=fake(there)) as node:
        await node.run(begin(tmp_path, there, command))
    ((_, output),) = node.results
    assert output.startswith("http://127.0.0.1:30128\n") and output.count("30128") == 1, output


async def test_a_companys_own_authorities_are_believed_inside(tmp_path: Path) -> None:
    """Where a company's proxy reads what passes, its certificates are what a run's programs see."""
    async with internet() as there:
        (tmp_path / "company.pem").write_bytes(there.authority.certificate)
        network = frames.Network(
            hosts=[frames.NetworkHost(name="code.example.org")], more_ca_file=str(tmp_path / "company.pem")
        )
        command = {"tool": "Bash", "input": {"command": "curl -sS https://code.example.org/"}}
        async with dp_agent(patch=fake(there)) as node:
            await node.run(begin(tmp_path, there, command, network=network))
    assert node.results == [(True, "hello from there\n")]


def test_names_are_resolved_and_dialled_by_this_machine(tmp_path: Path) -> None:
    """Between two network namespaces of the kernel, with the system's resolver."""
    names = {"far": ADDRESS, "here": "93.184.216.1", "inside": "127.0.0.1"}
    (tmp_path / "hosts").write_text("".join(f"{ip} {name}.example.org\n" for name, ip in names.items()))
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.sandbox.network.two_namespaces", str(tmp_path / "hosts")],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip("this machine gives no namespaces")
    only = "has no public internet address, and no other is reachable from here"
    assert done.stdout.splitlines() == [
        "far.example.org over there",
        f"here.example.org {only}",
        f"inside.example.org {only}",
        "nowhere.example.org cannot be resolved",
    ], done
