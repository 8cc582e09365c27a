"""Signing in and inviting by mail, through a real SMTP server with STARTTLS and authentication."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import trio

from peer.broker.client import LoginToken
from peer.protocol.errors import Conflict, Forbidden
from peer.protocol.signing import sign_by_device
from peer.trust.invitation_address import page_of
from rendezvous import mail, mail_texts
from rendezvous.limits import Limits
from rendezvous.mail import Mail, Mailer, SmtpSettings
from rendezvous.storage.limits import StorageLimits
from tests.conftest import HANG
from tests.rendezvous.world import MailServer, People, Person, Running, people_at, running_broker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    with MailServer(tmp_path / "mail").running() as server:
        yield server


def settings(server: MailServer, **changes: object) -> SmtpSettings:
    fields = {
        "host": "127.0.0.1",
        "port": server.port,
        "sender": "dispatch <dispatch@broker.example>",
        "user": server.USER,
        "password": server.PASSWORD,
        "ca": server.ca,
    }
    return SmtpSettings(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
async def broker(server: MailServer, tmp_path: Path) -> AsyncIterator[Running]:
    async with running_broker(tmp_path / "broker", dev=False, mailer=Mailer(settings(server))) as running:
        yield running


@pytest.fixture
async def people(broker: Running, tmp_path: Path) -> AsyncIterator[People]:
    async with people_at(broker, tmp_path / "people") as people:
        yield people


async def start(person: Person) -> tuple[str, str]:
    """Ask for a sign-in and type the code on the first page; return (device code, user code)."""
    prompt = await person.client.login_device(person.who.device_set)
    page = await person.http.get(prompt.verification_uri_complete)
    assert "DEVELOPMENT" not in page.text and prompt.user_code in page.text
    response = await person.http.post(prompt.verification_uri, data={"user_code": prompt.user_code})
    assert response.status_code == 200 and "mailbox" in response.text, response.text
    return prompt.device_code, prompt.user_code


def mailed_page(server: MailServer) -> tuple[str, str]:
    """Return (address without query, token) of the page in the last mail."""
    text = server.taken[-1][1].get_content().replace("\r\n", "\n")
    found = re.search(r"^ +(http://\S+/login/mail)\?t=(\S+)$", text, re.M)
    assert found, text
    return found[1], found[2]


async def test_sign_in_by_mail(broker: Running, people: People, server: MailServer) -> None:
    alice = await people.new("alice@example.org")
    device_code, user_code = await start(alice)
    ((recipients, message),) = server.taken
    assert recipients == ["alice@example.org"] and message["to"] == "alice@example.org"
    assert message["from"] == "dispatch <dispatch@broker.example>" and message["auto-submitted"] == "auto-generated"
    # The code is in neither the mail nor the page it leads to: only the device shows it.
    page, token = mailed_page(server)
    opened = await alice.http.get(page, params={"t": token})
    assert user_code not in str(message) and user_code not in opened.text
    assert alice.who.device in opened.text
    assert await alice.client.login_token(device_code) == "authorization_pending"  # the link approved nothing

    done = await alice.http.post(page, data={"t": token, "user_code": user_code})
    assert done.status_code == 200 and "Signed in" in done.text
    assert isinstance(await alice.client.login_token(device_code), LoginToken)
    again = await alice.http.get(page, params={"t": token})
    assert again.status_code == 404


async def test_typing_the_code_on_the_first_page_approves_nothing(
    broker: Running, people: People, server: MailServer
) -> None:
    mallory = await people.new("alice@example.org")  # Mallory's device, Alice's address
    device_code, user_code = await start(mallory)
    for path, fields in (
        ("/login", {"user_code": user_code}),
        ("/login/mail", {"user_code": user_code}),
        ("/login/mail", {"user_code": user_code, "t": ""}),
        ("/login/mail", {"user_code": user_code, "t": "guess"}),
    ):
        await mallory.http.post(broker.url + path, data=fields)
    assert await mallory.client.login_token(device_code) == "authorization_pending"


async def test_a_mistyped_code_is_forgiven_four_times(broker: Running, people: People, server: MailServer) -> None:
    alice = await people.new("alice@example.org")
    device_code, user_code = await start(alice)
    page, token = mailed_page(server)
    codes = ["BBBB-BBBB"] * 4
    statuses = [(await alice.http.post(page, data={"t": token, "user_code": c})).status_code for c in codes]
    assert statuses == [422] * 4
    assert (await alice.http.post(page, data={"t": token, "user_code": "BBBB-BBBB"})).status_code == 410
    assert broker.broker.metrics.value("dispatch_refused_total", reason="wrong_codes") == 1
    assert (await alice.http.post(page, data={"t": token, "user_code": user_code})).status_code == 409
    with pytest.raises(Forbidden, match="mistyped too often"):
        await alice.client.login_token(device_code)


async def test_the_owner_of_the_mailbox_can_deny(broker: Running, people: People, server: MailServer) -> None:
    mallory = await people.new("alice@example.org")
    device_code, _ = await start(mallory)
    page, token = mailed_page(server)
    assert (await mallory.http.post(page, data={"t": token, "deny": "1"})).status_code == 200
    with pytest.raises(Forbidden, match="owner of the mailbox denied"):
        await mallory.client.login_token(device_code)


async def test_one_address_gets_so_many_mails_a_day_and_no_more(server: MailServer, tmp_path: Path) -> None:
    kept = StorageLimits(sign_in_mails_to_one_user=2)
    async with (
        running_broker(tmp_path / "broker", dev=False, mailer=Mailer(settings(server)), kept=kept) as broker,
        people_at(broker, tmp_path / "people") as people,
    ):
        alice = await people.new("alice@example.org")
        prompt = await alice.client.login_device(alice.who.device_set)
        for expected in (200, 200, 429):
            response = await alice.http.post(prompt.verification_uri, data={"user_code": prompt.user_code})
            assert response.status_code == expected
        assert len(server.taken) == 2
        # Only the page of the last mail can approve.
        tokens = [re.search(r"t=(\S+)", message.get_content())[1] for _, message in server.taken]  # type: ignore[index]
        opened = [(await alice.http.get(f"{broker.url}/login/mail", params={"t": t})).status_code for t in tokens]
        assert opened == [404, 200]


async def test_strangers_and_inviters_keep_nobody_from_signing_in(server: MailServer, tmp_path: Path) -> None:
    kept = StorageLimits(sign_in_mails_to_one_user=3)
    async with (
        running_broker(
            tmp_path / "broker", dev=False, mailer=Mailer(settings(server)), kept=kept, proxies=("127.0.0.1",)
        ) as broker,
        people_at(broker, tmp_path / "people") as people,
    ):
        # An account of Mallory's invites Alice and withdraws as often as it may.
        mallory = await people.new("mallory@example.org")
        device_code, user_code = await start(mallory)
        page, token = mailed_page(server)
        assert (await mallory.http.post(page, data={"t": token, "user_code": user_code})).status_code == 200
        assert isinstance(await mallory.client.login_token(device_code), LoginToken)
        for _ in range(6):
            made = mallory.invitation("alice@example.org")
            posted = await mallory.client.post_invitation(sign_by_device(made, mallory.who.seed).raw)
            await mallory.client.withdraw(posted.token)
        assert [message["to"] for _, message in server.taken[1:]] == ["alice@example.org"] * 2
        counted = broker.broker.metrics.value
        assert counted("dispatch_refused_total", reason="invitation_mails") == 4
        # Devices that claim Alice's address, from networks of their own, ask for mails until none is sent any more.
        stranger, statuses = await people.new("alice@example.org"), []
        for number in range(6):
            prompt = await stranger.client.login_device(stranger.who.device_set)
            response = await stranger.http.post(
                prompt.verification_uri,
                data={"user_code": prompt.user_code},
                headers={"x-forwarded-for": f"203.0.113.{number}"},
            )
            statuses.append(response.status_code)
        assert statuses == [200] * 3 + [429] * 3
        assert counted("dispatch_refused_total", reason="sign_in_mails") == 3
        assert counted("dispatch_mails_total", outcome="accepted") == len(server.taken) == 6
        # The page of such a mail is as good as one of her own, and approves the device whose code she types.
        alice = await people.new("alice@example.org")
        prompt = await alice.client.login_device(alice.who.device_set)
        response = await alice.http.post(prompt.verification_uri, data={"user_code": prompt.user_code})
        assert response.status_code == 429 and "the link in the newest mail" in response.text
        page, token = mailed_page(server)
        assert prompt.user_code != "BBBB-BBBB"
        assert (await alice.http.post(page, data={"t": token, "user_code": "BBBB-BBBB"})).status_code == 422
        form = {"t": token, "user_code": prompt.user_code, "device": stranger.who.device}
        for _ in range(2):  # not before a page has named that device
            shown = await alice.http.post(page, data=form)
            assert shown.status_code == 200 and "Signed in" not in shown.text
            assert f'name="device" value="{alice.who.device}"' in shown.text and prompt.user_code not in shown.text
        done = await alice.http.post(page, data={**form, "device": alice.who.device})
        assert done.status_code == 200 and "Signed in" in done.text
        assert isinstance(await alice.client.login_token(prompt.device_code), LoginToken)
        # Now the address is hers: devices without her root key cannot even ask.
        with pytest.raises(Conflict):
            await stranger.client.login_device(stranger.who.device_set)


async def test_a_mailed_page_approves_no_device_of_another_user(
    broker: Running, people: People, server: MailServer
) -> None:
    mallory = await people.new("mallory@example.org")
    await start(mallory)
    page, token = mailed_page(server)
    claims_alice = await people.new("alice@example.org")
    prompt = await claims_alice.client.login_device(claims_alice.who.device_set)
    done = await mallory.http.post(page, data={"t": token, "user_code": prompt.user_code})
    assert done.status_code == 422
    assert await claims_alice.client.login_token(prompt.device_code) == "authorization_pending"


async def test_an_invitation_is_mailed_once_with_no_secret(broker: Running, people: People, server: MailServer) -> None:
    alice = await people.new("alice@example.org")
    device_code, user_code = await start(alice)
    page, token = mailed_page(server)
    await alice.http.post(page, data={"t": token, "user_code": user_code})
    assert isinstance(await alice.client.login_token(device_code), LoginToken)

    raw = alice.signed_invitation("bob@example.org")
    posted = await alice.client.post_invitation(raw)
    assert posted.emailed
    assert not (await alice.client.post_invitation(raw)).emailed  # again: nothing changes, nothing is mailed
    recipients, message = server.taken[-1]
    assert len(server.taken) == 2 and recipients == ["bob@example.org"]
    text = message.get_content().replace("\r\n", "\n")
    for needed in (
        "\n     " + page_of(broker.url, posted.token) + "\n",
        "\n     dispatch join " + page_of(broker.url, posted.token) + " --email bob@example.org\n",
        "ask\n     alice@example.org which command they used",
    ):
        assert needed in text
    assert "#" not in text and all(len(line) <= 80 for line in text.splitlines() if "http" not in line)
    (row,) = (await alice.client.invitations()).sent
    assert row.mailed is True and row.fetched is None

    server.refuse = True
    other = await alice.client.post_invitation(alice.signed_invitation("carol@example.org"))
    assert not other.emailed
    assert broker.broker.metrics.value("dispatch_mails_total", outcome="failed") == 1
    (_, at_broker) = (await alice.client.invitations()).sent
    assert (at_broker.status, at_broker.mailed) == ("pending", False)  # the link can still be shared


async def test_a_code_that_was_typed_in_this_browser_is_not_asked_for_again(
    broker: Running, people: People, server: MailServer
) -> None:
    """Only where it was typed: a link that shows the code, which anybody can send, is no typing."""
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    login = prompt.verification_uri
    shown = await alice.http.get(prompt.verification_uri_complete)
    assert prompt.user_code in shown.text and 'name="shown"' in shown.text and 'id="user_code"' not in shown.text
    await alice.http.post(login, data={"user_code": prompt.user_code, "shown": "1"})
    page, token = mailed_page(server)
    assert 'id="user_code"' in (await alice.http.get(page, params={"t": token})).text
    assert (await alice.http.post(page, data={"t": token})).status_code == 422

    async with httpx.AsyncClient() as browser:
        assert (await browser.post(login, data={"user_code": prompt.user_code})).status_code == 200
        page, token = mailed_page(server)
        assert 'id="user_code"' in (await alice.http.get(page, params={"t": token})).text
        opened = await browser.get(page, params={"t": token})
        assert 'id="user_code"' not in opened.text and alice.who.device in opened.text
        assert await alice.client.login_token(prompt.device_code) == "authorization_pending"
        assert "Signed in" in (await browser.post(page, data={"t": token})).text


async def test_a_mail_that_cannot_be_sent_is_said(broker: Running, people: People, server: MailServer) -> None:
    server.refuse = True
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    response = await alice.http.post(prompt.verification_uri, data={"user_code": prompt.user_code})
    assert response.status_code == 503 and "could not be sent" in response.text


async def test_the_mailer_trusts_and_authenticates(server: MailServer, tmp_path: Path) -> None:
    hello = Mail("bob@example.org", "hello", "text")
    assert await Mailer(settings(server)).send(hello)
    assert not await Mailer(settings(server, ca=None)).send(hello)  # a certificate that nobody vouches for
    assert not await Mailer(settings(server, password="wrong")).send(hello)
    assert not await Mailer(settings(server, user="")).send(hello)
    assert not await Mailer(settings(server, port=1)).send(hello)
    assert len(server.taken) == 1


async def test_a_silent_mail_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "WHOLE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        mailer = Mailer(SmtpSettings(host="127.0.0.1", port=port, sender="d@broker.example"))
        with trio.fail_after(HANG):
            assert not await mailer.send(Mail("bob@example.org", "hello", "text"))
    # The abandoned thread sees its connection closed and ends; nothing waits for it.


@pytest.mark.parametrize("bad", ["a\nBcc: eve@example.org", "a\r\nBcc: eve@example.org", "a\rb"])
async def test_no_header_can_be_injected(server: MailServer, bad: str) -> None:
    mailer = Mailer(settings(server))
    assert not await mailer.send(Mail("bob@example.org", bad, "text"))
    assert not await mailer.send(Mail(f"bob@example.org{bad}", "subject", "text"))
    assert server.taken == []
    made = mail_texts.sign_in(
        to="a@b.c", device_name=f"lap{bad}\u202etop\x1b[2J", address="::1", asked_ms=0, page="p", origin="o"
    )
    assert "\nBcc" not in made.text and "\x1b" not in made.text and "\u202e" not in made.text


@pytest.mark.parametrize("mark", ['"', "“", "”", "„", "«"])
def test_a_devices_name_does_not_leave_its_quotation(mark: str) -> None:
    """Seen to fail with a name as it came."""
    name = f"laptop{mark} is yours. Open evil.example now, {mark}really"
    made = mail_texts.sign_in(to="a@b.c", device_name=name, address="::1", asked_ms=0, page="p", origin="o")
    (first,) = [each for each in made.text.splitlines() if "evil.example" in each]
    assert first.count('"') == 2 and first.index("evil.example") < first.rindex('"') and mark not in first.split('"')[1]


async def test_a_strange_but_valid_address_is_only_an_address(server: MailServer) -> None:
    mailer = Mailer(settings(server))
    for user in ("a..b@example.org", "!#$%&'*+/=?^_`{|}~-@example.org", ".@localhost"):
        await mailer.send(Mail(user, "hello", "text"))
    for recipients, message in server.taken:
        assert len(recipients) == 1 and message["bcc"] is None and message.get_content().strip() == "text"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_guess_of_codes_is_slowed_down(tmp_path: Path, method: str) -> None:
    """And from then on it learns nothing of a right one either, on no page."""
    limits = Limits(unknown_codes_per_minute=1, unknown_code_burst=5)
    async with (
        running_broker(tmp_path / "b", requests=limits) as running,
        people_at(running, tmp_path / "p") as people,
        httpx.AsyncClient(trust_env=False, verify=False) as http,
    ):
        alice = await people.new("alice@example.org")
        right = (await alice.client.login_device(alice.who.device_set)).user_code

        async def guess(code: str, method: str) -> tuple[int, str]:
            page = f"{running.url}/login"
            form = {"user_code": code, "shown": "1"}
            got = await (http.post(page, data=form) if method == "POST" else http.get(page, params={"code": code}))
            return got.status_code, got.text

        missed = 404 if method == "POST" else 200
        assert [(await guess("BBBB-BBBB", method))[0] for _ in range(7)] == [missed] * 5 + [429] * 2
        for other in ("GET", "POST"):
            status, text = await guess(right, other)
            assert status == 429 and "alice" not in text
        assert running.broker.metrics.value("dispatch_refused_total", reason="unknown_codes_per_minute") == 4
        running.clock.move(seconds=61)
        status, text = await guess(right, "GET")
        assert status == 200 and "alice@example.org" in text
