"""The handshake is answered before the SDK is there, and exactly as the SDK does."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_plugin import handshake
from mcp_plugin.handshake import Initialize, parse
from tests.conftest import HANG
from tests.mcp_plugin.hosts import Raw, raw
from tests.system.world import Document, Person, eventually

Pair = tuple[Person, Person]
CLIENT = {"name": "test", "version": "0"}


def request(version: str = "2025-11-25", **more: object) -> Document:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT, **more}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def answered(host: Raw, message: Document) -> Document:
    host.say(message)
    return host.hear()


@pytest.mark.parametrize("version", [*handshake.VERSIONS, "2026-07-28", "1999-01-01", ""])
def test_it_is_the_answer_of_the_sdk(pair: Pair, version: str) -> None:
    """Seen to fail with another version for hosts that ask for an unknown one."""
    plain, other = request(version), request(version, _meta={"left": "to the SDK"})
    assert parse(json.dumps(plain).encode()) == Initialize(1, version)
    assert parse(json.dumps(other).encode()) is None
    with raw(pair[1]) as host:
        assert answered(host, other) == handshake.response(Initialize(1, version))


@pytest.mark.parametrize(("era", "capabilities"), [("", {}), ("auto", {"elicitation": {"form": {}}, "roots": {}})])
def test_it_is_said_once_and_the_session_goes_on(pair: Pair, era: str, capabilities: Document) -> None:
    """Seen to fail with the SDK's own answer not dropped."""
    _, bob = pair
    message = request(capabilities=capabilities)
    with raw(bob, {"DISPATCH_MCP_ERA": era}) as host:
        assert answered(host, message) == handshake.response(Initialize(1, "2025-11-25"))
        host.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        host.say({"jsonrpc": "2.0", "id": 1, "method": "ping"})  # the same id, once more: its answer is no handshake
        assert host.hear() == {"jsonrpc": "2.0", "id": 1, "result": {}}
        host.ids = 1
        assert host.call("dispatch_read", what="whoami")["structuredContent"]["user_id"] == bob.email


def test_no_host_waits_for_the_sdk(pair: Pair, tmp_path: Path) -> None:
    """The SDK, played by a module that never finishes loading; a signal ends even that at once."""
    (tmp_path / "mcp_types.py").write_text("import time\ntime.sleep(3600)\n")
    with raw(pair[1], {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}) as host:
        assert answered(host, request()) == handshake.response(Initialize(1, "2025-11-25"))
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(HANG) == 0


def test_a_host_that_leaves_without_a_word(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "mcp_types.py").write_text("import time\ntime.sleep(3600)\n")
    with raw(pair[1], {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}) as host:
        host.stdin.close()
        eventually(lambda: host.process.poll() is not None, what="its end")
        assert host.process.returncode == 0


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["jsonrpc", "id", "method", "params"]), ODD)
def test_anything_odd_is_left_to_the_sdk(name: str, value: object) -> None:
    message = {**request(), name: value}
    found = parse(json.dumps(message).encode())
    assert found is None or (found == Initialize(message["id"], "2025-11-25") and name == "id")


@given(st.binary(max_size=80))
def test_any_bytes_are_no_handshake(line: bytes) -> None:
    assert parse(line) is None
