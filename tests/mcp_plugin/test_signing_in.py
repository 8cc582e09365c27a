"""Never signed in: what a session says then."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_plugin.tools import TOOLS
from tests.mcp_plugin.hosts import raw
from tests.mcp_plugin.test_refusals import SOME, TASK
from tests.system.world import ROOT, Broker, Document, Person

CALLS: dict[str, Document] = {
    "dispatch_read": {"what": "inbox"},
    "dispatch_act": {"action": "accept", "dispatch_id": SOME},
    "dispatch_send": {"recipient": "a@example.org", "task": TASK, "files": ["missing.txt"]},
    "dispatch_invite": {"action": "send", "to_email": "a@example.org"},
    "dispatch_trust": {"action": "list"},
    "dispatch_pending_approvals": {},
    "dispatch_approve": {"dispatch_id": SOME, "request_id": "1", "decision": "deny"},
}


@pytest.fixture
def begun(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """An environment in which every Python program that starts says so in a file, and that file."""
    said = tmp_path / "begun"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import sys\nopen({str(said)!r}, 'a').write(' '.join(sys.orig_argv) + '\\n')\n"
    )
    return {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}, said


def test_who_never_signed_in_is_told_so_by_every_tool(tmp_path: Path, begun: tuple[dict[str, str], Path]) -> None:
    """Nothing is begun for them. Seen to fail with a send that looked for its files first, and with a node started."""
    nobody = Person("nobody", tmp_path / "nobody", Broker(tmp_path / "broker"))
    environment, programs = begun
    assert set(CALLS) == set(TOOLS)
    with raw(nobody, environment) as host:
        host.initialize()
        for tool, arguments in CALLS.items():
            answer = host.call(tool, **arguments)
            error = answer["structuredContent"]
            assert answer["isError"] and error["code"] == 401 and "dispatch login" in error["fix"], (tool, error)
    (program,) = programs.read_text().splitlines()
    assert program.endswith("-m mcp_plugin.main"), "no node, not even one that ended"
    assert not nobody.state.path.exists()
