"""The brokers that config.json names: one first, none twice, a token never with another broker's address."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.machine import broker_list, settings
from peer.machine.broker_list import BrokerSignIn
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.protocol.brokers import MAX_BROKERS
from peer.protocol.errors import Conflict, Invalid

A, B, C = (f"https://{name}.example" for name in "abc")


def token_of(url: str) -> str:
    return f"token-of-{url}"


acts = st.lists(
    st.tuples(st.sampled_from(["first", "add", "remove", "sign in", "sign out"]), st.sampled_from([A, B, C])),
    max_size=20,
)


def done(before: Settings, act: str, url: str) -> Settings:
    match act:
        case "first":
            return settings.set_value(before, "broker", url)
        case "add":
            return before.using(broker_list.with_broker(before.sign_ins, url))
        case "remove":
            return before.using(broker_list.without_broker(before.sign_ins, url))
        case "sign in":
            return before.using(broker_list.with_token(before.sign_ins, url, token_of(url)))
        case _:
            return before.using(broker_list.with_token(before.sign_ins, url, ""))


@given(acts)
def test_whatever_is_done_a_token_stays_with_its_broker(acts: list[tuple[str, str]]) -> None:
    """Seen to fail with a first broker that left its token to the one in its place."""
    now = Settings()
    for act, url in acts:
        before, now = now, done(now, act, url)
        urls = [each.url for each in now.sign_ins]
        assert len(set(urls)) == len(urls) and (now.broker or not urls)
        assert all(each.token in ("", token_of(each.url)) for each in now.sign_ins)
        assert (url in urls) is {"first": True, "add": True, "remove": False}.get(act, url in urls)
        assert settings._checked(now) == now, "as it is read again"
        for each in (A, B, C):
            assert now.at(each).token == next((one.token for one in now.sign_ins if one.url == each), "")
        if act in ("add", "sign in", "sign out") and before.broker:
            assert now.broker == before.broker, "what is first stays first"


def test_one_that_is_used_changes_places_and_a_new_one_replaces() -> None:
    both = Settings(broker=A, token="a", brokers=(BrokerSignIn(url=B, token="b"),))
    swapped = settings.set_value(both, "broker", B)
    assert swapped.sign_ins == (BrokerSignIn(url=B, token="b"), BrokerSignIn(url=A, token="a"))
    assert settings.set_value(both, "broker", C).sign_ins == (BrokerSignIn(url=C), BrokerSignIn(url=B, token="b"))
    assert settings.set_value(both, "broker", "").sign_ins == (BrokerSignIn(url=B, token="b"),)


def test_so_many_and_no_more() -> None:
    full = Settings(broker=A).sign_ins
    for number in range(MAX_BROKERS - 1):
        full = broker_list.with_broker(full, f"https://{number}.example")
    assert broker_list.with_broker(full, A) == full
    with pytest.raises(Conflict, match="8 brokers"):
        broker_list.with_broker(full, B)


@pytest.mark.parametrize(
    ("brokers", "message"),
    [
        ([{"url": A}], "twice"),
        ([{"url": f"{B}/"}, {"url": B}], "twice"),
        ([{"url": "http://b.example"}], "plain http"),
        ([{"url": B, "token": "a b"}], "token for"),
        ([{"url": B, "tokne": "b"}], "brokers"),
        ([{"url": f"https://{n}.example"} for n in range(MAX_BROKERS)], "brokers"),
    ],
)
def test_what_cannot_be_in_the_file(tmp_path: Any, brokers: list[dict[str, str]], message: str) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    folder.write_private(folder.config, msgspec.json.encode({"broker": A, "brokers": brokers}))
    with pytest.raises(Invalid, match=message):
        settings.load(folder)


def test_who_names_a_broker_means_that_one_alone(tmp_path: Any) -> None:
    """And with its own token: seen to fail with the first one's, and with the others still in force."""
    folder = StateFolder(tmp_path / "state")
    folder.create()
    settings.save(folder, Settings(broker=A, token="a", brokers=(BrokerSignIn(url=B, token="b"),)))
    for given_, token in ((A, "a"), (B, "b"), (C, "")):
        found = settings.resolve(folder, env={"DISPATCH_BROKER": given_})
        assert found.sign_ins == (BrokerSignIn(url=given_, token=token),)
    shown = settings.shown(settings.load(folder))
    assert shown["brokers"] == [B] and "b" not in str(shown["token"])
    with pytest.raises(Invalid, match="cannot be set here"):
        settings.set_value(Settings(), "brokers", B)
