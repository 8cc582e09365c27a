"""Proving that a profile denies: each attempt is made outside, where it must succeed, and inside, where it must not.

An attempt that fails outside too proves nothing; it is `untestable`, and where it is one of those that always can be
tested, the proof fails. Two attempts must succeed inside, so that a probe that cannot do anything at all does not pass.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

import trio

from sandbox.confinement import machine
from sandbox.confinement.bubblewrap import canary_probe, landlock
from sandbox.confinement.bubblewrap.canary_attempts import Attempt, targets
from sandbox.confinement.bubblewrap.start import Alter, check_machine, python, spawn
from sandbox.confinement.places import SHELL_LAUNCHER
from sandbox.confinement.profile import Profile
from sandbox.confinement.report import Canary, CanaryReport, Outcome
from sandbox.errors import SandboxError

TIER: Final = "full"
_SECONDS: Final = 30


def mechanisms() -> tuple[str, ...]:
    """What confines runs on this machine. The last one is a further layer, where the kernel has it."""
    has_landlock = landlock.abi() >= landlock.LEAST_ABI
    return ("bubblewrap", "seccomp", *(("landlock",) if has_landlock else ()))


async def prove(profile: Profile, /, *, alter: Alter | None = None) -> CanaryReport:
    """See `Confinement.prove`. Takes about a quarter of a second."""
    report = await examine(profile, alter=alter)
    if not report.ok:
        raise SandboxError(
            f"the sandbox does not hold on this machine: {', '.join(report.failed)}",
            fix="do not run dispatches here; run `dispatch doctor` and report this",
        )
    return report


async def examine(profile: Profile, /, *, alter: Alter | None = None) -> CanaryReport:
    """As `prove`, but a broken sandbox is reported instead of raised; one that cannot be built still raises."""
    check_machine()
    started = time.monotonic()
    with targets(profile) as (attempts, shell_attempts, descriptor):
        outside = await _run_outside(attempts, shell_attempts, descriptor)
        inside = await _run_inside(profile, attempts, shell_attempts, alter)
    canaries: list[Canary] = []
    unproven: list[str] = []
    for one in (*attempts, *shell_attempts):
        reached, detail = inside.get(one.name, (True, "the probe did not report it"))
        testable = outside.get(one.name, (False, ""))[0]
        outcome: Outcome
        if one.permitted:
            outcome = "permitted" if reached else "missing"
        elif reached:
            outcome = "open"
        else:
            outcome = "blocked" if testable else "untestable"
            if one.required and not testable and (one.of is None or one.of.exists()):
                unproven.append(one.name)
        canaries.append(Canary(one.name, outcome, detail))
    return CanaryReport(tuple(canaries), tuple(unproven), time.monotonic() - started, TIER, mechanisms())


def _question(attempts: Sequence[Attempt], shell: Sequence[Attempt], side: str, launcher: list[str]) -> bytes:
    def each(some: Sequence[Attempt]) -> list[dict[str, object]]:
        return [{"name": one.name, "kind": one.kind, "arguments": dict(getattr(one, side))} for one in some]

    asked: dict[str, object] = {
        "attempts": each(attempts),
        "source": inspect.getsource(canary_probe),
    }
    if shell:
        asked["shell"] = {"launcher": launcher, "attempts": each(shell)}
    return json.dumps(asked).encode()


async def _run_outside(
    attempts: Sequence[Attempt], shell: Sequence[Attempt], descriptor: int
) -> dict[str, tuple[bool, str]]:
    words = [sys.executable, "-ISB", "-c", inspect.getsource(canary_probe)]
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
    return _outcomes(done.returncode, done.stdout, done.stderr)


async def _run_inside(
    profile: Profile, attempts: Sequence[Attempt], shell: Sequence[Attempt], alter: Alter | None
) -> dict[str, tuple[bool, str]]:
    words = [python(), "-ISB", "-c", inspect.getsource(canary_probe)]
    question = _question(attempts, shell, "inside", [str(SHELL_LAUNCHER), "--exec"])
    output = {"stdout": b"", "stderr": b""}
    with trio.move_on_after(_SECONDS) as deadline:
        async with await spawn(profile, words, profile.environment(), stdin=subprocess.PIPE, alter=alter) as process:

            async def drain(name: str, stream: trio.abc.ReceiveStream | None) -> None:
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
            if (excess := await process.excess()) is not None and excess.what == "shells":
                output["stderr"] = process.zone_errors().encode()
    if deadline.cancelled_caught:
        raise SandboxError("the sandbox's self-test did not finish in time", fix="run `dispatch doctor`")
    return _outcomes(code, output["stdout"], output["stderr"])


def _outcomes(code: int, stdout: bytes, stderr: bytes) -> dict[str, tuple[bool, str]]:
    try:
        return {one["name"]: (bool(one["reached"]), str(one["detail"])) for one in json.loads(stdout)}
    except (ValueError, KeyError, TypeError) as problem:
        lines = stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1][:300] if lines else f"status {code}"
        raise machine.refusal(last) from problem
