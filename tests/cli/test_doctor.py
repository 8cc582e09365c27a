"""`doctor`: each part is broken in turn, and the check names it with its fix."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cli import health
from cli.app import App
from cli.values import how_connected
from tests.cli.conftest import Cli, Outcome
from tests.cli.documents import FORBIDDEN, HOSTILE
from tests.cli.fake_api import Asked, FakeApi
from tests.conftest import HANG

LIVE = {"checks": [{"name": "reachability", "ok": True, "detail": "direct", "fix": ""}]}
PROOFS = {"checks": [{"name": name, "ok": True, "detail": "proven", "fix": ""} for name in ("sandbox", "gate")]}


def answers(quick: Any = LIVE, proofs: Any = PROOFS) -> Callable[[Asked], Any]:
    """What a daemon answers to the two questions of `doctor`."""
    return lambda asked: proofs if asked.query["part"] == "proof" else quick


PROOF = {
    "tier": "bwrap",
    "kernel": {"release": "6.8.0-45-generic", "tested": True},
    "mechanisms": ["bubblewrap", "seccomp", "landlock"],
    "canaries": [{"name": "ssh", "ok": True, "detail": "denied"}],
    "gate": {"key": "k", "seconds": 1.0},
}
OLDER = {"kernel": {"release": "5.19.0", "tested": False}, "mechanisms": ["bubblewrap", "seccomp"]}
"""What is other about a machine without Landlock, on whose kernel nobody has run the tests."""


@contextmanager
def broker(status: int = 200) -> Iterator[str]:
    """A web server whose /health answers with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def healthy(cli: Cli, api: FakeApi) -> Iterator[FakeApi]:
    api["GET /v1/doctor"] = answers()
    with broker() as url:
        cli.configure(broker=url, token="t", email="bob@example.org")
        yield api


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Plays `dp-agent --prove`."""
    answer: dict[str, Any] = {"document": PROOF, "code": 0, "asked": []}

    def run(args: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        answer["asked"].append(args)
        raw = answer["document"]
        return subprocess.CompletedProcess(
            args, answer["code"], raw if isinstance(raw, bytes) else json.dumps(raw).encode()
        )

    monkeypatch.setattr(subprocess, "run", run)
    return answer


def broken(outcome: Outcome) -> dict[str, tuple[str, str]]:
    return {c["name"]: (c["detail"], c["fix"]) for c in outcome.document["checks"] if not c["ok"]}


def test_all_is_well(cli: Cli, healthy: FakeApi) -> None:
    outcome = cli("doctor", "--json")
    assert (outcome.code, broken(outcome)) == (0, {})
    names = [check["name"] for check in outcome.document["checks"]]
    assert names == [
        "permissions",
        "disk",
        "settings",
        "sign-in",
        "broker",
        "clock",
        "daemon",
        "reachability",
        "sandbox",
        "gate",
    ]
    human = cli("doctor")
    assert human.code == 0
    assert human.out.count("ok    ") == 10


def test_what_the_daemon_finds_counts(cli: Cli, healthy: FakeApi) -> None:
    healthy["GET /v1/doctor"] = {
        "checks": [{"name": "sandbox", "ok": False, "detail": HOSTILE, "fix": "install bwrap"}]
    }
    outcome = cli("doctor")
    assert outcome.code == 1
    assert "fix: install bwrap" in outcome.out
    assert [char for char in FORBIDDEN if char in outcome.out] == []
    cli("doctor", "--fix")
    assert [asked.query["fix"] for asked in healthy.asked] == ["0", "0", "1", "1"]


def test_each_check_is_shown_as_it_ends_and_what_nothing_has_shown_is_not_ok(cli: Cli, healthy: FakeApi) -> None:
    """Seen to fail with nothing until the slowest had ended, and with "ok reachability: 0 of 0 devices connected"."""
    unproven = {"name": "reachability", "ok": True, "proven": False, "detail": "nobody has connected", "fix": ""}
    held = threading.Event()

    def proofs(asked: Asked) -> Any:
        if asked.query["part"] == "quick":
            return {"checks": [unproven]}
        held.wait(HANG)
        return PROOFS

    healthy["GET /v1/doctor"] = proofs
    lines: list[Any] = []
    app = App()

    def shown(check: Any) -> None:
        lines.append(check["name"])
        if check["name"] == "reachability":
            held.set()  # only now do the proofs end

    health.Examination(app, fix=False).all(lambda _: None, shown)
    assert lines[-3:] == ["reachability", "sandbox", "gate"]
    outcome = cli("doctor")
    assert outcome.code == 0 and "?       reachability: nobody has connected" in outcome.out


def test_the_path_of_each_connected_contact_is_shown(cli: Cli, healthy: FakeApi) -> None:
    def reached(count: int) -> Any:
        row = {"device": "12D3", "path": "relay", "round_trip_ms": 81, "path_since": "2026-11-22T12:00:00.000Z"}
        paths = [{"peer": f"{n}{HOSTILE}@example.org", **row} for n in range(count)]
        return {"checks": [LIVE["checks"][0] | {"paths": paths}, *PROOFS["checks"]]}

    healthy["GET /v1/doctor"] = reached(8)
    shown = cli("doctor").out
    assert shown.count("@example.org: relay, 81 ms, ") == 8 and "more" not in shown
    assert [char for char in FORBIDDEN if char in shown] == []
    healthy["GET /v1/doctor"] = reached(11)
    shown = cli("doctor").out
    assert shown.count("@example.org: relay, 81 ms, ") == 8
    assert "and 3 more: `dispatch contacts`" in shown
    checks = cli("doctor", "--json").document["checks"]
    assert [len(check["paths"]) for check in checks if check["name"] == "reachability"] == [11]


def test_a_path_that_has_just_begun() -> None:
    """Seen to fail with "since now"."""
    row = {"path": "direct", "round_trip_ms": 2, "path_since": datetime.now(UTC).isoformat()}
    assert how_connected(row) == "direct, 2 ms, since just now"
    row["path_since"] = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    assert how_connected(row) == "direct, 2 ms, for 3 h"


def test_a_daemon_of_before_makes_all_its_checks_at_once(cli: Cli, healthy: FakeApi) -> None:
    """It knows no parts: nothing is said twice, and nothing is proven twice."""
    healthy["GET /v1/doctor"] = {"checks": [*LIVE["checks"], *PROOFS["checks"]]}
    names = [check["name"] for check in cli("doctor", "--json").document["checks"]]
    assert names[-3:] == ["reachability", "sandbox", "gate"] and len(healthy.asked) == 1


def test_what_both_check_is_said_once(cli: Cli, healthy: FakeApi) -> None:
    healthy["GET /v1/doctor"] = {"checks": [{"name": "broker", "ok": False, "detail": "expired", "fix": "sign in"}]}
    checks = cli("doctor", "--json").document["checks"]
    assert [check["detail"] for check in checks if check["name"] == "broker"] == ["expired"]


def test_permissions_are_found_and_repaired(cli: Cli, healthy: FakeApi) -> None:
    cli.folder.device_key.write_bytes(b"k")
    cli.folder.device_key.chmod(0o644)
    outcome = cli("doctor", "--json")
    detail, fix = broken(outcome)["permissions"]
    assert "device.key can be reached by others (mode 0644)" in detail
    assert fix == "run `dispatch doctor --fix`"
    assert cli.folder.device_key.stat().st_mode & 0o777 == 0o644
    repaired = cli("doctor", "--fix", "--json")
    assert repaired.code == 0
    assert "repaired" in repaired.document["checks"][0]["detail"]
    assert cli.folder.device_key.stat().st_mode & 0o777 == 0o600


def test_settings_that_cannot_be_read(cli: Cli, healthy: FakeApi) -> None:
    cli.configure(prot=1)
    assert broken(cli("doctor", "--json"))["settings"][1] == "did you mean `port`?"


def test_no_sign_in(cli: Cli, healthy: FakeApi) -> None:
    cli.configure()
    found = broken(cli("doctor", "--json"))
    assert found["sign-in"][1] == "run `dispatch login --broker URL`"
    assert "no broker" in found["broker"][0]


def test_a_broker_that_is_away_or_ill(cli: Cli, healthy: FakeApi) -> None:
    with broker() as url:
        pass
    cli.configure(broker=url, token="t")
    detail, fix = broken(cli("doctor", "--json"))["broker"]
    assert detail.startswith(f"can't reach broker {url}")
    assert "dispatch whoami" in fix
    with broker(503) as url:
        cli.configure(broker=url, token="t")
        assert "answers 503" in broken(cli("doctor", "--json"))["broker"][0]


@pytest.mark.parametrize(("off", "said"), [(110, ""), (-110, ""), (130, "ahead of"), (-130, "behind")])
def test_a_clock_that_is_wrong(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch, off: int, said: str) -> None:
    """Seen to fail where the broker's date is not looked at."""
    api["GET /v1/doctor"] = LIVE
    monkeypatch.setattr(
        BaseHTTPRequestHandler, "date_time_string", lambda *_: formatdate(time.time() - off, usegmt=True)
    )
    with broker() as url:
        cli.configure(broker=url, token="t", email="bob@example.org")
        found = broken(cli("doctor", "--json"))
    assert ("clock" in found) is bool(said)
    if said:
        assert f"s {said} the broker's" in found["clock"][0] and "clock" in found["clock"][1]


