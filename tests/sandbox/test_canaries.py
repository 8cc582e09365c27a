"""The canaries themselves: a sound profile passes, every line taken out of it is noticed, and none of
them can pass vacuously.
"""

from __future__ import annotations

import inspect
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sandbox import programs
from sandbox.confinement.bubblewrap import (
    canaries,
    canary_attempts,
    examine,
    landlock,
    prove,
    shell_launcher,
    start,
)
from sandbox.errors import SandboxError
from tests.sandbox.conftest import Person

Words = list[str]


async def test_a_sound_profile_passes(person: Person) -> None:
    report = await prove(person.profile)
    assert report.ok and report.tier == "full" and report.mechanisms == ("bubblewrap", "seccomp", "landlock")
    by_name = {canary.name: canary.outcome for canary in report.canaries}
    for name in (
        "loopback port",
        "unix socket by path",
        "abstract unix socket",
        "planted file",
        "protected folder 1",
        "protected folder 2",
        "folder of the run",
        "what view 1 is made of",
        "read-only folder 2",
        "environment of other processes",
        "inherited descriptors",
        "netlink socket",
        "shell: the agent's environment",
        "shell: signals to the agent",
        "shell: unix socket",
    ):
        assert by_name[name] == "blocked", name
    if os.geteuid() == 0:
        assert by_name["/proc/sys/kernel/core_pattern"] == "blocked"
    assert by_name["workspace"] == by_name["shell: workspace"] == "permitted"
    assert not report.failed and sum(canary.outcome == "blocked" for canary in report.canaries) > 40
    assert str(person.base) not in str([(canary.name, canary.outcome) for canary in report.canaries])
    # Nothing planted stays behind.
    assert sorted(path.name for path in person.state.iterdir()) == ["device.key", "runs"]
    assert not list(person.workspace.iterdir())


def without(*gone: str) -> Callable[[Words], Words]:
    """bwrap's arguments less one run of words, which must be there."""

    def alter(words: Words) -> Words:
        for place in range(len(words)):
            if tuple(words[place : place + len(gone)]) == gone:
                return words[:place] + words[place + len(gone) :]
        raise AssertionError(f"{gone} is not in the arguments")

    return alter


def without_option(option: str, values: int, *, last: bool = False) -> Callable[[Words], Words]:
    def alter(words: Words) -> Words:
        place = len(words) - 1 - words[::-1].index(option) if last else words.index(option)
        return words[:place] + words[place + 1 + values :]

    return alter


def read_only_becomes_writable(words: Words) -> Words:
    return ["--bind-fd" if word == "--ro-bind-fd" else word for word in words]


def with_more(*more: str) -> Callable[[Words], Words]:
    """Mounts have to come before the root is made read-only."""

    def alter(words: Words) -> Words:
        place = words.index("/run", words.index("--file")) - 1
        assert words[place] == "--remount-ro"
        return [*words[:place], *more, *words[place:]]

    return alter


def without_zone_server(words: Words) -> Words:
    if "--as-pid-1" not in words:
        return words
    place = words.index("/run/dispatch/zone_server.py")
    return words[: place - 4] + words[place + 1 :]


def in_the_zone(change: Callable[[Words], Words]) -> Callable[[Words], Words]:
    return lambda words: change(words) if "--as-pid-1" in words else words


