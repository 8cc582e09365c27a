"""Policy: who may call what, where a path really leads, and how narrow an `always` is."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sandbox.frames import Rule
from sandbox.policy import decision as policy
from sandbox.policy.decision import GRANTABLE_TOOLS, Scope

SCOPE = Scope(
    tools=GRANTABLE_TOOLS,
    roots=("/home/bob/shop", "/run/d/workspace"),
    workspace="/run/d/workspace",
    project="/home/bob/shop",
    cwd="/project",
    home="/home/agent",
)
PLACES = {
    "/project": "/home/bob/shop",
    "/workspace": "/run/d/workspace",
    "/shared": "/home/bob/secret",
    "/home/agent": "/run/d/home",
}


def resolve(path: str) -> str | None:
    """The agent's view of SCOPE, with one folder that is seen but not granted."""
    for place, real in PLACES.items():
        if policy.inside(path, (place,)):
            return real + path[len(place) :]
    return None


decide = partial(policy.decide, resolve=resolve)
AUTO = replace(SCOPE, approval="auto")


def rule_for(scope: Scope, tool: str, arguments: dict[str, Any]) -> Rule | None:
    """What `always` would store for a call."""
    return decide(scope, tool, arguments).rule


PIECES = st.sampled_from(
    [
        "..",
        ".",
        "a",
        "b",
        "",
        "~",
        "shop",
        "home",
        "bob",
        "etc",
        "run",
        "d",
        "workspace",
        "x y",
        "ü",
        "shopping",
    ]
)
PATHS = st.builds(
    lambda lead, parts: lead + "/".join(parts),
    st.sampled_from(["", "/", "//", "~/"]),
    st.lists(PIECES, min_size=1, max_size=8),
).filter(bool)
WILD = st.sampled_from(["*", "**", "*.py", "{a,..}", "?", "[a-z]", "{/etc,x}", "..", "a", "\\..", "+(..|a)", "~"])
WORDS = st.sampled_from(["", "x", "~", "..", "\0", "\ud800", "*/..", "/etc"])
JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    WORDS,
    st.lists(WORDS, max_size=2),
    st.dictionaries(WORDS, WORDS, max_size=2),
)


def call(tool: str, where: str = "a.txt") -> dict[str, Any]:
    return {
        "Read": {"file_path": where},
        "Write": {"file_path": where, "content": "x"},
        "Edit": {"file_path": where, "old_string": "a", "new_string": "b"},
        "Glob": {"pattern": "*.py", "path": where},
        "Grep": {"pattern": "needle", "path": where},
        "Bash": {"command": where},
    }[tool]


@pytest.mark.parametrize("tool", sorted(GRANTABLE_TOOLS))
def test_a_manual_edge_asks_and_an_automatic_one_allows_what_is_granted(tool: str) -> None:
    assert decide(SCOPE, tool, call(tool)).verdict == "ask"
    assert decide(AUTO, tool, call(tool)).verdict == "allow"
    assert decide(replace(AUTO, tools=GRANTABLE_TOOLS - {tool}), tool, call(tool)).verdict == "deny"


@pytest.mark.parametrize("tool", sorted(GRANTABLE_TOOLS))
def test_an_edge_with_a_review_allows_what_stays_in_the_views(tool: str) -> None:
    review = replace(SCOPE, approval="review")
    assert decide(review, tool, call(tool)).verdict == "allow"
    assert decide(replace(review, tools=GRANTABLE_TOOLS - {tool}), tool, call(tool)).verdict == "deny"
    moved = decide(review, "Bash", {"command": "ls"}, cwd="/elsewhere")
    assert moved.verdict == "allow" and decide(SCOPE, "Bash", {"command": "ls"}, cwd="/elsewhere").verdict == "ask"


def test_an_edge_with_a_review_asks_about_a_server_of_the_persons() -> None:
    """It runs outside the sandbox, where nothing holds back what it does."""
    name, given_ = "mcp__mail__send", {"to": "x"}
    review = replace(SCOPE, approval="review", mcp_tools=frozenset({name}))
    assert decide(review, name, given_).verdict == "ask"
    rule = rule_for(review, name, given_)
    assert rule is not None and decide(replace(review, rules=frozenset({rule})), name, given_).verdict == "allow"
    assert decide(replace(review, approval="auto"), name, given_).verdict == "allow"


