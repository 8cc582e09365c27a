"""Looking at machines: this one, and ones that are simulated by namespaces, a filter and covered folders of /proc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.confinement import machine
from sandbox.confinement.machine import facts
from sandbox.confinement.machine.causes import TESTED_KERNELS
from tests.conftest import HANG

ROOT = Path(__file__).resolve().parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="making another machine of this one needs root")


def cause(*inside: str) -> dict[str, object] | None:
    """What `dp-agent --machine` says in the surroundings that the command `inside` makes."""
    words = [*inside, sys.executable, "-B", "-m", "sandbox.agent", "--machine"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.stdout, done.stderr
    found: dict[str, object] | None = json.loads(done.stdout)["cause"]
    assert done.returncode == (0 if found is None else 1)
    return found


def test_this_machine_confines_runs() -> None:
    assert cause() is None


@pytest.mark.parametrize(
    ("release", "version", "wsl", "tested"),
    [
        ("6.8.0-45-generic", (6, 8), 0, True),
        ("6.12.117+deb13-amd64", (6, 12), 0, False),
        ("4.4.0-19041-Microsoft", (4, 4), 1, False),
        ("5.15.167.4-microsoft-standard-WSL2", (5, 15), 2, False),
        ("nonsense", (0, 0), 0, False),
    ],
)
def test_releases(release: str, version: tuple[int, int], wsl: int, tested: bool) -> None:
    assert (facts.kernel(release), facts.wsl(release), machine.tested(release)) == (version, wsl, tested)


def test_docs_name_the_kernels_that_were_tested() -> None:
    *others, last = (".".join(map(str, kernel)) for kernel in TESTED_KERNELS)
    assert f"a kernel tested if it is a {', '.join(others)} or {last}\n" in (ROOT / "docs/testing.md").read_text()


def test_what_is_mounted_over_proc() -> None:
    """Docker's, as it looks in /proc/self/mountinfo; an automount of binfmt_misc is on every machine."""
    line = "540 535 0:60 / {} rw,relatime - tmpfs tmpfs rw"
    places = ("/proc", "/proc/acpi", "/proc/kcore", "/proc/sys/fs/binfmt_misc", "/procession")
    assert facts.covered("\n".join(map(line.format, places))) == ("/proc/acpi", "/proc/kcore")


@needs_root
def test_no_namespaces_at_all() -> None:
    """The sysctl is a user namespace's own: in one where it is 0 this machine is one where an administrator set it."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    found = cause("unshare", "--user", "--map-root-user", "sh", "-ec", script, "sh")
    assert found is not None and found["name"] == "user.max_user_namespaces"


@needs_root
def test_a_masked_proc() -> None:
    """A container simulated: a /proc with something mounted on it, as Docker does, over which no new one can be."""
    found = cause("unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none /proc/irq && exec "$@"', "sh")
    assert found is not None and found["name"] in ("masked proc", "container"), found
    assert "/proc" in str(found["message"]) and not found["commands"]


def test_a_filter() -> None:
    """A container's system-call filter, simulated by one of ours: unshare and clone of a user namespace fail."""
    program = (
        "import os, sys, pyseccomp as s\n"
        "f = s.SyscallFilter(s.ALLOW)\n"
        "f.add_rule(s.ERRNO(1), 'unshare', s.Arg(0, s.MASKED_EQ, 0x10000000, 0x10000000))\n"
        "f.add_rule(s.ERRNO(1), 'clone', s.Arg(0, s.MASKED_EQ, 0x10000000, 0x10000000))\n"
        "f.add_rule(s.ERRNO(38), 'clone3')\n"
        "f.load()\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    found = cause(sys.executable, "-c", program)
    assert found is not None and found["name"] in ("filter", "container"), found
    assert "system-call filter" in str(found["message"]) and "commands" in found and not found["commands"]
