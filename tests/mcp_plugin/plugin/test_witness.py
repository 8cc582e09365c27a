"""A yes without its question: what the hooks make of pickers and calls, alone and in the real claude program."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.commands import SECTIONS
from mcp_plugin import questions, shell
from mcp_plugin.open_questions import KEPT_SECONDS, MAX_KEPT, kept
from mcp_plugin.questions import PART, WHOLE, excerpt
from mcp_plugin.tools import TOOLS
from mcp_plugin.witness import (
    MAX_INPUT,
    PERSON_SECONDS,
    PREFIX,
    SHELLS,
    answered,
    handle,
    matching,
    requirement,
    shown,
)
from peer.dispatches.text import line
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid, NotFound
from tests.cli.fake_api import FakeApi, page_of_calls, running
from tests.conftest import HANG
from tests.mcp_plugin.plugin import claude as host
from tests.mcp_plugin.plugin.claude import ROOT
from tests.mcp_plugin.plugin.sessions import PICKER, Answers, play, say, use
from tests.mcp_plugin.plugin.test_announce import FIRST, SECOND, call, row
from tests.mcp_plugin.plugin.test_sessions import Pair, ask, bash, decide, relay, sent

ALICE = "alice@example.org"
RULES = [{"tool": "Bash", "pattern": "ls"}, {"tool": "Bash", "pattern": "ls", "reach": "prefix"}]
CALL = call(input={"command": 'echo "a  b"\nls', "timeout": 5}, rule_choices=RULES)
OFFERED = {"cwd": "/home/bob/shop", "pinned": False, "reason": "the task says shop"}


class Node:
    """A node that has one dispatch and one waiting call."""

    status = "pending"
    suggestion: dict[str, Any] | None = None
    obstacles: tuple[str, ...] = ()

    def folder(self, dispatch_id: str, cwd: str) -> dict[str, Any]:
        if cwd == "/nowhere":
            raise NotFound("there is no folder /nowhere")
        return {"cwd": cwd, "obstacles": list(self.obstacles)}

    def dispatch(self, dispatch_id: str) -> dict[str, Any]:
        return row(dispatch_id, task="Count\nthe lines", suggestion=self.suggestion, status=self.status)

    def approvals(self) -> list[dict[str, Any]]:
        return [CALL]

    def dispatches(self, direction: str, *, limit: int | None = None) -> dict[str, Any]:
        return {"dispatches": [row(FIRST), row(SECOND)] if direction == "received" else []}

    def contacts(self) -> dict[str, Any]:
        return {"trust": [{"peer": "bob@example.org", "alias": "bob"}]}


def picked(asked: dict[str, Any], label: str, *, session: str = "s", took: float = 2.0, **changed: Any) -> Any:
    """The entry that is left of a picker with this question; None where it counts for nothing."""
    event = {"session_id": session, "tool_use_id": "t", "tool_input": {"questions": [asked]}}
    entry = shown(event, 0.0)
    if entry is None:
        return None
    event = {**event, "tool_response": {"answers": {asked["question"]: label}}, **changed}
    return answered(entry, event, took)


def permits(
    entry: Any, tool: str, *, node: Node | None = None, session: str = "s", now: float = 3.0, **arguments: Any
) -> bool:
    required = requirement(node or Node(), tool, arguments, Path("/"))
    return entry is not None and matching([entry], required, session, now) is not None


IDS: dict[str, Any] = {"dispatch_id": FIRST, "request_id": "toolu_1"}
GATE = questions.gate(CALL).picker()
ACCEPT = questions.accept(Node().dispatch(FIRST)).picker()


@pytest.mark.parametrize(
    ("label", "given_"),
    [
        ("Allow once", {"action": "approve"}),
        ("Allow once", {"action": "approve", "grant": "once"}),
        ("Always allow", {"action": "approve", "grant": "always"}),
        ("Always allow", {"action": "approve", "grant": "always", "rule": 0}),
        ("Allow for this session", {"action": "approve", "grant": "session"}),
        ("Deny", {"action": "deny"}),
    ],
)
def test_an_answer_permits_one_call(label: str, given_: dict[str, Any]) -> None:
    assert permits(picked(GATE, label), "dispatch_act", **IDS, **given_)
    for other in {"Allow once", "Always allow", "Allow for this session", "Deny", "Yes", ""} - {label}:
        assert not permits(picked(GATE, other), "dispatch_act", **IDS, **given_)
    decision = "deny" if given_["action"] == "deny" else "allow"
    same = {name: value for name, value in given_.items() if name != "action"}
    assert permits(picked(GATE, label), "dispatch_approve", decision=decision, **IDS, **same)


MORE = st.dictionaries(
    st.sampled_from(["cwd", "reason", "rule", "files", "anything"]) | st.text(min_size=1),
    st.text() | st.integers() | st.lists(st.text()),
    min_size=1,
    max_size=3,
)


@given(MORE)
def test_an_argument_that_was_not_shown_is_asked_about(more: dict[str, Any]) -> None:
    """Whatever it is called: nothing here knows names of arguments. And the words of the question have it."""
    arguments = {**IDS, "action": "approve", **{k: v for k, v in more.items() if k not in (*IDS, "action", "grant")}}
    if arguments.keys() - {*IDS, "action"}:
        required = requirement(Node(), "dispatch_act", arguments, Path("/"))
        entry = picked(GATE, "Allow once")
        assert matching([entry], required, "s", 3.0) is None
        assert all(line(name, limit=200) in required.text for name in arguments.keys() - IDS.keys())


@given(st.data())
def test_a_question_of_one_other_character_is_another(data: st.DataObject) -> None:
    for asked, label, arguments in (
        (GATE, "Allow once", {"action": "approve", **IDS}),
        (ACCEPT, "Accept", {"action": "accept", "dispatch_id": FIRST}),
    ):
        text = asked["question"]
        at = data.draw(st.integers(0, len(text)))
        changed = text[:at] + data.draw(st.text(min_size=1, max_size=300)) + text[at:]
        cut = text[:at] + text[at + 1 :]
        for other in {changed, cut} - {text}:
            assert not permits(picked({**asked, "question": other}, label), "dispatch_act", **arguments)
        assert permits(picked(asked, label), "dispatch_act", **arguments)


@pytest.mark.parametrize("changed", [{"header": "Tea"}, {"multiSelect": True}, {"options": GATE["options"][::-1]}])
def test_every_part_of_a_question_is_compared(changed: dict[str, Any]) -> None:
    assert not permits(picked({**GATE, **changed}, "Allow once"), "dispatch_act", action="approve", **IDS)


def test_one_session_and_not_for_ever_and_no_faster_than_a_person() -> None:
    approve: dict[str, Any] = {"action": "approve", **IDS}
    assert permits(picked(GATE, "Allow once"), "dispatch_act", now=2.0 + KEPT_SECONDS, **approve)
    assert not permits(picked(GATE, "Allow once"), "dispatch_act", now=3.0 + KEPT_SECONDS, **approve)
    assert not permits(picked(GATE, "Allow once"), "dispatch_act", now=1.0, **approve)
    assert not permits(picked(GATE, "Allow once"), "dispatch_act", session="another", **approve)
    assert picked(GATE, "Allow once", took=PERSON_SECONDS - 0.1) is None
    assert picked(GATE, "Allow once", took=-1.0) is None


def test_a_picker_with_more_in_it_than_our_question_counts_for_nothing() -> None:
    event = {"session_id": "s", "tool_use_id": "t"}
    assert shown({**event, "tool_input": {"questions": [GATE]}}, 0.0)
    assert shown({**event, "tool_input": {"questions": [GATE, ACCEPT]}}, 0.0) is None
    assert shown({**event, "tool_input": {"questions": [GATE], "answers": {GATE["question"]: "Deny"}}}, 0.0) is None
    assert picked(GATE, "Allow once", tool_input={"questions": [ACCEPT]}) is None, "what was shown is what counts"
    denied = picked(GATE, "Deny")
    again = {"tool_input": {"questions": [GATE]}, "tool_response": {"answers": {GATE["question"]: "Allow once"}}}
    assert denied is not None and answered(denied, again, 20.0) is None, "a picker is answered once"


def test_accepting_in_the_folder_that_was_shown() -> None:
    accept: dict[str, Any] = {"tool": "dispatch_act", "action": "accept", "dispatch_id": FIRST}
    assert permits(picked(ACCEPT, "Accept"), **accept)
    assert not permits(picked(ACCEPT, "Accept"), **{**accept, "dispatch_id": SECOND})
    assert not permits(picked(ACCEPT, "Accept"), **accept, cwd="/home/bob/finance")
    assert not permits(picked(ACCEPT, "Decline"), **accept)
    node = Node()
    node.suggestion = OFFERED
    asked = questions.accept(node.dispatch(FIRST)).picker()
    assert not permits(picked(ACCEPT, "Accept"), node=node, **accept), "it was shown without the folder"
    assert permits(picked(asked, "Accept"), node=node, **accept)
    chosen = picked(asked, "Accept in the suggested folder")
    assert permits(chosen, node=node, **accept, cwd=OFFERED["cwd"])
    assert permits(picked(asked, "Accept"), node=node, **accept, cwd="")
    assert not permits(chosen, node=node, **accept) and not permits(chosen, node=node, **accept, cwd="/home/bob")
    assert requirement(node, "dispatch_act", {"action": "accept", "dispatch_id": FIRST}, Path("/")).exact == {"cwd": ""}
    node.suggestion = {**OFFERED, "pinned": True}
    required = requirement(node, "dispatch_act", {"action": "accept", "dispatch_id": FIRST}, Path("/"))
    assert required.exact == {"cwd": OFFERED["cwd"]}, "the folder that was shown is the one that it runs in"
    assert f"run it in {OFFERED['cwd']}" in required.text


@pytest.mark.parametrize(("label", "action"), [("Accept", "accept"), ("Decline", "decline")])
def test_an_answer_about_a_dispatch_that_waits_is_for_one_that_waits(label: str, action: str) -> None:
    """A decline ends a run, and throws away what is held: that is another question. Seen to fail for both."""
    node = Node()
    decide: dict[str, Any] = {"tool": "dispatch_act", "action": action, "dispatch_id": FIRST}
    assert permits(picked(ACCEPT, label), node=node, **decide)
    for node.status in ("running", "held"):
        assert not permits(picked(ACCEPT, label), node=node, **decide)


def test_accepting_in_a_folder_where_something_will_not_work() -> None:
    """It is in the words that are asked. Seen to fail with a question that has the folder alone."""
    node = Node()
    node.obstacles = ("git will not work: it lies elsewhere",)
    wanted: dict[str, Any] = {"action": "accept", "dispatch_id": FIRST, "cwd": "/home/bob/tree"}
    required = requirement(node, "dispatch_act", wanted, Path("/"))
    assert "In a run there, git will not work: it lies elsewhere." in required.text
    asked = questions.accept_in(node.dispatch(FIRST), "/home/bob/tree", node.obstacles).picker()
    assert permits(picked(asked, "Accept anyway"), node=node, tool="dispatch_act", **wanted)
    for label, change in (("Decline", {}), ("Choose another folder", {}), ("Accept anyway", {"cwd": "/home/bob"})):
        assert not permits(picked(asked, label), node=node, tool="dispatch_act", **{**wanted, **change})
    node.obstacles = ("git may not work",)
    assert not permits(picked(asked, "Accept anyway"), node=node, tool="dispatch_act", **wanted), "others by now"
    nowhere = requirement(node, "dispatch_act", {**wanted, "cwd": "/nowhere"}, Path("/"))
    assert "run it in /nowhere?" in nowhere.text and "In a run there" not in nowhere.text


@pytest.mark.parametrize("part", [FIRST[-8:], FIRST[-4:], FIRST[-8:-2] + "01"])
def test_a_short_id_means_the_dispatch_that_was_shown(part: str) -> None:
    required = requirement(Node(), "dispatch_act", {"action": "accept", "dispatch_id": part}, Path("/"))
    assert required.exact == {"dispatch_id": FIRST, "cwd": ""} and FIRST in required.text
    assert permits(picked(ACCEPT, "Accept"), "dispatch_act", action="accept", dispatch_id=part)
    assert permits(picked(GATE, "Deny"), "dispatch_approve", decision="deny", request_id="toolu_1", dispatch_id=part)


@pytest.mark.parametrize("part", ["0199", "beef", FIRST[:8]])
def test_a_short_id_that_fits_none_or_several_is_none(part: str) -> None:
    with pytest.raises((Invalid, NotFound)):
        requirement(Node(), "dispatch_act", {"action": "accept", "dispatch_id": part}, Path("/"))


def test_a_send_is_shown_with_everything_that_goes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").symlink_to("/etc/hostname")
    given_ = {"recipient": "bob", "task": "Look", "files": ["notes.txt"], "meta": {"k": "v"}, "expires": 60}
    required = requirement(Node(), "dispatch_send", given_, tmp_path)
    assert required.question is None and required.exact == {
        "recipient": "bob@example.org",
        "files": [str(Path("/etc/hostname").resolve())],
    }
    for part in ("bob@example.org", "Look", *required.exact["files"], '{"k": "v"}', "expires: 60"):
        assert part in required.text


LONG = "Do this.\n" + "and this, which matters less\n" * 60
FIRST_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "an accept": ("dispatch_act", {"action": "accept", "dispatch_id": FIRST, "cwd": "/home/bob/shop"}),
    "an answer": ("dispatch_act", {"action": "approve", "dispatch_id": FIRST, "request_id": "toolu_1"}),
    "a send": ("dispatch_send", {"background": LONG, "task": LONG, "recipient": "bob", "files": ["notes.txt"]}),
    "a decline": ("dispatch_act", {"action": "decline", "dispatch_id": FIRST, "reason": LONG}),
}
SHOWS = {
    "an accept": ("Accept it, and run it in /home/bob/shop?", f"{ALICE} asks this machine to do:", "Do this."),
    "an answer": ("grant: once", f"Bash call in the dispatch from {ALICE}:", "Path: /home/bob/a", "command: Do this."),
    "a send": ("Send this? It cannot be recalled.", "recipient: bob@example.org", "files: [", "task: Do this."),
    "a decline": ("Decline this dispatch", f"sender: {ALICE}", "reason: Do this."),
}


@pytest.mark.parametrize("what", FIRST_ROWS)
def test_the_first_rows_say_what_runs_where_and_whose(what: str, tmp_path: Path) -> None:
    """Of what a hook asks, Claude Code shows nine rows in a terminal of 80×24, see test_dialog.py.

    Seen to fail, for each of them, with the order of the call's own arguments, and the folder and the answer last.
    """

    class Long(Node):
        def dispatch(self, dispatch_id: str) -> dict[str, Any]:
            return row(dispatch_id, task=LONG, suggestion=None)

        def approvals(self) -> list[dict[str, Any]]:
            return [call(input={"command": LONG, "timeout": 5}, resolved_path="/home/bob/a", rule_choices=[])]

    tool, given_ = FIRST_ROWS[what]
    text = questions.in_dialog(f"dispatch: {requirement(Long(), tool, given_, tmp_path).text}")
    assert re.match(r"\[\d+ rows, but this dialog may show only 9", text)
    pieces = [
        each[at : at + questions.DIALOG_COLUMNS]
        for each in text.split("\n")
        for at in range(0, max(1, len(each)), questions.DIALOG_COLUMNS)
    ]
    first = "\n".join(pieces[: questions.DIALOG_ROWS])
    for part in SHOWS[what]:
        assert part in first, first
    assert questions.in_dialog("dispatch: Cancel this?") == "dispatch: Cancel this?"


def test_a_long_text_is_shown_by_its_ends_and_its_digest() -> None:
    whole, long = "x" * WHOLE, "x" * WHOLE + "\nrm -rf /" + "y" * WHOLE
    assert excerpt(whole, "there") == whole
    for hidden in ("\x1b[2J", "\x1b[2J" + long, long + "\x1b[2J"):
        assert "\x1b" not in excerpt(hidden, "there")
    text = excerpt(long, "there")
    assert text.startswith("x" * PART) and text.endswith("y" * PART)
    assert "[whole text: there]" in text and f"of {len(long):,} characters, with 1 line breaks" in text
    assert excerpt(long.replace("rm", "ls"), "there") != text, "the digest is of what is left out, too"


def test_too_many_arguments_are_shown_as_one_text() -> None:
    """Seen to fail without either bound, of their number and of their characters."""
    assert len(questions.facts({f"a{number}": "x" for number in range(100)}, "there")) == 100
    for many in ({f"a{number}": "x" for number in range(101)}, {f"a{number}": "x" * WHOLE for number in range(7)}):
        (one,) = questions.facts(many, "there")
        assert len(one) < 2 * WHOLE and all(each.startswith("    ") for each in one.split("\n"))


def test_a_text_of_others_stands_apart_from_our_lines() -> None:
    """Seen to fail without the indentation of arguments, and of a diff."""
    task = "a\nAccept runs it in /tmp.\n\nDispatch x."
    lines = questions.accept(row(FIRST, task=task, suggestion=None)).text.split("\n")
    assert [each for each in lines if each.startswith("Accept runs")] == ["Accept runs it in an empty workspace."]
    spoof = "ls\nWhat this returns goes to nobody."
    strange = ["the path has characters that hide"]
    lines = questions.gate_text(call(input={"command": spoof, spoof: "x"}, diff=spoof, unusual=strange)).split("\n")
    ours = [each for each in lines if not each.startswith("    ")]
    assert ours[0] == "Run a script of 2 lines: “ls”" and ours[2] == f"Unusual: {strange[0]}", lines
    assert len(ours) == 5 and len(lines) == 5 + 2 + 1 + 2, lines


@pytest.mark.parametrize("tool", [name for name, entry in TOOLS.items() if not entry.reads])
def test_only_what_changes_nothing_is_not_asked_about(tool: str) -> None:
    quiet = {
        ("dispatch_act", "watch"),
        *(("dispatch_invite", action) for action in ("list", "accept")),
        *(("dispatch_trust", action) for action in ("list", "edit")),
    }
    actions = questions_actions(tool)
    for action in actions:
        assert questions.reads(tool, {"action": action}) is ((tool, action) in quiet)
    assert not questions.reads("dispatch_trust", {"action": "edit", "peer": "p", "tools": "Read"})
    assert not questions.reads("dispatch_invite", {"action": "accept", "token": "t", "paths": "/"})


def questions_actions(tool: str) -> list[str]:
    from mcp_plugin.arguments import schema

    about = schema(TOOLS[tool].arguments)["properties"].get("action", {})
    return list(about.get("enum", [""]))


# --- the host's shell


def test_every_command_is_known_to_read_or_to_change() -> None:
    commands = {name for section in SECTIONS.values() for name in section}
    assert commands == shell.READING | (shell.CHANGING - {"witness"})
    assert not shell.READING & shell.CHANGING


HARMLESS = [
    *("ls", "git status", "echo accept it", "dispatch inbox", "dispatcher accept", "ls *.json *.py", "rm -rf d* a*"),
    *('git config user.name "$NAME"', "for f in *; do open $f; done", "git apply $PATCH", "jq '{a: .b[]}' < send"),
    *("git commit -m 'Fixes from peer review'", "printf '%s\\n' accept", 'x=$(date) && echo "${x}" > open'),
]

ODD = [
    *("echo a\ndi{s,}patch release x", "echo a\n\tdis$@patch release x\n", "dispa\\tch accept x"),
    *("dis\\\npatch release x", "$'\\x64ispatch' release x", "$'\\144is'patch release x", "$'\\u0064ispatch' apply x"),
    *("/usr/bin/dispatc? release x", "./d* accept x", "[d]ispatch undo x", "di{s,}patch release x"),
    *(
        "dis${nothing}patch release x",
        "dis$@patch release x",
        "dis`:`patch rel$(:)ease x",
        'dis"$nothing"patch accept x',
    ),
    *(
        "a=patch; dis$a release x",
        "dispatch $'rele\\x61se' x",
        "echo esaeler x | rev | xargs dispatch",
        "dispatch {rel,}ease",
    ),
    *("python -c 'from cli import main; main.main()' x", "python -c 'import peer.client.blocking'"),
    *("ln -s /usr/bin/dispatch q", "cp /usr/bin/dispatch /tmp/q", "cd ~ && cd .dispatch && cat local.token"),
    "curl -X POST -H @h http://127.0.0.1:4747/v1/dispatches/x/release",
    "curl -d '{}' localhost:4747/v1/approvals/x/1",
    *(
        "find / -name local.token",
        "cat ~/.dispat*/x",
        "cat ~/.d?spatch/x",
        "cd; cd .dispatch; ls",
        "cat $'\\x2edispatch'/x",
    ),
]
"""Spellings of what decides, each tried in bash: the shell makes the plain command of it."""


@pytest.mark.parametrize("command", HARMLESS)
def test_a_command_that_decides_nothing(command: str) -> None:
    assert not shell.decides(command, Path("/home/bob/.dispatch"), Path("/home/bob"))


SPELLINGS = (
    *("dispatch {} x", "'dispatch' \"{}\" x", "dis\\patch {}", "dis\\\npatch {}", "a;/b/dispatch --json {}"),
    *("true&&dispatch {}|cat", "x=$(dispatch {})", "python -m cli.main {}", "python -m mcp_\\\nplugin.main {}"),
)


@pytest.mark.parametrize("word", sorted(shell.CHANGING))
def test_a_command_that_decides_however_it_is_written(word: str) -> None:
    for spelled in SPELLINGS:
        assert shell.decides(spelled.format(word), Path("/home/bob/.dispatch"), Path("/home/bob")), spelled


def test_a_state_folder_behind_a_link_has_two_names(tmp_path: Path) -> None:
    """Seen to fail without the folder's real name, and without the names of what lies in it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / ".dispatch").symlink_to("disk")
    for command in (f"cp x {tmp_path}/disk/x", "cp x ~/disk/x", f"cp x {tmp_path}/.dispatch/x"):
        assert shell.decides(command, tmp_path / ".dispatch", tmp_path), command
    for name in ("local.token", "picks.json"):
        assert shell.decides(f"cat .dispatch/{name}", tmp_path / ".dispatch", tmp_path), "from the folder above"
    assert not shell.decides(f"cp x {tmp_path}/else/x", tmp_path / ".dispatch", tmp_path)


