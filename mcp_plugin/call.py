"""One tool call while it is handled: its session, the node's client, its progress, and its questions to the person.

The two eras of the protocol ask differently. With a handshake the server sends a request of its own. Since 2026-07-28
the call ends with the question and is made again with the answer; so a tool changes nothing before it has asked.
What the host brings back of that question is its word, and believed in nothing: what was asked is remembered here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import mcp_types as types
import trio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_plugin.session import PERSON_SECONDS, Question, Session
from peer.client.on_trio import AsyncClient

QUESTION_SECONDS = 120.0
"""How long a person has for a question: as long as for a tool call."""
FIELD = "answer"

Option = tuple[str, str]
"""What is answered, and what the person reads."""


class Answer(NamedTuple):
    """How a question was answered. `none`: there is no form, it was closed, or its time was over."""

    kind: Literal["chosen", "declined", "too fast", "none"]
    value: str = ""


NOBODY = Answer("none")


class Asked(Exception):
    """The call ends with this question and is made again with the answer (2026-07-28)."""

    def __init__(self, message: str, options: Sequence[Option]) -> None:
        super().__init__("asked")
        self.message = message
        self.options = tuple(options)


class Call:
    """One call of a tool."""

    def __init__(self, context: ServerRequestContext[Any, Any], session: Session, params: Any) -> None:
        self._context = context
        self._steps = 0
        self.session = session
        self.tool = str(params.name)
        self.arguments: Mapping[str, Any] = params.arguments or {}
        self.modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        self._answered = self._answer_brought(params) if self.modern else None

    async def client(self) -> AsyncClient:
        """Return the client of the node, once it is there."""
        return await self.session.hosting.ready()

    async def progress(self, message: str) -> None:
        """Tell the host what is going on, if it wants to hear it."""
        self._steps += 1
        await self._context.session.report_progress(self._steps, None, message)

    # --- questions

    @property
    def can_ask(self) -> bool:
        """Whether the host says that it shows forms."""
        capabilities = self._context.session.client_capabilities
        asks = capabilities.elicitation if capabilities is not None else None
        # An empty object is what hosts of before 2025-11-25 say, who know forms only.
        return asks is not None and (asks.form is not None or asks.url is None)

    async def ask(self, message: str, options: Sequence[Option], *, seconds: float = QUESTION_SECONDS) -> Answer:
        """Ask the person to choose. Raises Asked where the protocol wants the call to end with its question."""
        if not self.can_ask:
            return NOBODY
        if self.modern:
            question, answer = self._answered or (None, None)
            if question is None or (question.message, question.options) != (message, tuple(options)):
                raise Asked(message, options)
            assert answer is not None
            return answer
        before = self.session.clock()
        result = None
        with trio.move_on_after(seconds):
            try:
                result = await self._context.session.elicit_form(
                    message, requested_schema(options), related_request_id=self._context.request_id
                )
            except (MCPError, ValidationError):
                return NOBODY  # a host that says it asks and then does not
        return judged(result, options, took=self.session.clock() - before)

    def end_with(self, asked: Asked) -> types.InputRequiredResult:
        """Return the result that ends this call with a question."""
        question = Question(self.tool, self.arguments, asked.message, asked.options, self.session.clock())
        form = types.ElicitRequestFormParams(message=asked.message, requested_schema=requested_schema(asked.options))
        return types.InputRequiredResult(
            input_requests={FIELD: types.ElicitRequest(params=form)}, request_state=self.session.put(question)
        )

    def _answer_brought(self, params: Any) -> tuple[Question, Answer] | None:
        """Return the question that this call answers; None for a call that is not an answer to one asked here."""
        if not params.request_state or not params.input_responses:
            return None
        question = self.session.take(params.request_state)
        if question is None or (question.tool, question.arguments) != (self.tool, self.arguments):
            return None
        result = params.input_responses.get(FIELD)
        took = self.session.clock() - question.asked
        if not isinstance(result, types.ElicitResult) or took > QUESTION_SECONDS:
            return question, NOBODY
        return question, judged(result, question.options, took=took)


def requested_schema(options: Sequence[Option]) -> dict[str, Any]:
    """Return the form's schema: one choice with titles (SEP-1330), no default."""
    titled = [{"const": value, "title": title} for value, title in options]
    return {
        "type": "object",
        "properties": {FIELD: {"type": "string", "title": "Your answer", "oneOf": titled}},
        "required": [FIELD],
    }


def judged(result: types.ElicitResult | None, options: Sequence[Option], *, took: float) -> Answer:
    """Return what a form's answer counts as. `took`: seconds from when it was shown."""
    if result is None or result.action == "cancel":
        return NOBODY
    if result.action == "decline":
        return Answer("declined")
    value = (result.content or {}).get(FIELD)
    if value not in {name for name, _ in options}:
        return NOBODY
    return Answer("too fast" if took < PERSON_SECONDS else "chosen", str(value))