@pytest.mark.parametrize(
    "tool",
    ["Task", "Agent", "WebFetch", "WebSearch", "Skill", "ToolSearch", "NotebookEdit", "KillShell",
    "CronCreate", "bash", "READ", "", "mcp__mail__send", "ExitPlanMode"],
)  # fmt: skip
def test_everything_else_is_denied_even_when_a_scope_names_it(tool: str) -> None:
    scope = replace(AUTO, tools=GRANTABLE_TOOLS | {tool})
    assert decide(scope, tool, {"command": "x", "file_path": "x", "prompt": "x"}).verdict == "deny"


def test_an_mcp_tool_is_granted_by_its_whole_name() -> None:
    scope = replace(SCOPE, mcp_tools=frozenset({"mcp__mail__read"}))
    assert decide(scope, "mcp__mail__read", {"id": 1}).verdict == "ask"
    for other in ("mcp__mail__send", "mcp__mail__read2", "mcp__mail", "mcp__plugin_mail__read"):
        assert decide(scope, other, {"id": 1}).verdict == "deny"


@pytest.mark.parametrize(
    ("where", "path", "verdict"),
    [
        ("a.txt", "/home/bob/shop/a.txt", "ask"),
        ("./sub/../a.txt", "/home/bob/shop/a.txt", "ask"),
        ("//project//x/../a.txt", "/home/bob/shop/a.txt", "ask"),
        ("/workspace/out/r.md", "/run/d/workspace/out/r.md", "ask"),
        ("../workspace/out/r.md", "/run/d/workspace/out/r.md", "ask"),
        ("../projects/list", "/projects/list", "deny"),
        ("/shared/x", "/home/bob/secret/x", "deny"),
        ("/home/bob/shop/a.txt", "/home/bob/shop/a.txt", "deny"),
        ("../../../../../etc/passwd", "/etc/passwd", "deny"),
        ("/project/../.ssh/id_ed25519", "/.ssh/id_ed25519", "deny"),
        ("~/.claude/settings.json", "/run/d/home/.claude/settings.json", "deny"),
        ("~bob/x", "/home/bob/shop/~bob/x", "ask"),
    ],
)
def test_a_path_is_judged_where_it_leads(where: str, path: str, verdict: str) -> None:
    for tool in ("Read", "Write", "Edit", "Grep"):
        decision = decide(SCOPE, tool, call(tool, where))
        assert (decision.path, decision.verdict) == (path, verdict)


def test_a_symlink_is_judged_by_its_target() -> None:
    links = {"/project/notes": "/home/bob/.ssh/id_ed25519"}
    decision = policy.decide(AUTO, "Read", call("Read", "notes"), resolve=links.get)
    assert (decision.verdict, decision.path) == ("deny", "/home/bob/.ssh/id_ed25519")


@pytest.mark.parametrize(
    ("pattern", "path", "shown"),
    [
        ("**/*.py", None, "/home/bob/shop"),
        ("src/**/*.py", None, "/home/bob/shop/src"),
        ("src/../lib/*.py", None, "/home/bob/shop/lib"),
        ("../*", None, "/"),
        ("/etc/*", None, "/etc"),
        ("/etc/passwd", "src", "/etc"),
        ("~/.ssh/*", None, "/run/d/home/.ssh"),
        ("*.py", "..", "/"),
        ("x/*", "/workspace", "/run/d/workspace/x"),
    ],
)
def test_a_glob_starts_where_its_plain_part_leads(pattern: str, path: str | None, shown: str) -> None:
    decision = decide(AUTO, "Glob", {"pattern": pattern} | ({"path": path} if path else {}))
    assert decision.path == shown
    assert decision.verdict == ("allow" if policy.inside(shown, SCOPE.roots) else "deny")


@pytest.mark.parametrize("pattern", ["*/../../x", "{a,../..}/x", "*/{..,b}/x", "{/etc,src}/*", "?/\\../x",
                                     "@(..|a)/*", "{~/.ssh,x}/*"])  # fmt: skip
def test_a_glob_that_climbs_behind_a_wildcard_is_denied(pattern: str) -> None:
    assert decide(AUTO, "Glob", {"pattern": pattern}).verdict == "deny"


@given(st.sampled_from(["Read", "Write", "Edit", "Grep"]), PATHS)
@example("Read", "~")
def test_no_spelling_of_a_path_is_allowed_outside_the_roots(tool: str, where: str) -> None:
    decision = decide(AUTO, tool, call(tool, where))
    expanded = SCOPE.home + where[1:] if where == "~" or where.startswith("~/") else where
    named = "/" + posixpath.normpath(posixpath.join(SCOPE.cwd, expanded)).lstrip("/")
    meant = resolve(named)
    assert decision.path == (meant or named)
    assert (decision.verdict == "allow") == (meant is not None and policy.inside(meant, SCOPE.roots))


