"""The texts of the two mails that a broker sends. Pure; the only secret in them is the one-time page of a sign-in."""

from __future__ import annotations

from datetime import UTC, datetime

from rendezvous.mail import Mail
from rendezvous.text import printable


def sign_in(*, to: str, device_name: str, address: str, asked_ms: int, page: str, origin: str) -> Mail:
    """Ask the mailbox's owner to type, on `page`, the code that their own device shows."""
    asked = datetime.fromtimestamp(asked_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Mail(
        to,
        "Sign in to dispatch: type the code your device shows",
        f"""A device that calls itself "{printable(device_name)}" asks to sign in to dispatch as {to}.

  Broker:  {origin}
  Asked:   {asked}, from the address {address}

If that is you, open this page and type the code that YOUR OWN device shows:

  {page}

The code is not in this mail on purpose. If somebody else gave you a code to type,
or if you did not ask for this, do nothing: the request ends by itself in a few minutes.
""",
    )


def invitation(*, to: str, inviter: str, token: str, origin: str, expires_ms: int, how_to_install: str) -> Mail:
    """Say that `inviter` invites the recipient, what that means, and what to type. Contains the token, no secret."""
    expires = datetime.fromtimestamp(expires_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Mail(
        to,
        f"{inviter} would like to send you tasks with dispatch",
        f"""{inviter} asks for your permission to send tasks to your computer with dispatch.

dispatch is a courier for work between people: {inviter} describes a task, you approve it,
and your own agent does it on your machine, in a sandbox, with only the tools you allow.
Nothing can be sent to you unless you accept, and you can end it at any time.

To answer:

  1. Install dispatch:    {how_to_install}
  2. Sign in:             dispatch login --broker {origin} --email {to}
  3. See what is asked:   dispatch invitations
  4. Choose and accept:   dispatch accept-invitation {token}
     or say no:           dispatch decline-invitation {token}

The invitation ends on {expires}. A mail can be forged: before you grant more than
reading, compare the fingerprint that dispatch shows with {inviter}, by voice.

If you do not know {inviter}, do nothing.
""",
    )
