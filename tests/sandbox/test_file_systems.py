"""Views on other real file systems: btrfs and xfs, made in a file for a test, and FUSE.

test_views.py has them on the disk of the tests' own machine; what of it is made again here is imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.confinement import Limits
from sandbox.views.foretold import left_out
from sandbox.views.making import make_views
from tests.mounting import disk, fuse, program
from tests.sandbox.conftest import NO_OVERLAY, Person, make_person, seen, viewed
from tests.sandbox.test_views import (
    KINDS,
    carry_out,
    inside,
    make_project,
    project,
    test_a_manifest_says_what_was_copied,
    test_a_project_that_empties_itself,
    test_a_view_shows_what_is_there,
    test_everything_is_done_in_a_view,
    test_git_commits_in_a_view,
    test_no_program_changes_an_original,
    test_records_say_what_was_viewed,
    test_two_runs_in_one_project_do_not_see_each_other,
    test_what_is_left_of_a_view_can_be_removed,
)
from tests.sandbox.trees import tree

pytestmark = pytest.mark.root

__all__ = [
    "project",
    "test_a_manifest_says_what_was_copied",
    "test_a_project_that_empties_itself",
    "test_a_view_shows_what_is_there",
    "test_everything_is_done_in_a_view",
    "test_git_commits_in_a_view",
    "test_no_program_changes_an_original",
    "test_records_say_what_was_viewed",
    "test_two_runs_in_one_project_do_not_see_each_other",
    "test_what_is_left_of_a_view_can_be_removed",
]


@pytest.fixture(params=["btrfs", "xfs"])
def person(request: pytest.FixtureRequest) -> Iterator[Person]:
    """All of whose folders lie on such a disk."""
    with disk(request.param) as folder, contextlib.ExitStack() as views:
        yield make_person(folder, views)


# -- contents that two files share ------------------------------------------------------------------------------------


def extents(file: Path) -> list[tuple[str, bool]]:
    """Where on the disk the content lies, and whether another file shares it."""
    said = subprocess.run([program("filefrag"), "-sv", str(file)], check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^ +\d+: +\d+\.\. +\d+: +(\d+\.\. +\d+):(.*)$", said, re.MULTILINE)
    return [(where, "shared" in flags) for where, flags in found]


def test_a_copy_shares_contents_with_the_original(person: Person) -> None:
    """Seen to fail with the contents copied."""
    large = person.project / "large"
    large.write_bytes(os.urandom(1 << 20) * 8)
    content = large.read_bytes()
    views = make_views(person.plain.roots, person.workspace.parent, no_overlay="a test", limits=Limits())
    assert views.roots[0].view is not None
    copied = views.roots[0].view.seen / "large"
    assert extents(copied) == extents(large)
    assert {shared for _, shared in extents(copied)} == {True}
    with copied.open("r+b") as file:
        file.write(b"changed")
    assert copied.read_bytes() == b"changed" + content[7:]
    assert large.read_bytes() == content


@pytest.mark.parametrize("person", ["btrfs"], indirect=True)
@pytest.mark.parametrize("no_overlay", KINDS)
async def test_a_subvolume_is_a_folder_to_a_run(person: Person, no_overlay: str) -> None:
    """It has a device number of its own, and is not among the mounts."""
    inner = person.project / "inner"
    subprocess.run(["btrfs", "subvolume", "create", str(inner)], check=True, capture_output=True)
    (inner / "mine").write_text("mine\n")
    assert inner.stat().st_dev != person.project.stat().st_dev
    before = tree(person.project)
    with viewed(person.plain, no_overlay=no_overlay) as profile:
        script = "cat inner/mine; echo x >> inner/mine; mv inner/mine .; rm -r inner; mkdir inner; cat mine"
        assert await inside(profile, script) == "mine\nmine\nx\n"
        assert (seen(profile).parent / "upper").exists() == (not no_overlay)
    assert tree(person.project) == before


# -- FUSE -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_fuse() -> Iterator[Person]:
    """A person whose project lies behind a program."""
    with (
        tempfile.TemporaryDirectory(prefix="dispatch-test-", dir="/var/tmp") as folder,
        contextlib.ExitStack() as views,
    ):
        base = Path(folder).resolve()
        made = make_person(base / "person", views)
        (base / "behind").mkdir()
        make_project(base / "behind")
        (made.project / "code.py").unlink()  # nothing is mounted over what is there
        with fuse(base / "behind", made.project):
            yield made


async def test_fuse_is_copied(on_fuse: Person) -> None:
    """Seen to fail with FUSE among the file systems that get an overlay."""
    before = tree(on_fuse.project)
    views = make_views(on_fuse.plain.roots, on_fuse.workspace.parent, no_overlay=NO_OVERLAY, limits=Limits())
    assert views.records[0].kind == "copy"
    assert views.copied == ["view 1 is a copy: it is on a file system that is not this machine's own"]
    with viewed(on_fuse.plain) as profile:
        assert tree(seen(profile)).keys() == before.keys() - {b"pipe"}
        assert (
            await carry_out(profile, [("write", "a"), ("clear", "sub"), ("rename", "b", "new"), ("map", "secret")]) == 4
        )
        assert (seen(profile) / "a").read_text() == "written"
    assert tree(on_fuse.project) == before


def test_what_a_copy_of_fuse_leaves_out_is_told_before(on_fuse: Person) -> None:
    why = "it is on a file system that is not this machine's own"
    told = left_out(on_fuse.project, on_fuse.state, no_overlay=NO_OVERLAY)
    part = "pipe (neither a file, a folder nor a link)"
    assert told == [f"not all of the folder is there, because it is copied ({why}): {part}"]
    assert left_out(on_fuse.base.parent / "behind", on_fuse.state, no_overlay=NO_OVERLAY) == []
    views = make_views(on_fuse.plain.roots, on_fuse.workspace.parent, no_overlay=NO_OVERLAY, limits=Limits())
    assert [line.rpartition("/")[2] for line in views.skipped] == ["pipe: neither a file, a folder nor a link"]
