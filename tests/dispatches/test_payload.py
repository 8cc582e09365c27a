"""The rules of a payload: each limit at its edge and one past it, names, links."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peer.dispatches import payload
from peer.dispatches.payload import FileFact, Payload
from peer.protocol.errors import DispatchError, Invalid, TooLarge


def refused(kind: type[DispatchError], **parts: object) -> DispatchError:
    with pytest.raises(kind) as caught:
        payload.check_payload(Payload(**{"task": "t", **parts}))  # type: ignore[arg-type]
    assert type(caught.value) is kind and caught.value.fix and caught.value.message.isprintable()
    return caught.value


def files(*sizes: int) -> tuple[FileFact, ...]:
    return tuple(FileFact(f"f{n}", size) for n, size in enumerate(sizes))


def test_everything_at_its_limit_is_taken() -> None:
    payload.check_payload(
        Payload(
            task="ü" * 100_000,
            files=files(*[5 * 1024 * 1024] * 50),
            project="p" * 200,
            links=("https://example.org/" + "x" * 480,) * 10,
            deliverable="d" * 2_000,
            background="b" * 20_000,
            metadata={f"{n:064}": "v" * 1_000 for n in range(32)},
            lifetime_seconds=86_400,
        )
    )
    payload.check_payload(Payload(task="t", lifetime_seconds=60))


@pytest.mark.parametrize(
    ("parts", "limit", "over"),
    [
        ({"task": "t" * 100_001}, "100,000 characters", "1 too many"),
        ({"files": files(*[1] * 51)}, "50 files", "1 too many"),
        ({"files": files(5 * 1024 * 1024 + 1)}, "5,242,880 bytes", "1 too many"),
        ({"project": "p" * 201}, "200 characters", "1 too many"),
        ({"links": ("https://example.org",) * 11}, "10 links", "1 too many"),
        ({"links": ("https://example.org/" + "x" * 481,)}, "500 characters", "1 too many"),
        ({"deliverable": "d" * 2_001}, "2,000 characters", "1 too many"),
        ({"background": "b" * 20_500}, "20,000 characters", "500 too many"),
        ({"metadata": {str(n): "v" for n in range(33)}}, "32 pairs", "1 too many"),
        ({"metadata": {"k" * 65: "v"}}, "64 characters", "1 too many"),
        ({"metadata": {"k": "v" * 1_001}}, "1,000 characters", "1 too many"),
        ({"files": (FileFact("n" * 256, 1),)}, "255 bytes", "1 too many"),
    ],
)
def test_one_past_a_limit_is_too_large_by_how_much(parts: dict[str, object], limit: str, over: str) -> None:
    error = refused(TooLarge, **parts)
    assert error.code == 413 and limit in error.fix and over in error.message


@pytest.mark.parametrize("seconds", [59, 86_401, 0, -1, True, 3600.0])
def test_the_time_to_live_has_bounds(seconds: object) -> None:
    error = refused(Invalid, lifetime_seconds=seconds)
    assert error.code == 422 and "60 to 86,400" in error.fix


@pytest.mark.parametrize("task", ["", " ", "\n\t\u3000"])
def test_a_task_says_something(task: str) -> None:
    refused(Invalid, task=task)


@pytest.mark.parametrize("field", ["task", "project", "deliverable", "background"])
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
    refused(Invalid, metadata={key: "v"})


@given(st.text(), st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_only_our_errors_come_out(task: str, name: str, link: str, metadata: dict[str, str]) -> None:
    try:
        payload.check_payload(Payload(task=task, files=(FileFact(name, 1),), links=(link,), metadata=metadata))
    except DispatchError as error:
        assert error.code in (413, 422) and error.fix
