"""Where a user's devices are, as sealed boxes with a lifetime. The broker cannot open a box.

Any signed-in user may ask for any user id. An unknown user, one without announcements and one who is offline get the
same empty list. What an asker can learn: the peer ids of the devices that a user announces now, how often that
changes, and a box's size (padded). The broker learns who asks for whom.
"""

from __future__ import annotations

import random

from starlette.requests import Request
from starlette.responses import Response

from peer.protocol import base64url, names
from peer.protocol.errors import NO_FIX, Invalid, TooLarge
from rendezvous import web
from rendezvous.broker import Broker

MAX_TTL_MS = 2 * 3600 * 1000
MAX_BOX = 128 * 1024
"""Bytes: room for 1,024 recipient devices and a padded peer record."""


class PresenceRoutes:
    """The routes under /v1/presence."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put(self, request: Request) -> Response:
        """PUT /v1/presence: action `presence.put`, arguments {seq, expires, box}. 204 with Reannounce-After (seconds).

        `expires` beyond two hours is shortened to that. `seq` must grow.
        """
        write = await self._broker.signed(request, "presence.put", "seq", "expires", "box")
        now = self._broker.clock()
        seq, expires, box = write.take("seq", int, _is_count), write.take("expires", int), write.take("box", bytes)
        if len(box) > MAX_BOX:
            raise TooLarge(f"the box has {len(box)} bytes; the limit is {MAX_BOX}", fix=NO_FIX)
        if expires <= now:
            raise Invalid("the announcement has already expired", fix="set this machine's clock")
        expires = min(expires, now + MAX_TTL_MS)
        await self._broker.storage.announce(write.author, seq=seq, expires=expires, box=box)
        half, spread = (expires - now) // 2000, (expires - now) // 10_000
        # The jitter is in the number already: daemons that started together must not return together.
        after = max(1, half + random.randint(-spread, spread))  # noqa: S311 - spreads load, guards nothing
        return Response(status_code=204, headers={"reannounce-after": str(after)})

    async def withdraw(self, request: Request) -> Response:
        """DELETE /v1/presence: action `presence.withdraw`, arguments {seq}. 204."""
        write = await self._broker.signed(request, "presence.withdraw", "seq")
        seq = write.take("seq", int, _is_count)
        await self._broker.storage.announce(write.author, seq=seq, expires=self._broker.clock(), box=None)
        return Response(status_code=204)

    async def get(self, request: Request) -> Response:
        """GET /v1/presence/{user_id} with a token → {devices: [{device, seq, expires, box}]}."""
        bearer = self._broker.reader(request)
        user_id = names.user_id(request.path_params["user_id"])
        found = await self._broker.storage.announcements(bearer.caller, user_id, self._broker.clock())
        devices = [
            {"device": row.device, "seq": row.seq, "expires": row.expires, "box": base64url.encode(row.box)}
            for row in found
        ]
        return web.document({"devices": devices}, headers=web.renewal(bearer))


def _is_count(value: int) -> bool:
    return 0 <= value < 1 << 53
