"""One tool call while it is handled: its session, the node's client, its progress, and its questions to the person.

How a question is asked depends on the era of the protocol. With a handshake, the server sends a request of its own
(elicitation). Since 2026-07-28 the call ends with the question, and the host repeats the call with the answer; so a
tool must change nothing before it asks. A host's claim of what was asked is not trusted: the session stores the
question, and an answer counts only for the stored one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import mcp_types as types
import trio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_plugin.session import PERSON_SECONDS, Option, Question, Session, key
from peer.client.on_trio import AsyncClient

QUESTION_SECONDS = 120.0
"""Time to answer a question; the same as for a tool call of a run."""
FIELD = "answer"
MAX_FILLED_IN = 20_000
"""Characters of one further field."""

Context = ServerRequestContext[dict[str, object], object]


class FormAnswer(NamedTuple):
    """How a question was answered. `none`: the host has no form, or it was closed, or the time was over.

    `more`: what was filled in beside the choice, by the names of the further fields.
    """

    kind: Literal["chosen", "declined", "too fast", "none"]
    value: str = ""
    more: Mapping[str, str] = MappingProxyType({})


NO_ANSWER = FormAnswer("none")


class FormField(NamedTuple):
    """One more field of a form: a choice where it has options, else a text. Never required."""

    title: str
    default: str = ""
    options: Sequence[Option] = ()


class InputRequired(Exception):
    """Ends the call with a question; the host repeats the call with the answer (2026-07-28)."""

    def __init__(self, message: str, options: Sequence[Option]) -> None:
        super().__init__("input required")
        self.message = message
        self.options = tuple(options)


class Call:
    """One call of a tool."""

    def __init__(self, context: Context, session: Session, params: types.CallToolRequestParams) -> None:
        self._context = context
        self._steps = 0
        self.session = session
        self.tool = params.name
        self.arguments: Mapping[str, object] = params.arguments or {}
        self.modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        self._answered = self._repeated_with_answer(params) if self.modern else None

    async def client(self) -> AsyncClient:
        """Return the node's client, waiting for the node to start. Raises what `Hosting.ready` raises."""
        return await self.session.hosting.ready()

    async def progress(self, message: str) -> None:
        """Report progress to the host, if it asked for reports."""
        self._steps += 1
        await self._context.session.report_progress(self._steps, None, message)

    # --- questions

    @property
    def can_ask(self) -> bool:
        """Whether the host declared that it shows forms."""
        capabilities = self._context.session.client_capabilities
        elicitation = capabilities.elicitation if capabilities is not None else None
        # Hosts from before 2025-11-25 declare an empty object, and mean forms.
        return elicitation is not None and (elicitation.form is not None or elicitation.url is None)

    async def ask(
        self,
        message: str,
        options: Sequence[Option],
        *,
        seconds: float = QUESTION_SECONDS,
        fields: Mapping[str, FormField] = MappingProxyType({}),
    ) -> FormAnswer:
        """Ask the person to choose one option. Raises InputRequired where the question has to end the call.

        `fields`: what they may fill in beside it; not in the newer era, where nothing has them yet.
        """
        if not self.can_ask:
            return NO_ANSWER
        if self.modern:
            if self._answered is None or self._answered[0].key != self._key(message, options):
                raise InputRequired(message, options)
            question, given = self._answered
            took = self.session.clock() - question.asked
            return NO_ANSWER if took > QUESTION_SECONDS else form_answer(given, options, took=took)
        before = self.session.clock()
        result = None
        with trio.move_on_after(seconds):
            try:
                result = await self._context.session.elicit_form(
                    message, requested_schema(options, fields), related_request_id=self._context.request_id
                )
            except (MCPError, ValidationError):
                return NO_ANSWER  # a host that declared forms and does not show them
        return form_answer(result, options, took=self.session.clock() - before, fields=fields)

    def input_required(self, raised: InputRequired) -> types.InputRequiredResult:
        """Store the question; return the result that ends this call with it."""
        question = Question(self._key(raised.message, raised.options), self.session.clock())
        form = types.ElicitRequestFormParams(message=raised.message, requested_schema=requested_schema(raised.options))
        return types.InputRequiredResult(
            input_requests={FIELD: types.ElicitRequest(params=form)},
            request_state=self.session.store_question(question),
        )

    def _key(self, message: str, options: Sequence[Option]) -> str:
        """Return what a question of this call is known by: an answer counts for the same call with the same form."""
        return key(self.tool, self.arguments, message, list(options))

    def _repeated_with_answer(
        self, params: types.CallToolRequestParams
    ) -> tuple[Question, types.ElicitResult | None] | None:
        """Return a stored question and what the host says to it; None if this call names none."""
        if not params.request_state or not params.input_responses:
            return None
        question = self.session.take_question(params.request_state)
        if question is None:
            return None
        result = params.input_responses.get(FIELD)
        return question, result if isinstance(result, types.ElicitResult) else None


def requested_schema(
    options: Sequence[Option], fields: Mapping[str, FormField] = MappingProxyType({})
) -> types.ElicitRequestedSchema:
    """Return the form's schema: one choice with titles (SEP-1330), without a default; then the further fields."""
    more: dict[str, dict[str, object]] = {}
    for name, about in fields.items():
        more[name] = {"type": "string", "title": about.title, "default": about.default}
        if about.options:
            more[name]["oneOf"] = _titled(about.options)
    return {
        "type": "object",
        "properties": {FIELD: {"type": "string", "title": "Your answer", "oneOf": _titled(options)}, **more},
        "required": [FIELD],
    }


def _titled(options: Sequence[Option]) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in options]


def form_answer(
    result: types.ElicitResult | None,
    options: Sequence[Option],
    *,
    took: float,
    fields: Mapping[str, FormField] = MappingProxyType({}),
) -> FormAnswer:
    """Return what a form's result counts as. `took`: seconds since the form was shown."""
    if result is None or result.action == "cancel":
        return NO_ANSWER
    if result.action == "decline":
        return FormAnswer("declined")
    value = (result.content or {}).get(FIELD)
    if value not in [name for name, _ in options]:
        return NO_ANSWER
    more: dict[str, str] = {}
    for name, about in fields.items():
        given = (result.content or {}).get(name, about.default)
        if not isinstance(given, str) or len(given) > MAX_FILLED_IN:
            return NO_ANSWER
        if about.options and given not in [each for each, _ in about.options]:
            return NO_ANSWER
        more[name] = given.strip()
    return FormAnswer("too fast" if took < PERSON_SECONDS else "chosen", str(value), more)
