"""A dispatch with the field that docs/architecture.md adds, through every place that shows one: run in a patched tree.

`test_adding_a_field.py` runs it; here no field of that name exists, so it is given by name alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner

from cli.display import show_dispatch
from cli.output import Output
from cli.send import send
from mcp_plugin.arguments import schema
from mcp_plugin.tools.read import whole
from mcp_plugin.tools.send import Send
from peer.api.page.routes import PageRoutes
from peer.client.blocking import Client
from peer.dispatches import payload
from peer.machine.state_folder import StateFolder
from peer.protocol import cddl
from peer.protocol.content import Content, check_limits
from peer.protocol.errors import TooLarge
from peer.protocol.signing import open_as, sign_by_device
from peer.protocol.statements import Dispatch
from peer.runs.start_frame import attached
from peer.store import views
from sandbox import frames
from sandbox.run import prompts
from tests.protocol.examples import ALICE, BOB, CREATED, an_id

FIELD, VALUE = "urgency", "before the market opens"


def main() -> None:
    """Print what each place made of the field, as JSON."""
    given: dict[str, Any] = {"task": "Add it up", FIELD: VALUE}
    content: Content[Any] = Content(**given)
    payload.check_content(content)
    dispatch = Dispatch(
        issuer_user=ALICE.user,
        issuer_device=ALICE.device,
        audience_user=BOB.user,
        audience_device=BOB.device,
        id=an_id(1),
        created=CREATED,
        expires=CREATED + 60_000,
        edge_id=an_id(2),
        content=content,
    )
    signed = sign_by_device(dispatch, ALICE.device_seed)
    opened, _ = open_as(Dispatch, signed.raw)
    document = views.content_document(opened.content)
    start = frames.Start(
        dispatch_id="d", attempt=1, sender="a", task="t", run_dir="/r", attached=attached(opened.content)
    )
    asked = _Asked(StateFolder(Path("/nonexistent")))
    asked.send("bob@example.org", **given)
    row: dict[str, Any] = {
        "direction": "sent",
        "status": "pending",
        "files": [],
        "events": [],
        "approvals": [],
        "result": None,
    }
    print(
        json.dumps(
            {
                "statement": opened == dispatch,
                "cddl": f"; {FIELD}\n" in cddl.render(),
                "refused": _refused({FIELD: "x" * 41}),
                "view": document[FIELD],
                "brief": prompts.attached(start),
                "request": asked.body,
                "help": CliRunner().invoke(send, ["--help"]).output,
                "shown": _shown(row | document),
                "tool": schema(Send)["properties"].get(FIELD),
                "read": whole(row | document),
                "page": asyncio.run(_session())["texts"],
            }
        )
    )


class _Asked(Client):
    body: Any = None

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        self.body = body


def _refused(values: dict[str, Any]) -> str:
    try:
        check_limits(values)
    except TooLarge as error:
        return error.message
    return ""


def _shown(document: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show_dispatch(Output(), document)
    return out.getvalue()


async def _session() -> Any:
    identity = SimpleNamespace(user_id="a", name="desk")
    node: Any = SimpleNamespace(
        context=SimpleNamespace(identity=identity), settings=SimpleNamespace(notifications="on")
    )
    request: Any = None
    return await PageRoutes(node).session(request)


if __name__ == "__main__":
    main()
