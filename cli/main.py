"""The `dispatch` program: its start, and its exit after every ending. The command line is in commands.py."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence

from cli.app import App
from peer.machine.standard_streams import open_closed_ones
from peer.machine.text_encoding import use_utf8
from peer.protocol.errors import DispatchError, Internal, Invalid, Unauthorized, Unavailable

FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""A value that is not of the form it must have is wrong usage, whether the command line or the daemon finds it."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

PLAIN_LISTS = (["inbox"], ["sent"])
"""The commands that people and status lines run most. Without flags they need no click, whose import takes 40 ms."""


def run(args: Sequence[str]) -> int:
    """Run one command line; return its exit code. An error is printed once, on stderr, and with --json on stdout."""
    try:
        return _reported(args)
    except OSError as error:
        # The reader has closed (`| head`), or an error's document could not be written.
        if not isinstance(error, BrokenPipeError) and error.errno not in FULL:
            raise
        _replace_stdout()
        return FAILED


def _replace_stdout() -> None:
    """Have what is left in the buffer go nowhere, so that Python does not try to flush it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _reported(args: Sequence[str]) -> int:
    app = App(json=_wants_json(args))
    try:
        code = _run(app, args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        app.out.interrupted()
        return INTERRUPTED
    except DispatchError as error:
        app.out.error(_with_setup(app, error))
        return USAGE if error.code == Invalid.default_code else FAILED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            _replace_stdout()
            app.out.error(
                Unavailable(f"can't write: {error.strerror}", fix="free some space, or send the output elsewhere")
            )
            return FAILED
        import traceback

        traceback.print_exc()
        app.out.error(Internal(f"{type(error).__name__}: {error}", fix="this is a bug in dispatch: please report it"))
        return FAILED


def _with_setup(app: App, error: DispatchError) -> DispatchError:
    """Return the error with `dispatch setup` as its fix if all that is wrong is that nothing is set up yet."""
    from peer.client.blocking import DaemonUnreachable

    fixes = {
        Unauthorized.usual_fix: "run `dispatch setup`, or `dispatch login --broker URL`",
        DaemonUnreachable.usual_fix: "run `dispatch setup`, which starts it",
    }
    if error.fix not in fixes or not _nothing_is_set_up(app):
        return error
    return DispatchError(error.message, fix=fixes[error.fix], code=error.code)


def _nothing_is_set_up(app: App) -> bool:
    from peer.machine import identity, settings

    try:
        return not identity.exists(app.folder) and not settings.load(app.folder).broker
    except DispatchError:
        return False


def main() -> None:
    """Run `dispatch` as the program."""
    use_utf8()
    open_closed_ones()
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
