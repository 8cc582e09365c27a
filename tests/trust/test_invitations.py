"""Invitations: answered once, addresses parsed strictly, proofs that bind both digests."""

import base64
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import Conflict, DispatchError, Gone, Invalid
from peer.trust import invitation_address, invitation_lifecycle
from peer.trust.invitation_address import Address, Token

TOKEN = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
SECRET = bytes(range(32))
DIGEST = hashlib.sha256(b"an invitation").digest()
PARTS: dict[str, Any] = {"token": TOKEN, "digest": DIGEST, "secret": SECRET}
ADDRESS = invitation_address.build_address("https://broker.example", **PARTS)

uuids = st.uuids().map(str)
digests = st.binary(min_size=32, max_size=32)


def test_an_open_invitation_is_answered_once() -> None:
    answers = {"accept": "accepted", "decline": "declined", "withdraw": "withdrawn", "expire": "expired"}
    for event, after in answers.items():
        assert invitation_lifecycle.next_state("open", event) == after  # type: ignore[arg-type]
        for again in answers:
            with pytest.raises(Gone if after == "expired" else Conflict):
                invitation_lifecycle.next_state(after, again)  # type: ignore[arg-type]


def test_an_invitation_ends_at_its_expiry() -> None:
    invitation_lifecycle.check_open("open", expires=1000, now=999)
    with pytest.raises(Gone):
        invitation_lifecycle.check_open("open", expires=1000, now=1000)
    with pytest.raises(Conflict) as refused:
        invitation_lifecycle.check_open("accepted", expires=1000, now=999)
    assert "already accepted" in refused.value.message
    assert invitation_lifecycle.LIFETIME_MS == 7 * 24 * 60 * 60 * 1000


def test_the_address_is_as_designed() -> None:
    encoded = [
        base64.urlsafe_b64encode(raw).decode().rstrip("=") for raw in (DIGEST, SECRET, b"https://broker.example")
    ]
    assert ":".join(["dispatch", "invitation", TOKEN, *encoded]) == ADDRESS


def test_nothing_in_an_address_leads_a_browser_anywhere() -> None:
    """Mail and chat programs make links of web addresses, of bare host names and of e-mail addresses within a text."""
    parts = urlsplit(ADDRESS)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("dispatch", "", "", "")
    assert re.fullmatch(r"[A-Za-z0-9_:-]+", ADDRESS), "no dot, no slash, no @, nothing for a shell to read"
    assert "http" not in ADDRESS and "broker.example" not in ADDRESS


@given(
    uuids,
    digests,
    digests,
    st.sampled_from(["https://broker.example", "http://127.0.0.1:9000", "http://[::1]:8080", "https://x.org/dispatch"]),
)
def test_addresses_round_trip(token: str, digest: bytes, secret: bytes, broker: str) -> None:
    text = invitation_address.build_address(broker + "/", token=token, digest=digest, secret=secret)
    assert invitation_address.parse(f"  <{text}>\n") == Address(broker, token, digest, secret)
    assert len(text) <= invitation_address.MAX_ADDRESS


def test_a_bare_token_is_known_from_an_address() -> None:
    assert invitation_address.parse(f" {TOKEN}\n") == Token(TOKEN)


def test_the_secret_is_not_in_the_repr() -> None:
    address = invitation_address.parse(ADDRESS)
    assert isinstance(address, Address)
    assert repr(SECRET) not in repr(address) and "secret" not in repr(address)


_DIGEST, _SECRET, _BROKER = ADDRESS.split(":")[3:]


