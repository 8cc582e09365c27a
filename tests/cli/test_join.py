"""What `join` says to a link that is none, and to a token alone; the way itself: tests/system/test_join.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.documents import TOKEN

PAGE = f"https://broker.example/join/{TOKEN}"


@pytest.mark.parametrize(
    "link",
    [
        "https://example.org/",
        f"{PAGE}x",
        f"{PAGE}#x",
        "dispatch:invitation:x",
        "alice@example.org",
        f"ftp://b/join/{TOKEN}",
    ],
)
def test_what_is_no_invitation_is_refused_before_anything_is_done(cli: Cli, link: str) -> None:
    outcome = cli("join", link, "--json")
    error = outcome.document["error"]
    assert (outcome.code, error["code"]) == (2, 422) and error["fix"]
    assert not cli.folder.store.exists() and not cli.folder.daemon_json.exists()


def test_a_token_alone_says_what_else_it_needs(cli: Cli) -> None:
    outcome = cli("join", TOKEN)
    assert outcome.code == 2 and "which broker has" in outcome.err and "`dispatch join -`" in outcome.err


def test_a_short_token_is_one_that_is_known_here(cli: Cli, reader: dict[str, Any]) -> None:
    """As `invitations` shows it. Seen to fail with "malformed token"."""
    reader["invitations"] = {"sent": [], "received": [{"token": TOKEN, "from": "alice@example.org"}]}
    assert "which broker has" in cli("join", TOKEN[-8:]).err, "as for the whole token"
    unknown = cli("join", "55556667").err
    assert "there is no invitation '55556667' here" in unknown
    assert "`dispatch join 55556666` (alice@example.org)" in unknown and "`dispatch join -`" in unknown


def test_a_new_broker_is_named_before_it_is_asked(cli: Cli) -> None:
    outcome = cli("join", "-", "--email", "bob@example.org", stdin=f"<http://127.0.0.1:1/join/{TOKEN}>\n")
    assert outcome.code == 1 and "the broker http://127.0.0.1:1, which this machine does not use yet" in outcome.out
    assert "can't reach broker http://127.0.0.1:1" in outcome.err
