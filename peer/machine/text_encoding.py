"""UTF-8 for file names and texts, whatever the locale. Standard streams that are closed: standard_streams.py.

What people grant, send and keep is named in UTF-8: in the store, in JSON and on the wire. Where Python takes another
encoding from the locale (`LC_ALL=de_DE.ISO-8859-1`, or plain C with `PYTHONUTF8=0`), `Bücher` from a command would be
another folder than `Bücher` in the daemon, or one that cannot be named at all.
"""

from __future__ import annotations

import os
import sys


def use_utf8() -> None:
    """Start this program anew in Python's UTF-8 mode (PEP 540), unless it has UTF-8 already. First thing in a program.

    By an option of the interpreter, which programs that are started later do not inherit. What is printed stays in the
    encoding of the terminal.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself
