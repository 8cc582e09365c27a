"""Our own programs inside a granted MCP server: whatever starts them there, they refuse, and find no identity."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.confinement.bubblewrap import spawn_on_host
from sandbox.mcp.marker import MARKER
from tests.sandbox.conftest import Done, finish

PROGRAMS = Path(sys.executable).parent
REFUSED = "inside an MCP server that other people"
IN_PIECES = "import runpy, sys; sys.argv = ['x']; runpy.run_module('mcp_' + 'plugin.main', run_name='__main__')"
NO_PROCESSES = """
import ctypes, os
assert ctypes.CDLL(None).mount(b"none", b"/proc", b"tmpfs", 0, None) == 0
os.execvp("dispatch", ["dispatch", "inbox"])
"""
WAYS = {
    "the command line": ["dispatch", "inbox"],
    "a list in JSON": ["dispatch", "--json", "sent"],
    "sending": ["dispatch", "send", "eve@example.org", "x"],
    "the server": ["dispatch-mcp"],
    "the daemon": ["dispatch-daemon", "--port", "0"],
    "a variable": ["sh", "-c", "X=dispatch; Y=-mcp; exec $X$Y"],
    "a name in pieces": [sys.executable, "-c", IN_PIECES],
    "another session": ["setsid", "-w", "dispatch", "inbox"],
    "no process to be seen": ["unshare", "--user", "--keep-caps", "--mount", sys.executable, "-c", NO_PROCESSES],
    "a mark taken off": ["env", "-u", MARKER, "dispatch", "inbox"],
    "an empty environment": ["env", "-i", "HOME=HOME_OF_BOB", str(PROGRAMS / "dispatch"), "inbox"],
    "another identity": ["env", "-i", "DISPATCH_HOME=SECOND", str(PROGRAMS / "dispatch-mcp")],
}


async def beside(words: list[str], home: Path, hidden: Path) -> Done:
    env = {"PATH": f"{PROGRAMS}:/usr/bin:/bin", "HOME": str(home), MARKER: ""}
    process = spawn_on_host(words, env, hidden=[hidden], marker=MARKER)
    assert process.stdin is not None
    await process.stdin.aclose()
    return await finish(process)


@pytest.mark.parametrize("way", WAYS)
async def test_our_programs_refuse_to_run_there(tmp_path: Path, way: str) -> None:
    """Seen to fail without the mark, the last three with the variable alone, and the one without
    processes where only the first process is looked at.
    """
    home, state, second = tmp_path / "home", tmp_path / "home/.dispatch", tmp_path / "second"
    for folder in (state, second):
        folder.mkdir(parents=True)
    words = [word.replace("HOME_OF_BOB", str(home)).replace("SECOND", str(second)) for word in WAYS[way]]
    outside = subprocess.run(
        ["timeout", "2", *words],
        env={"PATH": f"{PROGRAMS}:/usr/bin:/bin", "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert REFUSED not in outside.stdout + outside.stderr, "elsewhere it runs, or has another reason not to"
    done = await beside(words, home, state)
    assert done.code not in (0, None) and REFUSED in done.out + done.err
    assert not any(second.iterdir())


async def test_the_mark_is_no_secret_and_nothing_else_is_new(tmp_path: Path) -> None:
    done = await beside(["env"], tmp_path, tmp_path / "state")
    assert {line.partition("=")[0] for line in done.out.splitlines()} == {"PATH", "HOME", "PWD", MARKER}
    assert os.environ.get(MARKER) is None
