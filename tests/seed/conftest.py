"""The world that the acceptance suite shares: two people who may dispatch, one who may not, and what one run left.

One module is one topic of what dispatch was asked to be; one test is one behaviour, named so that it reads as a
sentence. All of it is driven from outside: the program `dispatch`, the MCP server, the API, the page. What the product
does otherwise than was asked says why in its docstring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_plugin.hosts import Raw, check_fix, raw
from tests.system.conftest import Pair, _pair, pair, world
from tests.system.world import Document, Person, World, connected

__all__ = ["Host", "People", "Scene", "_pair", "pair", "world"]

TASK = "Count the lines.\n\tThen say “done”; nothing else — verbatim.  \n"
FILE = b"one\ntwo\n"


@dataclass(frozen=True)
class People:
    """Alice may dispatch to Bob, who answers every call; Carol knows nobody; Dora's daemon has never run."""

    world: World
    alice: Person
    bob: Person
    carol: Person
    dora: Person

    def sent(self, task: str = "Look into it", *steps: Document, **more: Any) -> str:
        """Have Alice send Bob a task, which his agent does in these steps; return its id, once it is in his inbox."""
        self.bob.will(*steps)
        dispatch_id = str(self.alice.client.send(self.bob.email, task, **more)["dispatch_id"])
        self.alice.state_of(dispatch_id, "pending")
        return dispatch_id

    def running(self, *steps: Document) -> tuple[str, Document]:
        """Have Bob accept such a task; return its id and the first call that waits for him."""
        dispatch_id = self.sent("Look into it", *steps)
        self.bob.client.accept(dispatch_id)
        return dispatch_id, self.bob.approval_of(dispatch_id)


@pytest.fixture(scope="session")
def _people(world: World, _pair: Pair) -> People:
    (carol,) = world.people_named("carol")
    return People(world, _pair.alice, _pair.bob, carol, world.person("dora", start=False))


@pytest.fixture
def people(_people: People, pair: tuple[Person, Person]) -> People:
    """Everybody, the edge as at first, nothing running."""
    return _people


@dataclass(frozen=True)
class Scene:
    """One dispatch with everything that one may carry, run to its end by Bob, who allowed its one call."""

    people: People
    dispatch_id: str
    sent: Document
    """What `send` said."""
    mine: Document
    """The dispatch as Alice sees it at the end."""
    theirs: Document
    """The dispatch as Bob sees it."""

    @property
    def short(self) -> str:
        return self.dispatch_id[-8:]


@pytest.fixture(scope="session")
def done(_people: People, _pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    _pair.restore()  # whatever test is the first to ask for it
    folder: Path = tmp_path_factory.mktemp("attached")
    (folder / "two.txt").write_bytes(FILE)
    _people.bob.will(
        {"tool": "Bash", "input": {"command": "wc -l < /dispatch/in/two.txt | tee /dispatch/out/count.txt"}},
        {"say": "two lines"},
    )
    said = _people.alice.cli(
        *("send", _people.bob.email, "-", "--json", "--expires", "7200", "--file", str(folder / "two.txt")),
        *("--project", "shop", "--link", "https://spec.example/a", "--deliverable", "a number"),
        *("--background", "Alice counts by hand until now.", "--meta", "ticket=17"),
        stdin=TASK,
    ).json
    dispatch_id = said["dispatch_id"]
    _people.alice.state_of(dispatch_id, "pending")
    _people.bob.client.accept(dispatch_id)
    call = _people.bob.approval_of(dispatch_id)
    _people.bob.client.approve(dispatch_id, call["request_id"])
    _people.alice.state_of(dispatch_id, "completed")
    mine, theirs = (person.client.dispatch(dispatch_id) for person in (_people.alice, _people.bob))
    return Scene(_people, dispatch_id, said, mine, theirs)


class Host:
    """An agent's session with the MCP server, without a form."""

    def __init__(self, program: Raw) -> None:
        self.about = program.initialize()
        self._program = program

    def tools(self) -> dict[str, Document]:
        """Return the tools by name."""
        return {tool["name"]: tool for tool in self._program.ask("tools/list")["result"]["tools"]}

    def ok(self, tool: str, **arguments: object) -> Document:
        """Call a tool; fail unless it succeeds."""
        result = self._program.call(tool, **arguments)
        assert not result.get("isError"), result
        return dict(result["structuredContent"])

    def refused(self, tool: str, **arguments: object) -> Document:
        """Call a tool that is refused; return {code, message, fix}."""
        result = self._program.call(tool, **arguments)
        assert result["isError"], result
        check_fix(result["structuredContent"]["fix"])
        return dict(result["structuredContent"])


@pytest.fixture(scope="session")
def alice_host(_people: People) -> Iterator[Host]:
    with raw(_people.alice) as program:
        yield Host(program)


@pytest.fixture(scope="session")
def bob_host(_people: People) -> Iterator[Host]:
    with raw(_people.bob) as program:
        yield Host(program)


def bash(command: str) -> Document:
    """A step of the scripted agent."""
    return {"tool": "Bash", "input": {"command": command}}


def invited(asker: Person, granter: Person) -> Document:
    """Have one invite the other; return what `invite` says, once the invitation is at the other's."""
    from tests.system.world import eventually

    document = asker.client.invite(granter.email)
    eventually(lambda: document["token"] in [row["token"] for row in granter.client.invitations()["received"]])
    return document


def edge_of(asker: Person, granter: Person) -> Document:
    """Return the edge as the asker sees it."""
    return connected(asker, granter)
