"""Invitations: answered once, links parsed strictly, proofs that bind both digests."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import Conflict, DispatchError, Gone, Invalid
from peer.trust import invitations
from peer.trust.invitations import Link, Token

TOKEN = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
SECRET = bytes(range(32))
DIGEST = hashlib.sha256(b"an invitation").digest()
LINK = invitations.build_link("https://broker.example", token=TOKEN, digest=DIGEST, secret=SECRET)

uuids = st.uuids().map(str)
digests = st.binary(min_size=32, max_size=32)


def test_an_open_invitation_is_answered_once() -> None:
    answers = {"accept": "accepted", "decline": "declined", "withdraw": "withdrawn", "expire": "expired"}
    for event, after in answers.items():
        assert invitations.next_state("open", event) == after  # type: ignore[arg-type]
        for again in answers:
            with pytest.raises(Gone if after == "expired" else Conflict):
                invitations.next_state(after, again)  # type: ignore[arg-type]


def test_an_invitation_ends_at_its_expiry() -> None:
    invitations.check_open("open", expires=1000, now=999)
    with pytest.raises(Gone):
        invitations.check_open("open", expires=1000, now=1000)
    with pytest.raises(Conflict) as refused:
        invitations.check_open("accepted", expires=1000, now=999)
    assert "accepted already" in refused.value.message
    assert invitations.LIFETIME_MS == 7 * 24 * 60 * 60 * 1000


def test_the_link_text_is_as_designed() -> None:
    address, fragment = LINK.split("#")
    assert address == "https://broker.example/i"
    encoded = [base64.urlsafe_b64encode(raw).decode().rstrip("=") for raw in (DIGEST, SECRET)]
    assert fragment == ".".join([TOKEN, *encoded])


@given(
    uuids,
    digests,
    digests,
    st.sampled_from(["https://broker.example", "http://127.0.0.1:9000", "http://[::1]:8080", "https://x.org/dispatch"]),
)
def test_links_round_trip(token: str, digest: bytes, secret: bytes, broker: str) -> None:
    text = invitations.build_link(broker + "/", token=token, digest=digest, secret=secret)
    assert invitations.parse(f"  <{text}>\n") == Link(broker, token, digest, secret)
    assert len(text) <= invitations.MAX_LINK


def test_a_bare_token_is_known_from_a_link() -> None:
    assert invitations.parse(f" {TOKEN}\n") == Token(TOKEN)


def test_the_secret_is_not_in_the_repr() -> None:
    link = invitations.parse(LINK)
    assert isinstance(link, Link)
    assert repr(SECRET) not in repr(link) and "secret" not in repr(link)


_HEAD, _FRAGMENT = LINK.split("#")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        TOKEN[:-1],
        TOKEN.upper(),
        TOKEN.replace("-", ""),
        "{" + TOKEN + "}",
        _HEAD,
        f"{_HEAD}#{TOKEN}",
        LINK[:-1],
        LINK + "A",
        LINK + ".x",
        LINK[:-1] + "=",
        LINK[:-1] + "B",  # the two spare bits are not zero
        LINK.replace("/i#", "/j#"),
        LINK.replace("https", "ftp"),
        LINK.replace("https://", "javascript://"),
        LINK.replace("https://broker.example", "https://"),
        LINK.replace("https://", "https://me:pw@"),
        LINK.replace("/i#", "/i?x=1#"),
        LINK.replace("/i#", "?x=1/i#"),
        LINK.replace("example", "exam ple"),
        LINK.replace("example", "exämple"),
        LINK.replace(".example", ".example:99999"),
        LINK.replace("broker", "\x1b[2Jbroker"),
        LINK.replace(TOKEN, TOKEN[:-1]),
        LINK.replace("https://", "https://" + "a" * 1024),
    ],
)
def test_malformed_tokens_are_refused_with_what_they_look_like(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        invitations.parse(text)
    assert refused.value.code == 422 and refused.value.fix and refused.value.message.isprintable()
    if "broker" not in refused.value.message:
        assert "0192f0c1-" in refused.value.fix and "/i#" in refused.value.fix


@given(st.text() | st.text().map(LINK.__add__) | st.text().map(lambda t: LINK.replace(".", t)))
def test_only_our_errors_come_out_of_parsing(text: str) -> None:
    try:
        parsed = invitations.parse(text)
    except DispatchError as refused:
        assert refused.code == 422
    else:
        assert parsed.token == str(parsed.token).lower()


def test_a_link_is_good_for_one_invitation() -> None:
    link = invitations.parse(LINK)
    assert isinstance(link, Link)
    invitations.check_digest(link, b"an invitation")
    with pytest.raises(Invalid):
        invitations.check_digest(link, b"another invitation")


def test_the_proof_is_hmac_sha256_over_both_digests() -> None:
    other = hashlib.sha256(b"device-set").digest()
    made = invitations.proof(SECRET, invitation_digest=DIGEST, device_set_digest=other)
    assert made == hmac.new(SECRET, DIGEST + other, hashlib.sha256).digest()
    # openssl dgst -sha256 -mac HMAC gave this
    assert made.hex() == "09d585d1493753205b8f268d347e5f21dd9f400c5196c19b03c2eed10771473e"


@given(digests, digests, digests, st.integers(0, 255))
def test_changing_anything_breaks_the_proof(secret: bytes, invitation: bytes, devices: bytes, bit: int) -> None:
    def flipped(raw: bytes) -> bytes:
        return (int.from_bytes(raw) ^ 1 << bit).to_bytes(32)

    made = invitations.proof(secret, invitation_digest=invitation, device_set_digest=devices)
    assert invitations.proven(made, secret, invitation_digest=invitation, device_set_digest=devices)
    for args in ((flipped(secret), invitation, devices), (secret, flipped(invitation), devices)):
        assert not invitations.proven(made, args[0], invitation_digest=args[1], device_set_digest=args[2])
    assert not invitations.proven(made, secret, invitation_digest=invitation, device_set_digest=flipped(devices))
    assert not invitations.proven(flipped(made), secret, invitation_digest=invitation, device_set_digest=devices)
    assert not invitations.proven(b"", secret, invitation_digest=invitation, device_set_digest=devices)


def test_digests_and_secrets_have_one_length() -> None:
    for secret, invitation, devices in ((b"x", DIGEST, DIGEST), (SECRET, b"x", DIGEST), (SECRET, DIGEST, b"x")):
        with pytest.raises(Invalid):
            invitations.proof(secret, invitation_digest=invitation, device_set_digest=devices)
    with pytest.raises(Invalid):
        invitations.build_link("https://b.example", token=TOKEN, digest=b"x", secret=SECRET)
