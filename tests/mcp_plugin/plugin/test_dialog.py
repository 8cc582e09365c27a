"""How much of what our hook asks is seen in the dialog of the real claude program, in a terminal of 80×24."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcp_plugin.questions import DIALOG_ROWS
from peer.machine.state_folder import StateFolder
from sandbox.model_api.anthropic.scripted_model import ScriptedModel
from tests.cli.fake_api import page_of_calls, running
from tests.mcp_plugin.plugin import claude as host
from tests.mcp_plugin.plugin.sessions import PREFIX
from tests.mcp_plugin.plugin.test_announce import FIRST, row
from tests.mcp_plugin.plugin.test_monitor import terminal


@pytest.mark.long
async def test_the_dialog_shows_the_first_rows_and_counts_the_rest(tmp_path: Path) -> None:
    """If this fails after an update of the program with more rows shown, say so in docs/plugin.md; with fewer, shorten
    what stands first. Seen to fail with the folder after the task."""
    task = "Do this.\n" + "\n".join(f"and step {number}" for number in range(60))
    accept = {"action": "accept", "dispatch_id": FIRST, "cwd": "/home/bob/shop"}
    model = ScriptedModel(turns=[{"tools": [{"name": f"{PREFIX}dispatch_act", "input": accept}]}, {"text": "Done."}])
    state = StateFolder(tmp_path / "state")
    async with model.running():
        with running(state) as node:
            waits = row(task=task, suggestion=None)
            node["GET /v1/dispatches"] = {"dispatches": [waits]}
            node["GET /v1/approvals"] = page_of_calls()
            node[f"GET /v1/dispatches/{FIRST}"] = waits
            state.write_private(state.programs, f"{host.PROGRAMS}\n".encode())
            with terminal(tmp_path, model.url, state, rows=24, columns=80) as screen:
                await screen.until("1 task waits (alice): /dispatch:inbox")
                screen.type("go on")
                await screen.until("go on")
                screen.type("\r")
                await screen.until("Accept it, and run it in /home/bob/shop?")
                await screen.until("Do this.")
                await screen.until("more lines)")
                await screen.until("Do you want to proceed?")
                shown = screen.shown
    assert "alice@example.orgasksthismachinetodo:" in shown
    steps = {int(number) for number in re.findall(r"andstep(\d+)", shown)}
    # The note, the question, whose it is and the first line of the task stand before these.
    assert steps and max(steps) <= DIALOG_ROWS - 4
