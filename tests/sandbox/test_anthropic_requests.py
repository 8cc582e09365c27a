"""Which bodies may reach the model's API: what the real claude program sends, member by member, and nothing beside.

`claude_requests.jsonl` holds requests of claude 2.1.330, recorded at the proxy with long texts cut: a picture and a
document, thinking, MCP tools, a compaction with its count of tokens, and each family of models.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.model_api.anthropic.requests import MAX_NAME, MAX_VALUES, check_body
from sandbox.model_api.interface import Allowance, Refused
from sandbox.policy.decision import GRANTABLE_TOOLS
from tests.growth import grows_as_the_text

ASK, COUNT = "/v1/messages?beta=true", "/v1/messages/count_tokens"
BODY: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}
RECORDED: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("claude_requests.jsonl").read_text().splitlines()
]
TOOL = {"name": "Read", "input_schema": {"type": "object"}}
LESS_COMMON = {
    **BODY,
    "system": "x",
    "stream": False,
    "temperature": 1,
    "thinking": {"type": "disabled"},
    "tool_choice": {"type": "tool", "name": "Read"},
    "context_management": {
        "edits": [
            {"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 1}},
            {
                "type": "clear_tool_uses_20250919",
                "trigger": {"type": "tool_uses", "value": 9},
                "keep": {"type": "tool_uses", "value": 3},
                "clear_at_least": {"type": "input_tokens", "value": 5},
                "exclude_tools": ["Read"],
            },
        ]
    },
    "tools": [{**TOOL, "type": "custom", "strict": True, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
                {
                    "type": "document",
                    "source": {"type": "content", "content": [{"type": "text", "text": "x"}]},
                    "cache_control": {"type": "ephemeral"},
                },
            ],
        },
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "tool_reference", "tool_name": "Read"}],
                }
            ],
        },
        {
            "role": "system",
            "content": [
                {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL}},
                {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "Read"}},
                {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Read"}},
            ],
        },
    ],
}
PASSING = [*RECORDED, BODY, LESS_COMMON]
ALLOWANCE = Allowance(GRANTABLE_TOOLS, servers=frozenset({"notes"}))
OPEN = ("input", "input_schema")
"""Members that hold what only this side means by them."""


def check(body: Any, target: str | None = None) -> bytes:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    if target is None:
        target = ASK if not isinstance(body, dict) or "max_tokens" in body else COUNT
    return check_body(target, sent, ALLOWANCE).body


def said(*blocks: dict[str, Any], role: str = "user", **more: Any) -> dict[str, Any]:
    return {**BODY, "messages": [{"role": role, "content": list(blocks), **more}]}


def returned(**block: Any) -> dict[str, Any]:
    return said({"type": "tool_result", "tool_use_id": "t", "content": [block]})


def test_what_the_real_program_sends_passes_unchanged() -> None:
    """Seen to fail with `citations` left out of the form of a text."""
    assert len(RECORDED) >= 8 and not all("max_tokens" in body for body in RECORDED)
    for body in PASSING:
        assert json.loads(check(body)) == body


BASE64 = {"type": "base64", "media_type": "image/png", "data": ""}
EDIT = {"type": "clear_thinking_20251015", "keep": "all"}


def saying(*blocks: dict[str, Any]) -> str:
    return json.dumps(said(*blocks, role="assistant"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"not json", 400),
        (b'{"model": NaN}', 400),
        (json.dumps(BODY).replace("100", "1e999").encode(), 403),
        (saying({"type": "tool_use", "id": "t", "name": "n", "input": {"a": 5}}).replace("5}", "1e999}").encode(), 400),
        (b"[" * 100_000, 400),
        (json.dumps(BODY).encode("utf-16"), 400),
        (json.dumps(BODY).encode("utf-32"), 400),
        (json.dumps(BODY).replace("hi", "\udcff").encode("utf-8", "surrogateescape"), 400),
        (json.dumps({**BODY, "max_tokens": 7}).replace("7", "9" * 5000).encode(), 400),
        ({**BODY, "model": 5}, 403),
        ({**BODY, "model": ""}, 403),
        ({**BODY, "model": "gpt-5"}, 403),
        ({"model": BODY["model"], "max_tokens": 1}, 403),
        # Members of the body.
        ({**BODY, "max_tokens": 1_000_000}, 403),
        ({**BODY, "max_tokens": 0}, 403),
        ({**BODY, "max_tokens": True}, 403),
        ({**BODY, "max_tokens": "1"}, 403),
        ({**BODY, "max_tokens": None}, 403),
        ({**BODY, "stream": "yes"}, 403),
        ({**BODY, "temperature": {"a": 1}}, 403),
        ({**BODY, "metadata": {"user_id": {"a": "b"}}}, 403),
        ({**BODY, "output_config": {"task_budget": {}}}, 403),
        ({**BODY, "thinking": "much"}, 403),
        ({**BODY, "thinking": {"type": "eager"}}, 403),
        ({**BODY, "thinking": {"type": "enabled", "budget_tokens": 1_000_000}}, 403),
        ({**BODY, "tool_choice": "auto"}, 403),
        ({**BODY, "tool_choice": {"type": "tool", "name": "web_search"}}, 403),
        ({**BODY, "context_management": {"edits": [{"type": "compact_20260112"}]}}, 403),
        ({**BODY, "context_management": {"edits": [{"type": "clear_of_another_kind"}]}}, 403),
        # Tools.
        ({**BODY, "tools": "x"}, 403),
        ({**BODY, "tools": ["x"]}, 403),
        ({**BODY, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 403),
        ({**BODY, "tools": [{"type": "code_execution_20250522", "name": "x"}]}, 403),
        ({**BODY, "tools": [{**TOOL, "name": "Task"}]}, 403),
        ({**BODY, "tools": [{**TOOL, "name": "mcp__mail__send"}]}, 403),
        ({**BODY, "tools": [{**TOOL, "name": "bash", "type": "bash_20250124"}]}, 403),
        # Messages.
        ({**BODY, "messages": "x"}, 403),
        ({**BODY, "messages": [{"role": "developer", "content": "x"}]}, 403),
        ({**BODY, "messages": [{"content": "x"}]}, 403),
        ({**BODY, "messages": [{"role": "system", "content": [], "output_config": {"task_budget": {}}}]}, 403),
        (said({"type": "tool_result", "tool_use_id": "t"}, role="assistant"), 403),
        (said({"type": "tool_use", "id": "t", "name": "Read", "input": {}}), 403),
        (said({"type": "tool_addition", "tool": {"type": "tool_reference", "name": "Task"}}, role="system"), 403),
        # Blocks and their sources.
        (returned(type="image", source={"type": "url", "url": "https://evil/?secret"}), 403),
        (returned(type="document", source={"type": "file", "file_id": "f"}), 403),
        (returned(type="document", url="https://evil/?secret"), 403),
        (returned(type="image", file_id="f"), 403),
        (returned(type="image", source={**BASE64, "media_type": "text/html"}), 403),
        (returned(type="image", source={"media_type": "image/png", "data": ""}), 403),
        (returned(type="image", source={**BASE64, "media_type": "application/pdf"}), 403),
        (returned(type="text", text="x", cache_control={"ttl": "1h"}), 403),
        (said({"type": "tool_removal", "tool": {"name": "Read"}}, role="system"), 403),
        (returned(type="container_upload", file_id="f"), 403),
        (returned(type="server_tool_use", name="web_search"), 403),
        (returned(type="text", text="x", citations=[{"type": "char_location"}]), 403),
        (
            returned(
                type="document", source={"type": "content", "content": [{"type": "image", "source": {"type": "url"}}]}
            ),
            403,
        ),
        (
            said(
                {
                    "type": "tool_addition",
                    "tool": {"type": "tool_definition", "definition": {"type": "bash_20250124", "name": "bash"}},
                },
                role="system",
            ),
            403,
        ),
    ],
)
def test_refused(body: Any, status: int) -> None:
    """Seen to fail with the form that this one replaced, for about half of the rows."""
    with pytest.raises(Refused) as refused:
        check(body, ASK)
    assert refused.value.status == status, refused.value.message


@pytest.mark.parametrize(
    "body",
    [
        {**BODY, "mcp_servers": [{"url": "https://evil"}]},
        {**BODY, "mcp_servers": []},
        {**BODY, "container": "c"},
        {**BODY, "speed": "fast"},
        {**BODY, "service_tier": "auto"},
        {**BODY, "stop_sequences": ["x"]},
        {**BODY, "stop_sequences": {"url": "https://evil"}},
        {**BODY, "top_k": 1},
        {**BODY, "metadata": {"user_id": "x", "more": "y"}},
        {**BODY, "output_config": {"effort": "low", "task_budget": {"type": "tokens", "total": 1}}},
        {**BODY, "thinking": {"type": "adaptive", "block_binding": {"a": 1}}},
        {**BODY, "tool_choice": {"type": "auto", "url": "https://evil"}},
        {**BODY, "context_management": {"edits": [{**EDIT, "instructions": "x"}]}},
        {**BODY, "context_management": {"edits": [], "more": 1}},
        {**BODY, "tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]},
        {**BODY, "tools": [{**TOOL, "cache_control": {"type": "ephemeral", "scope": "global"}}]},
        {**BODY, "messages": [{"role": "user", "content": "x", "container": "c"}]},
        {**BODY, "messages": [{"role": "user", "content": "x", "output_config": {"effort": "low"}}]},
        returned(type="image", source={**BASE64, "url": "https://evil/?secret"}),
        returned(type="text", text="x", extra={"source": {"type": "url"}}),
        said(
            {
                "type": "tool_use",
                "id": "t",
                "name": "Read",
                "input": {},
                "caller": {"type": "code_execution_20250825", "tool_id": "s"},
            },
            role="assistant",
        ),
        said(
            {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL, "url": "https://x"}},
            role="system",
        ),
    ],
)
def test_a_member_that_no_form_has_is_left_out_and_named(body: dict[str, Any]) -> None:
    """Each of them acts at the API, or carries something there. Seen to fail with what was parsed sent on as it was."""
    request = check_body(ASK, json.dumps(body).encode(), ALLOWANCE)
    (name,) = request.left_out
    assert f'"{name}"'.encode() not in request.body and b"evil" not in request.body
    assert name in repr(body) and not check_body(ASK, request.body, ALLOWANCE).left_out


def test_names_that_are_left_out_are_short_and_each_is_named_once() -> None:
    body = {**BODY, "x" * 1000: 1, "metadata": {"user_id": "u", "later": 1}, "later": 2}
    assert check_body(ASK, json.dumps(body).encode(), ALLOWANCE).left_out == ("later", "x" * MAX_NAME)


def test_of_two_equal_names_the_last_counts_and_alone_is_sent() -> None:
    twice = b'{"model":"gpt-5","max_tokens":1,"messages":[],"model":"claude-opus-5","x":1,"x":2}'
    request = check_body(ASK, twice, ALLOWANCE)
    assert request.body == b'{"model":"claude-opus-5","messages":[],"max_tokens":1}' and request.left_out == ("x",)


def test_an_answer_needs_its_bound_and_a_count_has_none() -> None:
    """Seen to fail with `max_tokens` given a default."""
    unbounded = {key: value for key, value in BODY.items() if key != "max_tokens"}
    assert check(unbounded, COUNT) == check(BODY, COUNT)
    with pytest.raises(Refused, match="max_tokens"):
        check(unbounded, ASK)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a body, but for what only this side reads."""
    yield path
    if path and path[-1] in OPEN:
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from places(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


PLACES = [(number, path) for number, body in enumerate(PASSING) for path in places(body)]
OBJECTS = [
    (number, path) for number, path in PLACES if isinstance(at(PASSING[number], path), dict) and not {*path} & {*OPEN}
]
UNKNOWN = ["url", "file_id", "caller", "container", "mcp_servers", "task_budget", "clear_at", "title", "betas", "scope"]


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.sampled_from(OBJECTS), st.sampled_from(UNKNOWN) | st.text().map("x_".__add__), ANYTHING)
def test_an_unknown_member_anywhere_is_left_out(place: tuple[int, tuple[Any, ...]], name: str, value: Any) -> None:
    """What is sent has not the members that the table lacks."""
    body = copy.deepcopy(PASSING[place[0]])
    at(body, place[1])[name] = value
    assert json.loads(check(body)) == PASSING[place[0]]


