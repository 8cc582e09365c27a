"""`dp-agent --prove [RUNTIME]`: build the profile around an empty run, run its canaries and say what they met; with a
runtime, prove the gate with its program too. Runs no task.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from sandbox import gate_proof, runtimes
from sandbox.confinement import CanaryReport, Profile, prove
from sandbox.errors import SandboxError


def main(runtime: str | None) -> None:
    """Print {tier, mechanisms, canaries: [{name, ok, detail}], gate: {key, seconds}|null, error?: {code, message,
    fix}}; exit 1 with an error. With a tier, the error is about the gate.
    """
    document = trio.run(partial(_prove, runtime))
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.exit(1 if "error" in document else 0)


async def _prove(runtime: str | None) -> dict[str, Any]:
    document: dict[str, Any] = {"tier": None, "canaries": [], "gate": None}
    with tempfile.TemporaryDirectory(prefix="dp-prove-") as folder:
        workspace, home = Path(folder) / "workspace", Path(folder) / "home"
        workspace.mkdir(mode=0o700)
        home.mkdir(mode=0o700)
        try:
            document |= _told(await prove(Profile(workspace=workspace, home=home)))
            if runtime is not None:
                document["gate"] = await _prove_gate(runtimes.load(runtime), Path(folder) / "gate")
        except SandboxError as error:
            document["error"] = {"code": error.code, "message": error.message, "fix": error.fix}
    return document


async def _prove_gate(runtime: runtimes.Runtime, folder: Path) -> dict[str, Any] | None:
    key = gate_proof.key(runtime)
    if not key:
        return None
    began = trio.current_time()
    await trio.to_thread.run_sync(runtime.prepare)
    await gate_proof.prove(runtime, folder)
    return {"key": key, "seconds": round(trio.current_time() - began, 3)}


def _told(report: CanaryReport) -> dict[str, Any]:
    return {
        "tier": report.tier,
        "mechanisms": list(report.mechanisms),
        "canaries": [
            {"name": canary.name, "ok": canary.outcome != "open", "detail": canary.detail or canary.outcome}
            for canary in report.canaries
        ],
    }
