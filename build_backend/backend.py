"""The build backend of pyproject.toml: setuptools, and before it a look for what libp2p's needs are compiled with.

A checkout or source archive is built by pip, pipx or uv before anything that it needs is installed. Without this, a
machine that lacks a compiler hears of it from the build of another package, minutes later and on many lines.
Runs before anything of ours or of others is installed, so it has the standard library and setuptools alone.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks, as its documentation has it

ANYWAY = "DISPATCH_BUILD_ANYWAY"
PACKAGES = {
    "debian": ("sudo apt-get install", {"cc": "gcc libc6-dev", "gmp": "libgmp-dev", "python": "python3-dev"}),
    "fedora": ("sudo dnf install", {"cc": "gcc", "gmp": "gmp-devel", "python": "python3-devel"}),
}
WORDS = {"cc": "a C compiler", "gmp": "the headers of GMP", "python": "the headers of Python"}


def get_requires_for_build_wheel(config_settings: dict[str, object] | None = None) -> list[str]:
    """Of a wheel, which is what every installer asks for first. Ends the program where something is missing."""
    _look()
    return list(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: dict[str, object] | None = None) -> list[str]:
    """The same, of an installation that stays in its checkout."""
    _look()
    return list(build_meta.get_requires_for_build_editable(config_settings))


def _look() -> None:
    if platform.system() == "Linux" and not os.environ.get(ANYWAY) and (missing := _missing()):
        sys.exit(_sentence(missing, _system()))


def _missing() -> list[str]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    missing = []
    if compiler is None:
        missing.append("cc")
    if compiler is None or not _finds(compiler, "gmp.h"):
        missing.append("gmp")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        missing.append("python")
    return missing


def _finds(compiler: str, header: str) -> bool:
    asked = [compiler, "-E", "-x", "c", "-"]
    return (
        subprocess.run(asked, input=f"#include <{header}>\n".encode(), capture_output=True, check=False).returncode == 0
    )


def _system() -> str:
    """`debian` or `fedora`, of which this system is one or a descendant; else ""."""
    try:
        lines = platform.freedesktop_os_release()
    except OSError:
        return ""
    like = f"{lines.get('ID', '')} {lines.get('ID_LIKE', '')}".split()
    return next((name for name in PACKAGES if name in like), "")


def _sentence(missing: list[str], system: str) -> str:
    if system:
        command, names = PACKAGES[system]
        what = f"{command} {' '.join(names[each] for each in missing)}"
    else:
        what = ", ".join(WORDS[each] for each in missing)
    return (
        f"please install first: {what}   (fastecdsa, which libp2p needs, is compiled; "
        f"{ANYWAY}=1 goes on if you have a wheel of it)"
    )
