"""`dispatch-rendezvous doctor`: each part broken and whole, beside a real mail server and a real broker."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from rendezvous import doctor_checks, rotation
from rendezvous.main import main
from rendezvous.relay_tokens import load_relay_key
from rendezvous.storage.opening import DATABASE
from rendezvous.storage.sqlite.database import Database, migrations
from rendezvous.tokens import load_secrets
from tests.rendezvous.postgresql import Server
from tests.rendezvous.world import MailServer, make_certificate, running_broker


def look(*arguments: str, status: int, **environment: str) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(main, ["doctor", "--json", *arguments], env=environment)
    assert done.exit_code == status, done.output
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


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


def test_a_certificate_is_looked_at_as_clients_would_before_the_broker_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path / "one")
    _, other_key = make_certificate(tmp_path / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def certified(*more: str, key: Path = key) -> dict[str, Any]:
        given = ["--data", str(tmp_path / "data"), "--certificate", str(certificate), "--key", str(key), *more]
        return look(*given, status=1)["certificate"]

    named = ("--public-url", "https://localhost:9")
    assert "expires in 1 days" in certified(*named)["detail"]
    monkeypatch.setattr(doctor_checks, "CERTIFICATE_DAYS", 0)
    assert certified(*named)["ok"] and certified()["ok"]  # by name, and by the address that it listens on
    wrong = certified("--public-url", "https://broker.example")
    assert not wrong["ok"] and "broker.example" in wrong["detail"] and "for this name" in wrong["fix"]
    apart = certified(*named, key=other_key)
    assert not apart["ok"] and "not a certificate and its private key" in apart["detail"]
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "self-signed" in certified(*named)["detail"]
    secret = serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a passphrase"),
    )
    key.write_bytes(secret)
    assert "not a certificate and its private key" in certified(*named)["detail"]  # and nobody is asked for it


def test_the_database_and_the_secrets_are_looked_at(tmp_path: Path, postgresql: Server) -> None:
    data = tmp_path / "data"

    def found(**environment: str) -> dict[str, dict[str, Any]]:
        return look("--data", str(data), "--port", "9", status=1, **environment)

    assert "none yet" in found()["database"]["detail"]
    data.mkdir(mode=0o700)
    Database(data / DATABASE).close()
    load_relay_key(data, {})
    load_secrets(data, {})
    names = sorted(path.name for path in data.iterdir())
    whole = found()
    assert whole["database"]["ok"] and f"tables of version {len(migrations())}; this" in whole["database"]["detail"]
    assert whole["relay key"]["ok"] and whole["token secret"]["ok"] and "rotation" not in whole
    assert sorted(path.name for path in data.iterdir()) == names
    rotation.begin(data)
    advice = found()["rotation"]
    assert not advice["needed"] and "still accepted since 20" in advice["detail"] and "--end" in advice["fix"]
    assert "unset" in found(DISPATCH_JWT_SECRET_FALLBACK="x" * 32)["rotation"]["fix"]
    assert "rotation" not in found(DISPATCH_JWT_SECRET="0123456789abcdef" * 4)
    assert not found(DISPATCH_RELAY_KEY="ab" * 32)["relay key"]["ok"]  # no two of its bytes differ
    shared = found(DATABASE_URL=postgresql.database())
    for name in ("relay key", "token secret"):
        assert not shared[name]["ok"] and not shared[name]["needed"] and "give all of them" in shared[name]["fix"]
    (data / DATABASE).write_bytes(b"not a database" * 1000)
    broken = found()["database"]
    assert not broken["ok"] and broken["needed"] and broken["fix"]
    (data / "relay.key").chmod(0o644)
    assert "chmod 600" in found()["relay key"]["fix"]


def test_a_public_address_that_is_reached_from_inside_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is pinned to this machine, or a router that leads back in: outside it can be different."""
    at = "10.0.0.5"
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (at, 443))])
    said = doctor_checks._seen_from_here("https://broker.example")
    assert said == "; from here as 10.0.0.5: outside this network, try `curl -fsS https://broker.example/health`"
    at = "93.184.216.34"
    assert doctor_checks._seen_from_here("https://broker.example") == ""
    assert doctor_checks._seen_from_here("http://127.0.0.1:8800") == ""