@given(st.sampled_from(sorted(GRANTABLE_TOOLS)), PATHS, st.sampled_from([None, "/", "/project/sub", "/shared"]))
def test_what_is_written_out_means_the_same_wherever_it_is_read(tool: str, where: str, cwd: str | None) -> None:
    """Absolute, normal, and judged as the call was, also by a reader that is somewhere else."""
    decision = decide(AUTO, tool, call(tool, where), cwd=cwd)
    again = decide(AUTO, tool, decision.input, cwd="/elsewhere")
    assert (again.verdict, again.path) == (decision.verdict, decision.path)
    assert again.input == decision.input
    if decision.verdict == "allow" and tool != "Bash":
        named = decision.input["file_path" if "file_path" in decision.input else "path"]
        assert isinstance(named, str) and named == "/" + posixpath.normpath(named).lstrip("/")


BLANKS = [chr(code) for code in (*range(0x21), 0x7F, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
          0x202F, 0x205F, 0x3000, 0xFEFF)]  # fmt: skip
"""Everything that is white space to Python, to JavaScript or to a shell, and every control of ASCII."""


@pytest.mark.parametrize("tool", sorted(GRANTABLE_TOOLS - {"Bash"}))
def test_a_path_that_readers_would_cut_differently_is_refused(tool: str) -> None:
    for blank in BLANKS:
        for where in (f"{blank}/project/a", f"/project/a{blank}", f"/project/a{blank}/."):
            decision = decide(AUTO, tool, call(tool, where))
            assert decision.verdict == "deny" and decision.reason.startswith("a path may not"), (blank, where)
            assert decision.input == call(tool, where), "the record has what was asked for"
    assert decide(AUTO, tool, call(tool, "a b/c\u00a0d/e\u200df")).verdict == "allow"
    assert decide(AUTO, tool, call(tool, "."), cwd="/project/ ").verdict == "deny"


def test_a_command_in_another_folder_is_asked_about_whatever_was_stored() -> None:
    rule = Rule(tool="Bash", pattern="rm -rf build")
    ruled = replace(SCOPE, rules=frozenset({rule}))
    command = {"command": "rm -rf build"}
    assert decide(ruled, "Bash", command, cwd="/project").by == "rule"
    elsewhere = decide(ruled, "Bash", command, cwd="/workspace", session=frozenset({rule}))
    assert (elsewhere.verdict, elsewhere.rule, elsewhere.choices) == ("ask", None, ())
    assert decide(AUTO, "Bash", command, cwd="/workspace").verdict == "allow"


def test_a_relative_path_starts_where_the_program_is() -> None:
    for tool in sorted(GRANTABLE_TOOLS - {"Bash"}):
        assert decide(SCOPE, tool, call(tool, "a"), cwd="/workspace").path == "/run/d/workspace/a"
    assert decide(SCOPE, "Grep", {"pattern": "x"}, cwd="/workspace").path == "/run/d/workspace"
    stored = replace(SCOPE, rules=frozenset({Rule(tool="Grep", pattern="/home/bob/shop", reach="folder")}))
    assert decide(stored, "Grep", {"pattern": "x"}).by == "rule"
    assert decide(stored, "Grep", {"pattern": "x"}, cwd="/workspace").verdict == "ask"


@given(st.lists(PIECES | WILD, min_size=1, max_size=6), st.none() | PATHS)
def test_an_allowed_glob_cannot_name_a_path_outside(parts: list[str], path: str | None) -> None:
    pattern = "/".join(parts)
    assume(pattern)
    decision = decide(AUTO, "Glob", {"pattern": pattern, "path": path})
    if decision.verdict == "allow":
        assert decision.path is not None and policy.inside(decision.path, SCOPE.roots)
        assert decision.rule is not None
        tail = decision.rule.pattern
        assert not posixpath.normpath(tail.replace("$WORKSPACE", SCOPE.workspace)).startswith("/etc")


