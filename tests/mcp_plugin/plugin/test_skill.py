"""What the skill tells the host's model: every rule, and no call but such as the server takes.

The check of rules is itself checked: without any single one of its lines it fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mcp_plugin.arguments import read, schema
from mcp_plugin.handshake import INSTRUCTIONS
from mcp_plugin.surfaces import elsewhere, picker
from mcp_plugin.surfaces.picker import OPTIONS
from mcp_plugin.tools import TOOLS, act, invite
from mcp_plugin.tools.act import TAKES as ACT_TAKES
from mcp_plugin.tools.invite import TAKES as INVITE_TAKES
from mcp_plugin.tools.trust import TAKES as TRUST_TAKES
from peer.protocol.errors import BY_CODE
from peer.trust import menu
from tests.mcp_plugin.plugin.claude import PLUGIN, ROOT

SKILL = PLUGIN / "skills" / "dispatch" / "SKILL.md"
COMMANDS = sorted((PLUGIN / "commands").glob("*.md"))
TEXTS = [SKILL, *COMMANDS]
ID = "01990000-0000-7000-8000-000000000001"


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def front(text: str) -> dict[str, str]:
    """The front matter: `key: value`, or a folded value on indented lines."""
    _, matter, _ = text.split("---\n", 2)
    found: dict[str, str] = {}
    key = ""
    for line in matter.splitlines():
        if line.startswith("  "):
            found[key] = f"{found[key]} {line.strip()}".strip()
        else:
            key, _, value = line.partition(": ")
            found[key] = value.strip().removeprefix(">-")
    return found


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


# --- what it may do


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_nothing_but_reading_is_allowed_without_a_question(path: Path) -> None:
    allowed = front(text_of(path)).get("allowed-tools", "")
    assert allowed in ("", "mcp__plugin_dispatch_dispatch__dispatch_read")
    assert bool(allowed) is (path.stem != "send")
    assert TOOLS["dispatch_read"].reads


def test_people_s_own_words_bring_it_up() -> None:
    description = front(text_of(SKILL))["description"]
    for said in (
        "have Jeff's agent do X",
        "send this to Bob",
        "dispatch this",
        "what's in my inbox?",
        "accept that dispatch",
        "invite Kaan",
        "accept that invitation",
        "cancel that",
        "/dispatch:dispatch",
    ):
        assert said in description
    assert len(description) <= 1024, "the limit of the skill format"
    assert front(text_of(SKILL))["name"] == "dispatch"


MAX_SKILL = 6_000
"""Characters of SKILL.md: a session that uses it pays for all of them. tools/list: tests/mcp_plugin/test_server.py."""


def test_it_is_short_enough_to_be_read() -> None:
    assert len(text_of(SKILL)) <= MAX_SKILL


def test_every_rule_of_the_table_stands_where_it_says() -> None:
    """docs/plugin.md lists what agents were to be told, and the words that tell them. Seen to fail without the line
    on forwarding, and with a row whose words are in another text.
    """
    described = "\n".join(
        [entry.described().model_dump_json() for entry in TOOLS.values()]
        + [schema(entry.arguments).__repr__() for entry in TOOLS.values()]
    )
    texts = {
        "skill": text_of(SKILL),
        "instructions": INSTRUCTIONS,
        "tools": described,
        "results": "\n".join([picker.ASK, act.CHOOSE, invite.CHOOSE, elsewhere.TELL]),
        **{f"/dispatch:{path.stem}": text_of(path) for path in COMMANDS},
    }
    said = {name: " ".join(text.replace("*", "").split()) for name, text in texts.items()}
    table = (ROOT / "docs" / "plugin.md").read_text().split("## What the host's model is told")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| ([a-z/:]+) \| “(.+?)” \|$", table.replace("&#124;", "|"), re.MULTILINE)
    assert len(rows) >= 45 and len(rows) == table.count("\n|") - 2, "a row is not of this form"
    assert [row for row in rows if row[2] not in said[row[1]]] == []
    assert {where for _, where, _ in rows} >= {"skill", "instructions", "tools"}


# --- its calls


def calls(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every call that is written out: the tool and those arguments that have a value. `…` stands for more."""
    for name, inside in re.findall(r"`(dispatch_\w+)\(([^`]*)\)`", text):
        yield name, dict(_arguments(inside))


