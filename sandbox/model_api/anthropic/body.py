"""The form of a request's body, as claude 2.1.330 was seen to write it: every member that may be there, with its type.

This is the one table of what reaches the API: a request is sent as it is here and as nothing else. A member that is not
here is left out, a value that does not fit refuses the request, one of `type` or `source` above all. `make
record-model` records what the pinned program sends, and names the members that are missing here. Which tools and models
a run may name is requests.py's. Pure. Two places are open, since the API passes what is in them to the model alone: a
tool's `input_schema`, and a call's `input`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

MAX_TOKENS: Final = 128_000
"""The most that claude 2.1.330 asks for in one answer, of any model."""

_Short = Annotated[str, msgspec.Meta(max_length=4096)]


class _Form(msgspec.Struct):
    """An object with the members below; others are left out. An optional one is UNSET where it was not there."""


class _Kind(_Form, tag_field="type"):
    """One of several forms, distinguished by `type`.

    msgspec does not require the tag of a form that stands alone: such a form is a `_Form` with a `type` of its own.
    """


class Ephemeral(_Form):
    """How long the API may cache the request up to here."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | UnsetType | None = UNSET


class Picture(_Form):
    """The bytes of a picture."""

    type: Literal["base64"]
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
    data: str


class Pdf(_Kind, tag="base64"):
    """The bytes of a document."""

    media_type: Literal["application/pdf"]
    data: str


class PlainText(_Kind, tag="text"):
    """A document's text."""

    data: str
    media_type: Literal["text/plain"]


class _Block(_Kind):
    cache_control: Ephemeral | UnsetType | None = UNSET


class Text(_Block, tag="text", kw_only=True):
    """Text. `citations`: null in answers of the API, and so in what is sent back to it."""

    text: str
    citations: UnsetType | None = UNSET


class Image(_Block, tag="image", kw_only=True):
    """A picture, as bytes alone: no URL, no file of the account."""

    source: Picture


class Blocks(_Kind, tag="content"):
    """A document in pieces."""

    content: str | list[Text | Image]


class Document(_Block, tag="document", kw_only=True):
    """A document, as its content: no URL, no file of the account."""

    source: Pdf | PlainText | Blocks


class FoundTool(_Block, tag="tool_reference", kw_only=True):
    """A tool that a search for tools found."""

    tool_name: _Short


class ToolResult(_Block, tag="tool_result", kw_only=True):
    """What a call returned."""

    tool_use_id: _Short
    content: str | list[Text | Image | Document | FoundTool] | UnsetType | None = UNSET
    is_error: bool | UnsetType = UNSET


class ToolUse(_Block, tag="tool_use", kw_only=True):
    """A call of the model."""

    id: _Short
    name: _Short
    input: dict[str, object]


class Thinking(_Block, tag="thinking", kw_only=True):
    """Thinking of the model, sent back to it."""

    thinking: str
    signature: str


class RedactedThinking(_Block, tag="redacted_thinking", kw_only=True):
    """Encrypted thinking of the model, sent back to it."""

    data: str


class Tool(_Form):
    """A tool of the client, described to the model."""

    name: _Short
    input_schema: dict[str, object]
    description: str | UnsetType = UNSET
    type: Literal["custom"] | UnsetType | None = UNSET
    cache_control: Ephemeral | UnsetType | None = UNSET
    defer_loading: bool | UnsetType = UNSET
    eager_input_streaming: bool | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class ToolReference(_Kind, tag="tool_reference"):
    """A tool by its name."""

    name: _Short


class ToolDefinition(_Kind, tag="tool_definition"):
    """A tool in full."""

    definition: Tool


class ToolAddition(_Block, tag="tool_addition", kw_only=True):
    """From here on the model has one more tool."""

    tool: ToolReference | ToolDefinition


class RemovedTool(_Form):
    """A tool by its name."""

    type: Literal["tool_reference"]
    name: _Short


class ToolRemoval(_Block, tag="tool_removal", kw_only=True):
    """From here on the model has one tool less."""

    tool: RemovedTool


class _Message(_Form, tag_field="role"):
    """One message of the conversation."""


class User(_Message, tag="user"):
    """A message of the person, or the results of tools."""

    content: str | list[Text | Image | Document | ToolResult]


class Assistant(_Message, tag="assistant"):
    """A message of the model."""

    content: str | list[Text | Thinking | RedactedThinking | ToolUse]


class Effort(_Form):
    """How hard the model thinks."""

    effort: _Short


class System(_Message, tag="system"):
    """A message of the agent program within the conversation."""

    content: str | list[Text | ToolAddition | ToolRemoval]
    output_config: Effort | UnsetType | None = UNSET


class Adaptive(_Kind, tag="adaptive"):
    """Thinking as much as the model sees fit."""

    display: _Short | UnsetType | None = UNSET


class Enabled(_Kind, tag="enabled"):
    """Thinking up to a bound."""

    budget_tokens: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
    display: _Short | UnsetType | None = UNSET


class Disabled(_Kind, tag="disabled"):
    """No thinking."""


class Amount(_Form):
    """So many of something."""

    type: Literal["input_tokens", "thinking_turns", "tool_uses"]
    value: Annotated[int, msgspec.Meta(ge=0)]


class ClearThinking(_Kind, tag="clear_thinking_20251015"):
    """Which earlier thinking the model still reads."""

    keep: Literal["all"] | Amount


class ClearToolUses(_Kind, tag="clear_tool_uses_20250919"):
    """Which earlier calls the model still reads."""

    trigger: Amount | UnsetType | None = UNSET
    keep: Amount | UnsetType | None = UNSET
    clear_at_least: Amount | UnsetType | None = UNSET
    exclude_tools: list[_Short] | UnsetType | None = UNSET


class ContextManagement(_Form):
    """What of the earlier conversation the model still reads."""

    edits: list[ClearThinking | ClearToolUses]


class Metadata(_Form):
    """Whose request it is: an opaque id of the program's."""

    user_id: _Short


class AnyTool(_Kind, tag="any"):
    """The model must call."""


class AutoTool(_Kind, tag="auto"):
    """The model may call."""


class NoTool(_Kind, tag="none"):
    """The model may not call."""


class OneTool(_Kind, tag="tool"):
    """The model must call this tool."""

    name: _Short


class Counting(_Form):
    """The body of a request for a count of tokens."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    messages: list[User | Assistant | System]
    system: str | list[Text] | UnsetType | None = UNSET
    tools: list[Tool] | UnsetType = UNSET
    tool_choice: AnyTool | AutoTool | NoTool | OneTool | UnsetType | None = UNSET
    thinking: Adaptive | Enabled | Disabled | UnsetType | None = UNSET
    context_management: ContextManagement | UnsetType | None = UNSET
    output_config: Effort | UnsetType | None = UNSET

    def tool_names(self) -> Iterator[str]:
        """Every tool that the body names to the model, wherever it does."""
        for tool in self.tools or ():
            yield tool.name
        if isinstance(self.tool_choice, OneTool):
            yield self.tool_choice.name
        for message in self.messages:
            if isinstance(message, System) and not isinstance(message.content, str):
                for block in message.content:
                    if isinstance(block, ToolAddition):
                        yield block.tool.name if isinstance(block.tool, ToolReference) else block.tool.definition.name


class Asking(Counting, kw_only=True):
    """The body of a request for an answer."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)]
    metadata: Metadata | UnsetType | None = UNSET
    stream: bool | UnsetType | None = UNSET
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | UnsetType | None = UNSET
