"""Views by real overlays, real copies and real runs: whatever a run does, the originals stay as they are."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from peer.runs.removal import Pass
from sandbox.confinement import Limits, Profile, Root
from sandbox.confinement.bubblewrap import python, spawn
from sandbox.errors import SandboxError
from sandbox.views import copy as copies
from sandbox.views import manifest, namespace, overlay
from sandbox.views.making import Views, make_views
from sandbox.views.overlay import NoOverlayError
from sandbox.views.record import ViewRecords
from tests.conftest import few
from tests.sandbox.conftest import NO_OVERLAY, Person, finish, run, seen, viewed
from tests.sandbox.trees import tree

ROOT = os.geteuid() == 0
KINDS = [pytest.param(NO_OVERLAY, id="overlay"), pytest.param("a test", id="copy")]
HOSTILE = [b"line\nbreak", b"\xff\xfe", b"n" * 255, b"space ", b"-rf", b"a:b,c\\d", "é\u202e".encode(), b".wh.a"]


def make_project(project: Path) -> None:
    """Something of everything that a project may hold."""
    for folder in ("sub/deep", "empty", "closed"):
        (project / folder).mkdir(parents=True)
    for name in ("a", "b", "sub/c", "sub/deep/d"):
        (project / name).write_text(f"{name}\n" * 100)
    for raw in HOSTILE:
        Path(os.fsdecode(bytes(project) + b"/" + raw)).write_bytes(raw)
    (project / "run").write_text("#!/bin/sh\n")
    (project / "run").chmod(0o4755)
    (project / "secret").write_text("mine")
    (project / "secret").chmod(0o600)
    os.link(project / "a", project / "hard")
    (project / "in").symlink_to("sub/c")
    (project / "out").symlink_to("/etc/passwd")
    (project / "nowhere").symlink_to("missing")
    os.mkfifo(project / "pipe")
    os.setxattr(project / "b", "user.mine", b"1")
    (project / "closed").chmod(0o500)


def remove(folder: Path) -> None:
    """All that lies in the folder, as the node removes what a run leaves."""
    while (one := Pass(folder)).advance(100_000) or one.removed:
        pass


@pytest.fixture
def project(person: Person) -> Path:
    make_project(person.project)
    return person.project


async def inside(profile: Profile, script: str) -> str:
    """Run a script in the project; what it printed."""
    done = await run(profile, ["/bin/bash", "-c", f"cd {profile.roots[0].inside} && {{ {script}\n}}"])
    assert done.code == 0, done
    return done.out


def test_overlays_can_be_had_here() -> None:
    """Else what is shown of them below would be shown of copies."""
    assert NO_OVERLAY == ""


@pytest.mark.parametrize("no_overlay", KINDS)
async def test_a_view_shows_what_is_there(person: Person, project: Path, no_overlay: str) -> None:
    with viewed(person.plain, no_overlay=no_overlay) as profile:
        there = tree(seen(profile))
    assert there.keys() == tree(project).keys() - ({b"pipe"} if no_overlay else set())
    for path, (mode, *_, content, _attributes) in tree(project).items():
        if path in there and path != b".":
            assert there[path][-2] == content, path
            assert int(str(there[path][0])) == int(str(mode)) & (~0o7000 if no_overlay else ~0), path


# -- what a run may do to its view ----------------------------------------------------------------------------------

PATHS = st.sampled_from(
    [
        *("a", "b", "hard", "in", "out", "nowhere", "pipe", "run", "secret", "new", "new/x", "empty", "closed"),
        *("closed/x", "sub", "sub/c", "sub/new", "sub/deep", "sub/deep/d", ".git", "."),
        *(os.fsdecode(name) for name in HOSTILE),
    ]
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["write", "append", "truncate", "unlink", "rmdir", "mkdir", "fifo", "map"]), PATHS),
    st.tuples(st.sampled_from(["utime", "xattr", "clear", "chmod 0", "chmod 777", "chmod 4755"]), PATHS),
    st.tuples(st.sampled_from(["rename", "exchange", "link", "symlink"]), PATHS, PATHS),
)
PROGRAM = """
import ctypes, json, mmap, os, shutil, sys
library = ctypes.CDLL(None, use_errno=True)
def put(path, flags):  # a pipe without a reader is an error, and does not wait
    made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | flags)
    os.write(made, b"written")
    os.close(made)