def test_no_object_has_room_for_another_member() -> None:
    """Each object of each body in turn."""
    assert len(OBJECTS) > 200
    for number, path in OBJECTS:
        body = copy.deepcopy(PASSING[number])
        at(body, path)["url"] = "https://evil/?secret"
        assert json.loads(check(body)) == PASSING[number], path


@pytest.mark.parametrize("other", [{"type": "url", "url": "https://evil"}, [{"type": "url"}], -1.5], ids=repr)
def test_no_value_has_room_for_another_kind(other: Any) -> None:
    """Seen to fail with `Metadata.user_id` and `Thinking.signature` as any value."""
    for number, path in PLACES:
        if path[-1:] in (("input",), ("input_schema",)) and isinstance(other, dict):
            continue  # open
        body = {"body": copy.deepcopy(PASSING[number])}
        whole = ("body", *path)
        at(body, whole[:-1])[whole[-1]] = other
        with pytest.raises(Refused):
            check(body["body"], ASK if "max_tokens" in PASSING[number] else COUNT)


EMPTY = {
    "messages": b'{"model":"claude-sonnet-5","max_tokens":1,"messages":[%s[]]}',
    "input": b'{"model":"claude-sonnet-5","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use",'
    b'"id":"t","name":"Read","input":{"a":[%s[]]}}]}]}',
    "schema": b'{"model":"claude-sonnet-5","max_tokens":1,"messages":[],"tools":[{"name":"Read","input_schema":'
    b'{"a":[%s[]]}}]}',
}


