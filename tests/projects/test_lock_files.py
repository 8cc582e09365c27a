"""What lock files name: of each tool's own form, and of hostile ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.projects import lock_files
from peer.projects.lock_files import read
from sandbox.changes.draft import Draft
from sandbox.changes.marks import Tracked, marks

UV = """
version = 1
[[package]]
name = "Requests"
version = "2.31.0"
source = { registry = "https://pypi.example/simple" }
sdist = { url = "https://files.example/requests-2.31.0.tar.gz", hash = "sha256:0" }
wheels = [{ url = "https://Files2.example/requests-2.31.0-py3-none-any.whl" }]
[[package]]
name = "shop"
version = "0.1.0"
source = { editable = "." }
[[package]]
name = "fork"
version = "1.0"
source = { git = "https://git.example/x" }
"""
REQUIREMENTS = """
# made by a tool
--index-url https://evil.example/simple
requests[socks]==2.31.0 ; python_version > "3.8" \\
    --hash=sha256:00 \\
    --hash=sha256:01
Zope.Interface == 6.0  # comment
loose>=1
star==1.*
other @ https://evil.example/x.whl
-e .
"""
NPM = {
    "packages": {
        "": {"name": "shop", "version": "1.0.0"},
        "node_modules/left": {"version": "1.0.0", "resolved": "https://npm.example/left/-/left-1.0.0.tgz"},
        "node_modules/a/node_modules/@s/b": {"version": "2.0.0"},
        "node_modules/alias": {"name": "real", "version": "3.0.0"},
        "node_modules/link": {"link": True, "version": "1"},
    }
}
OLD_NPM = {"dependencies": {"left": {"version": "1.0.0", "dependencies": {"inner": {"version": "0.1.0"}}}}}
YARN = """
# yarn lockfile v1
"@s/b@^1.0.0", "@s/b@^1.1.0":
  version "1.2.0"
left@^1.0:
  version "1.0.0"
  dependencies:
    version "9"
"berry@npm:^2.0.0":
  version: 2.1.0
"""
PNPM = """
packages:
  /old@1.0.0:
    resolution: {integrity: x}
  '@s/b@2.0.0(peer@1.0.0)':
    resolution: {integrity: x}
  left@3.0.0:
    resolution: {integrity: x}