@pytest.mark.parametrize("rest", ["${a}ept x", "$a x", "`cat x`", "acc*", "?ccept x", "[a]ccept x"])
def test_a_command_of_ours_that_a_shell_puts_together_may_decide(rest: str) -> None:
    """Seen to fail where the word has to be there."""
    assert shell.decides(f"dispatch {rest}", Path("/home/bob/.dispatch"), Path("/home/bob"))


@pytest.mark.parametrize("path", ["/home/bob/.dispatch/x", "~/.dispatch/x", "$HOME/.dispatch", "${HOME}/.dispatch"])
def test_a_command_about_the_state_folder(path: str) -> None:
    assert shell.decides(f"cat {path}", Path("/home/bob/.dispatch"), Path("/home/bob"))


@pytest.mark.parametrize("spaced", [True, False])
@pytest.mark.parametrize("command", ODD)
def test_an_odd_spelling_of_what_decides(command: str, spaced: bool, tmp_path: Path) -> None:
    """The filter before it lets it through. All but three seen to fail with quotes and backslashes alone taken off."""
    assert shell.decides(command, Path("/home/bob/.dispatch"), Path("/home/bob"))
    assert let_through(command, spaced, tmp_path)


@pytest.mark.parametrize(
    ("tool", "given_"),
    [
        ("Read", {"file_path": "{}/local.token"}),
        ("Read", {"file_path": "{}/x/../picks.json"}),
        ("Grep", {"pattern": ".", "path": "{}"}),
        ("Write", {"file_path": "{}/picks.json", "content": ""}),
    ],
)
def test_the_state_folder_is_neither_read_nor_written_unasked(
    tool: str, given_: dict[str, str], tmp_path: Path
) -> None:
    """The token is all that a request to the node needs. Seen to fail (Read, Grep) without the hook for them, and with
    `file_path` alone looked at."""
    folder = StateFolder(tmp_path / ".dispatch")
    folder.path.mkdir()
    (tmp_path / "link").symlink_to(folder.path)
    for place in (folder.path, tmp_path / "link"):
        given = {name: value.format(place) for name, value in given_.items()}
        event = {"tool_name": tool, "tool_input": given, "cwd": str(tmp_path)}
        assert "read or write in dispatch" in handle(folder, "--shell", event, 0.0)
    elsewhere = {"tool_name": tool, "tool_input": {"file_path": str(tmp_path / "x"), "path": "."}, "cwd": "/"}
    assert handle(folder, "--shell", elsewhere, 0.0) == ""
    hooks = json.loads((ROOT / "mcp_plugin/plugin/hooks/hooks.json").read_text())["hooks"]
    assert tool in hooks["PreToolUse"][1]["matcher"].split("|")


