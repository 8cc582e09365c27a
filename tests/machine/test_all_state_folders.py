"""Finding the state folders of a person: what is hidden from the servers that runs may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peer.machine.all_state_folders import all_state_folders


def state_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "device.key").write_text("x")
    return path.resolve()


def test_every_identity_of_this_person_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with the node's own folder alone."""
    home = tmp_path / "home"
    own = state_folder(tmp_path / "states/one")
    others = [
        home / ".dispatch",
        home / ".second",
        home / ".config/dispatch",
        home / ".local/share/dispatch",
        tmp_path / "states/two",
    ]
    expected = {state_folder(path) for path in others} | {state_folder(tmp_path / "elsewhere/deep/three")}
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere/deep/three")
    for unlike in (home / "project", tmp_path / "states/new"):
        unlike.mkdir()
    linked = tmp_path / "states/linked"
    linked.mkdir()
    (linked / "device.key").symlink_to(own / "device.key")
    monkeypatch.setenv("HOME", str(home))
    variables = {**os.environ, "DISPATCH_HOME": str(tmp_path / "link")}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=variables) as other:
        found = all_state_folders(own)
        other.kill()
    assert found[0] == own and len(set(found)) == len(found)
    assert {path for path in found[1:] if path.is_relative_to(tmp_path)} == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_file_of_another_user_hides_nothing(tmp_path: Path) -> None:
    """Seen to fail with the owner not looked at: whoever may write into a folder could have it hidden."""
    own, theirs = state_folder(tmp_path / "own"), state_folder(tmp_path / "theirs")
    os.chown(theirs / "device.key", 65534, 65534)
    assert theirs not in all_state_folders(own)
