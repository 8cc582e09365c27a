"""The `dispatch` program: its start, and its exit after every ending. The command line is in commands.py."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from cli.app import App
from peer.protocol.errors import DispatchError, Internal, Invalid

FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""A value that is not of the form it must have is wrong usage, whether the command line or the daemon finds it."""

PLAIN_LISTS = (["inbox"], ["sent"])
"""The commands that people and status lines run most. Without flags they need no click, whose import takes 40 ms."""


def run(args: Sequence[str]) -> int:
    """Run one command line; return its exit code. An error is printed once, on stderr, and with --json on stdout."""
    app = App(json=_wants_json(args))
    try:
        code = _run(app, args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has closed (`| head`). Replaced, so that Python does not try to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        app.out.interrupted()
        return INTERRUPTED
    except DispatchError as error:
        app.out.error(error)
        return USAGE if error.code == Invalid.default_code else FAILED
    except Exception as error:
        import traceback

        traceback.print_exc()
        app.out.error(Internal(f"{type(error).__name__}: {error}", fix="this is a bug of dispatch: please report it"))
        return FAILED


def main() -> None:
    """Run `dispatch` as the program."""
    args = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for a terminal that lacks a character
    if not _is_plain_list(args):
        sys.exit(run(args))
    # Garbage collection and interpreter shutdown would take a fifth of such a command's time.
    gc.disable()
    code = run(args)
    sys.stderr.flush()
    os._exit(code)


def _run(app: App, args: Sequence[str]) -> int:
    if _is_plain_list(args):
        from cli.listing import show_list

        show_list(app, "received" if "inbox" in args else "sent")
        return 0
    from cli.commands import parse_and_run

    return parse_and_run(app, args)


def _is_plain_list(args: Sequence[str]) -> bool:
    return [word for word in args if word != "--json"] in PLAIN_LISTS and "_DISPATCH_COMPLETE" not in os.environ


def _wants_json(args: Sequence[str]) -> bool:
    """Whether --json was given. Known before parsing, since a line that can't be parsed must fail in JSON too."""
    before = list(args[: args.index("--")]) if "--" in args else list(args)
    return "--json" in before


if __name__ == "__main__":
    main()
