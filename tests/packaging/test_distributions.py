"""The distributions: an sdist is the whole tree, and a wheel built from it has every package with its data."""

from __future__ import annotations

import configparser
import email
import io
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from peer import VERSION

ROOT = Path(__file__).parents[2]
PACKAGES = ("peer", "rendezvous", "sandbox", "cli", "mcp_plugin")
SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
WHEEL = SDIST.replace("build_sdist", "build_wheel")
SECONDS = 180.0


@dataclass(frozen=True)
class Built:
    """The names of files, relative: in the tree, in the sdist, in the wheel; and the wheel's metadata."""

    tree: frozenset[str]
    sdist: frozenset[str]
    wheel: frozenset[str]
    metadata: dict[str, str]


def files(folder: Path) -> frozenset[str]:
    return frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def build(program: str, source: Path, target: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-c", program, target],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions, built by the build system of pyproject.toml from a copy of the tree less what git ignores."""
    folder = tmp_path_factory.mktemp("distributions")
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    source = shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(".git", ".pytest_cache", *ignored))
    tree = files(source)
    with tarfile.open(build(SDIST, source, folder)) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    sdist = files(unpacked)
    with zipfile.ZipFile(build(WHEEL, unpacked, folder)) as packed_wheel:
        names = frozenset(name for name in packed_wheel.namelist() if not name.endswith("/"))
        about = {Path(name).name: packed_wheel.read(name).decode() for name in names if ".dist-info/" in name}
    return Built(tree, sdist, names, about)


def test_an_sdist_is_the_whole_tree(built: Built) -> None:
    made = {"PKG-INFO", "setup.cfg"}
    assert built.tree - built.sdist == set()
    assert {name for name in built.sdist - built.tree if ".egg-info/" not in name} == made
    assert {
        "tests/docs/test_reference.py",
        "docs/protocol.md",
        "requirements.txt",
        ".ci/setup",
        "Makefile",
    } <= built.tree


def test_a_wheel_built_from_it_has_every_file_of_the_packages_and_no_other(built: Built) -> None:
    """Templates, styles, scripts and pictures of the page, SQL, the files of the plugin, py.typed."""
    ours = {name for name in built.tree if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    assert {name for name in built.wheel if ".dist-info/" not in name} == ours
    kinds = {Path(name).suffix for name in ours}
    assert {".html", ".css", ".js", ".svg", ".sql", ".json", ".md", ".sh", ".png"} <= kinds


def test_a_wheel_says_what_pyproject_and_the_package_say(built: Built) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = email.message_from_file(io.StringIO(built.metadata["METADATA"]))
    assert about["Version"] == VERSION
    assert about["Requires-Python"] == project["requires-python"]
    programs = configparser.ConfigParser(delimiters="=")
    programs.read_string(built.metadata["entry_points.txt"])
    assert dict(programs["console_scripts"]) == project["scripts"]
    assert len(project["scripts"]) == 6


def test_the_installed_version_is_the_one_of_the_source() -> None:
    """rendezvous and sandbox read it there."""
    assert metadata.version("dispatch-courier") == VERSION
