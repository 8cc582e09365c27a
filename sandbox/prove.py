"""`dp-agent --prove [RUNTIME]`: prove the sandbox around an empty run, and the gate with a runtime's program; and
`dp-agent --machine`: say what keeps this machine from confining a run; and `dp-agent --model RUNTIME`: ask the model's
API whether it takes the key.

All print what was found, for `dispatch doctor`. Runs no task; the proofs are `Confinement.prove` and
runtimes/gate_proof.py, and what is looked at is `Confinement.cause`'s.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import tempfile
from functools import partial
from pathlib import Path

import msgspec
import trio

from sandbox import confinement, frames, runtimes
from sandbox.confinement import CanaryReport, Cause, Confinement, Profile
from sandbox.confinement.machine import tested
from sandbox.errors import SandboxError
from sandbox.runtimes import gate_proof
from sandbox.runtimes.runtime import Runtime

Document = dict[str, object]

_MODEL_BYTES = 64 * 1024


def main(runtime: str | None) -> None:
    """Print {tier, kernel: {release, tested}, mechanisms, canaries: [{name, ok, detail}], gate: {key, seconds}|null,
    error?: {code, message, fix}}; exit 1 with an error. With a tier, the error is about the gate; without, there are
    no mechanisms.
    """
    document = trio.run(partial(_prove, runtime))
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.exit(1 if "error" in document else 0)


def machine() -> None:
    """Print {cause: {name, message, fix, advice, commands}|null}, the commands for root; exit 1 with a cause."""
    try:
        found = confinement.of_this_machine().cause()
    except SandboxError as error:  # a system that has no confinement at all
        found = Cause("system", error.message, error.fix)
    document = None if found is None else {**dataclasses.asdict(found), "fix": found.fix}
    sys.stdout.write(msgspec.json.encode({"cause": document}).decode() + "\n")
    sys.exit(0 if found is None else 1)


def model(runtime: str) -> None:
    """Read a `frames.Model` as JSON from standard input, ask its API whether it takes the key, and print {detail} or
    {error: {code, message, fix}}; exit 1 with an error.
    """
    try:
        given = msgspec.json.decode(sys.stdin.buffer.read(_MODEL_BYTES), type=frames.Model)
        document: Document = {"detail": trio.run(_ask_of_key, runtime, given)}
    except SandboxError as error:
        document = {"error": error.to_json()}
    except msgspec.MsgspecError:
        document = {"error": SandboxError("that is not a model", code=422).to_json()}
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.exit(1 if "error" in document else 0)


async def _ask_of_key(runtime: str, given: frames.Model) -> str:
    from sandbox.model_api.key_check import check_key  # loads a client for HTTP

    api = runtimes.load(runtime).model_api
    if api is None:
        return "the agent asks no model"
    if not given.api_key:
        sentence, fix = api.key_missing
        raise SandboxError(sentence, fix=fix, code=401)
    return await check_key(api, given)


async def _prove(runtime: str | None) -> Document:
    release = platform.release()
    kernel = {"release": release, "tested": tested(release)}
    document: Document = {"tier": None, "kernel": kernel, "mechanisms": [], "canaries": [], "gate": None}
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
