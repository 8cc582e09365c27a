"""Names of refs made of the names that a run gave its branches."""

from __future__ import annotations

import subprocess

from hypothesis import given
from hypothesis import strategies as st

from sandbox.commits.names import HEAD, MAX_NAME, is_safe, safe_names
from tests.conftest import few

NAMES = st.one_of(
    st.binary(min_size=1, max_size=120),
    st.text(alphabet="aAbB/.-_lock@{}$;'\"\\ ~^:?*[\x1b\u202e", min_size=1, max_size=12).map(str.encode),
    st.sampled_from([b"main", b"Main", b"main/x", b"branch-1", b"branch-2", b"detached-head", b"x.lock", b"-d", HEAD]),
)


def test_plain_names_stay() -> None:
    names = [b"main", b"fix/parser-2", b"v1.2_rc+1", HEAD]
    assert safe_names(names) == ["main", "fix/parser-2", "v1.2_rc+1", "detached-head"]


def test_others_get_a_number() -> None:
    names = [
        b"a;rm -rf",
        b"$(x)",
        "b\u202ed".encode(),
        b"\xff",
        b"-d",
        b"x.lock",
        b"a" * (MAX_NAME + 1),
        b".a",
        b"a..b",
    ]
    assert safe_names(names) == [f"branch-{number}" for number in range(1, len(names) + 1)]


def test_no_two_meet_in_any_file_system() -> None:
    assert safe_names([b"main", b"MAIN", b"main/x", b"branch-2"]) == ["main", "branch-2", "branch-3", "branch-4"]


@given(st.lists(NAMES, max_size=12))
def test_whatever_they_are_called(names: list[bytes]) -> None:
    found = safe_names(names)
    assert len(found) == len(names) and all(is_safe(each) for each in found)
    small = [each.lower() for each in found]
    assert len(set(small)) == len(small)
    assert not any(one.startswith(f"{other}/") for one in small for other in small)


@few(10)
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_git_takes_them(names: list[bytes]) -> None:
    for each in safe_names(names):
        subprocess.run(["git", "check-ref-format", f"refs/dispatch/id/{each}"], check=True)
