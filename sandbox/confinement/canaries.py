"""Proving that a profile denies: the same attempts are made outside, where they must succeed, and
inside, where they must not.

An attempt that fails outside too proves nothing; it is `untestable`, and where it is one of those that
always can be tested, the proof fails. Two things must succeed inside, so that a probe that cannot do
anything at all is not taken for a safe one.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from sandbox.confinement import probe
from sandbox.confinement.bwrap import Arguments, check_machine, interpreter, spawn
from sandbox.confinement.canary_targets import Attempt, targets
from sandbox.confinement.profile import SHELL_LAUNCHER, Profile
from sandbox.errors import SandboxError

TIER = "full"
MECHANISMS = ("bubblewrap", "seccomp", "landlock")
_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Canary:
    """What became of one attempt: ``blocked`` | ``open`` | ``untestable`` (fails outside too) |
    ``permitted`` | ``missing``.
    """

    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """What a proof found. ``ok`` says whether runs may use the profile."""

    canaries: tuple[Canary, ...]
    unproven: tuple[str, ...]
    seconds: float
    tier: str = TIER
    mechanisms: tuple[str, ...] = MECHANISMS

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(canary.name for canary in self.canaries if canary.outcome in ("open", "missing")) + self.unproven

    @property
    def ok(self) -> bool:
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """For results and ``doctor``: counts and names, no paths."""
        counts = {
            kind: [c.name for c in self.canaries if c.outcome == kind]
            for kind in ("blocked", "open", "untestable", "permitted", "missing")
        }
        return {
            "tier": self.tier,
            "mechanisms": list(self.mechanisms),
            "blocked": len(counts["blocked"]),
            "open": counts["open"] + counts["missing"],
            "untestable": counts["untestable"],
            "unproven": list(self.unproven),
            "seconds": round(self.seconds, 3),
        }


async def prove(profile: Profile, *, alter: Arguments | None = None) -> CanaryReport:
    """Build ``profile`` and try to break out of it. Takes about a quarter of a second; main thread only.

    Raises SandboxError 503, with what to do, where the sandbox cannot be built, a canary was reached, or
    one could not be tested.
    """
    report = await examine(profile, alter=alter)
    if not report.ok:
        raise SandboxError(
            f"the sandbox does not hold on this machine: {', '.join(report.failed)}",
            fix="do not run dispatches here; run `dispatch doctor` and report this",
        )
    return report


async def examine(profile: Profile, *, alter: Arguments | None = None) -> CanaryReport:
    """As ``prove``, but a broken sandbox is reported instead of raised; one that cannot be built still
    raises.
    """
    check_machine()
    started = time.monotonic()
    with targets(profile) as (attempts, shell_attempts, descriptor):
        outside = await _run_outside(attempts, shell_attempts, descriptor)
        inside = await _run_inside(profile, attempts, shell_attempts, alter)
    canaries, unproven = [], []
    for one in (*attempts, *shell_attempts):
        reached, detail = inside.get(one.name, (True, "the probe said nothing"))
        testable = outside.get(one.name, (False, ""))[0]
        if one.permitted:
            outcome = "permitted" if reached else "missing"
        elif reached:
            outcome = "open"
        else:
            outcome = "blocked" if testable else "untestable"
            if one.required and not testable:
                unproven.append(one.name)
        canaries.append(Canary(one.name, outcome, detail))
    return CanaryReport(tuple(canaries), tuple(unproven), time.monotonic() - started)


def _question(attempts: Sequence[Attempt], shell: Sequence[Attempt], side: str, launcher: list[str]) -> bytes:
    def each(some: Sequence[Attempt]) -> list[dict[str, Any]]:
        return [{"name": one.name, "kind": one.kind, "arguments": dict(getattr(one, side))} for one in some]

    asked = {
        "attempts": each(attempts),
        "source": inspect.getsource(probe),
        "shell": {"launcher": launcher, "attempts": each(shell)},
    }
    return json.dumps(asked).encode()


async def _run_outside(
    attempts: Sequence[Attempt], shell: Sequence[Attempt], descriptor: int
) -> dict[str, tuple[bool, str]]:
    words = [sys.executable, "-ISB", "-c", inspect.getsource(probe)]
    with trio.fail_after(_SECONDS):
        done = await trio.run_process(
            words,
            stdin=_question(attempts, shell, "outside", []),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            pass_fds=[descriptor],
            env={"DISPATCH_CANARY": "1"},
        )
    return _answers(done.returncode, done.stdout, done.stderr)


async def _run_inside(
    profile: Profile, attempts: Sequence[Attempt], shell: Sequence[Attempt], alter: Arguments | None
) -> dict[str, tuple[bool, str]]:
    words = [interpreter()[0], "-ISB", "-c", inspect.getsource(probe)]
    question = _question(attempts, shell, "inside", [str(SHELL_LAUNCHER), "--exec"])
    output = {"stdout": b"", "stderr": b""}
    with trio.move_on_after(_SECONDS) as deadline:
        async with await spawn(profile, words, profile.environment(), stdin=subprocess.PIPE, alter=alter) as process:

            async def drain(name: str, stream: trio.lowlevel.FdStream | None) -> None:
                if stream is not None:
                    async for chunk in stream:
                        output[name] = (output[name] + chunk)[-1024 * 1024 :]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain, "stdout", process.stdout)
                nursery.start_soon(drain, "stderr", process.stderr)
                if process.stdin is not None:
                    with contextlib.suppress(trio.BrokenResourceError):
                        await process.stdin.send_all(question)
                    await process.stdin.aclose()
            code = await process.wait()
    if deadline.cancelled_caught:
        raise SandboxError("the sandbox's own test did not end in time", fix="run `dispatch doctor`")
    return _answers(code, output["stdout"], output["stderr"])


def _answers(code: int, stdout: bytes, stderr: bytes) -> dict[str, tuple[bool, str]]:
    try:
        return {one["name"]: (bool(one["reached"]), str(one["detail"])) for one in json.loads(stdout)}
    except (ValueError, KeyError, TypeError) as problem:
        said = stderr.decode(errors="replace").strip().splitlines()
        last = said[-1][:300] if said else f"status {code}"
        raise SandboxError(f"the sandbox could not be built: {last}", fix=_fix(last)) from problem


def _fix(said: str) -> str:
    """What to do about bwrap's own words."""
    if (
        "setting up uid map" in said
        or "No permissions to create" in said
        or "Creating new namespace failed" in said
        or "clone" in said
    ):
        if Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists():
            return (
                "allow bwrap to make user namespaces: sudo apt install apparmor-profiles && sudo ln -s "
                "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && sudo systemctl "
                "reload apparmor (or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
            )
        if Path("/proc/sys/kernel/unprivileged_userns_clone").exists():
            return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
        return (
            "sudo sysctl -w user.max_user_namespaces=15000; inside a container, allow user namespaces and an "
            "unmasked /proc"
        )
    if "prlimit" in said:
        return "sudo apt install util-linux"
    if "proc" in said:
        return "in a container: unmask /proc (docker: --security-opt systempaths=unconfined)"
    return "sudo apt install --reinstall bubblewrap, then `dispatch doctor`"
