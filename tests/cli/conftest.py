"""A command line with a state folder of its own, beside a fake of the daemon's API or none."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.main import run
from peer.machine.state_folder import StateFolder
from tests.cli.fake_api import FakeApi, running


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


class Cli:
    def __init__(self, folder: StateFolder, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.capture = capture
        self.patch = patch

    def __call__(self, *args: str, stdin: str | bytes = "") -> Outcome:
        self.capture.readouterr()
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        with self.patch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
            code = run(args)
        out, err = self.capture.readouterr()
        return Outcome(code, out, err)

    def configure(self, **document: Any) -> None:
        self.folder.write_private(self.folder.config, json.dumps(document).encode())


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    for name in list(os.environ):
        if name.startswith(("DISPATCH_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DISPATCH_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Cli(StateFolder(tmp_path / "state"), capsys, monkeypatch)


@pytest.fixture
def api(cli: Cli) -> Iterator[FakeApi]:
    with running(cli.folder) as fake:
        yield fake


@pytest.fixture
def reader(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """No daemon, and a store whose read-only door answers what the test puts here; what it was asked is in `asked`."""
    answers: dict[str, Any] = {"asked": []}

    class Reader:
        def whoami(self) -> Any:
            return answers["whoami"]

        def contacts(self, *, limit: int | None = None, before: str | None = None) -> Any:
            return answers["contacts"]

        def invitations(self, *, ended: bool = False, limit: int | None = None, before: str | None = None) -> Any:
            return answers["invitations"]

        def dispatches(
            self, direction: str, *, status: str | None = None, limit: int | None = None, before: str | None = None
        ) -> Any:
            answers["asked"].append((direction, status, limit, before))
            return {"dispatches": [] if before else answers[direction]}

        def approvals(self) -> Any:
            return []

        def dispatch(self, dispatch_id: str) -> Any:
            return answers[dispatch_id]

    @contextmanager
    def open_reader(folder: StateFolder, *, broker: str | None = None, token: str | None = None) -> Iterator[Reader]:
        assert folder.path == cli.folder.path
        yield Reader()

    def revoke(folder: StateFolder, peer: str) -> Any:
        answers["asked"].append(("revoke", peer))
        return {"status": "revoked", "trust_link_id": "t"}

    monkeypatch.setattr("peer.store.reader.open_reader", open_reader)
    monkeypatch.setattr("peer.programs.offline_revoke.revoke", revoke)
    cli.folder.write_private(cli.folder.store, b"")
    return answers
