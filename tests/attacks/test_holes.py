"""The suite finds a hole: with one line of the profile, or one mechanism, taken out, attempts that it names succeed."""

from __future__ import annotations

import inspect
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from sandbox.confinement.bubblewrap import shell_launcher, start
from sandbox.confinement.bubblewrap.start import Alter
from tests.attacks.harness import confined
from tests.attacks.inside import ATTACKS, REACHED
from tests.attacks.world import SECRET, World, planted

ROOT = os.geteuid() == 0
Words = list[str]
Patch = Callable[[pytest.MonkeyPatch, World], None]


@dataclass(frozen=True)
class Hole:
    """What is taken out, by bwrap's arguments or a patch, and the attempts that then succeed.

    `behind`: another hole that has to be there as well, since the two stand one behind the other: with that one alone
    the attempts are still refused.
    """

    opens: tuple[str, ...]
    alter: Alter | None = None
    patch: Patch | None = None
    behind: str = ""
    root_only: bool = False


def without(*gone: str) -> Alter:
    """Take one run of words out, which must be there."""

    def alter(words: Words) -> Words:
        for place in range(len(words)):
            if tuple(words[place : place + len(gone)]) == gone:
                return words[:place] + words[place + len(gone) :]
        raise AssertionError(f"{gone} is not among the arguments")

    return alter


def in_turn(*steps: Alter) -> Alter:
    def alter(words: Words) -> Words:
        for step in steps:
            words = step(words)
        return words

    return alter


def replaced(old: tuple[str, ...], new: tuple[str, ...]) -> Alter:
    def alter(words: Words) -> Words:
        for place in range(len(words)):
            if tuple(words[place : place + len(old)]) == old:
                return [*words[:place], *new, *words[place + len(old) :]]
        raise AssertionError(f"{old} is not among the arguments")

    return alter


def no_size(place_inside: str) -> Alter:
    """Lift the bound of the tmpfs mounted there."""

    def alter(words: Words) -> Words:
        at = next(i for i, word in enumerate(words) if word == "--tmpfs" and words[i + 1] == place_inside)
        assert words[at - 2] == "--size"
        return words[: at - 2] + words[at:]

    return alter


def in_the_zone(change: Alter) -> Alter:
    """Only of the sandbox in which shells run."""
    return lambda words: change(words) if "--as-pid-1" in words else words


def filters(*which: int) -> Alter:
    """Take system-call filters out: 0 is the allow-list, 1 refuses arguments, 2 is that of shells."""

    def alter(words: Words) -> Words:
        places = [i for i, word in enumerate(words) if word == "--add-seccomp-fd"]
        gone = {places[number] + more for number in which for more in (0, 1)}
        return [word for i, word in enumerate(words) if i not in gone]

    return alter


def read_only_becomes_writable(words: Words) -> Words:
    return ["--bind-fd" if word == "--ro-bind-fd" else word for word in words]


def home_shown(words: Words) -> Words:
    at = next(i for i, word in enumerate(words) if word == "--remount-ro" and words[i + 1] == "/run")
    return [*words[:at], "--bind", "/var/tmp", "/var/tmp", *words[at:]]


def _popen(change: Callable[[World, dict[str, object]], dict[str, object]]) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
        real = subprocess.Popen
        monkeypatch.setattr(
            subprocess,
            "Popen",
            lambda *words, **given: real(*words, **{**given, **change(world, given)}),
        )

    return patch


def _source(old: str, new: str) -> Patch:
    """Change the text of the launcher that shells pass through."""

    def patch(monkeypatch: pytest.MonkeyPatch, _: World) -> None:
        real = inspect.getsource

        def weakened(module: ModuleType) -> str:
            text = real(module)
            if module is shell_launcher:
                assert old in text
                text = f"{text.replace(old, new)}".replace("def main(", f"{BESIDE_THE_AGENT}\n\ndef main(")
            return text

        monkeypatch.setattr(inspect, "getsource", weakened)

    return patch


BESIDE_THE_AGENT = """
def _beside_the_agent():
    words = sys.argv[1:]
    words = words[1:] if words[0] == "--exec" else ["/bin/bash", "-c", *words]
    os.execvp(words[0], words)
"""
"""What the launcher would be without a zone."""


