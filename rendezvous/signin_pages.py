"""The pages on which a person approves a sign-in. For programs: signin.py.

With mail: the person types their device's code on /login, gets a mail at the address that the device claims, and types
the code once more on the page that the mail links to. Opening that page proves the mailbox, typing the code proves that
their own device asked; the link alone approves nothing. A mailed page serves every sign-in that waits for the same
user, once it has named the device, so a mail that a stranger's request caused is as good as one's own: nobody can use
up another person's mails. On a development broker the first page approves at once.

The code is typed once. The link that a program opens shows it on the first page, and it is typed on the mailed one; a
browser that typed it on the first page gets a cookie, and is not asked again. A link to the first page is no typing, or
its sender could have somebody else's browser approve the sender's device.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from peer.protocol.errors import Conflict, DispatchError, Forbidden, Gone, Invalid, RateLimited, Unavailable
from rendezvous import mail_texts, web
from rendezvous.broker import Broker
from rendezvous.pages import Pages
from rendezvous.signin import EXPIRES_SECONDS, normal_user_code, read_claim
from rendezvous.storage.errors import NoSuchSignIn
from rendezvous.storage.rows import SignIn, SignInStatus

MAX_FORM = 4096
"""Bytes."""

TYPED = "dispatch_typed"
AGAIN = "run `dispatch login` again on your device"


class PageRoutes:
    """The pages /login and /login/mail."""

    def __init__(self, broker: Broker, pages: Pages) -> None:
        self._broker = broker
        self._pages = pages

    async def login(self, request: Request) -> Response:
        """GET /login: the form; with ?code=… it is filled in and shows which device asks for which e-mail."""
        self._pages.throttle(request)
        code, sign_in = "", None
        if typed := request.query_params.get("code", ""):
            code = normal_user_code(typed)
            try:
                sign_in = await self._by_user_code(request, code)
            except DispatchError as error:
                return self._pages.error(error)
        return self._pages.show("login.html", code=code, sign_in=sign_in, mail_token="", typed=False)

    async def submit(self, request: Request) -> Response:
        """POST /login with `user_code`: approve (development broker), or mail the link to the page that can."""
        try:
            form = await self._form(request)
            code = normal_user_code(form.get("user_code", ""))
            sign_in = _pending(await self._by_user_code(request, code))
            if self._broker.settings.dev:
                return await self._approve(sign_in)
            response = await self._mail(sign_in)
            if "shown" not in form:
                self._remember_typed(response, sign_in)
            return response
        except DispatchError as error:
            return self._pages.error(error)

    async def mailed(self, request: Request) -> Response:
        """GET /login/mail?t=…: the page that the mail links to. Approves nothing by itself."""
        self._pages.throttle(request)
        token = request.query_params.get("t", "")
        try:
            sign_in = _pending(await self._by_mail_token(token))
        except DispatchError as error:
            return self._pages.error(error)
        return self._pages.show(
            "login.html", code="", sign_in=sign_in, mail_token=token, typed=self._has_typed(request, sign_in)
        )

    async def confirm(self, request: Request) -> Response:
        """POST /login/mail with `t` and `user_code`: approve when the code is the one the device shows; or deny."""
        try:
            form = await self._form(request)
            token = form.get("t", "")
            sign_in = _pending(await self._by_mail_token(token))
            if "deny" in form:
                await self._broker.storage.deny_sign_in(
                    sign_in.user_code, "the owner of the mailbox denied this sign-in"
                )
                return self._pages.show(
                    "done.html", title="Denied", text="The device was not signed in. You can close this page."
                )
            if "user_code" not in form and self._has_typed(request, sign_in):
                return await self._approve(sign_in)
            typed = normal_user_code(form.get("user_code", ""))
            theirs = await self._by_user_code(request, typed)
            if theirs is None or theirs.user_id != sign_in.user_id:
                if await self._broker.storage.count_wrong_code(_digest(token)):
                    self._broker.refused("wrong_codes")
                    raise Gone("The code was mistyped too many times, so this request has ended", fix=AGAIN)
                raise Invalid(
                    "That is not the code of the device that asked to sign in",
                    fix="go back and type the code shown on your device",
                )
            if theirs.user_code != sign_in.user_code and form.get("device") != theirs.device:
                # Another device of the same user: nobody approves one that the page did not name.
                return self._pages.show("login.html", code="", sign_in=_pending(theirs), mail_token=token, typed=False)
            return await self._approve(_pending(theirs))
        except DispatchError as error:
            return self._pages.error(error)

    async def _approve(self, sign_in: SignIn) -> Response:
        claim, _ = read_claim(sign_in.device_set)
        decided = await self._broker.storage.approve_sign_in(sign_in.user_code, claim, self._broker.clock())
        if decided.status is not SignInStatus.APPROVED:
            raise Conflict(decided.reason, fix="sign in on the device that signed in first")
        return self._pages.show(
            "done.html",
            title="Signed in",
            text=f"“{sign_in.device_name}” is signed in as {sign_in.user_id}. You can close this page.",
        )

    async def _mail(self, sign_in: SignIn) -> Response:
        broker = self._broker
        if broker.mailer is None:
            raise Unavailable("This broker can't send mail", fix="ask its operator to set --smtp-host and --smtp-from")
        token = secrets.token_urlsafe(32)
        if not await broker.storage.reserve_sign_in_mail(sign_in.user_code, _digest(token), broker.clock()):
            broker.refused("sign_in_mails")
            raise RateLimited(
                f"A mail was sent to {sign_in.user_id} a few minutes ago, and its link still works",
                fix="open the link in the newest mail and type the code shown on your device",
            )
        mail = mail_texts.sign_in(
            to=sign_in.user_id,
            device_name=sign_in.device_name,
            address=sign_in.address,
            asked_ms=broker.clock(),
            page=f"{broker.settings.public_url}/login/mail?t={token}",
            origin=broker.settings.public_url,
        )
        if not await broker.send(mail):
            await broker.storage.forget_mail_token(_digest(token))
            raise Unavailable(
                "The mail could not be sent", fix="try again; if it still fails, tell the broker's operator"
            )
        return self._pages.show(
            "done.html",
            title="Check your mailbox",
            text=(
                f"A mail is on its way to {sign_in.user_id}. Open the link in it, in this browser or another one. "
                "Keep the code on your device at hand: you may have to type it there."
            ),
        )

    async def _by_user_code(self, request: Request, code: str) -> SignIn | None:
        """Return the sign-in with this code. A code that none has is counted, and after too many of them the network
        that they came from learns nothing of any. Raises TooMany."""
        guesses, network, now = (
            self._broker.unknown_codes_by_address,
            self._broker.address(request),
            self._broker.clock(),
        )
        guesses.require(network, now)
        found = await self._broker.storage.sign_in_by_user_code(code, now)
        if found is None:
            guesses.take(network, now)
        return found

    async def _by_mail_token(self, token: str) -> SignIn | None:
        return await self._broker.storage.sign_in_by_mail_token(_digest(token), self._broker.clock())

    async def _form(self, request: Request) -> dict[str, str]:
        self._pages.throttle(request)
        # Another site's page can make a browser post here. A program (curl) sends neither header.
        origin = request.headers.get("origin")
        ours = urlsplit(self._broker.settings.public_url)
        if origin is not None and origin != f"{ours.scheme}://{ours.netloc}":
            raise Forbidden("That form was sent from another site", fix="open the sign-in page directly")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Forbidden("That form was sent from another site", fix="open the sign-in page directly")
        body = await web.read_body(request, limit=MAX_FORM)
        try:
            fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=8, strict_parsing=True)
        except ValueError:
            raise Invalid("That form has no field user_code", fix="open the sign-in page directly") from None
        return {name: values[-1] for name, values in fields.items()}

    def _remember_typed(self, response: Response, sign_in: SignIn) -> None:
        response.set_cookie(
            TYPED,
            self._typed(sign_in),
            max_age=EXPIRES_SECONDS,
            path=urlsplit(self._broker.settings.public_url).path + "/login/mail",
            secure=self._broker.settings.public_url.startswith("https:"),
            httponly=True,
            samesite="lax",  # the page is opened by a link in a mail
        )

    def _has_typed(self, request: Request, sign_in: SignIn) -> bool:
        """Whether this sign-in's code was typed in this browser."""
        given = request.cookies.get(TYPED, "").encode("utf-8", "surrogatepass")
        return hmac.compare_digest(given, self._typed(sign_in).encode())

    def _typed(self, sign_in: SignIn) -> str:
        what = f"{sign_in.user_code} {sign_in.device} {sign_in.expires}".encode()
        return hmac.digest(self._broker.typed_code_key, what, "sha256").hex()


def _pending(sign_in: SignIn | None) -> SignIn:
    if sign_in is None:
        raise NoSuchSignIn
    if sign_in.status is not SignInStatus.PENDING:
        raise Conflict("This sign-in was already decided", fix="your device shows how it ended")
    return sign_in


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
