"""Interprets the output of `dp-agent --prove` for `doctor`, with and without a daemon. The proof: sandbox/prove.py."""

from __future__ import annotations

from peer.protocol.documents import Document
from peer.protocol.errors import Unavailable

Proof = Document
"""{tier, canaries: [{name, ok}], gate, error?: {message, fix}}. If there is a tier, the error is about the gate."""


def sandbox(proof: Proof) -> str:
    """Return a description of the working sandbox. Raises Unavailable, with reason and fix, if it does not work."""
    if not proof.get("tier"):
        raise _error(proof)
    canaries = proof.get("canaries") or []
    if leaks := ", ".join(str(canary.get("name")) for canary in canaries if not canary.get("ok")):
        raise Unavailable(f"canaries broke out of the sandbox: {leaks}", fix="see docs/security.md")
    return f"{proof['tier']}: {len(canaries)} canaries were denied"


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
