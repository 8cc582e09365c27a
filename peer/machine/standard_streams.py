"""Standard streams that a service manager, cron or a shell closed: opened on /dev/null, before anything else is opened.

A program that is started without them gets None for sys.stdout, and its first file becomes descriptor 1, to which the
next print then goes: a line of output inside a store or a key.
"""

from __future__ import annotations

import os
import sys


def open_closed_ones() -> None:
    """Give each of the three standard streams that is closed a descriptor on /dev/null, and sys its object."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
