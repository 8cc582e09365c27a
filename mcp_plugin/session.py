"""What one session remembers: which tool calls were shown to its person and when, and how far each run was followed.

Nothing here is needed again after the session: the node's store has everything that counts.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import trio

from mcp_plugin.hosting import Hosting
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Conflict

V = TypeVar("V")

PERSON_SECONDS = 1.2
"""Nobody reads a tool call and answers faster. What does is a hook, a script, or the model itself."""
REMEMBERED = 512


class Session:
    """One host's session, for as long as its wire is open."""

    def __init__(
        self, folder: StateFolder, hosting: Hosting, *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        """`clock` gives seconds that only grow."""
        self.folder = folder
        self.hosting = hosting
        self.started_in = _here()
        self.clock = clock
        self.followed: Recent[str] = Recent()
        """The last event of each dispatch that was seen: its id in the live stream."""
        self.tools: Recent[str] = Recent()
        """The tool of each call of a run, for the events that name the call only."""
        self._shown: Recent[float] = Recent()
        self._questions: Recent[Question] = Recent()

    # --- who answers

    def show(self, dispatch_id: str, request_id: str) -> None:
        """Note that a tool call is now before the person's eyes; the first time counts."""
        key = f"{dispatch_id} {request_id}"
        if key not in self._shown:
            self._shown[key] = self.clock()

    def check_answer(self, dispatch_id: str, request_id: str) -> None:
        """Raise Conflict for an approval of what nobody was shown, or that came faster than a person reads."""
        key = f"{dispatch_id} {request_id}"
        if key not in self._shown:
            raise Conflict(
                "that tool call was not shown in this session yet, so nobody can have agreed to it",
                fix=f'dispatch_act(action="watch", dispatch_id="{dispatch_id}") shows it: ask the person, then answer',
            )
        passed = self.clock() - self._shown[key]
        if passed < PERSON_SECONDS:
            self._shown[key] = self.clock()  # whoever tries again and again is no person either
            raise Conflict(
                f"that approval came {passed:.1f} s after the call was shown; a person has not read it by then, so "
                "it is not taken",
                fix="ask the person with the picker and pass their answer on; a deny is always taken",
            )

    # --- questions of the newer protocol, whose answer comes with the call made again

    def put(self, question: Question) -> str:
        """Keep a question until it is answered; return the token that its answer brings back."""
        token = secrets.token_urlsafe(16)
        self._questions[token] = question
        return token

    def take(self, token: str) -> Question | None:
        """Return the question of a token, once."""
        return self._questions.pop(token, None)


def _here() -> Path | None:
    """Return the folder that the host started the server in, None for one that is gone: only few calls need it."""
    try:
        return Path.cwd()
    except OSError:
        return None


@dataclass(frozen=True)
class Question:
    """What was asked of a person, in which call, and when (by the session's clock)."""

    tool: str
    arguments: Mapping[str, Any]
    message: str
    options: tuple[tuple[str, str], ...]
    asked: float


class Recent(OrderedDict[str, V], Generic[V]):
    """A dict that forgets its oldest entries beyond REMEMBERED."""

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > REMEMBERED:
            self.popitem(last=False)
