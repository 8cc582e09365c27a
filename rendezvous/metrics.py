"""What /metrics shows: counters, gauges and histograms of this process, those of several, and the text of Prometheus.
Who may read it: metrics_page.py.

Names and units are those that Prometheus recommends (https://prometheus.io/docs/practices/naming). A label has a
bounded number of values, all of them from this program: never a path, an address or a name that a client sent.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypedDict

import prometheus_client
import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

from rendezvous.limits import ranges
from rendezvous.storage.measured import OPERATIONS
from rendezvous.storage.rows import Counts

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
"""Others, which a client may make up, are counted as OTHER."""
OTHER: Final = "other"
REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. A request for a mail waits for the mail server, up to 25 s."""
STORAGE_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
"""Seconds. A step in PostgreSQL is given up after 15."""

REASONS: Final = (
    *(name for name, allowed in ranges().items() if allowed.counted),
    "sign_in_mails",
    "invitation_mails",
)
"""What `refused` takes: names of limits; what a burst refused has the name of its rate. The daily mails of a kind are
counted as one, because a mail is counted against several limits at once."""

SHARED: Final = {
    "dispatch_users": "Accounts.",
    "dispatch_devices": "Devices of accounts.",
    "dispatch_devices_present": "Devices whose announcement has not expired.",
    "dispatch_invitations_open": "Invitations that wait for an answer.",
    "dispatch_sign_ins_pending": "Sign-ins that wait for approval.",
}
"""Gauges of what is stored, with what they say. Every process on the same data has the same numbers."""


class Family(TypedDict):
    """One metric: its type, what it says, and its samples as (name, labels, value)."""

    kind: str
    about: str
    samples: list[tuple[str, dict[str, str], float]]


Snapshot = dict[str, Family]
"""Families by name, as plain values that JSON can carry from one process to another."""


class Metrics:
    """The metrics of one process. Making one starts its clock; `version` is that of the program."""

    def __init__(self, *, version: str) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "dispatch_http_requests_total",
            "Requests by method, template of their route, and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "dispatch_http_request_duration_seconds",
            "Time to answer a request, without the time that it asked to wait for a change.",
            ["method", "route"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            "dispatch_refused_total", "What a limit refused, by the limit.", ["reason"], registry=registry
        )
        self._operations = Histogram(
            "dispatch_storage_operation_duration_seconds",
            "Time of an operation on the storage, with the wait for a connection.",
            ["operation"],
            buckets=STORAGE_BUCKETS,
            registry=registry,
        )
        self._failures = Counter(
            "dispatch_storage_failures_total",
            "Operations that the database did not carry out.",
            ["operation"],
            registry=registry,
        )
        self._mails = Counter(
            "dispatch_mails_total", "Mails by what the mail server did with them.", ["outcome"], registry=registry
        )
        self._request_counts: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._operation_seconds = {operation: self._operations.labels(operation) for operation in OPERATIONS}
        # From zero on: a counter that appears with its first count hides that count from rate().
        for reason in REASONS:
            self._refused.labels(reason)
        for operation in OPERATIONS:
            self._failures.labels(operation)
        for outcome in ("accepted", "failed"):
            self._mails.labels(outcome)
        self._shared = {name: Gauge(name, about, registry=registry) for name, about in SHARED.items()}
        self.stored(None)
        Gauge("dispatch_build_info", "1, with the version.", ["version"], registry=registry).labels(version).set(1)
        self._watch_process()

    # -- counting

    def request(self, method: str, route: str, *, status: int, seconds: float) -> None:
        """Count a request that was answered. `route` is a template of this program, such as /v1/presence/{user_id}."""
        method = method if method in METHODS else OTHER
        # Looking a child up by its labels costs the library more than counting does.
        key = method, route, status
        count = self._request_counts.get(key) or self._request_counts.setdefault(
            key, (self._requests.labels(*key), self._seconds.labels(method, route))
        )
        count[0].inc()
        count[1].observe(seconds)

    def refused(self, reason: str) -> None:
        """Count something that a limit refused. Raises ValueError for what is not in REASONS."""
        if reason not in REASONS:
            raise ValueError(reason)
        self._refused.labels(reason).inc()

    def storage_operation(self, operation: str, seconds: float, *, failed: bool) -> None:
        """Count an operation of the storage."""
        self._operation_seconds[operation].observe(seconds)
        if failed:
            self._failures.labels(operation).inc()

    def mail(self, *, accepted: bool) -> None:
        """Count a mail that was handed to the mail server, or was not."""
        self._mails.labels("accepted" if accepted else "failed").inc()

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Add a gauge that `read` is asked for at each scrape."""
        Gauge(name, about, registry=self._registry).set_function(read)

    def stored(self, counts: Counts | None) -> None:
        """Set the gauges of what is stored; None: the database does not say, and they are NaN."""
        for name, gauge in self._shared.items():
            gauge.set(math.nan if counts is None else getattr(counts, name.removeprefix("dispatch_")))

    def _watch_process(self) -> None:
        # The library's own collector says nothing where /proc has processes alone, as in our system unit.
        process, began = psutil.Process(), time.time()
        self.watch("process_resident_memory_bytes", "Resident memory.", lambda: process.memory_info().rss)
        self.watch("process_open_fds", "Open file descriptors.", process.num_fds)
        self.watch(
            "process_max_fds",
            "Most file descriptors that may be open.",
            lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )
        self.watch("process_start_time_seconds", "Start, since the epoch.", lambda: began)

        class _Cpu(prometheus_client.registry.Collector):
            def collect(self) -> Iterator[Metric]:
                spent = process.cpu_times()
                yield prometheus_client.metrics_core.CounterMetricFamily(
                    "process_cpu_seconds", "CPU time, user and system.", value=spent.user + spent.system
                )

        self._registry.register(_Cpu())

    # -- reading

    def snapshot(self) -> Snapshot:
        """Return everything that was counted so far."""
        return {
            family.name: Family(
                kind=family.type,
                about=family.documentation,
                samples=[
                    (sample.name, dict(sample.labels), sample.value)
                    for sample in family.samples
                    if not sample.name.endswith("_created")  # of OpenMetrics; in this format it would be a metric more
                ],
            )
            for family in self._registry.collect()
        }

    def value(self, sample: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels, and perhaps others; 0 if there is none."""
        return sum(
            value
            for family in self.snapshot().values()
            for name, its, value in family["samples"]
            if name == sample and labels.items() <= its.items()
        )


def side_by_side(snapshots: Mapping[str, Snapshot]) -> Snapshot:
    """Return what several processes counted in one, each sample with the label `worker`, the key of its process.

    They are not added up: a process that is started anew counts from zero on, or one does not answer, and a sum would
    fall then, which Prometheus takes for a restart of all. Its queries add up.
    """
    joined: Snapshot = {}
    for worker, snapshot in sorted(snapshots.items()):
        for name, family in snapshot.items():
            if name not in joined:
                joined[name] = Family(kind=family["kind"], about=family["about"], samples=[])
            joined[name]["samples"] += [
                (sample, {**labels, "worker": worker}, value) for sample, labels, value in family["samples"]
            ]
    return joined


def render(snapshot: Snapshot) -> bytes:
    """Return a snapshot in the text format of Prometheus, version 0.0.4."""
    return prometheus_client.generate_latest(_Given(snapshot))


class _Given(prometheus_client.registry.Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for name, family in self._snapshot.items():
            metric = Metric(name, family["about"], family["kind"])
            for sample, labels, value in family["samples"]:
                metric.add_sample(sample, labels, value)
            yield metric
