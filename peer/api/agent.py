"""Asks `dp-agent` what it can say of this machine: each question is a process that ends. No routes."""

from __future__ import annotations

import json
import subprocess
from typing import Final

import structlog
import trio

from peer.machine.installation import AGENT, AGENT_ENVIRONMENT, ROOT
from peer.protocol.documents import Document
from peer.protocol.errors import Unavailable

log = structlog.get_logger(__name__)

SECONDS: Final = 60.0
"""The proofs take some of them on a busy machine."""


async def ask(*words: str, given: bytes = b"") -> Document:
    """Return the JSON that `dp-agent` prints for these words, with this on its standard input. Raises Unavailable."""
    try:
        with trio.fail_after(SECONDS):
            done = await trio.run_process(
                [*AGENT, *words],
                stdin=given,
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
                cwd=ROOT,
                env=AGENT_ENVIRONMENT,
            )
        found: Document = json.loads(done.stdout)
    except (trio.TooSlowError, OSError, ValueError) as problem:
        log.warning("agent.no_answer", asked=words[0], error=type(problem).__name__)
        raise Unavailable("the agent program on this machine did not answer", fix="see daemon.log") from problem
    return found
