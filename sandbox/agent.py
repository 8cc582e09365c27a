"""`dp-agent`: runs one accepted dispatch and exchanges frames with the node on stdin and stdout. Decides no policy.

One process, one run. What a run takes is supervisor.py's; here its frames are read.

How it ends early. `cancel`: the whole tree is killed, then `finished`. End of input: the node is gone and nothing would
be read any more, so this process exits on the spot. SIGKILL of this process: the kernel kills bwrap with it
(PR_SET_PDEATHSIG), and the pid namespace with bwrap. In each case no process of the run is left.
"""

from __future__ import annotations

import os
import sys

import trio

from sandbox import frames, process_tree, prove
from sandbox.errors import FrameError
from sandbox.supervisor import RunSupervisor
from sandbox.views import namespace

HELP = """\
Usage: dp-agent              (run one dispatch, as frames on standard input describe it; dispatch-daemon starts it)
       dp-agent --prove [RUNTIME]
       dp-agent --machine
       dp-agent --model RUNTIME

  --prove     Prove that the sandbox holds, with RUNTIME also that its agent asks before every call; print JSON.
  --machine   Say what on this machine keeps runs from being confined, and which commands fix it; print JSON.
  --model     Ask the API of the model that standard input describes whether it accepts the key; print JSON.
  -h, --help  Print this.
"""


async def _serve(reader: frames.FrameReader[frames.ToAgent], writer: frames.FrameWriter, *, no_overlay: str) -> None:
    incoming = aiter(reader)
    start = await anext(incoming, None)
    if start is None:
        return
    if not isinstance(start, frames.Start):
        raise FrameError("the first frame must be start")
    supervisor = RunSupervisor(start, writer, no_overlay=no_overlay)
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            async for frame in incoming:
                if isinstance(frame, frames.Verdict):
                    supervisor.resolve_call(frame)
                elif isinstance(frame, frames.Cancel):
                    supervisor.cancel(frame)
                else:
                    raise FrameError("start was sent twice")
            process_tree.leave()

        nursery.start_soon(listen)
        await supervisor.run()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run one dispatch, or with `--prove [RUNTIME]` only prove the sandbox, and the gate with that agent, or with
    `--machine` only look at this machine, or with `--model` only ask about a key.

    Exit status 0 once `finished` was sent, 1 when the node left or sent no frames.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(HELP)
        sys.exit(0)
    if sys.argv[1:] == ["--machine"]:
        prove.machine()
    if sys.argv[1:2] == ["--model"] and len(sys.argv) == 3:
        prove.model(sys.argv[2])
    # Before anything that may start a thread.
    no_overlay = namespace.enter()
    if sys.argv[1:2] == ["--prove"]:
        prove.main(sys.argv[2] if len(sys.argv) > 2 else None)
    if sys.argv[1:]:
        sys.stderr.write(HELP)
        sys.exit(2)
    # Frames have the two pipes to themselves: a stray print of a library must not get in between.
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)

    async def run() -> None:
        reader: frames.FrameReader[frames.ToAgent]
        reader = frames.FrameReader(trio.lowlevel.FdStream(incoming), frames.decode_to_agent)
        await _serve(reader, frames.FrameWriter(trio.lowlevel.FdStream(outgoing)), no_overlay=no_overlay)

    try:
        trio.run(run, strict_exception_groups=True)
    except* FrameError as problem:
        sys.stderr.write(f"dp-agent: {problem.exceptions[0]}\n")
        sys.exit(1)
    except* (trio.BrokenResourceError, KeyboardInterrupt):
        sys.exit(1)
    # Tearing down the interpreter takes 30 ms, in which the run's folder cannot be removed and nothing is left to do.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