@pytest.mark.parametrize("command", ["ls *.json *.py", "git status", 'git config user.name "$NAME"', "cat <<< {a,b}"])
def test_no_program_is_started_for_what_names_nothing_of_ours(command: str, tmp_path: Path) -> None:
    """A session waits for it."""
    assert not let_through(command, False, tmp_path)


def let_through(command: str, spaced: bool, folder: Path) -> bool:
    """Whether the hook's filter starts the program that judges."""
    (folder / "dispatch-mcp").write_text("#!/bin/sh\ncat > /dev/null\necho judged\n")
    (folder / "dispatch-mcp").chmod(0o755)
    event = {"session_id": "s", "tool_name": "Bash", "tool_input": {"command": command}}
    written = json.dumps(event, separators=(", ", ": ") if spaced else (",", ":"))
    given = {"HOME": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}
    done = host.run(["sh", str(host.PLUGIN / "programs" / "shell.sh")], given, folder, stdin=written)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout == "judged\n"


@pytest.mark.parametrize(
    "command", [*(each.format("accept") for each in SPELLINGS), "cp x /mnt/state/picks.json", "ls"]
)
def test_the_hook_starts_for_whatever_may_decide(command: str, tmp_path: Path) -> None:
    """It looks at the event before a program is started. Seen to fail where a line is continued in the name."""
    program = tmp_path / "dispatch-mcp"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    event = {"tool_name": "Bash", "tool_input": {"command": command.format("accept")}}
    done = subprocess.run(
        ["sh", str(ROOT / "mcp_plugin/plugin/programs/shell.sh")],
        input=json.dumps(event), env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if command == "ls" else "witness --shell\n")


