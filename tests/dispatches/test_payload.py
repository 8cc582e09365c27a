"""The rules of a payload: each limit at its edge and one past it, names, links."""

import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peer.dispatches import payload
from peer.dispatches.payload import FileFact
from peer.protocol.content import FIELDS, Content, check_expires
from peer.protocol.errors import DispatchError, Invalid, TooLarge


def check(*, expires: int = 3600, **parts: Any) -> None:
    """All that is checked of a dispatch, at either side."""
    content: Content[Any] = Content(**({"task": "t"} | parts))
    check_expires(expires)
    payload.check_content(content)
    payload.check_files(content.files)


def refused(kind: type[DispatchError], **parts: Any) -> DispatchError:
    with pytest.raises(kind) as caught:
        check(**parts)
    assert type(caught.value) is kind and caught.value.fix and caught.value.message.isprintable()
    return caught.value


def files(*sizes: int) -> tuple[FileFact, ...]:
    return tuple(FileFact(f"f{n}", size) for n, size in enumerate(sizes))


def test_everything_at_its_limit_is_taken() -> None:
    check(
        task="ü" * 100_000,
        files=files(*[5 * 1024 * 1024] * 50),
        project="p" * 200,
        links=("https://example.org/" + "x" * 480,) * 10,
        deliverable="d" * 2_000,
        background="b" * 20_000,
        meta={f"{n:064}": "v" * 1_000 for n in range(32)},
        expires=86_400,
    )
    check(expires=60)


@pytest.mark.parametrize(
    ("parts", "limit", "over"),
    [
        ({"task": "t" * 100_001}, "100,000 characters", "the task is 100,001 characters; "),
        ({"files": files(*[1] * 51)}, "50 files", "the list of files is 51 files; "),
        ({"files": files(5 * 1024 * 1024 + 1)}, "5,242,880 bytes", "1 too many"),
        ({"project": "p" * 201}, "200 characters", "the project hint is 201 characters; the limit is 200: 1 too many"),
        ({"links": ("https://example.org",) * 11}, "10 links", "the list of links is 11 links; "),
        ({"links": ("https://example.org/" + "x" * 481,)}, "500 characters", "a link is 501 characters; "),
        ({"deliverable": "d" * 2_001}, "2,000 characters", "the deliverable is 2,001 characters; "),
        ({"background": "b" * 20_500}, "20,000 characters", "the background is 20,500 characters; "),
        ({"meta": {str(n): "v" for n in range(33)}}, "32 pairs", "the metadata is 33 pairs; "),
        ({"meta": {"k" * 65: "v"}}, "64 characters", "a key of the metadata is 65 characters; "),
        ({"meta": {"k": "v" * 1_001}}, "1,000 characters", "a value of the metadata is 1,001 characters; "),
        ({"parent": "p" * 37}, "36 characters", "the parent's id is 37 characters; "),
        ({"files": (FileFact("n" * 256, 1),)}, "255 bytes", "1 too many"),
    ],
)
def test_one_past_a_limit_is_too_large_by_how_much(parts: dict[str, object], limit: str, over: str) -> None:
    error = refused(TooLarge, **parts)
    assert error.code == 413 and limit in error.fix and over in error.message
    assert error.message.endswith("500 too many" if "background" in parts else "1 too many")


@pytest.mark.parametrize("seconds", [59, 86_401, 0, -1, True, 3600.0])
def test_the_time_to_live_has_bounds(seconds: object) -> None:
    error = refused(Invalid, expires=seconds)
    assert error.code == 422 and "60 to 86,400" in error.fix


@pytest.mark.parametrize("task", ["", " ", "\n\t\u3000"])
def test_a_task_says_something(task: str) -> None:
    refused(Invalid, task=task)


@pytest.mark.parametrize("field", [name for name, field in FIELDS.items() if field.default in ("", msgspec.NODEFAULT)])
def test_half_a_character_is_refused(field: str) -> None:
    refused(Invalid, **{field: "a\ud800"})


