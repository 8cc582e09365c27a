"""`dispatch-rendezvous doctor`: each part broken and whole, beside a real mail server and a real broker."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from rendezvous import doctor_checks
from rendezvous.main import main
from tests.rendezvous.world import MailServer, running_broker


def look(*arguments: str, status: int, **environment: str) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(main, ["doctor", "--json", *arguments], env=environment)
    assert done.exit_code == status, done.output
    return {check["name"]: check for check in json.loads(done.output)["checks"]}


async def test_a_broker_that_people_can_use_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_unsynchronised", lambda: False)
    with MailServer(tmp_path / "mail").running() as mail:
        async with running_broker(tmp_path / "data") as broker:
            (tmp_path / "data").chmod(0o700)
            given = ["--data", str(tmp_path / "data"), "--public-url", broker.url, "--smtp-host", "127.0.0.1"]
            given += ["--smtp-port", str(mail.port), "--smtp-user", mail.USER, "--smtp-ca", str(mail.ca)]
            given += ["--smtp-from", "dispatch <d@broker.example>"]
            said = {"DISPATCH_SMTP_PASSWORD": mail.PASSWORD, "DISPATCH_INSTALL_COMMAND": "one\ntwo three"}
            found = await trio.to_thread.run_sync(lambda: look(*given, status=0, **said))
            assert {name for name, check in found.items() if not check["ok"]} == {"relays"}  # advice
            assert found["install"]["detail"] == "2 commands"
            wrong = {**said, "DISPATCH_SMTP_PASSWORD": "wrong", "DISPATCH_JWT_SECRET": "a" * 40}
            broken = await trio.to_thread.run_sync(lambda: look(*given, status=1, **wrong))
            assert "rejects the user" in broken["mail"]["detail"] and not broken["token secret"]["ok"]
            untrusted = [each for each in given if each not in ("--smtp-ca", str(mail.ca))]
            broken = await trio.to_thread.run_sync(lambda: look(*untrusted, status=1, **said))
            assert "certificate" in broken["mail"]["detail"] and "--smtp-ca" in broken["mail"]["fix"]
    assert mail.taken == []


def test_what_is_missing_or_open_is_said_with_what_mends_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    (data / "jwt.secret").write_text("x" * 64)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = look("--data", str(data), "--port", str(port), status=1)
    broken = {name for name, check in found.items() if check["needed"] and not check["ok"]}
    assert broken == {"install", "mail", "token secret", "data folder", "public address"}
    assert all(check["fix"] for check in found.values() if not check["ok"])
    assert found["data folder"]["fix"] == f"`chmod 700 {data}`"
    plain = look("--data", str(tmp_path / "none"), "--public-url", "http://broker.example", status=1)
    assert "not encrypted" in plain["public address"]["detail"] and plain["data folder"]["ok"]
    said = CliRunner().invoke(main, ["doctor", "--data", str(data), "--port", str(port)])
    assert said.exit_code == 1 and all(len(line) > 20 for line in said.output.splitlines())
    assert "broken  install: " in said.output and "; fix: " in said.output


def test_a_clock_that_is_apart_from_others_is_broken() -> None:
    assert not doctor_checks._clock({"https://relay.example": 400.0}).ok
    assert doctor_checks._clock({"https://relay.example": -400.0}).needed
