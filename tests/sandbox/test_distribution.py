"""How an installation says that it is extended and mended: metadata as pip and uv write them, and a wheel by pip."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from sandbox import distribution

ROOT = Path(__file__).parents[2]
SHA = "ab" * 32
SENTENCE = "from the archive or checkout that you installed"


class Installed:
    """An environment in a folder, which `distribution` takes for the one that it runs in."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prefix, self.packages = folder / "my env", folder / "my env/lib"
        self.packages.mkdir(parents=True)
        monkeypatch.setattr(sys, "prefix", str(self.prefix))
        monkeypatch.setattr(sys, "path", [str(self.packages)])
        monkeypatch.setattr(distribution, "_ROOT", self.packages)
        self._patch = monkeypatch

    def add(self, name: str, url: Any = None, installer: str = "pip") -> None:
        about = self.packages / f"{name.replace('-', '_')}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (about / "INSTALLER").write_text(f"{installer}\n")
        if url is not None:
            (about / "direct_url.json").write_text(url if isinstance(url, str) else json.dumps(url))

    def runs_from(self, folder: Path) -> None:
        self._patch.setattr(distribution, "_ROOT", folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(tmp_path, monkeypatch)


def words(fix: str) -> list[str]:
    assert fix.startswith("`") and fix.endswith("`") and fix.count("`") == 2
    return shlex.split(fix[1:-1])


def archive(folder: Path) -> tuple[Path, dict[str, Any]]:
    wheel = folder / "dispatch_courier-1-py3-none-any.whl"
    wheel.touch()
    return wheel, {"url": wheel.as_uri(), "archive_info": {"hashes": {"sha256": SHA}}}


def test_an_archive_on_this_machine(here: Installed, tmp_path: Path) -> None:
    wheel, record = archive(tmp_path)
    here.add("dispatch-courier", record)
    assert words(distribution.adding("claude")) == [
        *(sys.executable, "-m", "pip", "install"),
        f"dispatch-courier[claude] @ {wheel.as_uri()}",
    ]
    assert words(distribution.again())[4:] == ["--force-reinstall", f"dispatch-courier @ {wheel.as_uri()}"]


def test_what_was_added_stays(here: Installed, tmp_path: Path) -> None:
    """Else uv and pipx would take the agent away when they mend something else."""
    wheel, record = archive(tmp_path)
    here.add("dispatch-courier", record)
    here.add("claude-agent-sdk")
    assert words(distribution.again())[-1] == f"dispatch-courier[claude] @ {wheel.as_uri()}"


def test_a_checkout(here: Installed, tmp_path: Path) -> None:
    checkout = tmp_path / "src of it"
    checkout.mkdir()
    here.add("dispatch-courier", {"url": checkout.as_uri(), "dir_info": {"editable": True}})
    here.runs_from(checkout)
    assert words(distribution.adding("claude"))[-2:] == ["--editable", f"{checkout}[claude]"]


@pytest.mark.parametrize(
    ("receipt", "adding", "again"),
    [
        ("uv-receipt.toml", "uv tool install --force", "uv tool install --reinstall"),
        ("pipx_metadata.json", "pipx install --force", "pipx install --force"),
    ],
)
def test_an_environment_that_a_tool_made_for_it(
    here: Installed, tmp_path: Path, receipt: str, adding: str, again: str
) -> None:
    wheel, record = archive(tmp_path)
    here.add("dispatch-courier", record, installer="uv")
    (here.prefix / receipt).touch()
    requirement = f"dispatch-courier[claude] @ {wheel.as_uri()}"
    assert words(distribution.adding("claude")) == [*adding.split(), requirement]
    assert words(distribution.again("claude")) == [*again.split(), requirement]


def test_an_environment_of_uv_has_no_pip(here: Installed, tmp_path: Path) -> None:
    here.add("dispatch-courier", archive(tmp_path)[1], installer="uv")
    assert words(distribution.again())[:6] == ["uv", "pip", "install", "--python", sys.executable, "--reinstall"]


def test_a_commit_and_an_archive_of_the_web_are_pinned(here: Installed) -> None:
    url = "https://git.example/dispatch.git"
    here.add("dispatch-courier", {"url": url, "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}})
    assert words(distribution.adding("claude"))[-1] == f"dispatch-courier[claude] @ git+{url}@c0ffee"
    assert distribution._pinned("https://x.example/a.whl", {"archive_info": {"hashes": {"sha256": SHA}}}).endswith(
        f"#sha256={SHA}"
    )


@pytest.mark.parametrize(
    "record",
    [
        None,
        "no json",
        "[]",
        {"url": 3},
        {"url": "https://me:secret@x.example/a.whl", "archive_info": {}},
        {"url": "file:///gone/dispatch_courier-1.whl", "archive_info": {}},
        {"url": "https://x.example/a.git", "vcs_info": {"vcs": "git"}},
    ],
    ids=str,
)
def test_what_is_unknown_or_gone_is_said_in_words(here: Installed, record: Any) -> None:
    """Installed from an index, too: that it came from there says nothing about whose it is."""
    here.add("dispatch-courier", record)
    assert SENTENCE in distribution.again() and "its extra claude" in distribution.adding("claude")
    assert "dispatch-courier" not in distribution.again() + distribution.adding("claude")


def test_metadata_of_another_copy_say_nothing(here: Installed, tmp_path: Path) -> None:
    """A checkout that is run as it lies, where an archive is installed as well."""
    here.add("dispatch-courier", archive(tmp_path)[1])
    here.runs_from(tmp_path)
    assert SENTENCE in distribution.again()


def test_not_installed_at_all(here: Installed) -> None:
    assert SENTENCE in distribution.again()


def test_this_checkout_as_it_is_installed_for_the_tests() -> None:
    if not any(each.read_text("direct_url.json") for each in metadata.distributions(name=distribution.NAME)):
        pytest.skip("the tests run without an installation")
    assert words(distribution.again("claude"))[-2:] == ["--editable", f"{ROOT}[claude]"]


@pytest.mark.long
def test_a_wheel_that_pip_installed(tmp_path: Path) -> None:
    """A stand-in for our wheel, with distribution.py alone, so that nothing is compiled; pip and venv are real."""
    source = tmp_path / "source"
    (source / "sandbox").mkdir(parents=True)
    (source / "sandbox/__init__.py").touch()
    (source / "sandbox/distribution.py").write_bytes(Path(distribution.__file__).read_bytes())
    (source / "pyproject.toml").write_text(
        '[project]\nname = "dispatch-courier"\nversion = "1"\noptional-dependencies.claude = []\n'
        '[tool.setuptools]\npackages = ["sandbox"]\n'
    )
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    made = run(sys.executable, "-c", build, tmp_path, cwd=source).splitlines()[-1]
    python = tmp_path / "env/bin/python"
    run(sys.executable, "-m", "venv", tmp_path / "env")
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", tmp_path / made)
    say = "from sandbox import distribution; print(distribution.adding('claude'))"
    command = words(run(python, "-I", "-c", say).strip())
    assert command == [
        *(str(python), "-m", "pip", "install"),
        f"dispatch-courier[claude] @ {(tmp_path / made).as_uri()}",
    ]
    run(*command, "--no-index")  # and it is a command that works


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=180, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
