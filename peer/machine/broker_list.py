"""The brokers that config.json names, one of them first: adding, removing, changing places. Values alone, no file.

Without a first broker there is no other: where the first one goes, the next takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from peer.protocol.brokers import MAX_BROKERS
from peer.protocol.errors import Conflict, Invalid

if TYPE_CHECKING:
    from peer.machine.settings import Settings


class BrokerSignIn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A broker's URL in normal form, and the token of the sign-in there; "" after a sign-out."""

    url: str
    token: str = ""


def with_first(settings: Settings, url: str) -> Settings:
    """Return the settings with this broker first.

    One of the further ones changes places with it. A new one takes its place, and the token of the one before is
    removed. "" removes the first.
    """
    if url == settings.broker:
        return settings
    first, others = BrokerSignIn(url=settings.broker, token=settings.token), settings.brokers
    if not url:
        chosen, *rest = others or (BrokerSignIn(url=""),)
    elif (known := next((each for each in others if each.url == url), None)) is not None:
        chosen, rest = known, [first if each is known else each for each in others]
    else:
        chosen, rest = BrokerSignIn(url=url), list(others)
    return msgspec.structs.replace(settings, broker=chosen.url, token=chosen.token, brokers=tuple(rest))


def with_broker(settings: Settings, url: str) -> Settings:
    """Return the settings with one broker more, signed out; unchanged if it is one already. Raises Conflict."""
    if url in {each.url for each in settings.sign_ins}:
        return settings
    if not settings.broker:
        return with_first(settings, url)
    if len(settings.sign_ins) >= MAX_BROKERS:
        raise Conflict(f"{MAX_BROKERS} brokers are in use, and no more can be", fix="`dispatch broker remove URL`")
    return msgspec.structs.replace(settings, brokers=(*settings.brokers, BrokerSignIn(url=url)))


def without_broker(settings: Settings, url: str) -> Settings:
    """Return the settings without a broker and its token."""
    if url == settings.broker:
        return with_first(settings, "")
    return msgspec.structs.replace(settings, brokers=tuple(each for each in settings.brokers if each.url != url))


def with_token(settings: Settings, url: str, token: str) -> Settings:
    """Return the settings with this token of the sign-in at one of the brokers; unchanged if it is none of them."""
    if url == settings.broker:
        return msgspec.structs.replace(settings, token=token)
    rest = tuple(msgspec.structs.replace(each, token=token) if each.url == url else each for each in settings.brokers)
    return msgspec.structs.replace(settings, brokers=rest)


def in_normal_form(settings: Settings, normal: Callable[[str], str]) -> dict[str, object]:
    """Return what has to change so that every further broker's URL is as `normal` returns it, and one is first.

    Raises Invalid, also for a broker that is there twice.
    """
    further = [msgspec.structs.replace(each, url=normal(each.url)) for each in settings.brokers]
    urls = [each.url for each in further] + ([normal(settings.broker)] if settings.broker else [])
    for url in urls:
        if urls.count(url) > 1:
            raise Invalid(f"the broker {url} is there twice", fix="keep one of them in `broker` and `brokers`")
    for each in further:
        if each.token and not re.fullmatch(r"[\x21-\x7e]{1,8192}", each.token):
            raise Invalid(f"the token of {each.url} can't be that", fix=f"`dispatch login --broker {each.url}`")
    if settings.broker:
        return {"brokers": tuple(further)}
    return {"broker": further[0].url, "token": further[0].token, "brokers": tuple(further[1:])}
