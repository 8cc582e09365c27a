"""Masking: each form of secret goes, what only looks like one stays, and no text takes long."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches.masking import _LONGEST_KEY, Masker, summary
from tests.conftest import few
from tests.growth import grows_as_the_text, spent

B64 = "".join(f"{n:x}" for n in range(400))
KEY = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *(f"MIIE{n:02d}{'aB3+/' * 11}x" for n in range(20)), "c2hvcnQ="])
KEY += "\n-----END RSA PRIVATE KEY-----"
JWT = f"eyJ{B64[:30]}.eyJ{B64[30:120]}.{B64[120:163]}"

SECRETS: dict[str, tuple[str, str]] = {
    "private key": (KEY, KEY),
    "AWS access key": ("key AKIAIOSFODNN7EXAMPLE.", "AKIAIOSFODNN7EXAMPLE"),
    "GitHub token": (f"remote ghp_{B64[:36]}\n", f"ghp_{B64[:36]}"),
    "GitHub token ": (f'"github_pat_{B64[:82]}"', f"github_pat_{B64[:82]}"),
    "GitLab token": (f"glpat-{B64[:20]}", f"glpat-{B64[:20]}"),
    "Slack token": ("xoxb-123456789012-abcdefghijkl", "xoxb-123456789012-abcdefghijkl"),
    "Slack webhook": (
        "https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnop",
        "T00000000/B00000000/abcdefghijklmnop",
    ),
    "Anthropic key": (f"ANTHROPIC=sk-ant-api03-{B64[:80]}", f"sk-ant-api03-{B64[:80]}"),
    "OpenAI key": (f"sk-proj-{B64[:60]}", f"sk-proj-{B64[:60]}"),
    "OpenAI key ": (f"sk-{B64[:48]}", f"sk-{B64[:48]}"),
    "Google key": (f"AIza{B64[:35]}", f"AIza{B64[:35]}"),
    "Stripe key": (f"sk_live_{B64[:24]}", f"sk_live_{B64[:24]}"),
    "npm token": (f"npm_{B64[:36]}", f"npm_{B64[:36]}"),
    "PyPI token": (f"pypi-AgE{B64[:80]}", f"pypi-AgE{B64[:80]}"),
    "JSON Web Token": (f"cookie={JWT};", JWT),
    "password in an address": ("postgres://shop:s3cr3t!x@db.internal/shop", "s3cr3t!x"),
    "credentials in a header": ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    "password of a .netrc": ("machine ftp.example login bob password hunter", "hunter"),
    "password": ('DB = {"password": "correct-horse"}', "correct-horse"),
    "password ": ("client_secret: 8f14e45fceea167a", "8f14e45fceea167a"),
    "password  ": ("# .env\nADMIN_PASSWORD=correcthorse\nX=1", "correcthorse"),
    "password   ": ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1", "wJalrXUtnFEMI/K7MDENG"),
}

INNOCENT = [
    "def check(password: str) -> bool: return password == other_password",
    "password = getpass.getpass()",
    "password = os.environ['DB_PASSWORD']",
    'password = "${DB_PASSWORD}"',
    "API_KEY=$SECRET_FROM_VAULT",
    "postgres://shop:${PASSWORD}@db/shop",
    "http://localhost:8080/a@b",
    "the secret: nobody knows it",
    "task-runner-with-a-very-long-name-that-goes-on-and-on sk-fade-in-and-out-slowly-please",
    "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "0198c0de-1111-7222-8333-444455556666",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ bob@laptop",
    "token = tokens[at]; key = keys[0]",
]


def masked(text: str, *known: str) -> tuple[str, dict[str, int]]:
    masker = Masker(known)
    return masker.text(text), masker.drain()


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_goes_and_its_kind_is_said(kind: str) -> None:
    text, secret = SECRETS[kind]
    out, found = masked(f"before\n{text}\nafter\n")
    assert secret not in out
    assert f"[masked: {kind.strip()}]" in out
    assert found == {kind.strip(): 1}
    assert out.startswith("before\n") and out.endswith("\nafter\n")
    assert masked(out) == (out, {})


@pytest.mark.parametrize("before", ["\\n", "\\t", "\\r", "'", "=", ":"])
@pytest.mark.parametrize("kind", SECRETS)
def test_also_where_its_line_was_quoted(kind: str, before: str) -> None:
    text, secret = SECRETS[kind]
    if not kind.startswith(("password", "private key")):
        assert secret not in masked(f"x{before}{text}")[0]


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == (text, {})


def test_a_secret_known_by_its_value_goes_whatever_it_looks_like() -> None:
    assert masked("a my-own-key b my-own-key", "my-own-key", "", "short") == (
        "a [masked: key of this machine] b [masked: key of this machine]",
        {"key of this machine": 2},
    )
    assert masked("short", "short")[1] == {}
    # From eight characters on, and of two of which one begins the other, whole.
    assert masked("eight-ch", "eight-ch")[0] == "[masked: key of this machine]"
    for known in (("eight-ch", "eight-ch-and-more"), ("eight-ch-and-more", "eight-ch")):
        assert masked("eight-ch-and-more", *known) == ("[masked: key of this machine]", {"key of this machine": 1})


@pytest.mark.parametrize("show", ["{}", "{:>6}\t{}", "{:>6}→{}", "+{}", "{}:{}"])
@few(25)
@given(cut=st.integers(1, 21))
def test_a_private_key_in_two_pieces_goes_from_both(show: str, cut: int) -> None:
    """As a tool shows it: with line numbers, in a diff; read in two calls."""
    lines = [
        show.format(number, line) if show.count("{") == 2 else show.format(line)
        for number, line in enumerate(KEY.split("\n"), 1)
    ]
    for part in ("\n".join(lines[:cut]), "\n".join(lines[cut:])):
        out, found = masked(f"The file:\n{part}\nThat was it, he said.\n")
        assert found == {"private key": 1}
        assert not re.search(r"MIIE|c2hvcnQ", out)
        assert out.endswith("That was it, he said.\n")


BEGIN, BODY, END = KEY.split("\n")[0], "\n".join(KEY.split("\n")[1:-1]), KEY.split("\n")[-1]
PROSE = "This is prose, and it stays; so does the rest of it."
GONE = "[masked: private key]"


@pytest.mark.parametrize(
    ("text", "out"),
    [
        (KEY + KEY, GONE + GONE),
        (f"{BEGIN}\n{BODY}\n{KEY}\n{PROSE}\n{KEY}", f"{GONE}\n{PROSE}\n{GONE}"),
        (f"{BEGIN}\n{BODY}\n{PROSE}", f"{GONE}\n{PROSE}"),
        (f"{BEGIN}\n{BODY}", GONE),
        (BEGIN, GONE),
        (f"{BEGIN} {PROSE}\n{BODY}\n{PROSE}", f"{GONE}\n{PROSE}"),
        (f"{BODY}\n{END}\n{PROSE}", f"{GONE}\n{PROSE}"),
        (f"{PROSE}\n{BODY}\n{END}", f"{PROSE}\n{GONE}"),
        (f"{BODY}\n{END}\n{PROSE}\n{BODY}\n{END}", f"{GONE}\n{PROSE}\n{GONE}"),
        (f"{BODY}\n{END}{BODY}\n{END}", f"{GONE}{GONE}"),
        (END, GONE),
        (f"{KEY}\n{BODY}\n{END}", f"{GONE}{GONE}"),
    ],
)
def test_keys_and_pieces_of_keys(text: str, out: str) -> None:
    assert masked(text) == (out, {"private key": out.count(GONE)})


@pytest.mark.parametrize("more", [0, 1])
def test_an_end_that_is_too_far_away_is_another_keys(more: int) -> None:
    between = (PROSE * 1000)[: _LONGEST_KEY - len(END) - 2 + more]
    out, _ = masked(f"{BEGIN}\n{between}\n{END}")
    assert out == (f"{GONE}\n{between}\n{GONE}" if more else GONE)


def test_values_are_masked_wherever_they_are() -> None:
    masker = Masker()
    token = SECRETS["GitHub token"][1]
    told: Any = masker.value({"kind": "tool_call", "input": {"a": [1, None, {"b": token}], token: True}})
    assert token not in str(told)
    assert (told["kind"], told["input"]["a"][:2]) == ("tool_call", [1, None])
    assert summary(masker.drain()) == "2 × GitHub token"
    assert masker.drain() == {}


def test_a_file_of_text_is_masked_and_another_is_kept_back() -> None:
    token = SECRETS["GitHub token"][1].encode()
    assert Masker().content(b"x " + token + "é".encode()) == "x [masked: GitHub token]é".encode()
    assert Masker().content(b"\xff\x00 " + token + b"\n") is None
    assert Masker().content(b"\xff\x00 nothing") == b"\xff\x00 nothing"
    assert Masker().content(b"a\r\nb") == b"a\r\nb"


FRAGMENTS = [
    "-----BEGIN PRIVATE KEY-----\n",
    "-----BEGIN ",
    "-----END PRIVATE KEY-----\n",
    "MIIEabcdabcdabcdabcdabcdabcdabcd\n",
    "PRIVATE KEY",
    *(
        "password=",
        "password: '",
        "secret",
        "SECRET_TOKEN=a",
        "api_key",
        "authorization: bearer a",
        "machine a login b ",
    ),
    *(
        "eyJabcdefgh",
        "eyJabcdefgh.",
        "://a:",
        "://",
        "sk-",
        "sk-ant-",
        "gh",
        "ghp_a",
        "xoxb-",
        "AKIA",
        "hooks.slack.com/",
    ),
    *("a", "1", "_", "-", " ", "\t", "\n", '"', "'", "=", ":", "é", "\0", "→"),
]


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_the_work_grows_as_the_text_does(fragment: str) -> None:
    assert grows_as_the_text(masked, fragment, 250_000)


def test_a_pattern_that_looks_back_would_be_found() -> None:
    """Several measurements: other work on the machine may stretch the shorter text's, and only its."""
    looks_back = re.compile(r"a+b")
    assert any(not grows_as_the_text(lambda text: looks_back.sub("", text), "a", 12_000, tries=1) for _ in range(5))


