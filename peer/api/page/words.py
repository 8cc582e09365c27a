"""What a scope permits, in plain words for people who do not know the tools by name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from peer.dispatches.asking import rule_text
from peer.protocol.documents import Document
from peer.trust.grants import McpServer
from peer.trust.menu import FOLDERS, menu
from peer.trust.network_words import sentences
from peer.trust.scopes import MB, Scope

PLAIN: Final = {
    1: (
        "Look only",
        "It can read and search the folders you choose. It cannot change, create or run anything.",
    ),
    2: (
        "Look and change",
        "It can also create and change files in those folders. It cannot run programs.",
    ),
    3: (
        "Everything",
        "It can also run any program inside the sandbox, and use every connected service (MCP server) that is "
        "installed here now. Choose this only for people whose work you would run yourself.",
    ),
    4: ("Choose yourself", "Pick each ability and each connected service by hand."),
    5: ("Nothing", "Say no. Nothing is permitted, and they are told that you declined."),
}
"""The menu's five options: number → title, explanation."""

TOOLS: Final = {
    "Read": ("Read files", "look into files"),
    "Glob": ("Find files by name", "see which files there are"),
    "Grep": ("Search in files", "find words in files"),
    "Write": ("Create files", "create new files, or replace whole ones"),
    "Edit": ("Change files", "change parts of files"),
    "Bash": ("Run programs", "run any command inside the sandbox"),
}
"""Tool → its name for people, and what it does."""


def choices(installed: Sequence[McpServer]) -> list[Document]:
    """Return the menu's five options as {number, kind, title, explains, tools, mcp_servers}."""
    return [
        {
            "number": item.number,
            "kind": item.kind,
            "title": PLAIN[item.number][0],
            "explains": PLAIN[item.number][1],
            "tools": list(item.tools),
            "mcp_servers": list(item.mcp_servers),
        }
        for item in menu(installed)
    ]


def permits(scope: Scope, peer: str, rules: Sequence[Document] = (), by_proxy: Sequence[str] = ()) -> list[Document]:
    """Return what a scope permits `peer` to do, as [{text, weight, about}]; weight is "yes", "no" or "care".

    `about`: what a run "may" do, what its person is "asked", or what the other side is "told" and the limits.
    `rules`: the stored `always` rules that act in it. `by_proxy`: its hosts whose names this machine's HTTP proxy
    resolves.
    """
    lines: list[Document] = []

    def add(weight: str, text: str, about: str = "may") -> None:
        lines.append({"weight": weight, "text": text, "about": about})

    tools = set(scope.tools)
    looks = tools & {"Read", "Glob", "Grep"}
    changes = tools & {"Write", "Edit"}
    where = f"in {_listed(list(scope.paths))}" if scope.paths else "in the one folder that you confirm each time"
    add("yes", f"{peer} may send you tasks. Each waits until you accept it.", "asked")
    if looks:
        add("yes", f"The agent may {_listed([TOOLS[tool][1] for tool in scope.tools if tool in looks])} {where}.")
    else:
        add("no", "The agent may not read files by itself.")
    if changes:
        add("care", f"It may {_listed([TOOLS[tool][1] for tool in scope.tools if tool in changes])} {where}.")
    elif "Bash" not in tools:
        add("no", "It cannot change or create files there.")
    add("yes", f"There, {FOLDERS}.")
    if "Bash" in tools:
        may = "and with them read and change any file there" if changes else "and with them read any file there"
        without = "" if scope.network else ", without network"
        add("care", f"It may run any program inside the sandbox{without}, {may}.")
    else:
        add("no", "It cannot run programs.")
    for sentence in sentences(scope.tools, scope.network, msgspec.to_builtins(scope.registries), by_proxy):
        add("care", sentence)
    if scope.mcp_servers:
        add(
            "care",
            f"It may use {_listed(list(scope.mcp_servers))}: programs of yours, outside the sandbox, with your access.",
        )
    if scope.approval == "review":
        add(
            "yes",
            "You are not asked before its steps. What it did and found is sent only once you have looked at it.",
            "asked",
        )
        if scope.mcp_servers:
            add(
                "yes",
                "Before each use of a connected service you are asked; no answer within two minutes means no.",
                "asked",
            )
        for rule in rules:
            add("care", f"Without asking, since you always allowed it: {rule_text(rule)}.", "asked")
    elif scope.approval == "manual":
        every = "every other step" if rules else "every single step"
        add("yes", f"You are asked before {every}; no answer within two minutes means no.", "asked")
        for rule in rules:
            add("care", f"Without asking, since you always allowed it: {rule_text(rule)}.", "asked")
    else:
        add("care", "You are not asked again once you accepted a task: every permitted step is done at once.", "asked")
    if changes or "Bash" in tools:
        if scope.apply == "review":
            add("yes", "What it changes in your folders waits until you have looked at it and applied it.", "asked")
        else:
            add(
                "care",
                "What it changes in your folders is applied when it has completed: code from such runs runs "
                "as you at your next build or test. Only what programs obey unasked waits for you.",
                "asked",
            )
    if "Bash" in tools and scope.toolchains != ("none",):
        add("yes", _toolchains(scope.toolchains))
    add("yes", _results(scope, peer), "told")
    budget = scope.budget
    add(
        "yes",
        f"At most {scope.max_per_day:,} {'task' if scope.max_per_day == 1 else 'tasks'} a day; each may take "
        f"{budget.minutes:,} minutes, {budget.turns:,} turns of the agent, {budget.usd:g} US dollars of your model "
        f"account, and return {budget.output_bytes // MB:,} MB.",
        "told",
    )
    if scope.expires is None:
        add("yes", "It holds until you end it. You can pause or revoke it at any moment.", "told")
    return lines


def _toolchains(words: tuple[str, ...]) -> str:
    """What runs see beside the system's own programs. `words`: of the scope; none is what the settings say."""
    named = [word for word in words if word.startswith("/")]
    if not words:
        return "Its commands see the system’s programs, and what your settings say of toolchains."
    found = ["the toolchains that are found here for the project"] if "auto" in words else []
    return f"Its commands see the system’s programs, and {_listed([*found, *named])}, and can read those."


def _results(scope: Scope, peer: str) -> str:
    if scope.results == "full":
        return f"What the agent reads and does, and its answer, are told to {peer}."
    return f"{peer} gets the answer and the returned files; of the steps only how many and how large."


def _listed(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
