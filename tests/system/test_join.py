"""`dispatch join` on a terminal, from an invitation's link to the granted edge: a real broker, a real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from peer.machine.state_folder import StateFolder
from tests.cli.test_terminal import plain
from tests.conftest import HANG
from tests.system.way_in import PROMPT, Shell, installer
from tests.system.world import Person, World, clean_environment, eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()
    made = World(folder)
    try:
        yield made
    finally:
        made.close()


def sent_row(alice: Person, token: str) -> dict[str, object]:
    rows = alice.client.invitations(ended=True)["sent"]
    return next(row for row in rows if row["token"] == token)


def test_from_the_link_to_the_edge_and_again(world: World, tmp_path: Path) -> None:
    alice = world.person("alice")
    invited = alice.client.invite("bob@example.org")
    assert sent_row(alice, invited["token"])["progress"] == "not_mailed"
    home = tmp_path / "bob"
    (home / "parser").mkdir(parents=True)
    state = home / ".dispatch"
    StateFolder(state).write_private(state / "config.json", b'{"port": 0, "listen": ["/ip4/127.0.0.1/tcp/0"]}')
    environment = clean_environment(home) | {"PATH": f"{home}/bin:/usr/bin:/bin", "BROWSER": "true"}
    shell = Shell(environment, home)
    try:
        shell.run(installer(tmp_path))
        # Pasted as it stands in a mail; a new broker is named before anything is asked.
        shell.type(f"dispatch join '<{invited['page']}>'\n")
        assert f"the broker {world.broker.url}, which" in plain(shell.until("Your e-mail address: "))
        shell.type("bob@example.org\n")
        shell.until("with the code ")
        world.broker.approve(shell.until(", within"))
        shown = plain(shell.until("Which? [1/2/3/4/5] "))
        assert "alice@example.org wants" in shown and "fingerprint" in shown and "not verified" in shown
        eventually(lambda: sent_row(alice, invited["token"])["progress"] == "fetched", what="news of the fetching")
        shell.type("\x03")  # at any point, and again
        shell.until(PROMPT)
        menu = shell.run(f"dispatch join {invited['link']} < /dev/null | cat; echo status ${{PIPESTATUS[0]}}")
        assert "status 2" in menu and "--tools" in menu and "verified by this address" in menu

        shell.type(f"dispatch join {invited['token']}\n")
        assert f"✓ signed in at {world.broker.url}" in plain(shell.until("Which? "))
        shell.until("] ")
        shell.type("1\n")
        shell.until("Enter: manual] ")
        shell.type("\n")
        shell.until("each time) ")
        shell.type("~/parser\n")
        assert "next: " in plain(shell.until(PROMPT))
        again = shell.run(f"dispatch join {invited['page']}")
        assert "already accepted: alice@example.org" in again and "Which?" not in again
        assert sent_row(alice, invited["token"])["progress"] == "accepted"
        assert alice.cli("invitations", "--all").count("accepted") == 1
        assert alice.refused("join", str(invited["page"]))["code"] == 409
    finally:
        shell.close()
        if (state / "daemon.json").exists():
            daemon = psutil.Process(json.loads((state / "daemon.json").read_text())["pid"])
            daemon.terminate()
            daemon.wait(HANG)
