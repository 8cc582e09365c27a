"""The memory of one session: which tool calls its person was shown and when, and how far each run was followed.

Nothing here outlives the session: what has to last is in the node's store.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import trio

from mcp_plugin.hosting import Hosting
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Conflict

V = TypeVar("V")

PERSON_SECONDS = 1.2
"""A person takes at least this long to read a tool call and answer. A faster answer is a script's or the model's."""
REMEMBERED = 512
"""Entries of each kind, those written last."""
HOOKED = "DISPATCH_MCP_HOOKS"
"""Set to `claude-code` by the plugin alone: there its hooks see what the person was shown and what they chose before a
call reaches the server. No other host has them, so elsewhere the server asks by itself."""
MAX_ENTRY = 512
"""Bytes of one, key and value: what others make as long as they like is kept as its digest (`key`)."""

Option = tuple[str, str]
"""One choice of a form: the value that is returned, and the title that the person reads."""


class Session:
    """One host's session, for as long as its connection is open."""

    def __init__(
        self, folder: StateFolder, hosting: Hosting, *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        """`clock`: seconds of a monotonic clock."""
        self.folder = folder
        self.hosting = hosting
        self.started_in = _working_directory()
        self.clock = clock
        self.hooked = os.environ.get(HOOKED) == "claude-code"
        """Whether hooks of ours stand before each call; the model's word is then the person's."""
        self.followed: Recent[str] = Recent()
        """The id, in the live stream, of the last event seen of each dispatch."""
        self.tools: Recent[str] = Recent()
        """The tool of each call of a run, since later events of a call have only its id."""
        self._shown: Recent[float] = Recent()
        self._questions: Recent[Question] = Recent()
        self._folders: Recent[bool] = Recent()

    # --- approvals

    def show(self, dispatch_id: str, request_id: str) -> None:
        """Record that a tool call is shown to the person now; only the first time counts."""
        call = key(dispatch_id, request_id)
        if call not in self._shown:
            self._shown[call] = self.clock()

    def check_answer(self, dispatch_id: str, request_id: str) -> None:
        """Raise Conflict for the approval of a call that was not shown, or shown less than PERSON_SECONDS ago."""
        call = key(dispatch_id, request_id)
        if call not in self._shown:
            raise Conflict(
                "that tool call has not been shown in this session, so nobody can have agreed to it",
                fix=f'dispatch_act(action="watch", dispatch_id="{dispatch_id}") shows it: ask the person, then answer',
            )
        passed = self.clock() - self._shown[call]
        if passed < PERSON_SECONDS:
            self._shown[call] = self.clock()  # so that a script that retries does not get through
            raise Conflict(
                f"that approval came {passed:.1f} s after the call was shown, too fast for a person to have read it, "
                "so it was not accepted",
                fix="ask the person with the picker and pass on their answer; a deny is always accepted",
            )

    # --- folders

    def tell(self, dispatch_id: str, folder: str) -> None:
        """Record that the person is told what will not work in a folder for a dispatch."""
        self._folders[key(dispatch_id, folder)] = True

    def told(self, dispatch_id: str, folder: str) -> bool:
        """Whether the person was told so in this session."""
        return key(dispatch_id, folder) in self._folders

    # --- questions that end a call (2026-07-28)

    def store_question(self, question: Question) -> str:
        """Store a question; return the token with which the host repeats the call."""
        token = secrets.token_urlsafe(16)
        self._questions[token] = question
        return token

    def take_question(self, token: str) -> Question | None:
        """Return the question of a token and forget it: one answer each."""
        return self._questions.pop(token, None)


def key(*parts: object) -> str:
    """Return a name of bounded length for these JSON values: two have the same only where all parts are equal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _working_directory() -> Path | None:
    """Return the folder in which the host started the server; None if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


@dataclass(frozen=True)
class Question:
    """A question to the person: the `key` of its call and form, and when it was asked (by the session's clock)."""

    key: str
    asked: float


class Recent(OrderedDict[str, V], Generic[V]):
    """A dict of at most REMEMBERED entries: those written last."""

    def __setitem__(self, name: str, value: V) -> None:
        super().__setitem__(name, value)
        self.move_to_end(name)
        while len(self) > REMEMBERED:
            self.popitem(last=False)