def write(path): put(path, os.O_TRUNC)
def append(path): put(path, os.O_APPEND)
def truncate(path): os.truncate(path, 1)
def fifo(path): os.mkfifo(path)
def utime(path): os.utime(path, (1, 1), follow_symlinks=False)
def xattr(path): os.setxattr(path, "user.theirs", b"1", follow_symlinks=False)
def clear(path):  # rmtree opens what is no folder too, and would wait for a pipe's other end
    os.path.isdir(path) and shutil.rmtree(path)
def exchange(one, other):
    if library.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2): raise OSError
def link(one, other): os.link(one, other, follow_symlinks=False)
def map(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped: mapped[0] = 90
for mode in (0, 0o777, 0o4755):
    globals()["chmod %o" % mode] = lambda path, mode=mode: os.chmod(path, mode)
unlink, rmdir, mkdir, rename, symlink = os.unlink, os.rmdir, os.mkdir, os.rename, os.symlink
done = 0
for name, *paths in json.load(sys.stdin):
    try:
        globals()[name](*paths)
        done += 1
    except (OSError, ValueError):
        pass
print(done)
"""


async def carry_out(profile: Profile, steps: Sequence[tuple[str, ...]]) -> int:
    where = replace(profile, cwd=profile.roots[0].inside)
    process = await spawn(where, [python(), "-ISBc", PROGRAM], where.environment())
    assert process.stdin is not None
    # A run opens what it makes: a pipe would wait, so nothing opens one but for both directions.
    await process.stdin.send_all(
        json.dumps([step for step in steps if "pipe" not in step or step[0] != "write"]).encode()
    )
    await process.stdin.aclose()
    done = await finish(process)
    assert done.code == 0, done
    return int(done.out)


@contextmanager
def a_machine(folder: Path) -> Iterator[Profile]:
    """A project and a run's folder of their own, for one example."""
    project, workspace = folder / "project", folder / "state/runs/1/workspace"
    workspace.mkdir(parents=True)
    project.mkdir()
    make_project(project)
    try:
        yield Profile(
            workspace=workspace, roots=(Root(project, True, Path("/project")),), protected=(folder / "state",)
        )
    finally:
        remove(folder)
        folder.rmdir()


@pytest.mark.parametrize("no_overlay", KINDS)
@given(steps=st.lists(STEPS, max_size=30))
@few(8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_program_changes_an_original(person: Person, no_overlay: str, steps: list[tuple[str, ...]]) -> None:
    """Seen to fail with the original bound in place of the view."""
    with a_machine(person.base / "example") as plain:
        before = tree(plain.roots[0].path)
        with viewed(plain, no_overlay=no_overlay) as profile:
            trio.run(lambda: carry_out(profile, steps))
        assert tree(plain.roots[0].path) == before


@pytest.mark.parametrize("no_overlay", KINDS)
async def test_everything_is_done_in_a_view(person: Person, project: Path, no_overlay: str) -> None:
    """The same program does much: what shows nothing above would pass too."""
    steps: list[tuple[str, ...]] = [
        ("write", "a"),
        ("append", "b"),
        ("unlink", "hard"),
        ("clear", "sub"),
        ("mkdir", "sub"),
        ("fifo", "p2"),
    ]
    steps += [
        ("symlink", "a", "l"),
        ("link", "b", "b2"),
        ("rename", "in", "x"),
        ("chmod 777", "run"),
        ("map", "secret"),
    ]
    before = tree(project)
    with viewed(person.plain, no_overlay=no_overlay) as profile:
        assert await carry_out(profile, steps) == len(steps)
        assert tree(seen(profile)) != before
    assert tree(project) == before


@pytest.mark.parametrize("no_overlay", KINDS)
async def test_a_project_that_empties_itself(person: Person, project: Path, no_overlay: str) -> None:
    before = tree(project)
    with viewed(person.plain, no_overlay=no_overlay) as profile:
        await inside(profile, "chmod 700 closed; find . -mindepth 1 -delete; mkdir a; echo x > a/x; ls -A")
        assert {path.name for path in seen(profile).iterdir()} == {"a"}
    assert tree(project) == before


@pytest.mark.parametrize("no_overlay", KINDS)
async def test_git_commits_in_a_view(person: Person, no_overlay: str) -> None:
    git = "git -c user.name=a -c user.email=a@example.org"
    subprocess.run(["/bin/sh", "-ec", f"cd {person.project}; git init -q; git add .; {git} commit -qm 1"], check=True)
    before = tree(person.project)
    with viewed(person.plain, no_overlay=no_overlay) as profile:
        script = f"git status --short; echo x >> code.py; git mv code.py c.py; {git} commit -qam 2; git gc -q; git log"
        assert (await inside(profile, script)).count("commit ") == 2
    assert tree(person.project) == before


@pytest.mark.parametrize("no_overlay", KINDS)
async def test_two_runs_in_one_project_do_not_see_each_other(person: Person, project: Path, no_overlay: str) -> None:
    with viewed(person.plain, no_overlay=no_overlay) as one, viewed(person.plain, no_overlay=no_overlay) as other:
        await inside(one, "echo one > both; rm a")
        assert await inside(other, "ls both 2>/dev/null; echo other > both; cat a | head -1") == "a\n"
        assert await inside(one, "cat both; ls a 2>/dev/null || true") == "one\n"
    assert not (project / "both").exists()


async def test_what_a_view_is_made_of_cannot_be_seen(person: Person, project: Path) -> None:
    with viewed(person.plain) as profile:
        folder = seen(profile).parent
        assert {"upper", "work", "merged"} <= {path.name for path in folder.iterdir()}
        said = await inside(profile, f"ls -d {folder} {person.state} 2>/dev/null; grep overlay /proc/self/mountinfo")
    assert len(said.splitlines()) == 1 and str(folder) not in said and "runs" not in said


# -- how views are made -----------------------------------------------------------------------------------------------


def make(person: Person, *, no_overlay: str = NO_OVERLAY, roots: tuple[Root, ...] | None = None) -> Views:
    folder = person.workspace.parent
    return make_views(roots or person.plain.roots, folder, no_overlay=no_overlay, limits=Limits(room=0))


def test_names_of_folders_do_not_matter(person: Person) -> None:
    """Seen to fail with the folder given to mount by its name."""
    for number, name in enumerate(("a:b", "a,b", "a\\b", "a\nb", "a\\072b", ",lowerdir=")):
        odd = person.base / name
        odd.mkdir()
        (odd / "mine").write_text(name)
        (person.base / str(number)).mkdir()
        views = make_views((Root(odd, True),), person.base / str(number), no_overlay=NO_OVERLAY, limits=Limits())
        (root,) = views.roots
        assert root.view is not None and (root.view.seen / "mine").read_text() == name
        assert views.records[0].kind == "overlay"
        views.close()
        assert not list(root.view.seen.iterdir())


def test_records_say_what_was_viewed(person: Person) -> None:
    file = person.base / "home/letter.txt"
    file.write_text("dear")
    views = make(person, roots=(*person.plain.roots, Root(file, True, Path("/folders/1"))))
    folder = person.workspace.parent / "views"
    written = msgspec.json.decode((folder / "views.json").read_bytes(), type=ViewRecords).views
    assert tuple(written) == views.records
    assert [(one.number, one.root, one.kind) for one in written] == [
        (1, str(person.project), "overlay"),
        (2, str(file), "copy"),
    ]
    about = person.project.stat()
    assert (written[0].device, written[0].inode) == (about.st_dev, about.st_ino)
    assert about.st_ctime_ns <= written[0].made_ns
    (person.project / "later").touch()
    assert (person.project / "later").stat().st_ctime_ns >= written[0].made_ns
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((folder / "1").stat().st_mode) == 0o700
    assert (folder / "2/copy").read_text() == "dear"
    views.close()


def test_an_overlay_that_writes_below_is_noticed(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial: here what is mounted is the original itself. Seen to fail without the trial."""
    before = tree(person.project)

    def bind(lower: int, folder: Path) -> None:
        source = Path(f"/proc/self/fd/{lower}").readlink()
        subprocess.run(["mount", "--bind", str(source), str(folder / "merged")], check=True)

    if not ROOT:
        return  # mount(8) wants root's number
    with monkeypatch.context() as patched:
        patched.setattr(overlay, "_mount", bind)
        views = make(person)
    assert views.records[0].kind == "copy" and "not" in views.copied[0]
    assert {path: about[:-3] for path, about in tree(person.project).items()} == {
        path: about[:-3] for path, about in before.items()
    }


@pytest.mark.parametrize("top", ["nothing", "all"])
def test_the_trial_looks_at_both_sides(person: Person, monkeypatch: pytest.MonkeyPatch, top: str) -> None:
    """What is made has to be in the top, and not below. Seen to fail without either."""
    if not ROOT:
        return
    folder, elsewhere = person.base / "trial", person.base / "elsewhere"
    for made in (elsewhere, folder, folder / "merged", folder / "upper"):
        made.mkdir()
    bound = {"merged": elsewhere} if top == "nothing" else {"merged": person.project, "upper": person.project}
    monkeypatch.setattr(overlay, "_file_system", lambda _: overlay._OVERLAYFS)
    lower = os.open(person.project, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name, source in bound.items():
            subprocess.run(["mount", "--bind", str(source), str(folder / name)], check=True)
        with pytest.raises(OSError, match="what is made in it does not stay in the view"):
            overlay._try(lower, folder)
    finally:
        for name in bound:
            subprocess.run(["umount", str(folder / name)], check=False)
        os.close(lower)


@pytest.mark.parametrize("layer", ["a mount inside", "a file system of memory below", "an overlay below"])
def test_what_overlays_are_made_of(person: Person, layer: str) -> None:
    if not ROOT:
        return  # only root mounts
    where = person.project / "inner" if layer == "a mount inside" else person.project
    where.mkdir(exist_ok=True)
    made = make_views((Root(person.reading, True),), person.base, no_overlay=NO_OVERLAY, limits=Limits())
    assert made.roots[0].view is not None
    source = made.roots[0].view.seen
    words = ["--bind", str(source)] if layer == "an overlay below" else ["-t", "tmpfs", "none"]
    subprocess.run(["mount", *words, str(where)], check=True)
    try:
        (where / "below").write_text("x")
        views = make(person)
        (root, _) = views.roots
        assert views.records[0].kind == ("overlay" if "memory" in layer else "copy")
        relative = (where / "below").relative_to(person.project)
        assert root.view is not None and (root.view.seen / relative).read_text() == "x"
        views.close()
    finally:
        subprocess.run(["umount", str(where)], check=True)
        made.close()


def test_a_view_that_cannot_be_made_leaves_nothing_mounted(person: Person) -> None:
    roots = (Root(person.project, True), Root(person.base / "missing", True))
    with pytest.raises(SandboxError) as refused:
        make(person, roots=roots)
    assert refused.value.code == 422
    assert not list((person.workspace.parent / "views/1/merged").iterdir())
    assert not (person.workspace.parent / "views/views.json").exists()


async def test_what_is_left_of_a_view_can_be_removed(person: Person, project: Path) -> None:
    """Deletion marks, a folder of the kernel's that is closed, and one that the run closed."""
    views = make(person)
    profile = replace(person.plain, roots=views.roots)
    await inside(profile, "rm -r a sub; mkdir sub; mkdir -p x/y; chmod 0 x; chmod 500 .")
    views.close()
    folder = person.workspace.parent / "views"
    remove(folder)
    assert not list(folder.iterdir())


# -- copies -----------------------------------------------------------------------------------------------------------


def manifest_of(person: Person) -> dict[bytes, manifest.Copied]:
    return {one.path: one for one in manifest.read(person.workspace.parent / "views/1/manifest")}


def test_a_manifest_says_what_was_copied(person: Person, project: Path) -> None:
    views = make(person, no_overlay="a test")
    noted = manifest_of(person)
    copy = person.workspace.parent / "views/1/copy"
    assert {path or b"." for path, one in noted.items() if not one.skipped} == tree(copy).keys()
    assert {path or b"." for path in noted} == tree(project).keys()
    for path, one in noted.items():
        original = os.lstat(bytes(project) + b"/" + path)
        assert one.same_original(original) and one.mode == stat.S_IMODE(original.st_mode)
        if one.kind in ("file", "link"):
            assert one.same_copy(os.lstat(bytes(copy) + b"/" + path))
    assert noted[b"pipe"].kind == "other" and noted[b"pipe"].skipped
    assert noted[b"out"].target == b"/etc/passwd" and (copy / "out").is_symlink()
    assert stat.S_IMODE((copy / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((copy / "closed").stat().st_mode) == 0o500
    assert views.records[0].skipped == [f"{project.name}/pipe: neither a file, a folder nor a link"]


def test_a_copy_is_bounded(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        (person.project / f"f{number}").write_bytes(bytes(1000))
    monkeypatch.setattr(copies.Allowance, "__init__", _small)
    views = make(person, no_overlay="a test")
    noted = manifest_of(person)
    copy = person.workspace.parent / "views/1/copy"
    assert len(noted) <= 9 and sum(path.stat().st_size for path in copy.iterdir()) <= 3_500
    assert any("too many files" in line for line in views.skipped)
    assert any("too large" in line for line in views.skipped)
    assert {one.path for one in noted.values() if not one.skipped and one.path} == {
        os.fsencode(path.name) for path in copy.iterdir()
    }


def _small(self: copies.Allowance, reserve: int) -> None:
    self.reserve, self.entries, self.bytes = reserve, 8, 3_500


def test_a_copy_leaves_room_on_the_disk(person: Person) -> None:
    about = os.statvfs(person.base)
    allowance = copies.Allowance(reserve=about.f_bavail * about.f_frsize + 1_000_000_000)
    original = os.open(person.project, os.O_PATH)
    copy, skipped = copies.copy(original, person.base, "project", allowance)
    os.close(original)
    assert skipped == ["project/code.py: the disk has not enough room for a copy"]
    assert list(copy.iterdir()) == []


def test_a_copy_of_what_is_nested_without_end(person: Person) -> None:
    at = os.open(person.project, os.O_RDONLY)
    for _ in range(1_000):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    views = make(person, no_overlay="a test")
    assert any("nested too deeply" in line for line in views.skipped)
    assert manifest_of(person)[b"/".join([b"d"] * copies.MAX_DEPTH)].skipped
    remove(person.project)


def test_what_cannot_be_read_is_skipped_and_said(person: Person) -> None:
    if ROOT:
        return  # nothing is closed to root: test_ordinary_user.py runs this
    (person.project / "shut").mkdir(mode=0)
    (person.project / "no").touch(mode=0)
    skipped = make(person, no_overlay="a test").skipped
    assert {line.split(": ")[1] for line in skipped} == {"Permission denied"}
    noted = manifest_of(person)
    assert noted[b"shut"].skipped and noted[b"no"].skipped and not noted[b"code.py"].skipped
    (person.project / "shut").chmod(0o700)


# -- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_copied_up_file_is_within_the_runs_bounds(person: Person) -> None:
    """`chmod` of a large file copies it whole: no further than a file of the run may grow, nor beyond its disk."""
    (person.project / "large").write_bytes(os.urandom(1 << 20) * 64)
    with viewed(replace(person.plain, limits=Limits(file_size=1 << 20))) as profile:
        done = await run(profile, ["/bin/chmod", "777", f"{person.project}/large"])
        assert done.code != 0
        assert sum(path.stat().st_size for path in (seen(profile).parent / "upper").iterdir()) <= 1 << 20
    with viewed(replace(person.plain, limits=Limits(disk=8 << 20))) as profile:
        words = ["/bin/sh", "-c", f"chmod 777 {person.project}/large; sleep 1000"]
        process = await spawn(profile, words, profile.environment())
        assert (await finish(process)).code != 0
        excess = await process.excess()
        assert excess is not None and excess.what in ("disk", "room")


@pytest.mark.parametrize("no_overlay", KINDS)
async def test_what_a_view_holds_counts_as_the_runs_own(person: Person, no_overlay: str) -> None:
    """Seen to fail with the view's folder not among those that are watched."""
    make = f"import time\nfor n in range(8_000): open(f'{person.project}/f{{n}}', 'w').close()\ntime.sleep(1000)"
    with viewed(replace(person.plain, limits=Limits(files=5_000)), no_overlay=no_overlay) as profile:
        process = await spawn(profile, [python(), "-ISBc", make], profile.environment())
        assert (await finish(process)).code != 0
        excess = await process.excess()
    assert excess is not None and excess.what in ("files", "inodes")  # the second counts what others make, too


# -- the namespace ----------------------------------------------------------------------------------------------------


def test_a_refused_namespace_is_a_reason_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail without the child that tries first: an ordinary user cannot go back."""
    entered = []

    def refused() -> None:
        entered.append(os.getpid())
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(namespace, "_enter", refused)
    assert "Permission denied" in namespace.enter()
    assert entered == []


def test_an_ordinary_users_process_may_open_no_more_than_before(person: Person) -> None:
    """Seen to fail with the capabilities of its namespace left in force."""

    def effective() -> str:
        return Path("/proc/thread-self/status").read_text().partition("CapEff:\t")[2][:16]

    before = effective()
    assert ROOT or int(before, 16) == 0
    views = make(person)
    assert views.records[0].kind == "overlay"
    views.close()
    assert effective() == before


_SHARED = """
import os, sys
from pathlib import Path
from sandbox.confinement import Limits, Root
from sandbox.views import namespace
from sandbox.views.making import make_views
project, folder = map(Path, sys.argv[1:])
reading, writing = os.pipe()
if os.fork() == 0:
    views = make_views((Root(project, True),), folder, no_overlay=namespace.enter(), limits=Limits())
    os.write(writing, f"{views.records[0].kind} {os.listdir(folder / 'views/1/merged')}".encode())
    os._exit(0)
os.wait()
print(os.read(reading, 1000).decode(), os.listdir(folder / "views/1/merged"))
"""


def test_nothing_that_is_mounted_there_is_seen_elsewhere(person: Person) -> None:
    """Where mounts are shared, as on most machines. Seen to fail with the namespace's own left so."""
    if not ROOT:
        return  # only root shares mounts
    words = ["unshare", "--mount", "--propagation", "shared", sys.executable, "-c", _SHARED]
    done = subprocess.run(
        [*words, str(person.project), str(person.workspace.parent)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "overlay ['code.py'] []\n"


def test_a_machine_that_refuses_makes_copies(person: Person) -> None:
    with pytest.raises(NoOverlayError):
        overlay.mount(os.open("/proc", os.O_PATH), person.base / "nowhere")