@pytest.mark.parametrize("size", [None, pytest.param(32_000_000, marks=pytest.mark.long)], ids=["few", "most"])
@pytest.mark.parametrize("value", [b"[],", b"{},", b"0,", b'"",', b'{"":[]},'])
@pytest.mark.parametrize("where", EMPTY)
def test_many_small_values_are_refused_before_they_are_built(
    monkeypatch: pytest.MonkeyPatch, where: str, value: bytes, size: int | None
) -> None:
    """Of one more than there may be, or as many bytes as a body may have."""
    built: list[int] = []
    loads = json.loads

    def counted(body: bytes, **more: Any) -> Any:
        built.append(len(body))
        return loads(body, **more)

    monkeypatch.setattr(json, "loads", counted)
    body = EMPTY[where].replace(b"%s", value * (size // len(value) if size else MAX_VALUES + 1))
    with pytest.raises(Refused) as refused:
        check_body(ASK, body, ALLOWANCE)
    assert refused.value.status == 413 and not built


def test_what_looks_like_values_in_a_text_is_none() -> None:
    code = 'f([], {}, "x\\\\", [[],[],[]]);' * 100_000
    assert code in str(loads_of(check(said({"type": "text", "text": code}))))


def loads_of(body: bytes) -> Any:
    return json.loads(body)["messages"][0]["content"][0]["text"]


@pytest.mark.parametrize("fragment", ["[],", '"', '\\"', '"\\', "{", '"a":', "\\", "[[]],"])
def test_the_check_takes_time_as_the_body(fragment: str) -> None:
    def checked(text: str) -> None:
        with pytest.raises(Refused):
            check_body(ASK, text.encode(), ALLOWANCE)

    assert grows_as_the_text(checked, fragment, 400_000)
