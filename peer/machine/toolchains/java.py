"""Debian's Java: its settings are links into /etc, of which a run sees little, and without them it does not start."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from peer.machine.toolchains.values import Part, Toolchain

_LINKS: Final = ("lib/jvm.cfg", "conf/logging.properties", "conf/net.properties")
_SECURITY: Final = "conf/security/java.security"
_OF_JAVA: Final = re.compile(r"/etc/java-[0-9]{1,3}-openjdk/[a-z0-9./-]{1,80}")


def debian_java(label: str, program: Path) -> Toolchain:
    """Java with the files below /etc that it starts with: which machine it is, logging, the network, and security.

    Not `management`, where passwords are kept.
    """
    home = program.parent.parent
    real = [Path(os.path.realpath(home / name)) for name in _LINKS]
    real.append(Path(os.path.realpath(home / _SECURITY)).parent)
    parts = tuple(Part(path, path) for path in real if _OF_JAVA.fullmatch(str(path)) and path.exists())
    return Toolchain(label, parts, (), (("JAVA_HOME", str(home)),))
