"""Making attempts: outside as their control, and in a sandbox, whole or with something taken out of it."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import trio

from sandbox.confinement.bubblewrap import python, spawn
from sandbox.confinement.bubblewrap.start import Alter
from sandbox.confinement.places import SHELL_LAUNCHER
from tests.attacks import inside
from tests.attacks.inside import ATTACKS, BOTH
from tests.attacks.world import World
from tests.conftest import HANG, SLOWER
from tests.sandbox.conftest import finish

Made = dict[str, tuple[str, str]]
"""Name of the attempt → (outcome, detail)."""
Outcomes = dict[str, Made]
"""By place."""

CLASSES = sorted(path.stem for path in Path(__file__).with_name("table").glob("[a-z]*.py"))
MODULES: dict[str, ModuleType] = {"tests.attacks.inside": inside}
MODULES |= {f"tests.attacks.table.{name}": importlib.import_module(f"tests.attacks.table.{name}") for name in CLASSES}


def _question(world: World, side: str, names: Iterable[str], launcher: list[str]) -> bytes:
    names = list(names)
    kinds = {"inside", *(ATTACKS[name].kind for name in names)}
    asked = {
        "modules": {name: inspect.getsource(made) for name, made in MODULES.items() if name.split(".")[-1] in kinds},
        "places": BOTH,
        "names": names,
        "arguments": getattr(world, side),
        "launcher": launcher,
        "once": side == "outside",
        "seconds": inside.SECONDS * SLOWER,
    }
    return json.dumps(asked).encode()


def outside(world: World, names: Iterable[str] = ATTACKS) -> Made:
    """Make the attempts unconfined, each once. Those that are told to have no control are left out."""
    chosen = [name for name in names if not ATTACKS[name].untestable]
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", inspect.getsource(inside), inside.AGENTS_MARK],
        input=_question(world, "outside", chosen, []),
        capture_output=True,
        check=False,
        timeout=HANG,
        cwd=world.base,
        env={"AGENT_SECRET": "x"},
        pass_fds=[world.inherited],
    )
    assert done.returncode == 0, done.stderr.decode()
    return {name: made for place in _outcomes(done.stdout).values() for name, made in place.items()}


async def confined(world: World, names: Iterable[str] = ATTACKS, *, alter: Alter | None = None) -> Outcomes:
    """Make the attempts in the sandbox that dp-agent builds."""
    words = [python(), "-ISB", "-c", inspect.getsource(inside), inside.AGENTS_MARK]
    env = {**world.profile.environment(), "AGENT_SECRET": "x"}
    process = await spawn(world.profile, words, env, alter=alter)
    question = _question(world, "inside", names, [str(SHELL_LAUNCHER), "--exec"])
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert process.stdin is not None
            try:
                await process.stdin.send_all(question)
            except trio.BrokenResourceError:
                return
            await process.stdin.aclose()

        nursery.start_soon(ask)
        done = await finish(process)
    assert done.code == 0, done.err
    return _outcomes(done.out)


def _outcomes(said: str | bytes) -> Outcomes:
    return {
        place: {name: (outcome, detail) for name, (outcome, detail) in found.items()}
        for place, found in json.loads(said).items()
    }
