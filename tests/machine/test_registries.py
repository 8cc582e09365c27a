"""The registries of this machine's tools: the real pip and npm are asked; settings of cargo, go and uv are made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peer.machine import registries
from peer.machine.registries import find
from peer.trust.scopes import Registry
from sandbox.network.packages.wanted import CRATES_IO


def tool(folder: Path, name: str, says: str) -> None:
    """A fake of a tool, which says one thing."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\ncat <<'.'\n{says}\n.\n")
    (folder / name).chmod(0o755)


def test_pip_and_npm_say_what_they_are_set_to(tmp_path: Path) -> None:
    env = {
        **{"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYENV_ROOT": os.environ.get("PYENV_ROOT", "")},
        **{"PIP_INDEX_URL": "https://pypi.example/simple/", "npm_config_registry": "https://npm.example/"},
    }
    found, _ = find(env)
    by_kind = registries.by_kind(found)
    if not by_kind.keys() >= {"pip", "npm"}:
        pytest.skip(f"this machine has no pip or no npm: {by_kind.keys()}")
    assert by_kind["pip"] == ["https://pypi.example/simple"] and by_kind["npm"] == ["https://npm.example"]


def test_a_project_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm would read the settings of the folder that it is started in."""
    (tmp_path / ".npmrc").write_text("registry=https://evil.example/\n")
    monkeypatch.chdir(tmp_path)
    found, _ = find({"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "PWD": str(tmp_path)})
    assert not any("evil" in registry.address for registry in found)


def test_settings_of_uv_cargo_and_go(tmp_path: Path) -> None:
    programs, home = tmp_path / "bin", tmp_path / "home"
    env = {"PATH": str(programs), "HOME": str(home)}
    (home / ".config/uv").mkdir(parents=True)
    (home / ".cargo").mkdir()
    assert find(env) == ((), [])
    for name in ("cat", "sh"):
        programs.mkdir(exist_ok=True)
        (programs / name).symlink_to(f"/bin/{name}")
    tool(programs, "cargo", "")
    assert find(env)[0] == (Registry("cargo", CRATES_IO),)
    (home / ".cargo/config.toml").write_text(
        '[source.crates-io]\nreplace-with = "a"\n[source.a]\nreplace-with = "b"\n'
        '[source.b]\nregistry = "sparse+https://crates.example/index/"\n'
    )
    (home / ".config/uv/uv.toml").write_text('[[index]]\nurl = "https://uv.example/simple"\ndefault = true\n')
    tool(programs, "go", "https://go.example,direct")
    assert find(env)[0] == (
        Registry("pip", "https://uv.example/simple"),
        Registry("cargo", "https://crates.example/index"),
        Registry("go", "https://go.example"),
    )
    tool(programs, "go", "off")
    for broken in ("[", '[source.crates-io]\nreplace-with = "crates-io"\n', "source = 3\n"):
        (home / ".cargo/config.toml").write_text(broken)
        assert [registry.kind for registry in find(env)[0] if registry.address != CRATES_IO] == ["pip"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("https://me:hunter2@pypi.example/simple", "needs a password"),
        ("http://pypi.example/simple", "not a plain https address"),
        ("file:///srv/simple", "not a plain https address"),
        ("https://pypi.example/simple?key=hunter2", "not a plain https address"),
        ("https://pypi.example:port/simple", "no usable address"),
        ("me:hunter2@pypi.example/simple", "not a plain https address"),
    ],
)
def test_what_cannot_be_granted_is_said_without_its_password(tmp_path: Path, address: str, why: str) -> None:
    tool(tmp_path, "npm", address)
    for name in ("cat", "sh"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    found, refused = find({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert found == () and len(refused) == 1
    assert why in refused[0] and "hunter2" not in refused[0]


def test_one_form_of_each_address(tmp_path: Path) -> None:
    """The one by which it is asked for at the proxy."""
    tool(tmp_path, "npm", "https://NPM.Example:443/Path/")
    for name in ("cat", "sh"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    assert find({"PATH": str(tmp_path), "HOME": str(tmp_path)})[0] == (Registry("npm", "https://npm.example/Path"),)


def test_a_tool_that_fails_or_hangs_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "_SECONDS", 0.2)
    for name, text in (("npm", "exit 1"), ("go", "exec sleep 100")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "sleep").symlink_to("/bin/sleep")
    assert find({"PATH": str(tmp_path), "HOME": str(tmp_path)}) == ((), [])
