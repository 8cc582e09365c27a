"""The registries that a project's own files name: all, by the host that can be granted; hostile files too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.projects import lock_files, named_registries

A, B = "https://a.example/x", "https://b.example:8443/"
BOTH = ["a.example", "b.example:8443"]
NPMRC = f'registry={A}\n@corp:registry = "{B}"\n; registry=https://no.example\n//c.example/:_authToken=x\n'


def named(folder: Path) -> named_registries.Named:
    return named_registries.read(folder, lock_files.read([folder]))


@pytest.mark.parametrize(
    ("file", "content", "hosts"),
    [
        (".npmrc", NPMRC, BOTH),
        (".yarnrc", f'registry "{A}"\n', ["a.example"]),
        (".yarnrc.yml", f"npmScopes:\n  corp:\n    npmRegistryServer: '{A}'\n", ["a.example"]),
        ("bunfig.toml", f'[install]\nregistry = "{A}"\n', ["a.example"]),
        ("pip.conf", f"[global]\nindex-url = {A}\nextra-index-url =\n    {B}\n", BOTH),
        (".venv/pip.conf", f"[install]\nfind-links = {A}\n", ["a.example"]),
        ("uv.toml", f'[[index]]\nurl = "{A}"\n', ["a.example"]),
        (
            "pyproject.toml",
            f'[project.urls]\nHome = "https://no.example"\n[[tool.uv.index]]\nurl = "{A}"\n'
            f'[tool.uv.pip]\nextra-index-url = ["{B}"]\n[[tool.poetry.source]]\nurl = "https://p.example"\n'
            '[[tool.pdm.source]]\nurl = "https://d.example"\n',
            ["a.example", "b.example:8443", "p.example", "d.example"],
        ),
        ("Pipfile", f'[[source]]\nurl = "{A}"\n', ["a.example"]),
        (
            "requirements-dev.txt",
            f"--index-url {A}\n-f {B}\nx @ https://no.example/x.whl\n",
            BOTH,
        ),
        (
            ".cargo/config.toml",
            f'[registries.corp]\nindex = "sparse+{A}/"\n[source.m]\nregistry = "{B}"\n',
            BOTH,
        ),
        (
            "Cargo.lock",
            '[[package]]\nname = "a"\nversion = "1.0.0"\n'
            'source = "registry+https://github.com/rust-lang/crates.io-index"\n'
            f'[[package]]\nname = "b"\nversion = "1.0.0"\nsource = "sparse+{A}"\n',
            ["a.example"],
        ),
        ("uv.lock", f'[[package]]\nname = "a"\nversion = "1.0"\nsource = {{ registry = "{A}" }}\n', ["a.example"]),
    ],
)
def test_what_each_tools_files_name(tmp_path: Path, file: str, content: str, hosts: list[str]) -> None:
    for folder in (tmp_path, tmp_path / "packages"):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    label = named_registries.LOCK_FILES if file.endswith(".lock") else file
    files = [label] if label != file else [file, f"packages/{file}"]
    assert named(tmp_path) == (dict.fromkeys(hosts, files), [])


def test_what_no_run_reaches_is_named_as_such(tmp_path: Path) -> None:
    lines = [f"registry={each}" for each in ("http://a.example", "https://me:pw@10.0.0.1/x", "https://intranet/npm")]
    (tmp_path / ".npmrc").write_text(
        "\n".join([*lines, "registry=https://[::1", "registry=https://me:pw@A.example:443/"])
    )
    hosts, others = named(tmp_path)
    assert hosts == {"a.example": [".npmrc"]}
    assert others[:3] == ["a.example", "10.0.0.1", "intranet"] and "pw" not in str(others)


def test_nothing_outside_is_read_and_nothing_waits(tmp_path: Path) -> None:
    out, project = tmp_path / "out", tmp_path / "project"
    for folder in (out / ".cargo", out / "deep", project):
        folder.mkdir(parents=True)
    (out / ".npmrc").write_text(f"registry={A}\n")
    (out / ".cargo/config.toml").write_text(f'[registries.corp]\nindex = "{A}"\n')
    (project / ".npmrc").symlink_to(out / ".npmrc")
    (project / ".cargo").symlink_to(out / ".cargo")
    (project / "sub").symlink_to(out)
    os.mkfifo(project / "uv.toml")
    assert named(project) == ({}, [])


def test_reading_is_bounded(tmp_path: Path) -> None:
    """And no file is hidden among many."""
    for number in range(300):
        (tmp_path / f"file{number}").touch()
    (tmp_path / ".npmrc").write_text("".join(f"registry=https://r{number}.example\n" for number in range(60)))
    (tmp_path / "pip.conf").write_text("#" * named_registries.MAX_BYTES + f"\nindex-url = {A}\n")
    (tmp_path / "pyproject.toml").write_text("a." * 900 + 'b = 1\n[tool.uv]\nindex-url = "https://z.example"\n')
    hosts, _ = named(tmp_path)
    assert [*hosts] == [f"r{number}.example" for number in range(named_registries.MAX_NAMED)]


@given(name=st.sampled_from([".npmrc", "pyproject.toml", "Pipfile", "requirements.txt"]), content=st.binary())
def test_any_content_is_read(tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("project")
    (folder / name).write_bytes(b'[tool.uv]\nindex-url = "https://' + content)
    named(folder)
