"""The message and fix for what another machine refused: our text by its code, its text only quoted. Pure.

A fix may be a command that a person types, so it never contains text of another machine.
"""

from __future__ import annotations

from typing import Final

from peer.dispatches.quoting import quoted

_FIXES: Final[dict[int, str]] = {
    403: "ask {peer}, who decides what you may send; `dispatch contacts` shows what they permit",
    409: "send it again",
    410: "send it again; if it expires at once again, compare the clocks of both machines",
    413: "send less: fewer or smaller files, or shorter texts",
    415: "ask {peer} to update dispatch, then send it again",
    422: "send it again; if it is refused again, update dispatch on both machines",
    429: "send it later",
}
_ASK_OPERATOR: Final = "try again; if it keeps failing, ask whoever runs the broker"
_BROKER_FIXES: Final[dict[int, str]] = {
    401: "sign in again: `dispatch login --broker {url}`",
    403: "check this machine's clock, then sign in again: `dispatch login --broker {url}`",
    404: "see `dispatch invitations`, or ask for a new invitation",
    409: "see `dispatch invitations` and `dispatch contacts`",
    410: "see `dispatch invitations`, or ask for a new invitation",
    413: "update dispatch",
    422: "check this machine's clock, or update dispatch",
    429: "try again later, or withdraw invitations that you no longer need: `dispatch invitations` lists them",
}
_SIGN_IN_FIXES: Final[dict[int, str]] = {
    403: "check this machine's clock and the broker's address, then run `dispatch login` again",
    404: "check the broker's address",
    409: "use the device that signed in first with this address: it cannot have a second identity; if every device is "
    "lost, ask whoever runs the broker to release the address",
    410: "run `dispatch login` again",
    429: "wait ten minutes, then run `dispatch login` again",
    503: "try again; if the broker has no mail server, its operator has to set --smtp-host and the other mail options",
}


def reason(peer: str, code: int, their_message: str) -> tuple[str, str]:
    """Return (message, fix) for a dispatch that `peer`'s machine refused with this code and message."""
    return f"{peer}'s machine refused it{_saying(their_message)}", _FIXES.get(code, "").format(peer=peer)


def broker_reason(url: str, code: int, their_message: str, *, signing_in: bool) -> tuple[str, str]:
    """Return (message, fix) for a request that the broker at `url` refused with this code and message."""
    fix = (_SIGN_IN_FIXES.get(code) if signing_in else None) or _BROKER_FIXES.get(code, _ASK_OPERATOR)
    return f"broker {url} refused it{_saying(their_message)}", fix.format(url=url)


def file_reason(ours: str, their_message: str) -> str:
    """Return why a file did not come: our sentence, with what the other machine said, if it said anything."""
    return f"{ours}{_saying(their_message)}"


def _saying(their_message: str) -> str:
    words = quoted(their_message)
    return f" and says: {words}" if words else ""
