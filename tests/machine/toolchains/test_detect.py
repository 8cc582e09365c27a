"""What a project is run with, found among what its person's version managers have installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peer.machine.toolchains import defaults, detect, prefixes
from peer.machine.toolchains.installed import Machine
from peer.machine.toolchains.values import Found
from tests.machine.toolchains.conftest import Home

UV = ".local/share/uv/python/cpython-3.12.7-linux-x86_64-gnu"


@pytest.fixture(autouse=True)
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """No language of this machine's own system, so that every machine gives the same answers."""
    monkeypatch.setattr(defaults, "system", lambda kind: None)


def parts(found: Found) -> dict[str, str]:
    return {str(part.at): str(part.path) for part in found.parts()}


def test_an_environment_leads_to_its_python(bob: Home) -> None:
    root = bob.installed(UV, "python3.12")
    minor = root.parent / "cpython-3.12-linux-x86_64-gnu"
    minor.symlink_to(root.name)
    bob.file(".venv/pyvenv.cfg", f"home = {minor}/bin\n")
    (bob.project / ".venv/bin").mkdir()
    (bob.project / ".venv/bin/python").symlink_to(minor / "bin/python3.12")
    bob.file(".python-version", "3.9\n")  # what is installed in the environment counts
    found = bob.find()
    assert found.labels() == ["Python 3.12.7 (uv)"] and found.not_seen == ()
    assert parts(found) == {f"{place}/{name}": f"{root}/{name}" for place in (root, minor) for name in ("bin", "lib")}
    frame = found.frame()
    assert frame.programs == [f"{minor}/bin"] and frame.variables == {"UV_PYTHON_INSTALL_DIR": str(root.parent)}