# --- the program


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


@pytest.fixture
def node(folder: StateFolder) -> Iterator[FakeApi]:
    with running(folder) as fake:
        fake["GET /v1/approvals"] = page_of_calls(CALL)
        fake["GET /v1/contacts"] = {"trust": []}
        yield fake


def hook(folder: StateFolder, wanted: str, event: Any) -> str:
    """Run the program as a hook; return its ruling."""
    given = {"PATH": "/usr/bin:/bin", "HOME": str(folder.path.parent), "DISPATCH_HOME": str(folder.path)}
    text = event if isinstance(event, str) else json.dumps(event)
    done = subprocess.run(
        [sys.executable, "-m", "mcp_plugin.main", "witness", wanted],
        input=text, env=given, cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)["hookSpecificOutput"]["permissionDecision"] if done.stdout else ""


def ask_person(folder: StateFolder, asked: Any, label: str = "Allow once", call: str = "t", took: float = 2.0) -> None:
    """Have a picker shown and answered, some seconds later by the hook's own clock."""
    given = {"session_id": "s", "tool_use_id": call, "tool_name": PICKER, "tool_input": {"questions": [asked]}}
    assert hook(folder, "--calling", given) == ""
    if folder.picks.exists():
        entries = json.loads(folder.picks.read_text())
        for entry in entries:
            entry["at"] -= took if entry["answer"] is None else 0.0
        folder.write_private(folder.picks, json.dumps(entries).encode())
    assert hook(folder, "--picked", {**given, "tool_response": {"answers": {asked["question"]: label}}}) == ""


