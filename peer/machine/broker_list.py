"""The brokers that config.json names, the first one first: adding, removing, changing places. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from peer.protocol.brokers import MAX_BROKERS
from peer.protocol.errors import Conflict, Invalid


class BrokerSignIn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A broker's URL in normal form, and the token of the sign-in there; "" after a sign-out."""

    url: str
    token: str = ""


Brokers: TypeAlias = tuple[BrokerSignIn, ...]


def with_first(used: Brokers, url: str) -> Brokers:
    """Return the brokers with this one first.

    One of the others changes places with the first. A new one takes its place, and the token of the one before is
    removed. "" removes the first.
    """
    if not url:
        return used[1:]
    for number, each in enumerate(used):
        if each.url == url:
            return (each, *used[1:number], *used[:1], *used[number + 1 :]) if number else used
    return (BrokerSignIn(url=url), *used[1:])


def with_broker(used: Brokers, url: str) -> Brokers:
    """Return the brokers with one more, signed out; unchanged if it is one of them already. Raises Conflict."""
    if any(each.url == url for each in used):
        return used
    if len(used) >= MAX_BROKERS:
        raise Conflict(
            f"you already use {MAX_BROKERS} brokers, which is the limit", fix="remove one: `dispatch broker remove URL`"
        )
    return (*used, BrokerSignIn(url=url))


def without_broker(used: Brokers, url: str) -> Brokers:
    """Return the brokers without this one and its token."""
    return tuple(each for each in used if each.url != url)


def with_token(used: Brokers, url: str, token: str) -> Brokers:
    """Return the brokers with this token of the sign-in at one of them; unchanged if it is none of them."""
    return tuple(msgspec.structs.replace(each, token=token) if each.url == url else each for each in used)


def in_normal_form(used: Brokers, normal: Callable[[str], str]) -> Brokers:
    """Return the brokers with every URL as `normal` returns it. Raises Invalid, also for one that is there twice."""
    found = tuple(msgspec.structs.replace(each, url=normal(each.url)) for each in used)
    urls = [each.url for each in found]
    for each in found:
        if urls.count(each.url) > 1:
            raise Invalid(f"broker {each.url} is listed twice", fix="keep one of them in `broker` and `brokers`")
        if each.token and not re.fullmatch(r"[\x21-\x7e]{1,8192}", each.token):
            raise Invalid(
                f"the token for {each.url} is not a valid one",
                fix=f"sign in again: `dispatch login --broker {each.url}`",
            )
    return found
