"""Replies of agents as trees for the page, from a program of its own (`sandbox.replies`). Never raises.

A reply is hostile text, and Markdown is read by regular expressions and much code: so the program is bounded in time,
memory and what it may answer. What it answers is decoded into the closed set of nodes that a page shows, and whatever
is unusual means that the reply is shown as it was written.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import Final

import msgspec
import structlog
import trio

from peer.machine.installation import REPLIES
from peer.node.helper_program import answer_of
from peer.protocol.documents import Document
from sandbox.replies.tree import MAX_ANSWER, MAX_TEXT, Asked, Tree

log = structlog.get_logger(__name__)

SECONDS: Final = 15.0
"""For one reply, from the start of the program: it limits its own processor time to less."""
MAX_WAITING: Final = 8
"""Replies that wait for the one that is read now; more are shown as they were written."""
MAX_KEPT: Final = 16
"""Answers that are remembered, so that a page which draws itself again starts no program."""
MAX_REMEMBERED: Final = 200_000
"""Bytes of an answer that is remembered."""
_MARKED: Final = re.compile(r"[*_`#|~>\[\\]|^[ \t]*(?:[-+]|\d+[.)])[ \t]|^ {4}|^[-=]{2,}[ \t]*$", re.MULTILINE)
"""What any Markdown but paragraphs has."""


class Replies:
    """One reply at a time."""

    def __init__(self) -> None:
        self._one = trio.CapacityLimiter(1)
        self._known: OrderedDict[bytes, bytes] = OrderedDict()

    async def tree(self, text: str) -> Document | None:
        """Return {parts: [node]} as `sandbox.replies.tree` has it; None where there is nothing but plain text."""
        if len(text) > MAX_TEXT or not _MARKED.search(text):
            return None
        raw = text.encode("utf-8", "replace")
        key = hashlib.sha256(raw).digest()
        answer = self._known.get(key)
        if answer is None:
            if self._one.statistics().tasks_waiting >= MAX_WAITING:
                return None
            async with self._one:
                question = msgspec.json.encode(Asked(text=raw.decode()))
                answer = await answer_of(REPLIES, question, seconds=SECONDS, most=MAX_ANSWER)
        try:
            found = msgspec.json.decode(answer, type=Tree) if answer else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            log.warning("replies.wrong_answer")
            return None
        if len(answer) <= MAX_REMEMBERED:
            self._known[key] = answer
            while len(self._known) > MAX_KEPT:
                self._known.popitem(last=False)
        return None if found is None else msgspec.to_builtins(found)
