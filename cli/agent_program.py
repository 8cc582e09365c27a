"""Asking `dp-agent`, without the daemon, what it can say of this machine."""

from __future__ import annotations

import json
import subprocess

from peer.client.blocking import Document
from peer.machine.installation import AGENT, AGENT_ENVIRONMENT, ROOT

SECONDS = 60.0
"""The proofs take some of them on a busy machine."""


def asked(*words: str, given: bytes = b"") -> Document:
    """Return the JSON that `dp-agent` prints for these words, with this on its standard input.

    Raises OSError, ValueError or TimeoutExpired.
    """
    done = subprocess.run(
        [*AGENT, *words],
        input=given,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
        env=AGENT_ENVIRONMENT,
    )
    found: Document = json.loads(done.stdout)
    return found