def _at(broker: str) -> str:
    """The address with another broker in it."""
    encoded = base64.urlsafe_b64encode(broker.encode()).decode().rstrip("=")
    return ADDRESS.replace(_BROKER, encoded)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        TOKEN[:-1],
        TOKEN.upper(),
        TOKEN.replace("-", ""),
        "{" + TOKEN + "}",
        "dispatch:",
        f"dispatch:invitation:{TOKEN}",
        f"dispatch:invitation:{TOKEN}:{_DIGEST}:{_SECRET}",
        ADDRESS.removeprefix("dispatch:"),
        ADDRESS.replace("dispatch:", "DISPATCH:"),
        ADDRESS.replace("dispatch:", "dispatch://"),
        ADDRESS.replace(":invitation:", ":receipt:"),
        ADDRESS.replace(_SECRET, _SECRET[:-1]),
        ADDRESS.replace(_SECRET, _SECRET + "A"),
        ADDRESS.replace(_SECRET, _SECRET[:-1] + "="),
        ADDRESS.replace(_SECRET, _SECRET[:-1] + "B"),  # the two spare bits are not zero
        ADDRESS.replace(_SECRET, ""),
        ADDRESS.replace(_DIGEST, _DIGEST[:-4]),
        ADDRESS.replace(_BROKER, ""),
        ADDRESS.replace(_BROKER, _BROKER + "A"),
        ADDRESS + ":x",
        ADDRESS.replace(":", ": "),
        ADDRESS.replace(TOKEN, TOKEN[:-1]),
        _at("ftp://broker.example"),
        _at("javascript://broker.example"),
        _at("https://"),
        _at("https://me:pw@broker.example"),
        _at("https://broker.example?x=1"),
        _at("https://broker.example#x"),
        _at("https://broker.exam ple"),
        _at("https://broker.exämple"),
        _at("https://broker.example:99999"),
        _at("https://\x1b[2Jbroker.example"),
        _at("https://" + "a" * 1024),
        "https://broker.example/i#" + ":".join((TOKEN, _DIGEST, _SECRET)),
        "http://127.0.0.1/",
    ],
)
def test_malformed_tokens_are_refused_with_what_they_look_like(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        invitation_address.parse(text)
    assert refused.value.code == 422 and refused.value.fix and refused.value.message.isprintable()
    if "broker" not in refused.value.message:
        assert "0192f0c1-" in refused.value.fix and "dispatch:invitation:" in refused.value.fix


@given(
    st.text() | st.text().map(ADDRESS.__add__) | st.text().map(lambda t: ADDRESS.replace(":", t)) | st.text().map(_at)
)
def test_only_our_errors_come_out_of_parsing(text: str) -> None:
    try:
        parsed = invitation_address.parse(text)
    except DispatchError as refused:
        assert refused.code == 422
    else:
        assert parsed.token == str(parsed.token).lower()


def test_an_address_is_good_for_one_invitation() -> None:
    address = invitation_address.parse(ADDRESS)
    assert isinstance(address, Address)
    invitation_address.check_digest(address, b"an invitation")
    with pytest.raises(Invalid):
        invitation_address.check_digest(address, b"another invitation")


def test_a_page_names_its_invitation_and_proves_nothing() -> None:
    page = invitation_address.page_of("https://broker.example/d", TOKEN)
    assert invitation_address.parse(page) == invitation_address.Page("https://broker.example/d", TOKEN)
    for other in (f"{page}#{_SECRET}", f"{page}?s=1", f"{page}x", "https://me@broker.example/join/" + TOKEN):
        with pytest.raises(Invalid):
            invitation_address.parse(other)


@pytest.mark.parametrize(
    "around", ["{}", " <{}> ", "'{}'", "“{}”.", "`dispatch join {}`", "$ dispatch join '{}'", "{}\n"]
)
def test_what_people_paste_around_it_is_left_out(around: str) -> None:
    for meant in (TOKEN, ADDRESS, invitation_address.page_of("https://broker.example", TOKEN)):
        assert invitation_address.parse(around.format(meant)) == invitation_address.parse(meant)


def test_the_address_of_a_web_page_says_that_it_is_none() -> None:
    with pytest.raises(Invalid, match="web address is not an invitation"):
        invitation_address.parse("https://broker.example/i#" + ":".join((TOKEN, _DIGEST, _SECRET)))


def test_the_proof_is_hmac_sha256_over_both_digests() -> None:
    other = hashlib.sha256(b"device-set").digest()
    made = invitation_address.proof(SECRET, invitation_digest=DIGEST, device_set_digest=other)
    assert made == hmac.new(SECRET, DIGEST + other, hashlib.sha256).digest()
    # openssl dgst -sha256 -mac HMAC gave this
    assert made.hex() == "09d585d1493753205b8f268d347e5f21dd9f400c5196c19b03c2eed10771473e"


@given(digests, digests, digests, st.integers(0, 255))
def test_changing_anything_breaks_the_proof(secret: bytes, invitation: bytes, devices: bytes, bit: int) -> None:
    def flipped(raw: bytes) -> bytes:
        return (int.from_bytes(raw) ^ 1 << bit).to_bytes(32)

    made = invitation_address.proof(secret, invitation_digest=invitation, device_set_digest=devices)
    assert invitation_address.proven(made, secret, invitation_digest=invitation, device_set_digest=devices)
    for args in ((flipped(secret), invitation, devices), (secret, flipped(invitation), devices)):
        assert not invitation_address.proven(made, args[0], invitation_digest=args[1], device_set_digest=args[2])
    assert not invitation_address.proven(made, secret, invitation_digest=invitation, device_set_digest=flipped(devices))
    assert not invitation_address.proven(flipped(made), secret, invitation_digest=invitation, device_set_digest=devices)
    assert not invitation_address.proven(b"", secret, invitation_digest=invitation, device_set_digest=devices)


def test_digests_and_secrets_have_one_length() -> None:
    for secret, invitation, devices in ((b"x", DIGEST, DIGEST), (SECRET, b"x", DIGEST), (SECRET, DIGEST, b"x")):
        with pytest.raises(Invalid):
            invitation_address.proof(secret, invitation_digest=invitation, device_set_digest=devices)
    with pytest.raises(Invalid):
        invitation_address.build_address("https://b.example", token=TOKEN, digest=b"x", secret=SECRET)


@pytest.mark.parametrize("wrong", [{"digest": bytes(31)}, {"secret": bytes(33)}, {"token": TOKEN[:-1]}])
def test_no_address_is_made_that_could_not_be_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        invitation_address.build_address("https://broker.example", **{**PARTS, **wrong})


def test_a_broker_and_an_address_have_a_longest() -> None:
    longest = "https://broker.example/".ljust(invitation_address.MAX_BROKER, "x")
    address = invitation_address.parse(invitation_address.build_address(longest, **PARTS))
    assert isinstance(address, Address) and address.broker == longest
    with pytest.raises(Invalid, match="too long"):
        invitation_address.build_address(longest + "x", **PARTS)
    for length, match in (
        (invitation_address.MAX_ADDRESS, "malformed"),
        (invitation_address.MAX_ADDRESS + 1, "at most"),
    ):
        with pytest.raises(Invalid, match=match):
            invitation_address.parse("x" * length)


def test_an_address_without_a_broker_is_one_that_was_cut_short() -> None:
    with pytest.raises(Invalid, match="cut short"):
        invitation_address.parse(ADDRESS.replace(_BROKER, ""))