def _no_limits(monkeypatch: pytest.MonkeyPatch, _: World) -> None:
    monkeypatch.setattr(start, "prlimit_prefix", lambda limits: [])


NO_NAMESPACE_OF_USERS = in_turn(
    without("--unshare-user"), without("--uid", "1000", "--gid", "1000"), without("--disable-userns")
)
HOLES: dict[str, Hole] = {
    "--unshare-user": Hole(("kernel: the user namespace of the machine",), alter=NO_NAMESPACE_OF_USERS, root_only=True),
    "--unshare-ipc": Hole(
        ("kernel: shared memory of the machine listed", "kernel: the ipc namespace of the machine"),
        alter=without("--unshare-ipc"),
    ),
    "--unshare-pid": Hole(
        ("proc: the list of the persons programs", "proc: a signal to another program"),
        alter=lambda words: words if "--as-pid-1" in words else without("--unshare-pid")(words),
    ),
    "--unshare-uts": Hole(
        ("kernel: the name of the machine",), alter=in_turn(without("--unshare-uts"), without("--hostname", "sandbox"))
    ),
    "--unshare-net": Hole(
        ("network: loopback", "network: an abstract socket", "network: a datagram on loopback"),
        alter=without("--unshare-net"),
    ),
    "--unshare-cgroup-try": Hole(
        ("kernel: the cgroup namespace of the machine",), alter=without("--unshare-cgroup-try")
    ),
    "--new-session": Hole(("frames: the session of the supervisor",), alter=without("--new-session")),
    "--cap-drop": Hole(("kernel: capabilities",), alter=without("--cap-drop", "ALL"), behind="--uid", root_only=True),
    "--uid": Hole(("kernel: becoming root",), alter=without("--uid", "1000", "--gid", "1000"), root_only=True),
    "--ro-bind /usr": Hole(
        ("files: a program of the system", "files: the shell of the system overwritten"),
        alter=replaced(("--ro-bind", "/usr", "/usr"), ("--bind", "/usr", "/usr")),
        root_only=True,
    ),
    "--ro-bind /proc/sys": Hole(
        ("proc: core pattern", "proc: modprobe path", "proc: anything else writable in proc"),
        alter=without("--ro-bind", "/proc/sys", "/proc/sys"),
        root_only=True,
    ),
    "--dev": Hole(
        ("kernel: a device of the machine",), alter=replaced(("--dev", "/dev"), ("--dev-bind", "/dev", "/dev"))
    ),
    "--remount-ro /dev": Hole(("files: a file in dev",), alter=without("--remount-ro", "/dev")),
    "--remount-ro /run": Hole(
        ("files: a file in run", "config: the launcher replaced"), alter=without("--remount-ro", "/run")
    ),
    "--remount-ro /": Hole(
        ("files: a new folder at the root", "files: a file in etc", "files: any folder that should not be writable"),
        alter=without("--remount-ro", "/"),
    ),
    "--size /dev/shm": Hole(("exhaustion: all of dev shm",), alter=no_size("/dev/shm")),
    "--size /tmp": Hole(("exhaustion: all of tmp",), alter=no_size("/tmp")),
    "--size home": Hole(("exhaustion: all of the shells home",), alter=in_the_zone(no_size("/run/home/shell"))),
    "--ro-bind-fd": Hole(("files: a folder that is only read",), alter=read_only_becomes_writable),
    "a folder too many": Hole(
        (
            "files: state folder",
            "files: ssh key",
            "files: home of somebody else",
            "files: a link out of the project",
            "files: up from the project",
            "network: a bus by its path",
        ),
        alter=home_shown,
    ),
    "seccomp": Hole(
        (
            "kernel: reading memory by call",
            "kernel: tracing a child",
            "kernel: a process by clone3",
            "kernel: memory made executable when read",
            "kernel: filters replaced by weaker ones",
            "network: netlink",
            "exhaustion: memory as a file",
            "exhaustion: pages given to a pipe",
            "exhaustion: pages of a file kept in a pipe",
            "exhaustion: pages kept in a second pipe",
        ),
        alter=filters(0),
    ),
    "seccomp, arguments": Hole(
        (
            "files: a setuid file",
            "files: a setuid file without a name yet",
            "exhaustion: memory shared without a file",
        ),
        alter=filters(1),
    ),
    "--dev-bind": Hole(("exhaustion: memory behind dev zero",), alter=without("--dev-bind", "/dev/full", "/dev/zero")),
    "--disable-userns": Hole(
        ("kernel: a user namespace by unshare", "kernel: a user namespace by clone"),
        alter=without("--disable-userns"),
        behind="seccomp",
    ),
    "seccomp of shells": Hole(
        (
            "network: a socket planted in the workspace",
            "network: a datagram from one end of a pair",
        ),
        alter=in_the_zone(filters(2)),
    ),
    "shell zone": Hole(
        (
            "network: the model from a shell",
            "frames: words on the output of the agent",
            "frames: a signal to the agent",
            "frames: limits of the agent lowered",
            "proc: memory of the agent",
            "proc: environment of the agent",
            "files: the settings of the agent program",
            "files: truncating a file of the agent",
            "kernel: a domain left by a program in memory",
        ),
        patch=_source("        zone = _started()\n", "        _beside_the_agent()\n"),
    ),
    "rlimits": Hole(
        (
            "exhaustion: memory of one process",
            "exhaustion: memory in many pieces",
            "exhaustion: one large file",
            "exhaustion: the limit DATA lifted",
        ),
        patch=_no_limits,
    ),
    "close_fds": Hole(
        ("proc: inherited descriptors",),
        patch=_popen(lambda world, given: {"pass_fds": [*given["pass_fds"], world.inherited]}),  # type: ignore[misc]
    ),
    "env={}": Hole(
        ("proc: environment of the first process",), patch=_popen(lambda world, given: {"env": {"LEAKED": SECRET}})
    ),
}
if Path("/proc/mtrr").exists():  # other machines have others of these; each is one line of the same list
    HOLES["--ro-bind /proc/mtrr"] = Hole(
        ("proc: anything else writable in proc",),
        alter=without("--ro-bind", "/proc/mtrr", "/proc/mtrr"),
        root_only=True,
    )