def test_a_disk_that_is_full(cli: Cli, healthy: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where nobody looks."""
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 1 << 62)
    detail, fix = broken(cli("doctor", "--json"))["disk"]
    assert "MB free on the disk of" in detail and "free some space" in fix


def test_without_a_daemon_the_sandbox_is_still_proven(cli: Cli, prove: dict[str, Any]) -> None:
    with broker() as url:
        cli.configure(broker=url, token="t")
        outcome = cli("doctor", "--json")
    assert outcome.code == 1
    assert broken(outcome) == {
        "daemon": (f"no local daemon token at {cli.folder.local_token}", "start it: `dispatch-daemon`")
    }
    sandbox, gate = outcome.document["checks"][-2:]
    assert sandbox["detail"] == (
        "bwrap: bubblewrap, seccomp, Landlock; 1 canaries were denied; "
        "the sandbox was tested on this kernel (Linux 6.8.0-45-generic)"
    )
    assert {key: sandbox[key] for key in OLDER} == {key: PROOF[key] for key in OLDER}
    assert "every call of the claude program" in gate["detail"]
    assert prove["asked"][0][1:] == ["-m", "sandbox.agent", "--prove", "claude"]


def test_what_is_weaker_on_this_kernel_is_said(cli: Cli, prove: dict[str, Any]) -> None:
    prove.update(document=PROOF | OLDER)
    sandbox = next(check for check in cli("doctor", "--json").document["checks"] if check["name"] == "sandbox")
    assert sandbox["ok"] and sandbox["detail"] == (
        "bwrap: bubblewrap, seccomp; 1 canaries were denied; without Landlock, a command can read the memory of one "
        "that an earlier command of the same run left running; "
        "not tested on this kernel (Linux 5.19.0), where it holds by design"
    )
    assert {key: sandbox[key] for key in OLDER} == OLDER


def test_without_a_daemon_a_gate_that_was_gone_around_is_said(cli: Cli, prove: dict[str, Any]) -> None:
    """Seen to fail with the sandbox alone proven."""
    prove.update(document=PROOF | {"error": {"message": "a call went past", "fix": "update"}})
    found = broken(cli("doctor", "--json"))
    assert found["gate"] == ("a call went past", "update") and "sandbox" not in found


@pytest.mark.parametrize(
    ("document", "code", "said", "fix"),
    [
        (
            {"error": {"code": 503, "message": "no bwrap", "fix": "apt install bubblewrap"}},
            1,
            "no bwrap",
            "apt install",
        ),
        (
            {"tier": "bwrap", "canaries": [{"name": "ssh", "ok": False}]},
            1,
            "canaries broke out of the sandbox: ssh",
            "docs/security.md",
        ),
        (b"Traceback", 1, "gave no answer", " install --force-reinstall "),
    ],
)
def test_a_sandbox_that_does_not_hold(
    cli: Cli, prove: dict[str, Any], document: Any, code: int, said: str, fix: str
) -> None:
    prove.update(document=document, code=code)
    detail, told = broken(cli("doctor", "--json"))["sandbox"]
    assert said in detail
    assert fix in told


def test_on_a_fresh_machine_nothing_is_made(cli: Cli, prove: dict[str, Any]) -> None:
    outcome = cli("doctor", "--fix", "--json")
    assert outcome.code == 1
    assert set(broken(outcome)) == {"permissions", "sign-in", "broker", "daemon"}
    assert not cli.folder.path.exists()
