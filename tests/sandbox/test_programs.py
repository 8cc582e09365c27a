"""Finding programs: in which order, and whose. And a run on a machine that has all of them in /nix/store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sandbox import programs
from tests.conftest import HANG

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="other people's files, and another root folder, need root")


def program(folder: Path, name: str = "no-such-program") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Not below /tmp, which is open to all: sticky, so that nobody else removes what is there."""
    return tmp_path


def test_usr_bin_comes_first_then_path_then_the_system() -> None:
    """Seen to fail with PATH first: AppArmor's profile is for /usr/bin/bwrap alone."""
    assert programs.find("prlimit", "/bin").path == "/usr/bin/prlimit"
    assert programs.find("no-such-program", "/bin") == programs.Search()
    assert programs.search_path("").split(":")[0] == "/usr/local/bin"


def test_path_is_looked_through(place: Path) -> None:
    first, second = program(place / "a"), program(place / "b")
    assert programs.find("no-such-program", f"{place}/none:{place}/a:{place}/b").path == first
    Path(first).chmod(0o644)
    assert programs.find("no-such-program", f"{place}/a:{place}/b").path == second


def test_of_several_the_first_that_fits(place: Path) -> None:
    """Where there is one alone it is not asked: a run's start pays for no further process."""
    old, new = program(place / "old"), program(place / "new")
    (place / "link").symlink_to(place / "old")
    asked: list[str] = []

    def fits(each: str) -> bool:
        asked.append(each)
        return each == new

    def found(*folders: str) -> str:
        asked.clear()
        return programs.find("no-such-program", ":".join(f"{place}/{name}" for name in folders), fits=fits).path

    assert found("old", "link", "new") == new and asked == [old, new]
    assert found("old", "link") == old and asked == []
    older = program(place / "older")
    assert found("older", "old") == older and asked == [older, old]


def test_a_folder_without_a_slash_in_front_is_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with PATH taken as it is: `.` is wherever the daemon was started."""
    program(place / "a")
    monkeypatch.chdir(place)
    assert programs.find("no-such-program", "a:.:").path == ""
    assert str(place) not in programs.search_path("a:.:")


@needs_root
@pytest.mark.parametrize("what", ["file", "folder", "above", "linked", "link between"])
def test_what_somebody_else_could_change_is_passed_over(place: Path, what: str) -> None:
    """Seen to fail with only the file looked at, and with links not followed."""
    theirs = program(place / "above/bin")
    if what.startswith("link"):
        (place / "mine").mkdir()
        linked = program(place / "really")
        between = Path(theirs).parent / "link"
        between.symlink_to(linked)
        (place / "mine/no-such-program").symlink_to(between if what == "link between" else theirs)
        os.chown(Path(theirs).parent, 12345, 12345)
        folder, found = place / "mine", str(place / "mine/no-such-program")
    else:
        changed = {"file": Path(theirs), "folder": Path(theirs).parent, "above": place / "above"}[what]
        os.chown(changed, 12345, 12345)
        folder, found = Path(theirs).parent, theirs
    assert programs.find("no-such-program", str(folder)) == programs.Search("", (found,))
    if what in ("folder", "above"):
        assert str(folder) not in programs.search_path(str(folder))


def test_a_folder_that_is_open_to_all_is_passed_over(place: Path) -> None:
    found = program(place / "open")
    (place / "open").chmod(0o777)
    assert programs.find("no-such-program", f"{place}/open").others == (found,)
    (place / "open").chmod(0o1777)  # sticky, as /tmp: nobody replaces another's file
    assert programs.find("no-such-program", f"{place}/open").path == found


def test_where_root_has_no_number_its_programs_still_count() -> None:
    """As in dp-agent of an ordinary user. Seen to fail with the owner compared with 0 alone."""
    code = "from sandbox import programs; print(programs.find('prlimit').path)"
    words = ["unshare", "--user", "--map-user=1000", "/usr/bin/python3", "-c", code]
    if os.geteuid() == 0:
        words = ["setpriv", "--reuid=65533", "--clear-groups", *words]
    # Where another user can read it, which a checkout need not be.
    with tempfile.TemporaryDirectory(prefix="dispatch-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(ROOT / "sandbox", Path(folder, "sandbox"))
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.stdout.strip() == "/usr/bin/prlimit", done.stderr


_MOVED = """
mount -t tmpfs -o mode=755 new "$1"
cd "$1"
for folder in /*; do
    [ -d "$folder" ] && [ ! -L "$folder" ] && [ "$folder" != /run ] && [ "$folder" != /nix ] || continue
    mkdir ".$folder"
    mount --rbind "$folder" ".$folder"
done
for link in sbin lib lib32 lib64 libx32; do [ ! -L "/$link" ] || ln -s "$(readlink "/$link")" "$link"; done
mkdir -p nix/store/1-tools/bin nix/store/2-system bin run old
mount --bind /usr/bin nix/store/1-tools/bin
mount -t tmpfs -o mode=755 emptied usr/bin
cp "nix/store/1-tools/bin/env" usr/bin/env
ln -s /nix/store/1-tools/bin/bash bin/sh
ln -s /nix/store/1-tools nix/store/2-system/sw
ln -s /nix/store/2-system run/current-system
pivot_root . old
PATH=/run/current-system/sw/bin
umount -l /old
cd "$2"
shift 2
exec "$@"
"""
"""A machine like NixOS, made of this one: another root folder, in which /usr/bin has nothing but env, /bin nothing but
sh, and all programs are in /nix/store, found by /run/current-system/sw/bin. Libraries stay where they were. A fake: no
real NixOS was at hand.
"""


@pytest.mark.long
@needs_root
@pytest.mark.skipif(not Path("/bin").is_symlink(), reason="needs a merged /usr")
def test_a_run_where_all_programs_are_in_the_nix_store(tmp_path: Path) -> None:
    """The canaries, and the claude program's shell. Seen to fail without the store bound, and without its links."""
    new = tmp_path / "new"
    new.mkdir()
    tests = ["tests/sandbox/test_canaries.py::test_a_sound_profile_passes"]
    tests += ["tests/sandbox/test_claude.py::test_claudes_shell_is_nested[False]"]
    suite = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/t", *tests]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _MOVED, "sh", str(new), str(ROOT), *suite],
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=HANG * 4,
        check=False,
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]