def test_an_empty_file_is_refused() -> None:
    assert "empty" in refused(Invalid, files=files(3, 0)).message
    refused(Invalid, files=files(-1))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:x",
        "x:stream",
        "a\x00b",
        "a\nb",
        "a\x1b[31m",
        "gpj\u202eexe.txt",
        "a\u200bb",
        "a\ufeffb",
        "a\u2028b",
        "a\ud800",
        " a",
        "a ",
        "a.",
        "con",
        "NUL.txt",
        "Com1",
        "lpt9.x.y",
        "what?",
        "a*",
        "a|b",
        'a"b',
        "<a>",
    ],
)
def test_names_that_are_not_plain_base_names(name: str) -> None:
    refused(Invalid, files=(FileFact(name, 1),))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is not a file name"),
        ("..", "is not a file name"),
        ("a/b", "`a/b` names a folder"),
        ("a\\b", "names a folder"),
        ("a\x1bb", "`a\N{REPLACEMENT CHARACTER}b` contains invisible characters"),
        ("a?", "contains `?`, which some systems do not allow"),
        ("a.", "ends with a dot"),
        (" a", "begins or ends with a space"),
        ("nul.txt", "a device on Windows"),
        ("a\ud800", "not valid Unicode"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, words: str) -> None:
    assert words in refused(Invalid, files=(FileFact(name, 1),)).message


@pytest.mark.parametrize(
    "name",
    ["report.txt", ".gitignore", "Müller – Bericht (2).pdf", "消息.txt", "نامه\u200cها.txt", "👩\u200d🔬.png",
     "console", "com10", "a b", "-rf", "a..b", "…", "$HOME", "`id`", "~"],
)  # fmt: skip
def test_plain_names_of_any_language(name: str) -> None:
    payload.check_files((FileFact(name, 1),))


@pytest.mark.parametrize(
    "pair", [("a", "a"), ("A.txt", "a.TXT"), ("é", "e\u0301"), ("É", "e\u0301"), ("straße", "STRASSE"), ("ﬁ", "FI")]
)
def test_names_that_some_system_takes_for_the_same(pair: tuple[str, str]) -> None:
    error = refused(Invalid, files=tuple(FileFact(name, 1) for name in pair))
    assert "same name" in error.message


@given(st.text(min_size=1, max_size=40))
def test_an_accepted_name_is_one_component_that_comes_back_unchanged(name: str) -> None:
    try:
        payload.check_file_name(name)
    except DispatchError:
        assume(False)
    assert "/" not in name and "\x00" not in name and name.encode().decode() == name
    assert len(name.encode()) <= 255 and name not in (".", "..")
    with pytest.raises(Invalid):
        payload.check_files((FileFact(name, 1), FileFact(unicodedata.normalize("NFD", name).swapcase(), 1)))


@pytest.mark.parametrize(
    "link",
    [
        "",
        "example.org",
        "//example.org",
        "ftp://example.org",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://",
        "https:///path",
        "https://user@example.org",
        "https://user:pw@example.org",
        "https://example.org/a b",
        "https://example.org/\n",
        "https://example.org/\u202e",
        "https://[::1",
        "https://example.org:99999",
        "https://example.org/\ud800",
    ],
)
def test_links_that_are_not(link: str) -> None:
    refused(Invalid, links=(link,))


@pytest.mark.parametrize(
    "link", ["https://example.org", "HTTP://example.org:8080/a?b=c#d", "https://[::1]/", "https://bücher.example/ü"]
)
def test_links_that_are(link: str) -> None:
    payload.check_links((link,))


@pytest.mark.parametrize("key", ["", " ", "a\x1b", "a\u202e", "a\n"])
def test_metadata_keys_can_be_seen(key: str) -> None:
    refused(Invalid, meta={key: "v"})


@given(st.text(), st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_only_our_errors_come_out(task: str, name: str, link: str, meta: dict[str, str]) -> None:
    try:
        check(task=task, files=(FileFact(name, 1),), links=(link,), meta=meta)
    except DispatchError as error:
        assert error.code in (413, 422) and error.fix
