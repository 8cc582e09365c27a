"""Version managers' folders, built from the binaries of this machine, since tests download nothing.

Each is laid out as its manager does it, and the interpreter in it is a real one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
UV_PYTHON: Final = f"cpython-{VERSION}.99-linux-x86_64-gnu"
GO: Final = next(iter(sorted(Path("/usr/lib").glob("go-1.*"))), None)
"""Debian's go, where it is installed."""


def uv_python(home: Path) -> Path:
    """A Python as `uv python install` leaves it, with uv's link for the minor version; returns that link."""
    folder = home / ".local/share/uv/python"
    root = folder / UV_PYTHON
    (root / "bin").mkdir(parents=True)
    base = Path(sys.base_prefix)
    program = Path(sys.executable).resolve()
    shutil.copy2(program, root / "bin" / f"python{VERSION}")
    for name in ("python3", "python"):
        (root / "bin" / name).symlink_to(f"python{VERSION}")
    left_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "config-*", "*.a")
    shutil.copytree(base / f"lib/python{VERSION}", root / f"lib/python{VERSION}", ignore=left_out, symlinks=True)
    (root / f"lib/python{VERSION}/site-packages").mkdir()
    (root / "etc").mkdir()
    (root / "etc/pip.conf").write_text("[global]\nindex-url = https://bob:hunter2@pypi.example/simple\n")
    minor = folder / f"cpython-{VERSION}-linux-x86_64-gnu"
    minor.symlink_to(UV_PYTHON)
    return minor


def uv_environment(project: Path, python: Path) -> Path:
    """An environment as `uv venv` makes it from `python` (a root), with the pytest that runs this test."""
    environment = project / ".venv"
    site = environment / f"lib/python{VERSION}/site-packages"
    site.mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "bin/python").symlink_to(python / f"bin/python{VERSION}")
    (environment / "bin/python3").symlink_to("python")
    (environment / "pyvenv.cfg").write_text(f"home = {python}/bin\nimplementation = CPython\nuv = 0.9.0\n")
    copy_pytest(site)
    return environment


def copy_pytest(site: Path) -> None:
    """Put pytest and what it imports into an environment."""
    here = Path(pytest.__file__).parents[1]
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        shutil.copytree(here / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(here / "py.py", site)
    for info in here.glob("pytest-*.dist-info"):
        shutil.copytree(info, site / info.name)


def nvm_node(home: Path, version: str = "v99.1.0") -> Path:
    """A node as nvm keeps it, with npm and a default alias."""
    root = home / ".nvm/versions/node" / version
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/npmrc").write_text("//registry.example/:_authToken=hunter2\n")
    shutil.copy2(Path("/usr/bin/node").resolve(), root / "bin/node")
    shutil.copytree("/usr/lib/node_modules/npm", root / "lib/node_modules/npm", symlinks=True)
    (root / "bin/npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
    (home / ".nvm/alias").mkdir()
    (home / ".nvm/alias/default").write_text("99\n")
    return root


def go_sdk(home: Path, version: str = "go1.99.0") -> Path:
    """A go as `golang.org/dl` keeps it, from Debian's."""
    assert GO is not None
    root = home / "sdk" / version
    root.mkdir(parents=True)
    for name in ("bin", "pkg", "src"):
        subprocess.run(["cp", "-rL", GO / name, root / name], check=True)
    shutil.copy2((GO / "VERSION").resolve(), root / "VERSION")
    return root
