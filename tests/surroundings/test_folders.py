"""Where people's folders are: names with spaces, other file systems, paths longer than a socket's, read-only homes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import HANG, more
from tests.surroundings.story import somebody, tell
from tests.system.world import Person, World

SOCKET_PATH = 108
"""Bytes that unix(7) has for the path of a socket."""


def test_a_deep_home_with_spaces_on_another_file_system(
    alice: Person, world: World, memory: Path, tmp_path: Path
) -> None:
    """Home and state in memory, the projects beside them; TMPDIR as deep as both."""
    home = memory / "my home" / ("d" * SOCKET_PATH) / "and 'so on' $HOME"
    temporary = home / "temporary files"
    temporary.mkdir(parents=True)
    assert memory.stat().st_dev != tmp_path.stat().st_dev
    bob = somebody(world, "deep", home, environment={"TMPDIR": str(temporary)})
    assert min(len(os.fsencode(path)) for path in (bob.state.path, temporary)) > SOCKET_PATH
    bob.projects = tmp_path / "code of another file system"
    bob.projects.mkdir()
    bob.launch()
    bob.ready()
    tell(alice, bob, tmp_path / "back")
    checks = {check["name"]: check for check in bob.client.doctor()["checks"]}
    assert checks["sandbox"]["ok"] and "canaries were denied" in checks["sandbox"]["detail"], checks
    assert list(temporary.iterdir()) == []


@pytest.mark.long
@pytest.mark.root
def test_a_read_only_home_with_the_state_elsewhere(alice: Person, world: World, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("a read-only mount needs root")
    bob = somebody(world, "fixed", tmp_path / "bob", state=tmp_path / "state")
    bob._script.rename(tmp_path / "script.json")
    bob._script = tmp_path / "script.json"
    bob.configure(script=str(bob._script))
    bob.projects = tmp_path / "code"
    bob.projects.mkdir()
    inside = ["unshare", "-m", "/bin/sh", "-c", f"mount --bind -o ro '{bob.home}' '{bob.home}' && exec \"$@\"", "sh"]
    tried = subprocess.run([*inside, "touch", str(bob.home / "x")], capture_output=True, check=False)
    assert b"Read-only file system" in tried.stderr
    bob.launch(inside=inside)
    bob.ready()
    tell(alice, bob, tmp_path / "back")


@pytest.mark.root
@pytest.mark.parametrize("there", [*more(False), True], ids=["no state yet", "a state"])
def test_a_read_only_state_folder_is_refused_with_its_fix(world: World, tmp_path: Path, there: bool) -> None:
    """A line with its fix from the daemon and from each command, before `login` sends anybody to the broker's page.

    Seen before: a traceback of the daemon, which could not open its log.
    """
    if os.geteuid():
        pytest.skip("a read-only mount needs root")
    bob = Person("stuck", tmp_path / "bob", world.broker)
    if there:
        bob.sign_in()
        bob.start()
        bob.stop()
    inside = ["unshare", "-m", "/bin/sh", "-c", f"mount --bind -o ro '{bob.home}' '{bob.home}' && exec \"$@\"", "sh"]
    bob.launch(inside=inside)
    assert bob.program is not None
    assert bob.program.process.wait(HANG) == 1
    told = bob.program.errors()
    assert "Traceback" not in told and "Read-only file system" in told and "fix: " in told, told
    login = ["login", "--broker", world.broker.url, "--email", bob.email]
    for command in (["config", "set", "notifications", "off"], login):
        said = bob.cli(*command, inside=inside, status=1)
        assert "Read-only file system" in said.errors and "fix: " in said.errors, said.errors
        assert "Traceback" not in said.errors
    if there:  # SQLite keeps its own files beside a store that it only reads
        said = bob.cli("sent", inside=inside, status=1)
        assert "the store cannot be opened" in said.errors and "fix: " in said.errors, said.errors
