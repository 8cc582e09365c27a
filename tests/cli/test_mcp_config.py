"""The configuration of each host, read back by the parser of its format."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli.mcp_config import CALL_SECONDS, HOSTS, START_SECONDS, server
from tests.cli.conftest import Cli

STRANGE = Path('/opt/a "b" \\ ü\x7f')


def read(host: str, text: str) -> Any:
    """The entry of our server, as the host's own parser has it."""
    document = tomllib.loads(text) if HOSTS[host].format == "toml" else json.loads(text)
    return document["mcp_servers" if host == "codex" else "mcpServers"]["dispatch"]


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_printed_is_what_the_host_reads(host: str, tmp_path: Path) -> None:
    """With a folder that needs quoting, and the state folder of whoever asks: hosts do not pass variables on."""
    entry = read(host, HOSTS[host].write(server(STRANGE, {"DISPATCH_HOME": str(tmp_path)})))
    assert (entry["command"], entry["args"]) == (f"{STRANGE}/dispatch-mcp", [])
    assert entry["env"] == {"DISPATCH_HOME": str(tmp_path)}
    timeouts = {"startup_timeout_sec": START_SECONDS, "tool_timeout_sec": CALL_SECONDS} if host == "codex" else {}
    timeouts |= {"timeout": CALL_SECONDS * 1000} if host in ("claude", "gemini") else {}
    assert {name: value for name, value in entry.items() if "timeout" in name} == timeouts
    assert "trust" not in entry, "the host's own questions stay"
    assert "env" not in read(host, HOSTS[host].write(server(STRANGE, {"PATH": "/bin"})))


@pytest.mark.parametrize("host", HOSTS)
def test_the_command_prints_it_alone(host: str, cli: Cli) -> None:
    """So that it can be redirected: where it goes is said on stderr, or in a comment."""
    done = cli("mcp-config", host)
    program = Path(read(host, done.out)["command"])
    assert (done.code, program.is_absolute(), program.is_file()) == (0, True, True)
    assert HOSTS[host].file in done.err
    document = cli("mcp-config", host, "--json").document
    assert (document["host"], document["file"], document["format"]) == (host, HOSTS[host].file, HOSTS[host].format)
    assert document["text"].rstrip("\n") == done.out.rstrip("\n")
