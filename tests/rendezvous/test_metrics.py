"""What /metrics says and to whom, what several processes counted together, and what the dashboard asks for."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from peer.protocol.errors import Unavailable
from rendezvous import metrics_page, web
from rendezvous.app import BrokerApplication
from rendezvous.broker import Broker, Settings
from rendezvous.limits import Limits, ranges
from rendezvous.metrics import METHODS, OTHER, REASONS, Metrics, render, side_by_side
from rendezvous.routing import Routes
from rendezvous.storage.errors import TooManyInvitationsSent
from rendezvous.storage.measured import OPERATIONS, measured
from rendezvous.storage.rows import Counts
from rendezvous.tokens import TokenSecrets
from tests.conftest import HANG
from tests.rendezvous.storage.memory import MemoryStorage
from tests.rendezvous.world import RELAY_KEY, People, Running, people_at, running_broker

DEPLOY = Path(__file__).parents[2] / "rendezvous/deploy"
DOCUMENT = Path(__file__).parents[2] / "docs/broker.md"
TOKEN = "t" * 32
OPERATOR = {"authorization": f"Bearer {TOKEN}"}


async def scrape(running: Running) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=HANG) as http:
        response = await http.get(f"{running.url}/metrics", headers=OPERATOR)
    assert response.status_code == 200
    return response.text


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        ("", {}, 403),
        ("", {"authorization": "Bearer"}, 403),
        ("", {"authorization": "Bearer x"}, 403),
        (TOKEN, {}, 401),
        (TOKEN, {"authorization": "Bearer"}, 401),
        (TOKEN, {"authorization": f"Bearer {TOKEN}x"}, 401),
        (TOKEN, {"authorization": f"Bearer {TOKEN[1:]}"}, 401),
        (TOKEN, {"authorization": TOKEN}, 401),
        (TOKEN, OPERATOR, 200),
    ],
)
async def test_nobody_reads_them_unless_the_operator_says_who(
    tmp_path: Path, token: str, headers: dict[str, str], status: int
) -> None:
    async with (
        running_broker(tmp_path / "b", metrics_token=token) as running,
        httpx.AsyncClient(trust_env=False, verify=False, timeout=HANG) as http,
    ):
        response = await http.get(f"{running.url}/metrics", headers=headers)
    assert response.status_code == status
    assert ("dispatch_users" in response.text) == (status == 200)
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer" and "DISPATCH_METRICS_TOKEN" in response.json()["fix"]


async def test_numbers_and_no_names(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path / "b", metrics_token=TOKEN) as running,
        people_at(running, tmp_path / "p") as people,
    ):
        alice = await people.signed_in("alice@example.org")
        await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
        await alice.client.get_presence("bob@example.org")
        await alice.raw("GET", "/alice/secret")
        await alice.raw("MERGE", "/v1/presence")
        await alice.raw("MERGE", "/nothing")
        text = await scrape(running)
    assert "alice" not in text and "bob" not in text and alice.who.device not in text and "secret" not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation for family in families.values())
    value = {(s.name, *sorted(s.labels.values())): s.value for family in families.values() for s in family.samples}
    assert value["dispatch_users",] == value["dispatch_invitations_open",] == 1
    assert value["dispatch_http_requests_total", "/v1/presence/{user_id}", "200", "GET"] == 1
    assert value["dispatch_http_requests_total", "404", "GET", "unmatched"] == 1
    assert value["dispatch_http_requests_total", "404", "other", "unmatched"] == 1
    assert value["dispatch_storage_connections",] == 5 and value["process_open_fds",] > 0
    for name, family in families.items():
        assert re.fullmatch(r"(dispatch|process)_[a-z_]+", name)
        for sample in family.samples:
            assert {sample.labels.get("method", OTHER)} <= METHODS | {OTHER}


async def test_a_request_that_waits_does_not_count_as_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    async def answers(request: Request) -> Response:
        nonlocal now
        now += 0.5
        with web.waiting(request):
            now += 20
        with web.waiting(request):
            now += 3
        return Response()

    async def nothing(_message: Message) -> None:
        await trio.lowlevel.checkpoint()

    settings = Settings(public_url="https://broker.example", data=tmp_path)
    broker = Broker(
        settings, storage=MemoryStorage(), secrets=TokenSecrets(b"s" * 32), relay_key=RELAY_KEY, mailer=None
    )
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
    await BrokerApplication(broker, Routes({"/": {"GET": answers}}))(scope, never, nothing)
    assert broker.metrics.value("dispatch_http_request_duration_seconds_sum") == 0.5
    assert broker.metrics.value("dispatch_http_requests_total", status="200", route="/") == 1


async def never() -> Message:
    await trio.sleep_forever()
    raise AssertionError


async def test_each_limit_counts_what_it_refused(tmp_path: Path) -> None:
    limits = Limits(reads_per_minute=1, read_burst=1, writes_per_minute=1, write_burst=2, open_invitations_sent=1)
    async with (
        running_broker(tmp_path / "b", requests=limits, kept=limits) as running,
        people_at(running, tmp_path / "p") as people,
    ):
        alice = await people.signed_in("alice@example.org")
        codes = [(await alice.raw("GET", "/v1/invitations", token=alice.client.token)).status_code for _ in range(3)]
        assert codes == [200, 429, 429]
        body = alice.statement("invitations.post", {"invitation": alice.signed_invitation("bob@example.org")})
        assert (await alice.raw("POST", "/v1/invitations", body)).status_code == 201
        assert (await alice.raw("POST", "/v1/invitations", body)).status_code == 429
        running.clock.move(seconds=120)
        body = alice.statement("invitations.post", {"invitation": alice.signed_invitation("carol@example.org")})
        assert (await alice.raw("POST", "/v1/invitations", body)).status_code == 429
        counted = running.broker.metrics.value
        found = {reason: counted("dispatch_refused_total", reason=reason) for reason in REASONS}
    assert {reason: count for reason, count in found.items() if count} == {
        "reads_per_minute": 2,
        "writes_per_minute": 1,
        "open_invitations_sent": 1,
    }


def test_reasons_are_limits_and_no_others() -> None:
    assert set(REASONS) - {"sign_in_mails", "invitation_mails"} <= ranges().keys()
    with pytest.raises(ValueError, match="alice"):
        Metrics(version="1").refused("alice@example.org")


async def test_the_database_counts_no_more_often_than_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_broker(tmp_path / "b", metrics_token=TOKEN) as running:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(scrape, running)
        asked = "dispatch_storage_operation_duration_seconds_count"
        assert running.broker.metrics.value(asked, operation="counts") == 1
        monkeypatch.setattr(metrics_page, "COUNTED_SECONDS", 0)
        await scrape(running)
        assert running.broker.metrics.value(asked, operation="counts") == 2


async def test_without_a_database_they_still_say_what_they_know(tmp_path: Path) -> None:
    storage = MemoryStorage()
    async with running_broker(tmp_path / "b", metrics_token=TOKEN, storage=storage) as running:
        await storage.aclose()
        text = await scrape(running)
    assert "dispatch_users NaN" in text and 'dispatch_storage_failures_total{operation="counts"} 1.0' in text


class Noted:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, bool]] = []
        self.refusals: list[str] = []

    def storage_operation(self, operation: str, seconds: float, *, failed: bool) -> None:
        assert seconds >= 0
        self.operations.append((operation, failed))

    def refused(self, limit: str) -> None:
        self.refusals.append(limit)


async def test_operations_are_timed_and_their_ends_told_apart() -> None:
    storage, noted = MemoryStorage(), Noted()
    observed = measured(storage, noted)
    assert (await observed.counts(0)).users == 0
    storage._run = refuse  # type: ignore[method-assign, assignment]
    with suppress(TooManyInvitationsSent):
        await observed.check()
    storage._run = fail  # type: ignore[method-assign, assignment]
    with suppress(ZeroDivisionError):
        await observed.check()
    del storage._run
    async with observed:
        assert observed.usage() == storage.usage()
    with pytest.raises(Unavailable):
        await observed.check()
    assert noted.operations == [("counts", False), ("check", False), ("check", True), ("check", True)]
    assert noted.refusals == ["open_invitations_sent"]


async def refuse(*_: object, **__: object) -> None:
    raise TooManyInvitationsSent(1)


async def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError


def test_every_limit_of_the_storage_that_is_counted_has_a_name_that_is() -> None:
    from rendezvous.storage import errors

    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    limits = {
        each.limit for each in classes if issubclass(each, errors.LimitReached) and each is not errors.LimitReached
    }
    assert limits <= set(REASONS) and len(limits) == 4
    assert len(OPERATIONS) > 20 and not {"listen", "aclose", "usage"} & set(OPERATIONS)


# --- several processes


def counted(*, users: int | None, requests: int, waiting: int) -> Metrics:
    metrics = Metrics(version="1")
    metrics.watch("dispatch_readers_waiting", "Waiting.", lambda: waiting)
    for number in range(requests):
        metrics.request("GET", "/health", status=200 + number, seconds=0.02)
    if users is not None:
        metrics.stored(Counts(users=users, devices=0, devices_present=0, invitations_open=0, sign_ins_pending=0))
    return metrics


def test_several_processes_stand_side_by_side() -> None:
    several = [counted(users=7, requests=2, waiting=3), counted(users=None, requests=1, waiting=4)]
    sent = {str(number): json.loads(json.dumps(each.snapshot())) for number, each in enumerate(several)}
    families = list(text_string_to_metric_families(render(side_by_side(sent)).decode()))
    assert len({family.name for family in families}) == len(families)
    value = {
        (sample.name, *(label for _, label in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }
    assert value["dispatch_users", "0"] == 7 and math.isnan(value["dispatch_users", "1"])
    assert value["dispatch_readers_waiting", "0"] == 3 and value["dispatch_readers_waiting", "1"] == 4
    for worker, count in (("0", 2), ("1", 1)):
        assert value["dispatch_http_requests_total", "GET", "/health", "200", worker] == 1
        assert value["dispatch_http_request_duration_seconds_count", "GET", "/health", worker] == count
        buckets = "dispatch_http_request_duration_seconds_bucket"
        assert value[buckets, "0.01", "GET", "/health", worker] == 0
        assert value[buckets, "0.025", "GET", "/health", worker] == count
    assert side_by_side({}) == {}


# --- documents


async def metric_names(broker: Running) -> set[str]:
    broker.broker.metrics.request("GET", "/health", status=200, seconds=0.1)
    broker.broker.metrics.storage_operation("check", 0.1, failed=False)
    return {name for family in broker.broker.metrics.snapshot().values() for name, _, _ in family["samples"]}


async def test_the_dashboard_asks_for_metrics_that_exist(broker: Running, people: People) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked = {name for query in queries for name in re.findall(r"\b(?:dispatch|process)_[a-z_]+", query)}
    assert asked - await metric_names(broker) == set()
    assert len(queries) > 10 and len(asked) > 10
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) and len({panel["id"] for panel in dashboard["panels"]}) == len(places)


async def test_the_document_has_every_metric(broker: Running, people: People) -> None:
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in await metric_names(broker)}
    section = DOCUMENT.read_text("utf-8").partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert sorted(names) == sorted(re.findall(r"^\| `([a-z_]+)`", section, re.MULTILINE))