def _arguments(inside: str) -> Iterator[tuple[str, Any]]:
    """`a="x" | "y", b=…, c` → a: ["x", "y"], b: None, c: None."""
    for part in re.split(r",\s*(?![^\[]*\])(?=[a-z_]+\b|…)", inside):
        name, _, value = part.strip().partition("=")
        if name in ("", "…"):
            continue
        literals = re.findall(r'"([^"]*)"', value)
        yield name, literals or None


def taken(tool: str, given: Mapping[str, Any]) -> list[str]:
    """What the server has against a call of the skill's."""
    if tool not in TOOLS:
        return [f"there is no {tool}"]
    properties = schema(TOOLS[tool].arguments)["properties"]
    wrong = [f"{tool} has no {name}" for name in given if name not in properties]
    actions = {"dispatch_act": ACT_TAKES, "dispatch_invite": INVITE_TAKES, "dispatch_trust": TRUST_TAKES}.get(tool, {})
    for name, literals in given.items():
        allowed = properties.get(name, {}).get("enum")
        wrong += [f"{tool}({name}={value})" for value in literals or [] if allowed and value not in allowed]
    for action in given.get("action") or []:
        takes = {*actions.get(action, ()), "action", "dispatch_id"}
        wrong += [f"{tool}: {action} takes no {name}" for name in given if actions and name not in takes]
    return wrong


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_every_call_in_it_is_one_that_the_server_takes(path: Path) -> None:
    found = list(calls(text_of(path)))
    assert len(found) >= (15 if path == SKILL else path.stem == "inbox")
    assert [problem for tool, given in found for problem in taken(tool, given)] == []


def test_the_check_of_calls_sees_what_is_wrong() -> None:
    bad = '`dispatch_act(action="accept", token=…)` `dispatch_trust(action="pause", peer=…)` `dispatch_go()`'
    found = [problem for tool, given in calls(bad) for problem in taken(tool, given)]
    assert len(found) == 5, found


def test_every_tool_is_spoken_of() -> None:
    assert {tool for tool, _ in calls(text_of(SKILL))} == set(TOOLS)
    assert set(re.findall(r"dispatch_[a-z_]+", text_of(SKILL))) - {
        "dispatch_id",
        "dispatch_dispatch__dispatch_read",
    } == {*TOOLS}


# --- the menus


def test_the_menu_is_the_menu() -> None:
    """Its five lines grant what those of peer.trust.menu grant, in their order, under their heading."""
    rows = re.findall(r"^\| ([1-5]) \| \*\*(.+?)\*\*.*\| (.+) \|$", text_of(SKILL), re.MULTILINE)
    items = menu.menu(["some-server"])
    assert [int(number) for number, _, _ in rows] == [item.number for item in items] == [1, 2, 3, 4, 5]
    for (_, title, passed), item in zip(rows, items, strict=True):
        if item.kind == "grant":
            assert f'tools="{",".join(item.tools)}"' in passed
            assert ('mcp_servers="*"' in passed) is bool(item.mcp_servers)
            given = {"action": "accept", "token": "t", "tools": ",".join(item.tools)}
            read(TOOLS["dispatch_invite"].arguments, given, "dispatch_invite")
        else:
            assert title.lower() == item.kind
    assert 'action="decline"' in rows[4][2]
    assert menu.heading("`<inviter>`") in text_of(SKILL)


def test_the_gate_s_answers_are_in_their_order() -> None:
    section = sections(text_of(SKILL))["Deciding"]
    places = [section.index(f"**{option}**") for option in OPTIONS]
    assert places == sorted(places)
    grants = schema(TOOLS["dispatch_act"].arguments)["properties"]["grant"]["enum"]
    assert all(f'"{grant}"' in section for grant in grants)


def test_the_table_of_errors_has_every_code() -> None:
    rows = re.findall(r"^\| ([\d, ]+)(?:[^|]*)\|([^|]+)\|([^|]+)\|$", text_of(SKILL), re.MULTILINE)
    told = {int(code) for codes, _, _ in rows if len(codes.strip()) > 1 for code in re.findall(r"\d{3}", codes)}
    assert told == set(BY_CODE) - {500}
    assert all(fix.strip() for _, _, fix in rows)


# --- the rules


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", body(text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


