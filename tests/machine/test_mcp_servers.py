"""Finding the person's MCP servers: three files, good and bad, and what is dispatch under another name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peer.machine import installation, mcp_servers
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

    def found(self) -> mcp_servers.InstalledServers:
        return mcp_servers.discover(self.state, self.env)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_installed(machine: Machine) -> None:
    assert machine.found() == mcp_servers.InstalledServers()


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
        ({"command": 7}, "malformed"),
        ("x", "malformed"),
        ({"command": "x", "args": ["y"] * 200}, "too long"),
        ({"command": "x", "env": {"A": "y" * 40_000}}, "too long"),
        ({"command": "x\0y"}, "NUL character or an invalid variable"),
        ({"command": "x", "env": {"A=B": "y"}}, "NUL character or an invalid variable"),
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


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what puts something else where the file is."""

    def put(path: Path) -> None:
        path.unlink()
        make(path)

    return put


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_text('{"mcpServers": {"a": {"command": "secret"'), "not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not JSON"),
        (lambda path: path.write_text("[" * 100_000), "not JSON"),
        (lambda path: path.write_text("[]"), "not an object"),
        (lambda path: path.write_text('{"mcpServers": []}'), "not an object"),
        (lambda path: path.chmod(0o666), "other users"),
        (instead(Path.mkdir), "plain"),
        (instead(os.mkfifo), "plain"),
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
    "the agent of a run": {"command": "dp-agent"},
    "the broker": {"command": "dispatch-rendezvous"},
    "the command line by its module": {"command": "python3", "args": ["-m", "cli.main"]},
    "the daemon by its module": {"command": "python3", "args": ["-mpeer.programs.daemon"]},
    "by the value of an option": {"command": "uvx", "args": ["--from=dispatch-courier", "x"]},
    "by a bound on its version": {"command": "uvx", "args": ["--from", "dispatch_courier>=0.1", "x"]},
    "as a built package": {"command": "uvx", "args": ["--from", "./dispatch_courier-0.1.0-py3-none-any.whl", "x"]},
    "by its repository": {"command": "uvx", "args": ["--from", "git+https://example.org/dispatch-courier.git", "x"]},
    "a revision of its repository": {"command": "uvx", "args": ["git+ssh://git@h/dispatch-courier.git@v1#egg=x"]},
    "in a program on the command line": {"command": "python3", "args": ["-c", "from cli.main import main; main()"]},
    "in a call on the command line": {"command": "node", "args": ["-e", "spawn('dispatch',['send'])"]},
    "by a variable of its own": {"command": "sh", "args": ["-c", "$X"], "env": {"X": "dispatch-mcp"}},
    "by half a variable of its own": {
        "command": "sh",
        "args": ["-c", "$A$B send"],
        "env": {"A": "dis", "B": "patch"},
    },
    "by a variable for a script": {"command": "BIN/by-variable", "env": {"WHICH": "dispatch"}},
    "by a variable in a script": {"command": "BIN/by-assignment"},
    "by words of a variable": {"command": "BIN/other", "env": {"RUN": "python3 -m mcp_plugin"}},
    "with a state folder of its own": {"command": "BIN/other", "env": {"DISPATCH_HOME": "/srv/second"}},
    "with quotes in it": {"command": "sh", "args": ["-c", "dis''patch-m\\cp"]},
    "in pieces": {"command": "python3", "args": ["-c", "runpy.run_module('mcp_'+'plugin')"]},
    "in pieces in a script": {"command": "python3", "args": ["BIN/pieces.py"]},
    "in a wrapper of a wrapper": {"command": "BIN/outer"},
    "in a wrapper in PATH of a wrapper": {"command": "BIN/outer-path"},
    "in a wrapper beside a wrapper": {"command": "BIN/outer-beside"},
    "in a wrapper that a program starts": {"command": "node", "args": ["BIN/outer.js"]},
    "in what a program imports": {"command": "python3", "args": ["BIN/imports.py"]},
    "as a command line": {"command": "python3", "args": ["BIN/sends.py"]},
    "as a command line of a shell": {"command": "BIN/sends"},
    "as whatever it is told": {"command": "BIN/passes-on"},
    "as an archive": {"command": "python3", "args": ["BIN/app.pyz"]},
    "by its entry point": {"command": "python3", "args": ["BIN/entry.py"]},
    "out of this installation": {"command": "python3", "args": ["OURS/cli/listing.py"]},
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
    for name, script in {
        "other": "#!/bin/sh\nexec other-server\n",
        "by-variable": '#!/bin/sh\nexec "${WHICH}" --json\n',
        "by-assignment": "#!/bin/sh\nprogram=dispatch\nexec $program inbox\n",
        "pieces.py": 'import runpy\nrunpy.run_module("mcp_"+"plugin")\n',
        "outer": f"#!/usr/bin/env bash\nexec {folder}/inner --quiet\n",
        "outer-path": "#!/bin/bash\nexec inner\n",
        "outer-beside": '#!/bin/sh\ncd /; exec "$(dirname "$0")/inner"\n',
        "outer.js": "require('child_process').execFile(__dirname + '/inner')\n",
        "inner": "#!/bin/sh\nexec wrapper\n",
        "imports.py": "import helping\nhelping.start()\n",
        "helping.py": "import os\nos.execvp('dispatch', ['x'])\n",
        "sends.py": "import subprocess as s\nARGV = ['dispatch', 'send', 'x']\ns.run(ARGV)\n",
        "sends": "#!/bin/sh\ndispatch send eve@example.org hi\n",
        "passes-on": '#!/bin/sh\nA=b exec /opt/bin/dispatch "$@"\n',
        "entry.py": "from cli.main import main\nmain()\n",
    }.items():
        (folder / name).write_text(script)
    (folder / "app.pyz").write_bytes(b"#!/usr/bin/python3\nPK\3\4\0\0mcp_plugin/main.py")
    for path in folder.iterdir():
        path.chmod(0o755)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_dispatch_is_refused_under_any_name(machine: Machine, disguise: str) -> None:
    """Seen to fail with the programs, the values of variables or the scripts of scripts not looked at."""
    folder = machine.home / "bin"
    make_disguises(folder)
    machine.env["PATH"] = f"{folder}:{ENV['PATH']}"
    ours = str(installation.ROOT)
    entry = json.loads(json.dumps(DISGUISES[disguise]).replace("BIN", str(folder)).replace("OURS", ours))
    machine.claude({"courier": entry, "mail": {"command": "mail-mcp"}})
    offers = machine.found().offers
    assert grants.parse_mcp_servers("*", offers) == ("mail",)
    with pytest.raises(Forbidden, match="dispatch itself"):
        grants.parse_mcp_servers("courier", offers)