@given(
    st.sampled_from([*sorted(GRANTABLE_TOOLS), "Task"]),
    st.dictionaries(
        st.sampled_from(["file_path", "path", "pattern", "command", "content", "old_string", "new_string"]),
        JSON,
    ),
)
def test_any_input_gets_a_verdict_and_never_an_exception(tool: str, arguments: dict[str, Any]) -> None:
    decision = decide(AUTO, tool, arguments)
    assert decision.verdict in ("allow", "deny")
    assert (decision.rule is None) == (decision.verdict == "deny")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("Read", {}),
        ("Read", {"file_path": ""}),
        ("Read", {"file_path": ["a"]}),
        ("Read", {"file_path": "a\0b"}),
        ("Read", {"file_path": "\ud800"}),
        ("Write", {"file_path": "a"}),
        ("Grep", {"pattern": "x", "path": 3}),
        ("Bash", {"command": None}),
        ("Bash", {"command": "echo \udcff"}),
    ],
)
def test_input_a_tool_cannot_take_is_denied(tool: str, arguments: dict[str, Any]) -> None:
    assert decide(AUTO, tool, arguments).verdict == "deny"


# --- rules ------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(GRANTABLE_TOOLS)), PATHS, PATHS)
def test_an_always_allows_its_own_call_and_no_other(tool: str, first: str, second: str) -> None:
    asked = decide(SCOPE, tool, call(tool, first))
    assume(asked.rule is not None)
    assert asked.rule is not None
    ruled = replace(SCOPE, rules=frozenset({asked.rule}))
    assert decide(ruled, tool, call(tool, first)).by == "rule"
    other = decide(ruled, tool, call(tool, second))
    means_the_same = first == second if tool == "Bash" else other.path == asked.path
    assert (other.verdict == "allow") == means_the_same
    for another in GRANTABLE_TOOLS - {tool}:
        assert decide(ruled, another, call(another, first)).verdict != "allow"


@pytest.mark.parametrize("pattern", ["*", "", "/home/bob/shop", "/home/bob/shop/*", "a.txt", "/home/bob/shop/"])
@pytest.mark.parametrize("tool", sorted(GRANTABLE_TOOLS - {"Bash", "Grep", "Glob"}))
def test_no_pattern_stands_for_a_whole_tool(tool: str, pattern: str) -> None:
    ruled = replace(SCOPE, rules=frozenset({Rule(tool=tool, pattern=pattern)}))
    assert decide(ruled, tool, call(tool)).verdict == "ask"


@pytest.mark.parametrize("command", ["make test ", " make test", "make  test", "make test; rm -rf .", "make test\n"])
def test_a_bash_rule_is_the_command_to_the_letter(command: str) -> None:
    ruled = replace(SCOPE, rules=frozenset({Rule(tool="Bash", pattern="make test")}))
    assert decide(ruled, "Bash", {"command": "make test"}).by == "rule"
    assert decide(ruled, "Bash", {"command": command}).verdict == "ask"


def test_a_wide_rule_never_widens_the_scope() -> None:
    wide = frozenset(Rule(tool=tool, pattern="/", reach="folder") for tool in GRANTABLE_TOOLS)
    ruled = replace(SCOPE, rules=wide)
    assert decide(ruled, "Read", call("Read", "x")).by == "rule"
    for outside in ("/shared/x", "../shared/x", "/etc/passwd"):
        assert decide(ruled, "Read", call("Read", outside)).verdict == "deny"
    assert decide(replace(ruled, tools=frozenset({"Glob"})), "Read", call("Read")).verdict == "deny"
    # A root that is one file is not offered with the folder around it.
    file = replace(SCOPE, roots=("/home/bob/shop/a.txt", "/run/d/workspace"))
    assert [rule.reach for rule in decide(file, "Read", call("Read", "a.txt")).choices] == ["exact"]


def test_a_rule_never_widens_the_scope() -> None:
    ruled = replace(SCOPE, rules=frozenset({Rule(tool="Read", pattern="/home/bob/secret/x")}))
    assert decide(ruled, "Read", call("Read", "/shared/x")).verdict == "deny"
    ungranted = replace(SCOPE, tools=frozenset({"Read"}), rules=frozenset({Rule(tool="Bash", pattern="ls")}))
    assert decide(ungranted, "Bash", {"command": "ls"}).verdict == "deny"


def test_grep_rules_cannot_be_confused_by_their_wording() -> None:
    one = rule_for(SCOPE, "Grep", {"pattern": "a in /home/bob/shop/x", "path": "y"})
    two = rule_for(SCOPE, "Grep", {"pattern": "a", "path": "x in /home/bob/shop/y"})
    assert one and two and one != two


