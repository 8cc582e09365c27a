"""The menu of scopes that a person chooses from when granting an edge, and what each choice grants. Not its display."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from peer.protocol.errors import Invalid
from peer.trust.grants import McpServer, grantable_names
from peer.trust.scopes import TOOLS, Approval

Kind = Literal["grant", "custom", "decline"]

CUSTOM: Final = 4
DECLINE: Final = 5
_READ: Final = ("Read", "Glob", "Grep")


class Item(msgspec.Struct, frozen=True):
    """One line of the menu: `tools` and `mcp_servers` are what it grants, both empty for Custom and Decline."""

    number: int
    title: str
    explains: str
    tools: tuple[str, ...] = ()
    mcp_servers: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """Whether the choice grants its tools, asks for a custom scope, or declines."""
        kinds: dict[int, Kind] = {CUSTOM: "custom", DECLINE: "decline"}
        return kinds.get(self.number, "grant")


def heading(inviter: str) -> str:
    """The line above the menu."""
    return f"{inviter} wants to be able to dispatch tasks to your machine. Choose what their agent may do here:"


def standing(inviter: str, *, by_address: bool, before: bool) -> str:
    """What is known of whose key this is, for whoever chooses.

    `by_address`: the address that was pasted verifies it; `before`: it is a contact's, and another one did then.
    """
    if by_address:
        return (
            f"Their key is verified by this address, if {inviter} gave it to you themselves. The broker never mails "
            "addresses: if this one came in a mail from the broker, it proves nothing."
        )
    if before:
        return "Their key is the one you know them by. It was verified by the address of an earlier invitation."
    return "Their key is not verified. Compare the fingerprint with them before you permit much."


AFTERWARDS: Final = "Then: manual approval of every call (the default), review, or auto? restrict to which folders?"

FOLDERS: Final = (
    "a run sees a folder at its real path, so the model's provider sees that path too; what the sender gets names the "
    "project instead"
)
"""What else a person gives away with a folder, as the end of a sentence."""

APPROVALS: Final[Mapping[Approval, str]] = MappingProxyType(
    {
        "manual": "you answer every call, and results are sent as they come",
        "review": "calls inside the folders run without asking; nothing is sent before you have looked at it",
        "auto": "nobody is asked, and results are sent as they come",
    }
)
"""What each approval mode means for the person who grants it."""


def menu(installed_mcp: Sequence[McpServer | str]) -> tuple[Item, ...]:
    """The five lines in their fixed order, for the MCP servers installed now."""
    servers = [McpServer(server) if isinstance(server, str) else server for server in installed_mcp]
    grantable = grantable_names(servers)
    every = ", ".join(grantable) if grantable else "none is installed"
    return (
        Item(1, "Read-only: Read, Glob, Grep", "can look, can't change anything", _READ),
        Item(2, "+ Write, Edit", "can look, and create and change files", (*_READ, "Write", "Edit")),
        Item(
            3,
            f"All: + Bash and every MCP server installed now ({every})",
            "Bash is a full shell inside the sandbox: grant deliberately",
            TOOLS,
            grantable,
        ),
        Item(CUSTOM, "Custom", f"name the tools yourself, from {', '.join(TOOLS)}, and MCP servers"),
        Item(DECLINE, "Decline", "no trust edge is made, and the inviter is told"),
    )


def choose(typed: str | int, installed_mcp: Sequence[McpServer | str]) -> Item:
    """The line that a person chose by its number. Raises Invalid."""
    items = menu(installed_mcp)
    for item in items:
        if str(typed).strip() == str(item.number):
            return item
    raise Invalid("that is not a line of the menu", fix=f"answer with a number, 1 to {len(items)}")