APPROVE = {
    "session_id": "s",
    "cwd": "/",
    "tool_name": f"{PREFIX}dispatch_act",
    "tool_input": {"action": "approve", **IDS},
}


def test_one_yes_is_for_one_call(folder: StateFolder, node: FakeApi) -> None:
    assert hook(folder, "--calling", APPROVE) == "ask"
    ask_person(folder, GATE)
    assert folder.picks.stat().st_mode & 0o077 == 0
    assert hook(folder, "--calling", APPROVE) == "allow"
    assert hook(folder, "--calling", APPROVE) == "ask"


def test_two_calls_at_once_share_no_yes(folder: StateFolder, node: FakeApi) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ask_person(folder, GATE)
    with ThreadPoolExecutor(4) as pool:
        rulings = sorted(pool.map(lambda _: hook(folder, "--calling", APPROVE), range(4)))
    assert rulings == ["allow", "ask", "ask", "ask"]
    with kept(folder), (folder.picks.with_suffix(".lock")).open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_command_is_found_wherever_the_host_has_it(folder: StateFolder) -> None:
    """Seen to fail where the member `command` alone is looked at."""
    folder.path.mkdir(mode=0o700)
    for given_ in ({"command": "dispatch accept x"}, {"watch": [{"run": "dispatch accept x"}]}):
        assert hook(folder, "--shell", {"tool_name": "Monitor", "cwd": "/", "tool_input": given_}) == "ask"
    assert hook(folder, "--shell", {"tool_name": "Monitor", "cwd": "/", "tool_input": {"watch": ["ls"]}}) == ""


