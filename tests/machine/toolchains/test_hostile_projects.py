"""A project's files never name a path to show: whatever they say, a run sees what lies below a manager's own folder.

Each of these was seen to fail with the check that it is about taken out of installed.py or detect.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from peer.machine import looking
from peer.machine.toolchains import defaults, wishes
from peer.machine.toolchains.detect import detect
from peer.machine.toolchains.installed import Machine, known
from peer.machine.toolchains.named import check_named
from peer.protocol.errors import Invalid
from tests.machine.toolchains.conftest import Home

PYTHON = ".pyenv/versions/3.12.1"


@pytest.fixture(autouse=True)
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "system", lambda kind: None)


def environment(bob: Home, target: Path | str, cfg: str = "") -> None:
    (bob.project / ".venv/bin").mkdir(parents=True)
    (bob.project / ".venv/bin/python").symlink_to(target)
    if cfg:
        (bob.project / ".venv/pyvenv.cfg").write_text(cfg)


def secret(bob: Home) -> Path:
    """A folder that looks like a toolchain, with a key in it."""
    (bob.home / ".ssh/bin").mkdir(parents=True, exist_ok=True)
    (bob.home / ".ssh/lib").mkdir(exist_ok=True)
    (bob.home / ".ssh/bin/id").write_text("key")
    return bob.home / ".ssh"


def link_to_a_key(bob: Home) -> None:
    environment(bob, secret(bob) / "bin/id")


def home_of_an_environment(bob: Home) -> None:
    (bob.project / ".venv/bin").mkdir(parents=True)
    (bob.project / ".venv/bin/python").write_text("")
    (bob.project / ".venv/pyvenv.cfg").write_text(f"home = {secret(bob)}/bin\n")


def home_in_etc(bob: Home) -> None:
    environment(bob, "/etc/passwd", "home = /etc\n")


def out_of_a_version_by_dots(bob: Home) -> None:
    secret(bob)
    environment(
        bob, bob.home / PYTHON / "bin/../../../../.ssh/bin/id", f"home = {bob.home}/{PYTHON}/../../../.ssh/bin\n"
    )


def environment_that_is_a_link(bob: Home) -> None:
    (bob.project / ".venv").symlink_to(secret(bob))


def rust_by_path(bob: Home) -> None:
    bob.file("rust-toolchain.toml", f'[toolchain]\npath = "{secret(bob)}"\n')


def version_that_is_a_path(bob: Home) -> None:
    bob.file(".python-version", "../../.ssh\n")
    bob.file(".nvmrc", str(secret(bob)))
    bob.file(".tool-versions", f"python path:{bob.home}/.ssh\ngolang ref:../../.ssh\n")
    bob.file("mise.toml", f'[tools]\njava = "path:{bob.home}/.ssh"\nrust = {{ path = "{bob.home}/.ssh" }}\n')
    bob.file(".sdkmanrc", "java=../../../.ssh\n")


def alias_that_is_a_path(bob: Home) -> None:
    bob.installed(".nvm/versions/node/v22.1.0", "node")
    (bob.home / ".nvm/alias").mkdir()
    (secret(bob) / "default").write_text("22\n")
    bob.file(".nvmrc", "../../.ssh/default\n")


def first_line(bob: Home) -> None:
    bob.file("bin/run", f"#!{secret(bob)}/bin/id -x\n")
    (bob.project / "bin/more").symlink_to(bob.home / ".ssh/bin/id")


PROJECTS: tuple[Callable[[Home], None], ...] = (
    *(link_to_a_key, home_of_an_environment, home_in_etc, out_of_a_version_by_dots, environment_that_is_a_link),
    *(rust_by_path, version_that_is_a_path, alias_that_is_a_path, first_line),
)


@pytest.mark.parametrize("project", PROJECTS)
def test_no_project_names_what_is_seen(bob: Home, project: Callable[[Home], None]) -> None:
    bob.installed(PYTHON, "python3")
    (bob.home / PYTHON / "bin/key").symlink_to("../../../../.ssh/bin/id")
    project(bob)
    found = bob.find()
    allowed = (bob.home / ".pyenv/versions", bob.home / ".nvm/versions")
    for part in found.parts():
        assert any(part.path.is_relative_to(folder) and part.at.is_relative_to(folder) for folder in allowed), part
    for folder in found.frame().programs:
        assert any(Path(folder).is_relative_to(place) for place in allowed)


@pytest.mark.parametrize("project", [each for each in PROJECTS if each not in (first_line, alias_that_is_a_path)])
def test_what_is_not_seen_is_said(bob: Home, project: Callable[[Home], None]) -> None:
    project(bob)
    reasons = ("is not visible to a run: ", "is ignored: ")
    assert any(reason in sentence for sentence in bob.find().not_seen for reason in reasons)


def test_what_is_said(bob: Home) -> None:
    environment_that_is_a_link(bob)
    version_that_is_a_path(bob)
    rest = "is ignored: a project cannot choose what a run sees of this machine"
    assert ".venv is not visible to a run: it links to a folder outside the project" in bob.find().not_seen
    assert f"the path in .tool-versions {rest}" in bob.find().not_seen


def test_an_alias_is_one_of_nvms(bob: Home) -> None:
    for version in ("v20.1.0", "v22.1.0"):
        bob.installed(f".nvm/versions/node/{version}", "node")
    (bob.home / ".nvm/alias/lts").mkdir(parents=True)
    (bob.home / ".nvm/elsewhere").write_text("20\n")
    bob.file(".nvmrc", "lts/../../elsewhere\n")
    assert bob.find().labels() == ["node 22.1.0 (nvm)"]


def test_a_trail_follows_names_as_the_kernel_does(tmp_path: Path) -> None:
    base = tmp_path.resolve()
    (base / "a/b").mkdir(parents=True)
    (base / "file").write_text("x")
    (base / "link").symlink_to("a/b")
    (base / "a/b/up").symlink_to("../../file")
    assert looking.trail(base / "link/up")[-1] == base / "file"
    assert looking.trail(base / "link/../../file")[-1] == base / "file"
    assert looking.trail(base / "a/../file") == (base / "a/../file", base / "file")
    assert looking.trail(base / "link/../file") == looking.trail(base / "missing") == ()


def test_links_without_end(bob: Home) -> None:
    environment(bob, "python")
    (bob.project / "bin").mkdir()
    (bob.project / "bin/a").symlink_to("b")
    (bob.project / "bin/b").symlink_to("a")
    (bob.project / "venv").symlink_to("venv")
    found = bob.find()
    assert found.labels() == []
    assert "the Python that .venv uses is not on this machine" in found.not_seen


def test_files_that_never_end_or_never_begin(bob: Home, tmp_path: Path) -> None:
    """Nobody writes to the pipes, and one file is larger than any memory; a thread that waited would be seen."""
    for name in (".python-version", "rust-toolchain.toml", "go.mod", "pyproject.toml"):
        os.mkfifo(bob.project / name)
    with (bob.project / "package.json").open("wb") as file:
        file.truncate(1 << 40)
    with (bob.project / ".tool-versions").open("wb") as file:
        file.write(b"python " + b"9" * 1_000_000)
    (bob.project / ".nvmrc").symlink_to("/dev/zero")
    (bob.project / "mise.toml").mkdir()
    (bob.project / ".sdkmanrc").symlink_to(secret(bob) / "bin/id")
    done = threading.Event()

    def look() -> None:
        bob.find()
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(60)


def test_names_made_to_confuse(bob: Home) -> None:
    for name in ("a\nb", "\x1b[31mred", "\udcff", "x" * 250):
        (bob.project / name / ".venv/bin").mkdir(parents=True)
        (bob.project / name / ".venv/bin/python").symlink_to("/etc/shadow\n\x1b[2J")
    for sentence in bob.find().not_seen:
        assert sentence.isprintable() and len(sentence) < 600


def test_a_link_out_of_a_managers_folder_is_no_version(bob: Home) -> None:
    root = secret(bob)
    (bob.home / ".pyenv/versions").mkdir(parents=True)
    (bob.home / ".pyenv/versions/3.12.1").symlink_to(root)
    (bob.home / ".rustup/toolchains").mkdir(parents=True)
    (bob.home / ".rustup/toolchains/stable-mine").symlink_to(root)
    bob.file(".python-version", "3.12.1")
    bob.file("rust-toolchain", "stable")
    environment(bob, bob.home / ".pyenv/versions/3.12.1/bin/id")
    found = bob.find()
    assert found.parts() == ()
    assert any("it leads out of its manager's folder" in sentence for sentence in found.not_seen)


def test_a_part_that_leads_out_of_its_toolchain_is_left_out(bob: Home) -> None:
    root = bob.installed(PYTHON, "python3")
    (root / "share").symlink_to(secret(bob))
    (root / "include").symlink_to("..")
    bob.file(".python-version", "3.12.1")
    assert {part.at.name for part in bob.find().parts()} == {"bin", "lib"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_another_user(bob: Home) -> None:
    root = bob.installed(PYTHON, "python3")
    bob.file(".python-version", "3.12.1")
    assert bob.find().labels() == ["Python 3.12.1 (pyenv)"]
    os.chown(root, 12345, 12345)
    assert bob.find().parts() == ()
    os.chown(root, 0, 0)
    os.chown(root.parent, 12345, 12345)
    assert bob.find().parts() == ()


def test_what_everybody_may_write(bob: Home) -> None:
    root = bob.installed(PYTHON, "python3")
    bob.file(".python-version", "3.12.1")
    root.chmod(0o777)
    assert bob.find().parts() == ()


def test_a_managers_folder_that_holds_the_home_or_the_state(bob: Home) -> None:
    state = bob.home / ".pyenv/versions/3.12.1/lib/dispatch"
    bob.installed(PYTHON, "python3")
    state.mkdir(parents=True)
    bob.file(".python-version", "3.12.1")
    machine = Machine(bob.home, {}, (state,))
    assert detect([bob.project], ["auto"], machine, found_prefixes=lambda _: iter(())).parts() == ()
    for name in ("UV_PYTHON_INSTALL_DIR", "PYENV_ROOT"):
        found = bob.find(**{name: str(bob.home.parent.parent)})
        assert not any(bob.home.is_relative_to(part.path) for part in found.parts())


def test_nothing_is_run(bob: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program of the project, of the manager and on PATH is one that would leave a mark."""
    mark = bob.home / "ran"
    for place in (PYTHON, ".cargo", ".local", "code/shop/.venv", ".nvm/versions/node/v22.1.0"):
        root = bob.installed(place)
        for name in ("python", "python3", "node", "cargo", "rustup", "pyenv", "uv"):
            (root / "bin" / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
            (root / "bin" / name).chmod(0o755)
    bob.file(".python-version", "3.12.1")
    bob.file("Cargo.toml")

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    for name in ("posix_spawn", "fork", "execve", "execv", "system"):
        monkeypatch.setattr(os, name, started)
    assert bob.find(PATH=f"{bob.home}/.cargo/bin:{bob.home}/.local/bin:/usr/bin").labels()
    assert not mark.exists()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("~", "home folder"),
        ("~/..", "home folder"),
        ("/", "home folder"),
        ("/usr/lib", "every run sees"),
        ("~/.ssh", "keys"),
        ("~/.config", "keys"),
        ("~/.local/bin", "keys"),
        ("~/.local/bin/notes", "neither"),
        ("~/.ssh/bin/id", "neither"),
        ("~/.ssh/bin/run", "keys"),
        ("~/.dispatch", "state"),
        ("~/.dispatch/tool", "state"),
        ("~/nowhere", "does not exist"),
        ("nowhere", "does not exist"),
        ("/etc", "belongs to the system"),
        ("~/link", "keys"),
    ],
)
def test_what_a_person_cannot_name_either(bob: Home, path: str, why: str) -> None:
    secret(bob)
    for name in (".config", ".local/bin", ".dispatch/tool"):
        (bob.home / name).mkdir(parents=True)
    (bob.home / ".local/bin/notes").write_text("x")
    (bob.home / ".ssh/bin/run").write_text("x")
    (bob.home / ".ssh/bin/run").chmod(0o755)
    (bob.home / "link").symlink_to(".ssh")
    named = path.replace("~", str(bob.home))
    with pytest.raises(Invalid) as refused:
        check_named(named, bob.machine())
    assert why in refused.value.message and refused.value.fix
    found = bob.find(named)
    assert found.parts() == () and "is not visible to a run" in found.not_seen[0]


def test_what_a_person_names(bob: Home) -> None:
    tool = bob.home / "tools/sdk"
    (tool / "bin").mkdir(parents=True)
    (bob.home / ".local/bin").mkdir(parents=True)
    program = bob.home / ".local/bin/deploy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (tool, program):
        assert check_named(str(path), bob.machine()) == str(path)
    found = bob.find(str(tool), str(program))
    assert [str(part.at) for part in found.parts()] == [str(tool), str(program)]
    assert found.frame().programs == [f"{tool}/bin", str(program.parent)]
    program.unlink()
    program.symlink_to(secret(bob) / "bin/id")
    assert [str(part.at) for part in bob.find(str(tool), str(program)).parts()] == [str(tool)]


def test_folders_of_many_entries(bob: Home) -> None:
    """Of a manager, of a project, of an environment: what is looked at is counted."""
    for number in range(looking.ENTRIES + 50):
        (bob.home / f".pyenv/versions/3.{number}.0/bin").mkdir(parents=True)
        bob.file(f"part{number}/.python-version", f"9.{number}")
    assert len(known(bob.machine()).toolchains) == looking.ENTRIES
    assert len(wishes.wishes(bob.project).versions) == looking.ENTRIES
    assert len(bob.find().not_seen) == 1
