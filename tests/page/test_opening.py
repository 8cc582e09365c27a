"""`dispatch open` as it is: a browser program is started, follows the file it is given, and is signed in."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Opener
from tests.system.world import Document, Person

Pair = tuple[Person, Person]

FAKE = """#!{python}
import json, os, sys
with open({told!r}, "w") as file:
    cmdline = open("/proc/self/cmdline").read()
    json.dump({{"argv": sys.argv[1:], "cmdline": cmdline, "environment": dict(os.environ)}}, file)
"""
CODE = re.compile(r"#code=([A-Za-z0-9_-]{43})")


class FakeBrowser:
    """A program that Bob's desktop takes for the browser, and that writes down how it was started."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self.folder = person.home / "fake-browser"
        self.folder.mkdir()
        self._told = self.folder / "told.json"
        self._program = self.folder / "browser"
        self._program.write_text(FAKE.format(python=sys.executable, told=str(self._told)))
        self._program.chmod(0o755)
        person.environment["BROWSER"] = str(self._program)

    def opens(self, *arguments: str) -> tuple[Document, str]:
        """Run `dispatch open`; return how the browser was started, and what the command printed."""
        self._told.unlink(missing_ok=True)
        said = self._person.cli("open", *arguments)
        return dict(json.loads(self._told.read_bytes())), str(said)


@pytest.fixture
def browser_program(pair: Pair) -> Iterator[FakeBrowser]:
    _, bob = pair
    made = FakeBrowser(bob)
    try:
        yield made
    finally:
        del bob.environment["BROWSER"]
        shutil.rmtree(made.folder)


def test_the_browser_is_given_a_file_and_never_the_code(
    pair: Pair, browser_program: FakeBrowser, new_tab: Opener
) -> None:
    """Seen to fail with the address in place of the file, and with a file that others may read."""
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "Open me")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    started, said = browser_program.opens(dispatch_id[-8:])
    assert started["argv"] == [bob.state.open_page.as_uri()]
    printed = CODE.search(said)
    assert printed is not None and "opened in the browser" in said
    code = printed[1]
    assert code not in json.dumps(started), (
        "neither its words, which every user of the machine reads, nor its environment"
    )

    # Of all files, one has the code, and nobody else can read that.
    holding = [path for path in files(bob.home) if code.encode() in path.read_bytes()]
    assert holding == [bob.state.open_page]
    status = bob.state.open_page.lstat()
    assert stat.S_IMODE(status.st_mode) == 0o600 and status.st_uid == os.geteuid()
    assert stat.S_IMODE(bob.state.path.stat().st_mode) == 0o700

    # A real browser that follows it is signed in, at that dispatch, and the code is spent.
    tab = new_tab(bob)
    tab.page.goto(started["argv"][0])
    expect(tab.page.locator(".people-of", has_text=f"From {alice.email}")).to_be_visible()
    assert tab.page.url.endswith(f"/dispatches/{dispatch_id}")
    assert tab.wrong == [f"a request to {started['argv'][0]}"]
    late = new_tab(bob)
    late.page.goto(started["argv"][0])
    expect(late.page.get_by_role("alert")).to_contain_text("used already")
    for each in (tab, late):
        each.wrong.clear()

    # The next one takes its place.
    browser_program.opens()
    assert code not in bob.state.open_page.read_text()


def test_without_a_browser_the_address_is_printed_and_no_file_written(pair: Pair, browser_program: FakeBrowser) -> None:
    """Seen to fail with a file that is written all the same."""
    _, bob = pair
    bob.state.open_page.unlink(missing_ok=True)
    said = bob.cli("open", "--no-browser")
    assert CODE.search(said) and not bob.state.open_page.exists()
    assert not (browser_program.folder / "told.json").exists()


def files(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
