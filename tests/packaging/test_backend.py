"""What the build backend says where something to compile with is missing: one line, that system's packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("backend", ROOT / "build_backend/backend.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(path: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What an installer asks of the backend first, with this PATH."""
    program = (
        "import sys; sys.path[:0] = ['build_backend']; import backend; print(backend.get_requires_for_build_wheel())"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler(tmp_path: Path) -> None:
    done = built(str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("please install first: ") and "fastecdsa" in done.stderr
    assert built(str(tmp_path), DISPATCH_BUILD_ANYWAY="1").returncode == 0


def test_without_its_headers(tmp_path: Path) -> None:
    """A compiler that finds no header: there, and of no use."""
    (tmp_path / "cc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    done = built(str(tmp_path))
    assert done.returncode == 1 and "gmp" in done.stderr.lower(), done.stderr


@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere nothing is looked for")
def test_with_a_compiler() -> None:
    """The suite's own environment was made with one."""
    done = built(os.environ["PATH"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("about", "line"),
    [
        ({"ID": "debian"}, "sudo apt-get install gcc libc6-dev libgmp-dev python3-dev "),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "sudo apt-get install gcc libc6-dev libgmp-dev python3-dev "),
        ({"ID": "fedora"}, "sudo dnf install gcc gmp-devel python3-devel "),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install gcc gmp-devel python3-devel "),
        ({"ID": "nixos"}, "a C compiler, the headers of GMP, the headers of Python "),
    ],
)
def test_each_system_is_told_its_own_packages(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, about: dict[str, str], line: str
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: about)
    said = backend._sentence(["cc", "gmp", "python"], backend._system())
    assert said.startswith(f"please install first: {line}")
    assert "\n" not in said


def test_docs_name_the_same_packages() -> None:
    """Beside the commands that install a wheel too, for which the backend does not run."""
    text = (ROOT / "docs/install.md").read_text()
    assert "`gcc libc6-dev libgmp-dev python3-dev`" in text and "`gcc gmp-devel python3-devel`" in text
    for each in (text, (ROOT / "README.md").read_text()):
        install, _, after = each.partition("    pipx install ")
        assert "    uv tool install " in install and "If the build of fastecdsa fails" in after[:600]
        assert "`sudo apt-get install gcc libc6-dev libgmp-dev python3-dev`" in after[:800]