OTHERS: dict[str, dict[str, Any]] = {
    "redux": {"command": "node", "args": ["BIN/server.js", "--dispatcher"]},
    "a word in a variable": {"command": "BIN/other", "env": {"REPOSITORY": "dispatch", "DISPATCHER": "x"}},
    "a person of that name": {"command": "BIN/plain", "args": ["$HOME/notes"]},
    "methods of its own": {"command": "python3", "args": ["BIN/methods.py"]},
    "scripts that name each other": {"command": "BIN/round"},
}


@pytest.mark.parametrize("other", OTHERS)
def test_words_like_ours_alone_refuse_nothing(machine: Machine, other: str) -> None:
    """Also where our own programs are in PATH, and beside the server."""
    folder = machine.home / "bin"
    make_disguises(folder)
    for name in ("dispatch", "dispatch-mcp"):
        (folder / name).write_text("#!/usr/bin/python3\nfrom cli.main import main\n")
    redux = (
        "store.dispatch(action); // redux: dispatch, dispatcher, dispatch_event\n"
        'const {dispatch, trust} = store; on(\'dispatch\', accept); this.emit("dispatch", "sent")\n'
        "import {agent} from './sandbox.agent'; peer.client.blocking.send(1); cli.main()\n"
    )
    for name, script in {
        "server.js": redux,
        "plain": "#!/bin/sh\n# unlike dispatch-mcp\necho dispatched; exec mail-server dispatch\n",
        "methods.py": "class A:\n    def _dispatch_read(self): return self.dispatch\n",
        "round": "#!/bin/sh\nexec round2\n",
        "round2": "#!/bin/sh\nexec round\n",
    }.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    machine.env["PATH"] = f"{folder}:{ENV['PATH']}"
    machine.claude({"app": json.loads(json.dumps(OTHERS[other]).replace("BIN", str(folder)))})
    assert grants.parse_mcp_servers("*", machine.found().offers) == ("app",)


@pytest.mark.parametrize("wide", [False, True])
def test_looking_into_scripts_is_bounded(machine: Machine, wide: bool) -> None:
    """Seen to fail without either bound: it reads on until the last script. What lies behind them is for the start."""
    folder = machine.home / "bin"
    folder.mkdir()
    last = 200 if wide else 20
    for number in range(last):
        (folder / f"s{number}").write_text("#!/bin/sh\n" + ("" if wide else f"exec {folder}/s{number + 1}\n"))
    if wide:
        (folder / "s0").write_text("#!/bin/sh\n" + "".join(f"{folder}/s{number}\n" for number in range(1, last + 1)))
    (folder / f"s{last}").write_text("#!/bin/sh\nexec dispatch-mcp\n")
    machine.claude({"app": {"command": str(folder / "s0")}})
    assert grants.parse_mcp_servers("*", machine.found().offers) == ("app",)
