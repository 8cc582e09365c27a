"""Interprets the output of `dp-agent --prove` for `doctor`, with and without a daemon. The proof: sandbox/prove.py."""

from __future__ import annotations

from typing import Final

from peer.protocol.documents import Document
from peer.protocol.errors import Unavailable

Proof = Document
"""{tier, kernel: {release, tested}, mechanisms: [name], canaries: [{name, ok}], gate, error?: {message, fix}}. If there
is a tier, the error is about the gate."""
_NAMES: Final = {"landlock": "Landlock"}
_WITHOUT_LANDLOCK: Final = (
    "without Landlock, a command can read the memory of one that an earlier command of the same run left running"
)


def sandbox(proof: Proof) -> str:
    """Return a description of the working sandbox. Raises Unavailable, with reason and fix, if it does not work."""
    if not proof.get("tier"):
        raise _error(proof)
    canaries = proof.get("canaries") or []
    if leaks := ", ".join(str(canary.get("name")) for canary in canaries if not canary.get("ok")):
        raise Unavailable(f"canaries broke out of the sandbox: {leaks}", fix="see docs/security.md")
    layers = proof["mechanisms"]
    by = ", ".join(_NAMES.get(name, name) for name in layers)
    weaker = () if "landlock" in layers else (_WITHOUT_LANDLOCK,)
    return "; ".join((f"{proof['tier']}: {by}; {len(canaries)} canaries were denied", *weaker, _kernel(proof)))


def facts(proof: Proof) -> Document:
    """Return what a report needs of the proof: {mechanisms: [name], kernel: {release, tested}}. {} without an answer.

    `mechanisms` is empty where no sandbox could be built.
    """
    return {key: proof[key] for key in ("mechanisms", "kernel") if key in proof}


def _kernel(proof: Proof) -> str:
    kernel = proof["kernel"]
    if kernel["tested"]:
        return f"the sandbox was tested on this kernel (Linux {kernel['release']})"
    return f"not tested on this kernel (Linux {kernel['release']}), where it holds by design"


def gate(proof: Proof, runtime: str) -> str:
    """Return what the gate's proof showed. Raises Unavailable if it failed."""
    if proof.get("error") or not proof.get("tier"):
        raise _error(proof)
    if not proof.get("gate"):
        return f"the {runtime} agent has no program of its own: the gate makes every call"
    return f"saw every call of the {runtime} program, and stopped the denied ones"


def _error(proof: Proof) -> Unavailable:
    error = proof.get("error") or {}
    return Unavailable(
        str(error.get("message") or "there is no sandbox"), fix=str(error.get("fix") or "see docs/security.md")
    )