@pytest.mark.parametrize("end", ["", "1(", "1\\"])
def test_names_in_a_row_cost_no_more_than_names_alone(end: str) -> None:
    """Within one run, as measured beside the same names one a line: not each of them looks through the rest of it."""
    alone, in_a_row = "password=\n" * 40, "password=" * 40 + end + "\n"
    assert any(spent(masked, in_a_row, 1_000_000) < 3 * spent(masked, alone, 1_000_000) + 0.25 for _ in range(5))


def test_a_value_may_be_long_and_what_follows_it_is_looked_at() -> None:
    for text, out in (
        (f"password={'a' * 399}1", "password=[masked: password]"),
        (f"password={'a' * 401}1", None),
        ("password=abc/def1ghi(", None),
        ("password=abcdefg1/x(", "password=[masked: password]/x("),
        ("password:=:abcdef1", "password:=[masked: password]"),
        ("secret: Access-Key\\12", "secret: [masked: password]\\12"),
        ("PASSWORD := İhunter22", "PASSWORD := [masked: password]"),
        ("İİ PASSWORD = hunter22x", "İİ PASSWORD = [masked: password]"),
        ("password:=abcdef1", "password:[masked: password]"),
        ("password=abcdef1", None),
        ("password: correcthorse", None),
        ("password: correcthorse, see line 1", None),
        ("password: correcthorse\nbattery 1", None),
        ("password: abcdefgh1.x(y)", None),
        ("password: abcdefg1//x(y)", "password: [masked: password]/x(y)"),
        ("AUTHORIZATION: BEARER abcdefgh", "AUTHORIZATION: BEARER [masked: credentials in a header]"),
    ):
        assert masked(text)[0] == (text if out is None else out)


@given(st.lists(st.sampled_from([*FRAGMENTS, *(text for text, _ in SECRETS.values())]), max_size=12))
def test_twice_is_once_and_whole_secrets_never_stay(parts: list[str]) -> None:
    text = "\n".join(parts)
    once, _ = masked(text)
    assert masked(once)[0] == once


@given(st.text() | st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5))
def test_any_value_goes_through(value: Any) -> None:
    Masker().value(value)
