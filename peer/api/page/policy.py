"""Security headers of every response on the loopback port: no foreign content, no sniffing, no framing."""

from __future__ import annotations

from typing import Final

from starlette.types import Message, Send

PAGE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""For the page: its own scripts, styles and requests only. No inline script, no HTML from strings (Trusted Types)."""
NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
"""For everything else, in case a browser shows it as a document."""

HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


def guarding(send: Send) -> Send:
    """Return a `send` that adds these headers to each response, except those that the route has set."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            present = {name.lower() for name, _ in headers}
            kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
            policy = PAGE if kind.startswith(b"text/html") else NOTHING
            wanted = (
                *HEADERS,
                (b"content-security-policy", policy.encode()),
                (b"cache-control", b"no-store"),
            )
            headers += [(name, value) for name, value in wanted if name not in present]
            message = {**message, "headers": headers}
        await send(message)

    return with_headers
