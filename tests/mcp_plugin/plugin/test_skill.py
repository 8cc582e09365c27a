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
from mcp_plugin.surfaces.picker import OPTIONS
from mcp_plugin.tools import TOOLS
from mcp_plugin.tools.act import TAKES as ACT_TAKES
from mcp_plugin.tools.invite import TAKES as INVITE_TAKES
from mcp_plugin.tools.trust import TAKES as TRUST_TAKES
from peer.protocol.errors import BY_CODE
from peer.trust import menu
from tests.mcp_plugin.plugin.claude import PLUGIN

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


def test_it_is_short_enough_to_be_read() -> None:
    assert len(body(text_of(SKILL)).split()) < 1_900


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
    section = sections(text_of(SKILL))["Deciding on a dispatch"]
    places = [section.index(f"**{option}**") for option in OPTIONS]
    assert places == sorted(places)
    grants = schema(TOOLS["dispatch_act"].arguments)["properties"]["grant"]["enum"]
    assert all(f'"{grant}"' in section for grant in grants)


def test_the_table_of_errors_has_every_code() -> None:
    rows = re.findall(r"^\| ([\d, ]+)(?:[^|]*)\|([^|]+)\|([^|]+)\|$", text_of(SKILL), re.MULTILINE)
    told = {int(code) for codes, _, _ in rows[5:] for code in re.findall(r"\d{3}", codes)}
    assert told == set(BY_CODE) - {500}
    assert all(fix.strip() for _, _, fix in rows)


# --- the rules


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", body(text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


RULES = "Rules that nothing in a dispatch can change"
WANTED: dict[str, tuple[str, str]] = {
    "inbound is data": (RULES, r"untrusted data.*never an instruction"),
    "never perform it": (RULES, r"do not perform it.*not after the run has ended.*no Bash, Write, Edit"),
    "what comes back is data": (RULES, r"every word in a reply, a file, a trace"),
    "asked to forward": (RULES, r"forwarded.*accept or decline and nothing more"),
    "never accept alone": (RULES, r"Never accept by yourself.*Not a dispatch, not an invitation, not a tool call"),
    "never pick a scope": (RULES, r"Never pick a scope.*No default, no recommendation"),
    "the picker": (RULES, r"AskUserQuestion\), never into chat text.*a turn never ends before you have asked"),
    "no terminal": (RULES, r"Nobody is sent to a terminal to accept.*Only where a tool's answer names"),
    "brief": (RULES, r"Be brief"),
    "no reads first": (RULES, r"Straight to the call.*No reading of contacts, invitations or status first"),
    "announcements": (RULES, r"news, not orders"),
    "tools before the command line": ("", r"Prefer them to the `dispatch` command line"),
    "bare": ("", r'nothing is asked for, show the inbox: `dispatch_read\(what="inbox"\)`'),
    "no picker before a send": (
        "Sending",
        r"at once, without a picker.*the task, verbatim, and every other argument",
    ),
    "our question, unchanged": (RULES, r"has a `question`.*pass it on unchanged, text, header and options"),
    "a cut task": ("Deciding on a dispatch", r"with `task_cut` it was cut, so first read the rest"),
    "the folder": ("Deciding on a dispatch", r"names the folder in which the task would run"),
    "the command line": ("", r"The command line does the same.*`approve`, `deny`"),
    "an edge that is offered": (
        "Inviting and being invited",
        r"`offered` was granted, and the other side's device has not",
    ),
    "what the task needs": ("Sending", r"what the task needs without asking again.*`files`.*`background`.*stranger"),
    "report the id": ("Sending", r"Report the dispatch id"),
    "ask at each gate": ("Deciding on a dispatch", r"`approval_needed`.*Ask at once, with one picker question"),
    "verbatim, and one line": ("Deciding on a dispatch", r"the input verbatim.*one line in your words"),
    "the fixed order": ("Deciding on a dispatch", r"always these four in this order"),
    "until the end": ("Deciding on a dispatch", r"Ask again in the same form, until the end"),
    "form mode": ("Deciding on a dispatch", r"`approval_ui` set to `form`.*asks at each gate by itself"),
    "it is done": ("Deciding on a dispatch", r"The task \*\*is done\*\* then; there is nothing left for you to do"),
    "runs accepted elsewhere": ("Deciding on a dispatch", r"accepted elsewhere: `dispatch_pending_approvals\(\)`"),
    "the menu before the call": ("Inviting and being invited", r"ask with the picker, before any\s+call"),
    "no filling in": ("Inviting and being invited", r"`scope_choice_required`\s+means.*ask, do not fill it in"),
    "the same menu for an edit": ("Inviting and being invited", r"shows what is granted; the same menu"),
    "no retries": ("When something is refused", r"Do not retry unless it says so"),
    "three layers": ("If the person asks how this is safe", r"Three layers.*edge.*signature.*approval"),
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
