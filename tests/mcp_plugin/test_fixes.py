"""What helps, in a session's words: every command that a fix names is a call there, or is said to be the person's.

All fixes are found in the source, so that the next one cannot forget it. That no result of a session names another is
looked at by its hosts in every test (hosts.py, tests/seed/conftest.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import peer
from cli.commands import SECTIONS
from mcp_plugin import fixes
from mcp_plugin.tools import TOOLS
from tests.mcp_plugin.hosts import check_fix

ROOT = Path(peer.__file__).parents[1]
SPAN = re.compile(r"`((?:dispatch|dispatch-daemon)(?: [^`]*)?)`")


def texts() -> Iterator[tuple[str, str]]:
    """Yield every text of the node's and the session's modules that is no docstring, with its place."""
    for path in sorted(path for room in ("peer", "sandbox", "mcp_plugin") for path in (ROOT / room).rglob("*.py")):
        nodes, name = [*ast.walk(ast.parse(path.read_text()))], path.relative_to(ROOT)
        others: set[ast.AST] = {part for each in nodes if isinstance(each, ast.JoinedStr) for part in each.values}
        others |= {each.value for each in nodes if isinstance(each, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
                yield f"{name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in others:
                yield f"{name}:{node.lineno}", node.value


def fix_texts() -> Iterator[tuple[str, str]]:
    """Yield the text of every `fix=` that is written out, with its place."""
    for path in sorted(path for room in ("peer", "sandbox", "mcp_plugin") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "fix":
                yield f"{path.relative_to(ROOT)}:{node.value.lineno}", ast.unparse(node.value)


COMMANDS = {name for section in SECTIONS.values() for name in section}


def test_every_command_that_we_name_is_a_call_or_the_persons() -> None:
    """Seen to fail with a row of CALLS taken out, and with `fetch` in a fix of the node."""
    named = sorted({(span, place) for place, text in texts() for span in SPAN.findall(text)})
    assert len(named) > 60, "there are fixes to look at"
    for command, place in named:
        _check_command(command, place)


def _check_command(command: str, place: str) -> None:
    call = fixes.call_of(command)
    program, *words = command.split()
    if call is None:
        known = program == "dispatch-daemon" or {words[0], " ".join(words[:2])} & fixes.TERMINAL
        more = tuple(words[:2]) in fixes.CALLS or tuple(words[:1]) in fixes.CALLS
        assert known and not more, f"{place}: neither a call nor the person's"
        assert fixes.PERSONS in fixes.for_host(f"run `{command}`")
    else:
        assert call.split("(")[0] in TOOLS or "--help" in words, call
        assert "`" not in fixes.for_host(f"see `{command}`")


def test_the_tables_name_commands_that_there_are() -> None:
    assert {words[0] for words in fixes.CALLS} | {words.split()[0] for words in fixes.TERMINAL} <= COMMANDS


def test_commands_stand_in_backticks() -> None:
    """Else no surface finds them. Seen to fail with the fix of an edge that has ended as it was."""
    named = re.compile(rf"(?<![`\w-])dispatch ({'|'.join(sorted(COMMANDS))})\b")
    bare = [(place, text) for place, text in fix_texts() if named.search(re.sub("`[^`]*`", "", text))]
    assert not bare


@pytest.mark.parametrize(
    ("fix", "shown"),
    [
        ("", ""),
        ("send it again", "send it again"),
        ("re-check `dispatch inbox` and `dispatch approvals`",
         're-check dispatch_read(what="inbox") and dispatch_read(what="approvals")'),
        ("invite them: `dispatch invite a@b.c`", 'invite them: dispatch_invite(action="send", to_email="a@b.c")'),
        ("see `dispatch trust edit a@b.c --mcp-servers …`",
         'see dispatch_trust(action="edit", peer="a@b.c", mcp_servers="…")'),
        ("start it: `dispatch-daemon`", "start it: `dispatch-daemon` (the person does this in a terminal)"),
        ("see `dispatch inbox`, then `dispatch doctor`",
         'see dispatch_read(what="inbox"), then `dispatch doctor` (the person does this in a terminal)'),
        ("run `dispatch login` in a terminal", "run `dispatch login` in a terminal"),
        ("the person runs this in a terminal: `dispatch trust edit a@b.c --tools Bash`",
         "the person runs this in a terminal: `dispatch trust edit a@b.c --tools Bash`"),
        ("the person runs this in a terminal: `dispatch approve x y --always`",
         "the person runs this in a terminal: `dispatch approve x y --always`"),
        ("`dispatch trust edit a@b.c --tools`", 'dispatch_trust(action="edit", peer="a@b.c", tools="…")'),
        ("`dispatch trust edit a@b.c Read`",
         "`dispatch trust edit a@b.c Read` (the person does this in a terminal)"),
        ("`dispatch send 'a`", "`dispatch send 'a` (the person does this in a terminal)"),
    ],
)  # fmt: skip
def test_in_words(fix: str, shown: str) -> None:
    assert fixes.for_host(fix) == shown
    check_fix(shown)


def test_a_document_has_no_other_fix() -> None:
    told = {"broker_error": {"fix": "see `dispatch whoami`"}, "runtime": {"login_fix": "`dispatch doctor`"}, "fix": 1}
    assert fixes.in_document(told) == {
        "broker_error": {"fix": 'see dispatch_read(what="whoami")'},
        "runtime": {"login_fix": "`dispatch doctor` (the person does this in a terminal)"},
        "fix": 1,
    }
