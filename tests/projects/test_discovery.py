"""Finding projects: markers, what is skipped, links, bounds, manifests that are anybody's."""

import itertools
import os
from pathlib import Path

import pytest

from peer.projects import discovery
from peer.projects.discovery import Walk, describe
from peer.projects.survey import survey


def project(folder: Path, marker: str = ".git", **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if marker.startswith("."):
        (folder / marker).mkdir()
    else:
        (folder / marker).write_text("")
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def found(*roots: Path, excluded: tuple[Path, ...] = ()) -> list[str]:
    walk = Walk([str(root) for root in roots], clock=lambda: 0.0, excluded=[str(path) for path in excluded])
    names = [os.path.relpath(one.path, roots[0]) for one in walk]
    assert walk.cut is None
    return sorted(names)


@pytest.mark.parametrize(
    "marker", [".git", "pyproject.toml", "package.json", "Cargo.toml", "go.mod", "pom.xml", "Makefile"]
)
def test_a_marker_makes_a_project(tmp_path: Path, marker: str) -> None:
    project(tmp_path / "a/b", marker)
    (tmp_path / "plain").mkdir()
    assert found(tmp_path) == ["a/b"]


def test_what_is_inside_a_project_belongs_to_it_but_for_a_root(tmp_path: Path) -> None:
    project(tmp_path)
    project(tmp_path / "shop")
    project(tmp_path / "shop/packages/api")
    assert found(tmp_path) == [".", "shop"]


def test_what_is_skipped(tmp_path: Path) -> None:
    project(tmp_path / "real")
    project(tmp_path / "state")
    for skipped in ("node_modules/x", ".hidden/x", "venv/x", "target/x", "a/__pycache__/x"):
        project(tmp_path / skipped)
    (tmp_path / "odd\nname").mkdir()
    project(tmp_path / "odd\nname/x")
    project(tmp_path / os.fsdecode(b"bad\xff"))
    assert found(tmp_path, excluded=(tmp_path / "state",)) == ["real"]


def test_links_below_a_root_are_never_followed(tmp_path: Path) -> None:
    outside = project(tmp_path / "outside/secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "up").symlink_to(tmp_path)
    (inside / "faked").mkdir()
    (inside / "faked/.git").symlink_to(outside)
    assert found(inside) == []
    (tmp_path / "root").symlink_to(tmp_path / "outside")
    assert found(tmp_path / "root") == ["../outside/secret"], (
        "a root is a person's own word, and its real folder is meant"
    )


def test_a_missing_or_strange_root_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert found(tmp_path / "none", tmp_path / "file", Path("relative"), Path(os.fsdecode(b"/\xff"))) == []


def test_depth_is_bounded(tmp_path: Path) -> None:
    project(tmp_path / "1/2/3/4/5")
    project(tmp_path / "1/2/3/4/x/6")
    assert found(tmp_path) == ["1/2/3/4/5"]


def test_time_is_bounded(tmp_path: Path) -> None:
    for n in range(20):
        project(tmp_path / str(n))
    ticks = itertools.count(0, 1.0)
    walk = Walk([str(tmp_path)], clock=lambda: next(ticks))
    assert len(list(walk)) == 9
    assert walk.cut is not None and "10 seconds" in walk.cut


def test_count_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_PROJECTS", 3)
    for n in range(5):
        project(tmp_path / str(n))
    walk = Walk([str(tmp_path)], clock=lambda: 0.0)
    assert len(list(walk)) == 3 and walk.cut == "more than 3 projects"
    monkeypatch.setattr(discovery, "MAX_FOLDERS", 2)
    walk = Walk([str(tmp_path)], clock=lambda: 0.0)
    assert len(list(walk)) == 1 and walk.cut == "more than 2 folders"


def test_what_a_project_says_of_itself(tmp_path: Path) -> None:
    manifests = {
        "pyproject.toml": '[project]\nname = "py-name"\ndescription = "py words"',
        "package.json": '{"name": "@acme/js-name", "description": "js words"}',
        "Cargo.toml": '[package]\nname = "rs-name"',
        "go.mod": "module example.org/acme/go-name/v2\n",
        "README.md": "# Heading\nand prose",
    }
    for name, content in manifests.items():
        (tmp_path / name).write_text(content)
    said = describe(str(tmp_path))
    assert said.names.split() == ["py-name", "js-name", "rs-name", "go-name"]
    assert "py words" in said.about and "js words" in said.about and "and prose" in said.about


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pyproject.toml", b"not toml ["),
        ("pyproject.toml", b"project = 3"),
        ("pyproject.toml", b"[project]\nname = 3"),
        ("pyproject.toml", b"\xff\xfe"),
        ("package.json", b"[" * 100_000),
        ("package.json", b"[]"),
        ("package.json", b'"x"'),
        ("package.json", b'{"name": ["x"]}'),
        ("package.json", b" " * 300_000),
        ("go.mod", b"module"),
        ("Cargo.toml", b"[workspace]"),
    ],
)
def test_a_broken_manifest_says_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert describe(str(tmp_path)).names == ""


def test_only_regular_files_are_read_and_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "README.md").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "package.json")
    (tmp_path / "pyproject.toml").mkdir()
    said = describe(str(tmp_path))
    assert said.names == "" and "secret" not in said.about


def test_a_huge_readme_is_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("word " * 1_000_000)
    assert 4_000 < len(describe(str(tmp_path)).about) < 6_000


def test_the_stamp_changes_with_what_describes_the_project(tmp_path: Path) -> None:
    project(tmp_path / "a", "package.json")

    def stamp() -> str:
        (one,) = Walk([str(tmp_path)], clock=lambda: 0.0)
        return one.stamp

    first = stamp()
    assert stamp() == first
    (tmp_path / "a/package.json").write_text('{"name": "x"}')
    second = stamp()
    (tmp_path / "a/README.md").write_text("x")
    assert len({first, second, stamp()}) == 3


def test_what_is_found_is_said_of_each_folder(tmp_path: Path) -> None:
    """Also through a link, and of one that is not there."""
    for name in ("till", "shop", "parser", "api"):
        project(tmp_path / "code" / name)
    project(tmp_path / "work/one", "package.json")
    (tmp_path / "link").symlink_to(tmp_path / "work")
    roots = [str(tmp_path / name) for name in ("code", "link", "none")]
    many, one, none = survey(roots, clock=lambda: 0.0)
    assert many.document() == {
        "folder": roots[0],
        "count": 4,
        "names": ["api", "parser", "shop"],
        "cut": False,
        "words": "4 projects (api, parser, shop, …)",
    }
    assert (one.words, none.count, none.words.split(";")[0]) == ("1 project (one)", 0, "no projects found")
    # The time is for all folders together.
    ticks = itertools.count(0.0, 0.5)
    first, *_, last = survey(roots, clock=lambda: next(ticks))
    assert first.words == "at least 2 projects (api, parser)" and last.words == "none found so far"
