"""What is read of the bytes that a client sends, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.http1.requests import MAX_HEAD, MAX_PIPELINED, BadRequest, RequestReader

HOST = b"Host: a\r\n"

Read = tuple[str, bytes, str, bool, list[tuple[bytes, bytes]], bytes, bool]


def read(*pieces: bytes) -> tuple[list[Read], int]:
    """Return the requests that are read, and the status of the refusal that ended it, or 0."""
    reader, status = RequestReader(), 0
    try:
        for piece in pieces:
            reader.feed(piece)
    except BadRequest as refused:
        status = refused.status
    return [
        (each.method, each.target, each.version, each.keep_alive, each.headers, b"".join(each.pieces), each.complete)
        for each in reader.ready
    ], status


@pytest.mark.parametrize(
    ("sent", "read_of_it"),
    [
        (b"GET /a?b=c HTTP/1.1\r\n" + HOST + b"\r\n", ("GET", b"/a?b=c", "1.1", True, [(b"host", b"a")], b"", True)),
        (b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", ("GET", b"/", "1.1", True, [(b"host", b"a")], b"", True)),
        (b"GET / HTTP/1.0\r\n\r\n", ("GET", b"/", "1.0", False, [], b"", True)),
        (
            b"GET / HTTP/1.1\r\nX:\r\nConnection: close\r\n\r\n",
            ("GET", b"/", "1.1", False, [(b"x", b""), (b"connection", b"close")], b"", True),
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
            ("POST", b"/", "1.1", True, [(b"content-length", b"3")], b"ab", False),
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nHost: b\r\n\r\n",
            ("POST", b"/", "1.1", True, [(b"transfer-encoding", b"chunked")], b"abc", True),
        ),
        (
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            ("GET", b"/", "1.1", False, [(b"connection", b"Upgrade"), (b"upgrade", b"h2c")], b"", True),
        ),
    ],
)
def test_a_request_however_it_is_cut(sent: bytes, read_of_it: Read) -> None:
    assert read(sent) == ([read_of_it], 0)
    assert read(*(sent[place : place + 1] for place in range(len(sent)))) == ([read_of_it], 0)


@given(st.data())
def test_where_the_pieces_end_changes_nothing(data: st.DataObject) -> None:
    one = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    kinds = data.draw(st.lists(st.sampled_from([one, chunked, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"]), max_size=5))
    sent = b"".join(kind % number for number, kind in enumerate(kinds))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    whole, refused = read(sent)
    assert refused == 0 and [each[1] for each in whole] == [b"/%d" % number for number in range(len(kinds))]
    assert all(each[5] == (b"" if each[0] == "GET" else b"hello") and each[6] for each in whole)
    assert read(*pieces) == (whole, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\n: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 x\r\n\r\n",
        b"GET / HTTPS/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_could_be_read_in_two_ways_is_not_read(sent: bytes) -> None:
    assert read(sent)[1] == 400
    assert read(*(sent[place : place + 1] for place in range(len(sent))))[1] == 400


def test_a_refusal_leaves_what_came_before_it() -> None:
    requests, status = read(b"GET /first HTTP/1.1\r\n" + HOST + b"\r\nnonsense")
    assert [each[1] for each in requests] == [b"/first"] and status == 400


def test_heads_are_bounded() -> None:
    """Seen to fail without it: what has no end is kept."""
    long = b"X: " + b"x" * MAX_HEAD
    assert read(b"GET / HTTP/1.1\r\n" + long) == ([], 431)
    assert read(b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * MAX_HEAD)[1] == 431
    assert read(b"GET /", *[b"x" * 100] * MAX_HEAD)[1] == 431
    fits = b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * (MAX_HEAD - 40)
    requests, status = read(fits, b"\r\n\r\n", fits, b"\r\n\r\n")
    assert len(requests) == 2 and status == 0


def test_what_frames_a_body_is_bounded() -> None:
    """Seen to fail without it: an extension of a chunk, or a header behind the last one, without end."""
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for endless in (b"1;" + b"x" * 1000, b"0\r\nX: " + b"x" * 1000):
        assert read(chunked, endless, *[b"x" * 1000] * MAX_HEAD)[1] == 400
    pieces = [b"1\r\nx\r\n"] * 50_000  # chunks as small as can be are in order
    [request], status = read(chunked, *pieces, b"0\r\n\r\n")
    assert status == 0 and len(request[5]) == 50_000
    [request], status = read(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", *[b"x" * 16_000] * 62, b"x" * 8000)
    assert status == 0 and len(request[5]) == 1_000_000 and request[6]


def test_requests_that_are_sent_ahead_are_bounded() -> None:
    one = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert read(one * MAX_PIPELINED)[1] == 0
    assert read(one * (MAX_PIPELINED + 1))[1] == 400
