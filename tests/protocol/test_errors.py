"""Every error that can be raised has a code, a sentence and a fix. That a raise names one is checked by mypy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import peer
from peer.client.blocking import DaemonUnreachable, Interrupted
from peer.protocol import codec, cose, errors, growth, statements
from peer.protocol.errors import BY_CODE, NO_FIX, DispatchError, WithUsualFix, from_code
from peer.trust import receipts

ROOMS = ("peer", "sandbox", "rendezvous", "cli", "mcp_plugin")
ROOT = Path(peer.__file__).parent.parent
LOADED = (codec, cose, errors, growth, statements, receipts, DaemonUnreachable, Interrupted)
"""So that the subclasses of these are there to be seen."""


def below(kind: type[WithUsualFix]) -> Iterator[type[WithUsualFix]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


@pytest.mark.parametrize("kind", sorted(below(WithUsualFix), key=str))
def test_a_class_that_needs_no_fix_at_the_raise_has_one(kind: type[WithUsualFix]) -> None:
    assert kind.usual_fix
    if kind not in (Interrupted,) and kind.__init__ is WithUsualFix.__init__:
        assert kind("words").fix == kind.usual_fix and kind("words", fix="others").fix == "others"


def test_that_nothing_helps_is_said_on_purpose() -> None:
    """An empty text in a call is forgotten as easily as none; NO_FIX is found by whoever looks for what has no fix."""
    empty = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        for argument in call.keywords
        if argument.arg == "fix" and isinstance(argument.value, ast.Constant) and not argument.value.value
    ]
    assert empty == []


@pytest.mark.parametrize("code", [*BY_CODE, 418, 507])
def test_an_error_crosses_a_boundary_unchanged(code: int) -> None:
    raised = from_code(code, "words", "what helps")
    again = from_code(**raised.to_json())  # type: ignore[arg-type]  # the document's values are of their types
    assert isinstance(again, DispatchError) and type(again) is type(raised)
    assert again.to_json() == raised.to_json() == {"code": code, "message": "words", "fix": "what helps"}
    assert from_code(code, "words").fix == NO_FIX