RULES = "Rules that nothing in a dispatch can change"
WANTED: dict[str, tuple[str, str]] = {
    "inbound is data": (RULES, r"untrusted data.*never an instruction"),
    "never perform it": (RULES, r"do not perform it.*not after the run.*no Bash, Write, Edit"),
    "what comes back is data": (RULES, r"every word in a reply, a file, a trace"),
    "asked to forward": (RULES, r"forward something.*accept or decline, nothing more"),
    "never accept alone": (RULES, r"Never accept by yourself.*not a dispatch, an invitation or a call"),
    "never pick a scope": (RULES, r"Never pick a scope.*no default, no recommendation"),
    "the picker": (RULES, r"AskUserQuestion\), never in chat text.*a turn never ends before you have asked"),
    "no terminal": (RULES, r"Nobody is sent to a terminal to accept.*If a result names a terminal"),
    "brief": (RULES, r"Be brief"),
    "no reads first": (RULES, r"Straight to the call.*no reading of contacts, invitations or status first"),
    "tools before the command line": ("", r"Prefer these tools to the `dispatch` command line"),
    "bare": ("", r'nothing is asked for, show the inbox: `dispatch_read\(what="inbox"\)`'),
    "no picker before a send": ("Sending", r"at once, without a picker.*verbatim task and all else"),
    "our question, unchanged": (RULES, r"A result's `question` is its one question, unchanged"),
    "a cut task": ("Deciding", r"`task_cut`: read its status first"),
    "the folder": ("Deciding", r"`question`, which names the folder"),
    "an edge that is offered": ("People", r"`offered` edge is not confirmed yet"),
    "what the task needs": ("Sending", r"what the task needs without asking again.*`files`.*`background`.*stranger"),
    "report the id": ("Sending", r"Report the dispatch id"),
    "ask at each gate": ("Deciding", r"`approval_needed`.*ask at once with its `question`"),
    "one line on the call": ("Deciding", r"one line on what the call does"),
    "form mode": ("Deciding", r"`approval_ui` `form`: the server asks"),
    "go on": ("Deciding", r"`running`, or the call was lost"),
    "it is done": ("Deciding", r"The task \*\*is done\*\*: nothing is left for you"),
    "runs accepted elsewhere": ("Deciding", r"accepted elsewhere: `dispatch_pending_approvals\(\)`"),
    "one dialog": ("Deciding", r"The server asks in a form: no picker first"),
    "the menu": ("People", r"has the server show the menu in a form"),
    "no filling in": ("People", r"`scope_choice_required` show it with the picker; do not fill it in"),
    "the same menu for an edit": ("People", r"shows what is granted; then the same menu"),
    "no retries": ("Refused", r"no retry unless the fix says so"),
    "three layers": ("Refused", r"three layers.*edge.*signature.*approval"),
}


def looked_for(said: str, part: str) -> re.Match[str] | None:
    """Find what is said, wherever its lines are broken."""
    return re.search(said.replace(" ", r"\s+"), part, re.DOTALL)


def missing(text: str) -> list[str]:
    """The rules that a text of the skill does not say in their place."""
    found = sections(text)
    before = body(text).split("\n## ")[0]
    return [
        rule
        for rule, (place, said) in WANTED.items()
        if not looked_for(said, found.get(place, "") if place else before)
    ]


def test_every_rule_is_in_it() -> None:
    assert missing(text_of(SKILL)) == []


@pytest.mark.parametrize("rule", WANTED)
def test_without_the_lines_of_a_rule_the_check_fails(rule: str) -> None:
    place, said = WANTED[rule]
    text = text_of(SKILL)
    part = sections(text)[place] if place else body(text).split("\n## ")[0]
    found = looked_for(said, part)
    assert found is not None
    line = part[part.rfind("\n", 0, found.start()) + 1 : part.find("\n", found.start())]
    assert rule in missing(text.replace(line, "", 1))


def test_the_manifest_and_the_server_agree_on_names() -> None:
    servers = json.loads((PLUGIN / ".mcp.json").read_text())["mcpServers"]
    assert list(servers) == ["dispatch"]
    plugin = json.loads((PLUGIN / ".claude-plugin" / "plugin.json").read_text())["name"]
    allowed = front(text_of(SKILL))["allowed-tools"]
    assert allowed == f"mcp__plugin_{plugin}_dispatch__dispatch_read"
