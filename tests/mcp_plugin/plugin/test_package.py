"""The plugin as a package: its host's own checks, and how it finds our programs. The wheel: tests/packaging."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from cli.plugin import MARKETPLACE, NAME
from peer import VERSION
from tests.mcp_plugin.plugin import claude as host

START, MISSING = host.PLUGIN / "programs" / "start.sh", host.PLUGIN / "programs" / "missing.sh"
ROOT_MARKETPLACE = host.ROOT / ".claude-plugin" / "marketplace.json"
SHELLS = [["sh"], *([["bash", "--posix"]] if shutil.which("bash") else [])]


def document(name: str) -> Any:
    return json.loads((host.PLUGIN / name).read_text("utf-8"))


# --- the host's checks


STRICT, DIRECTORY = ("--strict",), ("--profile", "directory")


@pytest.mark.parametrize(
    ("what", "strictly"),
    [
        ("", STRICT),
        ("", DIRECTORY),
        ("", STRICT + DIRECTORY),
        (".claude-plugin/plugin.json", STRICT + DIRECTORY),
        (".claude-plugin/marketplace.json", STRICT),
        ("skills", STRICT),
        ("commands", STRICT),
    ],
)
def test_the_program_finds_nothing_wrong(tmp_path: Path, what: str, strictly: tuple[str, ...]) -> None:
    done = host.claude("plugin", "validate", *strictly, "--json", host.PLUGIN / what, home=tmp_path)
    said = json.loads(done.stdout)
    assert (done.returncode, said["success"]) == (0, True), done.stdout
    for part in (said["manifest"], said["directory"]):
        assert not any((part or {}).get(kind) for kind in ("errors", "warnings", "findings")), done.stdout


def test_those_checks_would_find_something(tmp_path: Path) -> None:
    copy = shutil.copytree(host.PLUGIN, tmp_path / "plugin")
    (copy / "README.md").unlink()
    assert host.claude("plugin", "validate", *DIRECTORY, copy, home=tmp_path).returncode == 1
    (copy / ".claude-plugin" / "plugin.json").write_text('{"name": "dispatch", "unheard": 1}')
    assert host.claude("plugin", "validate", *STRICT, copy, home=tmp_path).returncode == 1


def test_it_holds_what_it_should_and_no_more(tmp_path: Path) -> None:
    said = json.loads(host.claude("plugin", "validate", "--json", host.PLUGIN, home=tmp_path).stdout)["provides"]
    assert [server["name"] for server in said["mcpServers"]] == ["dispatch"]
    assert [hook["event"] for hook in said["hooks"]] == ["SessionStart", "PostToolUse", "PreToolUse", "PreToolUse"]
    (monitor,) = document("monitors/monitors.json")  # which the checks do not look into
    assert set(monitor) == {"name", "command", "description"}
    assert [each["command"] for each in said["monitors"]] == [monitor["command"]]
    assert (said["skills"], said["commands"]) == (["dispatch:dispatch"], ["dispatch:inbox", "dispatch:send"])
    assert said["agents"] == said["bin"] == said["lspServers"] == []
    assert document(".mcp.json")["mcpServers"]["dispatch"]["alwaysLoad"] is True


def test_one_name_and_one_version() -> None:
    """The plugin's manifest has both; the two marketplaces, of the repository and of an installation, say neither anew.

    Another name at the root fails it, and so does a version there.
    """
    manifest = document(".claude-plugin/plugin.json")
    assert (manifest["name"], manifest["version"]) == (NAME, VERSION)
    root, folder = json.loads(ROOT_MARKETPLACE.read_text("utf-8")), document(".claude-plugin/marketplace.json")
    assert root["name"] == folder["name"] == MARKETPLACE
    for market, base in ((root, host.ROOT), (folder, host.PLUGIN)):
        (entry,) = market["plugins"]
        assert (entry["name"], "version" in entry, base / entry["source"]) == (NAME, False, host.PLUGIN)
    assert {**root, "plugins": None} == {**folder, "plugins": None}


def test_adding_the_repository_works(tmp_path: Path) -> None:
    """As a marketplace, with Claude Code's own commands."""
    checked = host.claude("plugin", "validate", *STRICT, "--json", host.ROOT, home=tmp_path)
    assert (checked.returncode, json.loads(checked.stdout)["success"]) == (0, True), checked.stdout
    for words in (("marketplace", "add", str(host.ROOT)), ("install", f"{NAME}@{MARKETPLACE}")):
        done = host.claude("plugin", *words, home=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(host.claude("plugin", "list", "--json", home=tmp_path).stdout)
    assert (row["id"], row["version"], row["enabled"]) == (f"{NAME}@{MARKETPLACE}", VERSION, True)


# --- finding the programs


class Place:
    """A home without anything, in which programs may be put."""

    def __init__(self, folder: Path) -> None:
        self.home = folder

    def program(self, folder: Path, name: str = "dispatch-mcp") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(f"""#!/bin/sh\nprintf '%s|' '{folder}' "$@"\n""")
        path.chmod(0o755)
        return path

    def start(self, *words: str, shell: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        given = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", **more}
        return host.run([*shell, str(START), *words], given, self.home)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_programs_are_found_where_they_are(place: Place, tmp_path: Path, shell: list[str]) -> None:
    def found(**more: str) -> str:
        return place.start("dispatch-mcp", "a b", "c", shell=shell, **more).stdout.strip()

    local = place.program(tmp_path / ".local" / "bin").parent
    assert found() == f"{local}|a b|c|"
    on_path = place.program(tmp_path / "on the path").parent
    assert found(PATH=f"{on_path}:/usr/bin:/bin") == f"{on_path}|a b|c|"
    recorded = place.program(tmp_path / "a venv" / "bin").parent
    (tmp_path / ".dispatch").mkdir()
    (tmp_path / ".dispatch" / "programs").write_text(f"{recorded}\n")
    assert found(PATH=f"{on_path}:/usr/bin:/bin") == f"{recorded}|a b|c|"
    state = tmp_path / "another state"
    state.mkdir()
    (state / "programs").write_text(str(on_path))
    assert found(DISPATCH_HOME=str(state)) == f"{on_path}|a b|c|"
    (tmp_path / "a venv" / "bin" / "dispatch-mcp").unlink()
    assert found() == f"{local}|a b|c|", "what is recorded is gone"


@pytest.mark.parametrize(
    "recorded", ["", "relative/bin", "\n", "$(touch owned)", "`touch owned`", "; touch owned", "-x"]
)
def test_a_record_is_a_folder_or_nothing(place: Place, tmp_path: Path, recorded: str) -> None:
    place.program(tmp_path / "relative" / "bin")
    (tmp_path / ".dispatch").mkdir()
    (tmp_path / ".dispatch" / "programs").write_text(recorded)
    assert place.start("dispatch-mcp", "announce", "--follow", shell=["sh"]).stdout == ""
    assert not (tmp_path / "owned").exists()
    assert "relative" not in place.start("dispatch-mcp", shell=["sh"]).stdout


def test_a_relative_state_folder_is_not_searched(place: Place, tmp_path: Path) -> None:
    """A repository that a session is started in must not name programs."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "programs").write_text(str(place.program(tmp_path / "evil").parent))
    done = place.start("dispatch-mcp", "announce", "--session-start", shell=["sh"], DISPATCH_HOME="state")
    assert "evil" not in done.stdout


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_where_they_are_missing_each_says_so_in_its_way(place: Place, shell: list[str]) -> None:
    hook = place.start("dispatch-mcp", "announce", "--session-start", shell=shell)
    told = json.loads(hook.stdout)
    assert "dispatch plugin install" in told["systemMessage"]
    assert told["hookSpecificOutput"]["additionalContext"] == told["systemMessage"]
    monitor = place.start("dispatch-mcp", "announce", "--follow", shell=shell)
    assert (hook.returncode, monitor.returncode, monitor.stdout, monitor.stderr) == (0, 0, "", "")
    assert place.start("dispatch-mcp", "witness", "--picked", shell=shell).stdout == ""
    ruling = json.loads(place.start("dispatch-mcp", "witness", "--calling", shell=shell).stdout)["hookSpecificOutput"]
    assert (ruling["hookEventName"], ruling["permissionDecision"]) == ("PreToolUse", "ask")
    assert place.start("something-else", shell=shell).returncode == 127
    assert place.start("dispatch-mcp", "something-else", shell=shell).returncode == 127


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_stand_in_is_a_server(place: Place, shell: list[str], mode: str) -> None:
    """The SDK's client takes it for one, and hears from every call how to install what is missing."""
    server = StdioServerParameters(
        command=shell[0],
        args=[*shell[1:], str(START), "dispatch-mcp"],
        env={"HOME": str(place.home), "PATH": "/usr/bin:/bin"},
    )
    async with Client(stdio_client(server), mode=mode) as client:
        assert "dispatch plugin install" in (client.instructions or "")
        (tool,) = (await client.list_tools()).tools
        assert tool.name == "dispatch_read"
        result = await client.call_tool("dispatch_read", {"what": "inbox", "id": 7, "method": "ping"})
        assert isinstance(result, types.CallToolResult)
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        assert (result.is_error, "dispatch plugin install" in content.text) == (True, True)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_stand_in_answers_nothing_else(place: Place, shell: list[str]) -> None:
    lines = [
        "",
        "nonsense",
        "{}",
        "[1]",
        '{"method":"notifications/initialized","jsonrpc":"2.0"}',
        '{"id":"$(touch owned)"}',
    ]
    asked = '{"jsonrpc":"2.0","id":1,"method":"$(touch owned)"}\n{"jsonrpc":"2.0","id":"a-2","method":"tools/none"}\n'
    given = {"HOME": str(place.home), "PATH": "/usr/bin:/bin"}
    done = host.run([*shell, str(MISSING)], given, place.home, stdin="\n".join(lines) + "\n" + asked)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["id"], each["error"]["code"]) for each in answers] == [(1, -32601), ("a-2", -32601)]
    assert (done.returncode, done.stderr) == (0, "")
    assert not (place.home / "owned").exists()