@pytest.mark.parametrize("tool", ["Write", "NotebookEdit"])
def test_a_file_is_written_in_the_state_folder_by_no_other_name(folder: StateFolder, tool: str) -> None:
    """Seen to fail without the look, and with a look at the name alone."""
    folder.path.mkdir(mode=0o700)
    (folder.path.parent / "link").symlink_to(folder.path)
    member = "notebook_path" if tool == "NotebookEdit" else "file_path"

    def ruling(path: str) -> str:
        event = {"tool_name": tool, "cwd": str(folder.path.parent), "tool_input": {member: path}}
        return hook(folder, "--shell", event)

    for path in (str(folder.picks), "state/picks.json", "link/picks.json", f"{folder.path}/../link/x"):
        assert ruling(path) == "ask", path
    assert ruling("notes.txt") == ruling(f"{folder.path}/../notes.txt") == ""


def test_what_was_judged_goes_into_the_call(
    folder: StateFolder, node: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the host asks, and where it does not any more. Seen to fail without the call's new input."""

    def ruling(tool: str, given_: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        event = {**APPROVE, "cwd": str(tmp_path), "tool_name": f"{PREFIX}{tool}", "tool_input": given_}
        said = json.loads(handle(folder, "--calling", event, time.time()))["hookSpecificOutput"]
        return said["permissionDecision"], said["updatedInput"]

    monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)
    node["GET /v1/contacts"] = {"trust": [{"peer": "bob@example.org", "alias": "bob"}]}
    node["GET /v1/dispatches"] = {"dispatches": [row(FIRST), row(SECOND)]}
    (tmp_path / "notes.txt").symlink_to("/etc/hostname")
    send = {"recipient": "bob", "task": "Look", "files": ["notes.txt"]}
    exact = {**send, "recipient": "bob@example.org", "files": [str(Path("/etc/hostname").resolve())]}
    assert ruling("dispatch_send", send) == ("ask", exact)
    ask_person(folder, GATE)
    short = {"action": "approve", **IDS, "dispatch_id": FIRST[-8:]}
    for decision in ("allow", "ask"):
        assert ruling("dispatch_act", short) == (decision, {**short, "dispatch_id": FIRST})


def test_an_answer_that_came_at_once_is_no_person_s(folder: StateFolder, node: FakeApi) -> None:
    event = {"session_id": "s", "tool_use_id": "t", "tool_name": PICKER, "tool_input": {"questions": [GATE]}}
    answer = {**event, "tool_response": {"answers": {GATE["question"]: "Allow once"}}}
    for took, ruling in ((PERSON_SECONDS - 0.1, "ask"), (PERSON_SECONDS + 0.1, "allow")):
        shown_at = time.time() - 10
        handle(folder, "--calling", event, shown_at)
        handle(folder, "--picked", answer, shown_at + took)
        assert hook(folder, "--calling", APPROVE) == ruling


def test_what_is_kept_is_bounded(folder: StateFolder, node: FakeApi) -> None:
    for number in range(MAX_KEPT + 3):
        event = {"session_id": "s", "tool_use_id": f"{number}", "tool_name": PICKER}
        handle(folder, "--calling", {**event, "tool_input": {"questions": [GATE]}}, 1.0)
        handle(folder, "--calling", {**event, "tool_input": {"questions": [{**GATE, "question": "x" * 70_000}]}}, 1.0)
    found = json.loads(folder.picks.read_text())
    assert [each["call"] for each in found] == [str(number) for number in range(3, MAX_KEPT + 3)]


@pytest.mark.parametrize("event", ["", "nonsense", "[]", {}, {**APPROVE, "tool_input": {"action": "approve"}}])
def test_what_cannot_be_judged_is_asked(folder: StateFolder, node: FakeApi, event: Any) -> None:
    assert hook(folder, "--calling", event) == "ask"
    assert hook(folder, "--picked", event) == ""


def test_a_spoilt_record_or_a_node_in_trouble_is_asked(folder: StateFolder, node: FakeApi) -> None:
    ask_person(folder, GATE)
    folder.picks.chmod(0o644)
    assert hook(folder, "--calling", APPROVE) == "ask", "others could have written it"
    folder.write_private(folder.picks, b"{")
    assert hook(folder, "--calling", APPROVE) == "ask"
    folder.write_private(folder.picks, b'[{"session": "s", "answer": "Allow once"}]')
    assert hook(folder, "--calling", APPROVE) == "ask", "of an older version"
    ask_person(folder, GATE)
    assert hook(folder, "--calling", {**APPROVE, "more": "x" * MAX_INPUT}) == "ask", "it is not read to its end"
    node["GET /v1/approvals"] = page_of_calls()
    assert hook(folder, "--calling", APPROVE) == "ask"


def test_a_node_that_does_not_answer_is_not_waited_for(folder: StateFolder, node: FakeApi) -> None:
    import threading

    held = threading.Event()
    node["GET /v1/approvals"] = lambda _: held.wait(HANG) and page_of_calls()
    try:
        assert hook(folder, "--calling", APPROVE) == "ask"
    finally:
        held.set()


def test_the_hooks_are_there_for_every_tool_that_changes_or_reads_something() -> None:
    hooks = json.loads((ROOT / "mcp_plugin/plugin/hooks/hooks.json").read_text())["hooks"]
    ours, commands = hooks["PreToolUse"]
    assert set(commands["matcher"].split("|")) == {*SHELLS, "Write", "Edit", "NotebookEdit", "Read", "Grep"}
    changing = [name.removeprefix("dispatch_") for name, entry in TOOLS.items() if not entry.reads]
    named = ours["matcher"].removeprefix(f"{PICKER}|{PREFIX}dispatch_(").removesuffix(")").split("|")
    assert sorted(named) == sorted(changing)
    assert hooks["PostToolUse"][0]["matcher"] == PICKER


# --- in the host, where the person has allowed every tool of ours for good

ALLOWED = {"permissions": {"allow": [f"{PREFIX}*"]}}


async def test_the_picker_s_yes_is_enough(pair: Pair) -> None:
    _, bob = pair
    dispatch_id = await sent(pair, bash("echo one"), bash("echo two"), task="Count the lines")
    session = await play(
        bob,
        "/dispatch:dispatch",
        use("dispatch_read", what="inbox"),
        decide(dispatch_id),
        use("dispatch_act", action="accept", dispatch_id=dispatch_id),
        *[ask, relay(dispatch_id)] * 2,
        lambda heard: say(heard.last["status"]),
        answers=Answers(picks=["Accept", "Allow once", "Allow once"]),
        settings=ALLOWED,
    )
    assert session.final == "completed", session
    assert session.asked == []
