"""A held result in a session: the model sees it, and only the person's word sends it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

import pytest
import trio

from mcp_plugin import questions
from mcp_plugin.call import Call
from mcp_plugin.tools import review
from peer.protocol.errors import Conflict
from tests.mcp_plugin.hosts import session
from tests.mcp_plugin.test_consent import WITHOUT, no_word, yes
from tests.system.world import Document, Person

Pair = tuple[Person, Person]


@pytest.fixture
async def waiting(pair: Pair) -> str:
    """A dispatch over a `review` edge, in the inbox."""
    alice, bob = pair

    def run() -> str:
        bob.client.edit_trust(alice.email, {"approval": "review"}, confirm_unverified=True)
        bob.will({"tool": "Bash", "input": {"command": "echo found > /dispatch/out/found.txt"}}, {"say": "It is blue."})
        identity = str(alice.client.send(bob.email, "Which colour?")["dispatch_id"])
        alice.state_of(identity, "pending")
        return identity

    return await trio.to_thread.run_sync(run)


@pytest.mark.parametrize(("does", "reads", "every_way"), [each for each in WITHOUT if each.id != "closed"])
async def test_a_model_alone_sends_nothing(
    pair: Pair,
    waiting: str,
    does: Callable[[str, dict[str, str]], str | None] | None,
    reads: float,
    every_way: bool,
) -> None:
    del every_way
    async with session(pair[1], person_does=does, reads=reads) as host:
        ended = await host.ok("dispatch_act", action="accept", dispatch_id=waiting, cwd="")
        assert ended["status"] == "held" and ended["reply"] == "It is blue." and "its result is held" in ended["held"]
        error = await no_word(host, "dispatch_act", action="release", dispatch_id=waiting, without=["trace"])
        if does is None:
            assert f"dispatch release {waiting} --without trace" in error["fix"]
    assert pair[1].client.dispatch(waiting)["status"] == "held"
    assert pair[0].client.dispatch(waiting)["status"] == "running"
    await trio.to_thread.run_sync(lambda: pair[1].client.decline(waiting))


async def test_the_persons_word_sends_it(pair: Pair, waiting: str) -> None:
    alice, bob = pair
    async with session(bob, person_does=yes) as host:
        await host.ok("dispatch_act", action="accept", dispatch_id=waiting, cwd="")
        read = await host.ok("dispatch_read", what="status", dispatch_id=waiting)
        assert read["result"]["reply"] == "It is blue." and "release" in read["result"]["held"]
        done = await host.ok("dispatch_act", action="release", dispatch_id=waiting, without=["files"])
        assert (done["status"], done["state"], done["without"]) == ("sent", "completed", ["files", "trace"])
        (message, _), *_ = host.forms
        assert (
            alice.email in message
            and "It is blue." in message
            and "found.txt" not in message
            and "Its events" not in message
        )
        error = await host.refused("dispatch_act", action="release", dispatch_id=waiting)
        assert error["code"] == 409
    told = await trio.to_thread.run_sync(
        lambda: alice.state_of(waiting, "completed") and alice.client.dispatch(waiting)
    )
    assert told["result"]["reply"] == "It is blue." and told["result"]["files"] == []


async def test_a_run_that_ends_meanwhile_is_not_sent_unasked() -> None:
    """The hook lets a release through because the server asks. Seen to send without the refusal."""
    done: list[str] = []

    class Client:
        async def dispatch(self, identity: str) -> Document:
            return {"dispatch_id": identity, "status": "running", "held": None}

        async def release(self, identity: str, **_: object) -> Document:
            done.append(identity)  # it was held by the time of this request
            return {"status": "completed"}

    class OneCall:
        async def client(self) -> Client:
            return Client()

    with pytest.raises(Conflict, match="none of its results is held"):
        await review.release(cast(Call, OneCall()), "0198c0de-1111-7222-8333-444455556666", ())
    assert not done


def test_the_hook_asks_nothing_that_the_server_asks_itself() -> None:
    """An honest call costs one dialog. Seen to fail without `release` in ASKED_IN_A_FORM, and with `accept`
    of a dispatch, which no form asks about."""
    asking = {name for name, each in inspect.getmembers(review, inspect.iscoroutinefunction) if name != "confirm"}
    asking = {name for name in asking if "await confirm(" in inspect.getsource(getattr(review, name))}
    assert asking == {"apply", "discard", "undo", "release"}
    # The hook lets these calls through, so nothing else may be among them.
    people = {("dispatch_invite", "accept"), ("dispatch_trust", "edit")}
    assert {("dispatch_act", name) for name in asking} | people == questions.ASKED_IN_A_FORM