"""
CARGO = """
version = 3
[[package]]
name = "Adder"
version = "1.0.0"
source = "registry+https://github.example/index"
[[package]]
name = "shop"
version = "0.1.0"
[[package]]
name = "forked"
version = "1.0.0"
source = "git+https://git.example/x"
"""
GO = "golang.org/x/text v0.3.0 h1:x\ngolang.org/x/text v0.3.0/go.mod h1:y\ngithub.com/Azure/go v1.2.3/go.mod h1:z\n"


@pytest.mark.parametrize(
    ("name", "content", "kind", "packages"),
    [
        ("uv.lock", UV, "pip", {"requests": ["2.31.0"]}),
        ("poetry.lock", '[[package]]\nname = "a"\nversion = "1.0.0"\n', "pip", {"a": ["1.0.0"]}),
        ("pylock.toml", '[[packages]]\nname = "a"\nversion = "1.0"\n', "pip", {"a": ["1.0"]}),
        ("requirements.txt", REQUIREMENTS, "pip", {"requests": ["2.31.0"], "zope-interface": ["6.0"]}),
        ("requirements-dev.txt", "a==1\n", "pip", {"a": ["1"]}),
        ("Pipfile.lock", '{"default": {"a": {"version": "==1.0"}, "b": {}}}', "pip", {"a": ["1.0"]}),
        ("package-lock.json", json.dumps(NPM), "npm", {"@s/b": ["2.0.0"], "left": ["1.0.0"], "real": ["3.0.0"]}),
        ("npm-shrinkwrap.json", json.dumps(OLD_NPM), "npm", {"inner": ["0.1.0"], "left": ["1.0.0"]}),
        ("yarn.lock", YARN, "npm", {"@s/b": ["1.2.0"], "berry": ["2.1.0"], "left": ["1.0.0"]}),
        ("pnpm-lock.yaml", PNPM, "npm", {"@s/b": ["2.0.0"], "left": ["3.0.0"], "old": ["1.0.0"]}),
        ("Cargo.lock", CARGO, "cargo", {"Adder": ["1.0.0"]}),
        ("go.sum", GO, "go", {"github.com/Azure/go": ["v1.2.3"], "golang.org/x/text": ["v0.3.0"]}),
    ],
)
def test_each_tools_own_form(
    tmp_path: Path, name: str, content: str, kind: str, packages: dict[str, list[str]]
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / name).write_text(content)
    found = read([tmp_path])
    assert found.packages == {kind: packages}
    assert found.files == [f"app/{name}"] and found.unread == [] and found.number == len(packages)


def test_hosts_of_files(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text(UV)
    (tmp_path / "package-lock.json").write_text(json.dumps(NPM))
    assert read([tmp_path]).hosts == ["npm.example", "files.example", "files2.example"]


@pytest.mark.parametrize("name", sorted(lock_files._READERS))
@given(content=st.binary(max_size=200))
def test_any_content_is_read_or_said(tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("x")
    (folder / name).write_bytes(content)
    found = read([folder])
    assert len(found.files) + len(found.unread) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("uv.lock", "broken"),
        ("uv.lock", "[[package]]\nname = 3\nversion = []\n"),
        ("uv.lock", "package = 3\n"),
        ("uv.lock", '[[package]]\nname = "a"\nversion = "not a version"\n'),
        ("package-lock.json", "[" * 100_000),
        ("package-lock.json", '{"packages": 3}'),
        ("Cargo.lock", 'package = ["a"]\n'),
    ],
)
def test_broken_ones_are_said(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read([tmp_path]).unread == [name]


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go.sum").write_text(
        "".join(f"a.example/m{n} v1.0.0 h1:x\n" for n in range(lock_files.MAX_PACKAGES + 1))
    )
    found = read([tmp_path])
    assert found.number == lock_files.MAX_PACKAGES and found.unread == ["go.sum"]
    monkeypatch.setattr(lock_files, "MAX_BYTES", 100)
    assert read([tmp_path]).number == 0


@given(st.one_of(st.sampled_from(sorted(lock_files._READERS)), st.from_regex(lock_files._REQUIREMENTS, fullmatch=True)))
def test_no_run_changes_one_unseen(name: str) -> None:
    """With `apply: auto` it would choose the packages of the next run, whose names leave."""
    change = Draft(f"sub/{name}".encode(), "added", "file", size=10, sha256="0" * 64, plain=True)
    assert marks(change, Tracked())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("package-lock.json", '{"dependencies": {"a": {}}}'),
        ("package-lock.json", '{"packages": {"node_modules/a": {"version": {}}, "node_modules/b": []}}'),
        ("uv.lock", '[[package]]\nversion = "1"\n'),
        ("Cargo.lock", '[[package]]\nsource = "registry+x"\n'),
        ("Pipfile.lock", '{"default": {"a": 3}}'),
        # Python's reader of TOML takes the square of a key's parts.
        ("Cargo.lock", ".".join("a" * 20_000) + " = 1\n"),
        ("uv.lock", "x = {" + ".".join("a" * 20_000) + " = 1}\n"),
        ("uv.lock", "x = " + "[" * 20_000),
    ],
)
def test_a_file_that_is_none_of_its_tools_is_said_to_be_unread(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = read([tmp_path])
    assert found.unread == [name] and found.files == []


@pytest.mark.parametrize("name", ["pnpm-lock.yaml", "yarn.lock", "requirements.txt"])
def test_a_long_line_is_not_looked_at_without_end(tmp_path: Path, name: str) -> None:
    """One that the expressions below take the square of."""
    (tmp_path / name).write_text(f"  a@1{'x' * 1_000_000}\na==1\n")
    assert len(read([tmp_path]).entries) <= 1


def test_all_lock_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/requirements.txt").write_text(f"a{number}==1\n")
    monkeypatch.setattr(lock_files, "MAX_BYTES_IN_ALL", 20)
    found = read([tmp_path])
    assert found.files == [f"{number}/requirements.txt" for number in range(3)]
    assert found.unread == ["3/requirements.txt", "4/requirements.txt"]


def test_what_is_no_name_or_version_is_none(tmp_path: Path) -> None:
    """The start of a run holds them all, and its caches have files that are named by them."""
    names = ["../../x", "a" * 1_000, "a\n", ""]
    packages = "".join(
        f"[[package]]\nname = {json.dumps(name)}\nversion = '1.0.0'\nsource = 'registry+x'\n" for name in [*names, "ok"]
    )
    (tmp_path / "Cargo.lock").write_text(
        packages + f"[[package]]\nname='ok'\nversion='{'1' * 999}'\nsource='registry+x'\n"
    )
    assert read([tmp_path]).packages == {"cargo": {"ok": ["1.0.0"]}}


def test_packages_of_many_files_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_files, "MAX_PACKAGES", 2)
    wheels = ",".join(f'{{url = "https://f.example/a-1-{number}.whl"}}' for number in range(9))
    (tmp_path / "uv.lock").write_text(f'[[package]]\nname = "a"\nversion = "1"\nwheels = [{wheels}]\n')
    found = read([tmp_path])
    assert found.number == 1 and found.unread == [] and found.hosts == ["f.example"]
