"""Nothing that people can type or set is missing from the docs, and the pages lead to each other and to what exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.commands import SECTIONS
from mcp_plugin.main import USAGE
from peer import VERSION
from peer.machine.setting_keys import KEYS
from peer.programs.daemon import main as daemon
from rendezvous.main import main as rendezvous
from rendezvous.relay.main import main as relay
from tests.bounds.containers import tables

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
INTERNAL = {
    "DISPATCH_GRANTED_SERVER": "set by the sandbox in granted MCP servers; sandbox/mark.py",
    "DISPATCH_CANARY": "set by a canary, which looks whether it can be read",
}
"""Variables that nobody sets."""


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def everywhere() -> str:
    return "\n".join(path.read_text("utf-8") for path in PAGES)


# --- what can be typed


@pytest.mark.parametrize("program", PROJECT["scripts"])
def test_every_program(program: str) -> None:
    assert f"| `{program}` |" in page("programs.md")


@pytest.mark.parametrize("command", [name for section in SECTIONS.values() for name in section])
def test_every_command(command: str) -> None:
    """What each takes is compared whole in test_reference.py."""
    assert re.search(rf"^### `dispatch {command}[ `]", page("commands.md"), re.MULTILINE)


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of a group and of the groups in it, by what is typed."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def options() -> list[tuple[str, str]]:
    """Every option of the programs that commands.md does not cover, as (program, option)."""
    programs: dict[str, click.Command] = {"dispatch-daemon": daemon}
    programs |= dict(commands(rendezvous, "dispatch-rendezvous"))
    programs |= dict(commands(relay, "dispatch-relay"))
    return [
        (program, name)
        for program, command in programs.items()
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name != "--version" and not getattr(option, "hidden", False)
    ]


@pytest.mark.parametrize(("program", "option"), options())
def test_every_option_of_the_other_programs(program: str, option: str) -> None:
    section = page("programs.md").partition(f"## `{program}`\n")[2].partition("\n## ")[0]
    assert f"`{option}`" in section


def test_every_command_of_the_mcp_program() -> None:
    named = re.findall(r"^  (announce|witness) (--[a-z-]+)", USAGE, re.MULTILINE)
    assert len(named) == 5
    for command, option in named:
        assert f"dispatch-mcp {command}" in page("plugin.md")
        assert option in page("plugin.md")


# --- what can be set


@pytest.mark.parametrize("key", KEYS)
def test_every_setting(key: str) -> None:
    assert f"| `{key}` |" in page("commands.md")


def variables() -> Iterator[str]:
    """Every variable of ours that a module or a program of the plugin names as a whole."""
    for package in ("peer", "rendezvous", "sandbox", "cli", "mcp_plugin"):
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text("utf-8")
            for node in ast.walk(ast.parse(source)) if "DISPATCH_" in source else ():
                value = node.value if isinstance(node, ast.Constant) else None
                if isinstance(value, str) and re.fullmatch(r"DISPATCH_[A-Z_]+[A-Z]", value):
                    yield value


@pytest.mark.parametrize("variable", sorted({*variables()}))
def test_every_variable(variable: str) -> None:
    rows = [row for row in page("programs.md").splitlines() if row.startswith("| `")]
    assert variable in INTERNAL or any(f"`{variable}`" in row for row in rows)


def test_what_is_internal_is_still_there() -> None:
    assert set(INTERNAL) <= {*variables()}


def test_every_table_of_the_broker() -> None:
    """What a seizure of its machine reveals is said of each."""
    section = page("broker.md").partition("## What a seizure reveals")[2].partition("\n## ")[0]
    names = [name.removeprefix("rendezvous.storage/") for name in tables() if name.startswith("rendezvous.storage/")]
    assert len(names) > 8 and [name for name in names if f"`{name}`" not in section] == []


# --- the pages


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            links = re.findall(r"\]\(([a-z/]+\.md)", path.read_text("utf-8"))
            todo += [(path.parent / link).resolve() for link in links]
    assert set(PAGES) - found == set()


def test_every_module_and_folder_that_a_page_names_is_there() -> None:
    form = re.compile(r"`((?:peer|rendezvous|sandbox|cli|mcp_plugin|tests|docs)/[\w/.]+)`")
    missing = [
        f"{path.name}: {name}"
        for path in PAGES
        for name in form.findall(path.read_text("utf-8"))
        if "NAME" not in name and not (ROOT / name).exists()
    ]
    assert missing == []


def named_tests(text: str) -> list[tuple[str, str]]:
    """Every test that a page names, as (module, function); "" for a whole module, maybe without its folder."""
    return re.findall(r"`((?:tests/[\w/]+/)?test_(?!\w*NAME)\w+\.py)(?:::(\w+))?`", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_test_that_a_page_names_is_there(path: Path) -> None:
    """Seen to fail with a test that was renamed, and with a module of another folder's name."""
    modules = {module.relative_to(ROOT).as_posix(): module for module in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for named, function in named_tests(path.read_text("utf-8")):
        found = [module for name, module in modules.items() if named in (name, name.rpartition("/")[2])]
        defined = {
            node.name
            for module in found
            for node in ast.walk(ast.parse(module.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if not found or (function and function not in defined):
            missing.append(f"{named}::{function}")
    assert missing == []


def test_the_changelog_has_this_version_and_what_comes_next() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", page("changelog.md"), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert VERSION in versions[1:2]


def test_only_tested_versions_of_python_are_called_tested() -> None:
    """The README and the classifiers name the same ones."""
    beginning = "Programming Language :: Python :: "
    classified = [line.removeprefix(beginning) for line in PROJECT["classifiers"] if line.startswith(beginning)]
    (named,) = re.findall(r"\(tested\s+with\s+([\d., and]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert re.findall(r"3\.\d+", named) == classified


# --- what the Makefile runs


def test_the_rooms_of_make_quick_are_there() -> None:
    """A name that is gone ends the command before its first test."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    rooms = re.findall(r"^PURE := (.*)$", makefile, re.MULTILINE)[0].split()
    files = re.findall(r"^PURE_SANDBOX := (.*)$", makefile, re.MULTILINE)[0].split()
    assert all((ROOT / "tests" / room).is_dir() for room in rooms)
    assert all((ROOT / f"tests/sandbox/test_{name}.py").is_file() for name in files)
