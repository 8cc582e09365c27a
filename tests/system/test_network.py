"""A network by name, from the grant to the trace, between two daemons: by a fake of a company's proxy, whose every name
leads to a server of this machine.
"""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.protocol.errors import Conflict
from tests.company_proxy import IN_ADDRESS, company_proxy
from tests.rendezvous.world import make_certificate
from tests.system.world import Person

TOKEN = "ghp_" + "a1B2" * 9


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"over there")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """A host that speaks TLS: its port, and what it was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path))
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.asked = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def details(person: Person, dispatch_id: str) -> list[tuple[str, str]]:
    events = person.client.dispatch(dispatch_id)["events"]
    found = [(event["status"], event.get("detail", "")) for event in events if event["kind"] == "status"]
    return [each for each in found if each[0].startswith("network")]


def test_granted_told_used_and_in_the_trace_of_both(pair: tuple[Person, Person], server: Any) -> None:
    alice, bob = pair
    host = f"code.example.org:{server.server_address[1]}"
    project = bob.projects / "with-network"
    project.mkdir()
    (project / ".env").write_text(f"TOKEN={TOKEN}\n")
    (project / ".npmrc").write_text("registry=https://npm.example.org/\n")
    with company_proxy() as proxy:
        bob.environment["HTTPS_PROXY"] = f"http://{IN_ADDRESS}@127.0.0.1:{proxy.server_address[1]}"
        bob.restart()
        try:
            edit = (
                *("trust", "edit", alice.email, "--tools", "Bash", "--approval", "auto", "--network", host),
                *("--network-mb", "7", "--yes-unverified", "--json"),
            )
            refused = bob.refused(*edit)
            assert f"HTTP proxy resolves {host}" in refused["message"]
            with pytest.raises(Conflict, match="HTTP proxy resolves code") as unconfirmed:
                bob.client.edit_trust(alice.email, {"tools": "Bash", "network": host}, confirm_unverified=True)
            assert f"--yes-by-proxy {host}" in unconfirmed.value.fix
            assert bob.client.trust(alice.email)["scopes"]["network"] == []
            edited = bob.cli(*edit, "--yes-by-proxy", host).json
            assert edited["scopes"]["network"] == [host] and edited["budgets"]["network_bytes"] == 7 * 1024 * 1024
            shown = bob.cli("trust", "show", alice.email)
            assert host in shown and "7 MB over the network" in shown
            assert f"This machine's HTTP proxy resolves {host}, so dispatch cannot check" in " ".join(shown.split())
            assert "network" not in alice.client.contacts()["trust"][0]["scopes"]
            bob.will(
                {"tool": "Bash", "input": {"command": f"curl -sSk https://{host}/page -o page.html"}},
                {"tool": "Bash", "input": {"command": "curl -sS https://other.example.org/"}},
            )
            dispatch_id = str(alice.client.send(bob.email, "Look")["dispatch_id"])
            alice.state_of(dispatch_id, "pending")
            obstacles = bob.client.folder(dispatch_id, str(project))["obstacles"]
            reaches = f"its commands can reach {host}: they can send there whatever the run can read"
            assert any(each.startswith(reaches) for each in obstacles)
            assert "it can act there as you, with the secrets in .env" in obstacles
            assert any("this machine's HTTP proxy resolves" in each for each in obstacles)
            assert any("does not grant: npm.example.org (.npmrc)" in each for each in obstacles)
            accepted = bob.cli("accept", dispatch_id, "--cwd", str(project), "--no-follow")
            said = " ".join(f"{accepted}{accepted.errors}".split())
            assert f"in a run, its commands can reach {host}" in said
            assert "the project names registries that this edge does not grant: npm.example.org (.npmrc)" in said
            assert bob.state_of(dispatch_id, "completed", "failed")["status"] == "completed"
            alice.state_of(dispatch_id, "completed")
            (network,) = bob.client.changes(dispatch_id)["network"]
            assert network["host"] == host and network["use"].startswith("1 connection, ")
        finally:
            del bob.environment["HTTPS_PROXY"]
            bob.restart()
    assert server.asked == ["/page"]
    assert [head[0].split()[1] for head in proxy.heads] == [host]
    for person in pair:
        first, other, total = details(person, dispatch_id)
        assert first == ("network_host", f"the first connection to {host}")
        assert other == ("network_refused", "“other.example.org” is not granted to this run")
        assert total[0] == "network_used" and total[1].startswith(f"{host}: 1 connection, ")
    trace = alice.cli("status", dispatch_id)
    assert "not granted to this run" in trace and host in trace
    logs = "".join(path.read_text() for path in bob.state.path.glob("*.log"))
    assert "p%40ss" not in logs and "p@ss" not in logs


def test_packages_pin_the_registries_of_this_machine(pair: tuple[Person, Person], tmp_path: Path) -> None:
    """A fake of npm says which registry it is set to; later it says another one, and the edge keeps the first."""
    alice, bob = pair
    npm = tmp_path / "programs/npm"
    npm.parent.mkdir()
    before = bob.environment["PATH"]

    def says(address: str) -> None:
        npm.write_text(f"#!/bin/sh\necho {address}\n")
        npm.chmod(0o755)

    says("https://npm.example.org/")
    bob.environment["PATH"] = f"{npm.parent}:/usr/bin:/bin"
    bob.restart()
    try:
        others = {"network": "packages", "registries": [{"kind": "npm", "address": "https://shown.example.org"}]}
        with pytest.raises(Conflict, match="changed since you were shown them"):
            bob.client.edit_trust(alice.email, others, confirm_unverified=True)
        assert bob.client.trust(alice.email)["scopes"]["network"] == []
        edited = bob.cli("trust", "edit", alice.email, "--network", "packages", "--yes-unverified", "--json").json
        assert {"kind": "npm", "address": "https://npm.example.org"} in edited["scopes"]["registries"]
        says("https://other.example.org/")
        bob.cli("trust", "edit", alice.email, "--max-per-day", "9")
        kept = bob.client.trust(alice.email)["scopes"]
        assert kept["network"] == ["packages"] and kept["registries"] == edited["scopes"]["registries"]
        shown = bob.cli("trust", "show", alice.email)
        assert "https://npm.example.org" in shown
        # Another registry is not taken unseen, where the rest of the network changes either.
        for words, yes in (("packages,a.example.org", True), ("packages", False), ("packages", False)):
            change = {"network": words}
            changed = bob.client.edit_trust(alice.email, change, unconfirmed=not yes, confirm_unverified=yes)
            assert changed["scopes"]["registries"] == edited["scopes"]["registries"]
            assert changed["scopes"]["network"] == sorted(words.split(",")) and "widens" not in changed
        again = bob.cli("trust", "edit", alice.email, "--network", "none", "--json").json
        assert again["scopes"]["network"] == [] == again["scopes"]["registries"]
    finally:
        bob.environment["PATH"] = before
        bob.restart()
