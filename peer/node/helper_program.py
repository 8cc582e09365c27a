"""One question to a small program of ours that reads hostile text: bounded in time and in what it may answer.

What the program may do it limits itself (`sandbox.confinement.computing`); who asks decodes the answer into a type.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from subprocess import DEVNULL, PIPE

import structlog
import trio

from peer.machine.installation import AGENT_ENVIRONMENT, ROOT

log = structlog.get_logger(__name__)


async def answer_of(command: Sequence[str], question: bytes, *, seconds: float, most: int) -> bytes:
    """Return what the program answers; b"" for nothing, for more than `most` bytes, or too late. Never raises."""
    answer = bytearray()
    status: int | None = None
    try:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                start = partial(
                    trio.run_process,
                    command,
                    cwd=ROOT,
                    env=AGENT_ENVIRONMENT,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=DEVNULL,
                    check=False,
                    deliver_cancel=_kill,
                )
                process: trio.Process = await nursery.start(start)
                assert process.stdin is not None and process.stdout is not None
                async with process.stdin:
                    await process.stdin.send_all(question)
                async for piece in process.stdout:
                    answer += piece
                    if len(answer) > most:
                        nursery.cancel_scope.cancel()
                status = await process.wait()
    except* (OSError, trio.BrokenResourceError) as problems:
        log.info("helper_program.no_answer", program=command[-1], why=str(problems.exceptions[0]))
        status = None
    return bytes(answer) if status == 0 and len(answer) <= most else b""


async def _kill(process: trio.Process) -> None:
    process.kill()
