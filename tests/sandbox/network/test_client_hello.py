"""The name in a ClientHello: of real clients, in any pieces; and everything that is refused. Pure."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.network.client_hello import MOST_BYTES, NotAClientHello, server_name


def hello(name: str | None = "code.example.org") -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    if name is None:
        context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def message(data: bytes) -> bytes:
    return data[5:]


def records(handshake: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes."""
    pieces = [handshake[at : at + size] for at in range(0, len(handshake), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


def built(extensions: bytes, *, session: bytes = b"", ciphers: bytes = b"\x13\x01", after: bytes = b"") -> bytes:
    body = b"\x03\x03" + bytes(32) + bytes([len(session)]) + session
    body += len(ciphers).to_bytes(2) + ciphers + b"\x01\x00" + len(extensions).to_bytes(2) + extensions + after
    return records(b"\x01" + len(body).to_bytes(3) + body, 16_000)


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + len(content).to_bytes(2) + content


def name_extension(*names: bytes, kind: int = 0) -> bytes:
    listed = b"".join(bytes([kind]) + len(name).to_bytes(2) + name for name in names)
    return extension(0, len(listed).to_bytes(2) + listed)


def test_the_name_of_a_real_client() -> None:
    assert server_name(hello()) == "code.example.org"
    assert server_name(hello("CODE.example.org")) == "code.example.org"


@given(st.data())
def test_any_beginning_of_it_is_too_short(data: st.DataObject) -> None:
    whole = hello()
    assert server_name(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@given(st.integers(1, 600), st.binary(max_size=40))
def test_in_records_of_any_size_with_early_data_behind(size: int, early: bytes) -> None:
    whole = records(message(hello()), size)
    assert server_name(whole) == "code.example.org"
    assert server_name(whole + b"\x17\x03\x03" + len(early).to_bytes(2) + early) == "code.example.org"


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_too_short(data: bytes) -> None:
    try:
        assert server_name(data) is None
    except NotAClientHello as why:
        assert str(why)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_never_breaks_it(place: int, by: int) -> None:
    whole = bytearray(hello())
    whole[place % len(whole)] ^= by
    with contextlib.suppress(NotAClientHello):
        server_name(bytes(whole))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not begin with TLS"),
        (b"SSH-2.0-x\r\n", "does not begin with TLS"),
        (b"\x80\x2e\x01\x03\x01", "does not begin with TLS"),  # an SSLv2 ClientHello
        (b"\x16\x03\x01\x00\x00", "impossible length"),
        (b"\x16\x03\x01\x40\x01\x01", "impossible length"),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "not a ClientHello"),
        (b"\x16\x03\x01\x00\x04\x01\x01\x00\x01", "too long"),
        (built(b""), "names no server"),
        (hello(None), "names no server"),
        (built(extension(0xFE0D, b"x") + name_extension(b"code.example.org")), "hides the name"),
        (built(name_extension(b"code.example.org") + extension(0xFE0D, b"")), "hides the name"),
        (built(extension(0xFFCE, b"x") + name_extension(b"code.example.org")), "hides the name"),
        (built(name_extension(b"a.example") + name_extension(b"b.example")), "twice"),
        (built(name_extension(b"a.example", b"b.example")), "more than one server"),
        (built(name_extension(b"a.example", kind=1)), "names no host"),
        (built(name_extension("ä.example".encode())), "names no host"),
        (built(name_extension(b"a.example"), after=b"x"), "broken"),
        (built(name_extension(b"a.example"), session=bytes(33)), "broken"),
        (built(name_extension(b"a.example"), ciphers=b"\x13"), "broken"),
        (built(extension(0, b"")), "broken"),
        (built(b"\x00\x00\x00\x09x"), "broken"),
        (records(message(hello()) + b"\x01", 16_000), "something follows"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(NotAClientHello, match=why):
        server_name(data)


def test_it_is_bounded() -> None:
    endless = records(b"\x01" + MOST_BYTES.to_bytes(3) + bytes(MOST_BYTES - 100), 16_000)
    assert len(endless) < MOST_BYTES and server_name(endless) is None
    with pytest.raises(NotAClientHello, match="too long"):
        server_name(endless + b"\x16\x03\x01\x10\x00" + bytes(90))
