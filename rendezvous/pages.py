"""How the pages for people are made: templates, style, the one script, and the policy that admits no other."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from urllib.parse import urlsplit

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from peer.protocol.errors import DispatchError
from rendezvous.broker import Broker

_SAME_SITE = "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


class Pages:
    """Renders templates/. A page has no external request, and no script unless it is rendered with `copies`: then the
    one in copy.js, which puts a command into the clipboard when its button is pressed, and reads no address."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._public = urlsplit(broker.settings.public_url)
        folder = resources.files("rendezvous").joinpath("templates")
        self._templates = jinja2.Environment(
            loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._style = folder.joinpath("style.css").read_text("utf-8")
        self._script = folder.joinpath("copy.js").read_text("utf-8")

    def throttle(self, request: Request) -> None:
        """Count a request for a page. Raises TooMany."""
        self._broker.pages_by_address.take(self._broker.address(request), self._broker.clock())

    def show(self, name: str, *, status: int = 200, copies: bool = False, **values: object) -> Response:
        """Return a page. `copies`: it has buttons that copy."""
        html = self._templates.get_template(name).render(
            style=self._style,
            script=self._script if copies else "",
            dev=self._broker.settings.dev,
            base=self._public.path,
            host=self._public.netloc,
            **values,
        )
        policy = f"default-src 'none'; style-src {_hash_of(self._style)}; {_SAME_SITE}"
        if copies:
            policy += f"; script-src {_hash_of(self._script)}"
        return HTMLResponse(html, status_code=status, headers={"content-security-policy": policy})

    def error(self, error: DispatchError) -> Response:
        """Return a page that says what went wrong and what helps."""
        text, fix = _sentence(error.message), _sentence(error.fix)
        return self.show("done.html", status=error.code, title="That did not work", text=text, fix=fix)


def _sentence(text: str) -> str:
    """Return an error's message or fix, which a terminal shows behind a colon, as a sentence of its own."""
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
