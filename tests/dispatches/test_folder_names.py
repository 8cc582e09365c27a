"""The paths of a person's folders become names in what leaves, however programs write them; other texts stay."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches.folder_names import FolderNames, names_of
from peer.dispatches.masking import Masker
from peer.dispatches.redaction import Redactor
from tests.growth import grows_as_the_text

TILL = "/home/bob/My Café/till"
GIT = "/home/bob/code/main/.git"
NAMES = names_of([TILL, "/srv/b/till", GIT, "/acme/x"])
FOLDERS = FolderNames(NAMES, homes=["/home/bob", "/data/home/bob"])


def test_names_are_different_and_the_first_keeps_its_own() -> None:
    assert NAMES == {TILL: "till", "/srv/b/till": "till-2", GIT: "main/.git", "/acme/x": "x"}
    assert names_of(["/a/.git/modules/b", "/c/.git/modules/b"]) == {
        "/a/.git/modules/b": "a/.git/modules/b",
        "/c/.git/modules/b": "c/.git/modules/b",
    }
    assert names_of(["/x/a/.git", "/y/a/.git", "/z/a"]) == {"/x/a/.git": "a/.git", "/y/a/.git": "a-2/.git", "/z/a": "a"}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (f"{TILL}/a.py:1: error", "till/a.py:1: error"),
        (f"in {TILL}.", "in till."),
        (f"a{TILL}/x b{TILL}/x", "a/till/x b/till/x"),
        (TILL.removeprefix("/"), "till"),
        (r"cd /home/bob/My\ Café/till", "cd till"),
        (json.dumps({"at": TILL}), '{"at": "till"}'),
        (json.dumps(json.dumps(TILL)), r'"\"/home/bob/My Caf\\u00e9/till\""'.replace("/home/bob", "~")),
        (r'"\/home\/bob\/My Caf\u00e9\/till\/x"', r'"till\/x"'),
        (f"file://{quote(TILL)}/a", "file://till/a"),
        (f"?at={quote(TILL, safe='')}%2Fa", "?at=till%2Fa"),
        ("?at=%2fhome%2fbob%2fMy%20Caf%c3%a9%2ftill%2fa", "?at=till%2fa"),
        (r'"/home/bob/My Caf\303\251/till/x"', '"till/x"'),
        ("~/My Café/till/x and $HOME/My Café/till/y", "till/x and till/y"),
        ("projects/-home-bob-My-Caf--till-src/1.jsonl", "projects/till-src/1.jsonl"),
        (f"{GIT}/config", "main/.git/config"),
        ("/srv/b/till/y", "till-2/y"),
        ("/srv/b/tillを", "till-2を"),
        (f"{TILL}-old/x", "…/till-old/x"),
        ("ls: /home/bob/code: no", "ls: …: no"),
        ("/home/bob/.ssh /data/home/bob/x ~bob/y", "~/.ssh ~/x ~/y"),
        ("/acme/y -acme-x-y", "…/y x-y"),
        # These name nothing of this person's.
        ("/home/bobby /home /srv src/till the till ~/notes -acmes", None),
        ("acme", None),
    ],
)
def test_a_path_goes_and_what_only_looks_like_one_stays(text: str, sent: str | None) -> None:
    assert FOLDERS.text(text) == (text if sent is None else sent)


CHARACTERS = st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cc", "Zl", "Zp"))
PART = st.text(CHARACTERS, min_size=1, max_size=8)


@given(st.lists(PART.filter(lambda part: part not in (".", "..")), min_size=2, max_size=4), st.data())
def test_no_form_of_any_folder_is_left(parts: list[str], data: st.DataObject) -> None:
    folder = "/q0/" + "/".join(parts)
    names = FolderNames({folder: "N"}, homes=["/q0/" + parts[0]])
    written = data.draw(
        st.sampled_from(
            [
                folder,
                json.dumps(folder)[1:-1],
                json.dumps(folder, ensure_ascii=False)[1:-1],
                json.dumps(folder)[1:-1].replace("/", "\\/"),
                quote(folder, safe="/~"),
                quote(folder, safe="~"),
            ]
        )
    )
    assert names.text(f"<{written}>") == "<N>"
    assert names.are_in(b"\xff<" + written.encode() + b">")


def test_bytes_that_are_no_text_are_kept_back_and_text_is_mended() -> None:
    masker = Masker(folders=FOLDERS)
    assert masker.content(b"\xff" + TILL.encode() + b"/a.c\0") is None
    assert masker.content(b"\xff/home/bob/elsewhere\0") is None
    assert masker.content(b"\xff/home/bobby\0") == b"\xff/home/bobby\0"
    assert masker.content(f"at {TILL}/a\n".encode()) == b"at till/a\n"


@pytest.mark.parametrize("redacts", [False, True])
def test_all_that_a_redactor_lets_out_is_renamed_and_the_persons_own_is_not(redacts: bool) -> None:
    redactor = Redactor(redacts=redacts)
    redactor.name_folders(FOLDERS)
    event = {"kind": "tool_call", "at": 1, "tool": "Read", "input": {TILL: [{"file_path": f"{TILL}/a"}]}}
    own, sent = redactor.events([event])
    assert own == [event]
    assert redacts or sent[0]["input"] == {"till": [{"file_path": "till/a"}]}
    for said in (sent, redactor.text(f"in {TILL}"), redactor.reason(f"{TILL} broke", status="failed", code=403)):
        assert "bob" not in json.dumps(said) and "Café" not in str(said)


def test_the_work_grows_as_the_text_does() -> None:
    many = FolderNames(names_of([f"/data/users/bob/w{n}/p/q/r/t{n}" for n in range(32)]), homes=["/data/users/bob"])
    assert grows_as_the_text(many.text, "/data/users/bob/w3/p/q/r/t3/x /data/users/bobby ", 100_000)