def test_a_rule_about_the_workspace_holds_in_the_next_run_too() -> None:
    rule = rule_for(SCOPE, "Write", call("Write", "/workspace/out/report.md"))
    assert rule == Rule(tool="Write", pattern="$WORKSPACE/out/report.md")
    later = replace(SCOPE, workspace="/run/e/workspace", roots=("/run/e/workspace",), rules=frozenset({rule}))
    there = {"/workspace/out/report.md": "/run/e/workspace/out/report.md"}.get
    again = policy.decide(later, "Write", call("Write", "/workspace/out/report.md"), resolve=there)
    assert again.by == "rule"
    assert decide(later, "Write", call("Write", "/workspace/out/report.md")).verdict == "deny"
    ruled = replace(SCOPE, rules=frozenset({rule}))
    assert decide(ruled, "Write", call("Write", "$WORKSPACE/out/report.md")).verdict == "ask"


def test_a_session_grant_says_so() -> None:
    rule = Rule(tool="Bash", pattern="make test")
    decision = decide(SCOPE, "Bash", {"command": "make test"}, session=frozenset({rule}))
    assert (decision.verdict, decision.by) == ("allow", "session")


def test_an_mcp_rule_is_the_whole_input() -> None:
    scope = replace(SCOPE, mcp_tools=frozenset({"mcp__mail__send"}))
    rule = rule_for(scope, "mcp__mail__send", {"to": "a", "text": "b"})
    assert rule is not None
    ruled = replace(scope, rules=frozenset({rule}))
    assert decide(ruled, "mcp__mail__send", {"text": "b", "to": "a"}).by == "rule"
    assert decide(ruled, "mcp__mail__send", {"text": "b", "to": "c"}).verdict == "ask"


def test_a_changed_mcp_tool_asks_whatever_was_granted() -> None:
    tools = frozenset({"mcp__mail__send", "mcp__mail__read"})
    scope = replace(SCOPE, mcp_tools=tools, changed={"mcp__mail__send": "pin"})
    rule = rule_for(scope, "mcp__mail__send", {})
    assert rule is not None
    scope = replace(scope, approval="auto", rules=frozenset({rule}))
    assert decide(scope, "mcp__mail__send", {}, session=frozenset({rule})).verdict == "ask"
    assert decide(scope, "mcp__mail__read", {}).verdict == "allow"
    gone = replace(scope, mcp_tools=frozenset())
    assert decide(gone, "mcp__mail__send", {}).verdict == "deny"


@pytest.mark.parametrize(
    ("tool", "arguments", "pattern", "folder"),
    [
        ("Bash", {"command": "ls"}, "ls", None),
        ("Read", {"file_path": "src/a.py"}, "/home/bob/shop/src/a.py", "/home/bob/shop/src"),
        ("Glob", {"pattern": "src/*.py"}, "/home/bob/shop/src/*.py", "/home/bob/shop/src"),
        ("Grep", {"pattern": 'a "ü"', "path": "src"}, '"a \\"ü\\"" in /home/bob/shop/src', "/home/bob/shop/src"),
        ("mcp__mail__send", {"to": "ü", "a": 1}, '{"a": 1, "to": "ü"}', None),
    ],
)
def test_what_a_rule_says_of_each_tool(tool: str, arguments: dict[str, Any], pattern: str, folder: str | None) -> None:
    scope = replace(SCOPE, mcp_tools=frozenset({"mcp__mail__send"}))
    decision = decide(scope, tool, arguments)
    exact = Rule(tool=tool, pattern=pattern)
    assert decision.rule == exact
    wider = [choice.pattern for choice in decision.choices if choice.reach == "folder"]
    assert wider == ([folder] if folder else [])
    assert (decision.path is None) == (folder is None)


def test_a_refusal_tells_what_could_be_granted_from_what_never_is() -> None:
    scope = replace(SCOPE, tools=frozenset({"Read"}))
    for tool in ("Bash", "mcp__mail__send"):
        assert decide(scope, tool, {"command": "ls"}).reason == f"{tool} is not granted here"
    assert decide(scope, "Task", {}).reason == "Task is not available to dispatched tasks"


def test_other_tools_arguments_are_their_own() -> None:
    assert decide(SCOPE, "Bash", {"command": "ls", "path": 3}).verdict == "ask"
    assert decide(SCOPE, "Grep", {"pattern": "x", "path": 3}).verdict == "deny"


def test_what_can_be_shown_has_a_largest() -> None:
    bare = len('{"command":""}')
    assert policy.showable({"command": "x" * (policy.INPUT_LIMIT - bare)})
    assert not policy.showable({"command": "x" * (policy.INPUT_LIMIT - bare + 1)})
