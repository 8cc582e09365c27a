"""Made-up machines: which cause is named, and what mends it. Looking at a real one is test_facts.py's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.confinement.machine.causes import diagnose
from sandbox.confinement.machine.facts import Facts

WELL = Facts()
UBUNTU: dict[str, Any] = {"kernel": (6, 8), "failed": "namespaces", "apparmor": True}


def test_a_machine_where_everything_works() -> None:
    assert diagnose(WELL) is None


@pytest.mark.parametrize(
    "there",
    [
        {"container": "Docker container", "seccomp": True, "covered": ("/proc/kcore",)},
        {"max_user_namespaces": 0, "root": True},
        {"userns_clone": False, "apparmor": True},
        {"wsl": 2, "kernel": (6, 6)},
    ],
)
def test_what_is_no_obstacle_is_no_cause(there: dict[str, Any]) -> None:
    """Bubblewrap was tried and worked. Seen to fail with marks alone taken for a cause."""
    assert diagnose(replace(WELL, **there)) is None


@pytest.mark.parametrize(
    ("machine", "name", "said", "fix"),
    [
        ({"kernel": (4, 4), "wsl": 1}, "wsl1", "WSL 1", "wsl --set-version"),
        ({"kernel": (5, 14)}, "kernel", "this is Linux 5.14; runs are confined from 5.15 on", "boot Linux 5.15"),
        ({"kernel": (5, 10), "wsl": 2}, "kernel", "Linux 5.10", "wsl --update"),
        ({"user_namespaces": False}, "no user namespaces", "built without user namespaces", "CONFIG_USER_NS"),
        ({"bwrap": ""}, "no bubblewrap", "bubblewrap is not installed", "sudo apt-get install -y bubblewrap"),
        ({"bwrap": "", "packages": "dnf"}, "no bubblewrap", "not installed", "sudo dnf install -y bubblewrap"),
        ({"bwrap": "", "packages": ""}, "no bubblewrap", "not installed", "from the system's packages"),
        ({"bwrap": "", "nixos": True}, "no bubblewrap", "not installed", "environment.systemPackages"),
        ({"prlimit": ""}, "no util-linux", "util-linux is not installed", "install -y util-linux"),
        (
            {"bwrap": "", "others": ("/opt/tools/bwrap",)},
            "program of others",
            "/opt/tools/bwrap is not used, because users other than you and root can change it",
            "install bubblewrap from the system's packages",
        ),
        ({"lacks": ("--bind-fd",)}, "old bubblewrap", "lacks --bind-fd", "install -y bubblewrap"),
        (
            {"lacks": ("--disable-userns", "--size")},
            "old bubblewrap",
            "lacks --disable-userns, --size",
            "0.8.0 or newer",
        ),
        ({"lacks": ("--bind-fd",), "nixos": True}, "old bubblewrap", "lacks --bind-fd", "channel or flake"),
        (
            {"failed": "namespaces", "max_user_namespaces": 0},
            "user.max_user_namespaces",
            "user.max_user_namespaces is 0",
            "sysctl -q -p",
        ),
        (
            {"failed": "namespaces", "userns_clone": False},
            "kernel.unprivileged_userns_clone",
            "kernel.unprivileged_userns_clone is 0",
            "echo kernel.unprivileged_userns_clone=1 >> /etc/sysctl.d/60-dispatch.conf",
        ),
        (
            {"failed": "namespaces", "max_user_namespaces": 0, "container": "Docker container"},
            "user.max_user_namespaces",
            "user.max_user_namespaces is 0",
            "this is a Docker container: change the setting on the machine that hosts it",
        ),
        (
            UBUNTU,
            "apparmor",
            "and it has no profile",
            "sudo apt-get install -y apparmor-profiles && sudo install -m644",
        ),
        (UBUNTU | {"failed": "network"}, "apparmor", "it has no profile", "apparmor_parser -r"),
        (UBUNTU | {"profile": True}, "apparmor", "is not loaded", "apparmor_parser -r /etc/apparmor.d/bwrap"),
        (
            UBUNTU | {"bwrap": "/home/linuxbrew/.linuxbrew/bin/bwrap"},
            "apparmor",
            "is for /usr/bin/bwrap",
            "sudo apt-get install bubblewrap",
        ),
        (
            {"failed": "namespaces", "container": "Docker container", "seccomp": True},
            "container",
            "this is a Docker container, which keeps runs from being confined (has a system-call filter)",
            "run dispatch-daemon on the machine itself",
        ),
        (
            {"failed": "proc", "container": "Podman container", "covered": ("/proc/kcore",)},
            "container",
            "(masks parts of /proc)",
            "not in the container",
        ),
        (
            {**UBUNTU, "container": "GitHub codespace"},
            "container",
            "GitHub codespace",
            "not in the container",
        ),
        (
            {"failed": "proc", "covered": ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/sys")},
            "masked proc",
            "covered by mounts (/proc/acpi, /proc/kcore, /proc/keys)",
            "on the machine itself",
        ),
        ({"failed": "namespaces", "seccomp": True}, "filter", "a system-call filter", "RestrictNamespaces="),
    ],
)
def test_the_cause(machine: dict[str, Any], name: str, said: str, fix: str) -> None:
    """Seen to fail with any one of the rules taken out: another cause, or none, is named."""
    cause = diagnose(replace(WELL, **machine))
    assert cause is not None and cause.name == name
    assert said in cause.message and fix in cause.fix
    assert cause.error().code == 503


@pytest.mark.parametrize("machine", [{"userns_clone": False}, {"apparmor": True}])
def test_root_is_kept_by_neither(machine: dict[str, Any]) -> None:
    assert diagnose(replace(WELL, failed="namespaces", root=True, **machine)) is None


def test_what_is_offered_needs_no_guess() -> None:
    """Commands are only for what is one certain change; where a person has to decide, there are none."""
    for machine in ({"kernel": (5, 4)}, {"wsl": 1}, {"failed": "namespaces", "container": "Docker container"}):
        cause = diagnose(replace(WELL, **machine))
        assert cause is not None and cause.commands == () and "doctor --fix" not in cause.fix
    cause = diagnose(replace(WELL, **UBUNTU, profile_at_hand=True))
    assert cause is not None
    assert cause.commands == (
        ("install", "-m644", "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict", "/etc/apparmor.d/"),
        ("apparmor_parser", "-r", "/etc/apparmor.d/bwrap-userns-restrict"),
    )


@pytest.mark.parametrize("there", [{"bwrap": ""}, UBUNTU, {"failed": "namespaces", "userns_clone": False}])
def test_docs_say_how_to_undo_what_mends_it(there: dict[str, Any]) -> None:
    """The files that are written below /etc, and the packages."""
    found = diagnose(replace(WELL, **there))
    assert found is not None
    words = " ".join(" ".join(command) for command in found.commands)
    made = re.findall(r"/etc/\S+[^/\s](?!\S)|(?<=install -y )\S+", words)
    docs = (Path(__file__).parents[3] / "docs/install.md").read_text().partition("## Uninstalling")[2]
    assert made and [each for each in made if each not in docs] == []
