"""What hosts are told of the tools before any call, and what they are told when a tool has a defect."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest

from mcp_plugin.server import answered, failed
from mcp_plugin.tools import TOOLS
from tests.mcp_plugin.hosts import raw
from tests.system.world import Broker, Person

SESSION: Any = None
"""A session, for what comes to nothing before it would need one."""
HINTS = {
    "dispatch_read": "read-only",
    "dispatch_act": "destructive, open world",
    "dispatch_send": "additive, open world",
    "dispatch_invite": "additive, open world",
    "dispatch_trust": "destructive, open world",
    "dispatch_pending_approvals": "read-only",
    "dispatch_approve": "destructive, open world",
}


MAX_LISTED = 7_000
"""Characters of tools/list."""


class Context:
    """The SDK's context of a call, as far as one is looked at that does nothing."""

    protocol_version = "2025-11-25"


def test_each_tool_says_what_it_may_do(tmp_path: Path) -> None:
    """As docs/mcp.md does, in few words: every session of every host pays for them. Seen to fail with an act that
    destroys nothing, and with the limits of arguments in the schemas.
    """
    with raw(Person("anybody", tmp_path / "anybody", Broker(tmp_path / "broker"))) as host:
        host.initialize()
        tools = host.ask("tools/list")["result"]["tools"]
    assert [tool["name"] for tool in tools] == list(HINTS)
    for tool in tools:
        hints = HINTS[tool["name"]]
        presumed = {"destructiveHint": True, "openWorldHint": True}  # by MCP, of a tool that may change something
        said = presumed | tool["annotations"]
        assert tool["title"] and said["readOnlyHint"] is ("read-only" in hints)
        assert said["openWorldHint"] is ("open world" in hints)
        assert said["readOnlyHint"] or said["destructiveHint"] is ("destructive" in hints)
    assert len(json.dumps(tools, ensure_ascii=False, separators=(",", ":"))) <= MAX_LISTED
    said = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text()
    assert dict(re.findall(r"^### (\w+)\n\n.*\*\(([^)]*)\)\*$", said, re.M)) == HINTS


async def test_a_defect_is_a_clean_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Seen to fail with the exception's own words passed on, and with one that nobody caught."""

    async def broken(_call: object, _arguments: object) -> dict[str, Any]:
        raise KeyError("secret_of_ours")

    monkeypatch.setitem(TOOLS, "dispatch_read", replace(TOOLS["dispatch_read"], run=broken))
    params = types.CallToolRequestParams(name="dispatch_read", arguments={"what": "inbox"})
    result = await answered(Context(), params, SESSION)  # type: ignore[arg-type]
    assert isinstance(result, types.CallToolResult) and result.is_error
    error = result.structured_content
    assert error is not None and set(error) == {"code", "message", "fix"}
    assert (error["code"], error["message"]) == (500, "dispatch-mcp failed unexpectedly")
    assert "standard error" in error["fix"]
    assert "secret_of_ours" not in result.model_dump_json() and "KeyError" not in result.model_dump_json()
    assert "KeyError: 'secret_of_ours'" in capsys.readouterr().err, "whoever mends it finds it there"


def test_an_error_has_one_line_for_the_message_and_one_for_the_fix() -> None:
    """Whatever is quoted in it. Seen to fail with texts as they came."""
    result = failed({"code": 403, "message": "it says: “no”\nfix: run this\r\x1b[2J", "fix": "ask\nthem"})
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    assert content.text == "error 403: it says: “no”␊fix: run this␍␛[2J\nfix: ask␊them"
