"""What a run changed, in a session: the model reads the list, and only the person's word puts anything in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from mcp_plugin.call import FormAnswer
from mcp_plugin.tools import review
from tests.mcp_plugin.hosts import session
from tests.mcp_plugin.test_consent import ERAS, WITHOUT, era, no_word, yes
from tests.system.world import Document, Person, eventually

Pair = tuple[Person, Person]


def write(path: str, content: str) -> Document:
    return {"tool": "Write", "input": {"file_path": path, "content": content}}


@pytest.fixture
async def changed(pair: Pair) -> tuple[str, Path]:
    """A dispatch whose run has changed two files and made one that deserves a look, and the folder."""
    alice, bob = pair
    folder = bob.projects / f"kettle-{alice.name}"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / "app.py").write_text("old\n")

    def run() -> str:
        bob.client.edit_trust(alice.email, {"approval": "auto", "apply": "review"}, confirm_unverified=True)
        bob.will(*(write(f"{name}", "new\n") for name in ("app.py", "notes.md", "conftest.py")))
        identity = str(alice.client.send(bob.email, "Mend the kettle")["dispatch_id"])
        alice.state_of(identity, "pending")
        bob.client.accept(identity, cwd=str(folder))
        bob.state_of(identity, "completed")
        return identity

    return await trio.to_thread.run_sync(run), folder


@pytest.mark.parametrize(("does", "reads", "every_way"), WITHOUT)
async def test_a_model_alone_puts_nothing_in_place(
    pair: Pair,
    changed: tuple[str, Path],
    does: Callable[[str, dict[str, str]], str | None] | None,
    reads: float,
    every_way: bool,
) -> None:
    identity, folder = changed
    async with session(pair[1], person_does=does, reads=reads) as host:
        found = await host.ok("dispatch_read", what="changes", dispatch_id=identity)
        assert [entry["untrusted_path"] for entry in found["entries"]] == ["app.py", "conftest.py", "notes.md"]
        assert found["waits"] == 3 and found["entries"][1]["marks"] and "note" in found
        for action in ("apply", "discard", "undo") if every_way else ("apply",):
            error = await no_word(host, "dispatch_act", action=action, dispatch_id=identity)
            if does is None:
                assert f"dispatch {action} {identity}" in error["fix"]
    assert [path.name for path in folder.iterdir()] == ["app.py"] and (folder / "app.py").read_text() == "old\n"
    assert pair[1].client.changes(identity)["waits"] == 3


@ERAS
async def test_what_a_person_says_becomes_of_changes_does(pair: Pair, changed: tuple[str, Path], mode: str) -> None:
    identity, folder = changed
    async with session(pair[1], mode=mode, person_does=yes, environment=era(mode)) as host:
        done = await host.ok("dispatch_act", action="apply", dispatch_id=identity)
        assert done["status"] == "in_place" and sorted(done["landed"]) == ["app.py", "notes.md"]
        message, titles = host.forms[0]
        assert "Apply 2 changes of a run" in message and str(folder) in message and "notes.md" in message
        assert list(titles) == ["grant", "refuse"] and "conftest.py" not in message
        named = await host.ok("dispatch_act", action="apply", dispatch_id=identity, paths=["conftest.py"])
        assert named["landed"] == ["conftest.py"] and "(marked: " in host.forms[1][0]
        assert (folder / "conftest.py").read_text() == "new\n"
        back = await host.ok("dispatch_act", action="undo", dispatch_id=identity)
        assert back["status"] == "taken_back" and not (folder / "conftest.py").exists()
        (folder / "notes.md").write_text("mine\n")
        partly = await host.ok("dispatch_act", action="undo", dispatch_id=identity)
        assert partly["status"] == "partly" and partly["undone"] == ["app.py"]
        assert (folder / "notes.md").read_text() == "mine\n" and (folder / "app.py").read_text() == "old\n"
        gone = await host.ok("dispatch_act", action="discard", dispatch_id=identity)
        assert gone["status"] == "discarded"


@pytest.mark.long
async def test_what_stands_in_the_way_is_said_before_anybody_is_asked(pair: Pair, changed: tuple[str, Path]) -> None:
    identity, folder = changed
    (folder / "app.py").write_text("mine\n")
    async with session(pair[1], person_does=yes) as host:
        refused = await host.ok("dispatch_act", action="apply", dispatch_id=identity)
        assert refused["ok"] is False and [each["path"] for each in refused["refused"]] == ["app.py"]
        assert host.forms == []
    assert (folder / "app.py").read_text() == "mine\n" and not (folder / "notes.md").exists()


def test_a_form_names_first_what_cannot_be_taken_back() -> None:
    found = {"entries": [{"path": "b", "marks": ["too large to show"]}]}
    first, second = review._listed(found, ["a", "b"], ["b"])
    assert first.strip().startswith("b (marked: too large to show) (cannot be undone: ") and second.strip() == "a"


@pytest.mark.long
async def test_a_page_of_changes_is_asked_for_by_its_number(pair: Pair, changed: tuple[str, Path]) -> None:
    async with session(pair[1]) as host:
        page = await host.ok("dispatch_read", what="changes", dispatch_id=changed[0], before="2")
        assert [entry["untrusted_path"] for entry in page["entries"]] == ["notes.md"]
        for wrong in ("x", "-1", "9" * 12):
            error = await host.refused("dispatch_read", what="changes", dispatch_id=changed[0], before=wrong)
            assert error["code"] == 422


async def test_the_end_of_a_run_says_that_changes_wait(pair: Pair, changed: tuple[str, Path]) -> None:
    async with session(pair[1]) as host:
        final = await host.act("watch", changed[0])
        (row,) = final["changes"]
        assert row["waiting"] == 3 and 'what="changes"' in row["look"]
        assert final["landed"] == row["landed"] == "waiting" and (row["in_place"], row["in_all"]) == (0, 3)


@pytest.mark.long
async def test_the_senders_session_reads_how_much_is_in_place(pair: Pair, changed: tuple[str, Path]) -> None:
    """In the words of the person's own device, in a list, in one dispatch, and at the end of following it."""
    (alice, bob), identity = pair, changed[0]
    await trio.to_thread.run_sync(partial(bob.client.apply, identity, all=True))
    told = partial(eventually, lambda: alice.client.dispatch(identity)["landed"] == "part", what="the report")
    await trio.to_thread.run_sync(told)
    said = "2 of 3 applied"
    async with session(alice) as host:
        listed = await host.ok("dispatch_read", what="sent")
        assert next(row for row in listed["dispatches"] if row["dispatch_id"] == identity)["changes"] == said
        for found in (
            await host.ok("dispatch_read", what="status", dispatch_id=identity),
            await host.act("watch", identity),
        ):
            assert (found["landed"], found["changes"]) == ("part", said)
    async with session(bob) as host:
        found = await host.ok("dispatch_read", what="changes", dispatch_id=identity)
        assert (found["landed"], found["in_place"], found["in_all"]) == ("part", 2, 3)


async def test_what_is_put_in_place_is_what_was_asked_about() -> None:
    """By its digest, which another landing changes meanwhile. Seen to fail with the digest of a second look."""

    class Changing:
        def __init__(self) -> None:
            self.looks = 0
            self.landed: list[object] = []

        async def client(self) -> Changing:
            return self

        async def ask(self, message: str, _options: object) -> FormAnswer:
            assert "notes.txt" in message
            return FormAnswer("chosen", "grant")

        async def changes(self, _identity: str) -> Document:
            self.looks += 1
            return {"attempt": self.looks, "digest": f"d{self.looks}", "folders": [], "entries": []}

        async def apply(self, _identity: str, **how: object) -> Document:
            self.landed.append((how["attempt"], how["digest"], how.get("dry_run", False)))
            return {"ok": True, "landed": ["notes.txt"], "irreversible": []}

    changing = Changing()
    assert (await review.apply(cast(Any, changing), "x" * 36, []))["status"] == "in_place"
    assert changing.landed == [(1, "d1", True), (1, "d1", False)]
