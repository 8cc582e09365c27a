"""The page behind an invitation's link: what dispatch is, who asks for what, how to install it, the one command.

Its address has the invitation's token, which whoever got the link knows, and no secret. The page tells such a reader
who invited and whether that is still open; not whom, and nothing else of either. The secret of an address that an
inviter shared goes to the invited person's own device alone: no page asks for it, reads what follows a `#`, or posts
anything.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from peer.protocol import names
from peer.protocol.errors import DispatchError, Invalid, NotFound
from rendezvous.broker import Broker
from rendezvous.pages import Pages
from rendezvous.storage.rows import InvitationStatus
from rendezvous.text import printable

ENDED = {
    InvitationStatus.ACCEPTED: "This invitation was accepted",
    InvitationStatus.DECLINED: "This invitation was declined",
    InvitationStatus.WITHDRAWN: "This invitation was withdrawn",
    InvitationStatus.EXPIRED: "This invitation has expired",
}


def join_page(origin: str, token: str) -> str:
    """Return the address of an invitation's page."""
    return f"{origin}/join/{token}"


def day(ms: int) -> str:
    """Return ms since the epoch as a day, for people."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


class JoinRoutes:
    """The page at / and those under /join."""

    def __init__(self, broker: Broker, pages: Pages) -> None:
        self._broker = broker
        self._pages = pages

    async def home(self, request: Request) -> Response:
        """GET /: what this server is and where to go, for somebody who opens the broker's address in a browser."""
        self._pages.throttle(request)
        return self._pages.show("home.html", url=self._broker.settings.public_url)

    async def without(self, request: Request) -> Response:
        """GET /join: how to install dispatch, for somebody who was given an address instead of a link."""
        self._pages.throttle(request)
        return self._show(inviter="", expires="", link="")

    async def one(self, request: Request) -> Response:
        """GET /join/{token}: the invitation's page; of one that is not open any more, how it ended."""
        try:
            self._pages.throttle(request)
            token = str(request.path_params["token"])
            row = None
            if _is_token(token):
                row = await self._broker.storage.invitation_by_token(token)
            if row is None:
                raise NotFound(
                    "There is no invitation at this link",
                    fix="copy the whole link from the mail, or ask for a new invitation",
                )
        except DispatchError as error:
            return self._pages.error(error)
        inviter, status = printable(row.inviter), row.status_at(self._broker.clock())
        if status is InvitationStatus.PENDING:
            link = join_page(self._broker.settings.public_url, token)
            return self._show(inviter=inviter, expires=day(row.expires), link=link)
        text = f"There is nothing more to do here. If you still want to take part, ask {inviter} for a new invitation."
        if status is InvitationStatus.ACCEPTED:
            text = f"Tasks from {inviter} appear on the computer where it was accepted: run `dispatch inbox` there."
        return self._pages.show("done.html", title=ENDED[status], text=text)

    def _show(self, *, inviter: str, expires: str, link: str) -> Response:
        body = f"Open this link on the computer where the tasks should run:\n\n{link}\n"
        return self._pages.show(
            "join.html",
            copies=True,
            inviter=inviter,
            expires=expires,
            link=link,
            mailto=f"mailto:?subject={quote('dispatch: open this on your computer')}&body={quote(body)}",
            command=f"dispatch join {link or '-'}",
            installing=self._broker.settings.installing,
        )


def _is_token(text: str) -> bool:
    try:
        names.uuid_bytes(text)
    except Invalid:
        return False
    return True
