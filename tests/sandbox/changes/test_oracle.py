"""Any program of file operations: the change set, put in place by the simplest means, gives the folder that it saw."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from sandbox.changes.values import ChangeSet
from tests.conftest import few
from tests.sandbox.changes.conftest import namespace
from tests.sandbox.changes.worlds import Kind, World

NAMES = ("a", "b", "c/a", "c/b", "c/d/a", "c/d/b", "c/d/e/a", "c", "c/d", "c/d/e")
CONTENTS = ("", "1\n", "2\n", "\0\n")
_PYTHON = (sys.executable, "-I", "-S")
_names = st.sampled_from(NAMES)
_STEP = st.one_of(
    st.tuples(st.just("write"), _names, st.sampled_from(CONTENTS)),
    st.tuples(st.just("append"), _names, st.sampled_from(CONTENTS)),
    st.tuples(st.just("remove"), _names, st.just("")),
    st.tuples(st.just("folder"), _names, st.just("")),
    st.tuples(st.just("link"), _names, st.sampled_from(["a", "../b", "c/d"])),
    st.tuples(st.just("move"), _names, _names),
    st.tuples(st.just("copy"), _names, _names),
    st.tuples(st.just("mode"), _names, st.sampled_from(["755", "644", "0"])),
)
_BEFORE = st.lists(_STEP, max_size=12)
# Hard links in the original are none in a view: writing one name leaves the others. Those that a run makes are.
_STEPS = st.lists(st.one_of(_STEP, st.tuples(st.just("hard"), _names, _names)), max_size=12)

# Runs in the view, or in a plain folder; what fails is as it was.
PROGRAM = """
import json, os, shutil, sys
for what, name, more in json.loads(sys.argv[1]):
    try:
        if what in ("write", "append"):
            with open(name, "a" if what == "append" else "w") as file: file.write(more)
        elif what == "remove":
            shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.remove(name)
        elif what == "folder": os.makedirs(name, exist_ok=True)
        elif what == "link": os.symlink(more, name)
        elif what == "move":
            if os.path.isdir(name) and not os.path.islink(name): shutil.move(name, more)
            else: os.rename(name, more)
        elif what == "copy":
            # Not into itself: what is copied then hangs on the order in which a folder is listed.
            if (more + "/").startswith(name + "/"): continue
            if os.path.isdir(name): shutil.copytree(name, more, symlinks=True)
            else: shutil.copy(name, more)
        elif what == "hard": os.link(name, more, follow_symlinks=False)
        elif what == "mode":
            if not os.path.islink(name) and not os.path.isdir(name): os.chmod(name, int(more, 8))
    except (OSError, shutil.Error, RecursionError): pass
"""

Tree = dict[str, tuple[str, bool, bytes]]


def tree(top: Path) -> Tree:
    """Each path below `top`: (kind, executable by its owner, content or target)."""
    found: Tree = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = Path(folder, name)
            about = path.lstat()
            key = str(path.relative_to(top))
            if stat.S_ISLNK(about.st_mode):
                found[key] = ("link", False, os.fsencode(path.readlink()))
            elif stat.S_ISDIR(about.st_mode):
                found[key] = ("folder", False, b"")
            else:
                if not os.access(path, os.R_OK):
                    path.chmod(about.st_mode | 0o400)
                found[key] = ("file", bool(about.st_mode & 0o100), path.read_bytes())
    return found


def applied(before: Tree, changes: ChangeSet, blobs: Path) -> Tree:
    """Put every entry in place, in the order of the list; each must be possible when its turn comes."""
    after = dict(before)
    for entry in changes.entries:
        path = os.fsdecode(entry.path)
        inside = [other for other in after if other.startswith(f"{path}/")]
        if entry.change == "deleted":
            assert path in after and not inside
            del after[path]
            continue
        if entry.base is not None:
            assert after[path][0] == entry.base.kind
        else:
            assert path not in after
        if entry.renamed_from:
            del after[os.fsdecode(entry.renamed_from)]
        if entry.kind != "folder":
            assert not inside
        for parent in reversed(Path(path).parents):
            if parent.parts:
                assert after.setdefault(str(parent), ("folder", False, b""))[0] == "folder"
        content = entry.target if entry.kind == "link" else b""
        if entry.kind == "file":
            content = (blobs / entry.sha256).read_bytes()
        after[path] = (entry.kind, entry.executable, content)
    return after


def check(kind: Kind, first: list[tuple[str, str, str]], second: list[tuple[str, str, str]]) -> None:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        (folder / "program.py").write_text(PROGRAM)
        root = folder / "project"
        plain = folder / "plain"
        for place in (root, plain):
            (place / "c/d").mkdir(parents=True)
            for name, content in (("a", "1\n"), ("c/a", "2\n"), ("c/d/b", "1\n")):
                (place / name).write_text(content)
        for place in (root, plain):
            program(folder, place, first)
        world = World(folder, root, kind, namespace())
        before = tree(root)  # and what the person could not read, they can
        world.start()
        program(folder, plain, second)
        (folder / "steps").write_text(json.dumps(second))
        world.run(f'{shlex.join(_PYTHON)} {folder}/program.py "$(cat {folder}/steps)"')
        changes = world.read()
        assert not changes.incomplete and tree(root) == before
        assert not any(entry.conflict for entry in changes.entries)
        assert applied(before, changes, world.destination / "blobs") == tree(plain)
        paths = [entry.path for entry in changes.entries]
        assert len(paths) == len(set(paths)) and [entry.number for entry in changes.entries] == [*range(len(paths))]
        assert world.read() == changes
    finally:
        shutil.rmtree(folder)


def program(folder: Path, place: Path, steps: list[tuple[str, str, str]]) -> None:
    subprocess.run([*_PYTHON, folder / "program.py", json.dumps(steps)], cwd=place, check=True)


_EXAMPLES = few(15, suppress_health_check=[HealthCheck.too_slow])


@_EXAMPLES
@given(_BEFORE, _STEPS)
def test_of_an_overlay(first: list[tuple[str, str, str]], second: list[tuple[str, str, str]]) -> None:
    check("overlay", first, second)


@pytest.mark.long
@_EXAMPLES
@given(_BEFORE, _STEPS)
def test_of_a_copy(first: list[tuple[str, str, str]], second: list[tuple[str, str, str]]) -> None:
    check("copy", first, second)
