"""Versions out of the text of files, and the choice among installed ones: pure, so tried with anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.machine.toolchains import versions

PYTHONS = (
    *("3.9.18", "3.11.7", "3.12.1", "3.12.10", "3.13.0rc1", "3.13.1t", "pypy3.10-7.3.12"),
    *("cpython-3.14.0-linux-x86_64-gnu", "cpython-3.14.0+freethreaded-linux-x86_64-gnu"),
)


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        ("3.12", "3.12.10"),
        ("3.12.1", "3.12.1"),
        ("3", "cpython-3.14.0-linux-x86_64-gnu"),
        ("cpython@3.14", "cpython-3.14.0-linux-x86_64-gnu"),
        ("3.13", None),  # a release candidate, and a build without the lock, are other things
        ("3.13.0rc1", "3.13.0rc1"),
        ("pypy3.10", "pypy3.10-7.3.12"),
        ("3.10", None),
        ("", "cpython-3.14.0-linux-x86_64-gnu"),
        ("3.1", None),
        ("../../etc", None),
        ("/etc/3.12", None),
    ],
)
def test_the_version_that_is_meant(spec: str, chosen: str | None) -> None:
    assert versions.best(spec, PYTHONS) == chosen


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=30), max_size=8))
def test_a_choice_is_one_of_the_installed(spec: str, installed: list[str]) -> None:
    for families in (True, False):
        assert versions.best(spec, installed, families=families) in (None, *installed)
    assert versions.rust(spec, installed) in (None, *installed)


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    for word in versions.lines(text):
        assert 0 < len(word) <= versions.MAX_WORD
    for reading in (versions.tool_versions, versions.mise):
        assert all(isinstance(word, str) for words in reading(text).values() for word in words)
    channel, _ = versions.rust_toolchain(text)
    assert len(channel) <= versions.MAX_WORD
    assert len(versions.go_toolchain(text)) <= 31
    assert len(versions.member(text, "volta", "node")) <= versions.MAX_WORD
    assert len(versions.toml_member(text, "default_toolchain")) <= versions.MAX_WORD


@pytest.mark.parametrize("text", ["[" * 50_000, "a = " + "[" * 50_000, "{" * 50_000, "\0", "a = 9" + "9" * 9_000])
def test_texts_made_to_break_a_parser(text: str) -> None:
    assert versions.mise(text) == {} and versions.member(text, "a") == "" and versions.toml_member(text, "a") == ""
    assert versions.rust_toolchain(text)[1] is False


def test_each_kind_of_file() -> None:
    assert versions.lines("# ours\n3.12.1  # why\n\n") == ["3.12.1"]
    assert versions.tool_versions("python 3.12.1 3.11\nnodejs\t20.1.0\n#x\n") == {
        "python": ["3.12.1", "3.11"],
        "nodejs": ["20.1.0"],
    }
    text = '[tools]\npython = "3.12"\nnode = ["22", "20"]\ngo = { version = "1.22" }\njava = 21\n'
    assert versions.mise(text) == {"python": ["3.12"], "node": ["22", "20"], "go": ["1.22"], "java": []}
    assert versions.rust_toolchain('[toolchain]\nchannel = "1.79"\n') == ("1.79", False)
    assert versions.rust_toolchain('[toolchain]\npath = "/home/bob/.ssh"\n') == ("", True)
    assert versions.rust_toolchain("nightly-2024-01-01\n") == ("nightly-2024-01-01", False)
    assert versions.go_toolchain("module x\n\ngo 1.22\ntoolchain go1.22.3\n") == "1.22.3"
    assert versions.key_value("# comment\njava=21.0.2-tem\n", "java") == "21.0.2-tem"
    assert versions.rust("stable", ["stable-x86_64-unknown-linux-gnu", "nightly-x86_64-unknown-linux-gnu"])
    assert versions.rust("1.7", ["1.79.0-x86_64-unknown-linux-gnu"]) is None
