"""Every limit that an operator can set, by name: defaults, ranges, and reading what was given. What each one limits:
the modules that take it.

A name is also the reason under which /metrics counts what the limit refused. The defaults let an office of 500 people
behind one address work: each has a daemon with two or three connections, one of them waiting, all start in the same
minute, and on the first day all sign in (tests/rendezvous/test_office.py works it out). Rates are low and bursts high
for that reason: a morning passes, and what a single address can ask for all day stays small.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Final, get_args, get_type_hints

from peer.protocol.errors import Invalid
from rendezvous.storage.limits import Range, StorageLimits

MAX_RATE: Final = 100_000_000
"""A rate or burst that limits nothing any more, for whoever has a proxy that limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(StorageLimits):
    """Those of the storage, which all processes on the same data share, and those of each process by itself.

    What is counted by process only spreads load: with several processes it lets through as many times as much, and
    nobody in. "Network": an IPv4 address, or the /64 of an IPv6 address.
    """

    connections: Annotated[
        int, Range(16, 1_000_000, "open connections, at most as many as the process has file descriptors for")
    ] = 60_000
    connections_per_network: Annotated[
        int, Range(4, 1_000_000, "open connections from one network; your own proxies are exempt")
    ] = 2_000
    """Three for each of 500 daemons, and those that have lost their network and are not given up yet."""
    requests_at_once: Annotated[
        int, Range(8, 1_000_000, "requests in progress, with those that wait for a change; one more gets 503")
    ] = 60_000
    """A connection has one request at a time, so this only matters where the number of connections was raised."""
    waiting_requests: Annotated[int, Range(1, 1_000_000, "requests that wait for a change")] = 55_000
    waiting_requests_per_user: Annotated[
        int, Range(1, 10_000, "requests of one user's devices that wait for a change")
    ] = 40
    """One for each of 16 devices, twice: a device that changed its network leaves one behind for up to 25 s."""
    requests_per_minute: Annotated[int, Range(60, MAX_RATE, "requests from one network, sustained")] = 10_000
    """500 devices that wait for their sign-in ask 6,000 times a minute (every 5 s), 500 daemons at rest 1,250 times."""
    request_burst: Annotated[int, Range(60, MAX_RATE, "requests from one network at once", counted=False)] = 15_000
    """500 daemons that start in the same second, each with 25 contacts to look up."""
    sign_ins_per_minute: Annotated[int, Range(1, MAX_RATE, "sign-ins begun from one network, sustained")] = 30
    """Each can have a mail sent to an address that nobody has proven yet, so a whole office is left to the burst."""
    sign_in_burst: Annotated[int, Range(1, MAX_RATE, "sign-ins begun from one network at once", counted=False)] = 1_000
    """An office's first day, each trying twice."""
    pages_per_minute: Annotated[
        int, Range(1, MAX_RATE, "requests for pages (sign-in, invitations) from one network, sustained")
    ] = 120
    page_burst: Annotated[int, Range(1, MAX_RATE, "requests for pages from one network at once", counted=False)] = 5_000
    """A sign-in takes four pages, an invitation's link one or two."""
    unknown_codes_per_minute: Annotated[
        int, Range(1, MAX_RATE, "codes from one network that no sign-in has, on the sign-in pages, sustained")
    ] = 30
    """Of 34 bits of code, a network that guesses all day at 500 sign-ins that wait finds one in three years."""
    unknown_code_burst: Annotated[
        int, Range(1, MAX_RATE, "codes from one network that no sign-in has, at once", counted=False)
    ] = 100
    """Every third person of the office mistypes theirs, within three minutes."""
    reads_per_minute: Annotated[int, Range(1, MAX_RATE, "reads by one user's devices, sustained")] = 600
    read_burst: Annotated[int, Range(1, MAX_RATE, "reads by one user's devices at once", counted=False)] = 1_000
    """A daemon that starts looks each of its contacts up."""
    writes_per_minute: Annotated[int, Range(1, MAX_RATE, "signed requests of one device, sustained")] = 60
    write_burst: Annotated[int, Range(1, MAX_RATE, "signed requests of one device at once", counted=False)] = 60
    rates_remembered: Annotated[
        int,
        Range(
            100,
            10_000_000,
            "networks, users and devices, of each kind, whose rate is remembered",
            counted=False,
        ),
    ] = 50_000
    """Whoever was quiet for longest is forgotten first, and begins with a whole burst again."""

    def with_connections(self, most: int) -> Limits:
        """Return these where a process can have only so many connections: some of them are left to what does not wait,
        so that a broker full of waiting devices still answers."""
        return replace(
            self,
            connections=most,
            requests_at_once=min(self.requests_at_once, most),
            waiting_requests=min(self.waiting_requests, most - min(1_000, most // 10)),
        )


SHARED: Final = frozenset(field.name for field in fields(StorageLimits)) - {"database_connections"}
"""Limits that hold for all processes on the same data together. The others hold for each process."""


def ranges() -> Mapping[str, Range]:
    """Return the range of each limit that can be set, by its name, those of one process first."""
    hints = get_type_hints(Limits, include_extras=True)
    stored = [field.name for field in fields(StorageLimits)]
    names = [*(field.name for field in fields(Limits) if field.name not in stored), *stored]
    return {name: arg for name in names for arg in get_args(hints[name]) if isinstance(arg, Range)}


def read_limits(given: Iterable[str]) -> Limits:
    """Return the limits with those that were given, each as NAME=NUMBER. Raises Invalid.

    Digits may be grouped by `_`. The same name twice is refused: one of the two was meant for another limit.
    """
    known = ranges()
    values: dict[str, int] = {}
    for text in given:
        name, equals, number = (part.strip() for part in text.partition("="))
        if not equals:
            raise Invalid(f"{text!r} is not a limit", fix="write it like --limit connections_per_network=500")
        if name not in known:
            raise Invalid(f"there is no limit {name!r}", fix=_meant(name, known))
        allowed = known[name]
        plain = number.replace("_", "")
        if not (plain.isascii() and plain.isdigit() and len(plain) <= 18):
            raise Invalid(f"the limit {name} is {number!r}, which is not a number", fix=_within(name, allowed))
        if not allowed.least <= int(plain) <= allowed.most:
            raise Invalid(f"the limit {name} cannot be {int(plain):,}", fix=_within(name, allowed))
        if name in values:
            raise Invalid(f"the limit {name} is given twice", fix="give each limit once")
        values[name] = int(plain)
    limits = replace(Limits(), **values)
    for whole, part in PARTS:
        if getattr(limits, part) > getattr(limits, whole) and part in values:
            raise Invalid(
                f"the limit {part} ({getattr(limits, part):,}) is above {whole} ({getattr(limits, whole):,}), of which "
                "it is a part",
                fix=f"raise {whole} too: --limit {whole}={getattr(limits, part)}",
            )
    return limits


PARTS: Final = (
    ("connections", "connections_per_network"),
    ("requests_at_once", "waiting_requests"),
    ("waiting_requests", "waiting_requests_per_user"),
    ("open_sign_ins", "open_sign_ins_from_one"),
)
"""(a limit, another one that counts some of the same): the second one would never be reached above the first."""


def _meant(name: str, known: Mapping[str, Range]) -> str:
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f"did you mean {near[0]}?" if near else f"the limits are: {', '.join(known)}"


def _within(name: str, allowed: Range) -> str:
    return f"give {name} a whole number from {allowed.least:,} to {allowed.most:,}"


def table() -> Iterator[str]:
    """Give the rows of the table in docs/broker.md, as Markdown."""
    usual = Limits()
    for name, allowed in ranges().items():
        scope = "all processes" if name in SHARED else "each process"
        default = getattr(usual, name)
        yield f"| `{name}` | {default:,} | {allowed.least:,} to {allowed.most:,} | {scope} | {allowed.about} |"
