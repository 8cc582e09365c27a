"""What the registry hands to each run that it starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from peer.machine.settings import ModelSettings, Settings
from peer.runs import registry


async def test_every_secret_of_the_settings_is_known_to_what_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail without the secret of one's own relay, which a run could then have returned to its sender."""
    started: list[Any] = []

    class FakeRun:
        dispatch_id = "d"

        def __init__(self, *_: object, known: tuple[str, ...], **__: object) -> None:
            started.extend(known)

        async def run(self, _settings: object) -> None:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(registry, "Run", FakeRun)
    nothing: Any = None
    model = ModelSettings(api_key="Bearer gateway's", proxy="http://name:proxy's@proxy.example:1")
    settings = Settings(token="sign-in's", relay_token="relay's", model=model)
    ended = trio.Event()
    runs = registry.RunRegistry(nothing, lambda: settings, nothing, nothing, nothing, ended=ended.set)
    row: Any = SimpleNamespace(dispatch_id="d")
    async with trio.open_nursery() as nursery:
        await nursery.start(runs.serve)
        runs.start(row, nothing, nothing)
        await ended.wait()
        nursery.cancel_scope.cancel()
    assert {"gateway's", "proxy's", "sign-in's", "relay's"} <= {*started}
