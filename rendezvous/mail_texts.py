"""The texts of the two mails that a broker sends. Pure; the only secret in them is the one-time page of a sign-in."""

from __future__ import annotations

import shlex
import textwrap
from datetime import UTC, datetime

from rendezvous.installing import Installing
from rendezvous.mail import Mail
from rendezvous.text import printable

WIDTH = 78
"""Of lines of prose; a command or an address stands on one line whatever its length."""


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


def invitation(*, to: str, inviter: str, page: str, expires: str, installing: Installing) -> Mail:
    """Say that `inviter` invites the recipient, what that means, and the one command. Its link holds no secret."""
    if installing.commands:
        lines = "\n".join(f"     {command}" for command in installing.commands)
        install = f"Install dispatch, in a terminal (Linux, or WSL on Windows):\n\n{lines}"
        if installing.url:
            install += f"\n\n     More about it: {installing.url}"
    elif installing.url:
        install = f"Install dispatch as this page says (Linux, or WSL on Windows):\n\n     {installing.url}"
    else:
        ask = f"Ask {inviter},\n     which command they installed it with."
        install = f"Install dispatch (Linux, or WSL on Windows). How? {ask}"
    paragraphs = (
        f"{inviter} asks for your permission to send tasks to your computer.",
        f"dispatch carries work between people: {inviter} describes a task, and an AI agent of your own does it on "
        "your computer, in a sandbox. Nothing can be sent to you until you choose what to permit: you choose the "
        "tools, you approve each task and each call, and you can end it at any time.",
        "On the computer where the work should run:",
    )
    beginning = "\n\n".join(textwrap.fill(each, WIDTH) for each in paragraphs)
    ending = textwrap.fill(
        f"The invitation ends on {expires}. A mail can be forged: before you grant more than reading, compare the "
        f"fingerprint that dispatch shows with {inviter}, by voice.",
        WIDTH,
    )
    return Mail(
        to,
        f"{inviter} asks to send tasks to your computer with dispatch",
        f"""{beginning}

  1. Look at this page. It explains all of this, and has the commands to copy:

     {page}

  2. {install}

  3. Run this. It signs you in, shows who asks, and lets you choose or say no:

     dispatch join {page} --email {shlex.quote(to)}

{ending}

If you do not know {inviter}, do nothing.
""",
    )
