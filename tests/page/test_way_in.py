"""From the mail to the first result: a real mail server, TLS at the broker, a real browser, a real shell.

Every command is taken as it stands from the mail, from the page (by its Copy button), from what a program said last, or
from README's five minutes, whose commands are all run, in their order. An action is what a person begins: a page
opened, a button pressed with what was typed beside it, a command run with the questions that it asks.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page

from peer.machine.state_folder import StateFolder
from tests.cli.test_terminal import plain
from tests.conftest import HANG
from tests.mesh.relays.test_real_relay import free_port
from tests.page.browser import AXE, WITHIN_MS
from tests.rendezvous.world import MailServer, make_certificate
from tests.system.way_in import PROMPT, Readme, Shell, indented, installer
from tests.system.world import Program, clean_environment, eventually

ALICE, BOB = "alice@example.org", "bob@example.org"
MOST_ACTIONS = 8
FIXED, WHY = "lines = text.split(sep)\n", "It drops what stands behind the last separator."


class Somebody:
    """A person with a shell, a mailbox and a browser; counts what they do."""

    def __init__(self, name: str, folder: Path, ca: Path, mail: MailServer, page: Page) -> None:
        self.email = f"{name}@example.org"
        self.home = folder / name
        self.home.mkdir()
        self.actions: list[str] = []
        self.mail, self.page = mail, page
        self.state = StateFolder(self.home / ".dispatch")
        self.parser = self.home / "parser"
        self.parser.mkdir()
        (self.parser / "parser.py").write_text("lines = text.split(sep)[:-1]\n")
        script = self.home / "script.json"
        steps = [
            {"tool": "Write", "input": {"file_path": str(self.parser / "parser.py"), "content": FIXED}},
            {"tool": "Write", "input": {"file_path": "/dispatch/out/why.txt", "content": WHY}},
            {"say": WHY},
        ]
        script.write_text(json.dumps(steps))
        settings = {"port": 0, "listen": ["/ip4/127.0.0.1/tcp/0"], "runtime": "scripted", "script": str(script)}
        self.state.write_private(self.state.config, json.dumps(settings).encode())
        self._asked = self.home / "browser"
        opener = self.home / "open-browser"
        opener.write_text(f'#!/bin/sh\necho "$1" > {self._asked}\n')
        opener.chmod(opener.stat().st_mode | stat.S_IXUSR)
        environment = clean_environment(self.home) | {
            "PATH": f"{self.home}/bin:/usr/bin:/bin",
            "BROWSER": str(opener),
            "SSL_CERT_FILE": str(ca),
        }
        self.shell = Shell(environment, self.home)

    def newest_mail(self, subject: str) -> str:
        """Wait for a mail; return its text."""

        def look() -> str | None:
            mine = [each for to, each in self.mail.taken if to == [self.email] and subject in each["subject"]]
            return str(mine[-1].get_content()) if mine else None

        return str(eventually(look, what=f"a mail about {subject!r}"))

    def did(self, what: str) -> None:
        self.actions.append(what)

    def sign_in(self) -> None:
        """Agree to a sign-in that a program waits for: the page it opened, and the one that the mail names."""
        told = self.shell.until(", within")
        code = told.rpartition("code ")[2].strip()
        self.page.goto(eventually(lambda: self._asked.exists() and self._asked.read_text().strip()))
        assert code in self.page.content() and self.page.get_by_label("Code").count() == 0
        self.page.get_by_role("button", name="Send me the sign-in mail").click()
        self.page.get_by_role("heading", name="mailbox").wait_for()
        self.did("looked whether the code is the same, and went on")
        mailed = indented(self.newest_mail("Sign in"), r"https://\S+/login/mail\?t=\S+")
        self.page.goto(mailed)
        self.page.get_by_label("Code").fill(code)
        self.page.get_by_role("button", name="Approve").click()
        self.page.get_by_role("heading", name="Signed in").wait_for()
        self.did("opened the mailed page and typed the code")

    def copied(self, button: int) -> str:
        """Press a Copy button; return what is then pasted."""
        self.page.get_by_role("button", name="Copy").nth(button).click()
        self.page.get_by_role("button", name="Copied").wait_for()
        text = str(self.page.evaluate("navigator.clipboard.readText()"))
        self.page.reload()
        return text

    def close(self) -> None:
        self.shell.close()
        if self.state.daemon_json.exists():
            daemon = psutil.Process(json.loads(self.state.daemon_json.read_text())["pid"])
            daemon.terminate()
            daemon.wait(HANG)


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailServer]:
    with MailServer(tmp_path / "mail").running() as server:
        yield server


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path / "tls")


@pytest.fixture
def readme() -> Readme:
    return Readme()


@pytest.fixture
def broker(tmp_path: Path, mail: MailServer, tls: tuple[Path, Path], readme: Readme) -> Iterator[str]:
    """A broker by README's command, which names everything but this mail server's port and certificate.

    Where dispatch is got from is its host's: a command here, beside the page that README's command names.
    """
    environment = clean_environment(tmp_path) | {
        "DISPATCH_SMTP_PASSWORD": mail.PASSWORD,
        "DISPATCH_SMTP_PORT": str(mail.port),
        "DISPATCH_INSTALL_COMMAND": installer(tmp_path),
    }
    port = free_port()
    real = {"fullchain.pem": str(tls[0]), "privkey.pem": str(tls[1]), "smtp.example.org": "127.0.0.1"}
    real |= {"443": str(port), "https://broker.example.org": f"https://localhost:{port}"}
    name, *arguments = shlex.split(readme.take("", **real))
    assert name == "dispatch-rendezvous"
    arguments += ["--data", str(tmp_path / "data"), "--smtp-ca", str(mail.ca)]
    program = Program("rendezvous.main", arguments, environment, tmp_path / "broker.errors")
    try:
        yield program.line(r"listening on (\S+)")
    finally:
        program.end()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(ignore_https_errors=True, permissions=["clipboard-read", "clipboard-write"])
    try:
        made = context.new_page()
        made.set_default_timeout(WITHIN_MS)
        yield made
    finally:
        context.close()


@pytest.mark.long
def test_from_the_mail_to_the_first_result(
    tmp_path: Path, broker: str, mail: MailServer, tls: tuple[Path, Path], page: Page, readme: Readme
) -> None:
    alice, bob = (Somebody(name, tmp_path, tls[0], mail, page) for name in ("alice", "bob"))
    try:
        alice.shell.run(installer(tmp_path))
        alice.did("installed it")
        alice.shell.type(f"{readme.take('alice')}\n")
        alice.shell.until("The broker's address, https://… (Enter: skip): ")
        alice.shell.type(f"{broker}\n")
        alice.shell.until("Your e-mail address (Enter: skip): ")
        alice.shell.type(f"{ALICE}\n")
        alice.sign_in()
        for question, answer in (("should it run? [1/2/3, Enter: 1] ", "2"), ("Enter: none): ", ""), ("[y/N] ", "n")):
            alice.shell.until(question)
            alice.shell.type(f"{answer}\n")
        assert "`dispatch invite EMAIL`" in plain(alice.shell.until(PROMPT))
        alice.did("set this machine up")

        told = plain(alice.shell.run(readme.take("alice")))
        alice.did("invited")
        assert "the broker mailed the invitation" in told
        (look,) = re.findall(r"to see its progress: `(.+)`", told)

        text = bob.newest_mail("asks to send you tasks")
        link = indented(text, r"https://\S+/join/\S+")
        page.goto(link)
        bob.did("opened the page that the mail names")
        for words in ("Nothing is permitted yet", "You choose the tools", "You approve", ALICE, "on the computer"):
            assert words in page.content(), words
        assert BOB not in page.content() and "dispatch:invitation:" in page.content()
        page.evaluate(AXE)
        assert page.evaluate("async () => (await axe.run()).violations.map((each) => each.id)") == []
        page.reload()
        install, join = bob.copied(0), bob.copied(1)
        assert install == indented(text, r"sh .*") and join == readme.take("bob", LINK=link)

        bob.shell.run(install)
        bob.did("pasted the install command")
        assert indented(text, r"dispatch join .*") == f"{join} --email {BOB}"
        bob.shell.type(f"{join}\n")
        bob.shell.until("Your e-mail address: ")
        bob.shell.type(f"{BOB}\n")
        bob.did("pasted the join command")
        bob.sign_in()
        assert f"{ALICE} wants to be able to dispatch" in plain(bob.shell.until("Which? [1/2/3/4/5] "))
        assert "received by their device" in alice.shell.run(look)
        alice.did("looked how far it is")
        answers = (("2", "Enter: manual] "), ("", "each time) "), ("~/parser", "Grant it? [y/N] "), ("y", PROMPT))
        for answer, question in answers:
            bob.shell.type(f"{answer}\n")
            shown = plain(bob.shell.until(question))
        bob.did("chose what is permitted")
        assert "`dispatch inbox`" in shown and "`dispatch accept ID`" in shown

        alice.shell.type(f"{readme.take('alice')}\n")
        alice.did("sent a task")
        inbox = readme.take("bob")
        listed = r"^(\S+) .*Why does the parser"
        row = eventually(lambda: re.search(listed, plain(bob.shell.run(inbox)), re.M), what="the dispatch at bob's")
        bob.did("looked into the inbox")
        identity = row[1]
        bob.shell.type(f"{readme.take('bob', ID=identity)}\n")
        shown = plain(bob.shell.until("Your answer? "))
        assert f"runs in ~/parser; {ALICE} gets the result" in shown, shown
        for answer, question in (("1", "Your answer? "), ("1", "these changes? "), ("3", PROMPT)):
            bob.shell.type(f"{answer}\n")
            bob.shell.until(question)
        bob.did("accepted, answered each call, and left the changes for later")
        assert WHY in plain(alice.shell.until(PROMPT))
        assert len(bob.actions) <= MOST_ACTIONS and len(alice.actions) <= MOST_ACTIONS, (bob.actions, alice.actions)

        assert f"+{FIXED}" in plain(bob.shell.run(readme.take("bob", ID=identity)))
        bob.shell.run(readme.take("bob", ID=identity))
        assert (bob.parser / "parser.py").read_text() == FIXED
        alice.shell.run(readme.take("alice", ID=identity))
        assert [path.read_text() for path in alice.home.rglob("why.txt")] == [WHY]
        verified = plain(alice.shell.run(readme.take("alice", ID=identity)))
        assert WHY in verified and f"why.txt ({len(WHY)} bytes)" in verified, verified
        assert readme.left == []
    finally:
        alice.close()
        bob.close()