MUTATIONS: dict[str, tuple[Callable[[Words], Words], set[str]]] = {
    "network shared": (without("--unshare-net"), {"loopback port", "abstract unix socket", "net namespace"}),
    "processes shared": (
        lambda words: words if "--as-pid-1" in words else without("--unshare-pid")(words),
        {"pid namespace"},
    ),
    "ipc shared": (without("--unshare-ipc"), {"ipc namespace"}),
    "uts shared": (
        lambda words: without("--unshare-uts")(without("--hostname", "sandbox")(words)),
        {"uts namespace"},
    ),
    "allow-list gone": (
        without_option("--add-seccomp-fd", 1),
        {"netlink socket", "memory of other processes"},
    ),
    "argument filter gone": (
        lambda words: words if "--as-pid-1" in words else without_option("--add-seccomp-fd", 1, last=True)(words),
        {"setuid file"},
    ),
    "filter of shells gone": (
        in_the_zone(without_option("--add-seccomp-fd", 1, last=True)),
        {"shell: unix socket"},
    ),
    "agent's home writable for shells": (
        in_the_zone(read_only_becomes_writable),
        {"shell: the agent's home"},
    ),
    "root writable": (without("--remount-ro", "/"), {"writing /", "writing /etc"}),
    "/run writable": (without("--remount-ro", "/run"), {"writing /run"}),
    "/dev writable": (without("--remount-ro", "/dev"), {"writing /dev"}),
    "roots writable": (read_only_becomes_writable, {"read-only folder 2"}),
    "/tmp unbounded": (without("--size", "1073741824"), {"size of /tmp"}),
    "/dev/shm unbounded": (without("--size", "134217728"), {"size of /dev/shm"}),
    "host /tmp bound": (with_more("--bind", "/tmp", "/tmp"), {"planted file", "unix socket by path"}),
    "host root bound": (
        with_more("--ro-bind", "/var/tmp", "/var/tmp"),
        {"protected folder 1", "protected folder 2"},
    ),
    "no zone": (without_zone_server, set()),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
async def test_every_line_is_missed_when_gone(person: Person, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (person.project / ".git").mkdir()
    alter, expected = MUTATIONS[name]
    profile = person.profile
    if name == "agent's home writable for shells":
        (person.workspace.parent / "home").mkdir()
        profile = replace(profile, home=person.workspace.parent / "home")
        monkeypatch.setattr(landlock, "abi", lambda: 0)  # a second wall
    if not expected:
        with pytest.raises(SandboxError, match="could not be"):
            await examine(profile, alter=alter)
        return
    report = await examine(profile, alter=alter)
    assert expected <= set(report.failed), report.failed
    with pytest.raises(SandboxError, match="does not hold") as refused:
        await prove(profile, alter=alter)
    assert refused.value.code == 503 and refused.value.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user cannot write these outside either")
async def test_proc_sys_writable_is_noticed(person: Person) -> None:
    report = await examine(person.profile, alter=without("--ro-bind", "/proc/sys", "/proc/sys"))
    assert "/proc/sys/kernel/core_pattern" in report.failed


async def test_inherited_environment_is_noticed(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def leaky(*arguments: Any, **options: Any) -> object:
        return real(*arguments, **{**options, "env": {**os.environ, "DISPATCH_TEST_SECRET": "1"}})

    monkeypatch.setattr(subprocess, "Popen", leaky)
    report = await examine(person.profile)
    assert "environment of other processes" in report.failed


async def test_inherited_descriptors_are_noticed(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def leaky(*arguments: Any, **options: Any) -> object:
        return real(*arguments, **{**options, "pass_fds": [*options.get("pass_fds", ()), leaked]})

    with (person.state / "device.key").open() as secret:
        leaked = secret.fileno()
        monkeypatch.setattr(subprocess, "Popen", leaky)
        report = await examine(person.profile)
    assert "inherited descriptors" in report.failed


async def test_limits_gone_is_noticed(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "prlimit_prefix", lambda limits: [])
    assert {"limit DATA", "limit FSIZE", "limit CPU"} <= set((await examine(person.profile)).failed)


async def test_a_shell_beside_the_agent_is_noticed(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    real = inspect.getsource
    (person.workspace.parent / "home").mkdir()

    def weakened(module: ModuleType) -> str:
        text = real(module)
        if module is shell_launcher:
            assert "zone = _started()" in text
            text = text.replace("zone = _started()", "os.execv(sys.argv[2], sys.argv[2:])")
        return text

    monkeypatch.setattr(inspect, "getsource", weakened)
    failed = set((await examine(replace(person.profile, home=person.workspace.parent / "home"))).failed)
    assert {
        "shell: the agent's environment",
        "shell: the agent's descriptors",
        "shell: signals to the agent",
        "shell: the agent's home",
        "shell: unix socket",
    } <= failed


@pytest.mark.parametrize("abi", [0, 1, 2, 3, 5, 6])
async def test_an_older_kernel_has_the_same_walls(person: Person, monkeypatch: pytest.MonkeyPatch, abi: int) -> None:
    """Simulated: the version of Landlock alone. tests/kernels boots real ones."""
    real = inspect.getsource
    assert "return _call(CREATE_RULESET, None" in real(landlock)

    def older(module: ModuleType) -> str:
        text = real(module)
        if module is landlock:
            text = text.replace("return _call(CREATE_RULESET, None", f"return {abi} or _call(CREATE_RULESET, None")
        return text

    monkeypatch.setattr(landlock, "abi", lambda: abi)
    monkeypatch.setattr(inspect, "getsource", older)
    report = await prove(person.profile)
    assert ("landlock" in report.mechanisms) == (abi >= landlock.LEAST_ABI)


async def test_a_canary_that_fails_outside_proves_nothing(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    real = canary_attempts._sockets

    def deaf(*arguments: object) -> list[canary_attempts.Attempt]:
        out = real(*arguments)  # type: ignore[arg-type]
        return [
            replace(one, outside={**one.outside, "address": ["127.0.0.1", 1]}) if one.name == "loopback port" else one
            for one in out
        ]

    monkeypatch.setattr(canary_attempts, "_sockets", deaf)
    report = await examine(person.profile)
    assert report.unproven == ("loopback port",) and not report.ok
    with pytest.raises(SandboxError, match="loopback port"):
        await prove(person.profile)


async def test_a_protected_folder_that_goes_meanwhile_needs_no_protection(
    person: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another daemon on this machine has ended, and its state folder was removed. Seen to fail: "does not hold"."""
    other = tmp_path / "other"
    other.mkdir()
    outside = canaries._run_outside

    async def gone_by_then(*arguments: Any) -> dict[str, tuple[bool, str]]:
        shutil.rmtree(other)
        return await outside(*arguments)

    monkeypatch.setattr(canaries, "_run_outside", gone_by_then)
    protected = (*person.profile.protected, other)
    report = await prove(replace(person.profile, protected=protected))
    outcomes = {canary.name: canary.outcome for canary in report.canaries}
    assert outcomes[f"protected folder {len(protected)}"] == "untestable"


async def test_a_probe_that_can_do_nothing_does_not_pass(person: Person) -> None:
    def read_only(words: Words) -> Words:
        place = words.index("/dispatch") - 2
        assert words[place] == "--bind-fd"
        return [*words[:place], "--ro-bind-fd", *words[place + 1 :]]

    report = await examine(person.profile, alter=read_only)
    assert {"workspace", "shell: workspace"} <= set(report.failed)


async def test_a_sandbox_that_cannot_be_built_says_why(person: Person) -> None:
    with pytest.raises(SandboxError) as refused:
        await prove(person.profile, alter=lambda words: ["--no-such-option", *words])
    assert refused.value.code == 503 and "“bwrap: Unknown option --no-such-option”" in refused.value.message
    assert "bwrap --unshare-all" in refused.value.fix, "nothing of this machine is in the way"


def test_machines_without_the_means_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    start.check_machine()
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxError, match="riscv64"):
        start.check_machine()
    monkeypatch.undo()
    monkeypatch.setattr(programs, "find", lambda name, **_: programs.Search())
    with pytest.raises(SandboxError, match="not installed") as refused:
        start.check_machine()
    assert "install" in refused.value.fix and "bubblewrap" in refused.value.fix
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho --ro-bind --seccomp\n")
    old.chmod(stat.S_IRWXU)
    monkeypatch.setattr(programs, "find", lambda name, **_: programs.Search(str(old)))
    with pytest.raises(SandboxError, match="too old: it lacks --bind-fd"):
        start.check_machine()