CASES = {
    "pyenv": (".pyenv/versions/3.12.1", ".python-version", "3.12", "Python 3.12.1 (pyenv)"),
    "nvm": (".nvm/versions/node/v22.1.0", ".nvmrc", "22", "node 22.1.0 (nvm)"),
    "fnm": (".local/share/fnm/node-versions/v20.2.0/installation", ".node-version", "v20.2.0", "node 20.2.0 (fnm)"),
    "volta": (".volta/tools/image/node/18.3.0", "package.json", '{"volta": {"node": "18.3.0"}}', "node 18.3.0 (volta)"),
    "rustup": (
        *(".rustup/toolchains/1.79.0-x86_64-unknown-linux-gnu", "rust-toolchain.toml"),
        *('[toolchain]\nchannel = "1.79.0"', "Rust 1.79.0 (rustup)"),
    ),
    "go": ("sdk/go1.22.3", "go.mod", "module x\ngo 1.21\n", "Go 1.22.3 (go)"),
    "sdkman": (".sdkman/candidates/java/21.0.2-tem", ".sdkmanrc", "java=21.0.2-tem", "Java 21.0.2 (sdkman)"),
    "mise": (".local/share/mise/installs/go/1.22.0", "mise.toml", '[tools]\ngo = "1.22"', "Go 1.22.0 (mise)"),
    "asdf": (".asdf/installs/golang/1.20.5/go", ".tool-versions", "golang 1.20.5", "Go 1.20.5 (asdf)"),
    "asdf python": (".asdf/installs/python/3.10.2", ".tool-versions", "python 3.10.2", "Python 3.10.2 (asdf)"),
    "java": (".sdkman/candidates/java/17.0.1-tem", ".java-version", "17", "Java 17.0.1 (sdkman)"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_version_that_the_project_asks_for(bob: Home, name: str) -> None:
    place, file, text, label = CASES[name]
    root = bob.installed(place, "x")
    bob.file(file, text)
    found = bob.find()
    assert found.labels() == [label] and found.not_seen == ()
    assert parts(found) == {f"{root}/bin": f"{root}/bin", f"{root}/lib": f"{root}/lib"}
    assert found.frame().programs == [f"{root}/bin"]


DEFAULTS = {
    "pyenv": (".pyenv/versions/", "3.11.7", "3.13.0", ".pyenv/version", "3.11.7\n", "pyproject.toml"),
    "nvm": (".nvm/versions/node/v", "20.1.0", "22.0.0", ".nvm/alias/default", "20", "package.json"),
    "volta": (
        *(".volta/tools/image/node/", "20.1.0", "22.0.0", ".volta/tools/user/platform.json"),
        *('{"node": {"runtime": "20.1.0"}}', "package.json"),
    ),
    "rustup": (
        *(".rustup/toolchains/", "nightly-x86_64", "stable-x86_64", ".rustup/settings.toml"),
        *('default_toolchain = "nightly-x86_64"', "Cargo.toml"),
    ),
    "asdf": (".asdf/installs/python/", "3.10.1", "3.12.1", ".tool-versions", "python 3.10.1", "tox.ini"),
    "mise": (
        *(".local/share/mise/installs/java/", "17.0.1", "21.0.1", ".config/mise/config.toml"),
        *('[tools]\njava = "17"', "pom.xml"),
    ),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_manager_was_told_where_a_project_asks_for_nothing(bob: Home, name: str) -> None:
    place, told, newer, file, text, marker = DEFAULTS[name]
    for version in (told, newer):
        bob.installed(f"{place}{version}", "x")
    (bob.home / file).parent.mkdir(parents=True, exist_ok=True)
    (bob.home / file).write_text(text)
    assert bob.find().labels() == []  # a project of no language
    bob.file(marker)
    (label,) = bob.find().labels()
    assert label.split()[1] == told.split("-")[0]
    (bob.home / file).unlink()
    assert bob.find().labels()[0].split()[1] == newer.split("-")[0]


def test_links_that_name_the_default(bob: Home) -> None:
    for version in ("17.0.1-tem", "21.0.1-tem"):
        bob.installed(f".sdkman/candidates/java/{version}", "java")
    (bob.home / ".sdkman/candidates/java/current").symlink_to("17.0.1-tem")
    for version in ("v20.1.0", "v22.1.0"):
        bob.installed(f".local/share/fnm/node-versions/{version}/installation", "node")
    (bob.home / ".local/share/fnm/aliases").mkdir()
    (bob.home / ".local/share/fnm/aliases/default").symlink_to("../node-versions/v20.1.0/installation")
    bob.file("pom.xml")
    bob.file("package.json", "{}")
    assert bob.find().labels() == ["node 20.1.0 (fnm)", "Java 17.0.1 (sdkman)"]


def test_a_shim_on_path_stands_for_what_its_manager_was_told(bob: Home) -> None:
    for version in ("3.11.7", "3.13.0"):
        bob.installed(f".pyenv/versions/{version}", "python3")
    shims = bob.home / ".pyenv/shims"
    shims.mkdir()
    (shims / "python3").write_text("#!/bin/sh\ntouch /tmp/ran; exec pyenv exec\n")
    (shims / "python3").chmod(0o755)
    (bob.home / ".pyenv/version").write_text("3.11.7\n")
    bob.file("setup.py")
    found = bob.find(PATH=f"{shims}:/usr/bin")
    assert found.labels() == ["Python 3.11.7 (pyenv)"]
    assert not any("shims" in place for place in parts(found))


def test_path_leads_to_a_toolchain(bob: Home) -> None:
    for version in ("v20.1.0", "v22.1.0"):
        bob.installed(f".nvm/versions/node/{version}", "node")
    bob.file("package.json", "{}")
    found = bob.find(PATH=f"relative:{bob.home}/nowhere:{bob.home}/.nvm/versions/node/v20.1.0/bin")
    assert found.labels() == ["node 20.1.0 (nvm)"]


def test_the_first_line_of_a_program_leads_to_a_toolchain(bob: Home) -> None:
    bob.installed(".pyenv/versions/3.11.7", "python3.11")
    bob.file("bin/manage", f"#!{bob.home}/.pyenv/versions/3.11.7/bin/python3.11\n")
    assert bob.find().labels() == ["Python 3.11.7 (pyenv)"]


def test_a_home_behind_a_link(bob: Home, tmp_path: Path) -> None:
    root = bob.installed(UV, "python3.12")
    (tmp_path / "users").symlink_to(bob.home.parent)
    named = tmp_path / "users/bob"
    (bob.project / ".venv/bin").mkdir(parents=True)
    (bob.project / ".venv/bin/python").symlink_to(named / UV / "bin/python3.12")
    machine = Machine(named, {}, ())
    found = detect.detect([bob.project], ["auto"], machine, found_prefixes=lambda _: iter(()))
    assert parts(found) == {
        f"{place}/{name}": f"{root}/{name}" for place in (root, named / UV) for name in ("bin", "lib")
    }


def test_an_environment_among_pyenvs_versions_comes_with_its_python(bob: Home) -> None:
    bob.installed(".pyenv/versions/3.11.7", "python3.11")
    environment = bob.home / ".pyenv/versions/3.11.7/envs/shop"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = x\n")
    (environment / "bin/python").symlink_to(bob.home / ".pyenv/versions/3.11.7/bin/python3.11")
    (bob.home / ".pyenv/versions/shop").symlink_to("3.11.7/envs/shop")
    bob.file(".python-version", "shop\n")
    found = bob.find()
    assert found.labels() == ["Python shop (pyenv)", "Python 3.11.7 (pyenv)"]
    assert str(environment / "pyvenv.cfg") in parts(found).values()


def test_several_languages_and_folders_of_one_project(bob: Home) -> None:
    bob.installed(".nvm/versions/node/v22.1.0", "node")
    bob.installed(UV, "python3.12")
    bob.file("web/package.json", "{}")
    bob.file("api/pyproject.toml")
    assert bob.find().labels() == ["Python 3.12.7 (uv)", "node 22.1.0 (nvm)"]
    assert bob.find("none").labels() == []


def test_a_version_that_is_not_here_is_said(bob: Home) -> None:
    bob.installed(".pyenv/versions/3.12.1", "python3")
    bob.file(".python-version", "3.9.2\n")
    found = bob.find()
    assert found.labels() == ["Python 3.12.1 (pyenv)"]
    missing = "Python 3.9.2, which .python-version asks for, is not installed by any version manager here"
    assert found.not_seen == (missing,)
    bob.file("Cargo.toml")
    assert bob.find().not_seen[1:] == ("Rust, which the project needs, was not found",)


def test_programs_one_by_one(bob: Home) -> None:
    bob.installed(UV, "python3.12")
    programs = bob.home / ".local/bin"
    programs.mkdir()
    for name, content in {
        **{"just": b"\x7fELF", "dispatch-daemon": b"\x7fELF", "deploy": b"#!/bin/sh\nTOKEN=x\n", "notes": b"text"},
        "rustup": b"\x7fELF",
    }.items():
        (programs / name).write_bytes(content)
        (programs / name).chmod(0o755)
    (programs / "cargo").symlink_to("rustup")
    tool = bob.home / ".local/share/uv/tools/ruff"
    (tool / "bin").mkdir(parents=True)
    (tool / "lib").mkdir()
    (tool / "pyvenv.cfg").write_text("home = x\n")
    (tool / "uv-receipt.toml").write_text("index = 'https://user:secret@host'\n")
    (tool / "bin/python").symlink_to(bob.home / UV / "bin/python3.12")
    (tool / "bin/ruff").write_text(f"#!{tool}/bin/python\n")
    (tool / "bin/ruff").chmod(0o755)
    (programs / "ruff").symlink_to(tool / "bin/ruff")
    key = bob.file("../../.ssh/id", "\x7fELF")
    key.chmod(0o755)
    (programs / "key").symlink_to(key)
    found = bob.find()
    assert found.labels() == ["2 programs in ~/.local/bin"]
    seen = parts(found)
    assert {at for at in seen if at.startswith(str(programs))} == {f"{programs}/just", f"{programs}/ruff"}
    assert seen[f"{programs}/ruff"] == f"{tool}/bin/ruff"
    assert f"{bob.home}/{UV}/lib" in seen and f"{tool}/pyvenv.cfg" in seen
    assert not any("receipt" in at or ".ssh" in path for at, path in seen.items())
    assert found.frame().programs == [str(programs)]


def test_homebrew_and_nix_where_a_language_leads_there(bob: Home, tmp_path: Path) -> None:
    brew = bob.installed("../linuxbrew/.linuxbrew")
    (brew / "Cellar/node/22/bin").mkdir(parents=True)
    (brew / "Cellar/node/22/bin/node").write_bytes(b"\x7fELF")
    (brew / "bin/node").symlink_to("../Cellar/node/22/bin/node")
    brew = brew.resolve()
    store = tmp_path.resolve() / "nix/store"
    (store / "abc-go/bin").mkdir(parents=True)
    (store / "abc-go/bin/go").write_bytes(b"\x7fELF")
    (bob.home / ".nix-profile").symlink_to(store / "abc-go")
    bob.file("package.json", "{}")
    bob.file("go.mod", "module x\n")

    def found() -> Found:
        machine = bob.machine(PATH=f"{brew}/bin:{bob.home}/.nix-profile/bin")
        return detect.detect(
            [bob.project],
            ["auto"],
            machine,
            found_prefixes=lambda one: prefixes.prefixes(one, brews=(brew,), nix=store),
        )

    assert found().labels() == ["Homebrew", "the Nix store"]
    seen = parts(found())
    assert f"{brew}/Cellar" in seen and str(store) in seen and f"{brew}/etc" not in seen
    assert f"{store}/abc-go/bin" in found().frame().programs


def test_detection_is_bounded(bob: Home) -> None:
    for number in range(60):
        bob.installed(f".pyenv/versions/3.{number}.0", "python3")
        bob.file(f"p{number:02}/.venv/pyvenv.cfg", f"home = {bob.home}/.pyenv/versions/3.{number}.0/bin\n")
    found = bob.find()
    assert len(found.parts()) <= 96 and len(found.not_seen) <= 12
    assert "it sees at most 96" in found.not_seen[0]


def test_settings_inside_a_layout_keep_it_from_being_seen(bob: Home) -> None:
    root = bob.installed(".nvm/versions/node/v22.1.0", "node")
    (root / "lib/node_modules/npm").mkdir(parents=True)
    (root / "lib/node_modules/npm/npmrc").write_text("//registry/:_authToken=secret")
    bob.file("package.json", json.dumps({}))
    assert bob.find().labels() == []
