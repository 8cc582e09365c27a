"""`dp-agent --prove [RUNTIME]`: prove the sandbox around an empty run, and the gate with a runtime's program.

Prints what was found, for `dispatch doctor`. Runs no task; the proofs are `Confinement.prove` and
runtimes/gate_proof.py.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import msgspec
import trio

from sandbox import confinement, runtimes
from sandbox.confinement import CanaryReport, Confinement, Profile
from sandbox.errors import SandboxError
from sandbox.runtimes import gate_proof
from sandbox.runtimes.runtime import Runtime

Document = dict[str, object]


def main(runtime: str | None) -> None:
    """Print {tier, mechanisms, canaries: [{name, ok, detail}], gate: {key, seconds}|null, error?: {code, message,
    fix}}; exit 1 with an error. With a tier, the error is about the gate.
    """
    document = trio.run(partial(_prove, runtime))
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.exit(1 if "error" in document else 0)


async def _prove(runtime: str | None) -> Document:
    document: Document = {"tier": None, "canaries": [], "gate": None}
    with tempfile.TemporaryDirectory(prefix="dp-prove-") as folder:
        workspace, home = Path(folder) / "workspace", Path(folder) / "home"
        workspace.mkdir(mode=0o700)
        home.mkdir(mode=0o700)
        try:
            here = confinement.of_this_machine()
            document |= _sandbox(await here.prove(Profile(workspace=workspace, home=home)))
            if runtime is not None:
                document["gate"] = await _prove_gate(runtimes.load(runtime), here, Path(folder) / "gate")
        except SandboxError as error:
            document["error"] = error.to_json()
    return document


async def _prove_gate(runtime: Runtime, here: Confinement, folder: Path) -> Document | None:
    key = gate_proof.key(runtime)
    if not key:
        return None
    began = trio.current_time()
    await trio.to_thread.run_sync(runtime.prepare)
    await gate_proof.prove(runtime, here, folder)
    return {"key": key, "seconds": round(trio.current_time() - began, 3)}


def _sandbox(report: CanaryReport) -> Document:
    return {
        "tier": report.tier,
        "mechanisms": list(report.mechanisms),
        "canaries": [
            {"name": canary.name, "ok": canary.outcome != "open", "detail": canary.detail or canary.outcome}
            for canary in report.canaries
        ],
    }
