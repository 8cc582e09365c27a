"""What starting the program loads and costs, in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, row
from tests.cli.fake_api import FakeApi, Stream, page_of_calls
from tests.conftest import HANG

ROOT = Path(__file__).parents[2]
LIGHT = {"sandbox", "sandbox.errors", "sandbox.mcp", "sandbox.mcp.marker", "sandbox.programs", "sandbox.runtimes"}
"""Whether a program runs inside a granted server, which all look at first, which runtimes a setting may name, and the
PATH of our own programs.
"""
NEVER = {"libp2p", "trio", "httpx", "mcp", "starlette", "sandbox", "rendezvous"}
LATE = {"rich", "msgspec", "sqlite3", "http.client", "email", "ssl", "asyncio", "cbor2", "nacl"}


def process(*args: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *args],
        cwd=ROOT,
        capture_output=True,
        encoding=encoding,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=HANG,
        check=False,
    )


@pytest.mark.parametrize("args", [["--help"], ["inbox"], ["inbox", "--json"], ["approvals"], ["contacts"]])
def test_nothing_heavy_is_imported(cli: Cli, api: FakeApi, args: list[str]) -> None:
    api["GET /v1/dispatches"] = {"dispatches": [row()]}
    api["GET /v1/approvals"] = page_of_calls()
    api["GET /v1/contacts"] = {"trust": []}
    code = f"import sys; from cli.main import run; code = run({args!r}); print(code, *sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=False
    )
    code_said, *modules = done.stderr.splitlines()[-1].split()
    assert code_said == "0", done.stderr
    assert (NEVER | LATE) & {name for module in {*modules} - LIGHT for name in (module, module.split(".")[0])} == set()


@pytest.mark.parametrize("sending", [False, True])
def test_no_command_module_imports_the_node(cli: Cli, sending: bool) -> None:
    """`send` alone has options that are the fields of a struct."""
    code = (
        "import sys, pkgutil, importlib, cli\n"
        "for m in pkgutil.iter_modules(cli.__path__):\n"
        f"    if m.name not in ('spinner', 'demo', 'markdown') and (m.name == 'send') == {sending}:\n"
        "        importlib.import_module('cli.' + m.name)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=True
    )
    loaded = (NEVER | LATE) & {module.split(".")[0] for module in {*done.stdout.split()} - LIGHT}
    assert loaded == ({"msgspec"} if sending else set())


def test_help_comes_at_once(cli: Cli) -> None:
    """Counted in modules, which any machine loads alike: how long that takes is measured in bench_cli."""
    code = "import sys; from cli.main import run; run(['--help']); print(len(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=True
    )
    assert int(done.stderr) < 200


def test_the_program_exits_as_promised(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/dispatches"] = {"dispatches": []}
    assert process("inbox", "--json").returncode == 0
    refused = process("approvals", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (1, 404)
    assert process("nonsense").returncode == 2


def test_ctrl_c_is_130_and_leaves_the_run_alone(cli: Cli, api: FakeApi) -> None:
    import threading

    gate = threading.Event()
    api.streams[FIRST] = [Stream([("state", {"status": "running"}), ("end", {})], gates={2: gate})]
    watching = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "watch", FIRST, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["kind"] == "state"
        watching.send_signal(signal.SIGINT)
        rest, _ = watching.communicate(timeout=HANG)
    finally:
        gate.set()
        watching.kill()
    assert watching.returncode == 130
    assert json.loads(rest)["error"]["message"] == "interrupted"
    assert [asked.method for asked in api.asked] == ["GET"]


def test_a_reader_that_has_had_enough(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/dispatches"] = {"dispatches": [row(task="x" * 100) for _ in range(5000)]}
    shown = subprocess.run(
        f"'{sys.executable}' -m cli.main inbox | head -n 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert shown.stdout.startswith("id ")
    assert "Traceback" not in shown.stderr
    assert "Exception ignored" not in shown.stderr


def test_a_terminal_that_lacks_letters(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/dispatches"] = {"dispatches": [row(task="prüfe → 😀")]}
    done = process("inbox", encoding="latin-1")
    assert done.returncode == 0
    assert "prüfe \\u2192 \\U0001f600" in done.stdout
