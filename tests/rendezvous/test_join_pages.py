"""The page behind an invitation's link: what it says, to whom, what it never holds, how it is answered for an end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import pytest

from peer.protocol.errors import Invalid
from peer.trust.invitation_address import page_of
from rendezvous.installing import MAX_COMMANDS, Installing, read_installing
from tests.rendezvous.world import Clock, People, Running, people_at, running_broker

BOB = "bob@example.org"
SAID = Installing(("pipx install 'dispatch & <co>'", "pipx ensurepath"), "https://example.org/install?a=1&b=2")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_broker(tmp_path / "broker", clock=Clock(), installing=SAID) as running:
        yield running


@pytest.fixture
async def people(broker: Running, tmp_path: Path) -> AsyncIterator[People]:
    async with people_at(broker, tmp_path / "people") as people:
        yield people


async def test_the_page_says_who_asks_and_how_to_come_in(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    address = page_of(broker.url, posted.token)
    page = await alice.http.get(address)
    assert page.status_code == 200 and "alice@example.org asks" in page.text
    for needed in (
        "pipx install &#39;dispatch &amp; &lt;co&gt;&#39;",
        "pipx ensurepath",
        'href="https://example.org/install?a=1&amp;b=2"',
        f"dispatch join {address}<",
        "Nothing is permitted yet",
    ):
        assert needed in page.text, needed
    assert BOB not in page.text  # whoever has the link learns who asks, not whom
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and re.search(r"script-src 'sha256-[^']+'$", policy)
    assert not re.search(r" on\w+=|javascript:|<script src", page.text)
    assert (await alice.http.get(f"{broker.url}/join")).text.count("dispatch join -") == 1
    home = await alice.http.get(f"{broker.url}/")  # whoever opens the broker's own address
    for needed in (
        "a dispatch broker",
        "who invited whom",
        'href="/join"',
        'href="/login"',
        f"dispatch setup --broker {broker.url}<",
    ):
        assert home.status_code == 200 and needed in home.text, needed

    await alice.client.withdraw(posted.token)
    ended = await alice.http.get(address)
    assert ended.status_code == 200 and "was withdrawn" in ended.text and "dispatch join" not in ended.text
    for unknown in (posted.token[:-1], "0198c0de-1111-7222-8333-444455556666", "%2e%2e"):
        assert (await alice.http.get(f"{broker.url}/join/{unknown}")).status_code == 404
    other = await alice.client.post_invitation(alice.signed_invitation(BOB))
    broker.clock.move(days=8)
    assert "has expired" in (await alice.http.get(page_of(broker.url, other.token))).text


async def test_where_nothing_was_said_nothing_is_made_up(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "broker") as broker, people_at(broker, tmp_path / "people") as people:
        alice = await people.signed_in("alice@example.org")
        posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
        page = (await alice.http.get(page_of(broker.url, posted.token))).text
    assert "Which command did you use to install dispatch?" in page
    assert not re.search(r"pip|uv tool|curl|http[^:]*://(?!127)", page.replace(broker.url, ""))


def test_the_script_reads_no_address_and_sends_nothing() -> None:
    """What follows a `#` never reaches the server: no page of the broker's reads or posts it."""
    script = resources.files("rendezvous").joinpath("templates/copy.js").read_text("utf-8")
    for word in ("location", "hash", "fetch", "XMLHttp", "sendBeacon", "submit", "src", "href", "cookie", "readText"):
        assert word not in script, word


@pytest.mark.parametrize(
    ("commands", "url"),
    [
        (("one\ntwo",), ""),
        (("a\x1b[2J",), ""),
        (("x" * 401,), ""),
        (("x",) * (MAX_COMMANDS + 1), ""),
        ((), "ftp://example.org"),
        ((), "javascript:alert(1)"),
        ((), "https://"),
        ((), "https://me:pw@example.org/"),
        ((), "https://example.org/a b"),
        ((), "https://example.org:x/"),
    ],
)
def test_what_an_operator_cannot_mean_is_refused(commands: tuple[str, ...], url: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_installing(commands, url)
    assert refused.value.fix


def test_nothing_given_is_nothing() -> None:
    assert not read_installing(("", " "), " ") and read_installing((" a ",), "") == Installing(("a",))
