"""Finding the person's MCP servers: three files, good and bad, and what is dispatch under another name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from peer import mcp_servers
from peer.protocol.errors import Forbidden, Invalid
from peer.trust import grants

ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "ANTHROPIC_API_KEY": "sk", "DISPATCH_TOKEN": "t", "REGION": "eu"}


class Machine:
    def __init__(self, folder: Path) -> None:
        self.home, self.state = folder / "home", folder / "state"
        (self.home / ".codex").mkdir(parents=True)
        self.state.mkdir()
        self.env = {**ENV, "HOME": str(self.home)}

    def claude(self, servers: Any, **more: Any) -> None:
        (self.home / ".claude.json").write_text(json.dumps({"numStartups": 3, "mcpServers": servers, **more}))

    def codex(self, text: str) -> None:
        (self.home / ".codex/config.toml").write_text(text)

    def shareable(self, servers: Any) -> None:
        (self.state / "shareable-mcp.json").write_text(json.dumps({"mcpServers": servers}))

    def found(self) -> mcp_servers.Found:
        return mcp_servers.discover(self.state, self.env)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_installed(machine: Machine) -> None:
    assert machine.found() == mcp_servers.Found()


def test_the_three_files_of_the_person_and_none_of_a_project(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    project = machine.home / "code"
    project.mkdir()
    (project / ".mcp.json").write_text(json.dumps({"mcpServers": {"planted": {"command": "evil"}}}))
    monkeypatch.chdir(project)
    machine.claude(
        {"github": {"type": "stdio", "command": "gh-mcp", "args": ["--fast"], "env": {"TOKEN": "secret"}, "new": 1}},
        projects={str(project): {"mcpServers": {"local": {"command": "evil"}}}},
    )
    machine.codex(
        'model = "x"\n[mcp_servers.mail]\ncommand = "mail-mcp"\nargs = ["a"]\n[mcp_servers.github]\ncommand="x"\n'
    )
    machine.shareable({"notes": {"command": "notes"}, "off": {"command": "x", "disabled": True}})
    found = machine.found()
    assert {name: server.command for name, server in found.servers.items()} == {
        "github": ("gh-mcp", "--fast"),
        "mail": ("mail-mcp", "a"),
        "notes": ("notes",),
    }
    assert found.warnings == () and "secret" not in repr(found)
    env = mcp_servers.environment(found.servers["github"], machine.env)
    assert env == {"PATH": ENV["PATH"], "LANG": "C.UTF-8", "HOME": str(machine.home), "TOKEN": "secret"}
    assert grants.parse_mcp_servers("*", found.offers) == ("github", "mail", "notes")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"type": "http", "url": "https://mcp.example.org"}, "network"),
        ({"url": "https://mcp.example.org"}, "network"),
        ({"type": "sse", "command": "x"}, "network"),
        ({"args": ["x"]}, "no command"),
        ({"command": 7}, "describe"),
        ("x", "describe"),
        ({"command": "x", "args": ["y"] * 200}, "too long"),
        ({"command": "x", "env": {"A": "y" * 40_000}}, "too long"),
        ({"command": "x\0y"}, "no program"),
        ({"command": "x", "env": {"A=B": "y"}}, "no program"),
        ({"command": "x", "args": ["${ABSENT}"]}, "$ABSENT"),
    ],
)
def test_what_cannot_be_granted_says_why(machine: Machine, entry: Any, why: str) -> None:
    machine.claude({"other": entry, "good": {"command": "good"}})
    found = machine.found()
    assert why in found.servers["other"].unusable
    assert grants.parse_mcp_servers("*", found.offers) == ("good",)
    with pytest.raises(Invalid, match="cannot be granted") as refused:
        grants.parse_mcp_servers("other", found.offers)
    assert "good" in refused.value.fix


@pytest.mark.parametrize("name", ["a__b", "_a", "a_", "a b", "a,b", "ä", "claude.ai Mail"])
def test_a_name_that_could_be_read_in_two_ways_is_not_granted(machine: Machine, name: str) -> None:
    machine.claude({name: {"command": "x"}})
    assert grants.parse_mcp_servers("*", machine.found().offers) == ()


def test_variables_are_filled_in_at_the_start_only(machine: Machine) -> None:
    machine.claude({"a": {"command": "x", "args": ["${REGION}", "${B:-b}"], "env": {"KEY": "${ANTHROPIC_API_KEY}"}}})
    server = machine.found().servers["a"]
    assert server.command == ("x", "${REGION}", "${B:-b}") and server.unusable == ""
    assert mcp_servers.filled_in(server.command, machine.env) == ["x", "eu", "b"]
    assert mcp_servers.environment(server, machine.env)["KEY"] == "sk"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_text('{"mcpServers": {"a": {"command": "secret"'), "not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not JSON"),
        (lambda path: path.write_text("[" * 100_000), "not JSON"),
        (lambda path: path.write_text("[]"), "not an object"),
        (lambda path: path.write_text('{"mcpServers": []}'), "not an object"),
        (lambda path: path.chmod(0o666), "others"),
        (lambda path: (path.unlink(), path.mkdir()), "plain"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "plain"),
        (lambda path: os.truncate(path, mcp_servers.MAX_FILE + 1), "larger"),
    ],
)
def test_a_bad_file_is_a_warning_and_the_others_count(machine: Machine, spoil: Any, why: str) -> None:
    machine.shareable({"good": {"command": "good"}})
    machine.claude({"bad": {"command": "bad"}})
    spoil(machine.home / ".claude.json")
    machine.codex("not = [toml")
    found = machine.found()
    assert list(found.servers) == ["good"]
    assert len(found.warnings) == 2 and "TOML" in found.warnings[0] and why in found.warnings[1]
    assert "secret" not in "".join(found.warnings)


def test_too_many_servers_and_names_that_cannot_be_shown(machine: Machine) -> None:
    machine.claude({f"s{number:03}": {"command": "x"} for number in range(mcp_servers.MAX_SERVERS + 5)})
    machine.shareable({"\u202e": {"command": "x"}, "": {"command": "x"}, "n" * 65: {"command": "x"}})
    found = machine.found()
    assert len(found.servers) == mcp_servers.MAX_SERVERS and len(found.warnings) == 4


DISGUISES: dict[str, dict[str, Any]] = {
    "by its name": {"command": "dispatch-mcp"},
    "by its path": {"command": "BIN/dispatch-mcp"},
    "behind a shell": {"command": "sh", "args": ["-c", "exec dispatch-mcp"]},
    "behind env": {"command": "env", "args": ["A=b", "dispatch-mcp"]},
    "by its module": {"command": "python3", "args": ["-m", "mcp_plugin"]},
    "by its package": {"command": "uvx", "args": ["dispatch-courier[claude]"]},
    "by a variable": {"command": "${TOOL:-dispatch-mcp}"},
    "behind a link": {"command": "BIN/linked"},
    "as a copy": {"command": "BIN/copied"},
    "in PATH": {"command": "copied"},
    "in a wrapper": {"command": "BIN/wrapper"},
    "in another language": {"command": "node", "args": ["BIN/wrapper.js"]},
    "relative to the home": {"command": "node", "args": ["bin/wrapper.js"]},
    "by its tools": {"command": "python3", "args": ["BIN/tools.py"]},
}


def make_disguises(folder: Path) -> None:
    folder.mkdir()
    real = folder / "dispatch-mcp"
    real.write_text("#!/usr/bin/python3\nfrom mcp_plugin.server import main\nmain()\n")
    (folder / "dispatch-daemon").write_bytes(b"\x7fELF\0")  # compiled: only its name tells
    (folder / "linked").symlink_to("dispatch-daemon")
    (folder / "copied").write_bytes(real.read_bytes())
    (folder / "wrapper").write_text("#!/bin/sh\ncd /\nexec dispatch-mcp --stdio\n")
    (folder / "wrapper.js").write_text("require('child_process').spawn('dispatch-mcp')\n")
    (folder / "tools.py").write_text("TOOLS = ['dispatch_act', 'dispatch_send']\n")
    for path in folder.iterdir():
        path.chmod(0o755)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_dispatch_is_refused_under_any_name(machine: Machine, disguise: str) -> None:
    folder = machine.home / "bin"
    make_disguises(folder)
    machine.env["PATH"] = f"{folder}:{ENV['PATH']}"
    entry = json.loads(json.dumps(DISGUISES[disguise]).replace("BIN", str(folder)))
    machine.claude({"courier": entry, "mail": {"command": "mail-mcp"}})
    offers = machine.found().offers
    assert grants.parse_mcp_servers("*", offers) == ("mail",)
    with pytest.raises(Forbidden, match="dispatch itself"):
        grants.parse_mcp_servers("courier", offers)


def test_words_like_ours_alone_refuse_nothing(machine: Machine) -> None:
    script = machine.home / "server.js"
    script.write_text("store.dispatch(action); // redux: dispatch, dispatcher, dispatch_event\n")
    machine.claude({"app": {"command": "node", "args": [str(script), "--dispatcher"]}})
    assert grants.parse_mcp_servers("*", machine.found().offers) == ("app",)
