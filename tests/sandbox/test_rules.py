"""Which rules `always` offers for a call, and that none covers more than it says."""

from __future__ import annotations

import shlex
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.frames import Rule
from sandbox.policy import rules

MEANING = "\n\r\t\0;&|<>()$`\\\"'*?[]{}~#!^\x0b\x0c\u00a0\u2028\u200b\u202e"
"""Characters that some shell, somewhere, gives a meaning to, or that a person does not see."""


def bash(pattern: str, reach: str = "exact") -> Rule:
    return Rule(tool="Bash", pattern=pattern, reach=reach)  # type: ignore[arg-type]


def covers(prefix: str, command: str) -> bool:
    return rules.covers(bash(prefix, "prefix"), bash(command), None)


@pytest.mark.parametrize(
    ("command", "offered"),
    [
        ("git status", ["git status"]),
        ("git log --oneline -5", ["git log --oneline", "git log"]),
        ("ls", ["ls"]),
        ("ls -la src", ["ls -la src", "ls -la", "ls"]),
        ("npm run build", ["npm run build", "npm run"]),
        ("git commit -m 'two words'", ["git commit -m", "git commit"]),
        ("./check.sh fast", ["./check.sh fast"]),
        ("git -C /tmp status", []),
        ("make", []),
        ("bash -c ls", []),
        ("/usr/bin/python3.12 -m x", []),
        ("sudo git status", []),
        (". ./env", []),
        ("A=1 git status", []),
        ("git status; rm -rf x", []),
        ("git status\nrm x", []),
        ("git log > x", []),
        ("git log $(rm x)", []),
        ("git add *", []),
        ("", []),
    ],
)
def test_the_prefixes_that_are_offered(command: str, offered: list[str]) -> None:
    assert rules.prefixes(command) == offered
    assert [rule.pattern for rule in rules.choices(bash(command), None, folder=None)] == [command, *offered]


@pytest.mark.parametrize(
    ("command", "covered"),
    [
        ("git status", True),
        ("git status --short", True),
        ("git status  --short", True),
        ("git status 'a b' \"c d\" ü=1", False),
        ("git status 'a b; c' \"c > d\" 'ü'", True),
        ("git statusx", False),
        ("git  status", False),
        (" git status", False),
        ("git status ", False),
        ("git status;ls", False),
        ("git status ;ls", False),
        ("git status && ls", False),
        ("git status | sh", False),
        ("git status > x", False),
        ("git status\nls", False),
        ("git status 'a\nb'", False),
        ("git status $HOME", False),
        ('git status "$(ls)"', False),
        ('git status "`ls`"', False),
        ("git status <(ls)", False),
        ("git status \\\nls", False),
        ("git status 'a", False),
        ("git status &", False),
        ("git status #x", False),
        ("git status *", False),
        ("git status {a,b}", False),
        ("git status ~", False),
        ("X=1 git status", False),
    ],
)
def test_what_a_prefix_covers(command: str, covered: bool) -> None:
    assert covers("git status", command) is covered


@given(tail=st.text(alphabet=string.ascii_letters + " -./" + MEANING, min_size=1, max_size=30))
@example(tail=" a'\n'b")
@example(tail=" 'a' ; 'b'")
def test_a_prefix_never_covers_anything_that_a_shell_would_interpret(tail: str) -> None:
    command = "git log" + tail
    if not covers("git log", command):
        return
    assert shlex.split(command)[:2] == ["git", "log"]
    assert not set(_without_quotes(command)) & set(MEANING)
    assert "\n" not in command and "\0" not in command


def _without_quotes(command: str) -> str:
    """What stands outside quotes, read as POSIX shells do: a quote ends at the next of its kind."""
    bare, mark = "", ""
    for character in command:
        if mark:
            mark = "" if character == mark else mark
            assert mark != '"' or character not in "$`\\!"
        elif character in "'\"":
            mark = character
        else:
            bare += character
    assert not mark, "a quote that does not end"
    return bare


@given(
    folder=st.sampled_from(["/home/bob/shop", "$WORKSPACE", "$WORKSPACE/in", "/"]),
    path=st.lists(st.sampled_from(["home", "bob", "shop", "shopping", "in", "$WORKSPACE", "a"]), max_size=5),
)
def test_a_folder_covers_what_is_below_it_and_nothing_else(folder: str, path: list[str]) -> None:
    resolved = "/" + "/".join(path)
    inside = rules.covers(Rule(tool="Read", pattern=folder, reach="folder"), Rule(tool="Read", pattern="x"), resolved)
    parts, above = resolved.strip("/").split("/"), folder.strip("/").split("/")
    assert inside is (folder.startswith("/") and (folder == "/" or parts[: len(above)] == above))


def test_a_rule_is_for_its_own_tool_and_kind() -> None:
    read = Rule(tool="Read", pattern="/a/b")
    folder = Rule(tool="Read", pattern="/a", reach="folder")
    assert rules.choices(read, "/a/b", folder="/a") == (read, folder)
    assert rules.choices(read, "/a/b", folder=None) == rules.choices(read, None, folder="/a") == (read,)
    assert rules.covers(folder, read, "/a/b") and not rules.covers(folder, Rule(tool="Write", pattern="/a/b"), "/a/b")
    assert not rules.covers(folder, read, None)
    assert not rules.covers(Rule(tool="Read", pattern="/a", reach="prefix"), read, "/a/b")
    assert not rules.covers(Rule(tool="Read", pattern="/a"), read, "/a/b")
    assert not rules.covers(bash("ls; ls", "prefix"), bash("ls; ls"), None)
    assert not rules.covers(bash("ls", "folder"), bash("ls"), None)
    assert not rules.covers(bash("ls 'a", "prefix"), bash("ls 'a b'"), None)
    assert not rules.covers(Rule(tool="Read", pattern="/a", reach="prefix"), Rule(tool="Read", pattern="/a b"), "/a b")
    assert rules.covers(Rule(tool="Glob", pattern="/a", reach="folder"), Rule(tool="Glob", pattern="/a/*.py"), "/a")


def test_a_prefix_ends_before_an_argument_in_quotes() -> None:
    assert rules.prefixes('git log "a b"') == ["git log"]
    assert rules.prefixes("ls 'a b'") == ["ls"]


def test_what_cannot_be_seen_is_not_plain() -> None:
    assert rules.is_plain("echo 'ü b'") and not rules.is_plain("echo 'a\u202eb'")
