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
        "Sign in to dispatch: type the code shown on your device",
        f"""A device that calls itself "{printable(device_name)}" asks to sign in to dispatch as {to}.

  Broker:  {origin}
  Time:    {asked}
  From:    {address}

If this is you, open this page and type the code shown on YOUR OWN device:

  {page}

This mail leaves out the code on purpose. If somebody else gave you a code to type,
or if you did not try to sign in, ignore this mail: the request expires in a few
minutes.
""",
    )


def invitation(*, to: str, inviter: str, page: str, expires: str, installing: Installing) -> Mail:
    """Say that `inviter` invites the recipient, what that means, and the one command. Its link holds no secret."""
    if installing.commands:
        lines = "\n".join(f"     {command}" for command in installing.commands)
        install = f"Install dispatch. In a terminal on Linux (on Windows, inside WSL):\n\n{lines}"
        if installing.url:
            install += f"\n\n     More about installing it: {installing.url}"
    elif installing.url:
        install = f"Install dispatch on Linux (on Windows, inside WSL). This page says how:\n\n     {installing.url}"
    else:
        install = (
            "Install dispatch on Linux (on Windows, inside WSL). To learn how, ask\n"
            f"     {inviter} which command they used."
        )
    paragraphs = (
        f"{inviter} asks for your permission to send tasks to your computer.",
        f"dispatch lets people give tasks to each other's AI agents: {inviter} describes a task, and your own AI "
        "agent carries it out on your computer, in a sandbox. You decide what is permitted: nothing can be sent to "
        "you until you answer this invitation, you choose the tools and folders, you approve each task, and you can "
        "stop at any time.",
        "To answer, on the computer where the tasks should run:",
    )
    beginning = "\n\n".join(textwrap.fill(each, WIDTH) for each in paragraphs)
    ending = textwrap.fill(
        f"The invitation expires on {expires}. Mail can be forged. Before you permit anything beyond reading files, "
        f"compare the fingerprint that dispatch shows with {inviter}, over the phone or in person.",
        WIDTH,
    )
    return Mail(
        to,
        f"{inviter} asks to send you tasks with dispatch",
        f"""{beginning}

  1. Open this page. It explains more, and has the commands to copy:

     {page}

  2. {install}

  3. Run this command. It signs you in, shows who is asking, and lets you choose
     what to permit, or decline:

     dispatch join {page} --email {shlex.quote(to)}

{ending}

If you do not know {inviter}, ignore this mail.
""",
    )
