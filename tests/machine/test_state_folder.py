"""Who can reach the state folder: what every program refuses to use, and what repairs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from peer.machine.state_folder import PRIVATE_FOLDERS, SECRETS, StateFolder
from peer.protocol.errors import Forbidden, Invalid

OTHER_UID = 65534


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """A whole state folder, as one that was in use is."""
    state = StateFolder(tmp_path / "parent" / "state")
    state.create()
    for name in SECRETS:
        state.write_private(state.path / name, b"{}")
    for name in PRIVATE_FOLDERS:
        (state.path / name).mkdir(mode=0o700)
    (state.path / "notes of mine.txt").write_text("of the person's own, with the usual mode")
    return state


def located(folder: StateFolder) -> StateFolder:
    return StateFolder.locate({"DISPATCH_HOME": str(folder.path)})


def test_what_is_private_is_used(folder: StateFolder, tmp_path: Path) -> None:
    assert located(folder).path == folder.path
    assert StateFolder.locate({"DISPATCH_HOME": str(tmp_path / "not yet")}).problems() == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o705, 0o1777])
@pytest.mark.parametrize("name", ["", "store.db", "store.db-wal", "config.json", "device.key", "blobs", "runs"])
def test_what_others_reach_is_refused_until_doctor_repairs_it(folder: StateFolder, name: str, mode: int) -> None:
    path = folder.path / name if name else folder.path
    path.chmod(mode)
    with pytest.raises(Forbidden, match=f"{path} can be reached by others") as caught:
        located(folder)
    assert caught.value.fix == "run `dispatch doctor --fix`"
    unchecked = StateFolder.locate({"DISPATCH_HOME": str(folder.path)}, unchecked=True)
    assert unchecked.repair() == [path]
    located(folder)


@pytest.mark.root
@pytest.mark.parametrize("name", ["", "store.db", "config.json", "blobs", "store.db-journal", "index.db"])
def test_what_another_user_put_there_is_refused(folder: StateFolder, name: str) -> None:
    """Also an entry that no list names: another user can have put anything there while the folder was open."""
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    path = folder.path / name if name else folder.path
    if not path.exists():
        path.write_bytes(b"")
    os.chown(path, OTHER_UID, OTHER_UID)
    with pytest.raises(Forbidden, match=f"{path} belongs to another user") as caught:
        located(folder)
    assert "chown" in caught.value.fix and folder.repair() == []


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("config.json")])
def test_what_is_of_another_kind_is_refused(folder: StateFolder, make: Callable[[Path], None]) -> None:
    folder.store.unlink()
    make(folder.store)
    with pytest.raises(Forbidden, match=f"{folder.store} is (not a file|a symbolic link)"):
        located(folder)
    assert folder.repair() == []


@pytest.mark.parametrize(
    ("env", "error", "said"),
    [
        ({"DISPATCH_HOME": "HERE/circle"}, Forbidden, "is a symbolic link"),
        ({"HOME": "HERE"}, Forbidden, "is a symbolic link"),
        ({"DISPATCH_HOME": "~nobody-of-that-name/x"}, Invalid, "DISPATCH_HOME is '~nobody-of-that-name/x'"),
        ({"HOME": "relative"}, Invalid, "HOME is 'relative'"),
    ],
)
def test_a_folder_that_cannot_be_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], error: type[Exception], said: str
) -> None:
    """Links in a circle and a user who is not known were seen as a bug of dispatch, a relative home as a folder."""
    for name in ("circle", ".dispatch"):
        (tmp_path / name).symlink_to(name)
    env = {name: value.replace("HERE", str(tmp_path)) for name, value in env.items()}
    monkeypatch.setenv("HOME", env.get("HOME", str(tmp_path)))
    with pytest.raises(error, match=said):
        StateFolder.locate(env)


def test_a_parent_that_others_can_change_is_refused_and_never_repaired(folder: StateFolder) -> None:
    """Whoever can rename the folder can put one of their own there."""
    parent = folder.path.parent
    parent.chmod(0o777)
    with pytest.raises(Forbidden, match=f"{parent} can be changed by others") as caught:
        located(folder)
    assert f"chmod o-w {parent}" in caught.value.fix
    assert folder.repair() == [] and parent.stat().st_mode & 0o777 == 0o777
    parent.chmod(0o1777)  # as /tmp: others cannot rename what is not theirs
    located(folder)


def test_a_folder_behind_a_link_is_looked_at_where_it_is(folder: StateFolder, tmp_path: Path) -> None:
    link = StateFolder(tmp_path / "link")
    link.path.symlink_to(folder.path)
    located(link)
    folder.path.chmod(0o755)
    with pytest.raises(Forbidden, match="can be reached by others"):
        located(link)
    assert link.repair() == [link.path] and folder.path.stat().st_mode & 0o777 == 0o700
