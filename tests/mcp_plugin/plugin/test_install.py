"""`dispatch plugin install|uninstall` against the real claude program: what it registers, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from peer import VERSION
from tests.conftest import more
from tests.mcp_plugin.plugin import claude as host

PLUGIN = "dispatch@dispatch-courier"
THEIRS = {
    "permissions": {"allow": ["Bash(ls)"], "deny": ["WebFetch"]},
    "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "true"}]}]},
    "enabledPlugins": {"foo@bar": True, "other@elsewhere": False},
    "env": {"SOME": "thing"},
    "somethingNewer": [1, {"a": None}],
}


class Machine:
    def __init__(self, home: Path, path: str) -> None:
        self.home, self.path = home, path

    def dispatch(self, *arguments: str, status: int = 0) -> Any:
        return host.dispatch(*arguments, home=self.home, status=status, PATH=self.path)

    def refused(self, *arguments: str) -> Any:
        return self.dispatch(*arguments, status=1)["error"]

    def registered(self) -> dict[str, Any]:
        """What the program itself says that it has, by id."""
        said = host.claude("plugin", "list", "--json", home=self.home)
        return {row["id"]: row for row in json.loads(said.stdout)}

    def marketplaces(self) -> dict[str, Any]:
        said = host.claude("plugin", "marketplace", "list", "--json", home=self.home)
        return {row["name"]: row for row in json.loads(said.stdout)}

    def write_settings(self, document: Any) -> None:
        path = self.home / ".claude" / "settings.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    home = tmp_path / "home"
    home.mkdir()
    return Machine(home, host.clean_path(host.on_the_path(tmp_path / "bin")))


def test_it_is_registered_for_the_user_and_taken_away_again(machine: Machine) -> None:
    said = machine.dispatch("plugin", "install")
    assert said == {
        "status": "installed",
        "changed": True,
        "plugin": PLUGIN,
        "version": VERSION,
        "scope": "user",
        "path": str(host.PLUGIN),
        "claude": machine.path.partition(":")[0] + "/claude",
    }
    row = machine.registered()[PLUGIN]
    assert (row["scope"], row["enabled"], row["version"]) == ("user", True, VERSION)
    assert row["mcpServers"]["dispatch"]["alwaysLoad"] is True
    assert machine.marketplaces()["dispatch-courier"]["path"] == str(host.PLUGIN)
    recorded = machine.home / ".dispatch" / "programs"
    assert recorded.read_text() == f"{host.PROGRAMS}\n"
    assert recorded.stat().st_mode & 0o077 == 0

    assert machine.dispatch("plugin", "uninstall")["changed"] is True
    assert machine.registered() == {}
    assert machine.marketplaces() == {}
    assert not recorded.exists()


@pytest.mark.long
def test_again_is_harmless(machine: Machine) -> None:
    machine.dispatch("plugin", "install")
    before = host.settings(machine.home)
    assert machine.dispatch("plugin", "install")["changed"] is False
    assert host.settings(machine.home) == before
    machine.dispatch("plugin", "uninstall")
    assert machine.dispatch("plugin", "uninstall")["changed"] is False


@pytest.mark.long
def test_nothing_else_of_the_settings_is_touched(machine: Machine) -> None:
    machine.write_settings(THEIRS)
    machine.dispatch("plugin", "install")
    after = host.settings(machine.home)
    assert after["enabledPlugins"].pop(PLUGIN) is True
    assert list(after.pop("extraKnownMarketplaces")) == ["dispatch-courier"]
    assert after == THEIRS
    machine.dispatch("plugin", "uninstall")
    after = host.settings(machine.home)
    assert not after.pop("extraKnownMarketplaces", None)
    assert after == THEIRS


@pytest.mark.parametrize("command", [*more("install"), "uninstall"])
def test_nothing_of_the_project_is_touched(machine: Machine, tmp_path: Path, command: str) -> None:
    """It is run in a project that declares the marketplace for those who work on it."""
    machine.dispatch("plugin", "install")
    theirs = host.settings(machine.home) | {"model": "x"}
    settings = tmp_path / "project" / ".claude" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(theirs))
    host.dispatch("plugin", command, home=machine.home, where=settings.parents[1], PATH=machine.path)
    assert json.loads(settings.read_text()) == theirs
    assert [path.name for path in settings.parent.iterdir()] == ["settings.json"]


@pytest.mark.long
def test_what_the_person_disabled_or_an_older_installation_left_is_put_right(machine: Machine, tmp_path: Path) -> None:
    old = tmp_path / "old" / "mcp_plugin" / "plugin"
    (old / ".claude-plugin").mkdir(parents=True)
    for name in ("plugin.json", "marketplace.json"):
        text = (host.PLUGIN / ".claude-plugin" / name).read_text()
        (old / ".claude-plugin" / name).write_text(text.replace(VERSION, "0.0.1"))
    assert host.claude("plugin", "marketplace", "add", old, home=machine.home).returncode == 0
    assert host.claude("plugin", "install", PLUGIN, home=machine.home).returncode == 0
    assert machine.registered()[PLUGIN]["version"] == "0.0.1"
    machine.dispatch("plugin", "install")
    assert machine.registered()[PLUGIN]["version"] == VERSION
    assert machine.marketplaces()["dispatch-courier"]["path"] == str(host.PLUGIN)

    assert host.claude("plugin", "disable", PLUGIN, home=machine.home).returncode == 0
    assert machine.registered()[PLUGIN]["enabled"] is False
    assert machine.dispatch("plugin", "install")["changed"] is True
    assert machine.registered()[PLUGIN]["enabled"] is True


@pytest.mark.long
def test_an_older_plugin_of_the_same_version_is_replaced(machine: Machine, tmp_path: Path) -> None:
    """Its hooks start programs that are gone: `dispatch-announce` is a subcommand of `dispatch-mcp` now."""
    old = shutil.copytree(host.PLUGIN, tmp_path / "old" / "mcp_plugin" / "plugin")
    for path in (old / "hooks" / "hooks.json", old / "monitors" / "monitors.json"):
        path.write_text(path.read_text().replace("dispatch-mcp announce", "dispatch-announce"))
    (old / "commands" / "older.md").write_text("An older command")
    assert host.claude("plugin", "marketplace", "add", old, home=machine.home).returncode == 0
    assert host.claude("plugin", "install", PLUGIN, home=machine.home).returncode == 0
    copy = Path(machine.registered()[PLUGIN]["installPath"])
    assert "dispatch-announce" in (copy / "hooks" / "hooks.json").read_text()

    assert machine.dispatch("plugin", "install")["changed"] is True
    row = machine.registered()[PLUGIN]
    assert (row["enabled"], row["version"]) == (True, VERSION)
    assert _files(Path(row["installPath"])) == _files(host.PLUGIN)
    assert machine.dispatch("plugin", "install")["changed"] is False


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_namesakes_of_others_are_left_alone(machine: Machine, tmp_path: Path, command: str) -> None:
    def theirs(folder: Path, marketplace: str) -> Path:
        (folder / ".claude-plugin").mkdir(parents=True)
        entry = {"name": "dispatch", "source": "./", "description": "another one"}
        document = {"name": marketplace, "owner": {"name": "x"}, "plugins": [entry]}
        (folder / ".claude-plugin" / "marketplace.json").write_text(json.dumps(document))
        (folder / ".claude-plugin" / "plugin.json").write_text(json.dumps({"name": "dispatch", "version": "9.0.0"}))
        return folder

    host.claude("plugin", "marketplace", "add", theirs(tmp_path / "a", "dispatch-courier"), home=machine.home)
    before = host.settings(machine.home)
    error = machine.refused("plugin", command)
    assert error["code"] == 409
    assert "claude plugin marketplace remove dispatch-courier" in error["fix"]
    assert host.settings(machine.home) == before

    host.claude("plugin", "marketplace", "remove", "dispatch-courier", home=machine.home)
    host.claude("plugin", "marketplace", "add", theirs(tmp_path / "b", "elsewhere"), home=machine.home)
    host.claude("plugin", "install", "dispatch@elsewhere", home=machine.home)
    before = host.settings(machine.home)
    error = machine.refused("plugin", command)
    assert (error["code"], "claude plugin uninstall dispatch@elsewhere" in error["fix"]) == (409, True)
    assert host.settings(machine.home) == before
    assert list(machine.registered()) == ["dispatch@elsewhere"]


@pytest.mark.long
def test_without_the_program_it_says_what_to_do(machine: Machine, tmp_path: Path) -> None:
    machine.path = host.clean_path()
    error = machine.refused("plugin", "install")
    assert error["code"] == 404
    assert "--claude PATH" in error["fix"]
    assert machine.refused("plugin", "install", "--claude", str(tmp_path / "nothing"))["code"] == 404
    assert not (machine.home / ".dispatch").exists()
    named = str(tmp_path / "bin" / "claude")
    assert machine.dispatch("plugin", "install", "--claude", named)["claude"] == named


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo 'error: unknown command plugin' >&2; exit 1", "unknown command plugin"),
        ("echo '{}'", "not a list"),
        ('case "$*" in *list*) echo "[]" ;; *) echo \'{"outcome":"failed","message":"no room"}\' ;; esac', "no room"),
        ('case "$*" in *list*) echo "[]" ;; *) echo \'{"outcome":"ok"}\' ;; esac', "did not install"),
    ],
)
def test_a_program_that_fails_or_is_another_one(machine: Machine, tmp_path: Path, body: str, says: str) -> None:
    """These stand for versions of the claude program that we cannot have here."""
    (tmp_path / "bin" / "claude").unlink()
    (tmp_path / "bin" / "claude").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "bin" / "claude").chmod(0o755)
    error = machine.refused("plugin", "install")
    assert error["code"] == 503
    assert says in error["message"]
    assert error["fix"]
    assert not (machine.home / ".dispatch" / "programs").exists()


def test_our_secrets_are_not_given_to_it(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "bin" / "claude").unlink()
    (tmp_path / "bin" / "claude").write_text(f"#!/bin/sh\nenv >>{tmp_path}/seen\necho '[]'\n")
    (tmp_path / "bin" / "claude").chmod(0o755)
    host.dispatch("plugin", "install", home=machine.home, status=1, PATH=machine.path, DISPATCH_TOKEN="s3cret")
    assert "HOME=" in (tmp_path / "seen").read_text()
    assert "s3cret" not in (tmp_path / "seen").read_text()