NO_WALLS = {
    "--as-pid-1": "the zone's server is the one that reaps",
    "--hostname": "a name",
    "--gid": "with --uid",
    "--symlink": "names of a merged /usr",
    "--ro-bind-try": "shows; what it shows is chosen in ETC",
    "--proc": "shows",
    "--tmpfs": "shows",
    "--perms": "of the sandbox's own folders",
    "--bind-fd": "shows what the edge gives",
    "--file": "shows; the root is read-only",
    "--setenv": "gives",
    "--info-fd": "tells the watch where to look; test_exhaustion.py",
    "--chdir": "begins",
    "--clearenv": "a second wall behind env={}, which is shown above",
    "--die-with-parent": "test_scenarios.py",
    "--add-seccomp-fd": "seccomp, above",
    "--size": "above, by place",
    "--remount-ro": "above, by place",
    "--ro-bind": "above, by place",
}
"""Arguments of bwrap that are not taken out here, and why."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with planted() as made:
        yield made


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, hole in HOLES.items() if ROOT or not hole.root_only])
async def test_a_hole_is_found(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    hole = HOLES[name]
    assert set(hole.opens) <= set(ATTACKS), set(hole.opens) - set(ATTACKS)
    opens = [one for one in hole.opens if ROOT or not ATTACKS[one].root_only or "file in" in one]
    if hole.patch is not None:
        hole.patch(monkeypatch, world)
    alter = hole.alter
    if hole.behind and alter is not None:
        front = HOLES[hole.behind].alter
        assert front is not None
        assert reached(await confined(world, opens, alter=front)) == set(), "the wall behind stands"
        alter = in_turn(front, alter)
    found = reached(await confined(world, opens, alter=alter))
    assert found == set(opens), set(opens) - found


def reached(outcomes: dict[str, dict[str, tuple[str, str]]]) -> set[str]:
    return {name for made in outcomes.values() for name, (outcome, _) in made.items() if outcome == REACHED}


async def test_every_argument_is_accounted_for(world: World) -> None:
    """A line added to the profile is taken out here too, or it is said why not."""
    seen: set[str] = set()

    def look(words: Words) -> Words:
        seen.update(word for word in words if word.startswith("--"))
        return words

    await confined(world, ["files: state folder"], alter=look)
    assert seen == {name for name in HOLES if name in seen} | NO_WALLS.keys()
