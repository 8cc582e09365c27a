"""What the broker gives its users for relays: a token that admits one device, and which relays there are.

The broker joins nobody and carries nothing. It learns which devices ask for a token, which is twice a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from peer.protocol import base64url
from peer.protocol.errors import Invalid
from peer.protocol.relays.addresses import MAX_RELAYS, is_loopback, relay_origin
from peer.protocol.relays.admission import TOKEN_LIFE_MS
from rendezvous import web
from rendezvous.broker import Broker


def named_relays(given: Sequence[str], *, public_url: str) -> tuple[str, ...]:
    """Return the origins of the `--relay` options, each once. `public_url`: the broker's, "" on loopback.

    Raises Invalid.
    """
    try:
        origins = tuple(dict.fromkeys(relay_origin(text) for text in given))
    except Invalid as error:
        raise Invalid(f"--relay: {error.message}", fix=error.fix) from error
    if len(origins) > MAX_RELAYS:
        raise Invalid(f"{len(origins)} relays are given; the limit is {MAX_RELAYS}", fix="give fewer --relay options")
    for origin in origins:
        if public_url and not is_loopback(_host(public_url)) and is_loopback(_host(origin)):
            raise Invalid(
                f"--relay {origin} is reachable from this machine only, but the broker's users are elsewhere",
                fix="give the address at which their devices reach it",
            )
    return origins


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


class RelayRoutes:
    """The route /v1/relays."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def post(self, request: Request) -> Response:
        """POST /v1/relays: action `relays.get`, no arguments → {token, expires, relays}.

        The token is the signing device's. It is given also where no relays are named: a person may use one of their
        own choice that trusts this broker.
        """
        write = await self._broker.signed(request, "relays.get")
        await self._broker.storage.authorize(write.author)
        expires = self._broker.clock() + TOKEN_LIFE_MS
        token = self._broker.relay_key.token(user_id=write.user_id, device=write.device, expires=expires)
        return web.document(
            {"token": base64url.encode(token), "expires": expires, "relays": list(self._broker.settings.relays)}
        )
